"""Figures as plotly.js takes them: plain data and layout, whose colours are names that the page resolves.

A trace of rows has "rows", the places of their descriptions among those that the page holds once.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from bbb.report.blocks import cut
from bbb.report.evidence import Evidence

LONGEST_TITLE = 50
"""The characters of an axis' title at most."""

DIGITS = 6
"""Significant digits of what is drawn."""


def plain(text: str) -> str:
    """Return a text in which plotly.js finds no markup: it reads some of HTML in every label."""
    return html.escape(text, quote=False)


def numbers(values: Any) -> list[float | None]:
    """Return numbers in few digits; None, a gap, for what is not finite."""
    found = np.ravel(np.asarray(values, float))
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in found.tolist()]


def layout(x: str, y: str, height: int = 340, **more: Any) -> dict[str, Any]:
    """Return a layout with the titles of its axes; `more` are options of plotly.js, such as xaxis_range."""
    made: dict[str, Any] = {
        "height": height,
        "xaxis": {"title": {"text": plain(cut(x, LONGEST_TITLE))}},
        "yaxis": {"title": {"text": plain(cut(y, LONGEST_TITLE))}},
    }
    for name, value in more.items():
        axis, _, option = name.partition("_")
        if axis in ("xaxis", "yaxis"):
            made[axis][option] = value
        else:
            made[name] = value
    return made


def spec(traces: Sequence[dict[str, Any]], made: dict[str, Any]) -> dict[str, Any]:
    """Return the whole of a figure."""
    return {"data": list(traces), "layout": made}


def line(
    x: Any,
    y: Any,
    name: str,
    color: str,
    *,
    dash: str = "solid",
    width: float = 2,
    hover: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return a line; `hover` are texts, one for each point."""
    stroke = {"color": color, "dash": dash, "width": width}
    return _scatter("lines", x, y, name) | {"line": stroke} | _hover(hover)


def area(x: Any, lower: Any, upper: Any, name: str, color: str) -> dict[str, Any]:
    """Return the area between two lines."""
    x, lower, upper = (np.ravel(np.asarray(part, float)) for part in (x, lower, upper))
    drawn = _scatter("lines", [*x, *x[::-1]], [*lower, *upper[::-1]], name) | _hover(None)
    return drawn | {"fill": "toself", "fillcolor": color, "line": {"width": 0}}


def segments(
    x: Any, lower: Any, upper: Any, name: str, color: str, *, width: float = 2, across: bool = False
) -> dict[str, Any]:
    """Return one stroke at each x from lower to upper; `across` swaps the axes."""
    gaps = np.full(len(x), np.nan)
    along, over = np.stack([x, x, gaps], 1), np.stack([lower, upper, gaps], 1)
    places = (over, along) if across else (along, over)
    drawn = _scatter("lines", *places, name) | _hover(None)
    return drawn | {"line": {"color": color, "width": width}, "connectgaps": False}


def dots(
    x: Any,
    y: Any,
    name: str,
    color: str,
    *,
    symbol: str = "circle",
    size: float = 6,
    hover: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return points, whose texts are `hover`."""
    marker = {"color": color, "size": size, "symbol": symbol, "line": {"color": "--paper", "width": 0.5}}
    return _scatter("markers", x, y, name) | {"marker": marker} | _hover(hover)


def of_rows(evidence: Evidence, rows: np.ndarray, trace: dict[str, Any]) -> dict[str, Any]:
    """Return a trace whose points tell of rows, which are among those drawn."""
    return trace | {"rows": np.searchsorted(evidence.drawn(), rows).tolist(), "hoverinfo": "text"}


def bars(edges: Any, heights: Any, name: str, color: str, hover: Sequence[str]) -> dict[str, Any]:
    """Return the bars of a histogram between edges."""
    edges = np.asarray(edges, float)
    drawn = {"type": "bar", "x": numbers((edges[1:] + edges[:-1]) / 2), "y": numbers(heights), "name": plain(name)}
    marker = {"color": color, "line": {"color": "--mean", "width": 1}}
    shown = {"hovertext": [plain(text) for text in hover], "hoverinfo": "text", "textposition": "none"}
    return drawn | {"width": numbers(np.diff(edges)), "marker": marker} | shown


def _scatter(mode: str, x: Any, y: Any, name: str) -> dict[str, Any]:
    """Return what lines and points have in common."""
    return {"type": "scatter", "mode": mode, "x": numbers(x), "y": numbers(y), "name": plain(name)}


def _hover(texts: Sequence[str] | None) -> dict[str, Any]:
    if texts is None:
        return {"hoverinfo": "skip"}
    return {"text": [plain(text) for text in texts], "hoverinfo": "text"}
