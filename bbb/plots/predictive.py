"""Plots of a predictive distribution against its input or the observations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.errors import InputError, fail
from bbb.metrics.inputs import rising_levels
from bbb.plots.style import BAND, DATA, DOTS, MEAN, TARGET, axes, column, diagonal, legend_above, paler, png
from bbb.predictive.summary import Marginal, Predictive, lone_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MAX_ROWS = 20_000
"""Rows of a band that a notebook draws by itself: of more, it would be slow to show."""


def band(
    x: ArrayLike,
    predictive: Predictive,
    *,
    sigmas: float = 3.0,
    data: tuple[ArrayLike, ArrayLike] | None = None,
    target: ArrayLike | None = None,
    observation: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot the mean of f and the band mean ± sigmas·std against one input.

    Args:
        x: (rows,) or (rows, 1), the input of the predictive.
        predictive: the predictive distribution of a network with one output.
        sigmas: the half-width of the band, in standard deviations.
        data: x and y of observations, drawn as dots.
        target: (rows,) or (rows, 1), the function without noise, if it is known.
        observation: whether to show the band of a new observation y as well, in a paler shade with dotted ends.
        ax: the axes; by default those of a new figure.

    Raises:
        ShapeError: if there is more than one input or output, or the numbers of rows differ.
        InputError: if `predictive` is not a `Predictive`, or `observation` is set for classes.
    """
    checks.is_a("predictive", predictive, Predictive, "Pass the result of bbb.predict.")
    if observation:
        _check_marginal(predictive.y)
    line, mean = column("x", x), column("the predictive mean", predictive.f.mean)
    checks.same_rows(line, mean)
    clean = None if target is None else column("target", target)
    if clean is not None:
        checks.same_rows(line, clean)
    dots = _dots(data)
    ax = axes(ax)
    order = np.argsort(line)
    line, mean = line[order], mean[order]
    if dots is not None:
        ax.plot(*dots, ".", color=DATA, markersize=5, zorder=3, label="observations")
    lower, upper = (column("the band", end)[order] for end in predictive.f.sigma_interval(sigmas))
    label = f"mean ± {sigmas:g} sd of the function"
    ax.fill_between(line, lower, upper, color=BAND, alpha=0.55, linewidth=0, zorder=2, label=label)
    if observation:
        low, high = (column("the band", end)[order] for end in predictive.y.sigma_interval(sigmas))
        for end, name in zip((low, high), (f"± {sigmas:g} sd of an observation", None), strict=True):
            ax.plot(line, end, color=MEAN, linewidth=1.0, linestyle=":", zorder=4, label=name)
        ax.fill_between(line, low, high, color=paler(BAND, 0.75), linewidth=0, zorder=1)
    if clean is not None:
        ax.plot(
            line,
            clean[order],
            color=TARGET,
            linewidth=1.8,
            linestyle=(0, (4, 2)),
            zorder=5,
            label="target",
        )
    ax.plot(line, mean, color=MEAN, linewidth=1.4, zorder=6, label="mean")
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    ax.margins(x=0.01)
    ax.legend(frameon=False)
    return ax


