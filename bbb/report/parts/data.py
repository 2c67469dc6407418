"""The part on the data: the rows and the columns, and what is missing."""

from collections.abc import Iterator

import numpy as np

from bbb.display import counted
from bbb.report.blocks import Section, Table, Text, cut, number
from bbb.report.evidence import Evidence, rows_in_words
from bbb.tables.table import DATE, NUMBER, WORDS, holes_of

MOST = 40
"""The columns at most that are listed."""


def section(evidence: Evidence) -> Section:
    """Return what the rows are."""
    features = evidence.model.features
    missing = sum(int(np.sum(holes_of(_values(evidence, name)))) for name in features)
    holes = "None of their cells is empty." if not missing else f"Of their cells, {missing:,} are empty."
    words = [
        f"{evidence.name} has {rows_in_words(evidence.rows)}.",
        f"The model predicts “{cut(evidence.model.target, 80)}” from {counted(len(features), 'column')}.",
        holes,
        _of_training(evidence),
    ]
    rows = [_target(evidence), *(_row(evidence, name) for name in features[:MOST])]
    more = f", the first {MOST} of {len(features):,}" if len(features) > MOST else ""
    table = Table(
        f"The target, and the columns it is predicted from{more}", ("column", "kind", "missing", "values"), rows
    )
    return Section("data", "The data", [Text(" ".join(word for word in words if word)), table])


def _of_training(evidence: Evidence) -> str:
    model, parts = evidence.model, []
    if model.learned_from is not None:
        parts.append(f"The posterior was learned from {rows_in_words(model.learned_from)}.")
    else:
        parts.append("The model's file does not say how many rows it was learned from.")
    if model.calibration is not None:
        parts.append(f"Its intervals are calibrated by {rows_in_words(model.calibration.rows)} more.")
    return " ".join(parts)


def _values(evidence: Evidence, name: str) -> np.ndarray:
    table = evidence.table
    held = {WORDS: table.texts, DATE: table.dates}.get(table.kind(name))
    return table.values[:, table.places[name]] if held is None else held[name]


def _target(evidence: Evidence) -> tuple[str, str, str, str]:
    name, classes = evidence.model.target, evidence.model.classes
    if classes is None:
        kind = "count" if evidence.model.is_count else "number"
        return f"{name} (target)", kind, "0", _of_numbers(evidence.y)
    counts = np.bincount(evidence.y, minlength=len(classes))
    most = ", ".join(f"{cut(classes[k], 20)} ({counts[k]:,})" for k in np.argsort(-counts, kind="stable")[:3])
    return f"{name} (target)", "class", "0", f"{len(classes)} classes: {most}{', …' * (len(classes) > 3)}"


def _row(evidence: Evidence, name: str) -> tuple[str, str, str, str]:
    values = _values(evidence, name)
    holes = holes_of(values)
    kind, left = evidence.table.kind(name), values[~holes]
    words = {NUMBER: "number", WORDS: "category", DATE: "date"}[kind]
    of_kind = {NUMBER: _of_numbers, WORDS: _of_words, DATE: _of_dates}
    return name, words, f"{int(holes.sum()):,}", of_kind[kind](left) if len(left) else "none"


def _of_numbers(values: np.ndarray) -> str:
    return f"{number(values.min())} to {number(values.max())}, median {number(np.median(values))}"


def _of_words(values: np.ndarray) -> str:
    words, counts = np.unique(values, return_counts=True)
    return f"{len(words):,} different, most often " + ", ".join(_most_frequent(words, counts))


def _most_frequent(words: np.ndarray, counts: np.ndarray) -> Iterator[str]:
    for k in np.argsort(-counts, kind="stable")[:3]:
        yield f"{cut(str(words[k]), 20)} ({counts[k]:,})"


def _of_dates(values: np.ndarray) -> str:
    return " to ".join(str(end.astype("datetime64[D]")) for end in (values.min(), values.max()))
