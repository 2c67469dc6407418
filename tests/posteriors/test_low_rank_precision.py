"""`LowRankPrecision` against the dense Gaussian that it stands for."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb import MeanField
from bbb.errors import InputError, ShapeError
from bbb.posteriors import LowRankPrecision

KEY = jax.random.key(5)
D = 7


def made(dtype="float64", rows=3, std=0.4, strength=3.0):
    """A posterior of seven weights, of which two more are point estimates."""
    rng = np.random.default_rng(0)
    mean = {"a": rng.normal(size=(2, 2)), "b": rng.normal(size=2), "c": rng.normal(size=3)}
    mean = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), mean)
    stds = jax.tree.map(lambda leaf: jnp.asarray(np.log(std * rng.uniform(0.5, 2, leaf.shape)), dtype), mean)
    factor = jnp.asarray(strength * rng.normal(size=(rows, D)), dtype)
    return LowRankPrecision.of(mean, {**stds, "b": None}, factor)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(float)


def dense(posterior):
    """Return the mean (d,) and the covariance (d, d) in float64, by the inverse of the precision."""
    factor = np.asarray(posterior.factor, float)
    precision = np.diag(np.exp(-2 * flat(posterior.log_diagonal))) + factor.T @ factor
    return flat(posterior.random_leaves(posterior.mean)), np.linalg.inv(precision)


def test_rows_of_zeros_change_nothing():
    with jax.enable_x64(True):
        posterior = made()
        more = posterior.padded(5)
        more.validate()
        assert more.factor.shape == (5, D)
        assert posterior.padded(2).factor.shape == (3, D)
        np.testing.assert_allclose(dense(more)[1], dense(posterior)[1], rtol=1e-12)
        np.testing.assert_allclose(more.entropy(), posterior.entropy(), rtol=1e-12)
        np.testing.assert_allclose(flat(more.std), flat(posterior.std), rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_densities_and_marginals_are_those_of_the_dense_gaussian(rows):
    with jax.enable_x64(True):
        posterior = made(rows=rows)
        mean, covariance = dense(posterior)
        logdet = np.linalg.slogdet(covariance)[1]
        near = {"rtol": 1e-10, "atol": 1e-10}
        np.testing.assert_allclose(flat(posterior.std), np.sqrt(np.diag(covariance)), **near)
        np.testing.assert_allclose(posterior.entropy(), 0.5 * (logdet + D * math.log(2 * math.pi * math.e)), **near)
        correlation = 0.5 * (np.sum(np.log(np.diag(covariance))) - logdet)
        np.testing.assert_allclose(posterior.total_correlation(), correlation, **near)
        drawn = bbb.posteriors.sample(KEY, posterior)
        off = flat(posterior.random_leaves(drawn)) - mean
        density = -0.5 * (off @ np.linalg.solve(covariance, off) + logdet + D * math.log(2 * math.pi))
        np.testing.assert_allclose(bbb.posteriors.log_prob(posterior, drawn), density, **near)
        m0, s0 = 0.25, 1.5
        exact = np.trace(covariance) / s0**2 + np.sum((mean - m0) ** 2) / s0**2 - D - logdet + 2 * D * math.log(s0)
        np.testing.assert_allclose(bbb.priors.kl(posterior, bbb.priors.Normal(m0, s0)), 0.5 * exact, **near)


def slopes_of(posterior):
    """Return the derivative of a draw's random weights by its noise, (d, d + r)."""
    start, unravel = ravel_pytree(posterior.noise(KEY))
    found = jax.jacobian(lambda e: ravel_pytree(posterior.random_leaves(posterior.weights(unravel(e))))[0])(start)
    return np.asarray(found, float)


def test_a_draw_is_linear_in_its_noise_and_has_the_covariance():
    with jax.enable_x64(True):
        posterior = made()
        slopes = slopes_of(posterior)
        np.testing.assert_allclose(slopes @ slopes.T, dense(posterior)[1], rtol=1e-10, atol=1e-12)


def test_in_float32_a_strong_factor_loses_no_digit_that_matters():
    """V·D²·Vᵀ of 1e8 and more beside the I of S, which float32 would round away: the draws keep the covariance."""
    posterior = made("float32", rows=5, strength=3e4)
    slopes = slopes_of(posterior)
    mean, covariance = dense(posterior)
    del mean
    alone = np.exp(flat(posterior.log_diagonal))
    np.testing.assert_allclose(slopes @ slopes.T, covariance, atol=1e-5 * np.max(alone) ** 2)
    seen = np.asarray(posterior.factor, float) @ slopes  # what the rows show of a draw, in units of their noise
    np.testing.assert_allclose(np.sum(seen**2, axis=1), 1, atol=0.05)


