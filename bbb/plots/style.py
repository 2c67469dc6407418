"""The colours, axes, legends and files that all plots share."""

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bbb import checks
from bbb.errors import InputError, ShapeError, fail

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MEAN, BAND, DATA, TARGET = "navy", "#7c8fd0", "#e8842c", "#1b8a3a"
"""Colours that differ in lightness as well as in hue, so that plots can be read in grey and by the colour-blind."""


CHANCE = "#d9d9d9"
"""The colour of the range of chance, drawn behind everything else."""


LINES = ((MEAN, "-"), (DATA, (0, (5, 1.5))), (TARGET, (0, (1, 1))), (BAND, (0, (5, 1.5, 1, 1.5))))
"""Colours and dashes of lines in one plot, repeated if there are more lines."""


DOTS: dict[str, Any] = {"markersize": 4, "markeredgecolor": "black", "markeredgewidth": 0.4}
"""The style of observations."""


def png(draw: Callable[[Any], Any], panels: int = 1) -> bytes:
    """Return the PNG file of a new figure, on whose axes `draw` is called; no window system or global state is used.

    Args:
        draw: a function of the axes; of an array of them, (panels,), side by side, if there are several.
        panels: how many there are.

    Raises:
        InputError: if `draw` is not a function, or `panels` is not a whole number of at least 1.
    """
    checks.function("draw", draw, "Pass lambda ax: bbb.plots.band(x, band, ax=ax).")
    checks.positive_integer("panels", panels)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8 if panels == 1 else 5.5 * panels, 5), dpi=150, layout="constrained")
    draw(figure.subplots(1, panels))
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


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


def axes(ax: "Axes | None") -> Any:
    """Return `ax`, or the axes of a new figure if it is None.

    Raises:
        InputError: if `ax` is not matplotlib's axes.
    """
    if ax is not None:
        if not all(callable(getattr(ax, method, None)) for method in ("plot", "set_xlabel", "fill_between")):
            do = "Pass, for example, plt.gca(), or leave it out."
            fail(InputError, "ax to be matplotlib's axes", f"a {type(ax).__name__}", do)
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(8, 5), layout="constrained")[1]


def column(name: str, values: Any) -> np.ndarray:
    """Return values of shape (rows,) or (rows, 1) as an array of shape (rows,).

    Raises:
        InputError: if the values are traced or not finite numbers.
        ShapeError: if there is more than one column.
    """
    checks.untraced("bbb.plots", **{name: values})
    array = np.asarray(checks.rows(name, values))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        fail(
            ShapeError,
            f"{name} to be one column, (rows,) or (rows, 1)",
            f"shape {array.shape}",
            "Draw one input and one output at a time.",
        )
    return array
