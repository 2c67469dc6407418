"""`Kronecker` against the dense Gaussian that it stands for."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb.errors import InputError, ShapeError
from bbb.posteriors import Kronecker

KEY = jax.random.key(5)
NAMES = ("a", "b", "d", "e")
SIZES = {"a": (2, 3), "b": (4,), "c": (2,), "d": (3, 1, 2, 2), "e": (2, 2)}
INPUTS = {"a": (1,), "b": (), "d": (0, 3)}


def made(dtype="float64", std=0.4):
    """A posterior of two matrices, a vector with a block, a matrix of independent weights, and a point estimate."""
    rng = np.random.default_rng(0)
    mean = {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in SIZES.items()}
    log_std = {name: jnp.asarray(np.log(std * rng.uniform(0.2, 2, shape)), dtype) for name, shape in SIZES.items()}

    def basis(shape, axes):
        kept = [size if axis in axes else 1 for axis, size in enumerate(shape)]
        columns = np.linalg.qr(rng.normal(size=(math.prod(kept), math.prod(kept))))[0]
        return jnp.asarray(columns.reshape(*kept, -1), dtype)

    left = {name: basis(SIZES[name], INPUTS[name]) if name in INPUTS else None for name in SIZES}
    others = {name: [axis for axis in range(len(SIZES[name])) if axis not in INPUTS[name]] for name in INPUTS}
    right = {name: basis(SIZES[name], others[name]) if name in INPUTS else None for name in SIZES}
    return Kronecker(mean, {**log_std, "c": None}, left, right)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(float)


def dense(posterior):
    """Return the mean (d,) and the covariance (d, d) in float64, of products of bases written out."""
    blocks = []
    for name in NAMES:
        shape, s = SIZES[name], np.exp(np.asarray(posterior.log_std[name], float))
        if name not in INPUTS:
            blocks.append(np.diag(s.reshape(-1) ** 2))
            continue
        ins = INPUTS[name]
        outs = [axis for axis in range(len(shape)) if axis not in ins]
        u, v = (
            np.asarray(part[name], float).reshape(-1, np.shape(part[name])[-1])
            for part in (posterior.left, posterior.right)
        )
        variance = np.transpose(s, (*ins, *outs)).reshape(-1) ** 2
        matrix = np.kron(u, v) @ np.diag(variance) @ np.kron(u, v).T
        order = np.arange(s.size).reshape([shape[axis] for axis in (*ins, *outs)])
        order = np.transpose(order, np.argsort((*ins, *outs))).reshape(-1)
        blocks.append(matrix[np.ix_(order, order)])
    covariance, start = np.zeros((sum(map(len, blocks)),) * 2), 0
    for block in blocks:
        covariance[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return flat(posterior.random_leaves(posterior.mean)), covariance


def slopes_of(posterior):
    """Return the derivative of a draw's random weights by its noise, (d, d)."""
    start, unravel = ravel_pytree(posterior.noise(KEY))
    found = jax.jacobian(lambda e: ravel_pytree(posterior.random_leaves(posterior.weights(unravel(e))))[0])(start)
    return np.asarray(found, float)


def covariance_of(posterior):
    slopes = slopes_of(posterior)
    return slopes @ slopes.T


def test_densities_draws_and_marginals_are_those_of_the_dense_gaussian(dtype):
    posterior = made(dtype)
    mean, covariance = dense(posterior)
    d, logdet = len(mean), np.linalg.slogdet(covariance)[1]
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(covariance_of(posterior), covariance, **near)
    np.testing.assert_allclose(flat(posterior.std), np.sqrt(np.diag(covariance)), **near)
    np.testing.assert_allclose(posterior.entropy(), 0.5 * (logdet + d * math.log(2 * math.pi * math.e)), **near)
    correlation = 0.5 * (np.sum(np.log(np.diag(covariance))) - logdet)
    np.testing.assert_allclose(posterior.total_correlation(), correlation, **near)
    drawn = bbb.posteriors.sample(KEY, posterior)
    assert (drawn["c"] == posterior.mean["c"]).all()
    off = flat(posterior.random_leaves(drawn)) - mean
    density = -0.5 * (off @ np.linalg.solve(covariance, off) + logdet + d * math.log(2 * math.pi))
    np.testing.assert_allclose(bbb.posteriors.log_prob(posterior, drawn), density, **near)
    m0, s0 = 0.25, 1.5
    exact = np.trace(covariance) / s0**2 + np.sum((mean - m0) ** 2) / s0**2 - d - logdet + 2 * d * math.log(s0)
    np.testing.assert_allclose(bbb.priors.kl(posterior, bbb.priors.Normal(m0, s0)), 0.5 * exact, **near)


