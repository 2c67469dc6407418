"""Tables from frames: pandas, polars, pyarrow and what else narwhals knows (extra `tables`)."""

import datetime
import importlib
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bbb.errors import InputError, TableError, fail
from bbb.tables.table import ANY, DATE, LONGEST_WORD, NUMBER, WORDS, Table, Wanted, assembled, holes_of

FRAME = "the frame"
"""What a table that was no file is called in messages."""


def extra(name: str, what: str) -> Any:
    """Return a module of the extra `tables`.

    Raises:
        TableError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        do = f"Run pip install {name}; or, in a clone of bbb, pip install '.[tables]'."
        raise TableError(f"Expected {name} to be installed to {what}, got: {error}. {do}") from error


def as_table(
    data: Any,
    *,
    name: str = FRAME,
    drop: Sequence[str] = (),
    only: Sequence[str] | None = None,
    labels: str = "",
    kinds: Mapping[str, str] | str = ANY,
    holes: bool = True,
    first: int | None = None,
) -> Table:
    """Return the table of a frame, whose columns have the kinds of their types; a table is returned as it is.

    Strings and categories are words, booleans are 0 and 1, dates and times are dates. For the other arguments, see
    `bbb.tables.csv.read`; where words are wanted, numbers are taken as their names, such as those of postal
    codes. `first` is the number of rows before these, of a piece of a table, for messages.

    Raises:
        InputError: if it is no frame, or one that has not been computed yet.
        TableError: if narwhals is not installed; if a column is missing or repeated, is of another kind, or has an
            empty cell or an infinite number where it may not.

    Example:
        >>> import pandas
        >>> import bbb.tables
        >>> frame = pandas.DataFrame({"size": [50.0, 80.0], "price": [1.5, 2.5]})
        >>> bbb.tables.as_table(frame).columns
        ('size', 'price')
    """
    if isinstance(data, Table):
        return data
    frame = _frame(data, name)
    header = list(frame.columns)
    odd = next((column for column in header if not isinstance(column, str) or not column), None)
    if odd is not None:
        fail(TableError, f"unique words as the names of the columns of {name}", repr(odd), "Rename it.")
    wanted = Wanted(drop, only, kinds, holes)
    made: dict[str, np.ndarray] = {}
    zoned, empty = [], Table(name, (), np.empty((len(frame), 0)), first=first)
    if not len(frame):
        fail(TableError, f"at least one row in {name}", "none", "Check the data.")
    for column in wanted.names(name, header):
        kind = ANY if column == labels else wanted.kind(column)
        made[column], has_zone = _column(empty, frame[column], column, kind)
        zoned += [column] if has_zone else []
        _check(empty, column, made[column], holes)
    return assembled(name, made, zoned, len(frame), first=first)


def kinds_of(data: Any) -> dict[str, str] | None:
    """Return the kinds of the columns of a frame by name, "" for what is no number, word or date; None of no frame.

    A frame with a name twice, and every frame where narwhals is not installed, counts as none.
    """
    try:
        frame = _frame(data, FRAME)
    except InputError:
        return None
    return {series.name: _kind(series)[0] for series in frame.iter_columns()}


def _frame(data: Any, name: str) -> Any:
    narwhals = extra("narwhals", "take a frame")
    try:
        return narwhals.from_native(data, eager_only=True)
    except TypeError as error:
        expected = "a Table, or a frame of pandas, polars or pyarrow"
        do = "Read a file by bbb.tables.read, or call .collect() on a lazy frame."
        raise InputError(f"Expected {expected}, got a {type(data).__name__}. {do}") from error
    except narwhals.exceptions.DuplicateError as error:
        expected, do = f"unique words as the names of the columns of {name}", "Rename it."
        raise TableError(f"Expected {expected}, got one twice. {do}") from error


def _column(table: Table, series: Any, name: str, wanted: str) -> tuple[np.ndarray, bool]:
    """Return a column of a frame, and whether its dates have a time zone."""
    kind, cells = _kind(series)
    if kind not in (NUMBER, WORDS, DATE) or (wanted not in (kind, ANY) and (wanted, kind) != (WORDS, NUMBER)):
        expected = {NUMBER: "numbers", WORDS: "words", DATE: "dates"}.get(wanted, "numbers, words or dates")
        got = {NUMBER: "numbers", WORDS: "words", DATE: "dates"}.get(kind, f"the type {series.dtype}")
        table.fail(f"{expected} in column '{name}'", got, "Convert it, or leave the column out.")
    if WORDS in (kind, wanted):
        return _words(table, name, series), False
    return (_floats(series, cells), False) if kind == NUMBER else _instants(table, name, series, cells)


def _kind(series: Any) -> tuple[str, list[Any] | None]:
    """Return the kind of a column, and, of one of Python's objects, these with None for what is missing."""
    narwhals, dtype = extra("narwhals", "take a frame"), series.dtype
    if dtype.is_numeric() or dtype == narwhals.Boolean:
        return NUMBER, None
    if dtype in (narwhals.String, narwhals.Categorical, narwhals.Enum):
        return WORDS, None
    if dtype in (narwhals.Date, narwhals.Datetime):
        return DATE, None
    if dtype == narwhals.Object:
        cells = [None if _is_missing(cell) else cell for cell in series.to_list()]
        for kind, types in ((WORDS, str), (NUMBER, numbers.Real), (DATE, datetime.date)):
            if all(cell is None or isinstance(cell, (types, np.bool_)) for cell in cells):
                return kind, cells
    elif str(dtype) == "Unknown":  # of NULL alone
        return NUMBER, [None] * len(series)
    return "", None


