"""Noise that depends on the inputs: noticed, learned, bounded, and left alone where it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian, Gaussian
from bbb.sklearn import noise
from bbb.sklearn.regressor import BayesianMLPRegressor

QUICK = {"hidden_layer_sizes": (10,), "steps": 1_500, "draws": 200, "random_state": 0}
TRUE = 0.05, 0.6  # noise left and right of 0


def rows(count=300, seed=0, columns=2):
    """Return rows, and targets whose noise is 12 times as large where the first column is positive."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, columns))
    std = np.where(x[:, 0] > 0, TRUE[1], TRUE[0])
    return x, 5 + 3 * (x[:, 1] + std * rng.normal(size=count))  # units of 3


@pytest.fixture(scope="module")
def fitted():
    return BayesianMLPRegressor(**QUICK).fit(*rows())


def test_it_is_noticed_and_learned(fitted):
    assert fitted.noise_ == "varying"
    X, y = rows(2_000, seed=1)
    lower, upper = fitted.predict_interval(X, coverage=0.9)
    inside, std = (lower <= y) & (y <= upper), fitted.predict_noise_std(X) / 3
    for part, true in ((X[:, 0] < -0.2, TRUE[0]), (X[:, 0] > 0.2, TRUE[1])):
        assert 0.7 * true < np.median(std[part]) < 1.3 * true
        assert 0.84 < np.mean(inside[part]) < 0.96


def test_its_evidence_and_score_beat_those_of_constant_noise(fitted):
    constant = BayesianMLPRegressor(**QUICK, noise="constant").fit(*rows())
    assert constant.noise_ == "constant"
    assert fitted.loss_curve_.min() < constant.loss_curve_.min() - 50
    assert fitted.log_score(*rows(2_000, seed=1)) > constant.log_score(*rows(2_000, seed=1)) + 0.5
    np.testing.assert_allclose(constant.predict_noise_std(rows()[0]), constant.noise_std_[0], rtol=1e-6)
    np.testing.assert_allclose(fitted.noise_std_, constant.noise_std_, rtol=0.2)  # of all rows together


def test_what_is_drawn_has_it(fitted):
    X = np.array([[-0.7, 0.0], [0.7, 0.0]])
    drawn, (_, std) = fitted.sample_y(X, 4_000), fitted.predict(X, return_std=True)
    assert drawn.shape == (2, 4_000)
    np.testing.assert_allclose(drawn.std(axis=1), std, rtol=0.1)
    assert std[1] > 5 * std[0]


def test_it_ends_far_from_the_rows(fitted):
    far = fitted.predict_noise_std([[1e3, 0.0], [-1e3, 0.0]])
    assert (far < 100 * np.exp(noise.REACH) * fitted.noise_std_).all()


def test_constant_noise_stays_constant():
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, (200, 2))
    model = BayesianMLPRegressor(**QUICK).fit(X, X[:, 1] + 0.2 * rng.normal(size=200))
    assert model.noise_ == "constant"
    assert isinstance(model.model_.likelihood, Gaussian)


def test_of_several_targets_each_has_its_own():
    X, y = rows(200)
    model = BayesianMLPRegressor(**QUICK).fit(X, np.column_stack([y, X[:, 0] + 0.3 * np.cos(40 * X[:, 1])]))
    assert model.noise_ == "varying"
    std = model.predict_noise_std(X)
    assert std.shape == (200, 2)
    right = X[:, 0] > 0
    ratio = np.median(std[right], axis=0) / np.median(std[~right], axis=0)
    assert ratio[0] > 4
    assert 0.5 < ratio[1] < 2
    assert model.sample_y(X[:3], 5).shape == (3, 2, 5)


@pytest.mark.parametrize("posterior", ["mean_field", "laplace"])
def test_it_may_be_asked_for_from_the_start_and_learned_on(posterior):
    X, y = rows(200)
    model = BayesianMLPRegressor(**QUICK, posterior=posterior, noise="varying").fit(X, y)
    assert isinstance(model.model_.likelihood, BoundedHeteroscedasticGaussian)
    std = model.predict_noise_std(X)
    assert np.median(std[X[:, 0] > 0]) > 2 * np.median(std[X[:, 0] < 0])
    before = model.noise_std_
    model.partial_fit(*rows(100, seed=2))
    assert (model.noise_, model.n_samples_seen_) == ("varying", 300)
    assert (model.noise_std_ != before).all()
    assert model.log_score(*rows(500, seed=1)) > -2.2  # a constant noise of 1.3 has −2.1 at best, of the true mean


def test_bayes_by_backprop_has_constant_noise_unless_asked():
    assert BayesianMLPRegressor(**QUICK, posterior="mean_field").fit(*rows(100)).noise_ == "constant"


def test_a_word_that_is_none_is_refused():
    with pytest.raises(bbb.errors.InputError, match='noise to be one of "auto", "constant", "varying", got \'some\''):
        BayesianMLPRegressor(noise="some").fit(*rows(10))


# The test for it


def test_where_noise_is_constant_it_is_noticed_in_its_share_of_data():
    """In 2,000 tables of constant noise, of Gaussian and of heavy tails, within 4 standard errors of 5 %, or below."""
    rng, tables = np.random.default_rng(0), 2_000
    for draw in (rng.standard_normal, lambda size: rng.standard_t(5, size)):
        found = [noise.varies(rng.uniform(-1, 1, (300, 3)), draw((300, 1))) for _ in range(tables)]
        assert np.mean(found) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / tables)
        assert np.mean(found) > 0.01


@pytest.mark.parametrize(
    ("count", "columns", "residual"),
    [(1, 2, 1.0), (2, 1, 1.0), (5, 2, 1.0), (30, 40, 1.0), (50, 1, 0.0), (1, 1, 0.0)],
)
def test_few_rows_or_no_residuals_say_nothing(count, columns, residual):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, columns))
    assert not noise.varies(x, residual * np.sign(rng.normal(size=(count, 1))))
    assert not noise.varies(np.ones((count, columns)), residual * rng.normal(size=(count, 1)))


def test_it_starts_at_the_mean_and_the_noise_of_constant_noise_and_with_a_wide_prior():
    network, twice = (
        bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.gelu, bbb.nn.linear(4, outputs)) for outputs in (3, 6)
    )
    params, std = network.init(jax.random.key(0)), np.array([0.2, 1.0, 3.0])
    start = jax.tree.map(jnp.zeros_like, twice.init(jax.random.key(1)))
    best = bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=Gaussian(std, learn=True))
    made = noise.with_varying(best, start, twice, 0.5)
    x, y = np.ones((5, 2), "float32"), np.zeros((5, 3), "float32")
    np.testing.assert_allclose(
        made.likelihood.log_prob(y, made.apply(made.posterior.params, x)),
        best.likelihood.log_prob(y, best.apply(params, x)),
        rtol=1e-5,
    )
    wide = bbb.priors.fan_in(made.posterior.params, 0.5)
    jax.tree.map(np.testing.assert_array_almost_equal_nulp, made.prior, jax.tree.map(jnp.float32, wide))
    np.testing.assert_allclose(made.likelihood.log_center, np.log(std), rtol=1e-6)
