"""Which calibration score bounds a new one: the quantile of split conformal prediction, in finite samples.

If n calibration scores and a new one are exchangeable, the new one is at most the ⌈level·(n + 1)⌉-th smallest of the n
with a probability of at least the level, whatever the distribution (Vovk, Gammerman & Shafer 2005, "Algorithmic
Learning in a Random World", §4.2). With weights that are likelihood ratios of x, the same holds of the weighted
distribution of the scores with an infinite one, of the new row's weight, among them (Tibshirani et al. 2019,
arXiv 1904.06019, theorem 2 and corollary 1). Weights of 1 give back the first.
"""

import math

import numpy as np

SLACK = 1e-12
"""The share by which a rank may miss a whole number by rounding: 0.58·100 is below 58 in floating point."""


def rank_of(level: float, count: int) -> int:
    """Return ⌈level·(count + 1)⌉: which of so many sorted scores, from 1, bounds a new one. `count` + 1 is none."""
    return math.ceil(level * (count + 1) * (1 - SLACK))


def highest_level(total: float, new: float = 1.0) -> float:
    """Return the highest level for which scores of this total weight have a finite bound of one of weight `new`."""
    return total / (total + new)


def least_rows(level: float) -> int:
    """Return the least number of calibration rows that a level needs."""
    return math.ceil(level / (1 - level) * (1 - SLACK))


def bound(scores: np.ndarray, weights: np.ndarray | None, new: np.ndarray, level: float) -> np.ndarray:
    """Return the bound of the score of each new row: infinite where its weight is above 1 − level of all weights.

    Args:
        scores: (n, k), the calibration scores of k quantities.
        weights: (n,), at least 0; None for 1 each.
        new: (rows,), the weights of the new rows.
        level: the probability with which each new score is at most its bound.

    Returns:
        (rows, k).
    """
    each, of_row = np.unique(new, return_inverse=True)
    order = np.argsort(scores, axis=0)
    shares = np.ones(len(scores)) if weights is None else weights
    upto = np.cumsum(shares[order], axis=0)
    rising = np.vstack([np.take_along_axis(scores, order, axis=0), np.full((1, scores.shape[1]), np.inf)])
    found = np.empty((len(each), scores.shape[1]))
    for j in range(scores.shape[1]):
        needed = level * (upto[-1, j] + each) * (1 - SLACK)
        found[:, j] = rising[np.searchsorted(upto[:, j], needed), j]
    return found[of_row]
