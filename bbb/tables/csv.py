"""Reading tables from CSV files, plain or compressed by gzip, and writing them."""

import contextlib
import csv
import gzip
import io
import itertools
import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from bbb.errors import TableError, fail
from bbb.tables.cells import dialect
from bbb.tables.cells.dialect import Cells, Dialect
from bbb.tables.cells.kinds import column_of, kind_of
from bbb.tables.table import ANY, NUMBER, WORDS, Table, Wanted, assembled

GZIP = b"\x1f\x8b"
"""What a file that gzip compressed begins with."""

SAMPLED_LINES = 1000
"""Lines of a file that is read in pieces from which its delimiter is recognised."""

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
    try:
        numbered = [row for row in _numbered(io.StringIO(content), delimiter) if row[1]]
    except csv.Error as error:
        raise _unreadable(path, error) from error
    if len(numbered) < 2:
        _fail_empty(name, "an empty file" if not numbered else "a header alone")
    reader = _Reader(name, numbered[0][1], delimiter, Wanted(drop, only, kinds, holes), labels)
    return reader.table(numbered[1:], given.decimal or ("." if delimiter == "," and '"' not in content else None))[0]


def pieces(path: str | os.PathLike[str], wanted: Wanted, given: Dialect, size: int) -> Iterator[Table]:
    """Yield the rows of a CSV file, plain or compressed, in tables of so many; only these are in memory.

    The delimiter is recognised from the first lines, and the decimal mark from the first rows that have one.

    Raises:
        TableError: as `read` does, once it comes to what is wrong.
    """
    name, decimal = os.fspath(path), given.decimal
    try:
        with _opened(path) as lines:
            first = list(itertools.islice(lines, SAMPLED_LINES))
            delimiter = given.delimiter or dialect.find_delimiter(name, "".join(first))
            numbered = (row for row in _numbered(itertools.chain(first, lines), delimiter) if row[1])
            header = next(numbered, None)
            if header is None:
                _fail_empty(name, "an empty file")
            reader, rows = _Reader(name, header[1], delimiter, wanted), list(itertools.islice(numbered, size))
            if not rows:
                _fail_empty(name, "a header alone")
            while rows:
                table, decimal = reader.table(rows, decimal)
                yield table
                rows = list(itertools.islice(numbered, size))
    except TableError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise _unreadable(path, error) from error


def text(columns: Mapping[str, np.ndarray], *, header: bool = True) -> str:
    """Return columns as CSV, with as many digits as restore the same float32 or float64 numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(columns)
    writer.writerows(zip(*(map(str, values) for values in columns.values()), strict=True))
    return out.getvalue()


class _Reader:
    """What makes tables of the rows of one file."""

    def __init__(self, path: str, header: Sequence[str], delimiter: str, wanted: Wanted, labels: str = "") -> None:
        self.path, self.delimiter, self.wanted, self.labels = path, delimiter, wanted, labels
        self.header = [name.strip() for name in header]
        counts = Counter(self.header)
        repeated = next((name for name in self.header if counts[name] > 1 or not name), None)
        if repeated is not None:
            got = f"'{repeated}' twice" if repeated else "a column without a name"
            fail(TableError, f"a unique name for every column of {path}", got, "Rename it.")

    def table(self, rows: Sequence[tuple[int, list[str]]], decimal: str | None) -> tuple[Table, str | None]:
        """Return the table of rows with the numbers of their lines, and the decimal mark, if they have one."""
        for line, row in rows:
            if len(row) != len(self.header):
                fail(
                    TableError,
                    f"{len(self.header)} cells in every row of {self.path}, as in its header",
                    f"{len(row)} in line {line}",
                    f"Complete that line, or quote cells that hold a {dialect.DELIMITERS[self.delimiter]}.",
                )
        names, places = self.wanted.names(self.path, self.header), {name: i for i, name in enumerate(self.header)}
        lines = [line for line, _ in rows]
        columns = [Cells(name, lines, [row[places[name]] for _, row in rows]) for name in names]
        chosen = [self._kind(column) for column in columns]
        if decimal is None:
            numbers = (column for column, kind in zip(columns, chosen, strict=True) if kind == NUMBER)
            decimal = dialect.find_decimal(self.path, numbers, self.delimiter)
        made, zoned = {}, []
        for column, kind in zip(columns, chosen, strict=True):
            made[column.name], has_zone = column_of(
                self.path, column, kind, holes=self.wanted.holes, decimal=decimal or "."
            )
            zoned += [column.name] if has_zone else []
        return assembled(self.path, made, zoned, len(rows), np.array(lines)), decimal

    def _kind(self, column: Cells) -> str:
        """Return the kind that a column is read as."""
        kind = self.wanted.kind(column.name)
        if column.name == self.labels and kind in (NUMBER, ANY):
            return NUMBER if kind_of(column.cells) == NUMBER else WORDS
        return kind_of(column.cells) if kind == ANY else kind


def _numbered(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line at which each row ends, and its cells."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    for row in reader:
        yield reader.line_num, row


def _fail_empty(path: str, got: str) -> NoReturn:
    fail(TableError, f"a header line and at least one row in {path}", got, "Check the file.")


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Yield the lines of a file or a pipe, which may be compressed."""
    _check_is_file(path)
    with open(path, "rb") as file:
        packed = file.peek(2)[:2] == GZIP
        content: Any = gzip.GzipFile(fileobj=file) if packed else file
        with io.TextIOWrapper(content, encoding="utf-8-sig") as lines:
            yield lines


def _text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file or a pipe."""
    try:
        _check_is_file(path)
        content = Path(path).read_bytes()
        text = (_expanded(content) if content[:2] == GZIP else content).decode("utf-8-sig")
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: not UTF-8, or not a path
        raise _unreadable(path, error) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check_is_file(path: str | os.PathLike[str]) -> None:
    """Raise an OSError for what is no file and no pipe, such as a device, which may be endless."""
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
        raise OSError("it is not a regular file")


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
