"""Bayesian linear regression, of which everything is known: the exact posterior, and the best mean-field one.

y = X·w + N(0, σ²), w ~ N(0, s0²): with Λ = XᵀX/σ² + I/s0², the posterior is N(Λ⁻¹·Xᵀy/σ², Λ⁻¹), and among independent
Gaussians the one of least KL divergence to it has the same means, and variances 1/Λᵢᵢ (Bishop 2006, Pattern Recognition
and Machine Learning, eq. 3.50 and 3.51; 10.12 to 10.15).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import bbb

NOISE_STD, PRIOR_STD = 0.5, 1.0


class Problem(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    mean: np.ndarray  # of the exact posterior, and of the best mean-field one
    covariance: np.ndarray  # of the exact posterior
    std: np.ndarray  # of the best mean-field one


def problem(x, y):
    precision = x.T @ x / NOISE_STD**2 + np.eye(x.shape[1]) / PRIOR_STD**2
    covariance = np.linalg.inv(precision)
    return Problem(x, y, covariance @ x.T @ y[:, 0] / NOISE_STD**2, covariance, np.diag(precision) ** -0.5)


def least_negative_elbo(p):
    """Return the negative ELBO of the best mean-field posterior, in nats."""
    residual = p.y[:, 0] - p.x @ p.mean
    squares = residual @ residual + np.sum(np.sum(p.x**2, axis=0) * p.std**2)
    data = len(p.x) / 2 * np.log(2 * np.pi * NOISE_STD**2) + squares / (2 * NOISE_STD**2)
    ratio = p.std**2 / PRIOR_STD**2
    return data + 0.5 * np.sum(ratio - 1 - np.log(ratio) + p.mean**2 / PRIOR_STD**2)


def apply(w, x):
    return x @ w


def model_of(columns):
    return bbb.bayesianize(
        apply,
        jnp.zeros((columns, 1)),
        prior=bbb.priors.Normal(0.0, PRIOR_STD),
        likelihood=bbb.likelihoods.Gaussian(NOISE_STD),
        std=0.2,
    )
