"""Plots of the weights: signal-to-noise ratios, densities and pruning."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bbb import checks
from bbb.evaluate.weights import densities, ratios_of_layers
from bbb.plots.style import MEAN, axes, column, styles
from bbb.posteriors.protocol import Posterior
from bbb.priors.protocol import Prior

if TYPE_CHECKING:
    from matplotlib.axes import Axes


NOISE = -40.0
"""The lower end of the axis of signal-to-noise ratios, in dB: below, a weight is practically 0."""


_MEMBER: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.55}
"""The style of the lines of one member of an ensemble, beside those of all members."""


def signal_to_noise(posterior: Posterior, *, cumulative: bool = True, ax: "Axes | None" = None) -> "Axes":
    """Plot the distribution of `|mean|/std` of the weights of each layer, and of all layers, in decibels.

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
    checks.same_rows(shares, measured)
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


def _name_members(ax: "Axes", members: int) -> None:
    """Add an entry for the thin lines to the legend if there are several members."""
    if members > 1:
        ax.plot([], [], color="black", label=f"thin: each of the {members} members", **_MEMBER)
