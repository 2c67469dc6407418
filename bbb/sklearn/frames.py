"""The columns of a frame of pandas or polars that hold what is no number."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bbb.errors import InputError, NonFiniteInputError, fail


def refuse_by_column(X: Any) -> None:
    """Raise for a frame with columns of words, dates or gaps, by their names; other arrays pass.

    Raises:
        InputError: if a column is not of numbers.
        NonFiniteInputError: if a column has NaN or infinity.
    """
    words, gaps = [], []
    for name, values in _columns(X):
        numbers = _numbers(values)
        if numbers is None:
            words.append(name)
        elif not np.isfinite(numbers).all():
            gaps.append(name)
    if words:
        do = "Encode them in a pipeline, such as by sklearn.preprocessing.OneHotEncoder, or leave them out."
        fail(InputError, "numbers in every column of X", f"something else in {_listed(words)}", do)
    if gaps:
        do = "Fill them in in a pipeline, such as by sklearn.impute.SimpleImputer, or leave those rows out."
        fail(NonFiniteInputError, "finite numbers in every column of X", f"NaN or infinity in {_listed(gaps)}", do)


def _columns(X: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Go through the columns of a frame, with their names; nothing of what is none, or has names twice."""
    names = [name for name in getattr(X, "columns", ()) if isinstance(name, str)]
    if len(set(names)) == len(getattr(X, "columns", ())):
        for name in names:
            yield name, np.asarray(X[name])


def _numbers(values: np.ndarray) -> np.ndarray | None:
    """Return values as floats; None for words, dates, durations and objects."""
    try:
        return None if values.dtype.kind in "mM" else values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _listed(names: list[str]) -> str:
    """Return the names of up to five columns in a sentence's form."""
    shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"column {shown}" if len(names) == 1 else f"columns {shown}"
