"""What chance allows: how far a share of some rows may be from its probability."""

from typing import NamedTuple

import numpy as np

from bbb.decide.coverage.ranks import rank_of


class Range(NamedTuple):
    """The two ends of a range of shares."""

    lower: float
    upper: float


def of_share(hits: int, rows: int) -> Range:
    """Return the range of the probability that a share of rows was drawn with, which holds it in 95 % of cases or more.

    Source: Clopper and Pearson 1934, Biometrika 26, 404.
    """
    from scipy.stats import binomtest  # noqa: PLC0415 - heavy, and `import bbb` is light

    found = binomtest(int(hits), int(rows)).proportion_ci(0.95, method="exact")
    return Range(float(found.low), float(found.high))


def around(probability: float, rows: int, calibration: int | None = None) -> Range:
    """Return the range that a share of rows is in with a probability of at least 95 %, if they are independent.

    Of intervals that were calibrated by so many rows, the coverage itself is a draw from a beta distribution (Vovk
    2012, arXiv:1209.2673, proposition 2), and the rows inside are beta-binomial.
    """
    from scipy.stats import betabinom, binom  # noqa: PLC0415 - heavy, and `import bbb` is light

    probability = min(max(probability, 0.0), 1.0)
    drawn = binom(int(rows), probability)
    if calibration is not None:
        rank = min(rank_of(probability, calibration), calibration)
        drawn = betabinom(int(rows), rank, calibration + 1 - rank)
    lower, upper = drawn.interval(0.95)
    return Range(max(float(lower), 0.0) / rows, float(upper) / rows)


def of_probabilities(probabilities: np.ndarray) -> Range:
    """Return the range that a share of rows is in with a probability of at least 95 %, each drawn with its own."""
    masses = _masses(np.clip(np.asarray(probabilities, float), 0.0, 1.0))
    below = np.cumsum(masses)
    ends = (np.searchsorted(below, share) for share in (0.025, 0.975))  # the least count with so much at or below it
    return Range(*(min(int(end), len(probabilities)) / len(probabilities) for end in ends))


def _masses(probabilities: np.ndarray) -> np.ndarray:
    """Return the probability of each number of successes, from 0: the product of (1 − p) + p z, pair by pair."""
    from scipy.signal import fftconvolve  # noqa: PLC0415 - heavy, and `import bbb` is light

    padded = np.zeros(1 << max(len(probabilities) - 1, 0).bit_length())
    padded[: len(probabilities)] = probabilities
    parts = np.stack([1 - padded, padded], 1)
    while len(parts) > 1:
        parts = fftconvolve(parts[::2], parts[1::2], axes=1)
    return np.maximum(parts[0], 0.0)


def verdict(share: float, allowed: Range) -> str:
    """Return whether a share is within a range, in words."""
    if share < allowed.lower:
        return "below what chance allows"
    return "above what chance allows" if share > allowed.upper else "within what chance allows"
