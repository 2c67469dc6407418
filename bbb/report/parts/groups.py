"""The part on groups of rows: whether intervals hold among the rows of each, as they do on the whole."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bbb.report import chance
from bbb.report.blocks import Figure, Section, Table, Text, cut, level_of, listed, number, percent
from bbb.report.evidence import Evidence
from bbb.report.figures import dots, layout, line, plain, segments, spec
from bbb.report.parts.predictions import parts_by
from bbb.tables.groups import names_of
from bbb.tables.table import WORDS

MOST_GROUPS = 10
"""The groups at most of one column that are shown: of more, those with the lowest shares."""

MOST_COLUMNS = 5
"""The columns of categories at most whose groups are shown."""


class Group(NamedTuple):
    """Some rows.

    Attributes:
        name: what they have in common.
        rows: their places.
    """

    name: str
    rows: np.ndarray


def section(evidence: Evidence) -> Section:
    """Return the share of the rows inside, or right, of each group."""
    figures = [
        _figure(evidence, f"figure-groups-{i}", title, found)
        for i, (title, found) in enumerate(_divisions(evidence))
        if len(found) > 1
    ]
    what = (
        "the share of rows whose most probable class is right"
        if evidence.is_classes
        else f"the share of rows inside the {level_of(evidence.level)} interval"
    )
    words = (
        f"A model may be right on the whole and wrong among some rows. Shown is {what}, with the range that its "
        "probability has with 95 % confidence (Wilson); of 20 groups, one is expected to miss by chance."
    )
    if not figures:
        return Section(
            "groups", "Groups of rows", [Text("There are too few rows, or values, to divide them into groups.")]
        )
    left = _columns(evidence)[MOST_COLUMNS:]
    more = f" Not shown: {listed(left)}; ask for one with --group." if left else ""
    return Section("groups", "Groups of rows", [Text(words + more), *figures])


def _divisions(evidence: Evidence) -> Iterator[tuple[str, list[Group]]]:
    """Yield what rows are divided by, and the groups."""
    by = evidence.uncertainty_in_words
    parts = parts_by(evidence.uncertainty, least=10)
    ends = [(evidence.uncertainty[rows].min(), evidence.uncertainty[rows].max()) for rows in parts]
    yield (
        by,
        [Group(f"{number(low, 3)} to {number(high, 3)}", rows) for (low, high), rows in zip(ends, parts, strict=True)],
    )
    columns = _columns(evidence)[:MOST_COLUMNS]
    for column in dict.fromkeys([*([evidence.group] if evidence.group is not None else []), *columns]):
        names = names_of(evidence.table, column) if column == evidence.group else evidence.table.texts[column]
        found, of_row = np.unique(names, return_inverse=True)
        yield (
            f"“{column}”",
            [Group(str(name) or "missing", np.flatnonzero(of_row == k)) for k, name in enumerate(found)],
        )


def _columns(evidence: Evidence) -> list[str]:
    return [name for name in evidence.model.features if evidence.table.kind(name) == WORDS and name != evidence.group]


def _figure(evidence: Evidence, name: str, by: str, groups: Sequence[Group]) -> Figure:
    hits = [int(evidence.hits[rows].sum()) for _, rows in groups]
    order: Sequence[int] = range(len(groups))
    if len(groups) > MOST_GROUPS:
        order = sorted(order, key=lambda k: (hits[k] / len(groups[k].rows), groups[k].name))[:MOST_GROUPS]
    which = f", the lowest {MOST_GROUPS} of {len(groups):,}" if len(groups) > MOST_GROUPS else ""
    shown, counts = [groups[k] for k in order], [(hits[k], len(groups[k].rows)) for k in order]
    shares, ranges = [k / n for k, n in counts], [chance.of_share(k, n) for k, n in counts]
    expected = [_expected(evidence, group.rows) for group in shown]
    place = np.arange(len(shown))[::-1]
    lower, upper = (100 * np.array([getattr(one, end) for one in ranges]) for end in ("lower", "upper"))
    hover = [
        f"{cut(group.name)}: {percent(share)} of {n:,} rows"
        for group, share, (_, n) in zip(shown, shares, counts, strict=True)
    ]
    right = "right" if evidence.is_classes else "inside"
    traces = [
        segments(place, lower, upper, "95 % confidence", "--stroke", width=6, across=True),
        dots(100 * np.array(shares), place, right, "--mean", size=8, hover=hover),
    ]
    if evidence.is_classes:
        tips = [f"{cut(group.name)}: {percent(p)} expected" for group, p in zip(shown, expected, strict=True)]
        traces.append(
            dots(
                100 * np.array(expected),
                place,
                "mean probability given",
                "--data",
                symbol="line-ns-open",
                size=13,
                hover=tips,
            )
        )
        traces[-1]["marker"]["line"] = {"color": "--data", "width": 2.5}
    else:
        traces.insert(
            0,
            line(
                [100 * evidence.level] * 2,
                [-0.6, len(shown) - 0.4],
                level_of(evidence.level),
                "--muted",
                dash="dash",
                width=1.2,
            ),
        )
    low = max(0.0, min([*lower, *(100 * np.array(expected))]) - 4)
    ticks = {"yaxis_tickvals": place.tolist(), "yaxis_ticktext": [plain(cut(group.name, 22)) for group in shown]}
    made = layout(
        f"{right}, %",
        "",
        110 + 34 * len(shown),
        xaxis_range=[low, 101.5],
        yaxis_range=[-0.6, len(shown) - 0.4],
        yaxis_showgrid=False,
        **ticks,
    )
    off = [group.name for group, one, p in zip(shown, ranges, expected, strict=True) if not one.lower <= p <= one.upper]
    words = _words(off, len(shown))
    title = f"By {by}{which}"
    alt = f"{title}: the share of rows {right}, with its 95 % confidence. {words}"
    return Figure(
        name,
        spec(traces, made),
        alt,
        f"{title}. {words}",
        _table(evidence, title, shown, counts, ranges, expected),
    )


def _expected(evidence: Evidence, rows: np.ndarray) -> float:
    """Return the share that should be inside, or right: of classes the mean probability that was given."""
    return float(evidence.confidence[rows].mean()) if evidence.is_classes else evidence.level


def _words(off: Sequence[str], count: int) -> str:
    if not off:
        return f"In all {count} groups the range holds what is expected."
    names = listed([f"“{cut(name, 24)}”" for name in off[:4]]) + (f" and {len(off) - 4} more" if len(off) > 4 else "")
    return f"In {len(off)} of {count} groups the range misses what is expected: {names}."


def _table(
    evidence: Evidence,
    title: str,
    groups: Sequence[Group],
    counts: Sequence[tuple[int, int]],
    ranges: Sequence[chance.Range],
    expected: Sequence[float],
) -> Table:
    head = ["group", "rows", "right" if evidence.is_classes else "inside", "95 % confidence", "expected"]
    if not evidence.is_classes:
        head += ["RMS error", "mean predicted sd"]
    rows = []
    for group, (k, n), one, p in zip(groups, counts, ranges, expected, strict=True):
        cells = [cut(group.name), f"{n:,}", percent(k / n), f"{percent(one.lower)} to {percent(one.upper)}", percent(p)]
        if not evidence.is_classes:
            errors = evidence.y[group.rows] - evidence.mean[group.rows]
            cells += [number(np.sqrt(np.mean(errors**2))), number(evidence.std[group.rows].mean())]
        rows.append(cells)
    return Table(title, head, rows)
