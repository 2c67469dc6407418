"""Plots of when not to answer: risk against coverage, and the scores of usual and of strange rows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, display, metrics
from bbb.decide.abstention import Abstention, RiskCoverage
from bbb.errors import InputError, fail
from bbb.metrics.inputs import as_columns
from bbb.plots.style import DATA, MEAN, axes, legend_above, paler, png, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def risk_coverage(
    found: RiskCoverage | Mapping[str, RiskCoverage], *, rule: Abstention | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Plot the mean loss of the rows that are answered against the share of them.

    To the right all rows are answered, to the left the most certain alone. A line that falls to the left says that the
    uncertainty knows which answers are wrong; the lower line is the better one.

    Args:
        found: `bbb.decide.abstention.risk_coverage(loss, uncertainty)`; or several, by their names.
        rule: `bbb.decide.abstention.learn_then_test(...)`, whose promise and coverage are drawn as lines.
        ax: the axes; by default those of a new figure.

    Raises:
        InputError: if it is no `RiskCoverage`, or none, or the rule is no `Abstention`.
    """
    curves = {"": found} if isinstance(found, RiskCoverage) else found
    checks.is_a("found", curves, Mapping, "Pass risk_coverage(loss, uncertainty), or several of them by their names.")
    if not curves:
        fail(InputError, "at least one curve", "none", 'Pass for example {"entropy": curve}.')
    for curve in curves.values():
        checks.is_a("found", curve, RiskCoverage, "Pass risk_coverage(loss, uncertainty).")
    if rule is not None:
        checks.is_a("rule", rule, Abstention, "Pass learn_then_test(wrong, uncertainty, rate=0.05).")
    ax = axes(ax)
    for (name, curve), (color, dashes) in zip(curves.items(), styles(len(curves)), strict=True):
        label = f"{name}{', ' if name else ''}AURC {curve.aurc:.3g}"
        style = {"drawstyle": "steps-pre", "color": color, "linestyle": dashes, "linewidth": 1.8}
        ax.plot(100 * curve.coverage, curve.risk, label=label, **style)
    if rule is not None:
        share, line = 100 * rule.coverage, dict[str, Any](color="black", linewidth=1.0)
        ax.axhline(rule.rate, linestyle="--", label=f"promise: at most {rule.rate:g}", **line)
        ax.axvline(share, linestyle=":", label=f"rule: {share:.0f} % answered", **line)
    ax.set(xlabel="rows that are answered, %", ylabel="mean loss of these rows", xlim=(0, 102), ylim=(0, None))
    ax.legend(frameon=False, loc="upper left")
    return ax


def ood_histogram(
    inside: ArrayLike,
    outside: ArrayLike,
    *,
    bins: int = 40,
    log: bool = False,
    threshold: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot the histograms of the scores of usual rows and of strange ones, and say how well they are told apart.

    Args:
        inside: (rows,), the scores of rows like those that were learned from.
        outside: (other rows,), the scores of other rows.
        bins: how many bars there are from the lowest score of both to the highest.
        log: whether to draw the scores on a logarithmic axis, which takes scores above 0.
        threshold: where answers end, drawn as a line, if there is one.
        ax: the axes; by default those of a new figure.

    Raises:
        ShapeError, InputError: for scores that are not columns of finite numbers, `bins` that is not a whole number of
            at least 1, scores of 0 or less on a logarithmic axis, or a threshold that is not one finite number.
    """
    bins = checks.positive_integer("bins", bins)
    (inside,), (outside,) = as_columns(inside=inside), as_columns(outside=outside)
    if threshold is not None:
        checks.finite("threshold", threshold)
        if np.ndim(threshold):
            fail(InputError, "threshold to be one number", f"{np.size(threshold)}", "Pass for example rule.threshold.")
    scaled = _logarithms if checks.boolean("log", log) else np.asarray
    edges = np.histogram_bin_edges(scaled(np.concatenate([inside, outside])), bins)
    drawn = np.exp(edges) if log else edges
    ax = axes(ax)
    told = f", AUROC {metrics.auroc(inside, outside):.3f}"
    for scores, color, name in ((inside, MEAN, "usual row"), (outside, DATA, "strange row")):
        share = 100 * np.histogram(scaled(scores), edges)[0] / len(scores)
        label = display.counted(len(scores), name) + (told if scores is outside else "")
        ax.stairs(share, drawn, fill=True, color=paler(color, 0.55), alpha=0.6)
        ax.stairs(share, drawn, color=color, linewidth=1.6, label=label)
    if threshold is not None:
        ax.axvline(threshold, color="black", linewidth=1.0, linestyle="--", label="no answer from here on")
    ax.set_xscale("log" if log else "linear")
    ax.set(xlabel="score", ylabel="share of the rows, %", xlim=(drawn[0], drawn[-1]), ylim=(0, None))
    legend_above(ax)
    return ax


def _logarithms(scores: np.ndarray) -> np.ndarray:
    if scores.min() <= 0:
        fail(InputError, "scores above 0 on a logarithmic axis", f"{scores.min():g}", "Pass log=False.")
    return np.log(scores)


@display.picture_of(RiskCoverage)
def _curve_shown(curve: RiskCoverage) -> display.Picture:
    """Draw a curve for a notebook."""
    alt = f"The mean loss of the rows answered against their share, {display.counted(len(curve.risk), 'threshold')}"
    return display.Picture(png(lambda ax: risk_coverage(curve, ax=ax)), alt)
