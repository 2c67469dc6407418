"""What a report is about: a model, rows whose targets are known, and what the model says of them.

Everything is computed on all rows. Only what is drawn may be some of them, and says so.
"""

import dataclasses
import functools
import os
from typing import Any

import numpy as np
from jax.sharding import Mesh

from bbb.display import counted
from bbb.errors import InputError, fail
from bbb.evaluate.diagnosis import Diagnosis
from bbb.predictive.summary import Interval, Predictive
from bbb.report import chance
from bbb.report.blocks import cut, level_of, number
from bbb.tables.encoding import REFUSE
from bbb.tables.groups import names_of
from bbb.tables.model import TabularModel
from bbb.tables.parts.scores import hits
from bbb.tables.table import DATE, NUMBER, WORDS, Table, holes_of

MOST_DRAWN = 2_000
"""The rows at most that a figure draws: of more, so many chosen at random."""

MOST_COLUMNS = 8
"""The columns at most whose values are written of a row."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a model on some rows; arrays have the shape (rows,).

    Attributes:
        model: the model.
        table: the rows.
        name: what the rows are called, such as the name of their file.
        level: of the intervals.
        group: the column whose values are scored apart; None for none.
        scores: what `TabularModel.evaluate` returns.
        diagnosis: what `TabularModel.diagnose` returns.
        predictive: of every row.
        pit: the probability integral transforms, randomised of counts; None of classes.
        how: the seed, the draws, the mesh and what is done with unknown categories.
    """

    model: TabularModel
    table: Table
    name: str
    level: float
    group: str | None
    scores: dict[str, Any]
    diagnosis: Diagnosis
    predictive: Predictive
    pit: np.ndarray | None
    how: dict[str, Any]

    @property
    def is_classes(self) -> bool:
        """Whether the target is a class."""
        return self.model.classes is not None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.table.rows

    @functools.cached_property
    def y(self) -> np.ndarray:
        """The observed targets: numbers, or the indices of classes."""
        return np.asarray(self.model.observed(self.table)).reshape(self.rows)

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """The predicted means, of numbers."""
        return np.asarray(self.predictive.y.mean, float)[:, 0]

    @functools.cached_property
    def std(self) -> np.ndarray:
        """The predicted standard deviations of a new observation, of numbers."""
        return np.asarray(self.predictive.y.std, float)[:, 0]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """The probability of each class, (rows, classes)."""
        return np.asarray(self.predictive.y.probabilities, float)

    @functools.cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the most probable class."""
        return self.probabilities.max(axis=1)

    @functools.cached_property
    def interval(self) -> Interval:
        """The interval of the level, of numbers; calibrated, where the model is."""
        lower, upper = self.model.interval(self.predictive, self.level)
        return Interval(np.asarray(lower, float)[:, 0], np.asarray(upper, float)[:, 0])

    @functools.cached_property
    def hits(self) -> np.ndarray:
        """Whether each row is inside its interval, or its class is the most probable."""
        y = self.y if self.is_classes else self.y[:, None]
        return np.asarray(hits(self.model, self.predictive, y, self.level))

    @functools.cached_property
    def uncertainty(self) -> np.ndarray:
        """The standard deviation of a new observation; of classes, the total entropy, in nats."""
        return np.asarray(self.predictive.y.entropy.total, float) if self.is_classes else self.std

    def allowed(self, level: float) -> chance.Range:
        """Return the range that the share of rows inside their intervals is in by chance; of counts, it has no top."""
        calibration = self.model.calibration
        found = chance.around(level, self.rows, None if calibration is None else calibration.rows)
        return chance.Range(found.lower, 1.0) if self.model.is_count else found

    @property
    def uncertainty_in_words(self) -> str:
        """What `uncertainty` is."""
        return "entropy" if self.is_classes else "predicted standard deviation"

    @functools.cached_property
    def order(self) -> np.ndarray:
        """The places of the rows that are drawn, in an order by chance that is the same for every figure."""
        return np.random.default_rng(0).permutation(self.rows)[:MOST_DRAWN]

    def drawn(self, most: int = MOST_DRAWN) -> np.ndarray:
        """Return the places of the rows that a figure of at most so many draws, rising."""
        return np.sort(self.order[:most])

    def drawn_in_words(self, most: int = MOST_DRAWN) -> str:
        """Return which rows are drawn, as a sentence to add; "" for all."""
        if self.rows <= most:
            return ""
        return f" Drawn are {most:,} of the {self.rows:,} rows, chosen at random; every number is of all rows."

    @property
    def shown_columns(self) -> tuple[str, ...]:
        """The columns whose values are written of a row: the first few, and that of the groups."""
        first = self.model.features[:MOST_COLUMNS]
        return first if self.group is None or self.group in first else (*first, self.group)

    def cell(self, column: str, row: int) -> str:
        """Return the value of a column in a row, as text."""
        table, kind = self.table, self.table.kind(column)
        held = {WORDS: table.texts, DATE: table.dates}.get(kind)
        values = table.values[:, table.places[column]] if held is None else held[column]
        if holes_of(values[row : row + 1])[0]:
            return "missing"
        if kind == NUMBER:
            return number(values[row], 6)
        return cut(str(values[row])) if kind == WORDS else moment(values[row])

    def observed(self, row: int) -> str:
        """Return the target of a row, as text."""
        return cut(self.model.classes[self.y[row]]) if self.model.classes is not None else number(self.y[row], 6)

    def predicted(self, row: int) -> str:
        """Return what is predicted of a row, as text."""
        if self.model.classes is not None:
            best = int(self.probabilities[row].argmax())
            return f"{cut(self.model.classes[best])}, {self.confidence[row]:.1%}".replace("%", " %")
        return f"{number(self.mean[row])} ± {number(self.std[row], 3)}"

    def interval_in_words(self, row: int) -> str:
        """Return the interval of a row, as text."""
        return f"{number(self.interval.lower[row])} to {number(self.interval.upper[row])}"

    def described(self, row: int) -> list[str]:
        """Return the lines that tell of a row, which is counted from 1."""
        hit = bool(self.hits[row])
        first = [f"row {row + 1:,}", f"observed {self.observed(row)}", f"predicted {self.predicted(row)}"]
        if not self.is_classes:
            inside = "inside" if hit else "outside"
            first.append(f"{inside} its {level_of(self.level)} interval, {self.interval_in_words(row)}")
        return [*first, *(f"{cut(column, 24)}: {self.cell(column, row)}" for column in self.shown_columns)]


def moment(time: np.datetime64) -> str:
    """Return a date, with its time unless that is midnight."""
    day = time.astype("datetime64[D]")
    return str(day) if time == day else str(time.astype("datetime64[s]")).replace("T", " ")


def gather(
    model: TabularModel,
    table: Table,
    *,
    level: float,
    group: str | None = None,
    scores: dict[str, Any] | None = None,
    diagnosis: Diagnosis | None = None,
    seed: int = 0,
    draws: int = 10_000,
    mesh: Mesh | None = None,
    unknown: str = REFUSE,
) -> Evidence:
    """Compute what a report shows; `scores` and `diagnosis` are those of these rows, where they are known already.

    Raises:
        TableError, InputError: as `TabularModel.evaluate` does.
    """
    how: dict[str, Any] = {"seed": seed, "draws": draws, "mesh": mesh, "unknown": unknown}
    if scores is None:
        scores = model.evaluate(table, level=level, group=group, **how)
    if diagnosis is None:
        diagnosis = model.diagnose(table, unknown=unknown)
    predictive = model.predict(table, levels=(level,), **how)
    pit = None if model.classes is not None else model.pit(table, **how)
    return Evidence(model, table, os.path.basename(table.path), level, group, scores, diagnosis, predictive, pit, how)


def check_group(table: Table, group: str | None) -> None:
    """Raise a TableError for a group that cannot be told of every row."""
    if group is not None:
        names_of(table, group)


def check_model(model: Any) -> None:
    """Raise for what is not a model of a table.

    Raises:
        InputError: naming what came.
    """
    if not isinstance(model, TabularModel):
        do = 'Pass bbb.tables.TabularModel.load("house.safetensors"), or the first of what fit_table returned.'
        fail(InputError, "model to be a TabularModel", f"a {type(model).__name__}", do)


def rows_in_words(count: int) -> str:
    """Return "1 row" or "2 rows"."""
    return counted(count, "row")
