"""Intervals by cross-validation: every row is learned from, and each is scored by the model that did not see it."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.decide.coverage.ranks import highest_level, rank_of
from bbb.errors import InputError, ShapeError, fail
from bbb.predictive.summary import Interval

TILE_NUMBERS = 1 << 22
"""The numbers that are sorted at once, of all rows learned from and some new ones: 32 MiB."""


def jackknife_plus(
    means: ArrayLike, scores: ArrayLike, folds: ArrayLike, level: float, *, stds: ArrayLike | None = None
) -> Interval:
    """Return intervals of new rows, (rows, ...), by models of which each has left one fold out.

    With n folds of one row each this is the jackknife+, with fewer CV+. If all rows are exchangeable and training
    treats them alike, y of a new row is inside with a probability of at least 2·level − 1, whatever the distribution
    (of CV+, a little less than that: see the source), and in most cases of about the level.

    Args:
        means: (folds, rows, ...), the prediction at the new rows by the model without each fold.
        scores: (n, ...), of each row learned from by the model without its fold: `|y − mean|`, or with `stds` that in
            standard deviations.
        folds: (n,), the fold of each row, from 0.
        level: inside (0, 1), and at most n/(n + 1).
        stds: (folds, rows, ...), the standard deviation at the new rows by the model without each fold.

    Raises:
        InputError, ShapeError, NonFiniteInputError: for arrays that do not fit, a score or a std below 0, or a level
            that n rows do not allow.

    Source: Barber, Candès, Ramdas & Tibshirani 2021, arXiv 1905.02928, eq. 1.5, 3.2, theorems 1 and 4.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> y = np.array([1.0, 2.0, 4.0, 5.0])
        >>> means = np.array([[np.delete(y, i).mean()] for i in range(4)])  # without row i
        >>> scores = np.abs(y - means[:, 0])
        >>> interval = bbb.decide.jackknife_plus(means, scores, np.arange(4), 0.75)
        >>> interval.lower.round(2), interval.upper.round(2)
        (array([-0.33]), array([6.33]))
    """
    checks.untraced("jackknife_plus", means=means, scores=scores, folds=folds, stds=stds)
    centres, distances = _numbers("means", means), _numbers("scores", scores)
    of_row = _folds(folds, len(distances), len(centres))
    level = check_level(level, len(distances))
    _check_like("scores", distances.shape[1:], centres.shape[2:])
    if (distances < 0).any():
        fail(InputError, "scores of at least 0", f"{distances.min():g}", "Pass |y − mean|, or that in stds.")
    spreads = np.ones_like(centres) if stds is None else _numbers("stds", stds)
    _check_like("stds", spreads.shape, centres.shape)
    if (spreads < 0).any():
        fail(InputError, "stds of at least 0", f"{spreads.min():g}", "Pass standard deviations.")
    size = max(1, TILE_NUMBERS // max(1, distances.size))
    starts = range(0, centres.shape[1], size)
    parts = [_ends(centres[:, i : i + size], spreads[:, i : i + size], distances, of_row, level) for i in starts]
    return Interval(*(np.concatenate(ends) for ends in zip(*parts, strict=True)))


def check_level(level: Any, rows: int) -> float:
    """Return a level as a float, after checking that so many rows allow it.

    Raises:
        InputError: if it is not inside (0, 1), or more than n/(n + 1) for n rows.
    """
    level, allowed = checks.probability("level", level), highest_level(rows)
    if rank_of(level, rows) > rows:
        do = f"Pass a level of at most {np.floor(allowed * 1e4) / 1e4:g}, or more rows."
        fail(InputError, f"a level that {rows:,} rows allow", f"{level:g}", do)
    return level


def _ends(means: np.ndarray, stds: np.ndarray, scores: np.ndarray, folds: np.ndarray, level: float) -> Interval:
    """Return the ends for some new rows: the ⌊(1 − level)(n + 1)⌋-th smallest and ⌈level·(n + 1)⌉-th smallest of n."""
    n = len(scores)
    centres, reach = means[folds], scores[:, None] * stds[folds]
    rank = rank_of(level, n)
    lower = np.partition(centres - reach, n - rank, axis=0)[n - rank]
    return Interval(lower, np.partition(centres + reach, rank - 1, axis=0)[rank - 1])


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    return np.asarray(checks.rows(name, values), np.float64)


def _folds(folds: ArrayLike, rows: int, count: int) -> np.ndarray:
    array = np.asarray(checks.real("folds", folds))
    if array.shape != (rows,):
        fail(ShapeError, f"folds of shape ({rows},), as there are {rows} scores", f"{array.shape}", "Pass one a row.")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= count:
        fail(InputError, f"folds of whole numbers from 0 to {count - 1}", f"{array.tolist()[:5]}", "Number the models.")
    return array


def _check_like(name: str, shape: tuple[int, ...], like: tuple[int, ...]) -> None:
    if shape != like:
        fail(ShapeError, f"{name} to fit means, with {like}", f"{shape}", "Pass one for each mean.")
