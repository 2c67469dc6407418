"""The Gaussian likelihood: its density, its distribution and its inverse, per output and per dtype."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bbb.likelihood import Gaussian

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
