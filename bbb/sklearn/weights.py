"""What a row counts for: weights of rows and of classes, and equal rows put together."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bbb import checks
from bbb.core.tiles import rounded_up
from bbb.errors import InputError, fail, short_repr

BALANCED = "balanced"


class Rows(NamedTuple):
    """Rows to learn from.

    Attributes:
        X: (rows, columns).
        y: (rows,) or (rows, targets).
        counts: (rows,), how many times each is there, which need not be a whole number; None if each is there once.
        weights: (rows,), what multiplies the log density of each: `counts`, or that times the weight of its class.
    """

    X: np.ndarray
    y: np.ndarray
    counts: np.ndarray | None
    weights: np.ndarray | None

    @property
    def total(self) -> float:
        """The number of rows that were given: the sum of their counts."""
        total = float(len(self.X) if self.counts is None else self.counts.sum())
        return int(total) if total.is_integer() else total

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of values, (rows, ...), over the rows that were given."""
        return np.average(values, axis=0, weights=self.counts)

    def times(self, factors: np.ndarray | None) -> "Rows":
        """Return the rows with weights that are `factors`, (rows,), times as large."""
        if factors is None:
            return self
        return self._replace(weights=factors if self.counts is None else self.counts * factors)


def row_weights(sample_weight: Any, rows: int) -> np.ndarray | None:
    """Check weights of rows, and return them, (rows,) in float64; None for no weights.

    Raises:
        InputError: if one is negative or not finite, or all are zero.
        ShapeError: if they are not (rows,).
    """
    if sample_weight is None:
        return None
    checks.untraced("the estimators", sample_weight=sample_weight)
    weights = np.asarray(checks.row_weights(sample_weight, rows, of_batch=True))
    if not weights.any():  # in the words that scikit-learn's checks ask for
        expected, do = "sample_weight above 0 of at least one row", "Pass how often each row counts."
        fail(InputError, expected, "a weight of zero for all", do)
    return weights


def present(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> tuple[Any, Any, Any]:
    """Return the rows of weight above 0, and their weights."""
    return (X, y, None) if weights is None else (X[weights > 0], y[weights > 0], weights[weights > 0])


def counted(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Rows:
    """Return the rows that count, equal ones as one with the sum of their weights.

    Rows of weight 0 are left out. Unless all that remain are different and count once, they come in an order of their
    own: a row of weight 2 and the row twice lead to the same numbers, bit for bit, and so does every order.
    """
    X, y, weights = present(np.ascontiguousarray(X), np.ascontiguousarray(y), weights)  # sums round by the order there
    first, of_row = _distinct(np.ascontiguousarray(np.column_stack([X, y]) + 0.0, np.float64))  # −0 + 0 is 0
    if len(first) == len(X) and (weights is None or (weights == 1).all()):
        return Rows(X, y, None, None)
    counts = np.bincount(of_row, weights).astype(np.float64)
    return Rows(X[first], y[first], counts, counts)


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first place of each distinct row, and which of these each row is, in an order of the rows alone.

    They are told apart by 64 bits for each, which are sorted fast, and by all their bytes where rows that differ have
    the same.
    """
    _, first, of_row = np.unique(_fingerprints(values), return_index=True, return_inverse=True)
    if len(first) < len(values) and not (values[first][of_row] == values).all():
        rows = values.view(np.dtype((np.void, values.shape[1] * values.itemsize)))[:, 0]
        _, first, of_row = np.unique(rows, return_index=True, return_inverse=True)
    return first, of_row


def _fingerprints(values: np.ndarray) -> np.ndarray:
    """Return 64 bits for each row: those of its numbers, mixed by an odd factor and a shift after each."""
    mixed = np.zeros(len(values), np.uint64)
    for bits in values.view(np.uint64).T:
        mixed = (mixed ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def padded(rows: Rows) -> Rows:
    """Return rows with weights, and copies of weight 0 up to one of a few numbers of rows.

    Folds differ by a row, and each bootstrap has a number of its own, as equal rows are put together: without the
    copies, the programs of a training by the evidence, or of chains, would be compiled for every one of them.
    """
    count = len(rows.X)
    index = np.arange(rounded_up(count)) % count
    weights = np.zeros(len(index))
    weights[:count] = 1 if rows.weights is None else rows.weights
    return Rows(rows.X[index], rows.y[index], weights, weights)


def class_factors(class_weight: Any, classes: np.ndarray, rows: Rows) -> np.ndarray | None:
    """Return the weight of each row's class, (rows,), None for 1 each; `rows.y` holds indices of `classes`.

    "balanced" gives n/(K·n_k) to class k of K, where n_k of n rows are of it: each class then counts for as much as
    every other, and all for as much as without weights.

    Raises:
        InputError: for what is neither None, "balanced" nor numbers above 0 by class.

    Source: King and Zeng 2001, "Logistic regression in rare events data", Political Analysis 9, 137, §4.2, for equal
    shares of the classes.
    """
    if class_weight is None:
        return None
    if checks.is_word(class_weight, (BALANCED,)):
        sizes = np.bincount(rows.y, rows.counts, minlength=len(classes))
        of_class = np.divide(rows.total, np.sum(sizes > 0) * sizes, out=np.ones(len(classes)), where=sizes > 0)
    else:
        check_by_class(class_weight, classes)
        of_class = np.array([float(class_weight.get(label, 1)) for label in classes.tolist()])
    return of_class[rows.y]


def check_by_class(class_weight: Any, classes: np.ndarray) -> None:
    """Raise for what is not a number above 0 for each of some classes.

    Raises:
        InputError: naming the class.
    """
    if not isinstance(class_weight, Mapping):
        expected, do = 'class_weight to be None, "balanced" or a dict', 'Pass for example {"a": 2.0}, by label.'
        fail(InputError, expected, short_repr(class_weight), do)
    for label, weight in class_weight.items():
        if label not in classes.tolist():
            known = ", ".join(map(repr, classes[:10].tolist())) + (", …" if len(classes) > 10 else "")
            fail(InputError, f"class_weight of the classes {known}", repr(label), "Pass weights by label.")
        checks.one_number(f"class_weight of {label!r}", weight)
