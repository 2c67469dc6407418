"""The inputs of metrics: arrays of observations, draws and intervals, checked, in float64 and on the host."""

import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.errors import InputError, ShapeError, fail


def as_alike(**arrays: ArrayLike) -> list[np.ndarray]:
    """Return arrays of one shape in float64.

    Raises:
        ShapeError, InputError: if one has another shape than the first, no rows, or numbers that are not finite.
    """
    checks.untraced("bbb.metrics", "", **arrays)
    found = {name: np.asarray(checks.rows(name, value), np.float64) for name, value in arrays.items()}
    (first, like), *others = found.items()
    for name, array in others:
        if array.shape != like.shape:
            do = "Bring both to one shape: arrays would be broadcast against each other, row by row."
            fail(ShapeError, f"{name} of the shape {like.shape} of {first}", f"{array.shape}", do)
    return list(found.values())


def as_columns(**arrays: ArrayLike) -> list[np.ndarray]:
    """Return arrays of one shape (rows,) in float64.

    Raises:
        ShapeError, InputError: if one is of another shape, has no rows, or numbers that are not finite.
    """
    for name, array in arrays.items():
        (found,) = as_alike(**{name: array})
        if found.ndim != 1:
            do = f"Pass {name}[:, 0]." if found.shape[1:] == (1,) else "Pass one number for each row."
            fail(ShapeError, f"{name} of shape (rows,)", f"{found.shape}", do)
    return as_alike(**arrays)


def as_draws(y: ArrayLike, draws: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return y and draws of it in float64.

    Raises:
        ShapeError, InputError: if the draws are not (draws, *y's shape), or a number is not finite.
    """
    (y,), (draws,) = as_alike(y=y), as_alike(draws=draws)
    if draws.shape[1:] != y.shape:
        expected = f"draws of shape (draws, {', '.join(map(str, y.shape))}), for y of shape {y.shape}"
        fail(ShapeError, expected, f"{draws.shape}", "Pass draws of y, with the draws on the first axis.")
    return y, draws


def mean_over_rows(values: np.ndarray, sample_weight: ArrayLike | None) -> np.ndarray:
    """Return the mean of (rows, ...) over rows, (...), each counting as often as its weight says; None for once.

    Raises:
        ShapeError, InputError: for weights that are not finite numbers of at least 0, one for each row, or all 0.
    """
    if sample_weight is None:
        return np.mean(values, axis=0)
    return np.average(values, axis=0, weights=as_weights(sample_weight, len(values)))


def median_of(values: np.ndarray, counts: np.ndarray | None) -> float:
    """Return the median of numbers, (n,), that are there so many times, (n,), more than 0 in all; None for once."""
    if counts is None:
        return float(np.median(values))
    order = np.argsort(values)
    upto = np.cumsum(counts[order])
    low, high = (np.searchsorted(upto, upto[-1] / 2, side) for side in ("left", "right"))
    return float(np.mean(values[order][[low, high]]))


def as_weights(sample_weight: ArrayLike, rows: int) -> np.ndarray:
    """Return the weights of so many rows in float64.

    Raises:
        ShapeError, InputError: if they are not finite numbers of at least 0, one for each row, or all 0.
    """
    checks.untraced("bbb.metrics", "", sample_weight=sample_weight)
    return np.asarray(checks.row_weights(sample_weight, rows))


def check_ends(lower: np.ndarray, upper: np.ndarray) -> None:
    """Check that no lower end of an interval is above its upper end.

    Raises:
        InputError: naming the first one.
    """
    if (lower > upper).any():
        at = tuple(map(int, np.argwhere(lower > upper)[0]))
        got = f"{lower[at]:g} above {upper[at]:g} at index {at}"
        fail(InputError, "lower ends at most as high as upper ends", got, "Pass lower before upper.")


def unit_interval(name: str, values: ArrayLike) -> np.ndarray:
    """Return numbers inside [0, 1] as an array of float64.

    Raises:
        InputError: if one is outside.
    """
    (array,) = as_alike(**{name: values})
    wrong = array[(array < 0) | (array > 1)]
    if len(wrong):
        fail(InputError, f"{name} inside [0, 1]", f"{wrong[0]:g}", "Pass probabilities, not logits.")
    return array


def rising_levels(name: str, levels: ArrayLike) -> np.ndarray:
    """Return levels inside (0, 1), one or more in rising order, as an array.

    Raises:
        InputError: if they are not.
    """
    array = np.array(checks.levels(name, levels), np.float64)
    if array.size == 0 or (np.diff(array) <= 0).any():
        do = "Pass for example (0.5, 0.9, 0.95)."
        fail(InputError, f"{name} in rising order, at least one", f"{array.tolist()}", do)
    return array
