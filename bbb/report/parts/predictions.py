"""The part on the predictions: a band over one column, or the interval of each row; of classes, what each was given."""

import numpy as np

from bbb.report.blocks import Figure, Section, Table, Text, cut, level_of, number, percent
from bbb.report.evidence import Evidence
from bbb.report.figures import area, dots, layout, line, of_rows, plain, segments, spec
from bbb.tables.table import NUMBER
from bbb.tables.table import Table as Rows

MOST_INTERVALS = 300
"""The rows at most whose intervals are drawn side by side."""

GRID = 200
"""The places at which a band is drawn."""

MOST_CLASSES = 12
"""The classes at most that a figure has a line for."""


def section(evidence: Evidence) -> Section:
    """Return what is predicted beside what was observed."""
    if evidence.is_classes:
        return Section("predictions", "The predictions", [Text(_classes_in_words(evidence)), _classes(evidence)])
    lone = len(evidence.model.features) == 1 and evidence.table.kind(evidence.model.features[0]) == NUMBER
    figure = _band(evidence) if lone and evidence.model.columns.is_plain else _intervals(evidence)
    return Section("predictions", "The predictions", [Text(_in_words(evidence)), figure])


def _in_words(evidence: Evidence) -> str:
    outside = evidence.rows - int(evidence.hits.sum())
    noise = np.maximum(evidence.std**2 - np.asarray(evidence.predictive.f.std, float)[:, 0] ** 2, 0)
    share = "" if evidence.model.is_count else _epistemic(evidence, noise)
    return (
        f"Predictions go from {number(evidence.mean.min())} to {number(evidence.mean.max())}, with standard deviations "
        f"from {number(evidence.std.min())} to {number(evidence.std.max())}. Outside of its interval is what was "
        f"observed in {outside:,} of {evidence.rows:,} rows.{share}"
    )


def _epistemic(evidence: Evidence, noise: np.ndarray) -> str:
    share = 1 - float(np.sum(noise) / np.sum(evidence.std**2))
    return f" Of the predicted variance, {percent(share)} is of the weights, which more rows lower; the rest is noise."


def _band(evidence: Evidence) -> Figure:
    name, level = evidence.model.features[0], evidence.level
    x = evidence.table.select([name])[:, 0]
    margin = 0.05 * max(float(np.ptp(x)), 1e-9 * max(abs(float(x[0])), 1.0))
    grid = np.linspace(x.min() - margin, x.max() + margin, GRID)
    made = evidence.model.predict(Rows("the grid", (name,), grid[:, None]), levels=(level,), **evidence.how)
    lower, upper = evidence.model.interval(made, level)
    mean = np.asarray(made.y.mean, float)[:, 0]
    rows = evidence.drawn()
    traces = [area(grid, lower, upper, f"{level_of(level)} interval of a new row", "--band")]
    if not evidence.model.is_count:
        traces.append(area(grid, *made.f.interval(level), f"{level_of(level)} interval of the function", "--inner"))
    traces.append(line(grid, mean, "mean", "--mean"))
    traces.append(of_rows(evidence, rows, dots(x[rows], evidence.y[rows], "observed", "--data")))
    words = f"The mean, its {level_of(level)} interval and the observed rows over “{name}”."
    alt = f"{words} {percent(evidence.hits.mean())} of the rows are inside the interval."
    places = np.linspace(0, GRID - 1, 9).round().astype(int)
    table = Table(
        "The band at nine places",
        (name, "mean", "lower end", "upper end"),
        [tuple(map(number, (grid[i], mean[i], lower[i, 0], upper[i, 0]))) for i in places],
    )
    inner = "" if evidence.model.is_count else " The inner band is of the function alone, without the noise of a row."
    return Figure(
        "figure-predictions",
        spec(traces, layout(name, evidence.model.target, 400)),
        alt,
        words + inner + evidence.drawn_in_words(),
        table,
    )


def _intervals(evidence: Evidence) -> Figure:
    rows = evidence.drawn(MOST_INTERVALS)
    rows = rows[np.argsort(evidence.mean[rows], kind="stable")]
    place, hit = np.arange(1, len(rows) + 1), evidence.hits[rows]
    lower, upper = evidence.interval.lower[rows], evidence.interval.upper[rows]
    width = float(np.clip(600 / len(rows), 1.5, 7))
    traces = [
        segments(place, lower, upper, f"{level_of(evidence.level)} interval", "--stroke", width=width),
        line(place, evidence.mean[rows], "mean", "--mean", width=1.5),
    ]
    for inside, name, color, symbol in (
        (True, "observed, inside", "--data", "circle"),
        (False, "observed, outside", "--wrong", "x"),
    ):
        some = hit == inside
        if some.any():
            drawn = dots(place[some], evidence.y[rows[some]], name, color, symbol=symbol, size=5 if inside else 7)
            traces.append(of_rows(evidence, rows[some], drawn))
    words = (
        f"Each row is a stroke, its {level_of(evidence.level)} interval, in the order of the predicted mean; the point "
        "is what was observed."
    )
    alt = f"{words} {percent(evidence.hits.mean())} of the points are on their strokes."
    made = layout("rows in the order of their prediction", evidence.model.target, 400, xaxis_showticklabels=False)
    return Figure(
        "figure-predictions",
        spec(traces, made),
        alt,
        words + evidence.drawn_in_words(MOST_INTERVALS),
        _by_prediction(evidence),
    )


