"""Plots: every function takes matplotlib axes `ax`, or makes new ones, and returns them."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bbb import _check, _display, metrics
from bbb._posterior_protocol import Posterior
from bbb._weights import densities, ratios_of_layers
from bbb.history import History
from bbb.prior import Prior
from bbb.summary import Marginal, Predictive, lone_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN, BAND, DATA, TARGET = "navy", "#7c8fd0", "#e8842c", "#1b8a3a"
"""Colours that differ in lightness as well as in hue, so that plots can be read in grey and by the colour-blind."""

CHANCE = "#d9d9d9"
"""The colour of the range of chance, drawn behind everything else."""

LINES = ((MEAN, "-"), (DATA, (0, (5, 1.5))), (TARGET, (0, (1, 1))), (BAND, (0, (5, 1.5, 1, 1.5))))
"""Colours and dashes of lines in one plot, repeated if there are more lines."""

TWO_SIDED = 1.96
"""The half-width of a 95 % interval, in standard errors."""

NOISE = -40.0
"""The lower end of the axis of signal-to-noise ratios, in dB: below, a weight is practically 0."""

_MEMBER: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.55}
"""The style of the lines of one member of an ensemble, beside those of all members."""

DOTS: dict[str, Any] = {"markersize": 4, "markeredgecolor": "black", "markeredgewidth": 0.4}
"""The style of observations."""


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
        observation: whether to outline the band of a new observation y as well.
        ax: the axes; by default those of a new figure.

    Raises:
        ShapeError: if there is more than one input or output, or the numbers of rows differ.
        InputError: if `predictive` is not a `Predictive`, or `observation` is set for classes.
    """
    _check.is_a("predictive", predictive, Predictive, "Pass the result of bbb.predict.")
    if observation:
        _check_marginal(predictive.y)
    line, mean = column("x", x), column("the predictive mean", predictive.f.mean)
    _check.same_rows(line, mean)
    clean = None if target is None else column("target", target)
    if clean is not None:
        _check.same_rows(line, clean)
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
        ends = [column("the band", end)[order] for end in predictive.y.sigma_interval(sigmas)]
        for end, name in zip(ends, (f"± {sigmas:g} sd of an observation", None), strict=True):
            ax.plot(line, end, color=MEAN, linewidth=1.0, linestyle=":", zorder=4, label=name)
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


MAX_ROWS = 20_000
"""Rows of a band that a notebook draws by itself: of more, it would be slow to show."""


@_display.picture_of(Predictive)
def _band_shown(predictive: Predictive) -> _display.Picture | None:
    """Draw the band of one input and one output for a notebook; nothing else can be drawn without being told how."""
    x, mean = predictive.x, predictive.f.mean
    if x is None or lone_column(mean) is None or not 1 < len(mean) <= MAX_ROWS:
        return None

    def draw(ax: "Axes") -> None:
        band(x, predictive, ax=ax)
        ax.set_ylabel("f")

    alt = f"The mean of the function and the band of 3 standard deviations at {len(mean):,} rows, over x"
    return _display.Picture(png(draw), alt)


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
    rising = metrics.rising("levels", levels)
    _check_marginal(marginal)
    line, median = column("x", x), column("the median", marginal.quantile(0.5))
    _check.same_rows(line, median)
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
    y: ArrayLike, marginal: Marginal, *, level: float = 0.95, ax: "Axes | None" = None
) -> "Axes":
    """Plot the predicted mean of each row, with the central interval of probability `level`, against the observation.

    Rows whose interval misses the diagonal, where prediction and observation are equal, stand out.

    Args:
        y: (rows,) or (rows, 1), the observations.
        marginal: `predictive.y` at the same rows, with one output.
        level: the probability of the intervals; see `fan` if the draws were not kept.
        ax: the axes; by default those of a new figure.

    Raises:
        ShapeError: if there is more than one output, or the numbers of rows differ.
        InputError: if the level lies outside (0, 1).
    """
    _check_marginal(marginal)
    seen, mean = column("y", y), column("the predictive mean", marginal.mean)
    _check.same_rows(mean, seen)
    lower, upper = (column("the interval", end) for end in marginal.interval(level))
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
    rising = metrics.rising("levels", np.linspace(0.05, 0.95, 19) if levels is None else levels)
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
    bins = _check.positive_integer("bins", bins)
    values = metrics.unit("pit", pit).ravel()
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
    _check.is_a("found", found, metrics.Reliability, "Pass metrics.reliability(y, probabilities).")
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


