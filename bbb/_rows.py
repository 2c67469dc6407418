"""Whether the rows of a network meet: whether what it gives for one row depends on what another row holds.

`predict` cuts x into tiles, and training into batches, which is right only where each row is answered by itself. A
network whose operations all plainly keep rows apart is known by its trace. Any other is tried: two rows are changed,
and if the bits of a row between them change too, rows meet. A network whose trace holds other numbers for twice as many
rows, such as one that divides by `x.shape[0]`, is tried with both. What cannot be decided is accepted.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal  # type: ignore[attr-defined,unused-ignore]

from bbb import _check
from bbb._shapes import from_shapes
from bbb._trace import called
from bbb._tree import Tree

TRIED = 8
"""Rows that a network is traced and tried with: a tile of the smallest size."""


class Rows(NamedTuple):
    """Where the rows of x run in an array: along `axis`, of size outer · rows · inner, in this order."""

    axis: int
    outer: int = 1
    inner: int = 1


class _UnclearError(Exception):
    """The trace does not tell whether rows stay apart."""


def refuse_meeting(apply: Callable[..., Any], params: Tree, x: Any, what: str, do: str) -> None:
    """Refuse a network whose rows meet, for `what` cuts them apart.

    Raises:
        InputError: if a row's outputs change when other rows do, or with how many there are.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, x))):
        return
    few, more = (jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype) for rows in (TRIED, 2 * TRIED))
    if not from_shapes(_apart, apply, params, few) and _met(apply, params, x):
        _refuse(what, "when other rows do", do)
    counted = from_shapes(_numbers, apply, params, few) != from_shapes(_numbers, apply, params, more)
    if counted and _changes_with_count(apply, params, x):
        _refuse(what, "with how many rows there are", do)


def _refuse(what: str, change: str, do: str) -> NoReturn:
    expected = f"a network that answers each row of x by itself, for {what}"
    _check.fail(_check.InputError, expected, f"one whose outputs for a row change {change}", do)


