"""The part on calibration: the coverage of intervals of every level, and the transforms; of classes, reliability."""

import numpy as np

from bbb import metrics
from bbb.report import chance
from bbb.report.blocks import Block, Figure, Section, Table, Text, level_of, percent
from bbb.report.evidence import Evidence
from bbb.report.figures import area, bars, dots, layout, line, segments, spec

LEVELS = np.round(np.linspace(0.05, 0.95, 19), 2)
"""The levels whose coverage is drawn."""

BINS = 10
"""The bars of the histogram of the transforms."""


def section(evidence: Evidence) -> Section:
    """Return whether probabilities mean what they say."""
    blocks: list[Block]
    if evidence.is_classes:
        blocks = [Text(_gap(evidence)), _reliability(evidence)]
    else:
        blocks = [_coverage(evidence), _transforms(evidence)]
    return Section("calibration", "Calibration", blocks)


def _shares(evidence: Evidence, levels: np.ndarray) -> np.ndarray:
    """Return the observed coverage of each level: of calibrated intervals, where there are some, else by the PIT."""
    model = evidence.model
    if model.calibration is None:
        assert evidence.pit is not None
        return metrics.observed_coverage(evidence.pit, levels)
    y = evidence.y[:, None]
    return np.array([metrics.coverage(y, *model.interval(evidence.predictive, float(level))) for level in levels])


def _coverage(evidence: Evidence) -> Figure:
    model, rows = evidence.model, evidence.rows
    levels = LEVELS if model.calibration is None else LEVELS[model.calibration.highest_level() >= LEVELS]
    if not len(levels):
        levels = np.array([evidence.level])
    shares = _shares(evidence, levels)
    if model.calibration is None:  # by the transforms, which are uniform, also of counts
        ranges = [chance.around(float(level), rows) for level in levels]
    else:
        ranges = [evidence.allowed(float(level)) for level in levels]
    lower, upper = (100 * np.array([getattr(one, end) for one in ranges]) for end in ("lower", "upper"))
    hover = [
        f"{level_of(level)} interval: {percent(share)} inside" for level, share in zip(levels, shares, strict=True)
    ]
    traces = [
        area(100 * levels, lower, upper, "95\u00a0% of chance", "--chance"),
        line([0, 100], [0, 100], "if the model is right", "--muted", dash="dash", width=1.2),
        line(100 * levels, 100 * shares, "observed", "--mean"),
        dots(100 * levels, 100 * shares, "observed", "--mean", size=7, hover=hover) | {"showlegend": False},
    ]
    ends = {"xaxis_range": [0, 101], "yaxis_range": [0, 101]}
    made = layout("level of the interval, %", "rows inside, %", 380, **ends)
    off = [
        level for level, share, one in zip(levels, shares, ranges, strict=True) if not one.lower <= share <= one.upper
    ]
    found = f"Of {len(levels)} levels, the coverage of {len(off)} is outside of the range of chance."
    words = "Below the dashed line intervals are too narrow, above it too wide; in the grey area they may be right."
    whose = " The intervals are the calibrated ones." if model.calibration is not None else ""
    table = Table(
        "The coverage of intervals",
        ("level", "inside", "by chance", "verdict"),
        [
            (
                level_of(levels[i]),
                percent(shares[i]),
                f"{percent(ranges[i].lower)} to {percent(ranges[i].upper)}",
                chance.verdict(shares[i], ranges[i]),
            )
            for i in (range(0, len(levels), 2) if len(levels) > 10 else range(len(levels)))
        ],
    )
    return Figure(
        "figure-coverage",
        spec(traces, made),
        f"Coverage against level. {found} {words}",
        f"{found} {words}{whose}",
        table,
    )


