"""Plots of calibration: coverage, probability integral transforms and reliability."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, metrics
from bbb.metrics.inputs import rising_levels, unit_interval
from bbb.plots.style import CHANCE, MEAN, axes, diagonal, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


TWO_SIDED = 1.96
"""The half-width of a 95 % interval, in standard errors."""


def calibration(pit: ArrayLike, *, levels: Sequence[float] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Plot the observed coverage of central intervals against their nominal coverage.

    Below the diagonal, intervals are too narrow; above it, too wide. The grey region contains 95 % of the points of a
    perfect predictive if observations are independent.

    Args:
        pit: the cdf at each observation or, for discrete ones, `metrics.pit` or `metrics.pit_draws`; any shape.
        levels: nominal coverages, increasing, inside (0, 1); by default from 5 % to 95 %.
        ax: the axes; by default those of a new figure.

    Raises:
        InputError: if a transform lies outside [0, 1], or the levels lie outside (0, 1) or are not increasing.
    """
    rising = rising_levels("levels", np.linspace(0.05, 0.95, 19) if levels is None else levels)
    nominal, observed = 100 * rising, 100 * metrics.observed_coverage(pit, rising)
    ax = axes(ax)
    spread = TWO_SIDED * np.sqrt(nominal * (100 - nominal) / np.size(pit))
    ax.fill_between(nominal, nominal - spread, nominal + spread, color=CHANCE, linewidth=0, label="95 % of chance")
    diagonal(ax, np.array([0, 100]))
    ax.plot(nominal, observed, "o-", color=MEAN, markersize=4, label="observed")
    ax.set(xlabel="nominal coverage, %", ylabel="observed coverage, %", xlim=(0, 102), ylim=(0, 102))
    ax.legend(frameon=False, loc="upper left")
    return ax


def pit_histogram(pit: ArrayLike, *, bins: int = 10, ax: "Axes | None" = None) -> "Axes":
    """Plot the histogram of the probability integral transform, which is flat for a calibrated predictive.

    A hump means that predictives are too wide, a bowl that they are too narrow, and a slope that they are biased. The
    grey region contains the tops of 95 % of the bars of a perfect predictive if observations are independent.

    Args:
        pit: as for `calibration`.
        bins: the number of bars.
        ax: the axes; by default those of a new figure.

    Raises:
        InputError: if a transform lies outside [0, 1].
    """
    bins = checks.positive_integer("bins", bins)
    values = unit_interval("pit", pit).ravel()
    share, n = 1 / bins, len(values)
    spread = TWO_SIDED * math.sqrt(share * (1 - share) / n) / share
    ax = axes(ax)
    ax.axhspan(max(1 - spread, 0), 1 + spread, color=CHANCE, linewidth=0, label="95 % of chance")
    ax.axhline(1, color="black", linewidth=1.0, linestyle="--")
    density, edges = np.histogram(values, bins, range=(0, 1), weights=np.full(n, bins / n))
    ax.stairs(density, edges, baseline=0, color=MEAN, linewidth=2.0, label="observed")
    ax.set(xlabel="probability integral transform of y", ylabel="density", xlim=(0, 1), ylim=(0, None))
    legend_above(ax)
    return ax


def reliability(found: metrics.Reliability, *, ax: "Axes | None" = None) -> "Axes":
    """Plot a reliability diagram: the accuracy of a classifier against its confidence.

    Below the diagonal, it is overconfident. The grey bars contain 95 % of the points of a calibrated classifier, and
    the area of a point is proportional to its number of rows.

    Args:
        found: `metrics.reliability(y, probabilities)`.
        ax: the axes; by default those of a new figure.

    Raises:
        InputError: if `found` is not a `Reliability`.
    """
    checks.is_a("found", found, metrics.Reliability, "Pass metrics.reliability(y, probabilities).")
    ax = axes(ax)
    full = found.counts > 0
    sure, right, counts = (100 * found.confidence[full], 100 * found.accuracy[full], found.counts[full])
    spread = TWO_SIDED * np.sqrt(np.maximum(sure * (100 - sure), 0) / counts)
    ends = np.clip(sure - spread, 0, 100), np.clip(sure + spread, 0, 100)
    ax.vlines(sure, *ends, color=CHANCE, linewidth=9, label="95 % of chance")
    diagonal(ax, np.array([0, 100]))
    ax.scatter(sure, right, 12 + 250 * counts / counts.sum(), color=MEAN, zorder=4, clip_on=False)
    ax.plot([], [], "o", color=MEAN, markersize=4, label=f"{counts.sum():,} rows in {len(counts)} bins")
    ax.set(xlabel="probability of the most probable class, %", ylabel="accuracy, %", xlim=(0, 102), ylim=(0, 102))
    legend_above(ax)
    return ax
