"""The row axis of each value in a traced network, found by comparing shapes.

The network is traced again for twice as many rows, and the two traces are compared: an axis whose size has doubled
from the number of rows is the row axis, whatever operation moved it there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr, Var  # type: ignore[attr-defined,unused-ignore]

from bbb.core.rows import row_count, with_rows
from bbb.core.tree import Tree
from bbb.tracing.interpreter import Traced, called, trace


class RowAxes(NamedTuple):
    """The row axes of a traced function.

    Attributes:
        axes: the row axis of each variable; a variable that is missing has none, or one that also holds other elements.
        calls: the row axes of the functions that it calls, by the first output of the call.
    """

    axes: dict[Var, int]
    calls: "dict[Var, RowAxes]"


def find_rows(traced: Traced, apply: Callable[..., Tree], params: Tree, x: Tree) -> RowAxes | None:
    """Return the row axes in the trace of a network, or None if its trace for more rows differs in other ways."""
    rows = row_count(x)
    if not rows:
        return None
    try:
        double = trace(apply, params, with_rows(x, 2 * rows))
    except Exception:  # the network may accept one number of rows only, and raise anything
        return None
    return _side_by_side(traced.jaxpr.jaxpr, double.jaxpr.jaxpr, rows)


def _side_by_side(one: Jaxpr, two: Jaxpr, rows: int) -> RowAxes | None:
    """Compare two traces equation by equation, the second for twice as many rows; None if they differ in primitives."""
    if len(one.eqns) != len(two.eqns):
        return None
    found = RowAxes({}, {})
    _compare(found, (*one.constvars, *one.invars), (*two.constvars, *two.invars), rows)
    for first, second in zip(one.eqns, two.eqns, strict=True):
        if first.primitive.name != second.primitive.name or len(first.outvars) != len(second.outvars):
            return None
        _compare(found, first.outvars, second.outvars, rows)
        inner, other = called(first), called(second)
        if isinstance(inner, ClosedJaxpr) and isinstance(other, ClosedJaxpr):
            below = _side_by_side(inner.jaxpr, other.jaxpr, rows)
            if below is not None:
                found.calls[first.outvars[0]] = below
    return found


def _compare(found: RowAxes, ones: Sequence[Any], twos: Sequence[Any], rows: int) -> None:
    """Add to `found` the axis of each variable whose size has doubled from `rows`."""
    for one, two in zip(ones, twos, strict=False):
        before, after = one.aval.shape, two.aval.shape
        grown = [axis for axis, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
        if len(before) == len(after) and len(grown) == 1 and before[grown[0]] == rows and after[grown[0]] == 2 * rows:
            found.axes[one] = grown[0]
