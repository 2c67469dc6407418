"""Which leaves of a network multiply the columns of x, so that each column of x has weights of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from bbb.core.tree import Tree, pytree_dataclass
from bbb.tracing import interpreter
from bbb.tracing.interpreter import Lazy, called, carry_out

ELEMENTWISE = ("add", "sub", "mul", "div", "neg", "convert_element_type", "copy")
"""Operations of x with constants after which each column is still alone, as those that standardise x."""


@pytree_dataclass(data=("value",), static=("leaf", "along"))
class _Followed(Lazy):
    """The row of x, a leaf of the parameters, or what was made of them.

    Attributes:
        value: the array.
        leaf: its place among the leaves; None for x.
        along: for each axis of the array, that of the leaf or of x that it runs along; None for anything else.
    """

    value: jax.Array
    leaf: int | None = None
    along: tuple[int, ...] | None = None


def column_axes(network: Callable[[Tree, Any], jax.Array], params: Tree, row: Any) -> tuple[int | None, ...]:
    """Return for each leaf the axis that a product with the columns of x sums over, or None; nothing is computed.

    Such a leaf is the weight of a first dense layer: index i along the axis holds the weights of column i. The columns
    may be shifted and scaled before, by constants.

    Args:
        network: (params, row) -> outputs.
        params: of which only shapes and dtypes matter.
        row: likewise, (1, columns); of another number of axes, or a tree, no leaf is found.
    """
    leaves = jax.tree.leaves(params)
    rules = _Rules(len(leaves))
    if len(getattr(row, "shape", ())) != 2:
        return tuple(rules.found)

    def run(leaves: list[jax.Array], row: jax.Array) -> Tree:
        traced = interpreter.trace(network, params, row)
        values = [_Followed(leaf, i, tuple(range(jnp.ndim(leaf)))) for i, leaf in enumerate(leaves)]
        outputs = interpreter.run(traced, [*values, _Followed(row, None, (0, 1))], rules)
        return rules.settle(outputs, None) if isinstance(outputs, Lazy) else outputs

    jax.eval_shape(run, leaves, row)
    return tuple(rules.found)


class _Rules:
    """The rules of the interpreter: follow x and the leaves to their products, and let go of all else."""

    def __init__(self, leaves: int) -> None:
        self.found: list[int | None] = [None] * leaves

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Apply the rule of an equation: see `interpreter.Rules`."""
        name = equation.primitive.name
        if called(equation) is not None:
            return None
        lazy = [value for value in inputs if isinstance(value, _Followed)]
        outputs = carry_out(equation, [value.value if isinstance(value, _Followed) else value for value in inputs])
        if len(lazy) == 1 and (along := lazy[0].along) is not None:
            return [_Followed(outputs[0], lazy[0].leaf, _moved(equation, lazy[0], along, outputs[0]))]
        if name == "dot_general" and len(lazy) == 2:
            self._product(equation, *inputs)
        return list(map(_Followed, outputs))

    def share(self, value: Any) -> Any:
        """Return what is read more than once as it is: see `interpreter.Rules`."""
        return value

    def settle(self, value: Any, equation: JaxprEqn | None) -> jax.Array:
        """Return the array of a value: see `interpreter.Rules`."""
        del equation
        return value.value

    def _product(self, equation: JaxprEqn, *sides: _Followed) -> None:
        """Note the leaf of a product that sums over the columns of x, and over nothing else."""
        summed, batch = equation.params["dimension_numbers"]
        if any(batch) or any(side.along is None for side in sides):
            return
        along = [[side.along[axis] for axis in axes] for side, axes in zip(sides, summed, strict=True)]  # type: ignore[index]
        for x in (0, 1):
            leaf = sides[1 - x].leaf
            if sides[x].leaf is None and leaf is not None and along[x] == [1]:
                self.found[leaf] = along[1 - x][0]


def _moved(equation: JaxprEqn, value: _Followed, along: tuple[int, ...], output: jax.Array) -> tuple[int, ...] | None:
    """Return the axes of a value after an operation, or None after one that it is not followed through."""
    name = equation.primitive.name
    if name == "transpose":
        return tuple(along[axis] for axis in equation.params["permutation"])
    follows = ("convert_element_type", "copy") if value.leaf is not None else ELEMENTWISE
    return along if name in follows and output.shape == value.value.shape else None
