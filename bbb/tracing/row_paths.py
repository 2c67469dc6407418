"""Where the rows of x are in the values of a traced network, followed from operation to operation.

    follow(program, inputs, count) -> the axis of the rows in each output
    alone(apply, params, x) -> the trace for one row, if the trace for many shows that each is processed alike

Operations that may combine rows, or have no rule here, end in an `UnclearError`. Unlike `_rowaxes`, which compares
shapes only, this proves that rows stay apart.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal  # type: ignore[attr-defined,unused-ignore]

from bbb.core.rows import rows_mask, with_rows
from bbb.core.tree import Tree
from bbb.tracing.interpreter import Traced, called, closed, inner_programs, scanned, trace

EquationParams = dict[str, Any]
"""The parameters of an equation of a jaxpr, by name."""


PRIMES = (1009, 1013, 1019, 1021, 1031, 1033)
"""Numbers of rows to trace with: an axis of such a size, or a multiple, can only be one that holds rows."""


class Rows(NamedTuple):
    """Where the rows of x are in an array: along `axis`, whose size is outer · rows · inner, in this order."""

    axis: int
    outer: int = 1
    inner: int = 1


class UnclearError(Exception):
    """The trace does not show whether rows stay apart."""


def alone(apply: Callable[..., Tree], params: Tree, x: Tree) -> Traced | None:
    """Trace a network for a single row, if the trace shows that all rows are processed alike and independently.

    Returns:
        The trace for x of one row; None if rows are combined, if the outputs for a row depend on its position or on the
        number of rows, or if the trace does not show it.
    """
    sizes = {size for leaf in jax.tree.leaves(params) for size in jnp.shape(leaf)}
    sizes |= {size for leaf in jax.tree.leaves(x) for size in jnp.shape(leaf)[1:]}
    count = next((prime for prime in PRIMES if all(size % prime for size in sizes if size)), None)
    if count is None:
        return None
    try:
        one, many = (trace(apply, params, with_rows(x, rows)) for rows in (1, count))
        inputs = [None] * len(jax.tree.leaves(params)) + [Rows(0) if has_rows else None for has_rows in rows_mask(x)]
        apart = all(found == Rows(0) for found in follow(many.jaxpr, inputs, count))
    except Exception:  # operations without a rule, and networks of a fixed number of rows, which may raise anything
        return None
    return one if apart and _alike(one, many, count) else None


def _alike(one: Traced, many: Traced, count: int) -> bool:
    """Return whether the traces for one row and for many have the same outputs for each row and the same literals."""
    ours: Any = jax.tree.structure(one.outputs)
    if ours != jax.tree.structure(many.outputs):
        return False
    few, more = ([(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(made.outputs)] for made in (one, many))
    same = all(a[0] == (1, *b[0][1:]) and b[0][0] == count and a[1] == b[1] for a, b in zip(few, more, strict=True))
    return same and tuple(literals(one.jaxpr.jaxpr)) == tuple(literals(many.jaxpr.jaxpr))


def literals(jaxpr: Jaxpr) -> Iterator[str]:
    """Yield the scalar literals of a program, and of the programs that it calls, in order."""
    for equation in jaxpr.eqns:
        for place in equation.invars:
            if isinstance(place, Literal) and np.ndim(place.val) == 0:
                yield repr(place.val)  # as text, because NaN is not equal to itself
        for inner in inner_programs(equation):
            yield from literals(inner.jaxpr)


def follow(program: ClosedJaxpr, inputs: Sequence[Rows | None], count: int) -> list[Rows | None]:
    """Return where the rows are in the outputs of a trace, given where they are in its inputs; None if nowhere.

    Raises:
        UnclearError: if an operation may combine rows, or has no rule.
    """
    known: dict[Any, Rows | None] = dict(zip(program.jaxpr.invars, inputs, strict=True))
    if any(_holds_rows(jnp.shape(const), count) for const in program.consts):
        raise UnclearError

    def read(place: Any) -> Rows | None:
        if isinstance(place, Literal):
            if _holds_rows(np.shape(place.val), count):
                raise UnclearError
            return None
        return known.get(place)

    for equation in program.jaxpr.eqns:
        if equation.primitive.name == "scan" and _holds_rows((equation.params["length"],), count):  # one step per row
            raise UnclearError
        found = [read(place) for place in equation.invars]
        outputs = _follow(equation, found, count) if any(found) else _born(equation, count)
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(place) for place in program.jaxpr.outvars]


def _holds_rows(shape: Sequence[int], count: int) -> bool:
    return any(size and size % count == 0 for size in shape)


def _born(equation: JaxprEqn, count: int) -> list[Rows | None]:
    """Return where the rows are in the outputs of an equation without row inputs, such as zeros of the shape of x.

    Raises:
        UnclearError: if the outputs may differ between rows.
    """
    shapes = [place.aval.shape for place in equation.outvars]  # type: ignore[attr-defined]
    inner, name, params = called(equation), equation.primitive.name, equation.params
    if inner is not None:
        return follow(inner, [None] * len(equation.invars), count)
    if not any(_holds_rows(shape, count) for shape in shapes):
        return [None] * len(shapes)
    axes = [axis for axis, size in enumerate(shapes[0]) if size and size % count == 0]
    made_alike = name == "broadcast_in_dim" or (name == "iota" and params["dimension"] not in axes)
    if not made_alike or len(axes) > 1 or shapes[0][axes[0]] != count:
        raise UnclearError
    return [Rows(axes[0])]


def _follow(equation: JaxprEqn, inputs: list[Rows | None], count: int) -> list[Rows | None]:
    """Return where the rows are in the outputs of an equation.

    Raises:
        UnclearError: if it may combine rows, or has no rule.
    """
    name, params = equation.primitive.name, equation.params
    inner = closed(params["call_jaxpr"]) if name == "custom_vjp_call" else called(equation)
    if inner is not None:
        return follow(inner, inputs, count)
    if name in _LOOPS:
        return _LOOPS[name](params, inputs, count)
    shapes = [place.aval.shape for place in equation.invars]  # type: ignore[attr-defined]
    out = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    if name in _PRODUCTS:
        return [_PRODUCTS[name](params, inputs, shapes)]
    known = {rows for rows in inputs if rows is not None}
    if len(known) > 1:
        raise UnclearError
    (rows,) = known
    shape = next(shape for shape, found in zip(shapes, inputs, strict=True) if found)
    if _keeps(name, params, rows, shapes, shape, out):
        return [rows] * len(equation.outvars)
    if name in _REDUCTIONS and rows.axis not in params["axes"]:
        return [rows._replace(axis=rows.axis - sum(axis < rows.axis for axis in params["axes"]))]
    if name in _MOVES:
        return [_MOVES[name](params, rows, shape, out, count)] * len(equation.outvars)
    raise UnclearError


def _keeps(
    name: str,
    params: EquationParams,
    rows: Rows,
    shapes: list[tuple[int, ...]],
    shape: tuple[int, ...],
    out: tuple[int, ...],
) -> bool:
    """Return whether an equation keeps the rows where they are, whatever it does along other axes."""
    # an axis of length 1 is broadcast, but the row axis has all of its elements
    fitting = all(len(other) in (0, len(out)) for other in shapes)
    if name in ELEMENTWISE:
        return fitting and bool(shape[rows.axis] == out[rows.axis])
    if name in _ALONG:
        return bool(params.get("axis", params.get("dimension")) != rows.axis)
    if name == "dynamic_update_slice":
        return bool(shapes[0][rows.axis] == shapes[1][rows.axis])
    if name == "top_k":
        return rows.axis != len(shape) - 1
    same = name in _WINDOWS and params["window_dimensions"][rows.axis] == 1
    return same and bool(out[rows.axis] == shape[rows.axis])


def _scan(params: EquationParams, inputs: list[Rows | None], count: int) -> list[Rows | None]:
    """Follow the steps of a scan, which must not scan over the rows."""
    inner, *counts = scanned(params)
    consts, carry, steps = _parted(inputs, *counts)
    if any(rows is not None and rows.axis == 0 for rows in steps):
        raise UnclearError
    one = [rows and rows._replace(axis=rows.axis - 1) for rows in steps]
    carry, made = _settled(lambda carry: follow(inner, [*consts, *carry, *one], count), carry)
    return carry + [rows and rows._replace(axis=rows.axis + 1) for rows in made]


def _while(params: EquationParams, inputs: list[Rows | None], count: int) -> list[Rows | None]:
    """Follow a loop whose condition must not depend on the rows."""
    asked, consts, carry = _parted(inputs, params["cond_nconsts"], params["body_nconsts"])
    carry, _ = _settled(lambda carry: follow(closed(params["body_jaxpr"]), [*consts, *carry], count), carry)
    if any(follow(closed(params["cond_jaxpr"]), [*asked, *carry], count)):
        raise UnclearError
    return carry


def _cond(params: EquationParams, inputs: list[Rows | None], count: int) -> list[Rows | None]:
    """Follow all branches of a choice, which must not depend on the rows."""
    if inputs[0] is not None:
        raise UnclearError
    found = [follow(closed(branch), inputs[1:], count) for branch in params["branches"]]
    return functools.reduce(_merged, found)


def _parted(values: list[Any], first: int, second: int) -> tuple[list[Any], list[Any], list[Any]]:
    return values[:first], values[first : first + second], values[first + second :]


def _settled(step: Callable[[list[Any]], list[Any]], carry: list[Any]) -> tuple[list[Any], list[Any]]:
    """Follow a step of a loop until the rows in its carried values no longer change."""
    while True:
        found = step(carry)
        merged = _merged(carry, found[: len(carry)])
        if merged == carry:
            return carry, found[len(carry) :]
        carry = merged


def _merged(one: list[Rows | None], other: list[Rows | None]) -> list[Rows | None]:
    if any(a is not None and b is not None and a != b for a, b in zip(one, other, strict=True)):
        raise UnclearError
    return [a or b for a, b in zip(one, other, strict=True)]


def _dot(params: EquationParams, inputs: list[Rows | None], shapes: list[tuple[int, ...]]) -> Rows:
    (contracted, batch) = params["dimension_numbers"]
    found = set()
    for place, rows in enumerate(inputs):
        if rows is None:
            continue
        if rows.axis in contracted[place]:
            raise UnclearError
        if rows.axis in batch[place]:
            found.add(rows._replace(axis=batch[place].index(rows.axis)))
            continue
        taken = {*contracted[place], *batch[place]}
        free = [axis for axis in range(len(shapes[place])) if axis not in taken]
        before = len(shapes[0]) - len(contracted[0]) if place else len(batch[0])
        found.add(rows._replace(axis=before + free.index(rows.axis)))
    if len(found) > 1:
        raise UnclearError
    return found.pop()


def _convolution(params: EquationParams, inputs: list[Rows | None], shapes: list[tuple[int, ...]]) -> Rows:
    del shapes
    numbers, rows = params["dimension_numbers"], inputs[0]
    if inputs[1] is not None or rows is None or params["batch_group_count"] != 1 or rows.axis != numbers.lhs_spec[0]:
        raise UnclearError
    return rows._replace(axis=numbers.out_spec[0])


def _broadcast(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    del count
    axis = params["broadcast_dimensions"][rows.axis]
    if out[axis] != shape[rows.axis]:
        raise UnclearError
    return rows._replace(axis=axis)


def _reshape(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    """Return the axis that holds all rows; elements have the order outer, row, inner before and after a reshape."""
    del params
    outer, inner = math.prod(shape[: rows.axis]) * rows.outer, rows.inner * math.prod(shape[rows.axis + 1 :])
    for axis, size in enumerate(out):
        before, after = math.prod(out[:axis]), math.prod(out[axis + 1 :])
        if before and after and outer % before == 0 and inner % after == 0:
            found = Rows(axis, outer // before, inner // after)
            if found.outer * count * found.inner == size:
                return found
    raise UnclearError


def _squeeze(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    del shape, out, count
    return rows._replace(axis=rows.axis - sum(axis < rows.axis for axis in params["dimensions"]))


def _transpose(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    del shape, out, count
    return rows._replace(axis=params["permutation"].index(rows.axis))


def _stack(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    del shape, out, count
    return rows._replace(axis=rows.axis + (rows.axis >= params["axis"]))


def _unstack(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    del shape, out, count
    if rows.axis == params["axis"]:
        raise UnclearError
    return rows._replace(axis=rows.axis - (rows.axis > params["axis"]))


def _tile(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    del params, count
    axis = rows.axis + len(out) - len(shape)
    if out[axis] != shape[rows.axis]:
        raise UnclearError
    return rows._replace(axis=axis)


def _same_size(params: EquationParams, rows: Rows, shape: tuple[int, ...], out: tuple[int, ...], count: int) -> Rows:
    """Return the same axis, along which nothing may be sliced, padded, joined or reversed."""
    del count
    if out[rows.axis] != shape[rows.axis] or rows.axis in params.get("dimensions", ()):
        raise UnclearError
    if "padding_config" in params and params["padding_config"][rows.axis] != (0, 0, 0):
        raise UnclearError
    return rows


def _gather(params: EquationParams, inputs: list[Rows | None], shapes: list[tuple[int, ...]]) -> Rows:
    """Follow a gather: with indices of each row, or with the same indices for every row."""
    numbers, (operand, indices) = params["dimension_numbers"], inputs
    out = len(numbers.offset_dims) + len(shapes[1]) - 1
    chosen = [axis for axis in range(out) if axis not in numbers.offset_dims]
    if operand is not None and indices is None:
        offsets = [
            axis
            for axis in range(len(shapes[0]))
            if axis not in {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        ]
        full = params["slice_sizes"][operand.axis] == shapes[0][operand.axis]
        if operand.axis in numbers.start_index_map or operand.axis not in offsets or not full:
            raise UnclearError
        return operand._replace(axis=numbers.offset_dims[offsets.index(operand.axis)])
    assert indices is not None
    if indices.axis == len(shapes[1]) - 1:
        raise UnclearError
    if operand is not None:
        pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
        if (operand.axis, indices.axis) not in pairs or operand[1:] != indices[1:]:
            raise UnclearError
    return indices._replace(axis=chosen[indices.axis])


_PRODUCTS: dict[str, Callable[..., Rows]] = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "gather": _gather,
}


_LOOPS: dict[str, Callable[..., list[Rows | None]]] = {"scan": _scan, "while": _while, "cond": _cond}


_MOVES: dict[str, Callable[..., Rows]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "unstack": _unstack,
    "transpose": _transpose,
} | dict.fromkeys(("slice", "pad", "concatenate", "rev", "dynamic_slice"), _same_size)


_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin"}


_ALONG = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "split"}


_WINDOWS = {"reduce_window_sum", "reduce_window_max", "reduce_window_min"}


ELEMENTWISE = frozenset(
    (
        *("abs", "add", "add_any", "and", "atan2", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos"),
        *("cosh", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow"),
        *("is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not"),
        *("or", "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt"),
        *("sharding_constraint", "square", "stop_gradient", "sub", "tan", "tanh", "xor"),
    )
)
