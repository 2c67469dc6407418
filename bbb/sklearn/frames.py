"""Rows of pandas, polars and of arrays as numbers: columns of words and dates are encoded, as those of `bbb.tables`."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, check_X_y, validate_data

from bbb import checks
from bbb.errors import InputError, NonFiniteInputError, fail
from bbb.sklearn.weights import row_weights
from bbb.tables.encoding import IGNORE, MISSING, REFUSE, UNKNOWN, Encoding
from bbb.tables.frames import as_table, extra, kinds_of
from bbb.tables.table import ANY, DATE, WORDS, Table, listed


def validated(estimator: Any, *data: Any, reset: bool, sample_weight: Any = None, **how: Any) -> Any:
    """Check rows X, or X and y, as scikit-learn does, and return them as numbers.

    Arrays and frames of numbers are returned as they are, unless missing values are filled in. The columns of other
    frames are encoded: with `reset`, rows to fit, by an encoding learned from those that count, which becomes
    `estimator.encoding_`, else by that one. Traced and masked arrays, which scikit-learn cannot handle, are refused.

    Raises:
        InputError: if an array is traced or masked, or a column of a frame is not of finite numbers, by its name.
        TableError: an InputError, as `Encoding.learned` and `Encoding.encode` raise it.
        ValueError, TypeError: as `sklearn.utils.validation.validate_data` does.
    """
    given = dict(zip(("X", "y"), data, strict=False))
    checks.outside(type(estimator).__name__, **given)
    for name, values in given.items():
        checks.unmasked(name, values)
    if reset:
        checks.word("missing", estimator.missing, MISSING)
        checks.word("unknown", estimator.unknown, UNKNOWN)
    table = _table(estimator, data[0], reset)
    if table is not None:
        return _encoded(estimator, table, *data[1:], reset=reset, sample_weight=sample_weight, **how)
    found = _numbers(estimator, *data, reset=reset, **how)
    if reset:
        estimator.encoding_ = None
    return found


def _table(estimator: Any, X: Any, reset: bool) -> Table | None:
    """Return the table of rows whose columns are encoded; None for numbers that stay what they are."""
    if reset:
        kinds = {} if isinstance(X, np.ndarray) else kinds_of(X) or {}
        wanted: Any = ANY
    elif estimator.encoding_ is None:
        return None
    else:
        kinds = wanted = estimator.encoding_.kinds
    if WORDS in kinds.values() or DATE in kinds.values():
        table = _of_frame(estimator, X, wanted, reset)
    elif reset and estimator.missing == REFUSE:
        return None
    else:
        x = _numbers(estimator, X, reset=reset, ensure_all_finite=False)
        table = Table("X", tuple(getattr(estimator, "feature_names_in_", [f"x{i}" for i in range(x.shape[1])])), x)
    return dataclasses.replace(table, in_python=True)


def _numbers(estimator: Any, *data: Any, ensure_all_finite: bool = True, **how: Any) -> Any:
    """Check X, or X and y, of numbers, as scikit-learn does; columns of a frame that are none are named."""
    try:
        return validate_data(estimator, *data, dtype=np.float64, ensure_all_finite=ensure_all_finite, **how)
    except (ValueError, TypeError):
        _refuse_by_column(data[0], ensure_all_finite)
        raise


def _of_frame(estimator: Any, X: Any, kinds: Any, reset: bool) -> Table:
    """Return the table of a frame whose columns are of some kinds."""
    if kinds_of(X) is None:
        extra("narwhals", "take columns of words or dates")
        expected = f"a frame of {_listed(list(kinds))}, as in fit"
        fail(InputError, expected, f"a {type(X).__name__}", "Pass a frame of pandas or polars.")
    validate_data(estimator, X, reset=reset, skip_check_array=True)  # the number of columns, and their names
    return as_table(X, name="X", kinds=kinds)


def _encoded(estimator: Any, table: Table, *y: Any, reset: bool, sample_weight: Any, **how: Any) -> Any:
    """Return the columns of a table as numbers, and y checked as scikit-learn does."""
    if reset:
        check_consistent_length(table.values, *y)
        weights = row_weights(sample_weight, table.rows)
        encoding = Encoding.learned(table, table.names, estimator.missing, counts=weights, constant=True)
    else:
        encoding = estimator.encoding_
    x = encoding.encode(table, IGNORE if reset else estimator.unknown)  # of rows to fit, those of weight 0 alone
    found: Any = check_X_y(x, *y, estimator=estimator, **how) if y else check_array(x, estimator=estimator)
    if reset:
        estimator.encoding_ = encoding
    return found


def _refuse_by_column(X: Any, finite: bool) -> None:
    """Raise for a frame with columns of what is no number or, if asked for, no finite one; other arrays pass.

    Raises:
        InputError: if a column is not of numbers.
        NonFiniteInputError: if a column has NaN or infinity.
    """
    words, gaps = [], []
    for name, values in _columns(X):
        numbers = _as_floats(values)
        if numbers is None:
            words.append(name)
        elif finite and not np.isfinite(numbers).all():
            gaps.append(name)
    if words:
        extra("narwhals", "take columns of words or dates")
        do = "Encode them in a pipeline, such as by sklearn.preprocessing.OneHotEncoder, or leave them out."
        fail(InputError, "numbers in every column of X", f"something else in {_listed(words)}", do)
    if gaps:
        do = 'Fill in NaN by missing="median", or in a pipeline by a SimpleImputer, or leave those rows out.'
        fail(NonFiniteInputError, "finite numbers in every column of X", f"NaN or infinity in {_listed(gaps)}", do)


def _columns(X: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Go through the columns of a frame, with their names; nothing of what is none, or has names twice."""
    names = [name for name in getattr(X, "columns", ()) if isinstance(name, str)]
    if len(set(names)) == len(getattr(X, "columns", ())):
        for name in names:
            yield name, np.asarray(X[name])


def _as_floats(values: np.ndarray) -> np.ndarray | None:
    """Return values as floats; None for words, dates, durations and objects."""
    try:
        return None if values.dtype.kind in "mM" else values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _listed(names: list[str]) -> str:
    """Return the names of up to five columns in a sentence's form."""
    shown = listed([repr(name) for name in names], 5)
    return f"column {shown}" if len(names) == 1 else f"columns {shown}"
