"""Scores of numbers, and the interval of all y whose score is at most a bound.

| score      | of a row                  | its interval           | Source                                       |
|------------|---------------------------|------------------------|----------------------------------------------|
| "quantile" | max(lower − y, y − upper) | [lower − q, upper + q] | Romano et al. 2019, arXiv 1905.03222, eq. 6  |
| "std"      | abs(y − mean)/std         | mean ± q·std           | Lei et al. 2018, arXiv 1604.04173, §5.2      |

Ends are moved outwards by a few units of rounding of the dtype of the predictions, so that a y that lies on one is
inside: where y takes few values, as counts do, that is no rare case.
"""

from typing import Any

import numpy as np

from bbb.predictive.summary import Interval

QUANTILE, STD = "quantile", "std"
"""The words of the scores."""

ROUNDING = 8
"""The units of rounding by which an end is moved, relative to the numbers that it is computed from."""


def quantile_scores(y: np.ndarray, interval: Interval) -> np.ndarray:
    """Return how far y is outside of an interval, below 0 inside of it, in units of y, (rows, ...)."""
    lower, upper, y = (np.asarray(array, np.float64) for array in (*interval, y))
    return np.maximum(lower - y, y - upper)


def std_scores(y: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return the distance of y from the mean in standard deviations, (rows, ...)."""
    return np.abs(np.asarray(y, np.float64) - mean) / _positive(std)


def around_quantiles(interval: Interval, bounds: np.ndarray) -> Interval:
    """Return all y whose `quantile_scores` are at most `bounds`, (rows, ...); the middle where there are none."""
    lower, upper = (np.asarray(end, np.float64) for end in interval)
    slack = _slack(interval[0], np.abs(lower) + np.abs(upper), np.abs(bounds))
    return _in_order(lower - bounds - slack, upper + bounds + slack, (lower + upper) / 2)


def around_mean(mean: np.ndarray, std: np.ndarray, bounds: np.ndarray) -> Interval:
    """Return all y whose `std_scores` are at most `bounds`, (rows, ...)."""
    centre, reach = np.asarray(mean, np.float64), bounds * _positive(std)
    slack = _slack(mean, np.abs(centre), reach)
    return Interval(centre - reach - slack, centre + reach + slack)


def whole(interval: Interval) -> Interval:
    """Return the whole numbers from 0 inside an interval, by the first and the last: what counts can be.

    Where there is none, the interval is that of the nearest one.
    """
    lower, upper = np.maximum(np.ceil(interval.lower), 0), np.maximum(np.floor(interval.upper), 0)
    return _in_order(lower, upper, upper)


def _slack(like: np.ndarray, size: np.ndarray, reach: np.ndarray) -> np.ndarray:
    return ROUNDING * np.finfo(like.dtype).eps * (size + np.where(np.isfinite(reach), reach, 0.0))


def _in_order(lower: np.ndarray, upper: np.ndarray, middle: np.ndarray) -> Interval:
    crossed = lower > upper
    return Interval(np.where(crossed, middle, lower), np.where(crossed, middle, upper))


def _positive(std: Any) -> np.ndarray:
    return np.maximum(np.asarray(std, np.float64), np.finfo(np.float64).tiny)
