"""Convolutions in the one layout that XLA's CPU backend computes fast wherever they stand.

XLA turns a convolution into that layout, rows first and channels last, only outside of loops. Within a loop, which is
where a library trains and draws, any other layout is computed element by element: those of networks whose channels
come first, and all gradients with respect to kernels and inputs. They take 14 to 51 times as long (JAX 0.10 and 0.12).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn  # type: ignore[attr-defined,unused-ignore]

from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree
from bbb.tracing import interpreter
from bbb.tracing.network import Apply

CONVOLUTION = "conv_general_dilated"


def convolves(apply: Apply, params: Tree, x: Tree) -> bool:
    """Return whether a network convolves its inputs; only the shapes of its arguments matter."""
    return bool(from_shapes(_convolves, apply, params, x))


def _convolves(apply: Apply, params: Tree, x: Tree) -> bool:
    return _has_convolution(interpreter.trace(apply, params, x).jaxpr)


def for_cpu(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """Return a function of trees of arrays, whose convolutions have rows first and channels last.

    It computes the same numbers up to rounding. It is to be the body of a loop, or to hold loops: differentiate and
    batch before, as the gradient of such a convolution has another layout again. Keywords are static.
    """

    @functools.wraps(function)
    def call(*args: Tree, **static: Any) -> Tree:
        traced = interpreter.trace(functools.partial(function, **static), *args)
        return jax.tree.unflatten(jax.tree.structure(traced.outputs), _run(traced.jaxpr, jax.tree.leaves(args)))

    return call


def channels_last(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """Return `for_cpu(function)`, which on other backends than a CPU is the function itself."""

    @functools.wraps(function)
    def call(*args: Tree, **static: Any) -> Tree:
        return (for_cpu(function) if jax.default_backend() == "cpu" else function)(*args, **static)

    return call


@dataclasses.dataclass(frozen=True)
class ChannelsLast:
    """`channels_last` of a function, as an object that compares by it."""

    function: Callable[..., Tree]

    def __call__(self, *args: Tree) -> Tree:
        """Return the function's outputs."""
        return channels_last(self.function)(*args)


def _has_convolution(program: ClosedJaxpr) -> bool:
    """Return whether a program, or one within it, convolves."""
    return any(
        equation.primitive.name == CONVOLUTION or any(map(_has_convolution, interpreter.inner_programs(equation)))
        for equation in program.jaxpr.eqns
    )


def _run(program: ClosedJaxpr, values: Sequence[Any]) -> list[Any]:
    """Evaluate a program on arrays, its convolutions with channels last."""
    return interpreter.walk(program, values, _outputs)


def _outputs(equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
    """Return the outputs of an equation."""
    if equation.primitive.name == CONVOLUTION and equation.params["batch_group_count"] == 1:
        return [_convolved(equation, *inputs)]
    if not any(map(_has_convolution, interpreter.inner_programs(equation))):
        return interpreter.carry_out(equation, inputs)
    inner = interpreter.called(equation)
    if inner is not None:
        return _run(inner, inputs)
    params = {name: _rewritten(value) for name, value in equation.params.items()}
    return interpreter.carry_out(equation.replace(params=params), inputs)


def _rewritten(value: Any) -> Any:
    """Return a parameter of a loop or a condition, its programs with channels last."""
    if isinstance(value, tuple | list):
        return type(value)(map(_rewritten, value)) if any(map(interpreter.is_program, value)) else value
    if not interpreter.is_program(value):
        return value
    program = interpreter.closed(value)
    new = jax.make_jaxpr(lambda *values: _run(program, values))(*program.in_avals)
    return new if isinstance(value, ClosedJaxpr) else new.jaxpr


def _convolved(equation: JaxprEqn, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the output of a convolution, computed with rows first and channels last."""
    numbers = equation.params["dimension_numbers"]
    rows, channels, *space = numbers.lhs_spec
    outs, ins, *window = numbers.rhs_spec
    order = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])  # of the axes of the result
    axes = tuple(range(1, 1 + len(space)))
    last = len(space) + 1
    layout = lax.ConvDimensionNumbers((0, last, *axes), (last, last - 1, *(a - 1 for a in axes)), (0, last, *axes))
    moved = lax.transpose(x, (rows, *space, channels)), lax.transpose(kernel, (*window, ins, outs))
    params = equation.params | {"dimension_numbers": layout}
    (found,) = interpreter.carry_out(equation.replace(params=params), moved)
    return lax.transpose(found, tuple(int(axis) for axis in np.argsort(order)))
