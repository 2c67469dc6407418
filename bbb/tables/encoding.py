"""Columns of a table as numbers: categories by one-hot, dates as days, and what stands in for missing values.

An `Encoding` is learned from the training rows, is saved with the model, and encodes every later table alike.

- A number stays what it is.
- A category, the word of a cell, becomes one column of 0 and 1 for each word of the training rows.
- A date becomes the days, with fractions, since the first day of the training rows. With that origin, the numbers are
  small, and those of float32 tell seconds apart over months; counted from 1970, they would tell minutes apart. Inputs
  are standardised, so that predictions do not depend on the origin.

Missing values are refused; or become the median of the column (of words, the most frequent one); or that, with a column
of 0 and 1 beside it that says so, for each column that had them in the training rows (Little and Rubin, Statistical
Analysis with Missing Data, 2019, chapter 1, on what both assume). Of such a column of words, a missing one is then all
zeros, and 1 there.
"""

import dataclasses
import datetime
import math
from collections.abc import Mapping
from typing import Any, NoReturn, Self

import numpy as np

from bbb import checks
from bbb.errors import InputError, fail
from bbb.metrics.inputs import median_of
from bbb.tables.table import DATE, NUMBER, WORDS, Table, holes_of, listed

REFUSE, MEDIAN, INDICATOR = "refuse", "median", "indicator"
MISSING = (REFUSE, MEDIAN, INDICATOR)
"""What is done about missing values."""

IGNORE = "ignore"
UNKNOWN = (REFUSE, IGNORE)
"""What is done about a category that was not in the training rows: it is refused, or is all zeros."""

MOST_CATEGORIES, FEW_CATEGORIES = 1000, 20
"""Categories of one column at most, and how many may be there whatever the number of rows."""

DAY = np.timedelta64(1, "D")


