"""Reading tables of numbers from CSV files, and writing them."""

import csv
import dataclasses
import io
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bbb.errors import TableError, fail


@dataclasses.dataclass(frozen=True)
class Table:
    """Named columns of finite numbers.

    Attributes:
        path: the file that the table was read from.
        columns: the names of the columns of numbers.
        values: (rows, columns), float64.
        texts: the columns of words by name, (rows,) each.
    """

    path: str
    columns: tuple[str, ...]
    values: np.ndarray
    texts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def select(self, columns: Sequence[str]) -> np.ndarray:
        """Return the named columns in that order, (rows, columns).

        Raises:
            TableError: if a column is missing.
        """
        places = {column: place for place, column in enumerate(self.columns)}
        for column in columns:
            if column not in places:
                self.fail(f"a column '{column}'", f"only {_listed(self.columns)}", "Check the name, or the file.")
        return self.values[:, [places[column] for column in columns]]

    def observed(self, column: str) -> np.ndarray:
        """Return one column, (rows,): numbers, or words if it was read as text.

        Raises:
            TableError: if the column is missing.
        """
        return self.texts[column] if column in self.texts else self.select([column])[:, 0]

    def varying(self, columns: Sequence[str]) -> np.ndarray:
        """Return the named columns, (rows, columns), each of which must vary.

        Raises:
            TableError: if a column is missing, or its values are all equal, as those of a single row are.
        """
        values = self.select(columns)
        for column, spread in zip(columns, np.ptp(values, axis=0), strict=True):
            if spread == 0:
                self.fail(
                    f"column '{column}' to vary",
                    f"{values[0, list(columns).index(column)]:g} in every row",
                    "It is not informative: leave it out with --drop, or remove it from the file.",
                )
        return values

    def fail(self, expected: str, got: str, do: str) -> None:
        """Raise a TableError that names the file."""
        fail(TableError, f"{expected} in {self.path}", got, do)


def read(
    path: str | os.PathLike[str], *, drop: Sequence[str] = (), only: Sequence[str] | None = None, labels: str = ""
) -> Table:
    """Read a comma-separated CSV file in UTF-8 with a header line; every cell must be a finite number.

    Args:
        path: the file.
        drop: columns to leave out, which need not be numeric.
        only: the columns to read, by default all; the others need not be numeric.
        labels: a column that may hold words, the names of classes. It is read as text if its first cell that is not
            empty is not a number.

    Raises:
        TableError: if the file is missing, empty or ragged, or a column is missing, repeated or not numeric.
    """
    header, rows = _lines(path)
    table = Table(os.fspath(path), tuple(header), np.zeros((0, len(header))))
    table.select([*drop, *(only or ())])
    wanted = [name for name in (header if only is None else only) if name not in drop]
    if not wanted:
        table.fail("at least one column to be left", "no column", "Drop fewer of them.")
    places = {name: place for place, name in enumerate(header)}
    texts = {
        name: _words(table, name, rows) for name in wanted if name == labels and not _is_numeric(table, name, rows)
    }
    wanted = [name for name in wanted if name not in texts]
    values = np.empty((len(rows), len(wanted)))
    for j, name in enumerate(wanted):
        place = places[name]
        values[:, j] = [_number(table, name, line, row[place]) for line, row in rows]
    return Table(os.fspath(path), tuple(wanted), values, texts)


def text(columns: Mapping[str, np.ndarray]) -> str:
    """Return columns as CSV, with as many digits as restore the same float32 or float64 numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(str, values) for values in columns.values()), strict=True))
    return out.getvalue()


def _lines(path: str | os.PathLike[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows with their line numbers, all of one length."""
    try:
        content = _content(path)
        reader = csv.reader(io.StringIO(content), strict=True)
        numbered = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8, or not a path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TableError(
            f"Expected a CSV file in UTF-8 at {path}, got: {reason}. Check the path and the file."
        ) from error
    if len(numbered) < 2:
        got = "an empty file" if not numbered else "a header alone"
        fail(TableError, f"a header line and at least one row in {path}", got, "Check the file.")
    header = [name.strip() for name in numbered[0][1]]
    counts = Counter(header)
    repeated = next((name for name in header if counts[name] > 1 or not name), None)
    if repeated is not None:
        got = f"'{repeated}' twice" if repeated else "a column without a name"
        fail(TableError, f"a unique name for every column of {path}", got, "Rename it.")
    for line, row in numbered[1:]:
        if len(row) != len(header):
            fail(
                TableError,
                f"{len(header)} cells in every row of {path}, as in its header",
                f"{len(row)} in line {line}",
                "Complete that line, or quote cells that hold commas.",
            )
    return header, numbered[1:]


def _content(path: str | os.PathLike[str]) -> str:
    """Return the text of a file or a pipe; devices are refused, as they may be endless."""
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
        raise OSError("it is not a regular file")
    return Path(path).read_text(encoding="utf-8-sig")


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:20]) + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")


def _value(cell: str) -> float:
    """Return the number in a cell, or NaN for anything else, such as Python's 1_000."""
    try:
        return np.nan if "_" in cell else float(cell)
    except ValueError:
        return np.nan


def _is_numeric(table: Table, column: str, rows: list[tuple[int, list[str]]]) -> bool:
    """Return whether the first cell that is not empty is a number: a later word is then an error in the file."""
    cells = (row[table.columns.index(column)] for _, row in rows)
    first = next((cell for cell in cells if cell.strip()), "")
    return not np.isnan(_value(first)) or first.strip().lower().lstrip("+-") == "nan"


def _words(table: Table, column: str, rows: list[tuple[int, list[str]]]) -> np.ndarray:
    found = [(line, row[table.columns.index(column)].strip()) for line, row in rows]
    for line, word in found:
        if not word:
            do = "Fill it in, or remove the row."
            table.fail(f"a class in every row of column '{column}'", f"an empty cell in line {line}", do)
    return np.array([word for _, word in found])


def _number(table: Table, column: str, line: int, cell: str) -> float:
    value = _value(cell)
    if not np.isfinite(value):
        table.fail(
            f"a finite number in every row of column '{column}'",
            f"{cell[:60]!r} in line {line}" if cell.strip() else f"an empty cell in line {line}",
            "Fill it in, remove the row, or leave the column out with --drop.",
        )
    return value
