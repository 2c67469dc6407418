"""What the rules of random rows pass on: data, weights, products, and the moves of their axes."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from bbb.core.tree import pytree_dataclass
from bbb.tracing.interpreter import Lazy, carry_out


@pytree_dataclass(data=("value",))
class Data(Lazy):
    """An array that depends on x."""

    value: jax.Array


@pytree_dataclass(data=("mean", "std"), static=("repeated", "leaf"))
class Weight(Lazy):
    """A Gaussian weight that has not been drawn.

    Attributes:
        mean, std: arrays of the same shape; the sign of std does not matter.
        repeated: for each axis, whether a broadcast has repeated the same elements along it.
        leaf: its index among the leaves of the parameters.
    """

    mean: jax.Array
    std: jax.Array
    repeated: tuple[bool, ...]
    leaf: int


@pytree_dataclass(data=("value", "spread"), static=("own",))
class Product(Lazy):
    """A product of data and a weight, to which a bias may still be added.

    Attributes:
        value: the mean in local reparameterisation; a draw in Flipout.
        spread: the variance in local reparameterisation; the signs of rows and outputs in Flipout.
        own: for each axis, whether its elements have different weights (outputs, channels), as opposed to rows and
            positions.
    """

    value: jax.Array
    spread: jax.Array
    own: tuple[bool, ...]


class NoiseRequest(NamedTuple):
    """A request for random numbers: standard normals, or else random signs, ±1."""

    normal: bool
    shape: tuple[int, ...]
    dtype: Any


Take = Callable[[NoiseRequest], jax.Array]
"""A function that returns the requested random numbers."""


Note = Callable[[int, str, str, JaxprEqn | None, str], None]
"""A function that is called with `(leaf, route, reason, equation, exactness)` when the route of a weight is known."""


MOVES = {"transpose", "reshape", "broadcast_in_dim", "squeeze", "slice", "rev", "copy", "convert_element_type"}
"""Primitives that only move elements, or change their dtype."""


def centre(value: Any) -> Any:
    """Return the mean of a weight, or the array of another value."""
    if isinstance(value, Weight):
        return value.mean
    return value.value if isinstance(value, Data | Product) else value


def evaluate(equation: JaxprEqn, *inputs: Any) -> jax.Array:
    """Return the output of an equation with one output."""
    return carry_out(equation, inputs)[0]


def product_with(equation: JaxprEqn, x: jax.Array, weight: jax.Array, place: int) -> jax.Array:
    """Return the product of an equation with the weight at its place among the two inputs."""
    return evaluate(equation, weight, x) if place == 0 else evaluate(equation, x, weight)


def broadcast_weight(weight: Weight, shape: tuple[int, ...]) -> Weight:
    """Return a weight that a sum broadcasts to `shape`; it is a scalar or has axes of length 1."""
    marks = zip(weight.repeated or (True,) * len(shape), weight.mean.shape or (1,) * len(shape), shape, strict=True)
    repeated = tuple(mark or before != after for mark, before, after in marks)
    mean, std = (jnp.broadcast_to(array, shape) for array in (weight.mean, weight.std))
    return dataclasses.replace(weight, mean=mean, std=std, repeated=repeated)


def is_tied(bias: Weight, product: Product) -> bool:
    """Return whether several outputs of a row share an element of the bias, and so its noise."""
    return any(repeated and own for repeated, own in zip(bias.repeated, product.own, strict=True))


def negated(value: Weight | Product) -> Lazy:
    """Return the negative of a weight or a product."""
    if isinstance(value, Weight):
        return dataclasses.replace(value, mean=-value.mean)
    return dataclasses.replace(value, value=-value.value)


def scaled(equation: JaxprEqn, inputs: list[Any]) -> Weight | None:
    """Multiply or divide a weight by constants; None for other products and quotients."""
    places = [place for place, value in enumerate(inputs) if isinstance(value, Lazy)]
    weight = inputs[places[0]]
    divides = equation.primitive.name == "div" and places[0] == 1
    shape = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    if len(places) > 1 or divides or not isinstance(weight, Weight) or weight.mean.shape != shape:
        return None

    def scale(array: jax.Array) -> jax.Array:
        return evaluate(equation, *(array if value is weight else value for value in inputs))

    return dataclasses.replace(weight, mean=scale(weight.mean), std=scale(weight.std))


def moved(equation: JaxprEqn, value: Weight | Product) -> Lazy | None:
    """Move the elements of a weight or a product; None if its axes would lose their meaning."""
    if equation.primitive.name not in MOVES:
        return None
    if not jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating):  # type: ignore[attr-defined]
        return None
    if isinstance(value, Weight):
        repeated = _axes(equation, value.repeated)
        if repeated is None or None in repeated:
            return None
        moved = {"mean": evaluate(equation, value.mean), "std": evaluate(equation, value.std)}
        return dataclasses.replace(value, **moved, repeated=repeated)  # type: ignore[arg-type]
    own = _axes(equation, value.own, when_repeated=None)
    if own is None or None in own:
        return None
    return Product(evaluate(equation, value.value), evaluate(equation, value.spread), own)  # type: ignore[arg-type]


def _axes(
    equation: JaxprEqn, marks: tuple[bool, ...], when_repeated: bool | None = True
) -> tuple[bool | None, ...] | None:
    """Move the marks of axes as an equation moves the axes; None if axes with different marks are merged."""
    name, params = equation.primitive.name, equation.params
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    if name == "transpose":
        return tuple(marks[axis] for axis in params["permutation"])
    if name == "squeeze":
        return tuple(mark for axis, mark in enumerate(marks) if axis not in params["dimensions"])
    if name == "reshape":
        return regrouped(before, marks, after)
    if name == "broadcast_in_dim":
        found: list[bool | None] = [when_repeated if size > 1 else False for size in after]
        for axis, to in enumerate(params["broadcast_dimensions"]):
            if before[axis] == after[to]:
                found[to] = marks[axis]
        return tuple(found)
    return marks


def regrouped(before: Sequence[int], marks: Sequence[bool], after: Sequence[int]) -> tuple[bool, ...] | None:
    """Return the marks of the axes after a reshape, or None if axes with different marks are merged.

    Both shapes are divided where their cumulative products agree, and the groups of axes are matched.
    """
    if math.prod(before) == 0:
        return None
    left = [(size, mark) for size, mark in zip(before, marks, strict=True) if size > 1]
    found: list[bool] = []
    merged = made = 1  # the sizes of the current group, before and after
    mark = False
    for size in after:
        made *= size
        while size > 1 and merged < made:
            taken, new = left.pop(0)
            if merged > 1 and new != mark:
                return None
            merged, mark = merged * taken, new
        found.append(mark if size > 1 else False)
        if merged == made:
            merged = made = 1
    return tuple(found)
