"""Small models whose posterior is known, and their data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import bbb
from bbb import likelihoods

KEY = jax.random.key(3)
NOISE, PRIOR, SHIFT = 0.4, 1.3, 0.2


def line(params, x):
    return x @ params["w"] + params["b"][None]


def linear(dtype="float32", rows=9, **parts):
    """Return a linear model at 0, x, y, and the mean and covariance of its posterior, in the order of the leaves."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2))
    y = x @ np.array([[1.0], [-0.5]]) + 0.3 + NOISE * rng.normal(size=(rows, 1))
    params = {"b": np.zeros(1, dtype), "w": np.zeros((2, 1), dtype)}
    design = np.column_stack([np.ones(rows), x])
    covariance = np.linalg.inv(design.T @ design / NOISE**2 + np.eye(3) / PRIOR**2)
    mean = covariance @ (design.T @ y[:, 0] / NOISE**2 + SHIFT / PRIOR**2)
    given = {"prior": bbb.priors.Normal(SHIFT, PRIOR), "likelihood": likelihoods.Gaussian(NOISE), **parts}
    return bbb.bayesianize(line, params, **given), x, y, mean, covariance


def ensemble(model, *moved):
    """Return a model of members, whose means are those of a model and as much more."""
    one = model.posterior
    each = [one.with_params(jax.tree.map(lambda leaf, by=by: leaf + leaf.dtype.type(by), one.params)) for by in moved]
    members = bbb.posteriors.Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *each))
    return dataclasses.replace(model, posterior=members)


def flat(model):
    """Return the weights of the draws of a model, (draws, d), in the order of the leaves."""
    leaves = jax.tree.leaves(model.posterior.members.drawn)
    return np.concatenate([np.asarray(leaf, float).reshape(len(leaf), -1) for leaf in leaves], axis=1)