@dataclasses.dataclass(frozen=True)
class Column:
    """How one column is encoded.

    Attributes:
        name: its name.
        kind: "number", "words" or "date".
        categories: the words of the training rows, sorted; none of other kinds.
        origin: the day from which days are counted, such as "2026-01-31"; "" of other kinds.
        zoned: whether the dates had a time zone.
        fill: what stands for a missing value: a number, days, or the place of a category; None if it is refused.
        indicator: whether a column of 0 and 1 tells missing values.
    """

    name: str
    kind: str = NUMBER
    categories: tuple[str, ...] = ()
    origin: str = ""
    zoned: bool = False
    fill: float | None = None
    indicator: bool = False

    @property
    def width(self) -> int:
        """The number of columns of the network's input that it becomes."""
        return max(1, len(self.categories)) + self.indicator

    def encode(self, table: Table, unknown: str) -> np.ndarray:
        """Return the columns of the network's input, (rows, width), float64.

        Raises:
            TableError: if the column is missing, is of another kind, or has a missing value or an unseen category that
                is refused.
        """
        if self.kind == WORDS:
            encoded, holes = self._one_hot(table, unknown)
        else:
            values = self.measured(table)
            holes = self._holes(table, values)
            encoded = np.where(holes, 0.0 if self.fill is None else self.fill, values)[:, None]
        return np.hstack([encoded, holes[:, None].astype(float)]) if self.indicator else encoded

    def measured(self, table: Table) -> np.ndarray:
        """Return a column of numbers, or of days since the origin, (rows,); NaN where one is missing."""
        if self.kind == NUMBER:
            values = table.select([self.name])[:, 0]
            infinite = np.isinf(values)
            if np.any(infinite):
                row = int(np.argmax(infinite))
                table.fail_cell(self.name, "a finite number", row, f"{values[row]:g}", "Replace it, or remove the row.")
            return values
        if table.kind(self.name) != DATE:
            table.fail_kind(self.name, "dates")
        if (self.name in table.zoned) != self.zoned:
            expected, got = ("a", "none") if self.zoned else ("no", "one")
            do = "Convert them to what the model was trained on."
            table.fail(f"dates with {expected} time zone in column '{self.name}'", got, do)
        return (table.dates[self.name] - np.datetime64(self.origin, "us")) / DAY

    def _one_hot(self, table: Table, unknown: str) -> tuple[np.ndarray, np.ndarray]:
        if table.kind(self.name) != WORDS:
            table.fail_kind(self.name, "words")
        words = table.texts[self.name]
        holes = self._holes(table, words)
        places = np.searchsorted(self.categories, words).clip(max=len(self.categories) - 1)
        known = np.asarray(self.categories)[places] == words
        strange = ~known & ~holes
        if unknown != IGNORE and np.any(strange):
            row = int(np.argmax(strange))
            ignored = table.option("unknown", IGNORE)
            do = f"Correct it, remove the row, or predict with {ignored}, which takes it for none of them."
            expected = f"one of the categories {listed(self.categories, 10)}"
            table.fail_cell(self.name, expected, row, f"'{words[row]}'", do)
        encoded = np.zeros((len(words), len(self.categories)))
        encoded[np.flatnonzero(known), places[known]] = 1
        if self.fill is not None and not self.indicator:
            encoded[holes, int(self.fill)] = 1
        return encoded, holes

    def _holes(self, table: Table, values: np.ndarray) -> np.ndarray:
        """Return where values are missing, (rows,)."""
        holes = holes_of(values)
        if self.fill is None and np.any(holes):
            what = {NUMBER: "a finite number", WORDS: "a word", DATE: "a date"}[self.kind]
            do = f"Fill it in, remove the row, or train with {table.option('missing', MEDIAN, INDICATOR)}."
            table.fail_cell(self.name, what, int(np.argmax(holes)), "an empty cell", do)
        return holes


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How the columns of a table become the input of a network, in their order."""

    columns: tuple[Column, ...]

    @classmethod
    def learned(
        cls,
        table: Table,
        features: tuple[str, ...],
        missing: str = REFUSE,
        *,
        counts: np.ndarray | None = None,
        constant: bool = False,
    ) -> Self:
        """Return the encoding of the named columns of training rows.

        Args:
            table: the training rows.
            features: the names of the columns.
            missing: "refuse", "median" or "indicator".
            counts: (rows,), how many times each row is there, at least 0; None if each is there once.
            constant: whether a column may have one value alone.

        Raises:
            TableError: if a column is missing, does not vary, has holes that are refused, or more categories than could
                be learned.
            InputError: if `missing` is another word.
        """
        checks.word("missing", missing, MISSING)
        return cls(tuple(_learned(table, name, missing, counts, constant) for name in features))

    @property
    def width(self) -> int:
        """The number of columns of the network's input."""
        return sum(column.width for column in self.columns)

    @property
    def kinds(self) -> dict[str, str]:
        """The kinds of the columns by name."""
        return {column.name: column.kind for column in self.columns}

    @property
    def holes(self) -> bool:
        """Whether cells may be empty."""
        return any(column.fill is not None for column in self.columns)

    @property
    def is_plain(self) -> bool:
        """Whether all columns are numbers that stay what they are."""
        return all(column == Column(column.name) for column in self.columns)

    def encode(self, table: Table, unknown: str = REFUSE) -> np.ndarray:
        """Return the input of the network, (rows, width).

        Args:
            table: the rows.
            unknown: what to do about a category that was not in the training rows: "refuse", or "ignore", which makes
                it all zeros.

        Raises:
            TableError: for a column that is missing or of another kind, and a cell that is refused.
            InputError: if `unknown` is another word.
        """
        checks.word("unknown", unknown, UNKNOWN)
        table.require([column.name for column in self.columns])
        x = np.empty((table.rows, self.width), order="F")  # the sums of long columns are more exact
        start = 0
        for column in self.columns:
            x[:, start : start + column.width] = column.encode(table, unknown)
            start += column.width
        return x

    def scales(self, variances: np.ndarray) -> np.ndarray:
        """Return what each column of the input, of such variances, (width,), is divided by: its standard deviation.

        The columns of one category share the square root of the sum of their variances, so that a category varies as
        much as a number does, and rare words do not become large numbers.
        """
        groups: list[int] = []
        for column in self.columns:
            first = groups[-1] + 1 if groups else 0
            groups += [first] * (column.width - column.indicator) + [first + 1] * column.indicator
        return np.sqrt(np.bincount(groups, variances)[groups])

    def described(self) -> list[dict[str, Any]]:
        """Return the columns as JSON values, without what is as by default."""
        default = Column("")
        described = []
        for column in self.columns:
            parts = {key: value for key, value in vars(column).items() if value != getattr(default, key)}
            parts |= {"categories": list(column.categories)} if column.categories else {}
            described.append({key: value for key, value in parts.items() if key != "name"})
        return described

    @classmethod
    def of_description(cls, features: tuple[str, ...], given: Any) -> Self:
        """Return the encoding that `described` describes.

        Raises:
            InputError: if it is no such description.
        """
        if not isinstance(given, list) or len(given) != len(features):
            _fail_description("a list of one for each column")
        return cls(tuple(_column(name, parts) for name, parts in zip(features, given, strict=True)))