def fan(
    x: ArrayLike,
    marginal: Marginal,
    *,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    data: tuple[ArrayLike, ArrayLike] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot a fan chart against one input: the median, and central intervals in paler shades as they widen.

    Args:
        x: (rows,) or (rows, 1), the input of the predictive.
        marginal: `predictive.f`, of the function, or `predictive.y`, of new observations, with one output.
        levels: the probabilities of the intervals, increasing, inside (0, 1). If there were too many draws to keep,
            they and the median must have been requested: `predict(..., levels=levels, quantiles=(0.5,))`.
        data: x and y of observations, drawn as dots.
        ax: the axes; by default those of a new figure.

    Raises:
        ShapeError: if there is more than one input or output.
        InputError: if the levels lie outside (0, 1) or are not increasing.
        QuantileError: if the draws were not kept and a level was not requested.
    """
    rising = rising_levels("levels", levels)
    _check_marginal(marginal)
    line, median = column("x", x), column("the median", marginal.quantile(0.5))
    checks.same_rows(line, median)
    dots = _dots(data)
    order = np.argsort(line)
    ax = axes(ax)
    for i, level in enumerate(rising[::-1]):
        lower, upper = (column("the interval", end)[order] for end in marginal.interval(level))
        shade = paler(MEAN, 0.88 - 0.4 * i / max(len(rising) - 1, 1))
        ax.fill_between(line[order], lower, upper, color=shade, linewidth=0, zorder=2, label=f"{100 * level:g} %")
    ax.plot(line[order], median[order], color=MEAN, linewidth=1.6, zorder=3, label="median")
    if dots is not None:
        ax.plot(*dots, "o", color=DATA, **DOTS, zorder=4, label="observations")
    ax.set(xlabel="x", ylabel="y")
    ax.margins(x=0.01)
    legend_above(ax)
    return ax


def predicted_against_observed(
    y: ArrayLike,
    marginal: Marginal,
    *,
    level: float = 0.95,
    interval: tuple[ArrayLike, ArrayLike] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot the predicted mean of each row, with the central interval of probability `level`, against the observation.

    Rows whose interval misses the diagonal, where prediction and observation are equal, stand out.

    Args:
        y: (rows,) or (rows, 1), the observations.
        marginal: `predictive.y` at the same rows, with one output.
        level: the probability of the intervals; see `fan` if the draws were not kept.
        interval: the ends of each row, such as calibrated ones of `bbb.decide.conformal`; by default the marginal's.
        ax: the axes; by default those of a new figure.

    Raises:
        ShapeError: if there is more than one output, or the numbers of rows differ.
        InputError: if the level lies outside (0, 1).
    """
    _check_marginal(marginal)
    checks.probability("level", level)
    seen, mean = column("y", y), column("the predictive mean", marginal.mean)
    checks.same_rows(mean, seen)
    lower, upper = (column("the interval", end) for end in (interval or marginal.interval(level)))
    checks.same_rows(mean, lower)
    checks.same_rows(mean, upper)
    ax = axes(ax)
    inside = (lower <= seen) & (seen <= upper)
    pale = paler(MEAN, 0.65)
    for rows, color, marker, zorder, name in ((inside, pale, "o", 2, "inside"), (~inside, MEAN, "D", 3, "outside")):
        bars = np.maximum([mean - lower, upper - mean], 0)[:, rows]
        label = f"{100 * level:g} % interval, {np.sum(rows)} observations {name}"
        style: dict[str, Any] = {"fmt": marker, "color": color, "elinewidth": 0.9, **DOTS}
        ax.errorbar(seen[rows], mean[rows], bars, zorder=zorder, label=label, **style)
    diagonal(ax, seen)
    ax.set(xlabel="observed", ylabel="predicted")
    ax.legend(frameon=False, loc="upper left")
    return ax


def _check_marginal(marginal: Any) -> None:
    do = "Pass predictive.f or predictive.y of numbers; for classes, see plot.reliability."
    checks.is_a("marginal", marginal, Marginal, do)


def _dots(data: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return observations as a pair of columns."""
    if data is None:
        return None
    if not (isinstance(data, tuple | list) and len(data) == 2):
        fail(InputError, "data to be a pair", f"a {type(data).__name__}", "Pass data=(x, y).")
    x, y = column("data x", data[0]), column("data y", data[1])
    checks.same_rows(x, y)
    return x, y


@display.picture_of(Predictive)
def _band_shown(predictive: Predictive) -> display.Picture | None:
    """Draw the band of one input and one output for a notebook; nothing else can be drawn without being told how."""
    x, mean = predictive.x, predictive.f.mean
    if x is None or lone_column(mean) is None or not 1 < len(mean) <= MAX_ROWS:
        return None

    def draw(ax: "Axes") -> None:
        band(x, predictive, ax=ax)
        ax.set_ylabel("f")

    alt = f"The mean of the function and the band of 3 standard deviations at {len(mean):,} rows, over x"
    return display.Picture(png(draw), alt)
