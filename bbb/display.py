"""What objects show at a prompt and in a notebook: a title and a few rows, as text or as a table, and a picture.

Only sizes are read, and numbers that lie in this process: nothing is computed on a device, compiled or traced, so that
a model can be printed inside `jax.jit` too. What this module writes is ASCII, for any terminal.

A picture is drawn by a function that the module of plots registers with `picture_of`, as nothing here may import it.
"""

import base64
import dataclasses
import functools
import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_READ = 2**22
"""Numbers of a tree that are read for its range: of more, the copy to the host would be felt."""


MAX_REPR = 1000
"""Numbers of a part that its own `repr` may write: NumPy abridges arrays of more."""


MAX_TEXT = 100
"""Characters of one row that describes a part."""


MAX_ITEMS = 6
"""Layers, leaves or assumptions that are written out: of more, the first ones."""


class Table(NamedTuple):
    """A title, and rows of a label and a text."""

    title: str
    rows: Sequence[tuple[str, str]]


class Picture(NamedTuple):
    """A PNG, and what it shows in words."""

    png: bytes
    alt: str


PICTURES: dict[type, Callable[[Any], Picture | None]] = {}
"""The function that draws objects of a type, or returns None for one that has no picture."""


def picture_of(cls: type) -> Callable[[Callable[[Any], Picture | None]], Callable[[Any], Picture | None]]:
    """Register a function that draws objects of a class."""

    def register(draw: Callable[[Any], Picture | None]) -> Callable[[Any], Picture | None]:
        PICTURES[cls] = draw
        return draw

    return register


class Displayed:
    """Shows itself as the table that `_table_shown` returns, and in a notebook with its picture, where it has one."""

    def _table_shown(self) -> Table:
        raise NotImplementedError

    def __repr__(self) -> str:
        try:
            title, rows = self._table_shown()
        except (AttributeError, TypeError):  # JAX rebuilds pytrees around placeholders, and may print them in errors
            return object.__repr__(self)
        width = max((len(label) for label, _ in rows), default=0)
        return "\n".join([title, *(f"  {label:{width}}  {text}" for label, text in rows)])

    def _repr_html_(self) -> str:
        title, rows = self._table_shown()
        left = ' style="text-align: left"'
        cells = (f"<tr><th{left}>{html.escape(a)}</th><td{left}>{html.escape(b)}</td></tr>" for a, b in rows)
        table = f"<table><caption{left}>{html.escape(title)}</caption>{''.join(cells)}</table>"
        draw = PICTURES.get(type(self))
        picture = None if draw is None else draw(self)
        if picture is None:
            return table
        data = base64.b64encode(picture.png).decode("ascii")
        return f'{table}<img width="640" alt="{html.escape(picture.alt)}" src="data:image/png;base64,{data}">'


def counted(count: int, word: str, several: str = "") -> str:
    """Return "1 row" or "2 rows"; `several` is the plural where it is not the word and an s."""
    return f"{count:,} {word if count == 1 else several or word + 's'}"


def number(value: Any) -> str:
    """Return a number in four digits."""
    return f"{float(value) + 0.0:.4g}"  # never "-0"


def listed(texts: Sequence[str], separator: str = "; ") -> str:
    """Join the first few of several texts."""
    more = [f"{len(texts) - MAX_ITEMS:,} more"] if len(texts) > MAX_ITEMS else []
    return separator.join([*texts[:MAX_ITEMS], *more])


def first_rows(items: Sequence[Any], row: Callable[[Any], tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the rows of the first few items, and how many more there are."""
    more = [("...", f"{len(items) - MAX_ITEMS:,} more")] if len(items) > MAX_ITEMS else []
    return [*map(row, items[:MAX_ITEMS]), *more]


def size(leaf: Any, axes: int = 0) -> int:
    """Return how many numbers a leaf has, without its leading axes."""
    return math.prod(getattr(leaf, "shape", ())[axes:])


def readable(tree: Any) -> list[np.ndarray] | None:
    """Return the leaves that hold numbers as NumPy arrays; None if one is abstract or elsewhere, or they are many."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if size(leaf) != 0]
    if not leaves or sum(map(size, leaves)) > MAX_READ or not all(map(_is_here, leaves)):
        return None
    return [np.asarray(leaf) for leaf in leaves]


def span(tree: Any, by: Callable[[float], float] = float) -> str:
    """Return the range of all numbers of a tree, such as "0.04 to 0.3", or "" where it cannot be read.

    `by` is a rising function, applied to both ends.
    """
    arrays = readable(tree)
    if arrays is None:
        return ""
    lowest, highest = min(float(np.min(array)) for array in arrays), max(float(np.max(array)) for array in arrays)
    ends = dict.fromkeys(number(by(end)) for end in (lowest, highest))
    return " to ".join(ends)


def labelled_span(label: str, tree: Any, by: Callable[[float], float] = float) -> str:
    """Return the range of all numbers of a tree after a label and a comma, or "" where it cannot be read."""
    text = span(tree, by)
    return f", {label} {text}" if text else ""


def exp(value: float) -> float:
    """Return e^value, infinity where that overflows."""
    return math.exp(value) if value < math.log(np.finfo(float).max) else math.inf


def _is_here(leaf: Any) -> bool:
    """Return whether a leaf holds numbers in the memory of this process, or of a device that this process has."""
    if isinstance(leaf, jax.core.Tracer):
        return False
    if isinstance(leaf, jax.Array):
        return not leaf.is_deleted() and leaf.is_fully_addressable and not _is_key(leaf)
    return isinstance(leaf, bool | int | float) or (
        isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufV"  # V: such as bfloat16
    )


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def repr_of_fields(value: Any) -> str:
    """Return the call that makes a dataclass of its fields; the `__repr__` of priors and likelihoods."""
    return call(value, **{field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)})


def call(value: Any, /, **arguments: Any) -> str:
    """Return the call of a class with these arguments: one that can be evaluated, where they are plain numbers."""
    return f"{type(value).__name__}({', '.join(f'{name}={argument(part)}' for name, part in arguments.items())})"


def argument(value: Any) -> str:
    """Return a number as Python reads it, and a tree of a few; of what is larger, its size and range in brackets."""
    if value is None or isinstance(value, str):
        return repr(value)
    leaves = jax.tree.leaves(value)
    text = _written(value) if len(leaves) <= MAX_ITEMS else None
    if text is not None and len(text) <= MAX_TEXT:
        return text
    return f"<tree of {counted(len(leaves), 'leaf', 'leaves')}{_range(leaves)}>"


def from_logarithm(value: Any, offset: float = 0.0) -> Any:
    """Return offset + e^value to the digits that its dtype has; what is not a number here, as it is."""
    if getattr(value, "shape", ()) != () or not _is_here(value):
        return _Exponential(value, offset)
    array = np.asarray(value)
    digits = 15 if array.dtype == np.float64 else 6 if array.dtype == np.float32 else 3
    return float(f"{offset + exp(float(array)):.{digits}g}")


@dataclasses.dataclass(frozen=True)
class _Exponential:
    """What an argument says of offset + e^value, for arrays; not a pytree."""

    value: Any
    offset: float

    def __repr__(self) -> str:
        return _array(self.value, lambda log: self.offset + exp(log))


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_written(part)}" for key, part in value.items()) + "}"
    if type(value) is list:
        return f"[{', '.join(map(_written, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return str(np.asarray(value)[()]) if value.shape == () and _is_here(value) else _array(value)
    return " ".join(repr(value).split())


