"""The last layer: found by its use, and closed forms given all that stands before it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.moments.api import moments
from bbb.moments.conditional import conditional_moments, last_layer
from tests.moments.networks import KEY, X, around, mlp, mlp_posterior


def test_the_last_layer_is_found_by_its_use():
    assert last_layer(mlp(jnp.tanh), mlp_posterior(), X) == ("V", "c")
    deep = mlp(lambda z: jax.nn.softmax(z, axis=-1), layers=3)
    assert last_layer(deep, mlp_posterior(layers=3), X) == ("V", "c")
    assert last_layer(jax.jit(mlp(lambda z: z)), mlp_posterior(), X) == ("V", "c")  # of two that would do, the last


def test_a_skip_that_is_linear_in_its_weight_belongs_to_the_last_layer():
    q = mlp_posterior()
    q = around(q.mean | {"skip": jnp.ones((3, 2))}, 0.3)
    assert last_layer(lambda p, x: mlp(jnp.tanh)(p, x) + x @ p["skip"], q, X) == ("V", "c", "skip")


def test_a_point_estimate_is_no_part_of_the_last_layer():
    where = {"W0": True, "b0": True, "V": True, "c": False}
    assert last_layer(mlp(jnp.tanh), bbb.MeanField.around(mlp_posterior().mean, 0.3, where=where), X) == ("V",)


def test_without_a_last_layer_that_is_linear_it_is_refused():
    with pytest.raises(bbb.errors.InputError, match="last layer is linear"):
        last_layer(lambda p, x: jnp.tanh(mlp(jnp.tanh)(p, x)), mlp_posterior(), X)


def test_moments_given_all_but_the_last_layer_are_those_of_a_gaussian():
    q, apply = mlp_posterior(), mlp(jnp.tanh)
    params = bbb.posteriors.sample(KEY, q)
    found = conditional_moments(apply, ("V", "c"))(params, q, X)
    h = np.tanh(X @ np.asarray(params["W0"]) + np.asarray(params["b0"]))
    np.testing.assert_allclose(found.mean, h @ np.asarray(q.mean["V"]) + np.asarray(q.mean["c"]), rtol=1e-5)
    np.testing.assert_allclose(found.variance, np.repeat(0.09 * ((h**2).sum(1, keepdims=True) + 1), 2, 1), rtol=1e-5)


def test_the_mean_over_draws_of_conditional_moments_is_the_moments():
    """Total variance: E Var(f | w) + Var E(f | w), within 5 standard errors of the closed form."""
    q, apply, draws = mlp_posterior(), mlp(jnp.tanh), 20_000
    given = conditional_moments(apply, last_layer(apply, q, X))
    keys = jax.random.split(KEY, draws)
    inner = jax.jit(jax.vmap(lambda key: given(bbb.posteriors.sample(key, q), q, X)))(keys)
    mean, variance = (np.asarray(part, "float64") for part in inner)
    whole = moments(apply)(q, X)
    assert np.all(np.abs(mean.mean(0) - whole.mean) <= 5 * mean.std(0) / math.sqrt(draws))
    spread = variance + (mean - mean.mean(0)) ** 2
    assert np.all(np.abs(spread.mean(0) - whole.variance) <= 5 * spread.std(0) / math.sqrt(draws))


def test_a_leaf_that_is_not_there_is_refused():
    with pytest.raises(bbb.errors.InputError, match="got U"):
        conditional_moments(mlp(jnp.tanh), ("U",))(mlp_posterior().mean, mlp_posterior(), X)
