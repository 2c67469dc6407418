"""Bayesian linear regression with its exact posterior, and data of it, many times over."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import bbb
from tests.truth.conjugate import NOISE_STD, model_of, problem

KEY = jax.random.key(7)
ROWS, COLUMNS = 10, 2
X = np.random.default_rng(0).normal(size=(2 * ROWS, COLUMNS)).astype(np.float32)
X_TRAIN, X_TEST = X[:ROWS], X[ROWS:]


class Exact:
    """The exact inference from rows x: the covariance of the posterior is that of x alone, and found once."""

    def __init__(self, x=X_TRAIN):
        self.model = model_of(x.shape[1])
        self.to_mean = problem(np.asarray(x, float), np.zeros((len(x), 1))).covariance @ x.T / NOISE_STD**2
        self.posterior = bbb.laplace(KEY, self.model, x, np.zeros((len(x), 1))).posterior

    def given(self, y, scale=1.0):
        """Return the model of the exact posterior given y, or of one whose standard deviations are `scale` times."""
        mean = jnp.asarray(self.to_mean @ np.asarray(y), self.posterior.params.dtype)
        posterior = self.posterior.with_params(mean)
        return dataclasses.replace(self.model, posterior=posterior if scale == 1 else posterior.scaled(scale))


def data_sets(count, x=X):
    """Return y of the model, (count, rows, 1), each of weights from the prior, by NumPy."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=(count, x.shape[1], 1))
    return (x @ w + NOISE_STD * rng.normal(size=(count, len(x), 1))).astype(np.float32)


def gap_model(hidden=8):
    """Return a small network, and rows of two clusters with a gap between them."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-2, -0.8, 20), rng.uniform(0.8, 2, 20)]).astype(np.float32)[:, None]
    y = (np.sin(2 * x) + 0.2 * rng.normal(size=x.shape)).astype(np.float32)
    network = bbb.nn.sequential(bbb.nn.linear(1, hidden), bbb.nn.tanh, bbb.nn.linear(hidden, 1))
    prior, likelihood = bbb.priors.Normal(), bbb.likelihoods.Gaussian(0.2)
    return bbb.bayesianize(network.apply, network.init(KEY), prior=prior, likelihood=likelihood), x, y
