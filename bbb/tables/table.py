"""Tables in memory: named columns of numbers, of words and of dates, whatever they were read from."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from bbb.errors import TableError, fail

NUMBER, WORDS, DATE, ANY = "number", "words", "date", "any"
"""Kinds of columns; ANY leaves the kind to the cells."""

LONGEST_WORD = 200
"""Characters of a category at most: NumPy gives every row of a column the room of the longest."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Named columns of numbers, of words and of dates.

    Attributes:
        path: the file that the table was read from, or what it is, such as "the frame".
        columns: the names of the columns of numbers.
        values: (rows, columns), float64; NaN where a number is missing.
        texts: the columns of words by name, (rows,) each; "" where a word is missing.
        dates: the columns of dates by name, (rows,) each, datetime64[us]; NaT where a date is missing.
        zoned: the columns of dates that were given with a time zone, which are in UTC.
        order: the names of all columns in the order of the file; by default, those of numbers come first.
        lines: the number of each row's line in the file, (rows,); None if the rows have no lines.
        first: the number of rows of the file before these, of a piece of one; None of a whole table.
        in_python: whether messages name options as arguments of Python, and not as options of the command.
    """

    path: str
    columns: tuple[str, ...]
    values: np.ndarray
    texts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    dates: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    zoned: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()
    lines: np.ndarray | None = None
    first: int | None = None
    in_python: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return self.order or (*self.columns, *self.texts, *self.dates)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.values)

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """The place of each column of numbers in `values`, by name."""
        return {column: place for place, column in enumerate(self.columns)}

    def kind(self, column: str) -> str:
        """Return whether a column is of numbers, words or dates.

        Raises:
            TableError: if it is missing.
        """
        for kind, held in ((WORDS, self.texts), (DATE, self.dates), (NUMBER, self.places)):
            if column in held:
                return kind
        return self.fail(f"a column '{column}'", f"only {listed(self.names)}", "Check the name, or the file.")

    def require(self, columns: Sequence[str]) -> None:
        """Raise a TableError if a column is missing."""
        for column in columns:
            self.kind(column)

    def select(self, columns: Sequence[str]) -> np.ndarray:
        """Return the named columns of numbers in that order, (rows, columns).

        Raises:
            TableError: if a column is missing, or is not one of numbers.
        """
        for column in columns:
            if self.kind(column) != NUMBER:
                self.fail_kind(column, "numbers")
        return self.values[:, [self.places[column] for column in columns]]

    def observed(self, column: str) -> np.ndarray:
        """Return one column without holes, (rows,): numbers, or words if it was read as text.

        Raises:
            TableError: if the column is missing, is one of dates, or has an empty cell.
        """
        found = self.texts[column] if column in self.texts else self.select([column])[:, 0]
        holes = holes_of(found)
        if np.any(holes):
            do = "Fill it in, or remove the row: what is predicted has to be known."
            self.fail_cell(column, "a value", int(np.argmax(holes)), "an empty cell", do)
        return found

    def take(self, rows: np.ndarray) -> "Table":
        """Return the table of some rows: their places, or (rows,) of bools."""
        return dataclasses.replace(
            self,
            values=self.values[rows],
            texts={name: words[rows] for name, words in self.texts.items()},
            dates={name: days[rows] for name, days in self.dates.items()},
            lines=None if self.lines is None else self.lines[rows],
        )

    def varying(self, columns: Sequence[str]) -> np.ndarray:
        """Return the named columns of numbers, (rows, columns), targets each of which must vary.

        Raises:
            TableError: if a column is missing, or its values are all equal, as those of a single row are.
        """
        values = self.select(columns)
        for column, spread in zip(columns, np.ptp(values, axis=0), strict=True):
            if spread == 0:
                got = f"{values[0, list(columns).index(column)]:g} in every row"
                self.fail(f"column '{column}' to vary", got, "Nothing can be learned of it: add rows of other values.")
        return values

    def option(self, name: str, *words: str) -> str:
        """Return how an option is set to one of some words, in messages."""
        if self.in_python:
            return f"{name}=" + " or ".join(f'"{word}"' for word in words)
        return f"--{name} {' or '.join(words)}"

    @property
    def without_it(self) -> str:
        """How a column is left out, in messages."""
        return "leave it out" if self.in_python else "leave it out with --drop"

    def fail(self, expected: str, got: str, do: str) -> NoReturn:
        """Raise a TableError that names the file."""
        fail(TableError, f"{expected} in {self.path}", got, do)

    def fail_cell(self, column: str, expected: str, row: int, got: str, do: str) -> NoReturn:
        """Raise a TableError of one cell, that of `row`, counted from 0."""
        where = f"row {row + 1} of {self.rows}" if self.first is None else f"row {self.first + row + 1}"
        where = where if self.lines is None else f"line {self.lines[row]}"
        self.fail(f"{expected} in every row of column '{column}'", f"{got} in {where}", do)

    def fail_constant(self, column: str, got: str) -> NoReturn:
        """Raise a TableError of a column with one value."""
        do = f"It is not informative: {self.without_it}, or remove it from the file."
        self.fail(f"column '{column}' to vary", f"{got} in every row", do)

    def fail_kind(self, column: str, expected: str) -> NoReturn:
        """Raise a TableError of a column of another kind."""
        texts = self.texts.get(column)
        got = "dates" if texts is None else f"words such as '{texts[0]}'"
        if column in self.columns:
            got = "numbers"
        self.fail(f"{expected} in column '{column}'", got, "Check the column, or convert it.")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which columns to read, and as what.

    Attributes:
        drop: columns to leave out.
        only: the columns to read; None for all.
        kinds: the kind of the columns by name, or of all of them; one that is not named is of any kind.
        holes: whether cells may be empty.
    """

    drop: Sequence[str] = ()
    only: Sequence[str] | None = None
    kinds: Mapping[str, str] | str = NUMBER
    holes: bool = False

    def names(self, path: str, header: Sequence[str]) -> list[str]:
        """Return the names of the columns to read.

        Raises:
            TableError: if one is missing, or none is left.
        """
        table = Table(path, tuple(header), np.zeros((0, len(header))))
        table.require([*self.drop, *(self.only or ())])
        if isinstance(self.kinds, Mapping):
            table.require([name for name in self.kinds if self.only is None])
        dropped = set(self.drop)
        left = [name for name in (header if self.only is None else self.only) if name not in dropped]
        if not left:
            table.fail("at least one column to be left", "no column", "Drop fewer of them.")
        return left

    def kind(self, name: str) -> str:
        """Return the kind of a column."""
        return self.kinds if isinstance(self.kinds, str) else self.kinds.get(name, ANY)


def assembled(
    path: str, made: Mapping[str, Any], zoned: Sequence[str], rows: int, lines: Any = None, first: Any = None
) -> Table:
    """Return the table of columns by name: float64 of numbers, words, or datetime64[us] of dates."""
    numbers = {name: values for name, values in made.items() if values.dtype.kind == "f"}
    values = np.empty((rows, len(numbers)))
    for j, column in enumerate(numbers.values()):
        values[:, j] = column
    texts = {name: words for name, words in made.items() if words.dtype.kind == "U"}
    dates = {name: days for name, days in made.items() if days.dtype.kind == "M"}
    return Table(path, tuple(numbers), values, texts, dates, frozenset(zoned), tuple(made), lines, first)


def holes_of(values: np.ndarray) -> np.ndarray:
    """Return where a column has NaN, "" or NaT, (rows,)."""
    if values.dtype.kind == "U":
        return values == ""
    return np.isnat(values) if values.dtype.kind == "M" else np.isnan(values)


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names in one line, the first `most` of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
