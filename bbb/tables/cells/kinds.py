"""The cells of one column of a CSV file as numbers, words or dates; what is none of them is refused by line."""

import datetime
import re
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from bbb.errors import TableError, fail
from bbb.tables.cells.dialect import Cells
from bbb.tables.table import ANY, DATE, LONGEST_WORD, NUMBER, WORDS

MARKS = {"na", "n/a", "#n/a", "null", "none", "<na>", "nan"}
"""What stands for a missing number or date, in small letters; of words, an empty cell and "nan" alone do."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?")
_OTHER_DATE = re.compile(r"(\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2})\b.*")
_OTHER_NUMBER = re.compile(r"[$€£]?\s*[+-]?[.,]?\d[\d.,_'\s\u202f]*([eE][+-]?\d+)?\s*[$€£%]?|0[xX][\da-fA-F]+")
_INFINITY = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE)


def number(cell: str, decimal: str) -> float:
    """Return the number in a cell, or NaN for anything else, such as Python's 1_000."""
    if decimal == ",":
        cell = cell.replace(",", ".") if "." not in cell else "_"
    try:
        return np.nan if "_" in cell else float(cell)
    except ValueError:
        return np.nan


def kind_of(cells: Sequence[str]) -> str:
    """Return the kind of a column by its first cell that is not missing: a later one of another kind is then an error.

    A number or a date that is written in another way, such as 1_000, 5 % or 31.12.2026, is still one, and is refused by
    what reads it, not taken for the name of a category.
    """
    stripped = (cell.strip() for cell in cells)
    first = next((cell for cell in stripped if cell and cell.lower() not in MARKS), "")
    if _DATE.fullmatch(first) or _OTHER_DATE.fullmatch(first):
        return DATE
    if not first or _INFINITY.fullmatch(first) or (len(first) <= 60 and _OTHER_NUMBER.fullmatch(first)):
        return NUMBER
    return WORDS if all(np.isnan(number(first, mark)) for mark in (".", ",")) else NUMBER


def column_of(path: str, column: Cells, kind: str, *, holes: bool, decimal: str) -> tuple[np.ndarray, bool]:
    """Return a column as numbers, words or dates, (rows,), and whether it has dates with a time zone.

    Args:
        path: the file, for messages.
        column: the cells.
        kind: one of the kinds of `table`; of "any", the first cell decides.
        holes: whether cells may be empty.
        decimal: the decimal mark.

    Raises:
        TableError: for a cell that is not of this kind, or is empty and may not be.
    """
    kind = kind_of(column.cells) if kind == ANY else kind
    if kind == WORDS:
        return _words(path, column, holes), False
    if kind == DATE:
        return _dates(path, column, holes)
    return _numbers(path, column, holes, decimal), False


def _numbers(path: str, column: Cells, holes: bool, decimal: str) -> np.ndarray:
    values = np.array([number(cell, decimal) for cell in column.cells], float)
    for i in np.flatnonzero(~np.isfinite(values)).tolist():
        if not (holes and _is_hole(column.cells[i])):
            do = "Fill it in, remove the row, or leave the column out with `bbb fit --drop`."
            if _is_hole(column.cells[i]):
                do = f"Pass `bbb fit --missing median` or `indicator`; or {do[0].lower()}{do[1:]}"
            _refuse(path, column, i, "a finite number", do)
        values[i] = np.nan
    return values


def _words(path: str, column: Cells, holes: bool) -> np.ndarray:
    found = [cell.strip() for cell in column.cells]
    for i, word in enumerate(found):
        if not word or word.lower() == "nan":
            if not holes:
                _refuse(path, column, i, "a word", "Fill it in, or remove the row.")
            found[i] = ""
        elif len(word) > LONGEST_WORD:
            do = "Shorten it, or leave the column out with `bbb fit --drop`."
            _refuse(path, column, i, f"words of at most {LONGEST_WORD} characters", do)
    return np.array(found, dtype=str)


def _dates(path: str, column: Cells, holes: bool) -> tuple[np.ndarray, bool]:
    """Return dates, in UTC if they have a zone, which then all have."""
    made, zones = np.empty(len(column.cells), "datetime64[us]"), set()
    for i, cell in enumerate(column.cells):
        if holes and _is_hole(cell):
            made[i] = np.datetime64("NaT", "us")
            continue
        date = _date(cell.strip())
        if date is None:
            do = "Write dates as year-month-day, with a time behind T or not; "
            do += "or leave the column out with `bbb fit --drop`."
            _refuse(path, column, i, "a date such as 2026-01-31", do)
        made[i], zoned = date
        zones.add(zoned)
        if len(zones) > 1:
            do = "Give all of them a time zone, or none."
            _refuse(path, column, i, "dates all with a time zone or all without", do)
    return made, True in zones


def _date(word: str) -> tuple[np.datetime64, bool] | None:
    """Return a date, in UTC if it has a zone, and whether it has one; None for what is no date."""
    if not _DATE.fullmatch(word):
        return None
    try:
        date = datetime.datetime.fromisoformat(word)
        utc = date if date.tzinfo is None else date.astimezone(datetime.UTC)
    except (ValueError, OverflowError):  # the 31st of February; the first hours of the year 1, in another zone
        return None
    return np.datetime64(utc.replace(tzinfo=None)), date.tzinfo is not None


def _is_hole(cell: str) -> bool:
    word = cell.strip().lower()
    return not word or word in MARKS


def _refuse(path: str, column: Cells, i: int, expected: str, do: str) -> NoReturn:
    cell, line = column.cells[i], column.lines[i]
    got = f"{cell[:60]!r} in line {line}" if cell.strip() else f"an empty cell in line {line}"
    fail(TableError, f"{expected} in every row of column '{column.name}' in {path}", got, do)
