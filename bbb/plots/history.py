"""The plot of a training's history."""

from typing import TYPE_CHECKING

import numpy as np

from bbb import checks
from bbb.plots.style import DATA, MEAN, axes
from bbb.train.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training(history: History, *, ax: "Axes | None" = None) -> "Axes":
    """Plot the data term (left axis) and the KL divergence (right axis) of each step.

    Raises:
        InputError: if `history` is not a `History`.
    """
    checks.is_a("history", history, History, "Pass the second result of bbb.fit.")
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


def _scale(values: np.ndarray) -> str:
    """Return "log" if the values are positive and span a factor of ten, else "linear"."""
    return "log" if np.all(values > 0) and np.max(values) > 10 * np.min(values) else "linear"