def _is_missing(cell: Any) -> bool:
    """Return whether a cell is None, NaN, NaT or pandas' NA, which alone are not equal to themselves."""
    try:
        return cell is None or not bool(cell == cell)  # noqa: PLR0124
    except (TypeError, ValueError):  # NA == NA is NA, which is neither true nor false
        return type(cell).__name__ == "NAType"


def _words(table: Table, name: str, series: Any) -> np.ndarray:
    """Return words, "" where one is missing."""
    cells = ["" if _is_missing(cell) else cell for cell in series.to_list()]
    found = [(f"{cell:g}" if isinstance(cell, float) else str(cell)).strip() for cell in cells]
    row = max(range(len(found)), key=lambda i: len(found[i]))
    if len(found[row]) > LONGEST_WORD:
        do = "Shorten it, or leave the column out."
        table.fail_cell(name, f"words of at most {LONGEST_WORD} characters", row, repr(found[row][:60]), do)
    return np.array(found, dtype=str)


def _floats(series: Any, cells: list[Any] | None) -> np.ndarray:
    """Return numbers as float64, NaN where one is missing."""
    if cells is not None:
        return np.array([np.nan if cell is None else float(cell) for cell in cells], float)
    narwhals = extra("narwhals", "take a frame")
    filled = series.cast(narwhals.Float64).fill_null(float("nan"))
    return np.array(filled.to_numpy(), float)


def _instants(table: Table, name: str, series: Any, cells: list[Any] | None) -> tuple[np.ndarray, bool]:
    """Return dates as datetime64[us], in UTC if they have a zone, NaT where one is missing."""
    if cells is not None:
        zones = {getattr(cell, "tzinfo", None) is not None for cell in cells if cell is not None}
        if len(zones) > 1:
            got, do = "both", "Give all of them a time zone, or none."
            table.fail(f"dates all with a time zone or all without in column '{name}'", got, do)
        return np.array([_instant(cell) for cell in cells], "datetime64[us]"), True in zones
    narwhals = extra("narwhals", "take a frame")
    zoned = getattr(series.dtype, "time_zone", None) is not None
    if zoned:
        series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return series.cast(narwhals.Datetime("us")).to_numpy().astype("datetime64[us]"), zoned


def _instant(cell: Any) -> np.datetime64:
    if getattr(cell, "tzinfo", None) is not None:
        cell = cell.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64("NaT" if cell is None else cell, "us")


def _check(table: Table, name: str, values: np.ndarray, holes: bool) -> None:
    """Raise a TableError for an empty cell that may not be, and for infinity."""
    empty = holes_of(values)
    if values.dtype.kind == "f" and np.any(np.isinf(values)):
        row = int(np.argmax(np.isinf(values)))
        table.fail_cell(name, "a finite number", row, f"{values[row]:g}", "Replace it, or leave the column out.")
    if not holes and np.any(empty):
        do = "Fill it in, remove the row, or leave the column out."
        what = {"U": "a word", "M": "a date", "f": "a finite number"}[values.dtype.kind]
        table.fail_cell(name, what, int(np.argmax(empty)), "an empty cell", do)