def signal_to_noise(posterior: Posterior, *, cumulative: bool = True, ax: "Axes | None" = None) -> "Axes":
    """Plot the distribution of |mean|/std of the weights of each layer, and of all layers, in decibels.

    On the curve of all weights, the share below a ratio is the share that pruning at that ratio would remove. For an
    ensemble, thick lines show the weights of all members together, and thin ones those of each member, which pruning
    uses. With densities, thin lines are drawn for all layers together only.

    Args:
        posterior: the posterior, or an ensemble. Point estimates have no ratio, and weights of mean 0 get the lowest.
        cumulative: whether to plot the share of weights below each ratio, or else their density.
        ax: the axes; by default those of a new figure.

    Raises:
        InputError: if `posterior` is not a posterior.
    """
    layers = ratios_of_layers(posterior)
    ax = axes(ax)
    highest = max(float(np.max(ratios)) for _, ratios in layers)
    members = len(layers[0][1])

    def line(ratios: np.ndarray, **style: Any) -> None:
        if cumulative:
            ax.plot(np.sort(ratios), np.arange(1, len(ratios) + 1) / len(ratios) * 100, **style)
        else:
            ax.stairs(*np.histogram(ratios, 40, range=(NOISE, max(highest, NOISE + 1)), density=True), **style)

    for i, ((name, ratios), (color, dashes)) in enumerate(zip(layers, styles(len(layers)), strict=True)):
        for member in ratios if members > 1 and (cumulative or i == 0) else ():  # many stairs would hide each other
            line(member, color=color, **_MEMBER)
        weights = f"{ratios.shape[1]:,} weights" + (f" in each of {members} members" if members > 1 else "")
        line(ratios.ravel(), color=color, linestyle=dashes, linewidth=1.8, label=f"{name} ({weights})")
    _name_members(ax, members)
    ax.set_xlabel("signal-to-noise ratio of a weight, 10·log10(|mean|/std), dB")
    ax.set_ylabel("weights below, %" if cumulative else "density, per dB")
    ax.set_xlim(NOISE, max(highest, NOISE + 1))
    ax.legend(frameon=False, loc="upper left")
    return ax


def weight_density(posterior: Posterior, prior: Prior, *, ax: "Axes | None" = None) -> "Axes":
    """Plot the density of the weights of each layer, averaged over its posterior, and that of the prior (thin lines).

    Where the two agree, the data were not informative about that layer. For an ensemble, thick lines show the mixture
    of all members, and pale ones each member.

    Args:
        posterior: the posterior, or an ensemble; point estimates have no density.
        prior: the prior of the training, with a `log_prob` or, for empirical Bayes, `fitted`; within one leaf, the
            geometric mean of its densities is plotted.
        ax: the axes; by default those of a new figure.

    Raises:
        InputError: if the prior has no `log_prob`, or `posterior` is not a posterior.
    """
    found = densities(posterior, prior)
    ax = axes(ax)
    before, after, members = found.prior, np.mean(found.posterior, axis=1), found.posterior.shape[1]
    same = np.allclose(before, before[:1], rtol=1e-3)  # float32 sums over all weights of a leaf
    if same:
        ax.plot(found.values, before[0], color="black", linestyle=":", linewidth=1.2, label="prior")
    for i, (name, (color, dashes)) in enumerate(zip(found.layers, styles(len(found.layers)), strict=True)):
        for member in found.posterior[i] if members > 1 else ():
            ax.plot(found.values, member, color=color, **_MEMBER)
        label = name if same else f"{name}: posterior"
        ax.plot(found.values, after[i], color=color, linestyle=dashes, linewidth=1.8, label=label)
        if not same:
            style = ":" if members > 1 else dashes  # thin lines are the members'
            ax.plot(found.values, before[i], color=color, linestyle=style, linewidth=0.7, label=f"{name}: prior")
    _name_members(ax, members)
    reach, top = float(found.values[-1]), 3 * max(before.max(), found.posterior.max())
    ax.set(xlabel="weight", ylabel="density", yscale="log", xlim=(-reach, reach), ylim=(1e-5 * top, top))
    ax.legend(frameon=False)
    return ax


def pruning(fractions: Any, values: Any, *, measure: str = "accuracy", ax: "Axes | None" = None) -> "Axes":
    """Plot a measure of a network against the fraction of its weights that were pruned.

    Args:
        fractions: (fractions,), from 0 to 1.
        values: (fractions,), the results of `pruning_curve` for them.
        measure: the name of the measure, for the axis.
        ax: the axes; by default those of a new figure.

    Raises:
        ShapeError: if the lengths of the arrays differ.
    """
    shares, measured = 100 * column("fractions", fractions), column("values", values)
    _check.same_rows(shares, measured)
    ax = axes(ax)
    ax.axhline(
        measured[0],
        color="black",
        linewidth=0.8,
        linestyle="--",
        label=f"{measured[0]:.4g} with {shares[0]:g} % pruned",
    )
    ax.plot(shares, measured, "o-", color=MEAN, markersize=4)
    ax.set(xlabel="weights pruned, %", ylabel=measure)
    ax.legend(frameon=False, loc="lower left")
    return ax


