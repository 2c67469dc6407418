"""How a CSV file is written: the character between its cells, and the decimal mark of its numbers.

A comma between cells goes with a decimal point, and a semicolon or a tab, as in most of Europe, with either mark. Both
are recognised from the file where it leaves no doubt; a file that can be read in two ways is refused, and the error
names the option that decides.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bbb.errors import InputError, TableError, fail

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
"""The characters that may stand between cells, and their names."""

DECIMALS = (".", ",")
"""The characters that may stand between whole and broken parts of a number."""

_POINT = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")


class Cells(NamedTuple):
    """One column as it stands in a file: its name, and its cells with the numbers of their lines."""

    name: str
    lines: Sequence[int]
    cells: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a CSV file is written, where it is known; None is recognised from the file.

    Attributes:
        delimiter: the character between cells, one of `DELIMITERS`.
        decimal: the decimal mark, one of `DECIMALS`.

    Raises:
        InputError: if one is another character.
    """

    delimiter: str | None = None
    decimal: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and self.delimiter not in DELIMITERS:
            got, do = repr(self.delimiter), "Pass ',', ';' or a tab."
            fail(InputError, "delimiter to be a comma, a semicolon or a tab", got, do)
        if self.decimal is not None and self.decimal not in DECIMALS:
            fail(InputError, "decimal to be '.' or ','", repr(self.decimal), "Pass one of them.")


def find_delimiter(path: str, text: str) -> str:
    """Return the character between the cells of a CSV file: that which its header has, and divides every row alike.

    Raises:
        TableError: if two of them would.
    """
    cells = {mark: _header_cells(text, mark) for mark in DELIMITERS}
    possible = [mark for mark in DELIMITERS if cells[mark] > 1]
    if len(possible) < 2:
        return possible[0] if possible else ","
    even = [mark for mark in possible if _is_even(text, mark)]
    if len(even) > 1:
        names = " or a ".join(DELIMITERS[mark] for mark in even)
        do = "Pass --delimiter comma, semicolon or tab."
        fail(TableError, f"one way to divide the rows of {path} into cells", f"a {names} in each", do)
    return even[0] if even else max(possible, key=lambda mark: cells[mark])


def _header_cells(text: str, delimiter: str) -> int:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        return len(next((row for row in reader if row), ()))
    except csv.Error:
        return 0


def _is_even(text: str, delimiter: str) -> bool:
    """Return whether all rows have as many cells as the header."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        rows = (len(row) for row in reader if row)
        width = next(rows)
        return all(size == width for size in rows)
    except csv.Error:
        return False


def find_decimal(path: str, columns: Iterable[Cells], delimiter: str) -> str | None:
    """Return the decimal mark of the numbers in columns of a file; None if all are whole.

    A mark with three digits behind it and up to three before, as in 1,234, may divide thousands: where no other number
    of the file settles it, it is refused. Between commas, a decimal point is beyond doubt.

    Raises:
        TableError: if numbers are written in two ways, or could be read in two.
    """
    seen: dict[str, tuple[str, bool]] = {}
    for column in columns:
        for line, cell in zip(column.lines, column.cells, strict=True):
            mark = "." if "." in cell else "," if "," in cell else ""
            if not mark or (mark in seen and seen[mark][1]):
                continue
            word = cell.strip()
            if (_POINT if mark == "." else _COMMA).fullmatch(word):
                sure = _THOUSANDS.fullmatch(word) is None
                if mark not in seen or sure:
                    seen[mark] = f"'{word[:60]}' in line {line} of column '{column.name}'", sure
    if len(seen) == 2:
        got = " and ".join(where for where, _ in seen.values())
        fail(TableError, f"one decimal mark in the numbers of {path}", got, "Pass --decimal . or --decimal ,")
    if "," in seen or (seen and delimiter != ","):
        ((mark, (where, sure)),) = seen.items()
        if not sure:
            do = f"Pass --decimal {mark} if it is one; otherwise write numbers without marks between thousands."
            fail(TableError, f"a decimal mark that is not one of thousands in {path}", where, do)
        return mark
    return "." if seen else None
