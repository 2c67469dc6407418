"""Small models that have learned from some rows, and the rows that come next."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import bbb
from bbb import likelihoods
from bbb.posteriors import FullRank, LowRank, MeanField

KEY = jax.random.key(1)
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
STILL = {"steps": 1, "optimizer": optax.sgd(0.0), "draws": 4, "progress": False}
"""Training that moves nothing."""


def rows(seed=0, count=12):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, 1)).astype("float32")
    return x, (np.sin(3 * x) + 0.1 * rng.normal(size=(count, 1))).astype("float32")


KINDS = {"MeanField": MeanField.around, "FullRank": FullRank.around, "LowRank": LowRank.around}
STRUCTURES = ("diag", "kron", "full", "last_layer")


@functools.cache
def trained(kind, where=None):
    """Return a model of a posterior that `fit` trains, with the spread of one that has seen rows."""
    likelihood = likelihoods.Gaussian(0.1, learn=True)
    params = NETWORK.init(KEY)
    prior = bbb.priors.Normal(0.0, 1.0)
    model = bbb.bayesianize(
        NETWORK.apply, params, prior=prior, likelihood=likelihood, std=0.3, where=where, posterior=KINDS[kind]
    )
    if kind == "MeanField":
        return model
    of = jax.random.normal(KEY, (getattr(model.posterior, "lower" if kind == "FullRank" else "factor")).shape)
    return dataclasses.replace(
        model, posterior=dataclasses.replace(model.posterior, **{"lower" if kind == "FullRank" else "factor": 0.3 * of})
    )


@functools.cache
def at_mode():
    """Return the model at the mode of its first rows."""
    at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(NETWORK.apply))
    model = dataclasses.replace(trained("MeanField"), likelihood=likelihoods.Gaussian(0.1))
    model, _ = bbb.fit(KEY, model, *rows(), steps=100, optimizer=optax.lbfgs(), objective=at_mean, progress=False)
    return dataclasses.replace(model, likelihood=trained("MeanField").likelihood)


@functools.cache
def laplace(structure):
    return bbb.laplace(KEY, at_mode(), *rows(), structure=structure, rank=4)


def size(model):
    """Return how many numbers a model holds."""
    return sum(map(jnp.size, jax.tree.leaves(model)))
