"""Pareto-smoothed importance sampling by ArviZ: log weights smoothed, and the shape k of their tail."""

import importlib
import math
from typing import Any

import numpy as np

from bbb.core.process import process
from bbb.errors import InputError, fail

GOOD, BAD = 0.5, 0.7
"""Below the first, weights have a variance; above the second, no sum of them can be trusted.

Source: Vehtari et al. 2024, arXiv 1507.02646, §3.2.
"""


ALIKE = 1e-3
"""Nats by which log weights may differ where they are taken for equal: rounding leaves as much of some thousand
weights in float32, and the tail of it has a shape that means nothing."""


def arviz() -> Any:
    """Return ArviZ's functions of arrays.

    Raises:
        InputError: if the package is not installed.
    """
    process()
    try:
        return importlib.import_module("arviz_stats.base").array_stats
    except ImportError:
        do = "Run pip install arviz-stats; or, in a clone of bbb, pip install '.[arviz]'."
        fail(InputError, "the package arviz-stats", "an environment without it", do)


def smoothed(log_ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return smoothed and normalised log weights, (rows, draws), and the shape k of the tail of each row, (rows,).

    The weights of a row sum to 1. Where the largest are all alike there is no tail to smooth, and k is 0.

    Source: Vehtari et al. 2024, arXiv 1507.02646.
    """
    logs = np.array(log_ratios, np.float64)
    draws, shapes = logs.shape[1], np.zeros(len(logs))
    largest = np.partition(logs, draws - _tail(draws), axis=1)[:, draws - _tail(draws) :]
    tailed = np.ptp(largest, axis=1) >= ALIKE
    if tailed.any():  # of the others ArviZ raises
        logs[tailed], shapes[tailed] = arviz().psislw(-logs[tailed], axis=-1)  # which takes minus the log ratios
    return logs - log_sum(logs)[:, None], shapes


def _tail(draws: int) -> int:
    """Return how many of the largest weights are the tail: Vehtari et al. 2024, arXiv 1507.02646, §6.1."""
    return math.ceil(min(draws / 5, 3 * math.sqrt(draws)))


def log_sum(logs: np.ndarray) -> np.ndarray:
    """Return log Σ exp over the last axis, without overflow."""
    highest = np.max(logs, axis=-1, keepdims=True)
    return (highest + np.log(np.sum(np.exp(logs - highest), axis=-1, keepdims=True)))[..., 0]
