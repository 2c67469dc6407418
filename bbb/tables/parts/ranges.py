"""Which numbers of a table can be learned from: those that JAX's floats hold, and can tell apart.

JAX computes in float32 unless `jax_enable_x64` is set. A number beyond it is infinite there, the square of one far
below 1e-19 is 0, and 1,700,000,000 s of an epoch and the second after it are the same number.
"""

import jax
import numpy as np

from bbb.tables.table import NUMBER, Table

LOST = 0.01
"""How far a number may move in JAX's floats, in standard deviations of its column."""

MARGIN = 1e4
"""How far the standard deviation of a target stays from those whose square is 0: for a noise so much smaller."""

MOST_COUNT = 2**24
"""Counts at most: up to here float32 holds every whole number, and their quantiles are found in a moment."""


def floats() -> np.finfo:
    """Return the limits of the floats that JAX computes in."""
    return np.finfo(jax.dtypes.canonicalize_dtype(float))


def check_sizes(table: Table, name: str, most: float | None = None) -> None:
    """Raise for a number of a column that is larger than `most`, or than JAX's floats hold; NaN and infinity pass.

    Raises:
        TableError: naming the column and the row.
    """
    most, values = float(floats().max) if most is None else most, table.select([name])[:, 0]
    beyond = (np.abs(values) > most) & np.isfinite(values)
    if np.any(beyond):
        row, do = int(np.argmax(beyond)), "Correct it, remove the row, or give the column in larger units."
        table.fail_cell(name, f"a number of at most {most:.2g} in size", row, f"{values[row]:g}", do)


def check_input(table: Table, name: str) -> None:
    """Raise for a column to predict whose numbers JAX's floats do not hold, or hardly tell apart.

    Raises:
        TableError: naming the column, and the row where there is one.
    """
    if table.kind(name) == NUMBER:
        check_sizes(table, name)
        _check_spread(table, name, float(floats().tiny))


def check_target(table: Table, name: str) -> None:
    """Raise for a target whose square is infinite or 0 in JAX's floats, or whose numbers these hardly tell apart.

    Raises:
        TableError: naming the column, and the row where there is one.
    """
    check_sizes(table, name, float(np.sqrt(floats().max)))
    _check_spread(table, name, MARGIN * float(np.sqrt(floats().tiny)))


def check_counts(table: Table, name: str) -> None:
    """Raise for a count that is too large.

    Raises:
        TableError: naming the column and the row.
    """
    values = table.select([name])[:, 0]
    if np.any(values > MOST_COUNT):
        row = int(np.argmax(values > MOST_COUNT))
        do = f"Count in larger units, or pass {table.option('likelihood', 'gaussian')}."
        table.fail_cell(name, f"counts of at most {MOST_COUNT:,}", row, f"{values[row]:g}", do)


def _check_spread(table: Table, name: str, least: float) -> None:
    """Raise for a column whose standard deviation is below `least`, or whose numbers move by much of it.

    One that does not vary at all passes: it is refused, or not, as such.
    """
    values = table.select([name])[:, 0]
    values = values[np.isfinite(values)]
    if not len(values) or np.all(values == values[0]):
        return
    largest, dtype = float(np.max(np.abs(values))), floats().dtype
    std = largest * float(np.std(values / largest))  # whose squares are neither infinite nor 0
    if std < least:
        do = "Give the column in smaller units."
        table.fail(f"a standard deviation of at least {least:.2g} in column '{name}'", f"{std:.2g}", do)
    moved = float(np.max(np.abs(values.astype(dtype).astype(float) - values)))
    if moved > LOST * std:
        expected = f"column '{name}' to vary by more than {dtype} rounds off"
        got = f"numbers near {values[0]:.10g} of standard deviation {std:.2g}, rounded by up to {moved:.2g}"
        table.fail(expected, got, f"Subtract {np.floor(values.min()):.10g} from all of them.")
