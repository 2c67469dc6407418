"""The part on the errors: residuals against predictions; of classes, which are taken for which."""

import numpy as np

from bbb.report.blocks import Block, Figure, Section, Table, Text, cut, number, percent, signed
from bbb.report.evidence import Evidence, rows_in_words
from bbb.report.figures import dots, layout, line, of_rows, spec
from bbb.report.parts.predictions import parts_by

MOST_PAIRS = 10
"""The pairs of classes at most that are listed."""


def section(evidence: Evidence) -> Section:
    """Return how large the errors are, and where."""
    if evidence.is_classes:
        return Section("errors", "The errors", _mistaken(evidence))
    return Section("errors", "The errors", [_residuals(evidence)])


def _residuals(evidence: Evidence) -> Figure:
    errors = evidence.y - evidence.mean
    rows = evidence.drawn()
    parts = parts_by(evidence.mean, most=8, least=10)
    x = np.ravel([[evidence.mean[some].min(), evidence.mean[some].max()] for some in parts])
    stds = np.repeat([np.sqrt(np.mean(evidence.std[some] ** 2)) for some in parts], 2)  # a step for each part
    traces = [
        of_rows(evidence, rows, dots(evidence.mean[rows], errors[rows], "residual", "--data", size=5)),
        line(x, stds, "± predicted sd", "--mean", width=2),
        line(x, -stds, "", "--mean", width=2) | {"showlegend": False},
        line([x.min(), x.max()], [0, 0], "", "--muted", width=1, dash="dash") | {"showlegend": False},
    ]
    made = layout(f"predicted {evidence.model.target}", "observed − predicted", 360)
    z = errors / np.maximum(evidence.std, np.finfo(float).tiny)
    rms, sd = (number(np.sqrt(np.mean(values**2))) for values in (errors, evidence.std))
    two, three = (percent(np.mean(np.abs(z) > count)) for count in (2, 3))
    words = (
        f"The mean residual is {signed(float(errors.mean()))}, their root mean square {rms}, and of the predicted "
        f"standard deviations {sd}. Farther than two of these from 0 are {two} of the rows, farther than three {three}."
    )
    more = " About two thirds of the points lie between the lines where the model is right about its error."
    return Figure(
        "figure-residuals",
        spec(traces, made),
        f"Residuals against predictions. {words}",
        words + more + evidence.drawn_in_words(),
        _table(evidence, errors, parts),
    )


def _table(evidence: Evidence, errors: np.ndarray, parts: list[np.ndarray]) -> Table:
    rows = []
    for some in parts:
        ends = f"{number(evidence.mean[some].min())} to {number(evidence.mean[some].max())}"
        rms, sd = (number(np.sqrt(np.mean(values[some] ** 2))) for values in (errors, evidence.std))
        rows.append((ends, f"{len(some):,}", signed(float(errors[some].mean())), rms, sd))
    return Table(
        "Errors by what was predicted", ("predicted", "rows", "mean residual", "RMS residual", "RMS predicted sd"), rows
    )


def _mistaken(evidence: Evidence) -> list[Block]:
    names: tuple[str, ...] = evidence.model.classes or ()
    best = evidence.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(~evidence.hits)
    if not len(wrong):
        return [Text("The most probable class is the observed one in every row.")]
    pairs, which, counts = np.unique(
        np.stack([evidence.y[wrong], best[wrong]], 1), axis=0, return_inverse=True, return_counts=True
    )
    which = which.reshape(-1)
    order = np.argsort(-counts, kind="stable")[:MOST_PAIRS]
    rows = []
    for k in order:
        sure = evidence.confidence[wrong[which == k]]
        rows.append(
            (
                cut(names[pairs[k, 0]]),
                cut(names[pairs[k, 1]]),
                f"{counts[k]:,}",
                percent(sure.mean()),
                percent(sure.max()),
            )
        )
    more = f", the {MOST_PAIRS} most frequent of {len(pairs):,} pairs" if len(pairs) > MOST_PAIRS else ""
    sure = float(evidence.confidence[wrong].mean())
    right = evidence.confidence[evidence.hits]
    beside = f", and {percent(right.mean())} in the rows where it was right" if len(right) else ""
    words = (
        f"In the {rows_in_words(len(wrong))} where the most probable class was wrong, it had a probability of "
        f"{percent(sure)} on average{beside}."
    )
    head = ("observed", "taken for", "rows", "mean probability of the wrong one", "highest")
    return [Text(words), Table(f"Which classes are taken for which{more}", head, rows)]
