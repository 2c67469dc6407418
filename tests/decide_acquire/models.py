"""Small models, and what is known of them by arithmetic that shares nothing with the library's."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import bbb
from bbb import likelihoods
from bbb.networks import nn
from bbb.posteriors import Ensemble
from bbb.posteriors.point import Point

KEY = jax.random.key(5)
X = np.random.default_rng(0).normal(size=(11, 2))
NOISE = 0.3


def network(outputs=1):
    return nn.sequential(nn.linear(2, 4), nn.tanh, nn.linear(4, outputs))


NETWORKS = {outputs: network(outputs) for outputs in (1, 2, 3)}
"""One for each width, so that models share their compiled programs."""


def model_of(likelihood=None, outputs=1, dtype="float32", std=0.5):
    made = NETWORKS[outputs]
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), made.init(jax.random.key(1)))
    noise = likelihoods.Gaussian(NOISE) if likelihood is None else likelihood
    return bbb.bayesianize(made.apply, params, prior=bbb.priors.Normal(), likelihood=noise, std=std)


def classes(outputs=3, dtype="float32"):
    return model_of(likelihoods.Categorical(), outputs, dtype, std=0.9)


def members(model, moves, std=None):
    """Return a model of members whose means are those of a model and as much more."""
    one = model.posterior
    means = [jax.tree.map(lambda leaf, by=by: leaf + leaf.dtype.type(by), one.mean) for by in moves]
    log_std = one.log_std if std is None else jax.tree.map(lambda leaf: jnp.full_like(leaf, np.log(std)), one.log_std)
    each = [type(one)(mean, log_std) for mean in means]
    stacked = Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *each))
    return bbb.BNN(model.apply, stacked, model.prior, model.likelihood)


def points(model, count=6):
    """Return a model that holds draws of another's, as a Markov chain does."""
    drawn = jax.vmap(lambda key: model.posterior.weights(model.posterior.noise(key)))(jax.random.split(KEY, count))
    fixed = jax.tree.map(lambda _: None, drawn)
    return bbb.BNN(model.apply, Ensemble(Point(drawn, fixed)), model.prior, model.likelihood)


def entropy(p):
    p = np.asarray(p, np.float64).ravel()
    return -np.sum(p[p > 0] * np.log(p[p > 0]))


def joint_information(p):
    """Return I(y; draw) of the labels of some rows together, for p (draws, rows, classes), by all their values."""
    draws, rows, count = p.shape
    joint = np.zeros((draws, count**rows))
    for column, labels in enumerate(itertools.product(range(count), repeat=rows)):
        joint[:, column] = np.prod([p[:, row, label] for row, label in enumerate(labels)], axis=0)
    return entropy(joint.mean(axis=0)) - np.mean([entropy(each) for each in joint])
