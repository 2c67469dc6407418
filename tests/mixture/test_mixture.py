"""The predictive of y as the exact mixture over draws, for every likelihood: against SciPy and against simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import bbb
from bbb import mixture
from bbb.likelihoods.classes import Bernoulli, Categorical
from bbb.likelihoods.counts import NegativeBinomial, Poisson
from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian, Gaussian, HeteroscedasticGaussian
from bbb.likelihoods.student_t import StudentT

DRAWS, ROWS = 64, 3
PS = (0.0015, 0.1, 0.5, 0.975)
F = np.random.default_rng(0).normal(size=(DRAWS, ROWS, 2)) * [0.5, 1.5] + [0.0, 1.0]
WIDE = np.concatenate([F, 0.3 * F - 1], axis=2)
SCALES = np.array([0.3, 1.2])


def scipy_gaussian(f):
    return scipy.stats.norm(f, SCALES)


def scipy_heteroscedastic(f):
    return scipy.stats.norm(f[..., :2], np.exp(f[..., 2:]))


CENTERS, REACH = np.array([0.4, 0.9]), 0.5


def scipy_bounded(f):
    """Beyond the reach, the logarithm of the standard deviation goes on as that of a line."""
    off = f[..., 2:] - np.log(CENTERS)
    excess = np.maximum(np.abs(off) - REACH, 0)
    beyond = REACH + REACH / 20 * np.log1p(20 * excess / REACH)
    return scipy.stats.norm(f[..., :2], CENTERS * np.exp(np.where(excess > 0, np.sign(off) * beyond, off)))


def scipy_student_t(f):
    return scipy.stats.t(3.5, f, SCALES)


def scipy_negative_binomial(f):
    return scipy.stats.nbinom(1 / SCALES, 1 / (1 + SCALES * np.exp(f)))


CASES = {
    "Gaussian": (Gaussian(SCALES), F, scipy_gaussian),
    "HeteroscedasticGaussian": (HeteroscedasticGaussian(), WIDE, scipy_heteroscedastic),
    "BoundedHeteroscedasticGaussian": (BoundedHeteroscedasticGaussian(CENTERS, REACH), WIDE, scipy_bounded),
    "StudentT": (StudentT(SCALES, 3.5), F, scipy_student_t),
    "Poisson": (Poisson(), F + 1, lambda f: scipy.stats.poisson(np.exp(f))),
    "NegativeBinomial": (NegativeBinomial(SCALES), F + 1, scipy_negative_binomial),
    "Bernoulli": (Bernoulli(), F, lambda f: scipy.stats.bernoulli(scipy.special.expit(f))),
}
DISCRETE = {"Poisson", "NegativeBinomial", "Bernoulli"}
cases = pytest.mark.parametrize("name", CASES)


def make(name, dtype):
    likelihood, outputs, oracle = CASES[name]
    return likelihood, jnp.asarray(outputs, dtype), oracle(np.float64(np.asarray(outputs, dtype)))


def some_y(name):
    rng = np.random.default_rng(1)
    if name == "Bernoulli":
        return np.array([[0, 1], [1, 1], [0, 0]])
    return rng.poisson(3.0, (ROWS, 2)) if name in DISCRETE else rng.normal(size=(ROWS, 2)) * 2


def log_density(name, oracle, y):
    return oracle.logpmf(y) if name in DISCRETE else oracle.logpdf(y)


@cases
def test_the_log_score_is_that_of_scipy(name, dtype):
    likelihood, outputs, oracle = make(name, dtype)
    y = some_y(name).astype(dtype)
    value = mixture.log_score(likelihood, outputs, y)
    assert value.shape == (ROWS,)
    assert value.dtype == dtype
    each = log_density(name, oracle, np.float64(y)).sum(-1)
    expected = scipy.special.logsumexp(each, axis=0) - np.log(DRAWS)
    np.testing.assert_allclose(value, expected, rtol=2e-5 if dtype == "float32" else 1e-10)


@cases
def test_log_prob_mean_variance_and_cdf_are_those_of_scipy(name, dtype):
    likelihood, outputs, oracle = make(name, dtype)
    y = some_y(name).astype(dtype)
    tolerance = 2e-5 if dtype == "float32" else 1e-10
    log_prob = jax.jit(lambda o: jax.vmap(likelihood.log_prob, (None, 0))(jnp.asarray(y), o))(outputs)
    np.testing.assert_allclose(log_prob, log_density(name, oracle, np.float64(y)).sum(-1), rtol=tolerance)
    np.testing.assert_allclose(likelihood.mean(outputs), oracle.mean(), rtol=tolerance)
    np.testing.assert_allclose(likelihood.variance(outputs), oracle.var(), rtol=tolerance)
    for at in (y, y - 1, y + 0.5):
        value = mixture.cdf(likelihood, outputs, at)
        assert value.dtype == dtype
        np.testing.assert_allclose(value, oracle.cdf(np.float64(at)).mean(0), rtol=tolerance, atol=1e-6 * tolerance)


@cases
@pytest.mark.parametrize("p", PS)
def test_quantiles_invert_the_cdf_of_scipy(name, p, dtype):
    likelihood, outputs, oracle = make(name, dtype)
    root = np.float64(mixture.quantile(likelihood, outputs, p))
    assert root.shape == (ROWS, 2)
    cdf = oracle.cdf(root).mean(0)
    slack = 64 * np.finfo(dtype).eps
    if name in DISCRETE:
        np.testing.assert_array_equal(root, np.floor(root))
        assert (cdf >= p - slack).all()
        assert (oracle.cdf(root - 1).mean(0) < p + slack).all()
    else:
        size = 1 + np.exp(oracle.logpdf(root)).mean(0) * np.abs(root)
        assert (np.abs(cdf - p) < slack * size).all()


@cases
def test_quantiles_and_moments_agree_with_simulation(name):
    likelihood, outputs, _ = make(name, "float32")
    repeats = 2000
    many = jnp.tile(outputs, (repeats, 1, 1))
    y = np.float64(mixture.sample_y(jax.random.key(3), likelihood, many))
    assert y.shape == (DRAWS * repeats, ROWS, 2)
    count = len(y)
    for p in PS:  # draws are taken in equal shares, which makes a share vary less than independent picks
        error = np.sqrt(p * (1 - p) / count)
        root = np.float64(mixture.quantile(likelihood, outputs, p))
        assert (np.mean(y <= root, axis=0) > p - 5 * error).all()
        assert (np.mean(y < root, axis=0) < p + 5 * error).all()
    mean = np.float64(likelihood.mean(outputs)).mean(0)
    assert (np.abs(y.mean(0) - mean) < 5 * y.std(0) / np.sqrt(count)).all()


@pytest.mark.parametrize("name", ["Gaussian", "StudentT", "Poisson"])
def test_many_draws_are_solved_as_few_are(name, dtype):
    # from 4,096 draws on, a pilot of a few of them makes the first guess
    likelihood, outputs, _ = make(name, dtype)
    many = jnp.tile(outputs, (80, 1, 1))
    for p in (0.0015, 0.9):
        few, found = (np.float64(mixture.quantile(likelihood, o, p)) for o in (outputs, many))
        tolerance = 0 if name == "Poisson" else 1e-4 if dtype == "float32" else 1e-11
        np.testing.assert_allclose(found, few, rtol=tolerance, atol=tolerance)


def test_a_mixture_of_spikes_is_solved(dtype):
    # components far narrower than the gaps between them: steps that leave the bracket become bisections
    f = jnp.asarray(np.random.default_rng(0).standard_cauchy((40, 5, 1)), dtype)
    for p in (0.01, 0.5, 0.93):
        root = np.float64(mixture.quantile(Gaussian(1e-3), f, p))
        cdf = scipy.stats.norm.cdf(root, np.float64(f), 1e-3).mean(0)
        density = scipy.stats.norm.pdf(root, np.float64(f), 1e-3).mean(0)
        assert (np.abs(cdf - p) < 64 * np.finfo(dtype).eps * (1 + density * np.abs(root))).all()


def test_large_counts_are_solved_exactly():
    f = jnp.asarray(np.random.default_rng(0).normal(size=(50, 2, 1)) * 0.5 + 9, "float32")
    oracle = scipy.stats.poisson(np.exp(np.float64(f)))
    for p in (0.025, 0.5, 0.975):
        root = np.float64(mixture.quantile(Poisson(), f, p))
        assert (oracle.cdf(root + 1).mean(0) >= p).all()  # to rounding of the cdf in float32, one count
        assert (oracle.cdf(root - 2).mean(0) < p).all()


def test_the_numbers_drawn_for_a_row_do_not_depend_on_the_others():
    likelihood, outputs, _ = make("NegativeBinomial", "float32")
    all_rows = mixture.sample_y(jax.random.key(0), likelihood, outputs)
    np.testing.assert_array_equal(mixture.sample_y(jax.random.key(0), likelihood, outputs[:, :2]), all_rows[:, :2])


def test_classes_are_scored_and_drawn(dtype):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(500, 2, 3)), dtype)
    y = np.array([2, 0])
    probabilities = scipy.special.softmax(np.float64(logits), axis=-1).mean(0)
    score = mixture.log_score(Categorical(), logits, y)
    np.testing.assert_allclose(score, np.log(probabilities[np.arange(2), y]), rtol=1e-5)
    drawn = np.asarray(mixture.sample_y(jax.random.key(0), Categorical(), logits))
    share = (drawn[..., None] == np.arange(3)).mean(0)
    assert (np.abs(share - probabilities) < 5 * np.sqrt(probabilities * (1 - probabilities) / 500)).all()


@cases
def test_predict_summarises_every_likelihood(name):
    likelihood, outputs, _ = make(name, "float32")
    width = outputs.shape[2]
    network = bbb.nn.linear(2, width)
    model = bbb.bayesianize(
        network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=likelihood, std=0.3
    )
    x = np.random.default_rng(2).normal(size=(5, 2)).astype("float32")
    band = bbb.predict(jax.random.key(1), model, x, draws=400)
    drawn = bbb.draws(jax.random.key(1), model, x, draws=400)
    assert band.f.mean.shape == (5, 2)
    np.testing.assert_allclose(band.f.mean, np.mean(drawn[..., :2], axis=0), rtol=1e-4, atol=1e-5)
    if name == "Bernoulli":
        expected = np.mean(jax.nn.sigmoid(drawn), axis=0)
        np.testing.assert_allclose(band.y.probabilities[..., 1], expected, rtol=1e-5)
        np.testing.assert_array_equal(band.y.classes, expected > 0.5)
        assert band.y.entropy.total.shape == (5, 2)
        return
    np.testing.assert_allclose(band.y.mean, np.mean(likelihood.mean(drawn), axis=0), rtol=1e-4, atol=1e-5)
    lower, upper = band.y.interval(0.9)
    np.testing.assert_allclose(lower, mixture.quantile(likelihood, drawn, 0.05), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(upper, mixture.quantile(likelihood, drawn, 0.95), rtol=1e-4, atol=1e-5)
    errors = np.stack(band.y.mcse_interval(0.9))
    assert np.isfinite(errors).all()
    assert (errors > 0).all() or (name in DISCRETE and (errors >= 0).all())


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda: mixture.cdf(Categorical(), F, np.zeros(3)), bbb.errors.InputError, "a likelihood of numbers"),
        (lambda: mixture.quantile(Categorical(), F, 0.5), bbb.errors.InputError, "which are ordered, got Categorical"),
        (
            lambda: mixture.quantile(Gaussian(), jnp.asarray(F), 1.5),
            bbb.errors.InputError,
            "p to be one number inside (0, 1)",
        ),
        (
            lambda: mixture.cdf(Gaussian(), jnp.asarray(F), np.zeros(3)),
            bbb.errors.ShapeError,
            "y of shape (3, 2), got shape",
        ),
        (lambda: mixture.log_score(Poisson(), jnp.asarray(F), -np.ones((3, 2))), bbb.errors.InputError, "counts in y"),
        (lambda: mixture.sample_y(0, Poisson(), jnp.asarray(F)), bbb.errors.KeyTypeError, "one typed JAX key"),
        (
            lambda: mixture.sample_y(jax.random.key(0), Poisson(), jnp.zeros(3)),
            bbb.errors.ShapeError,
            "(draws, rows, ...)",
        ),
    ],
)
def test_what_has_no_answer_is_refused(ask, error, text):
    with pytest.raises(error) as caught:
        ask()
    assert text in str(caught.value)
