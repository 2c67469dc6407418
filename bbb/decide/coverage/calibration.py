"""The scores of rows that were held out, and the bounds that they give to those of new rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bbb import checks, display
from bbb.decide.coverage.ranks import SLACK, bound, highest_level, least_rows
from bbb.errors import InputError, ShapeError, fail


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """The scores of calibration rows: how far each was from what the model predicted.

    Attributes:
        scores: (levels, n, ...), float64, the scores at each of `levels`; (1, n, ...) if they do not depend on it.
        levels: the levels that can be asked for, rising; empty for all.
        groups: (n,), the name of each row's group, whole numbers or words; None if all rows are one.
        weights: (n,), float64, the weight of each row; None for 1 each.
    """

    scores: np.ndarray
    levels: tuple[float, ...] = ()
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """The number of calibration rows."""
        return self.scores.shape[1]

    def highest_level(self) -> float:
        """Return the highest level that every group of rows allows, to a new row of weight 1."""
        return min(highest_level(self._total(rows)) for _, rows in self._groups())

    def check_level(self, level: Any) -> float:
        """Return a level as a float.

        Raises:
            InputError: if it is not inside (0, 1), is not one of `levels`, or is more than the rows of a group allow;
                with weights, what they allow depends on the weight of each new row.
        """
        level = checks.probability("level", level)
        if self.levels and level not in self.levels:
            known = ", ".join(f"{known:g}" for known in self.levels)
            do = 'Pass levels= with it to bbb.decide.conformal; with score="std", any level can be asked for.'
            fail(InputError, f"a level that was calibrated, of {known}", f"{level:g}", do)
        if self.weights is None:
            self.check_enough(level)
        return level

    def check_enough(self, level: float) -> None:
        """Raise for a level that needs more calibration rows, for new rows of weight 1.

        Raises:
            InputError: naming the group, its rows and the level they allow.
        """
        for name, rows in self._groups():
            total = self._total(rows)
            allowed = highest_level(total)
            if level * (1 - SLACK) > allowed:
                of = "" if name is None else f" of group {name}"
                do = f"Pass a level of at most {_rounded_down(allowed)}, or at least {least_rows(level):,} rows."
                fail(InputError, f"a level that {total:,.4g} calibration rows{of} allow", f"{level:g}", do)

    def bounds(self, level: float, rows: int, groups: Any = None, weights: Any = None) -> np.ndarray:
        """Return the bound of each new row's score, (rows, ...), which holds with a probability of at least `level`.

        With weights, it is infinite for a row whose weight is more than 1 − level of all weights.

        Args:
            level: one that `check_level` returned.
            rows: the number of new rows.
            groups: (rows,), the group of each; None if there are none.
            weights: (rows,), the weight of each; None for 1.

        Raises:
            InputError, ShapeError: for groups that are not those of the calibration rows, or weights that are none;
                for one of them without the calibration's, or the other way round.
        """
        _check_both("weights", self.weights, weights)
        _check_both("groups", self.groups, groups)
        new = np.ones(rows) if weights is None else row_weights(weights, rows)
        index = self.levels.index(level) if self.levels else 0
        flat = self.scores[index].reshape(self.rows, -1)
        found = np.empty((rows, flat.shape[1]))
        for of_new, of_scores in self._pairs(groups, rows):
            shares = None if self.weights is None else self.weights[of_scores]
            found[of_new] = bound(flat[of_scores], shares, new[of_new], level)
        return found.reshape(rows, *self.scores.shape[2:])

    def shown(self) -> list[tuple[str, str]]:
        """Return the rows that a calibrated model shows of its calibration."""
        levels = ", ".join(f"{level:g}" for level in self.levels) or f"up to {self.highest_level():.4g}"
        rows = [("calibration", display.counted(self.rows, "row")), ("levels", levels)]
        names = [] if self.groups is None else [str(name) for name in np.unique(self.groups)]
        return [*rows, ("groups", display.listed(names, ", "))] if names else rows

    def _groups(self) -> list[tuple[Any, Any]]:
        """Return the name of each group, and its rows."""
        if self.groups is None:
            return [(None, slice(None))]
        return [(name, self.groups == name) for name in np.unique(self.groups)]

    def _total(self, rows: Any) -> float:
        return float(np.sum(np.ones(self.rows)[rows] if self.weights is None else self.weights[rows]))

    def _pairs(self, groups: Any, rows: int) -> list[tuple[Any, Any]]:
        """Return which new rows belong to which calibration rows.

        Raises:
            InputError: for a group that has no calibration rows.
        """
        if groups is None:
            return [(slice(None), slice(None))]
        names, known = group_names(groups, rows), dict(self._groups())
        unknown = [name for name in np.unique(names).tolist() if name not in known]
        if unknown:
            do = "Calibrate with rows of every group, or leave these rows out."
            fail(InputError, f"groups among {_listed(list(known))}", f"{unknown[0]!r}", do)
        return [(names == name, of_scores) for name, of_scores in known.items()]


def _check_both(name: str, calibrated: Any, given: Any) -> None:
    """Raise for groups or weights of new rows without those of the calibration rows, or the other way round.

    Raises:
        InputError: naming them.
    """
    if calibrated is not None and given is None:
        fail(
            InputError, f"{name} of the new rows, as it was calibrated with {name}", "none", f"Pass {name}=, one a row."
        )
    if calibrated is None and given is not None:
        do = f"Calibrate with {name} too, or leave them out."
        fail(InputError, f"no {name}, as it was calibrated without {name}", "some", do)


def calibration_of(scores: np.ndarray, levels: Sequence[float], groups: Any, weights: Any) -> Calibration:
    """Return a calibration by scores, (levels or 1, n, ...), after checking that the rows suffice for the levels.

    Raises:
        InputError, ShapeError: for groups or weights that do not fit, or a level that needs more rows.
    """
    rows = scores.shape[1]
    names = None if groups is None else group_names(groups, rows)
    shares = None if weights is None else row_weights(weights, rows)
    if shares is not None and not shares.any():
        do = "Pass p_new(x)/p_calibration(x)."
        fail(InputError, "weights above 0 of at least one calibration row", "0 for all", do)
    found = Calibration(scores, tuple(levels), names, shares)
    for level in levels:
        found.check_level(level)
    return found


def row_weights(weights: Any, rows: int) -> np.ndarray:
    """Check weights of so many rows, and return them, (rows,) in float64.

    Raises:
        InputError: if one is negative or not finite.
        ShapeError: if they are not (rows,).
    """
    array = np.asarray(checks.real("weights", weights), np.float64)
    if array.shape != (rows,):
        fail(ShapeError, f"weights of shape ({rows},)", f"{array.shape}", "Pass one number for each row.")
    good = np.isfinite(array) & (array >= 0)
    if not good.all():
        at = int(np.argmin(good))
        do = "Pass p_new(x)/p_calibration(x), up to a common factor."
        fail(InputError, "weights to be finite and at least 0", f"{array[at]} at row {at}", do)
    return array


def group_names(groups: Any, rows: int) -> np.ndarray:
    """Check the names of the groups of so many rows, and return them, (rows,): whole numbers or words.

    Raises:
        InputError: if they are neither.
        ShapeError: if they are not (rows,).
    """
    checks.untraced("bbb.decide", groups=groups)
    array = np.asarray(groups)
    if array.dtype.kind == "O" and all(isinstance(name, str) for name in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "biuU":
        do = "Pass the name of each row's group, such as np.where(age < 40, 'young', 'old')."
        fail(InputError, "groups of whole numbers or words", f"an array of {array.dtype}", do)
    if array.shape != (rows,):
        fail(ShapeError, f"groups of shape ({rows},)", f"{array.shape}", "Pass one name for each row.")
    return array


def _rounded_down(level: float) -> str:
    """Return a level in four digits after the point that is allowed too."""
    return f"{np.floor(level * 1e4) / 1e4:g}"


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(repr(getattr(name, "item", lambda name=name: name)()) for name in names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")
