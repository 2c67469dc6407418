"""Likelihoods: the Gaussian's density, distribution and inverse, per output and per dtype; and that of classes."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import bbb
from bbb.likelihoods.classes import Bernoulli, Categorical
from bbb.likelihoods.counts import NegativeBinomial, Poisson
from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian, Gaussian, HeteroscedasticGaussian
from bbb.likelihoods.student_t import StudentT

STDS = {"scalar": (0.7, (5,)), "one column": (0.7, (5, 1)), "per output": ([0.1, 1.0, 30.0], (5, 3))}
cases = pytest.mark.parametrize("case", STDS)


def make(case, dtype):
    std, shape = STDS[case]
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=shape)
    y = outputs + std * rng.normal(size=shape)
    return Gaussian(std), jnp.asarray(y, dtype), jnp.asarray(outputs, dtype), np.asarray(std)


PS = (0.001, 0.1, 0.5, 0.9, 0.999)


@cache
def answers(case, dtype):
    """Ask everything in one compiled program, which is faster than one for each of its operations."""
    likelihood, y, outputs, _ = make(case, dtype)

    def ask(y, outputs):
        quantiles = jnp.stack([likelihood.quantile(jnp.asarray(p, dtype), outputs) for p in PS])
        return {
            **{name: getattr(likelihood, name)(y, outputs) for name in ("log_prob", "cdf", "log_cdf", "density")},
            **{name: getattr(likelihood, name)(outputs) for name in ("mean", "variance")},
            "quantiles": quantiles,
            "there": jnp.stack([likelihood.cdf(q, outputs) for q in quantiles]),
        }

    return {name: np.asarray(value) for name, value in jax.jit(ask)(y, outputs).items()}


@cases
def test_log_prob_is_that_of_scipy_summed_over_the_outputs_of_a_row(case, dtype):
    _, y, outputs, std = make(case, dtype)
    terms = scipy.stats.norm.logpdf(np.float64(y), np.float64(outputs), std).reshape(5, -1)
    value = answers(case, dtype)["log_prob"]
    assert value.shape == (5,)
    assert value.dtype == dtype
    # (y − f)/std is rounded at the size of y and f: eps·(|y| + |f|)/std, times its slope z
    z = np.abs(np.float64(y) - np.float64(outputs)) / std
    size = (z * (np.abs(y) + np.abs(outputs)) / std).reshape(5, -1).sum(1) + np.abs(terms).sum(1) + 1
    assert (np.abs(np.float64(value) - terms.sum(1)) < 16 * np.finfo(dtype).eps * size).all()


@cases
def test_mean_and_variance_have_the_shape_of_the_outputs(case, dtype):
    _, _, outputs, std = make(case, dtype)
    np.testing.assert_array_equal(answers(case, dtype)["mean"], outputs)
    variance = answers(case, dtype)["variance"]
    assert variance.shape == outputs.shape
    assert variance.dtype == dtype
    np.testing.assert_allclose(variance, np.broadcast_to(std**2, outputs.shape), rtol=16 * np.finfo(dtype).eps)


@cases
def test_the_quantile_inverts_the_cdf(case, dtype):
    _, _, outputs, _ = make(case, dtype)
    found = answers(case, dtype)
    assert found["quantiles"].dtype == dtype
    assert found["quantiles"].shape == (len(PS), *outputs.shape)
    for p, there in zip(PS, found["there"], strict=True):
        np.testing.assert_allclose(there, p, rtol=1e-3 if dtype == "float32" else 1e-10)


@cases
def test_cdf_and_density_are_those_of_scipy(case, dtype):
    _, y, outputs, std = make(case, dtype)
    found = answers(case, dtype)
    normal = scipy.stats.norm(np.float64(outputs), std)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(found["cdf"], normal.cdf(np.float64(y)), rtol=tolerance)
    np.testing.assert_allclose(found["log_cdf"], normal.logcdf(np.float64(y)), rtol=tolerance, atol=1e-6)
    np.testing.assert_allclose(found["density"], normal.pdf(np.float64(y)), rtol=tolerance)


def test_the_density_integrates_to_1(dtype):
    likelihood = Gaussian(0.3)
    y = jnp.asarray(np.linspace(-5, 5, 4001)[:, None], dtype)
    density = np.float64(likelihood.density(y, jnp.full_like(y, 0.2)))
    assert np.trapezoid(density[:, 0], np.float64(y[:, 0])) == pytest.approx(1.0, rel=1e-5)


def test_the_density_is_the_derivative_of_the_cdf(dtype):
    likelihood = Gaussian(0.3)
    y = jnp.asarray([[-0.6], [0.0], [0.1], [0.9]], dtype)
    slope = jax.jit(jax.grad(lambda v: jnp.sum(likelihood.cdf(v, jnp.zeros_like(v)))))(y)
    np.testing.assert_allclose(slope, likelihood.density(y, jnp.zeros_like(y)), rtol=1e-4)


def test_the_logarithm_of_the_cdf_is_finite_far_in_the_tail(dtype):
    value = Gaussian(1.0).log_cdf(jnp.asarray([[-30.0]], dtype), jnp.zeros((1, 1), dtype))
    np.testing.assert_allclose(value, [[scipy.stats.norm.logcdf(-30.0)]], rtol=1e-5)


def test_the_logarithm_of_the_std_is_what_is_stored():
    likelihood = Gaussian([0.5, 2.0], learn=True)
    np.testing.assert_allclose(likelihood.log_std, np.log([0.5, 2.0]))
    np.testing.assert_allclose(likelihood.std, [0.5, 2.0], rtol=1e-6)


def test_learn_says_whether_the_noise_is_trained():
    assert Gaussian(0.5, learn=True).learn is True
    assert Gaussian(0.5).learn is False


def test_the_noise_that_fits_best_is_the_size_of_the_residuals(dtype):
    y = jnp.asarray(np.random.default_rng(0).normal(size=(50, 2)) * [0.3, 2.0], dtype)
    best = jnp.sqrt(jnp.mean(jnp.square(y), axis=0))
    slope = jax.grad(lambda noise: jnp.sum(noise.log_prob(y, jnp.zeros_like(y))))(Gaussian(best, learn=True))
    np.testing.assert_allclose(slope.log_std, 0.0, atol=50 * 64 * np.finfo(dtype).eps)


# --- classes ---------------------------------------------------------------------------------------------------------

LOGITS = np.random.default_rng(1).normal(size=(5, 4)) * 3
CLASSES = np.array([0, 3, 1, 1, 2])


def test_log_prob_of_classes_is_that_of_scipy(dtype):
    value = Categorical().log_prob(jnp.asarray(CLASSES), jnp.asarray(LOGITS, dtype))
    assert value.shape == (5,)
    assert value.dtype == dtype
    expected = scipy.special.log_softmax(LOGITS, axis=1)[np.arange(5), CLASSES]
    np.testing.assert_allclose(value, expected, rtol=32 * np.finfo(dtype).eps)


def test_probabilities_of_the_classes_sum_to_1_and_are_those_of_log_prob(dtype):
    logits = jnp.asarray(LOGITS, dtype)
    p = Categorical().probabilities(jnp.stack([logits, 2 * logits]))  # of draws too
    assert p.shape == (2, 5, 4)
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=16 * np.finfo(dtype).eps)
    each = jnp.stack([Categorical().log_prob(jnp.full(5, k), logits) for k in range(4)], axis=1)
    np.testing.assert_allclose(jnp.exp(each), p[0], rtol=64 * np.finfo(dtype).eps)


def test_large_logits_give_finite_nats(dtype):
    value = Categorical().log_prob(jnp.asarray([0, 1]), jnp.asarray([[1e4, 0.0], [1e4, 0.0]], dtype))
    np.testing.assert_array_equal(value, [0.0, -1e4])


def test_classes_have_no_numbers_statistics_and_nothing_to_learn():
    likelihood = Categorical()
    assert likelihood.learn is False
    assert jax.tree.leaves(likelihood) == []
    assert not any(hasattr(likelihood, name) for name in ("mean", "variance", "cdf", "quantile", "std"))
    leaves, structure = jax.tree.flatten(likelihood)
    assert isinstance(jax.tree.unflatten(structure, leaves), Categorical)


def classifier(classes=3):
    network = bbb.nn.linear(2, classes)
    params = network.init(jax.random.key(0))
    return bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=Categorical())


def test_the_elbo_takes_classes_and_counts_the_whole_data_set(dtype):
    model, x, y = classifier(), np.ones((4, 2), dtype), np.array([0, 1, 2, 1])

    @jax.jit
    def ask(posterior):
        candidate = dataclasses.replace(model, posterior=posterior)
        total, cost = bbb.objectives.negative_elbo(jax.random.key(1), candidate, x, y, num_data=40)
        return total, bbb.objectives.negative_elbo(jax.random.key(1), candidate, x, y, num_data=20)[0], cost

    total, half, cost = ask(model.posterior)
    assert total.dtype == dtype
    np.testing.assert_allclose(total - cost.kl, 2 * (half - cost.kl), rtol=1e-4)


@pytest.mark.parametrize(
    ("classes", "y", "error", "text"),
    [
        (3, [0, 1, 2, 3], bbb.errors.InputError, "classes from 0 to 2 in y, got 3. Number the classes from 0"),
        (3, [0, 1, 2, -1], bbb.errors.InputError, "classes from 0 to 2 in y, got -1"),
        (3, [0.0, 1.0, 2.0, 1.0], bbb.errors.InputError, "y of an integer dtype, got float32. Pass y.astype(int)."),
        (3, [[0], [1], [2], [1]], bbb.errors.ShapeError, "y of shape (4,), the class of each row, got (4, 1)"),
        (3, np.eye(4, 3), bbb.errors.ShapeError, "got (4, 3). Pass y.argmax(axis=1)."),
        (1, [0, 0, 0, 0], bbb.errors.ShapeError, "a logit for each of two classes or more, got shape (4, 1)"),
    ],
)
def test_what_is_no_class_is_refused(classes, y, error, text):
    with pytest.raises(error) as caught:
        bbb.fit(jax.random.key(0), classifier(classes), np.ones((4, 2), "float32"), y, steps=1)
    assert text in str(caught.value)


# --- the other likelihoods: their distributions are held against SciPy's in test_mixture.py ---------------------------

OTHERS = {
    "HeteroscedasticGaussian": (HeteroscedasticGaussian(), 2),
    "BoundedHeteroscedasticGaussian": (BoundedHeteroscedasticGaussian(0.1, 0.5), 2),
    "StudentT": (StudentT(0.5, 3.0, learn=True, learn_df=True), 1),
    "Poisson": (Poisson(), 1),
    "NegativeBinomial": (NegativeBinomial(0.5, learn=True), 1),
    "Bernoulli": (Bernoulli(), 1),
}
others = pytest.mark.parametrize("name", OTHERS)


@others
def test_nats_and_their_gradients_are_finite_at_extreme_outputs(name, dtype):
    likelihood, width = OTHERS[name]
    grid = np.array([-1e3, -30.0, 0.0, 30.0, 1e3])
    outputs = np.stack(np.meshgrid(*[grid] * width), axis=-1).reshape(-1, width).astype(dtype)
    cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), likelihood)
    ask = jax.jit(jax.value_and_grad(lambda v, o, y: jnp.sum(v.log_prob(y, o)), argnums=(0, 1), allow_int=True))
    for y in (0.0, 1.0):
        value, slopes = ask(cast, jnp.asarray(outputs), jnp.full((len(outputs), 1), y, dtype))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, slopes)))


@others
def test_a_likelihood_is_a_pytree_that_comes_back(name):
    likelihood, _ = OTHERS[name]
    leaves, structure = jax.tree.flatten(likelihood)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is type(likelihood)
    assert again.learn is likelihood.learn is ("learn=True" in repr(likelihood))


def test_degrees_of_freedom_are_learned_only_if_asked(dtype):
    y = jnp.asarray(np.random.default_rng(0).standard_t(3, size=(20, 1)), dtype)
    slope = jax.jit(jax.grad(lambda v: jnp.sum(v.log_prob(y, jnp.zeros_like(y)))))
    fixed, free = (slope(StudentT(jnp.asarray(1.0, dtype), 4.0, True, learn_df)) for learn_df in (False, True))
    assert fixed.log_df_above_2 == 0
    assert free.log_df_above_2 != 0
    np.testing.assert_allclose(fixed.log_scale, free.log_scale)


def test_with_many_degrees_of_freedom_students_t_is_a_gaussian(dtype):
    y, f = jnp.asarray([[0.3], [-2.0], [4.0]], dtype), jnp.zeros((3, 1), dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-7
    ask = jax.jit(lambda v: (v.log_prob(y, f), v.cdf(y, f)))
    for values in zip(ask(StudentT(0.7, 1e9)), ask(Gaussian(0.7)), strict=True):
        np.testing.assert_allclose(*values, rtol=tolerance)
    np.testing.assert_allclose(StudentT(0.7, 1e9).std, 0.7, rtol=1e-6)
    np.testing.assert_allclose(StudentT(0.7, 4.0).std, 0.7 * np.sqrt(2), rtol=1e-6)


def test_without_dispersion_a_negative_binomial_is_a_poisson(dtype):
    y, f = jnp.asarray([[0.0], [3.0], [40.0]], dtype), jnp.asarray([[-1.0], [1.0], [3.5]], dtype)
    ask = jax.jit(lambda v: (v.log_prob(y, f), v.cdf(y, f)))
    for values in zip(ask(NegativeBinomial(1e-9)), ask(Poisson()), strict=True):
        np.testing.assert_allclose(*values, rtol=2e-5 if dtype == "float32" else 1e-6)


@pytest.mark.parametrize("dispersion", [1e-6, 1e-4, 2e-3, 0.1])
@pytest.mark.parametrize("mean", [0.1, 4.0, 60.0, 500.0])
def test_the_cdf_of_little_dispersed_counts_keeps_its_digits(mean, dispersion, dtype):
    std = np.sqrt(mean + dispersion * mean**2)
    k = np.floor(mean + std * np.array([[-2.0], [0.0], [1.0], [3.0]])).clip(0)
    outputs = jnp.full((4, 1), np.log(mean), dtype)
    value = NegativeBinomial(dispersion).cdf(jnp.asarray(k, dtype), outputs)
    expected = scipy.stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean)).cdf(k)
    np.testing.assert_allclose(value, expected, atol=1e-3 if dtype == "float32" else 1e-8)


@jax.jit
def both_cdfs(likelihood, z, outputs):
    """Return the cdf, and the tabulated one, in one program for every df."""
    return likelihood.cdf(z, outputs), likelihood.tabulated_cdf(outputs)(z, outputs)


@pytest.mark.parametrize("df", [2.1, 10.0, 19.0, 21.0, 63.0, 65.0, 1e4])
def test_the_cdf_of_students_t_keeps_its_digits_for_any_df(df, dtype):
    z = np.array([[-8.0], [-3.0], [-0.01], [0.2], [2.0], [30.0]])
    likelihood, outputs = StudentT(1.0, df), jnp.zeros((6, 1), dtype)
    expected = scipy.stats.t(df).cdf(z)
    value, fast = both_cdfs(likelihood, jnp.asarray(z, dtype), outputs)
    np.testing.assert_allclose(value, expected, rtol=2e-5 if dtype == "float32" else 1e-8)
    np.testing.assert_allclose(fast, expected, atol=4e-6 if dtype == "float32" else 1e-12)


def test_fit_learns_what_a_likelihood_has_to_learn():
    rng = np.random.default_rng(0)
    x = np.ones((400, 1), "float32")
    y = rng.poisson(5 * rng.gamma(2.0, 0.5, (400, 1)))  # of mean 5 and dispersion ½
    network = bbb.nn.linear(1, 1)
    start = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(),
        likelihood=NegativeBinomial(3.0, learn=True),
    )
    model, history = bbb.fit(jax.random.key(1), start, x, y, steps=600, progress=False)
    assert history.noise_std is None
    assert float(model.likelihood.dispersion) == pytest.approx(0.5, rel=0.3)
    assert bbb.predict(jax.random.key(2), model, x[:1], draws=200).y.mean[0, 0] == pytest.approx(5, rel=0.15)


def shapes(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: Poisson().as_target(np.array([[1], [-2]]), shapes(2, 1)),
            bbb.errors.InputError,
            "got -2 at index (1, 0)",
        ),
        (
            lambda: Poisson().as_target(np.array([[0.5]]), shapes(1, 1)),
            bbb.errors.InputError,
            "counts in y, whole numbers",
        ),
        (lambda: NegativeBinomial().as_target(np.zeros(2), shapes(2, 1)), bbb.errors.ShapeError, "y.reshape(-1, 1)"),
        (
            lambda: Bernoulli().as_target(np.array([[2]]), shapes(1, 1)),
            bbb.errors.InputError,
            "0 and 1 alone in y, got 2",
        ),
        (
            lambda: Bernoulli().check_training(np.ones((3, 1))),
            bbb.errors.InputError,
            "got 1 in every one of 3 rows. Nothing",
        ),
        (
            lambda: Categorical().check_training(np.array([2, 2])),
            bbb.errors.InputError,
            "two classes or more in y, got 2",
        ),
        (
            lambda: HeteroscedasticGaussian().as_target(np.zeros((2, 1)), shapes(2, 3)),
            bbb.errors.ShapeError,
            "(rows, 2·d)",
        ),
        (
            lambda: HeteroscedasticGaussian().as_target(np.zeros((2, 2)), shapes(2, 2)),
            bbb.errors.ShapeError,
            "4 outputs",
        ),
        (
            lambda: HeteroscedasticGaussian().as_target(np.zeros(2), shapes(2, 2)),
            bbb.errors.ShapeError,
            "y.reshape(-1, 1)",
        ),
        (lambda: StudentT(1.0, 2.0), bbb.errors.InputError, "df to be one number above 2, got 2.0"),
        (lambda: StudentT(-1.0), bbb.errors.InputError, "scale to be finite and above 0"),
        (lambda: StudentT(1.0, learn_df=True), bbb.errors.InputError, "a scale that is learned where df is"),
        (lambda: NegativeBinomial(0.0), bbb.errors.InputError, "dispersion to be finite and above 0"),
        (
            lambda: NegativeBinomial(np.ones(3)).variance(jnp.zeros((4, 2))),
            bbb.errors.ShapeError,
            "dispersion to broadcast",
        ),
    ],
)
def test_what_does_not_fit_a_likelihood_is_refused(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)


def test_two_classes_are_enough_to_learn_from():
    Bernoulli().check_training(np.array([[0, 1], [1, 0]]))
    Categorical().check_training(np.array([2, 1]))
