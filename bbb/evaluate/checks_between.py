"""The check of `bbb.diagnose` on what lies between groups of rows: wide stretches without any are looked for first."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bbb.curvature.api import laplace
from bbb.curvature.choice import check_parts, structure_for
from bbb.errors import BBBError
from bbb.evaluate.case import Case, Finding, Skipped
from bbb.model import BNN
from bbb.predictive.api import predict

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


SURER = 2.0
"""How many times more the spread of a Laplace posterior must grow from the rows into a stretch without rows."""


MAX_ROWS, DRAWS, MEMORY = 500, 200, "512MB"
"""Most rows that the Laplace posterior is of, draws that spreads are seen by, and its memory."""


NAME = "too sure between the data"


def too_sure_between(case: Case) -> Finding | Skipped | None:
    """Return a finding for a function that is much surer between groups of rows than the curvature of the data is.

    The yardstick is the linearised Laplace posterior at the same means; of an ensemble, that of its first member. Its
    spread and the model's differ at the rows, where that of independent Gaussians is too wide: what counts is how much
    each grows from the rows into the stretch.

    Source: Foong et al. 2020, arXiv 1909.00719.
    """
    posterior: Any = case.model.posterior.component(0)
    if case.model.linearized and not getattr(posterior, "factorises", True):  # it is such a yardstick itself
        return None
    if case.x.ndim != 2 or not jnp.issubdtype(case.x.dtype, jnp.floating):
        return None
    stretches = empty_stretches(np.asarray(case.x, np.float64))
    if not stretches:
        return None
    try:
        wide = _yardstick(case)
    except BBBError as error:
        return Skipped(NAME, str(error))
    shares = [_growth(case, wide, stretch) / _growth(case, case.model, stretch) for stretch in stretches]
    worst = int(np.argmax(shares))
    if not shares[worst] > SURER:
        return None
    seen = (
        f"there are no rows {stretches[worst].where}, and into there the sd of f grows {shares[worst]:.2g} times as "
        "much in a Laplace posterior of the same means"
    )
    advice = "Use bbb.laplace(key, model, x, y), or train with posterior='laplace'; of bbb fit, --posterior laplace."
    return Finding(NAME, seen, advice)


def _yardstick(case: Case) -> BNN:
    """Return the first member with a Laplace posterior, of some of the rows from their first to their last.

    Raises:
        BBBError: if it can have none.
    """
    member = case.model.member(0)
    check_parts(member, "a Laplace posterior")
    some = np.unique(np.linspace(0, len(case.y) - 1, min(len(case.y), MAX_ROWS)).round().astype(int))
    x, y = case.x[some], jnp.asarray(case.y[some])
    return laplace(case.key, member, x, y, structure=structure_for(member, x, MEMORY), memory=MEMORY)


def _growth(case: Case, model: BNN, stretch: Stretch) -> float:
    """Return how many times as large the standard deviation of f is in a stretch as at rows on either side of it."""
    x = jnp.asarray(np.concatenate([stretch.points, stretch.beside]), case.x.dtype)
    std = np.asarray(predict(case.key, model, x, draws=DRAWS, rows=case.rows).f.std, np.float64)
    between, beside = np.split(std, [len(stretch.points)])
    return float(np.median(between) / max(float(np.median(beside)), np.finfo(std.dtype).tiny))