def parts_by(values: np.ndarray, most: int = 5, least: int = 5) -> list[np.ndarray]:
    """Return the places of rows in parts of about as many, rising by a value; equal values stay together."""
    count = max(1, min(most, len(values) // least))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    part = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    return [found for k in range(max(len(edges) - 1, 1)) if len(found := np.flatnonzero(part == k))]


def _by_prediction(evidence: Evidence) -> Table:
    rows = []
    for some in parts_by(evidence.mean):
        widths = evidence.interval.upper[some] - evidence.interval.lower[some]
        ends = f"{number(evidence.mean[some].min())} to {number(evidence.mean[some].max())}"
        values = number(evidence.y[some].mean()), number(widths.mean()), percent(evidence.hits[some].mean())
        rows.append((ends, f"{len(some):,}", *values))
    head = ("predicted", "rows", "mean observed", "mean width of the interval", "inside it")
    return Table("Rows by what was predicted", head, rows)


def _classes_in_words(evidence: Evidence) -> str:
    entropy = evidence.predictive.y.entropy
    total, epistemic = float(np.mean(entropy.total)), float(np.mean(entropy.epistemic))
    wrong = evidence.rows - int(evidence.hits.sum())
    share = (
        f", of which {percent(epistemic / total)} is of the weights, which more rows would lower" if total > 0 else ""
    )
    return (
        f"The most probable class is another than the observed one in {wrong:,} of {evidence.rows:,} rows. The mean "
        f"entropy is {number(total)} nats{share}."
    )


def _classes(evidence: Evidence) -> Figure:
    names: tuple[str, ...] = evidence.model.classes or ()
    counts = np.bincount(evidence.y, minlength=len(names))
    shown = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    given = evidence.probabilities[np.arange(evidence.rows), evidence.y]
    rows = evidence.drawn()
    rows = rows[np.isin(evidence.y[rows], shown)]
    spread = np.random.default_rng(1).uniform(-0.3, 0.3, evidence.rows)
    place = len(shown) - 1 - np.searchsorted(shown, evidence.y) + spread
    traces = []
    for right, name, color, symbol in (
        (True, "most probable", "--mean", "circle"),
        (False, "another was more probable", "--wrong", "x"),
    ):
        some = rows[evidence.hits[rows] == right]
        if len(some):
            drawn = dots(given[some], place[some], name, color, symbol=symbol, size=5 if right else 7)
            traces.append(of_rows(evidence, some, drawn))
    labels = [plain(cut(names[k], 20)) for k in shown]
    ticks = {"yaxis_tickvals": list(range(len(shown)))[::-1], "yaxis_ticktext": labels}
    made = layout(
        "probability given to the observed class",
        "",
        max(220, 90 + 56 * len(shown)),
        xaxis_range=[-0.02, 1.02],
        yaxis_range=[-0.6, len(shown) - 0.4],
        yaxis_showgrid=False,
        **ticks,
    )
    words = (
        "Each point is a row, beside the class that was observed; farther to the right, the model gave that class more "
        "probability. The height within a class has no meaning."
    )
    alt = f"{words} In {percent(evidence.hits.mean())} of the rows the observed class is the most probable."
    return Figure(
        "figure-predictions",
        spec(traces, made),
        alt,
        words + evidence.drawn_in_words(),
        _class_table(evidence, names, counts, given),
    )


def _class_table(evidence: Evidence, names: tuple[str, ...], counts: np.ndarray, given: np.ndarray) -> Table:
    best = np.bincount(evidence.probabilities.argmax(axis=1), minlength=len(names))
    rows = []
    for k in np.argsort(-counts, kind="stable")[:MOST_CLASSES]:
        of_class = evidence.y == k
        right = percent(evidence.hits[of_class].mean()) if counts[k] else "none"
        mean = percent(given[of_class].mean()) if counts[k] else "none"
        rows.append((cut(names[k]), f"{counts[k]:,}", f"{best[k]:,}", right, mean))
    more = f", the {MOST_CLASSES} most frequent of {len(names):,}" if len(names) > MOST_CLASSES else ""
    return Table(
        f"Rows by the observed class{more}",
        ("class", "observed", "predicted", "right", "mean probability given to it"),
        rows,
    )
