"""Small models with their data, and the dense algebra that they are held against."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import bbb
from bbb import likelihoods

KEY = jax.random.key(3)
NOISE, PRIOR = 0.2, 1.3


def line(params, x):
    return x @ params["w"] + params["b"][None]


def linear(rows, inputs=3, outputs=2, seed=0):
    """Return a linear model at its exact posterior mean, x, y, and that posterior's covariance and evidence."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs))
    y = x @ rng.normal(size=(inputs, outputs)) + NOISE * rng.normal(size=(rows, outputs))
    params = {"b": jnp.zeros(outputs), "w": jnp.zeros((inputs, outputs))}
    flat, unravel = ravel_pytree(params)
    design = np.asarray(jax.jacobian(lambda w: line(unravel(w), jnp.asarray(x)).reshape(-1))(flat))
    precision = design.T @ design / NOISE**2 + np.eye(flat.size) / PRIOR**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ y.reshape(-1) / NOISE**2
    of_y = PRIOR**2 * design @ design.T + NOISE**2 * np.eye(y.size)
    flat_y = y.reshape(-1)
    evidence = -0.5 * (flat_y @ np.linalg.solve(of_y, flat_y) + np.linalg.slogdet(2 * math.pi * of_y)[1])
    model = bbb.bayesianize(
        line, unravel(jnp.asarray(mean)), prior=bbb.priors.Normal(0.0, PRIOR), likelihood=likelihoods.Gaussian(NOISE)
    )
    return model, x, y, covariance, evidence


CASES = {
    "Gaussian": (likelihoods.Gaussian(0.3, learn=True), 1),
    "HeteroscedasticGaussian": (likelihoods.HeteroscedasticGaussian(), 2),
    "BoundedHeteroscedasticGaussian": (likelihoods.BoundedHeteroscedasticGaussian(0.3, 0.5), 2),
    "StudentT": (likelihoods.StudentT(0.3, 5.0), 1),
    "Categorical": (likelihoods.Categorical(), 3),
    "Bernoulli": (likelihoods.Bernoulli(), 2),
    "Poisson": (likelihoods.Poisson(), 1),
    "NegativeBinomial": (likelihoods.NegativeBinomial(0.5), 1),
}


def mlp(kind="Gaussian", rows=23, hidden=4, dtype="float64", **parts):
    """Return a network with a hidden layer, and data that its likelihood takes."""
    likelihood, outputs = CASES[kind]
    rng = np.random.default_rng(1)
    network = bbb.nn.sequential(bbb.nn.linear(2, hidden), bbb.nn.tanh, bbb.nn.linear(hidden, outputs))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(KEY))
    x = rng.normal(size=(rows, 2)).astype(dtype)
    if kind == "Categorical":
        y = rng.integers(0, outputs, rows)
    elif kind in ("Bernoulli", "Poisson", "NegativeBinomial"):
        y = rng.integers(0, 2, (rows, outputs)).astype(dtype)
    else:
        y = rng.normal(size=(rows, 1)).astype(dtype)
    given = {"prior": bbb.priors.Normal(0.0, 0.7), "likelihood": likelihood, **parts}
    return bbb.bayesianize(network.apply, params, **given), x, y


def precision_of(model, x, random=None):
    """Return Σ Jᵀ·F·J + P of the random leaves by dense algebra, in the order of `jax.tree.leaves`: (d, d)."""
    params = model.posterior.params
    random = model.posterior.random_leaves(params) if random is None else random
    flat, unravel = ravel_pytree(random)

    def outputs(w):
        filled = jax.tree.map(
            lambda leaf, rest: rest if leaf is None else leaf, unravel(w), params, is_leaf=lambda v: v is None
        )
        return model.apply(filled, jnp.asarray(x))

    jacobian = np.asarray(jax.jacobian(outputs)(flat)).reshape(len(x), -1, flat.size)
    root = np.asarray(model.likelihood.fisher_root(outputs(flat)))
    rows = np.einsum("nki,nkd->nid", root, jacobian).reshape(-1, flat.size)
    curvature, _ = ravel_pytree(model.prior.curvature(random))
    return rows.T @ rows + np.diag(np.asarray(curvature))


def covariance_of(posterior):
    """Return the covariance of a posterior's random weights, from the slopes of a draw by its noise: (d, d)."""
    start, unravel = ravel_pytree(posterior.noise(KEY))
    slopes = jax.jacobian(lambda e: ravel_pytree(posterior.random_leaves(posterior.weights(unravel(e))))[0])(start)
    slopes = np.asarray(slopes, float)
    return slopes @ slopes.T


def ensemble_of(model):
    """Return a model of two members, whose means differ."""
    one = model.posterior
    moved = one.with_params(jax.tree.map(lambda leaf: leaf + 0.2, one.params))
    members = bbb.posteriors.Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), one, moved))
    return dataclasses.replace(model, posterior=members)
