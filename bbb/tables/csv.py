"""Reading tables from CSV files, plain or compressed by gzip, and writing them."""

import csv
import gzip
import io
import os
import stat
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bbb.errors import TableError, fail
from bbb.tables.cells import dialect
from bbb.tables.cells.dialect import Cells, Dialect
from bbb.tables.cells.kinds import column_of, kind_of
from bbb.tables.table import ANY, NUMBER, WORDS, Table, Wanted, assembled

MOST_EXPANDED, ALWAYS_EXPANDED = 200, 1 << 26
"""A file of gzip may expand to so many times its size, or to so many bytes: 1,000 times is possible, by zeros alone."""


def read(
    path: str | os.PathLike[str],
    *,
    drop: Sequence[str] = (),
    only: Sequence[str] | None = None,
    labels: str = "",
    kinds: Mapping[str, str] | str = NUMBER,
    holes: bool = False,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> Table:
    """Read a CSV file in UTF-8 with a header line, or such a file compressed by gzip.

    Cells stand between commas, semicolons or tabs, and numbers have a decimal point, or, mostly with semicolons, a
    decimal comma: both are recognised, and refused where they are in doubt.

    Args:
        path: the file.
        drop: columns to leave out.
        only: the columns to read, by default all.
        labels: a column that may hold words, the names of classes. It is read as text if its first cell that is not
            empty is not a number.
        kinds: what the columns hold, by name or for all: "number", "words", "date" (as in 2026-01-31, or with a time as
            in 2026-01-31T12:00Z), or "any", which is chosen by the first cell that is not missing, and holds for what
            is not named.
        holes: whether cells may be empty, or, of numbers and dates, a mark such as NA: they are then NaN, "" or NaT.
        delimiter: ",", ";" or a tab; None to recognise it.
        decimal: "." or ","; None to recognise it.

    Raises:
        TableError: if the file is missing, empty or ragged; if a column is missing or repeated, or has a cell of
            another kind; or if the delimiter or the decimal mark is in doubt.
        InputError: if the delimiter or the decimal mark is another character.
    """
    given = Dialect(delimiter, decimal)
    name = os.fspath(path)
    content = _text(path)
    delimiter = given.delimiter or dialect.find_delimiter(name, content)
    header, rows = _lines(name, content, delimiter)
    wanted = Wanted(drop, only, kinds, holes)
    names, places = wanted.names(name, header), {column: place for place, column in enumerate(header)}
    lines = [line for line, _ in rows]
    columns = [Cells(column, lines, [row[places[column]] for _, row in rows]) for column in names]
    chosen = [_kind(wanted, column, labels) for column in columns]
    decimal = given.decimal or ("." if delimiter == "," and '"' not in content else None)
    if decimal is None:
        numbers = (column for column, kind in zip(columns, chosen, strict=True) if kind == NUMBER)
        decimal = dialect.find_decimal(name, numbers, delimiter)
    made, zoned = {}, []
    for column, kind in zip(columns, chosen, strict=True):
        made[column.name], has_zone = column_of(name, column, kind, holes=holes, decimal=decimal)
        zoned += [column.name] if has_zone else []
    return assembled(name, made, zoned, len(rows), np.array(lines))


def text(columns: Mapping[str, np.ndarray]) -> str:
    """Return columns as CSV, with as many digits as restore the same float32 or float64 numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(str, values) for values in columns.values()), strict=True))
    return out.getvalue()


def _kind(wanted: Wanted, column: Cells, labels: str) -> str:
    """Return the kind that a column is read as."""
    kind = wanted.kind(column.name)
    if column.name == labels and kind in (NUMBER, ANY):
        return NUMBER if kind_of(column.cells) == NUMBER else WORDS
    return kind_of(column.cells) if kind == ANY else kind


def _lines(path: str, content: str, delimiter: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows with their line numbers, all of one length."""
    try:
        reader = csv.reader(io.StringIO(content), delimiter=delimiter, strict=True)
        numbered = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise _unreadable(path, error) from error
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
                f"Complete that line, or quote cells that hold a {dialect.DELIMITERS[delimiter]}.",
            )
    return header, numbered[1:]


def _text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file or a pipe; devices are refused, as they may be endless."""
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise OSError("it is not a regular file")
        content = Path(path).read_bytes()
        text = (_expanded(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: not UTF-8, or not a path
        raise _unreadable(path, error) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _expanded(content: bytes) -> bytes:
    """Return what gzip compressed; a small file that expands to very much is refused."""
    most = max(ALWAYS_EXPANDED, MOST_EXPANDED * len(content))
    expanded = gzip.GzipFile(fileobj=io.BytesIO(content)).read(most + 1)
    if len(expanded) > most:
        raise OSError(f"it expands to more than {MOST_EXPANDED} times its size; expand it first")
    return expanded


def _unreadable(path: str | os.PathLike[str], error: Exception) -> TableError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return TableError(f"Expected a CSV file in UTF-8 at {path}, got: {reason}. Check the path and the file.")