def _array(value: Any, by: Callable[[float], float] = float) -> str:
    shape = ",".join(map(str, getattr(value, "shape", ())))
    text = span(value, by)
    return f"<{getattr(value, 'dtype', type(value).__name__)}[{shape}]{', ' * bool(text)}{text}>"


def _range(leaves: Sequence[Any]) -> str:
    text = span(leaves)
    return f", {text}" if text else ""


def part(value: Any) -> str:
    """Return a prior, a likelihood or a posterior on one line: its own `repr`, but its size if that may be long."""
    if isinstance(value, Displayed):
        return repr(value).partition("\n")[0]
    kind: Any = type(value)
    leaves = jax.tree.leaves(value)
    numbers = sum(map(size, leaves))
    if kind.__repr__ is repr_of_fields or (numbers <= MAX_REPR and not any(map(_is_away, leaves))):
        return shortened(repr(value))
    return f"{kind.__name__} of {counted(numbers, 'number')}"


def _is_away(leaf: Any) -> bool:
    """Return whether `repr` of an array would fail or wait for others: one that is deleted, or of several hosts."""
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and not _is_here(leaf)


def shortened(text: str) -> str:
    """Return a text on one line, without its middle if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 35]} ... {line[-30:]}"


def network(apply: Any) -> str:
    """Return a network on one line: a layer as the call that makes it, a function by its name; no array is written.

    One of this library that is a dataclass with `repr=False` is asked for its own.
    """
    return shortened(_network(apply))


def _network(apply: Any) -> str:
    if dataclasses.is_dataclass(apply) and not isinstance(apply, type):
        ours = type(apply).__module__.startswith("bbb.")
        own = ours and not type(apply).__dataclass_params__.repr  # type: ignore[attr-defined]
        return repr(apply) if own else layer(apply)
    if isinstance(apply, functools.partial):
        return f"partial({_network(apply.func)}, ...)"
    name = getattr(apply, "__qualname__", None) or type(apply).__qualname__
    home = getattr(apply, "__module__", None)
    return name if home in (None, "__main__", "builtins") else f"{home}.{name}"


def layer(layer: Any) -> str:
    """Return the call that makes a layer, a dataclass, with what differs from its defaults."""
    shown = [field for field in dataclasses.fields(layer) if field.repr]
    values = [(field, getattr(layer, field.name, None)) for field in shown]
    required = [_option(value) for field, value in values if not _has_default(field)]
    if len(shown) == 1 and isinstance(values[0][1], tuple):
        required = [_items(values[0][1])]
    others = [
        f"{field.name}={_option(value)}"
        for field, value in values
        if _has_default(field) and not _is_same(value, field.default)
    ]
    name, inside = type(layer).__name__, ", ".join([*required, *others])
    return f"{name}({inside})" if shown else name


def _has_default(field: Any) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _is_same(value: Any, default: Any) -> bool:
    plain = type(value) is type(default) and isinstance(value, bool | int | float | str)
    return value is default or (plain and value == default)


def _option(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if type(value) in (tuple, list):
        return f"({_items(value)})"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"<{value.dtype}[{','.join(map(str, value.shape))}]>"
    return _network(value)


def _items(values: Iterable[Any]) -> str:
    every = list(values)
    if len(every) > MAX_ITEMS:
        first = [_option(value) for value in every[: MAX_ITEMS // 2]]
        return ", ".join([*first, f"... {len(every) - len(first) - 1:,} more ...", _option(every[-1])])
    return ", ".join(map(_option, every))
