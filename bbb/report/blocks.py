"""What a section of a report is made of, and how its numbers are written."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

NUMERIC = re.compile(r"[+−]?[\d.,]+(e[+-]\d+)?(\u00a0%)?|missing|none|")
"""Cells of a column of numbers."""


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    words: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names, and a value of each."""

    kind: ClassVar[str] = "facts"
    items: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; `wide` if it may be wider than the text."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    wide: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Whether each column is of numbers, which stand at the right."""
        return [all(map(NUMERIC.fullmatch, cells)) for cells in zip(*self.rows, strict=True)]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure, and the same facts in words and as a table.

    Attributes:
        name: of its element, unlike any other's.
        spec: "data" and "layout" of plotly.js; a colour is the name of one of the palette, such as "--mean".
        alt: what is seen and what it means.
        caption: how to read it.
        table: its numbers.
    """

    kind: ClassVar[str] = "figure"
    name: str
    spec: dict[str, Any]
    alt: str
    caption: str
    table: Table | None = None


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a diagnosis found: names, what was seen and what to do."""

    kind: ClassVar[str] = "findings"
    items: Sequence[tuple[str, str, str]]


Block = Text | Facts | Table | Figure | Findings


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report under a heading of its own."""

    name: str
    title: str
    blocks: Sequence[Block]


def number(value: Any, digits: int = 4) -> str:
    """Return a number in so many digits, with commas, and with an exponent only where it is tiny or huge."""
    value = float(value)
    if not np.isfinite(value):
        return str(value)
    rounded = float(f"{value:.{digits}g}") + 0.0  # never "-0"
    return f"{rounded:,.12g}".replace("-", "−") if abs(rounded) < 1e12 else f"{rounded:.{digits}g}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent."""
    return f"{100 * float(share):.{digits}f}\u00a0%"


def level_of(level: float) -> str:
    """Return a level in percent, with the digits that it has."""
    return f"{100 * level:.6g}\u00a0%"


def signed(value: float) -> str:
    """Return a number with its sign."""
    return number(value) if value < 0 else f"+{number(value)}"


def cut(text: str, most: int = 40) -> str:
    """Return a text on one line, without its end if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def listed(texts: Iterable[str]) -> str:
    """Join texts by commas, and the last two by "and"."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
