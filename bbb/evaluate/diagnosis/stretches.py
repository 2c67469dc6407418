"""Where the rows of a data set leave a wide stretch empty, and points in the middle of it."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SIDE, DISTINCT, NEIGHBOURS, WIDER, POINTS, MOST = 0.1, 30, 10, 3.0, 16, 3
"""The share of the rows on either side of a stretch, at least; how many different values a direction has, at least; how
many of them on either side, at least, say how far apart they are there; how many times as wide a stretch is as the
widest that chance leaves; points in each stretch; and how many stretches."""


MOST_BESIDE = 64
"""About how many rows stand for all of them."""


MAX_COLUMNS, AXES = 32, 8
"""How many columns, and principal axes of all of them, are looked along."""


class Stretch(NamedTuple):
    """A stretch without rows between two groups of rows.

    Attributes:
        where: its direction and its ends, such as "for x[:, 2] from -0.5 to 0.5".
        points: (POINTS, columns), each in the middle of it, between a row on one side and one on the other.
        beside: (rows, columns), some of all rows.
        wider: how many times as wide it is as the widest stretch that chance leaves.
    """

    where: str
    points: np.ndarray
    beside: np.ndarray
    wider: float


def empty_stretches(x: np.ndarray) -> list[Stretch]:
    """Return the widest empty stretches of rows x, (rows, columns), at most `MOST`; the widest first.

    Each direction is a column, or a principal axis of the standardised columns, which finds clusters along a diagonal.
    Of n values that are spread evenly, the widest stretch between neighbours is about log n times as wide as the mean:
    one of `WIDER` times that, with enough rows on either side, is no chance. The mean is that nearby, on the side where
    it is larger, as rows lie further apart in the tail of a distribution.
    """
    found = [stretch for direction in _directions(x) if (stretch := _widest(x, *direction)) is not None]
    return sorted(found, key=lambda stretch: -stretch.wider)[:MOST]


def _directions(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the names of directions, and the values of all rows along them, (rows,)."""
    for j, column in enumerate(x.T[:MAX_COLUMNS]):
        yield f"x[:, {j}]", column
    std = np.std(x, axis=0)
    if x.shape[1] > 1 and len(x) > 1 and np.isfinite(std).all():
        units = (x - np.mean(x, axis=0)) / np.where(std > 0, std, 1)
        values, axes = np.linalg.eigh(units.T @ units / len(x))
        for k in range(min(AXES, int(np.sum(values > 1e-6 * values[-1])))):
            yield f"principal axis {k + 1} of the standardised columns", units @ axes[:, -1 - k]


def _widest(x: np.ndarray, name: str, along: np.ndarray) -> Stretch | None:
    """Return the widest empty stretch of one direction with rows on either side; None if it may be chance."""
    n, values = len(along), np.unique(along)
    if len(values) < DISTINCT:
        return None
    order = np.argsort(along, kind="stable")
    upto = np.searchsorted(along[order], values[:-1], side="right")  # the rows below each stretch
    wider = np.diff(values) / (_spacing(values) * math.log(len(values)))
    wider = np.where(np.minimum(upto, n - upto) >= SIDE * n, wider, 0)
    at = int(np.argmax(wider))
    if wider[at] < WIDER:
        return None
    middle, points = (values[at] + values[at + 1]) / 2, []
    for i in range(POINTS):
        below, above = order[max(upto[at] - 1 - i, 0)], order[min(upto[at] + i, n - 1)]
        share = (middle - along[below]) / (along[above] - along[below])
        points.append((1 - share) * x[below] + share * x[above])
    where = f"for {name} from {values[at]:.3g} to {values[at + 1]:.3g}"
    return Stretch(where, np.stack(points), x[order[:: math.ceil(n / MOST_BESIDE)]], float(wider[at]))


def _spacing(values: np.ndarray) -> np.ndarray:
    """Return the mean distance between values near each stretch, on the side where it is larger: (values - 1,)."""
    last, near = len(values) - 1, max(NEIGHBOURS, math.ceil(SIDE * len(values)))
    i = np.arange(last)
    left, right = np.maximum(i - near, 0), np.minimum(i + 1 + near, last)
    below = (values[i] - values[left]) / np.maximum(i - left, 1)
    above = (values[right] - values[i + 1]) / np.maximum(right - i - 1, 1)
    return np.maximum(np.maximum(below, above), np.finfo(float).tiny)
