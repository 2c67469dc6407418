"""Rows that an estimator holds out of its training, so that its intervals or sets hold the level promised."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples

from bbb import checks
from bbb.decide.coverage.calibration import Calibration, calibration_of
from bbb.errors import InputError, fail
from bbb.sklearn.weights import row_weights
from bbb.train.data.rows import count_held


class Split(NamedTuple):
    """Which rows are held out, and which are learned from.

    Attributes:
        to_learn: (rows,), what each row counts for in training, 0 of those held out; None for 1 each.
        held: (rows,), bool, the rows that are held out and count for something; None if none are to be held out.
        weights: (held,), what each of these counts for; None for 1 each.
    """

    to_learn: Any
    held: np.ndarray | None = None
    weights: np.ndarray | None = None

    def held_of(self, values: np.ndarray) -> np.ndarray:
        """Return the values of the rows that are held out."""
        return values[:0] if self.held is None else values[self.held]

    def calibrated(self, scores: Callable[..., np.ndarray], X: np.ndarray, y: np.ndarray) -> Calibration | None:
        """Return the calibration by the scores of the rows held out, a function of their X and y."""
        if self.held is None:
            return None
        return calibration_of(scores(X[self.held], y[self.held])[None], (), None, self.weights)


def split_of(estimator: Any, X: Any, sample_weight: Any, goes_on: bool) -> Split:
    """Return which rows of X to hold out: the share `calibrate` of them, at random.

    Raises:
        InputError: if `calibrate` is no share, or one of all rows or of none that counts, or training goes on from rows
            that may be among those held out.
    """
    if estimator.calibrate is None:
        return Split(sample_weight)
    share = checks.probability("calibrate", estimator.calibrate, 0.2)
    if goes_on:
        expected = "calibrate=None with warm_start, which goes on from rows that may be held out now"
        fail(InputError, expected, f"{share:g}", "Set warm_start=False, or calibrate=None.")
    rows = _num_samples(X)
    held = np.zeros(rows, bool)
    held[check_random_state(estimator.random_state).permutation(rows)[: count_held(share, rows)]] = True
    weights = row_weights(sample_weight, rows)
    counts = np.ones(rows) if weights is None else weights
    if not (counts[held].any() and counts[~held].any()):
        do = "Pass another share, or more rows."
        fail(InputError, "calibrate to leave rows that count on both sides", f"{held.sum()} of {rows} held out", do)
    kept = held & (counts > 0)
    return Split(np.where(held, 0.0, counts), kept, None if weights is None else weights[kept])


def check_none(estimator: Any) -> None:
    """Check that no rows are to be held out, as for an update: rows held out before may be among those learned now.

    Raises:
        InputError: if some are.
    """
    if estimator.calibrate is not None:
        do = "Pass calibrate=None; after the last call, bbb.decide.conformal calibrates estimator.model_."
        fail(InputError, "calibrate=None for partial_fit", repr(estimator.calibrate), do)


def bounds_of(calibration: Calibration, coverage: float, rows: int) -> np.ndarray:
    """Return the bound of the score of each of so many new rows, (rows, ...)."""
    return calibration.bounds(coverage, rows, weights=None if calibration.weights is None else np.ones(rows))