def training(history: History, *, ax: "Axes | None" = None) -> "Axes":
    """Plot the data term (left axis) and the KL divergence (right axis) of each step.

    Raises:
        InputError: if `history` is not a `History`.
    """
    _check.is_a("history", history, History, "Pass the second result of bbb.fit.")
    ax = axes(ax)
    steps = np.arange(1, len(history.loss) + 1)
    nats = history.is_elbo
    (data,) = ax.plot(steps, history.data_term, color=DATA, linewidth=0.8, label="data term")
    ax.set_xlabel("step")
    ax.set_ylabel("data term, nats" if nats else "data term, squared units of y", color=DATA)
    ax.set_yscale(_scale(history.data_term))
    beside = ax.twinx()
    (kl,) = beside.plot(steps, history.kl, color=MEAN, linewidth=1.8, label="KL to the prior")
    beside.set_ylabel("KL(posterior ‖ prior), nats", color=MEAN)
    beside.set_yscale(_scale(history.kl))
    ax.set_xlim(1, len(steps) + 1)
    ax.legend(handles=[data, kl], frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def png(draw: Callable[[Any], Any]) -> bytes:
    """Return the PNG file of a new figure, on whose axes `draw` is called; no window system or global state is used.

    Raises:
        InputError: if `draw` is not a function.
    """
    _check.function("draw", draw, "Pass lambda ax: bbb.plot.band(x, band, ax=ax).")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    draw(figure.add_subplot())
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _name_members(ax: "Axes", members: int) -> None:
    """Add an entry for the thin lines to the legend if there are several members."""
    if members > 1:
        ax.plot([], [], color="black", label=f"thin: each of the {members} members", **_MEMBER)


def styles(count: int) -> Iterator[Any]:
    """Return the colour and the dashes of each of `count` lines."""
    return (LINES[i % len(LINES)] for i in range(count))


def paler(color: str, share: float) -> tuple[float, ...]:
    """Mix a colour with a share of white."""
    from matplotlib.colors import to_rgb

    return tuple(share + (1 - share) * part for part in to_rgb(color))


def legend_above(ax: "Axes") -> None:
    """Add a legend above the axes."""
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5)


def diagonal(ax: "Axes", values: np.ndarray) -> None:
    """Plot the line where both coordinates are equal, over the range of the values."""
    ends = [values.min(), values.max()]
    ax.plot(ends, ends, color="black", linewidth=1.0, linestyle="--", zorder=1.5)


def _scale(values: np.ndarray) -> str:
    """Return "log" if the values are positive and span a factor of ten, else "linear"."""
    return "log" if np.all(values > 0) and np.max(values) > 10 * np.min(values) else "linear"


def axes(ax: "Axes | None") -> Any:
    """Return `ax`, or the axes of a new figure if it is None.

    Raises:
        InputError: if `ax` is not matplotlib's axes.
    """
    if ax is not None:
        if not all(callable(getattr(ax, method, None)) for method in ("plot", "set_xlabel", "fill_between")):
            do = "Pass, for example, plt.gca(), or leave it out."
            _check.fail(_check.InputError, "ax to be matplotlib's axes", f"a {type(ax).__name__}", do)
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(8, 5), layout="constrained")[1]


def _check_marginal(marginal: Any) -> None:
    do = "Pass predictive.f or predictive.y of numbers; for classes, see plot.reliability."
    _check.is_a("marginal", marginal, Marginal, do)


def _dots(data: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return observations as a pair of columns."""
    if data is None:
        return None
    if not (isinstance(data, tuple | list) and len(data) == 2):
        _check.fail(_check.InputError, "data to be a pair", f"a {type(data).__name__}", "Pass data=(x, y).")
    x, y = column("data x", data[0]), column("data y", data[1])
    _check.same_rows(x, y)
    return x, y


def column(name: str, values: Any) -> np.ndarray:
    """Return values of shape (rows,) or (rows, 1) as an array of shape (rows,).

    Raises:
        InputError: if the values are traced or not finite numbers.
        ShapeError: if there is more than one column.
    """
    _check.untraced("bbb.plot", **{name: values})
    array = np.asarray(_check.rows(name, values))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        _check.fail(
            _check.ShapeError,
            f"{name} to be one column, (rows,) or (rows, 1)",
            f"shape {array.shape}",
            "Draw one input and one output at a time.",
        )
    return array
