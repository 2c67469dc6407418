"""Pictures: every function takes a matplotlib `ax`, or makes one, and returns it."""

from typing import Any

import numpy as np

from bbb import _check
from bbb.fit import History
from bbb.summary import Predictive

MEAN, BAND, DATA, TARGET = "navy", "#7c8fd0", "#e8842c", "#1b8a3a"
"""Told apart by lightness as well as by colour, so that the pictures can be read in grey and by the colour-blind."""


def band(
    x: Any,
    predictive: Predictive,
    *,
    sigmas: float = 3.0,
    data: tuple[Any, Any] | None = None,
    target: Any = None,
    observation: bool = False,
    ax: Any = None,
) -> Any:
    """Draw the mean of f and the band mean ± sigmas·std over one input.

    Args:
        x: (rows,) or (rows, 1), the input the predictive was asked for.
        predictive: of a network with one output.
        sigmas: half-width of the band, in standard deviations.
        data: x and y of observations, drawn as dots.
        target: (rows,) or (rows, 1), the curve without noise where it is known.
        observation: also outline the band of a new observation y.
        ax: where to draw; by default a new figure.

    Raises:
        ShapeError: if there is more than one input or output.
    """
    ax = _axes(ax)
    line = _column("x", x)
    order = np.argsort(line)
    line, mean = line[order], _column("the predictive mean", predictive.f.mean)[order]
    if data is not None:
        dots = _column("data x", data[0]), _column("data y", data[1])
        ax.plot(*dots, ".", color=DATA, markersize=5, zorder=3, label="observations")
    lower, upper = (_column("the band", end)[order] for end in predictive.f.sigma_interval(sigmas))
    label = f"mean ± {sigmas:g} sd of the function"
    ax.fill_between(line, lower, upper, color=BAND, alpha=0.55, linewidth=0, zorder=2, label=label)
    if observation:
        ends = [_column("the band", end)[order] for end in predictive.y.sigma_interval(sigmas)]
        for end, name in zip(ends, (f"± {sigmas:g} sd of an observation", None), strict=True):
            ax.plot(line, end, color=MEAN, linewidth=1.0, linestyle=":", zorder=4, label=name)
    if target is not None:
        ax.plot(
            line,
            _column("target", target)[order],
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


def training(history: History, *, ax: Any = None) -> Any:
    """Draw the data term (left scale) and the KL divergence (right scale) at each step."""
    ax = _axes(ax)
    steps = np.arange(1, len(history.loss) + 1)
    nats = history.cost == "elbo_cost"
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


def _scale(values: np.ndarray) -> str:
    """Choose a logarithmic scale where values are positive and span a factor of ten."""
    return "log" if np.all(values > 0) and np.max(values) > 10 * np.min(values) else "linear"


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(8, 5), layout="constrained")[1]


def _column(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
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