def _learned(table: Table, name: str, missing: str, counts: np.ndarray | None, constant: bool) -> Column:
    kind = table.kind(name)
    there = np.ones(table.rows, bool) if counts is None else counts > 0
    counts = None if counts is None else counts[there]
    if kind == WORDS:
        column = _of_words(table, name, there, counts, constant)
    else:
        column = _of_dates(table, name, there) if kind == DATE else Column(name)
    values = table.texts[name] if kind == WORDS else column.measured(table)
    if missing == REFUSE:
        column._holes(table, values)  # which raises for them
    values = values[there]
    holes = holes_of(values)
    left = values[~holes]
    if kind != WORDS:
        if not len(left):
            table.fail(f"values in column '{name}'", "empty cells alone", f"It is not informative: {table.without_it}.")
        if np.ptp(left) == 0 and not constant:
            table.fail_constant(name, f"{left[0]:g}" if kind == NUMBER else str(table.dates[name][there][~holes][0]))
    if missing == REFUSE:
        return column
    indicator = missing == INDICATOR and bool(np.any(holes))
    counts = None if counts is None else counts[~holes]
    return dataclasses.replace(
        column, fill=(_most_frequent if kind == WORDS else median_of)(left, counts), indicator=indicator
    )


def _of_words(table: Table, name: str, there: np.ndarray, counts: np.ndarray | None, constant: bool) -> Column:
    words, rows = table.texts[name][there], len(there) if counts is None else int(counts.sum())
    categories = tuple(np.unique(words[words != ""]).tolist())
    most = min(MOST_CATEGORIES, max(FEW_CATEGORIES, rows // 2))
    if len(categories) > most:
        do = f"{table.without_it.capitalize()}, or merge the rare ones."
        got = f"{len(categories):,}, such as '{categories[0]}'"
        table.fail(f"at most {most:,} words in column '{name}' of {rows:,} rows", got, do)
    if len(categories) < (1 if constant else 2):
        table.fail_constant(name, f"'{categories[0]}'" if categories else "no word")
    return Column(name, WORDS, categories)


def _of_dates(table: Table, name: str, there: np.ndarray) -> Column:
    dates = table.dates[name][there]
    known = dates[~np.isnat(dates)]
    origin = str(known.min().astype("datetime64[D]")) if len(known) else "1970-01-01"
    return Column(name, DATE, origin=origin, zoned=name in table.zoned)


def _most_frequent(words: np.ndarray, counts: np.ndarray | None) -> float:
    """Return the place of the most frequent category, the first of several."""
    return float(np.argmax(np.bincount(np.unique(words, return_inverse=True)[1], counts)))


def _column(name: str, given: Any) -> Column:
    """Return the column of a description, every value of which is checked: it may be a stranger's."""
    fields = {field.name for field in dataclasses.fields(Column)} - {"name"}
    if not isinstance(given, Mapping) or not given.keys() <= fields:
        _fail_description(f"a dictionary of {', '.join(sorted(fields))}")
    kind, fill = given.get("kind", NUMBER), given.get("fill")
    categories, origin = given.get("categories", []), given.get("origin", "")
    if kind not in (NUMBER, WORDS, DATE):
        _fail_description("number, words or date as the kind of a column")
    sorted_words = isinstance(categories, list) and all(isinstance(word, str) and word for word in categories)
    if not sorted_words or sorted(set(categories)) != categories or (len(categories) >= 2) != (kind == WORDS):
        _fail_description("sorted, different words as categories")
    if not isinstance(origin, str) or bool(origin) != (kind == DATE) or (origin and not _is_day(origin)):
        _fail_description("a day such as 2026-01-31 as origin")
    if any(type(given.get(flag, False)) is not bool for flag in ("zoned", "indicator")):
        _fail_description("true or false for zoned and indicator")
    if fill is not None and (type(fill) is not float or not math.isfinite(fill)):
        _fail_description("a finite number as fill")
    if kind == WORDS and fill is not None and fill not in range(len(categories)):
        _fail_description("the place of a category as fill")
    if given.get("indicator", False) and fill is None:
        _fail_description("a fill with an indicator")
    return Column(name, **{**given, "categories": tuple(categories)})


def _is_day(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _fail_description(expected: str) -> NoReturn:
    fail(InputError, expected, "something else", "Pass a model written by `bbb fit`.")