def test_the_covariance_of_draws():
    posterior, draws = made("float32"), 20_000
    weights = jax.vmap(lambda i: posterior.weights(posterior.noise(jax.random.fold_in(KEY, i))))(jnp.arange(draws))
    drawn = np.concatenate([np.reshape(weights[name], (draws, -1)) for name in ("a", "c")], axis=1).astype(float)
    assert (weights["b"] == posterior.mean["b"][None]).all()
    mean, covariance = dense(posterior)
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / draws)
    assert (np.abs(np.cov(drawn.T) - covariance) < 4.5 * error).all()
    assert (np.abs(drawn.mean(0) - mean) < 4.5 * np.sqrt(np.diag(covariance) / draws)).all()


def test_without_rows_that_say_anything_it_is_the_prior(dtype):
    start = made(dtype)
    params = {"a": start.mean["a"], "c": start.mean["c"]}
    std = jax.tree.map(jnp.exp, {"a": start.log_diagonal["a"], "c": start.log_diagonal["c"]})
    plain = MeanField.around(params, 0.3)
    posterior = LowRankPrecision.of(params, plain.log_std, jnp.zeros((3, D), dtype))
    assert bbb.priors.kl(posterior, bbb.priors.Normal(params, 0.3)) == 0
    assert posterior.total_correlation() == 0
    np.testing.assert_allclose(posterior.entropy(), plain.entropy(), rtol=1e-6)
    widths = LowRankPrecision.of(params, jax.tree.map(jnp.log, std), jnp.zeros((3, D), dtype)).std
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), widths, std)


def test_scaled_and_moved(dtype):
    posterior = made(dtype)
    rtol = 1e-4 if dtype == "float32" else 1e-10
    mean, covariance = dense(posterior)
    wide = posterior.scaled(3.0)
    wide.validate()
    np.testing.assert_allclose(slopes_of(wide) @ slopes_of(wide).T, 9 * covariance, rtol=rtol, atol=rtol)
    moved = posterior.with_params(jax.tree.map(lambda leaf: leaf + 1, posterior.mean))
    np.testing.assert_allclose(dense(moved)[0], mean + 1, rtol=1e-6)
    np.testing.assert_array_equal(dense(moved)[1], covariance)


def test_a_pruned_weight_is_0_and_the_others_keep_their_distribution():
    with jax.enable_x64(True):
        posterior = made()
        pruned = bbb.evaluate.prune(posterior, 0.4)
        gone = flat(pruned.random_leaves(pruned.mean)) == 0
        assert gone.sum() == 3
        (mean, covariance), mean_after = dense(posterior), flat(pruned.random_leaves(pruned.mean))
        np.testing.assert_array_equal(mean_after[~gone], mean[~gone])
        slopes = slopes_of(pruned)
        after = slopes @ slopes.T
        np.testing.assert_allclose(after[~gone][:, ~gone], covariance[~gone][:, ~gone], rtol=1e-10)
        assert (np.sqrt(np.diag(after))[gone] < 1e-18).all()
        pruned.validate()


def test_parts_that_do_not_fit_are_refused():
    posterior = made("float32")
    for part in ({"factor": posterior.factor[:, :3]}, {"cholesky": posterior.cholesky[:2]}):
        with pytest.raises(ShapeError, match=r"factor to be \(r, 7\), of the weights with a Gaussian"):
            dataclasses.replace(posterior, **part)
    with pytest.raises(InputError, match="a leaf with a Gaussian, for a LowRankPrecision, got point estimates alone"):
        LowRankPrecision.of(posterior.mean, dict.fromkeys("abc"), posterior.factor)
    posterior.validate()
    with pytest.raises(ValueError, match="a cholesky that is not that of its factor"):
        dataclasses.replace(posterior, factor=2 * posterior.factor).validate()


def test_the_shapes_of_its_noise_follow_from_its_shapes():
    posterior = made("float32")
    shapes = jax.eval_shape(lambda one: one, posterior)
    drawn = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), posterior.noise(KEY))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), jax.eval_shape(shapes.noise, KEY)) == drawn