def test_the_covariance_of_draws():
    posterior, draws = made("float32"), 20_000
    weights = jax.vmap(lambda i: posterior.weights(posterior.noise(jax.random.fold_in(KEY, i))))(jnp.arange(draws))
    drawn = np.concatenate([np.reshape(weights[name], (draws, -1)) for name in NAMES], axis=1).astype(float)
    mean, covariance = dense(posterior)
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / draws)
    assert (np.abs(np.cov(drawn.T) - covariance) < 5 * error).all()
    assert (np.abs(drawn.mean(0) - mean) < 4.5 * np.sqrt(np.diag(covariance) / draws)).all()


def test_without_bases_it_is_the_mean_field_number_for_number(dtype):
    params = {"a": jnp.asarray([[0.5, -1.0]], dtype), "b": jnp.asarray([2.0], dtype)}
    plain = bbb.MeanField.around(params, 0.3)
    none = dict.fromkeys(params)
    posterior = Kronecker(params, plain.log_std, none, none)
    assert bbb.priors.kl(posterior, bbb.priors.Normal(params, 0.3)) == 0
    assert posterior.total_correlation() == 0
    assert posterior.entropy() == plain.entropy()
    jax.tree.map(np.testing.assert_array_equal, posterior.marginals(), plain)
    jax.tree.map(
        np.testing.assert_array_equal, bbb.posteriors.sample(KEY, posterior), bbb.posteriors.sample(KEY, plain)
    )


def test_scaled_and_moved(dtype):
    posterior = made(dtype)
    rtol = 1e-4 if dtype == "float32" else 1e-10
    mean, covariance = dense(posterior)
    np.testing.assert_allclose(covariance_of(posterior.scaled(3.0)), 9 * covariance, rtol=rtol, atol=rtol)
    moved = posterior.with_params(jax.tree.map(lambda leaf: leaf + 1, posterior.mean))
    np.testing.assert_allclose(dense(moved)[0], mean + 1, rtol=1e-6)
    np.testing.assert_array_equal(dense(moved)[1], covariance)


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_a_pruned_weight_is_0_and_the_others_keep_their_distribution(fraction):
    with jax.enable_x64(True):
        posterior = made()
        pruned = bbb.evaluate.prune(posterior, fraction)
        pruned.validate()
        gone = flat(pruned.random_leaves(pruned.mean)) == 0
        assert gone.sum() == round(fraction * gone.size)
        (mean, covariance), mean_after = dense(posterior), flat(pruned.random_leaves(pruned.mean))
        np.testing.assert_array_equal(mean_after[~gone], mean[~gone])
        after = covariance_of(pruned)
        np.testing.assert_allclose(after[~gone][:, ~gone], covariance[~gone][:, ~gone], rtol=1e-9, atol=1e-12)
        assert (np.sqrt(np.diag(after))[gone] < 1e-18).all()
        np.testing.assert_allclose(covariance_of(bbb.evaluate.prune(pruned, fraction)), after, rtol=1e-9, atol=1e-12)


def test_in_float32_a_pruned_leaf_keeps_small_standard_deviations_too():
    posterior = made("float32")
    narrow = dataclasses.replace(posterior, log_std={**posterior.log_std, "a": posterior.log_std["a"].at[0].add(-9.0)})
    after = narrow.pruned(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, bool).at[..., 0].set(True), narrow.log_std))
    covariance = dense(narrow)[1][:6, :6]
    keep = np.array([1, 2, 4, 5])
    exact = np.linalg.inv(covariance[np.ix_(keep, keep)])
    found = np.linalg.inv(covariance_of(after)[:6, :6][np.ix_(keep, keep)])
    np.testing.assert_allclose(found, exact, rtol=0.02, atol=1e-3 * np.abs(exact).max())


def test_leaves_too_large_to_lose_weights_are_refused():
    params = {"w": jnp.zeros((101, 100))}
    one, other = jnp.eye(101).reshape(101, 1, 101), jnp.eye(100).reshape(1, 100, 100)
    posterior = Kronecker(params, params, {"w": one}, {"w": other})
    with pytest.raises(InputError, match="leaves of at most 10,000 weights, to take weights out of a"):
        bbb.evaluate.prune(posterior, 0.1)


def test_parts_that_do_not_fit_are_refused():
    posterior = made("float32")
    for part in ("left", "right"):
        with pytest.raises(ShapeError, match="left and right to be bases of the axes of each leaf of log_std"):
            dataclasses.replace(posterior, **{part: {**getattr(posterior, part), "a": None}})
        with pytest.raises(ShapeError, match="left and right to be bases of the axes of each leaf of log_std"):
            dataclasses.replace(posterior, **{part: {"a": getattr(posterior, part)["a"]}})
    none = dict.fromkeys(SIZES)
    with pytest.raises(InputError, match="a leaf with a Gaussian, for a Kronecker, got point estimates alone"):
        Kronecker(posterior.mean, none, none, none)
    posterior.validate()
    with pytest.raises(ValueError, match="a basis that is not orthonormal"):
        dataclasses.replace(posterior, left={**posterior.left, "a": 2 * posterior.left["a"]}).validate()