def _apart(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Tell whether each operation keeps rows apart, as far as rules are known."""
    try:
        closed = jax.make_jaxpr(lambda *args: apply(*args))(params, x)  # noqa: PLW0108 - see `_trace.trace`
        inputs = [None] * (len(closed.jaxpr.invars) - 1) + [Rows(0)]
        return all(found in (Rows(0), None) for found in _run(closed, inputs))
    except Exception:  # a network of a fixed number of rows fails here: it is tried, and fails there
        return False


def _met(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Change the first or the last of a few rows, and tell whether the bits of the others change."""
    rows = np.asarray(x)[np.arange(TRIED) % len(x)]

    def changed(row: int) -> np.ndarray:
        other = rows.copy()
        floating = jnp.issubdtype(rows.dtype, jnp.floating)
        other[row] = rows[row] + 1 if floating else np.where(rows[row] > 0, 0, 1).astype(rows.dtype)
        return other

    try:
        run = jax.jit(apply)
        plain, *others = (np.asarray(run(params, jnp.asarray(tried))) for tried in (rows, changed(0), changed(-1)))
    except Exception:  # who asks has other checks, which name it
        return False
    kept = slice(1, None), slice(None, -1)
    return not all(
        np.array_equal(plain[rest], other[rest], equal_nan=True) for rest, other in zip(kept, others, strict=True)
    )


def _numbers(apply: Callable[..., Any], params: Tree, x: Any) -> tuple[str, ...]:
    """Return the numbers that stand in the trace itself; none where there is no trace."""
    try:
        closed = jax.make_jaxpr(lambda *args: apply(*args))(params, x)  # noqa: PLW0108 - see `_trace.trace`
    except Exception:  # a network of a fixed number of rows
        return ()
    return tuple(_literals(closed.jaxpr))


def _literals(jaxpr: Jaxpr) -> Iterator[str]:
    """Yield the numbers of a program, and of those that it calls, in their order."""
    for equation in jaxpr.eqns:
        for place in equation.invars:
            if isinstance(place, Literal) and np.ndim(place.val) == 0:
                yield repr(place.val)  # a NaN equals no other
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                yield from _literals(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def _is_program(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def _changes_with_count(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Return whether the same rows have other outputs beside more of them, by more than rounding."""
    rows = np.asarray(x)[np.arange(2 * TRIED) % len(x)]
    try:
        run = jax.jit(apply)
        few, more = (np.asarray(run(params, jnp.asarray(tried))) for tried in (rows[:TRIED], rows))
    except Exception:  # who asks has other checks, which name it
        return False
    scale = float(np.max(np.abs(few[np.isfinite(few)]), initial=0.0))
    return not np.allclose(few, more[:TRIED], rtol=1e-2, atol=1e-3 * scale, equal_nan=True)


def _run(closed: ClosedJaxpr, inputs: Sequence[Rows | None]) -> list[Rows | None]:
    known: dict[Any, Rows | None] = dict(zip(closed.jaxpr.invars, inputs, strict=True))

    def read(place: Any) -> Rows | None:
        return None if isinstance(place, Literal) else known.get(place)

    for equation in closed.jaxpr.eqns:
        found = [read(place) for place in equation.invars]
        outputs = _follow(equation, found) if any(found) else [None] * len(equation.outvars)
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(place) for place in closed.jaxpr.outvars]


def _follow(equation: JaxprEqn, inputs: list[Rows | None]) -> list[Rows | None]:  # noqa: PLR0911 - one for each rule
    """Say where rows run in the outputs of an equation.

    Raises:
        _UnclearError: if it may bring rows together, or has no rule.
    """
    inner = called(equation)
    if inner is not None:
        return _run(inner, inputs)
    name, params = equation.primitive.name, equation.params
    shapes = [place.aval.shape for place in equation.invars]  # type: ignore[attr-defined]
    out = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    if name in _PRODUCTS:
        return [_PRODUCTS[name](params, inputs, shapes)]
    known = {rows for rows in inputs if rows is not None}
    if len(known) > 1:
        raise _UnclearError
    (rows,) = known
    shape = next(shape for shape, found in zip(shapes, inputs, strict=True) if found)
    # an axis of length 1 stretches, but that of the rows has all of them
    fitting = all(len(other) in (0, len(out)) for other in shapes)
    if name in ELEMENTWISE and fitting and shape[rows.axis] == out[rows.axis]:
        return [rows] * len(equation.outvars)
    if name in _REDUCTIONS and rows.axis not in params["axes"]:
        return [rows._replace(axis=rows.axis - sum(axis < rows.axis for axis in params["axes"]))]
    if name in _ALONG and params.get("axis", params.get("dimension")) != rows.axis:
        return [rows] * len(equation.outvars)
    if name in _WINDOWS and params["window_dimensions"][rows.axis] == 1 and out[rows.axis] == shape[rows.axis]:
        return [rows]
    if name in _MOVES:
        return [_MOVES[name](params, rows, shape, out)]
    raise _UnclearError


def _dot(params: Any, inputs: list[Rows | None], shapes: list[Any]) -> Rows:
    (contracted, batch) = params["dimension_numbers"]
    found = set()
    for place, rows in enumerate(inputs):
        if rows is None:
            continue
        if rows.axis in contracted[place]:
            raise _UnclearError
        if rows.axis in batch[place]:
            found.add(rows._replace(axis=batch[place].index(rows.axis)))
            continue
        taken = {*contracted[place], *batch[place]}
        free = [axis for axis in range(len(shapes[place])) if axis not in taken]
        before = len(shapes[0]) - len(contracted[0]) if place else len(batch[0])
        found.add(rows._replace(axis=before + free.index(rows.axis)))
    if len(found) > 1:
        raise _UnclearError
    return found.pop()


def _convolution(params: Any, inputs: list[Rows | None], shapes: list[Any]) -> Rows:
    del shapes
    numbers, rows = params["dimension_numbers"], inputs[0]
    if inputs[1] is not None or rows is None or params["batch_group_count"] != 1 or rows.axis != numbers.lhs_spec[0]:
        raise _UnclearError
    return rows._replace(axis=numbers.out_spec[0])


def _broadcast(params: Any, rows: Rows, shape: Any, out: Any) -> Rows:
    axis = params["broadcast_dimensions"][rows.axis]
    if out[axis] != shape[rows.axis]:
        raise _UnclearError
    return rows._replace(axis=axis)


def _reshape(params: Any, rows: Rows, shape: Any, out: Any) -> Rows:
    """Find the axis that holds all rows: elements lie in the order outer, row, inner before and after."""
    del params
    outer, inner = math.prod(shape[: rows.axis]) * rows.outer, rows.inner * math.prod(shape[rows.axis + 1 :])
    for axis, size in enumerate(out):
        before, after = math.prod(out[:axis]), math.prod(out[axis + 1 :])
        if before and after and outer % before == 0 and inner % after == 0:
            found = Rows(axis, outer // before, inner // after)
            if found.outer * TRIED * found.inner == size:
                return found
    raise _UnclearError


def _squeeze(params: Any, rows: Rows, shape: Any, out: Any) -> Rows:
    del shape, out
    return rows._replace(axis=rows.axis - sum(axis < rows.axis for axis in params["dimensions"]))


def _transpose(params: Any, rows: Rows, shape: Any, out: Any) -> Rows:
    del shape, out
    return rows._replace(axis=params["permutation"].index(rows.axis))


def _same_size(params: Any, rows: Rows, shape: Any, out: Any) -> Rows:
    """Keep the axis, along which nothing was cut, added or turned."""
    if out[rows.axis] != shape[rows.axis] or rows.axis in params.get("dimensions", ()):
        raise _UnclearError
    if "padding_config" in params and params["padding_config"][rows.axis] != (0, 0, 0):
        raise _UnclearError
    return rows


_PRODUCTS: dict[str, Callable[..., Rows]] = {"dot_general": _dot, "conv_general_dilated": _convolution}
_MOVES: dict[str, Callable[..., Rows]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
} | dict.fromkeys(("slice", "pad", "concatenate", "rev", "dynamic_slice"), _same_size)
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin"}
_ALONG = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort"}
_WINDOWS = {"reduce_window_sum", "reduce_window_max", "reduce_window_min"}
ELEMENTWISE = frozenset(
    (
        *("abs", "add", "add_any", "and", "atan2", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos"),
        *("cosh", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow"),
        *("is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not"),
        *("or", "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt"),
        *("square", "stop_gradient", "sub", "tan", "tanh", "xor"),
    )
)
