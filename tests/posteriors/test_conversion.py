"""`as_full_rank` and `as_low_rank` against dense linear algebra."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb import MeanField
from bbb.posteriors import FullRank, LowRank, LowRankPrecision, as_full_rank, as_low_rank

KEY = jax.random.key(5)
D = 7


def params_of(dtype):
    rng = np.random.default_rng(0)
    shapes = {"a": (2, 2), "b": (2,), "c": (3,)}
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def started(dtype):
    """Return means and log stds of seven weights, of which two more are point estimates."""
    mean, rng = params_of(dtype), np.random.default_rng(1)
    stds = jax.tree.map(lambda leaf: jnp.asarray(np.log(0.4 * rng.uniform(0.5, 2, leaf.shape)), dtype), mean)
    return mean, {**stds, "b": None}


def by_rows(dtype, rows=3, strength=3.0):
    factor = strength * np.random.default_rng(2).normal(size=(rows, D))
    return LowRankPrecision.of(*started(dtype), jnp.asarray(factor, dtype))


def by_directions(dtype):
    return LowRank(*started(dtype), jnp.asarray(np.random.default_rng(2).normal(size=(D, 2)), dtype))


def dense(dtype):
    return FullRank(*started(dtype), jnp.asarray(np.random.default_rng(2).normal(size=(D, D)), dtype))


def alone(dtype):
    return MeanField(*started(dtype))


KINDS = {"rows": by_rows, "directions": by_directions, "dense": dense, "alone": alone}


def covariance_of(posterior):
    """Return the covariance of the random weights, from the slopes of a draw by its noise: (d, d)."""
    start, unravel = ravel_pytree(posterior.noise(KEY))
    slopes = jax.jacobian(lambda e: ravel_pytree(posterior.random_leaves(posterior.weights(unravel(e))))[0])(start)
    return np.asarray(slopes, float) @ np.asarray(slopes, float).T


def divergence(q, p):
    """Return KL(q ‖ p) of two centred Gaussians of these covariances: nats."""
    ratio = np.linalg.solve(p, q)
    return 0.5 * (np.trace(ratio) - len(p) - np.linalg.slogdet(ratio)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_rank_one_is_the_same_gaussian(kind):
    with jax.enable_x64(True):
        posterior = KINDS[kind]("float64")
        made = as_full_rank(posterior)
        assert isinstance(made, FullRank)
        assert (np.triu(np.asarray(made.scale), 1) == 0).all()
        near = {"rtol": 1e-10, "atol": 1e-12}
        np.testing.assert_allclose(covariance_of(made), covariance_of(posterior), **near)
        jax.tree.map(np.testing.assert_array_equal, made.params, posterior.params)
        np.testing.assert_allclose(made.entropy(), posterior.entropy(), **near)
        assert made.log_diagonal["b"] is None
        assert as_full_rank(made) is made


def test_in_float32_a_strong_precision_keeps_its_digits():
    """Variances from 1e-9 to 0.1: the covariance, and its Cholesky factor, would lose the small ones."""
    posterior = by_rows("float32", strength=1e4)
    made = as_full_rank(posterior)
    seen = np.asarray(posterior.factor, float) @ np.asarray(made.scale, float)  # of unit noise where it is strong
    np.testing.assert_allclose(np.sum(seen**2, axis=1), 1, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_low_rank_one_has_the_diagonal_and_the_directions_of_least_divergence(kind):
    with jax.enable_x64(True):
        posterior = KINDS[kind]("float64")
        exact = covariance_of(posterior)
        precision = np.linalg.inv(exact)
        scale = np.diag(precision) ** -0.5
        eigenvalues, vectors = np.linalg.eigh(scale[:, None] * precision * scale[None])
        reached = []
        for rank in (1, 3, 12):
            made = as_low_rank(posterior, rank)
            assert made.factor.shape == (D, rank)
            diagonal = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(made.log_diagonal)])
            np.testing.assert_allclose(np.exp(diagonal), scale, rtol=1e-10)
            kept = min(rank, D)
            widths = np.maximum(1 / eigenvalues[:kept] - 1, 0)
            shared = scale[:, None] * (vectors[:, :kept] * widths[None]) @ vectors[:, :kept].T * scale[None]
            np.testing.assert_allclose(covariance_of(made), np.diag(scale**2) + shared, rtol=1e-8, atol=1e-10)
            reached.append(divergence(covariance_of(made), exact))
        independent = divergence(np.diag(scale**2), exact)
        assert independent + 1e-9 >= reached[0] >= reached[1] - 1e-9 >= reached[2] - 2e-9
        if kind == "alone":
            assert max(independent, *reached) < 1e-9
        else:
            assert reached[1] < 0.9 * independent


def test_no_other_width_of_a_direction_is_better():
    with jax.enable_x64(True):
        posterior = by_rows("float64")
        exact, made = covariance_of(posterior), as_low_rank(posterior, 2)
        best = divergence(covariance_of(made), exact)
        for change in (0.9, 1.1):
            assert divergence(covariance_of(dataclasses.replace(made, factor=change * made.factor)), exact) > best


def test_that_of_laplace_can_be_trained():
    network = bbb.nn.sequential(bbb.nn.linear(1, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
    x = np.linspace(-1.0, 1.0, 6, dtype=np.float32)[:, None]
    parts = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    model = bbb.bayesianize(network.apply, network.init(KEY), **parts)
    found = bbb.laplace(KEY, model, x, np.sin(2 * x)).posterior
    assert isinstance(found, LowRankPrecision)
    for made in (as_full_rank(found), as_low_rank(found, 2)):
        start = dataclasses.replace(model, posterior=made.scaled(0.1))
        trained, history = bbb.fit(KEY, start, x, np.sin(2 * x), steps=3)
        assert type(trained.posterior) is type(made)
        assert np.isfinite(history.loss).all()
