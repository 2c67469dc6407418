"""Weights of rows: a weight of 2 is the row twice in every structure, in the evidence, and in what follows from it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.inference import laplace as inference
from bbb.mcmc.api import _target

KEY = jax.random.key(0)
DEEP = bbb.nn.sequential(bbb.nn.linear(2, 3), bbb.nn.tanh, bbb.nn.linear(3, 2))
LINEAR = bbb.nn.linear(2, 2)
CONVOLUTION = bbb.nn.sequential(bbb.nn.conv(1, 2, (2, 2), padding="valid"), bbb.nn.flatten, bbb.nn.linear(8, 2))
RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(6, 2)), RNG.normal(size=(6, 2))
IMAGES = RNG.normal(size=(6, 1, 3, 3))
WEIGHTS = np.array([2, 1, 0, 3, 1, 1])

STRUCTURES = ("full", "last_layer", "kron", "low_rank", "diag")


def model_of(network=DEEP, likelihood=None):
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), network.init(KEY))
    noise = bbb.likelihoods.Gaussian(np.array([0.3, 0.8]), learn=True) if likelihood is None else likelihood
    return bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(0.0, 0.7), likelihood=noise)


def written_out(*arrays):
    return tuple(np.repeat(array, WEIGHTS, axis=0) for array in arrays)


def assert_close(a, b, tolerance=1e-10):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def assert_one_posterior(a, b):
    """Hold the log densities of two posteriors of one mean against each other, at a few places."""
    for i in range(3):
        at = a.weights(a.noise(jax.random.key(i)))
        np.testing.assert_allclose(a.log_prob(at), b.log_prob(at), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("network", "structure"),
    [*((DEEP, word) for word in STRUCTURES), *((LINEAR, word) for word in ("full", "kron")), (CONVOLUTION, "diag")],
    ids=str,
)
def test_a_weight_of_two_is_the_row_twice_in_the_posterior(network, structure):
    with jax.enable_x64(True):
        model, x = model_of(network), IMAGES if network is CONVOLUTION else X
        one = bbb.laplace(KEY, model, x, Y, structure=structure, sample_weight=WEIGHTS)
        other = bbb.laplace(KEY, model, *written_out(x, Y), structure=structure)
        assert_one_posterior(one.posterior, other.posterior)


def test_it_does_not_depend_on_the_tiles():
    with jax.enable_x64(True):
        whole, tiles = (
            bbb.laplace(KEY, model_of(LINEAR), X, Y, sample_weight=WEIGHTS, batch_size=size).posterior
            for size in (None, 4)
        )
        assert_one_posterior(whole, tiles)


@pytest.mark.parametrize("structure", ["full", "last_layer", "kron", "diag"])
def test_a_weight_of_two_is_the_row_twice_in_the_evidence_and_its_gradient(structure):
    with jax.enable_x64(True):
        model = model_of()

        def evidence(scales, x, y, weights):
            std, log_std = scales
            prior = bbb.priors.Normal(0.0, std)
            noise = dataclasses.replace(model, prior=prior).likelihood
            noise = jax.tree.map(lambda _: log_std, noise)
            changed = dataclasses.replace(model, prior=prior, likelihood=noise)
            return bbb.log_evidence(changed, x, y, structure, sample_weight=weights)

        scales = jnp.asarray(0.7), jnp.log(jnp.array([0.3, 0.8]))
        one = jax.value_and_grad(evidence)(scales, X, Y, jnp.asarray(WEIGHTS, float))
        other = jax.value_and_grad(evidence)(scales, *written_out(X, Y), None)
        assert_close(one, other)


@pytest.mark.slow
def test_tune_finds_the_scales_of_the_rows_as_often():
    with jax.enable_x64(True):
        model = model_of(LINEAR)
        one, record = bbb.tune(KEY, model, X, Y, updates=5, sample_weight=WEIGHTS)
        other, its_record = bbb.tune(KEY, model, *written_out(X, Y), updates=5)
        assert_close(one, other, 1e-6)
        np.testing.assert_allclose(record.evidence, its_record.evidence, rtol=1e-9)


@pytest.mark.slow
def test_rounds_of_tune_train_on_the_rows_as_often():
    with jax.enable_x64(True):
        model, options = model_of(LINEAR), {"rounds": 1, "steps": 5, "updates": 1}
        one, _ = bbb.tune(KEY, model, X, Y, sample_weight=WEIGHTS, **options)
        other, _ = bbb.tune(KEY, model, *written_out(X, Y), **options)
        assert_close(one.posterior.params, other.posterior.params, 1e-9)


def test_hmc_samples_the_density_of_the_rows_as_often():
    with jax.enable_x64(True):
        model = model_of()
        one = dataclasses.replace(_target(model, *map(jnp.asarray, (X, Y)), None), sample_weight=jnp.asarray(WEIGHTS))
        other = _target(model, *map(jnp.asarray, written_out(X, Y)), None)
        at = one.position(model.posterior.params)
        fixed = jax.tree.map(lambda _: None, model.posterior.params)
        assert_close(*(jax.value_and_grad(target.log_density)(at, fixed) for target in (one, other)))


@pytest.mark.slow
def test_draws_go_through_the_one_row_that_counts():
    line = bbb.bayesianize(
        LINEAR.apply, LINEAR.init(KEY), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(1.0)
    )
    weights = np.array([1e4, 0, 0, 0, 0, 0])
    drawn, _ = bbb.mcmc.hmc(KEY, line, X, Y, draws=20, warmup=50, steps=20, sample_weight=weights)
    np.testing.assert_allclose(bbb.predict(KEY, drawn, X[:1]).f.mean, Y[:1], atol=0.05)


def test_the_noise_at_the_means_is_that_of_the_rows_as_often():
    with jax.enable_x64(True):
        model = model_of(LINEAR)
        one = inference.finished(KEY, model, X, Y, False, WEIGHTS).model
        other = inference.finished(KEY, model, *written_out(X, Y), False).model
        assert_close(one.likelihood, other.likelihood)
        assert_one_posterior(one.posterior, other.posterior)
