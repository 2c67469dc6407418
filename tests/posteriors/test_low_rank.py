"""`LowRank` against the dense Gaussian that it stands for."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb import MeanField
from bbb.errors import InputError, ShapeError
from bbb.posteriors import FullRank, LowRank, as_low_rank

KEY = jax.random.key(5)
D = 7


def made(dtype="float64", rank=3, std=0.4, strength=1.0):
    """A posterior of seven weights, of which two more are point estimates."""
    rng = np.random.default_rng(0)
    mean = {"a": rng.normal(size=(2, 2)), "b": rng.normal(size=2), "c": rng.normal(size=3)}
    mean = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), mean)
    stds = jax.tree.map(lambda leaf: jnp.asarray(np.log(std * rng.uniform(0.5, 2, leaf.shape)), dtype), mean)
    factor = jnp.asarray(strength * rng.normal(size=(D, rank)), dtype)
    return LowRank(mean, {**stds, "b": None}, factor)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(float)


def dense(posterior):
    """Return the mean (d,) and the covariance (d, d) in float64."""
    scale, factor = np.exp(flat(posterior.log_diagonal)), np.asarray(posterior.factor, float)
    covariance = np.diag(scale**2) + (scale[:, None] * factor) @ (scale[:, None] * factor).T
    return flat(posterior.random_leaves(posterior.mean)), covariance


def slopes_of(posterior):
    """Return the derivative of a draw's random weights by its noise, (d, d + rank)."""
    start, unravel = ravel_pytree(posterior.noise(KEY))
    found = jax.jacobian(lambda e: ravel_pytree(posterior.random_leaves(posterior.weights(unravel(e))))[0])(start)
    return np.asarray(found, float)


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_densities_and_divergences_are_those_of_the_dense_gaussian(rank):
    with jax.enable_x64(True):
        posterior = made(rank=rank)
        mean, covariance = dense(posterior)
        logdet = np.linalg.slogdet(covariance)[1]
        near = {"rtol": 1e-10, "atol": 1e-10}
        directions = np.asarray(posterior.directions)
        np.testing.assert_allclose(
            np.diag(np.exp(2 * flat(posterior.log_diagonal))) + directions @ directions.T, covariance, **near
        )
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


def test_the_slope_of_its_kl_is_that_of_the_dense_gaussian():
    def exact(factor, posterior, s0):
        scale = jnp.exp(jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(posterior.log_diagonal)]))
        covariance = jnp.diag(scale) @ (jnp.eye(D) + factor @ factor.T) @ jnp.diag(scale)
        return 0.5 * (jnp.trace(covariance) / s0**2 - jnp.linalg.slogdet(covariance)[1])

    with jax.enable_x64(True):
        posterior = made()
        slope = jax.grad(lambda q: bbb.priors.kl(q, bbb.priors.Normal(0.0, 1.5)))(posterior).factor
        np.testing.assert_allclose(slope, jax.grad(exact)(posterior.factor, posterior, 1.5), rtol=1e-10, atol=1e-10)


def test_a_draw_is_linear_in_its_noise_and_has_the_covariance():
    with jax.enable_x64(True):
        posterior = made()
        slopes = slopes_of(posterior)
        np.testing.assert_allclose(slopes @ slopes.T, dense(posterior)[1], rtol=1e-10, atol=1e-12)


def test_in_float32_strong_directions_lose_no_digit_that_matters():
    """FactorᵀFactor of 1e9 beside the I of the capacitance, which float32 would round away."""
    rng = np.random.default_rng(1)
    posterior = made("float32", strength=3e4)
    shared = posterior.factor[:, :1]  # two columns that nearly agree: the sum of squares has no Cholesky factor
    twins = jnp.concatenate([shared, shared + jnp.asarray(rng.normal(size=(D, 1)), "float32")], axis=1)
    posterior = dataclasses.replace(posterior, factor=twins)
    mean, covariance = dense(posterior)
    logdet = np.linalg.slogdet(covariance)[1]
    np.testing.assert_allclose(posterior.entropy(), 0.5 * (logdet + D * math.log(2 * math.pi * math.e)), rtol=1e-4)
    drawn = bbb.posteriors.sample(KEY, posterior)
    off = flat(posterior.random_leaves(drawn)) - mean
    density = -0.5 * (off @ np.linalg.solve(covariance, off) + logdet + D * math.log(2 * math.pi))
    assert abs(float(bbb.posteriors.log_prob(posterior, drawn)) - density) < 0.05


