"""Where the rows of x lie in a traced network: of each of its values, the axis along which they do.

The network is traced for twice as many rows, and the two traces are walked side by side: the axis whose size has
grown from the number of rows to twice that is the axis of the rows, whatever moved it there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Var  # type: ignore[attr-defined,unused-ignore]

from bbb._trace import Traced, called, trace
from bbb._tree import Tree


class Rows(NamedTuple):
    """The axes of the rows in one function, by its variables; and those of the functions it calls.

    A variable that is not there has no such axis, or one of which rows are only a part.
    """

    axes: dict[Var, int]
    calls: "dict[Var, Rows]"


def row_count(x: Any) -> int | None:
    """Give the number of rows of x, or None where its leaves differ in it, or have none."""
    sizes = {jax.numpy.shape(leaf)[0] for leaf in jax.tree.leaves(x) if jax.numpy.ndim(leaf)}
    return sizes.pop() if len(sizes) == 1 else None


def find_rows(traced: Traced, apply: Callable[..., Tree], params: Tree, x: Any) -> Rows | None:
    """Find the axes of the rows in the trace of a network, or give None where it is another network for more rows."""
    rows = row_count(x)
    if not rows:
        return None
    try:
        double = trace(apply, params, jax.tree.map(_doubled, x))
    except Exception:  # the network's own refusal of so many rows, of any kind
        return None
    return _side_by_side(traced.jaxpr.jaxpr, double.jaxpr.jaxpr, rows)


def _doubled(leaf: Any) -> Any:
    """Give a leaf of x for twice as many rows; scalars, such as keys, are the same for all."""
    shape = jax.numpy.shape(leaf)
    if not shape:
        return leaf
    return jax.ShapeDtypeStruct((2 * shape[0], *shape[1:]), leaf.dtype)


def _side_by_side(one: Jaxpr, two: Jaxpr, rows: int) -> Rows | None:
    if len(one.eqns) != len(two.eqns):
        return None
    found = Rows({}, {})
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


def _compare(found: Rows, ones: Sequence[Any], twos: Sequence[Any], rows: int) -> None:
    for one, two in zip(ones, twos, strict=False):
        before, after = one.aval.shape, two.aval.shape
        grown = [axis for axis, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
        if len(before) == len(after) and len(grown) == 1 and before[grown[0]] == rows and after[grown[0]] == 2 * rows:
            found.axes[one] = grown[0]
