"""The part on groups of rows: whether intervals hold among the rows of each, as they do on the whole."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bbb.report import chance
from bbb.report.blocks import Figure, Section, Table, Text, cut, level_of, listed, number, percent
from bbb.report.evidence import Evidence
from bbb.report.figures import dots, layout, line, plain, segments, spec
from bbb.report.parts.predictions import parts_by
from bbb.tables.groups import largest, names_of
from bbb.tables.table import WORDS

MOST_GROUPS = 50
"""The groups at most of one column that are scored: of more, those of the most rows; the others are counted."""

MOST_DRAWN = 10
"""The groups at most that a figure draws: of more, those with the lowest shares; its table has all that are scored."""

MOST_COLUMNS = 5
"""The columns of categories at most whose groups are shown."""


class Group(NamedTuple):
    """Some rows, and how many of them are inside of their intervals, or right.

    Attributes:
        name: what they have in common.
        rows: their places.
        hits: how many are.
        expected: the share that should be: the level, or of classes the mean probability that was given.
        at_least: whether more may be: of counts, whose intervals hold whole numbers.
    """

    name: str
    rows: np.ndarray
    hits: int
    expected: float
    at_least: bool = False

    @property
    def range(self) -> chance.Range:
        """The 95 % confidence interval of the probability of that."""
        return chance.of_share(self.hits, len(self.rows))

    @property
    def share(self) -> float:
        """The share of the rows that are."""
        return self.hits / len(self.rows)

    @property
    def is_off(self) -> bool:
        """Whether the confidence interval misses what is expected."""
        lower, upper = self.range
        return upper < self.expected or (lower > self.expected and not self.at_least)


class Division(NamedTuple):
    """Rows divided by something, its groups, and a sentence on those that are not among them, if there are some."""

    by: str
    groups: list[Group]
    others: str = ""


def section(evidence: Evidence) -> Section:
    """Return the share of the rows inside, or right, of each group."""
    figures = [
        _figure(evidence, f"figure-groups-{i}", division)
        for i, division in enumerate(_divisions(evidence))
        if len(division.groups) > 1
    ]
    what = (
        "the share of rows whose most probable class is right"
        if evidence.is_classes
        else f"the share of rows inside the {level_of(evidence.level)} interval"
    )
    words = (
        f"A model may be right on the whole and wrong among some rows. Shown is {what}, with the range that its "
        "probability has with 95 % confidence (Clopper and Pearson); of 20 groups, at most one is expected to miss by "
        "chance."
    )
    if not figures:
        return Section(
            "groups", "Groups of rows", [Text("There are too few rows, or values, to divide them into groups.")]
        )
    left = _columns(evidence)[MOST_COLUMNS:]
    more = f" Not shown: {listed(left)}; ask for one with --group." if left else ""
    return Section("groups", "Groups of rows", [Text(words + more), *figures])


def _divisions(evidence: Evidence) -> Iterator[Division]:
    """Yield what rows are divided by, and the groups."""
    parts = parts_by(evidence.uncertainty, least=10)
    names = _ends([(evidence.uncertainty[rows].min(), evidence.uncertainty[rows].max()) for rows in parts])
    groups = [_group(evidence, *pair) for pair in zip(names, parts, strict=True)]
    yield Division(evidence.uncertainty_in_words, groups)
    columns = _columns(evidence)[:MOST_COLUMNS]
    for column in columns if evidence.group is None else [evidence.group, *columns]:
        yield _of_column(evidence, column)


def _of_column(evidence: Evidence, column: str) -> Division:
    """Return the groups of the values of a column that have the most rows."""
    values = names_of(evidence.table, column) if column == evidence.group else evidence.table.texts[column]
    found, of_row, counts = np.unique(values, return_inverse=True, return_counts=True)
    order, ends = np.argsort(of_row, kind="stable"), np.cumsum(counts)
    scored = largest(counts, MOST_GROUPS)
    parts = [order[ends[place] - counts[place] : ends[place]] for place in scored]
    groups = [_group(evidence, str(found[place]) or "missing", rows) for place, rows in zip(scored, parts, strict=True)]
    left = np.isin(of_row, scored, invert=True)
    return Division(f"“{column}”", groups, _others(evidence, len(found) - len(scored), left))


def _others(evidence: Evidence, groups: int, rows: np.ndarray) -> str:
    """Return a sentence on so many groups that are not scored apart, and their rows, (rows,), bool; "" for none."""
    if not groups:
        return ""
    right = "right" if evidence.is_classes else "inside"
    share = f"{percent(np.mean(evidence.hits[rows]))} of their {np.sum(rows):,} rows are {right}"
    return f" These are the {MOST_GROUPS} groups of the most rows; of the {groups:,} others, {share}."


def _ends(ends: Sequence[tuple[float, float]]) -> list[str]:
    """Return the two ends of each part, in as many digits, from three, as tell the parts apart."""
    for digits in range(3, 9):
        names = [f"{number(low, digits)} to {number(high, digits)}" for low, high in ends]
        if len(set(names)) == len(names):
            break
    return names


def _columns(evidence: Evidence) -> list[str]:
    return [name for name in evidence.model.features if evidence.table.kind(name) == WORDS and name != evidence.group]


def _group(evidence: Evidence, name: str, rows: np.ndarray) -> Group:
    hits = int(evidence.hits[rows].sum())
    expected = float(evidence.confidence[rows].mean()) if evidence.is_classes else evidence.level
    return Group(name, rows, hits, expected, evidence.model.is_count)


def _figure(evidence: Evidence, name: str, division: Division) -> Figure:
    right, which, groups = "right" if evidence.is_classes else "inside", "", division.groups
    words = _words(groups) + division.others
    if len(groups) > MOST_DRAWN:
        which = f", the lowest {MOST_DRAWN} of {len(groups):,}"
        groups = sorted(groups, key=lambda group: (group.share, group.name))
    table = _table(evidence, f"By {division.by}", groups)
    groups = groups[:MOST_DRAWN]
    place = np.arange(len(groups))[::-1]
    lower, upper = (100 * np.array(ends) for ends in zip(*(group.range for group in groups), strict=True))
    low = max(0.0, min(lower.min(), *(100 * group.expected for group in groups)) - 4)
    made = layout(
        f"{right}, %",
        "",
        110 + 34 * len(groups),
        xaxis_range=[low, 101.5],
        yaxis_range=[-0.6, len(groups) - 0.4],
        yaxis_showgrid=False,
        yaxis_tickvals=place.tolist(),
        yaxis_ticktext=[plain(cut(group.name, 22)) for group in groups],
    )
    hover = [f"{cut(group.name)}: {percent(group.share)} of {len(group.rows):,} rows" for group in groups]
    traces = [
        segments(place, lower, upper, "95\u00a0% confidence", "--stroke", width=6, across=True),
        dots([100 * group.share for group in groups], place, right, "--mean", size=8, hover=hover),
        _expected(evidence, groups, place),
    ]
    title = f"By {division.by}{which}"
    alt = f"{title}: the share of rows {right}, with its 95\u00a0% confidence. {words}"
    return Figure(name, spec(traces, made), alt, f"{title}. {words}", table)


def _expected(evidence: Evidence, groups: Sequence[Group], place: np.ndarray) -> dict[str, Any]:
    """Return the line of the level; of classes a mark for each group."""
    if not evidence.is_classes:
        ends = [-0.6, len(groups) - 0.4]
        return line([100 * evidence.level] * 2, ends, level_of(evidence.level), "--muted", dash="dash", width=1.2)
    hover = [f"{cut(group.name)}: {percent(group.expected)} expected" for group in groups]
    shares = [100 * group.expected for group in groups]
    marks = dots(shares, place, "mean probability given", "--data", symbol="line-ns-open", size=13, hover=hover)
    marks["marker"]["line"] = {"color": "--data", "width": 2.5}
    return marks


def _words(groups: Sequence[Group]) -> str:
    off = [group.name for group in groups if group.is_off]
    if not off:
        return f"In all {len(groups)} groups the range holds what is expected."
    names = listed([f"“{cut(name, 24)}”" for name in off[:4]]) + (f" and {len(off) - 4} more" if len(off) > 4 else "")
    return f"In {len(off)} of {len(groups)} groups the range misses what is expected: {names}."


def _table(evidence: Evidence, title: str, groups: Sequence[Group]) -> Table:
    head = ["group", "rows", "right" if evidence.is_classes else "inside", "95\u00a0% confidence", "expected"]
    head += [] if evidence.is_classes else ["RMS error", "RMS predicted sd"]
    return Table(title, head, [_row(evidence, group) for group in groups])


def _row(evidence: Evidence, group: Group) -> list[str]:
    rows, ends = group.rows, " to ".join(map(percent, group.range))
    cells = [cut(group.name), f"{len(rows):,}", percent(group.share), ends, percent(group.expected)]
    if evidence.is_classes:
        return cells
    errors = evidence.y[rows] - evidence.mean[rows]
    return [*cells, *(number(np.sqrt(np.mean(values**2))) for values in (errors, evidence.std[rows]))]