def _transforms(evidence: Evidence) -> Figure:
    assert evidence.pit is not None
    rows = evidence.rows
    counts, edges = np.histogram(evidence.pit, BINS, range=(0, 1))
    allowed = chance.around(1 / BINS, rows)
    shares = counts / rows
    hover = [f"{edges[i]:.1f} to {edges[i + 1]:.1f}: {percent(share)} of the rows" for i, share in enumerate(shares)]
    traces = [
        bars(edges, 100 * shares, "observed", "--band", hover),
        line([0, 1], [100 / BINS] * 2, "if the model is right", "--muted", dash="dash", width=1.2),
    ]
    made = layout(
        "probability integral transform of the observed",
        "rows, %",
        300,
        xaxis_range=[0, 1],
        yaxis_rangemode="tozero",
        bargap=0,
    )
    ends = {
        "y0": 100 * allowed.lower,
        "y1": 100 * allowed.upper,
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "line": {"width": 0},
    }
    grey = {
        "type": "rect",
        "layer": "below",
        "fillcolor": "--chance",
        "showlegend": True,
        "name": "95\u00a0% of chance",
    }
    made["shapes"] = [grey | ends]
    outer, inner = float(shares[[0, -1]].sum()), float(shares[4:6].sum())
    shape = (
        f"In the two outer bars are {percent(outer)} of the rows, and in the two middle ones {percent(inner)}, "
        "where 20\u00a0% each are expected."
    )
    words = "A bowl means intervals that are too narrow, a hump too wide, a slope that predictions are off to one side."
    kind = " Of counts the transform is randomised between P(Y < y) and P(Y ≤ y)." if evidence.model.is_count else ""
    whose = " It is of the model itself, without its calibration." if evidence.model.calibration is not None else ""
    table = Table(
        "The transforms",
        ("from", "to", "rows", "share"),
        [(f"{edges[i]:.1f}", f"{edges[i + 1]:.1f}", f"{counts[i]:,}", percent(shares[i])) for i in range(BINS)],
    )
    return Figure(
        "figure-pit",
        spec(traces, made),
        f"A histogram of the probability integral transform. {shape} {words}",
        f"{shape} {words}{kind}{whose}",
        table,
    )


def _gap(evidence: Evidence) -> str:
    gap = evidence.scores["expected_calibration_error"]
    return (
        f"Over 15 bins of the probability of the most probable class, accuracy and probability differ by "
        f"{percent(gap)} on average; some of it is chance, most where rows are few."
    )


def _reliability(evidence: Evidence) -> Figure:
    found = metrics.reliability(evidence.y, evidence.probabilities)
    full = np.flatnonzero(found.counts > 0)
    sure, right, counts = found.confidence[full], found.accuracy[full], found.counts[full]
    ranges = [chance.around(float(p), int(n)) for p, n in zip(sure, counts, strict=True)]
    lower, upper = (100 * np.array([getattr(one, end) for one in ranges]) for end in ("lower", "upper"))
    hover = [
        f"{int(n):,} rows of {percent(p)} on average: {percent(share)} right"
        for p, share, n in zip(sure, right, counts, strict=True)
    ]
    sizes = _diameters(counts)
    traces = [
        segments(100 * sure, lower, upper, "95\u00a0% of chance", "--chance", width=10),
        line([0, 100], [0, 100], "if the model is right", "--muted", dash="dash", width=1.2),
        dots(100 * sure, 100 * right, "observed", "--mean", hover=hover),
    ]
    traces[-1]["marker"] |= {"size": sizes, "opacity": 1}
    ends = {"xaxis_range": [0, 103], "yaxis_range": [-3, 103]}  # a point at 0 is whole
    made = layout("probability of the most probable class, %", "accuracy, %", 380, **ends)
    off = sum(not one.lower <= share <= one.upper for one, share in zip(ranges, right, strict=True))
    words = (
        f"Of {len(full)} bins with rows, {off} {'is' if off == 1 else 'are'} outside of the range of chance. Below the "
        "dashed line the model is too sure of itself, above it not sure enough; a larger point is of more rows."
    )
    table = Table(
        "Rows by the probability of the most probable class",
        ("from", "to", "rows", "mean probability", "accuracy"),
        [
            (
                percent(found.edges[i], 0),
                percent(found.edges[i + 1], 0),
                f"{int(found.counts[i]):,}",
                percent(found.confidence[i]),
                percent(found.accuracy[i]),
            )
            for i in map(int, full)
        ],
    )
    return Figure("figure-reliability", spec(traces, made), f"Accuracy against probability. {words}", words, table)


def _diameters(counts: np.ndarray) -> list[float]:
    """Return the diameters of points whose area grows with the number of rows."""
    return [round(float(size), 1) for size in 6 + 14 * np.sqrt(counts / counts.max())]
