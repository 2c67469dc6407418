"""Noise whose standard deviation depends on the inputs: a test for it, and a start of learning it."""

from typing import Any

import jax
import numpy as np
from scipy import stats

from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian
from bbb.model import BNN, bayesianize
from bbb.networks import nn
from bbb.priors.normal import fan_in

CONSTANT, VARYING, AUTO = "constant", "varying", "auto"
"""One standard deviation for each target; one for each row too; or what the data ask for."""


SIGNIFICANCE = 0.05
"""The share of data of constant noise for which noise that varies is tried in vain."""


TYPICAL, REACH = 0.1, 4.0
"""Noise that varies goes freely to a factor e^4 = 55 from that of all rows, where it is known, or from a tenth of the
standard deviation of the target."""


def varies(x: np.ndarray, residuals: np.ndarray, weights: np.ndarray | None = None) -> bool:
    """Return whether the squares of residuals, (rows, targets), depend on the columns x, (rows, columns).

    In a regression of them on the columns and the columns' squares, rows·R² has the χ² distribution if they do not. A
    row of weight w, (rows,), counts as w rows.

    Source: Koenker 1981, "A note on studentizing a test for heteroscedasticity", J. Econom. 17, 107, whose test keeps
    its level where the noise is not Gaussian.
    """
    counts = np.ones(len(x)) if weights is None else weights
    rows, of_row = counts.sum(), counts[:, None]
    terms = np.column_stack([np.ones(len(x)), x, np.square(x)])
    degrees = np.linalg.matrix_rank(terms) - 1
    if not 0 < degrees < rows - 1:
        return False
    squares = np.square(residuals)
    around = squares - np.average(squares, axis=0, weights=counts)
    explained = terms @ np.linalg.lstsq(np.sqrt(of_row) * terms, np.sqrt(of_row) * around, rcond=None)[0]
    total = np.sum(of_row * np.square(around), axis=0)
    share = np.divide(np.sum(of_row * np.square(explained), axis=0), total, out=np.zeros_like(total), where=total > 0)
    p = stats.chi2.sf(rows * share, degrees)
    return bool(np.min(p) * len(p) < SIGNIFICANCE)


def with_varying(best: BNN, start: Any, network: nn.Sequential, gain: float) -> BNN:
    """Return a start of learning noise that may vary, as the last outputs of a network, from a model of constant noise.

    It begins near that model's means, with a prior as wide as those of other starts: columns that say nothing about the
    mean, whose weights and prior have vanished, may say something about the noise.

    Args:
        best: the model of constant noise.
        start: parameters of `network` at a start.
        network: that of `best`, with twice as many outputs.
        gain: of the prior.
    """
    noise: Any = best.likelihood
    params, start = jax.device_get((best.posterior.params, start))  # NumPy has nothing to compile
    hidden = jax.tree.map(lambda own, new: own + new.astype(own.dtype), list(params[:-1]), list(start[:-1]))
    targets = len(params[-1]["bias"])
    outputs = {name: leaf.copy() for name, leaf in start[-1].items()}
    for name, leaf in outputs.items():
        leaf[:targets] = params[-1][name]
    outputs["bias"][targets:] = np.asarray(noise.log_std)
    likelihood = BoundedHeteroscedasticGaussian(noise.std, REACH)
    every = jax.device_put([*hidden, outputs])
    return bayesianize(network.apply, every, prior=fan_in(every, gain), likelihood=likelihood)