def test_the_covariance_of_draws():
    posterior, draws = made("float32"), 20_000
    weights = jax.vmap(lambda i: posterior.weights(posterior.noise(jax.random.fold_in(KEY, i))))(jnp.arange(draws))
    drawn = np.concatenate([np.reshape(weights[name], (draws, -1)) for name in ("a", "c")], axis=1).astype(float)
    assert (weights["b"] == posterior.mean["b"][None]).all()
    mean, covariance = dense(posterior)
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / draws)
    assert (np.abs(np.cov(drawn.T) - covariance) < 4.5 * error).all()
    assert (np.abs(drawn.mean(0) - mean) < 4.5 * np.sqrt(np.diag(covariance) / draws)).all()


def test_with_independent_weights_it_is_the_mean_field(dtype):
    params = made(dtype).mean
    low, plain = LowRank.around(params, 0.3, rank=2), MeanField.around(params, 0.3)
    assert low.factor.shape == (9, 2)
    assert low.factor.dtype == dtype
    prior = bbb.priors.Normal(params, 0.3)
    assert bbb.priors.kl(low, prior) == bbb.priors.kl(plain, prior) == 0
    assert low.total_correlation() == 0
    np.testing.assert_allclose(low.entropy(), plain.entropy(), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, low.std, plain.std)


def test_scaled_and_moved(dtype):
    posterior = made(dtype)
    rtol = 1e-4 if dtype == "float32" else 1e-10
    mean, covariance = dense(posterior)
    np.testing.assert_allclose(dense(posterior.scaled(3.0))[1], 9 * covariance, rtol=rtol, atol=rtol)
    moved = posterior.with_params(jax.tree.map(lambda leaf: leaf + 1, posterior.mean))
    np.testing.assert_allclose(dense(moved)[0], mean + 1, rtol=1e-6)
    np.testing.assert_array_equal(dense(moved)[1], covariance)


def test_a_pruned_weight_is_0_and_the_others_keep_their_distribution():
    with jax.enable_x64(True):
        posterior = made()
        pruned = bbb.evaluate.prune(posterior, 0.4)
        gone = flat(pruned.random_leaves(pruned.mean)) == 0
        assert gone.sum() == 3
        (mean, covariance), (mean_after, after) = dense(posterior), dense(pruned)
        np.testing.assert_array_equal(mean_after[~gone], mean[~gone])
        np.testing.assert_allclose(after[~gone][:, ~gone], covariance[~gone][:, ~gone], rtol=1e-12)
        assert (np.sqrt(np.diag(after))[gone] < 1e-18).all()


def test_parts_that_do_not_fit_are_refused():
    posterior = made("float32")
    for factor in (posterior.factor[:3], posterior.factor[:, :0], posterior.factor[:, 0]):
        with pytest.raises(ShapeError, match=r"factor to be \(7, rank\), of the weights with a Gaussian, got shape"):
            dataclasses.replace(posterior, factor=factor)
    with pytest.raises(InputError, match="a leaf with a Gaussian, for a LowRank, got point estimates alone"):
        LowRank(posterior.mean, dict.fromkeys("abc"), posterior.factor)


def test_fit_finds_what_weights_have_in_common():
    """Of a linear network it comes to what the directions reach that are best beside the best independent Gaussians."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 1)) + 0.3 * rng.normal(size=(30, 8))
    y = x @ rng.normal(size=(8, 1)) + 0.3 * rng.normal(size=(30, 1))
    precision = x.T @ x / 0.09 + np.eye(8)
    exact = np.linalg.inv(precision)
    best = exact @ x.T @ y / 0.09

    def missing(posterior):
        """Return KL(q ‖ exact posterior), which is what the bound misses of the evidence: nats."""
        mean, covariance = dense(posterior)
        off, logdet = mean - best[:, 0], np.linalg.slogdet(covariance @ precision)[1]
        return 0.5 * (np.trace(covariance @ precision) + off @ precision @ off - 8 - logdet)

    scale = np.linalg.cholesky(exact)
    lower = jnp.asarray(scale / np.diag(scale)[:, None], "float32")
    whole = FullRank(jnp.asarray(best, "float32"), jnp.asarray(np.log(np.diag(scale))[:, None], "float32"), lower)
    start = as_low_rank(whole, 4)
    assert 0 < missing(start) < missing(dataclasses.replace(start, factor=0 * start.factor)) - 2
    model = bbb.bayesianize(
        lambda w, x: x @ w,
        np.zeros((8, 1), np.float32),
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(0.3),
        posterior=functools.partial(LowRank.around, rank=4),
        std=0.1,
    )
    options = {
        "optimizer": optax.adam(optax.cosine_decay_schedule(0.05, 800)),
        "objective": bbb.train.Objective(draws=8),
    }
    trained = bbb.fit(KEY, model, x, y, steps=800, **options)[0].posterior
    assert missing(trained) < missing(start) + 0.5
