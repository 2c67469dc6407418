"""Where each weight of a network meets a row, and the gradients there: what Kronecker factors are made of.

A network is traced for a single row. A weight that is used once, as the matrix of a product or the kernel of a
convolution, meets at each of its places a vector a, and makes there a vector s = aᵀ·W, to which a perturbation of 0 is
added. The gradient of an output in W is the sum of a·gᵀ over the places, with g its gradient in the perturbation: the
gradient of each row, of the size of W, is never made, and the rest of the network needs no rule. All other weights get
a perturbation of their own for each row.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from bbb.core.tree import Tree, pytree_dataclass
from bbb.tracing import interpreter
from bbb.tracing.interpreter import OWN_DERIVATIVE, Lazy, called, carry_out, source_line


class Site(NamedTuple):
    """Where a leaf of the parameters meets a row.

    Attributes:
        shape: the leaf's own.
        inputs: the axes of it that a product sums over, in their order; None if it is used in another way.
        places: at how many places of a row the product uses it.
        reason: how it is used.
        line: where the network uses it, `file:line (function)`, or empty.
    """

    shape: tuple[int, ...]
    inputs: tuple[int, ...] | None
    places: int
    reason: str
    line: str = ""

    @property
    def fan_in(self) -> int:
        """The size of a."""
        return math.prod(self.shape[axis] for axis in self.inputs or ())

    @property
    def fan_out(self) -> int:
        """The size of s."""
        return math.prod(self.shape) // max(1, self.fan_in)


class Meeting(NamedTuple):
    """What meets a row at each site.

    Attributes:
        outputs: of the network, (1, ...).
        inputs: for each leaf the vectors a, (places, fan_in), or None without a product.
        gradients: the function from a cotangent of the outputs to those of each leaf: (places, fan_out), or of the
            leaf's own shape without a product.
    """

    outputs: jax.Array
    inputs: list[jax.Array | None]
    gradients: Callable[[jax.Array], list[jax.Array]]


@pytree_dataclass(data=("value",), static=("axes", "leaf"))
class Weight(Lazy):
    """A leaf, or what moving its axes made of it.

    Attributes:
        value: the array.
        axes: for each of its axes, the axes of the leaf that it runs along; none for an axis of length 1.
        leaf: its place among the leaves.
    """

    value: jax.Array
    axes: tuple[tuple[int, ...], ...]
    leaf: int


def sites(network: Callable[[Tree, Any], jax.Array], params: Tree, row: Any) -> tuple[Site, ...]:
    """Return where each leaf of the parameters meets a row, in the order of `jax.tree.leaves`; nothing is computed.

    Args:
        network: (params, row) -> outputs.
        params: of which only shapes and dtypes matter.
        row: likewise, (1, ...).
    """
    leaves = jax.tree.leaves(params)
    found = [Site(jnp.shape(leaf), None, 1, "the outputs do not depend on it") for leaf in leaves]

    def note(leaf: int, site: Site) -> None:
        found[leaf] = site

    def run(leaves: list[jax.Array], row: Any) -> Tree:
        traced = interpreter.trace(network, params, row)
        tape = _Tape([jnp.shape(leaf) for leaf in leaves], note, None)
        values = [_whole(leaf, i) for i, leaf in enumerate(leaves)]
        return _settled(traced, [*values, *jax.tree.leaves(row)], tape)

    jax.eval_shape(run, leaves, row)
    return tuple(found)


def meet(network: Callable[[Tree, Any], jax.Array], params: Tree, row: Any, where: Sequence[Site]) -> Meeting:
    """Run the network for a row, (1, ...), and return what its leaves meet there, given their sites."""
    traced = interpreter.trace(network, params, row)
    leaves = jax.tree.leaves(params)

    def outputs(moves: list[jax.Array]) -> tuple[jax.Array, list[jax.Array | None]]:
        tape = _Tape([site.shape for site in where], lambda *_: None, moves)
        every = enumerate(zip(leaves, moves, where, strict=True))
        values = [leaf + move if site.inputs is None else _whole(leaf, i) for i, (leaf, move, site) in every]
        found = _settled(traced, [*values, *jax.tree.leaves(row)], tape)
        return found, [tape.inputs.get(i) for i in range(len(leaves))]

    moves = [
        jnp.zeros(site.shape if site.inputs is None else (site.places, site.fan_out), leaf.dtype)
        for leaf, site in zip(leaves, where, strict=True)
    ]
    found, back, inputs = jax.vjp(outputs, moves, has_aux=True)
    return Meeting(found, inputs, lambda cotangent: back(cotangent)[0])


def _whole(leaf: jax.Array, place: int) -> Weight:
    return Weight(leaf, tuple((axis,) for axis in range(jnp.ndim(leaf))), place)


def _settled(traced: interpreter.Traced, values: list[Any], tape: "_Tape") -> Any:
    outputs = interpreter.run(traced, values, tape)
    return tape.settle(outputs, None) if isinstance(outputs, Lazy) else outputs


class _Tape:
    """The rules of the interpreter: carry weights through moves to their product, and note any other use."""

    def __init__(
        self, shapes: list[tuple[int, ...]], note: Callable[[int, Site], None], moves: list[jax.Array] | None
    ) -> None:
        self.shapes = shapes
        self.note = note
        self.moves = moves
        self.inputs: dict[int, jax.Array] = {}

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Apply the rule of an equation: see `interpreter.Rules`."""
        name = equation.primitive.name
        if called(equation) is not None and name not in OWN_DERIVATIVE:
            return None
        places = [place for place, value in enumerate(inputs) if isinstance(value, Weight)]
        if len(places) == 1 and name in _PRODUCTS:
            made = self._product(equation, inputs, places[0])
            if made is not None:
                return [made]
        if name in _MOVES and len(inputs) == 1:
            axes = _MOVES[name](equation, inputs[0].axes)
            if axes is not None:
                return [Weight(carry_out(equation, [inputs[0].value])[0], axes, inputs[0].leaf)]
        return carry_out(equation, [self.settle(v, equation) if isinstance(v, Lazy) else v for v in inputs])

    def share(self, value: Any) -> jax.Array:
        """Return the array of a weight that is used more than once: see `interpreter.Rules`."""
        return self._other(value, "is used more than once", None)

    def settle(self, value: Any, equation: JaxprEqn | None) -> jax.Array:
        """Return the array of a weight that is used otherwise: see `interpreter.Rules`."""
        use = "is an output of the network" if equation is None else f"is used by {equation.primitive.name}"
        return self._other(value, use, equation)

    def _other(self, value: Weight, reason: str, equation: JaxprEqn | None) -> jax.Array:
        line = "" if equation is None else source_line(equation)
        self.note(value.leaf, Site(self.shapes[value.leaf], None, 1, reason, line))
        return value.value

    def _product(self, equation: JaxprEqn, inputs: list[Any], place: int) -> jax.Array | None:
        """Return the product of a weight, with its perturbation; None if it is not the sum over axes of the weight."""
        weight, name = inputs[place], equation.primitive.name
        shape, found = self.shapes[weight.leaf], _PRODUCTS[name](equation, inputs, place)
        if found is None:
            return None
        ins, outs = ([axis for i in part for axis in weight.axes[i]] for part in (found.ins, found.outs))
        product: jax.Array = carry_out(
            equation, [value.value if i == place else value for i, value in enumerate(inputs)]
        )[0]
        sizes = [shape[axis] for axis in ins]
        met = found.met.reshape(-1, *sizes)
        order = sorted(range(len(ins)), key=lambda i: ins[i])
        met = met.transpose(0, *(i + 1 for i in order)).reshape(len(met), -1)
        self.inputs[weight.leaf] = met
        reason = f"is the {'kernel' if name.startswith('conv') else 'matrix'} of a {name}"
        self.note(weight.leaf, Site(shape, tuple(sorted(ins)), len(met), reason, source_line(equation)))
        if self.moves is None:
            return product
        move = self.moves[weight.leaf].reshape(-1, *(shape[axis] for axis in sorted(outs)))
        move = move.transpose(0, *(sorted(outs).index(axis) + 1 for axis in outs)).reshape(len(met), -1)
        return product + found.spread(move).astype(product.dtype)


class _Found(NamedTuple):
    """A product: the weight's axes that it sums over and those that it keeps, and the vectors that it meets.

    Attributes:
        ins: axes of the moved weight, in the order of the vectors' elements.
        outs: likewise, of the product's.
        met: (places, elements of ins).
        spread: the function from (places, elements of outs) to an array of the product's shape.
    """

    ins: tuple[int, ...]
    outs: tuple[int, ...]
    met: jax.Array
    spread: Callable[[jax.Array], jax.Array]


def _dense(equation: JaxprEqn, inputs: list[Any], place: int) -> _Found | None:
    """Read a `dot_general`; None if it has batch axes."""
    contracted, batch = equation.params["dimension_numbers"]
    if batch[0]:
        return None
    weight, data = inputs[place].value, inputs[1 - place]
    ins, summed = tuple(contracted[place]), tuple(contracted[1 - place])
    outs = tuple(axis for axis in range(weight.ndim) if axis not in ins)
    free = tuple(axis for axis in range(data.ndim) if axis not in summed)
    elements = math.prod(weight.shape[axis] for axis in ins)
    shape = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    met = data.transpose(free + summed).reshape(-1, elements)
    return _Found(ins, outs, met, lambda move: (move.T if place == 0 else move).reshape(shape))


def _convolution(equation: JaxprEqn, inputs: list[Any], place: int) -> _Found | None:
    """Read a convolution; None if the weight is not a kernel that every channel of the data meets."""
    params = equation.params
    if place == 0 or params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return None
    numbers, kernel = params["dimension_numbers"], inputs[1].value
    window = tuple(kernel.shape[axis] for axis in numbers.rhs_spec[2:])
    how = {name: params[name] for name in ("window_strides", "padding", "lhs_dilation", "rhs_dilation")}
    patches = lax.conv_general_dilated_patches(inputs[0], window, dimension_numbers=numbers, **how)
    batch, channels, *space = numbers.out_spec
    order = (batch, *space, channels)
    met = patches.transpose(order).reshape(-1, patches.shape[channels])
    shape = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    back = sorted(range(len(order)), key=lambda i: order[i])

    def spread(move: jax.Array) -> jax.Array:
        return move.reshape([shape[axis] for axis in order]).transpose(back)

    return _Found(tuple(numbers.rhs_spec[1:]), (numbers.rhs_spec[0],), met, spread)


_PRODUCTS: dict[str, Any] = {"dot_general": _dense, "conv_general_dilated": _convolution}


Axes = tuple[tuple[int, ...], ...]


def _converted(equation: JaxprEqn, axes: Axes) -> Axes | None:
    real = jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating)  # type: ignore[attr-defined]
    return axes if real else None


def _broadcast(equation: JaxprEqn, axes: Axes) -> Axes | None:
    """Move the axes of a broadcast that only adds axes of length 1."""
    before, after = equation.invars[0].aval, equation.outvars[0].aval
    if before.size != after.size:  # type: ignore[attr-defined]
        return None
    made: list[tuple[int, ...]] = [() for _ in after.shape]  # type: ignore[attr-defined]
    for own, to in zip(axes, equation.params["broadcast_dimensions"], strict=True):
        made[to] = own
    return tuple(made)


def _reshaped(equation: JaxprEqn, axes: Axes) -> Axes | None:
    """Move the axes of a reshape that joins neighbours, and adds or drops axes of length 1; None of any other."""
    before, after = (list(v.aval.shape) for v in (equation.invars[0], equation.outvars[0]))  # type: ignore[attr-defined]
    if equation.params.get("dimensions") is not None:
        return None
    rest = [(size, own) for size, own in zip(before, axes, strict=True) if size != 1]
    made: list[tuple[int, ...]] = []
    for size in after:
        joined: tuple[int, ...] = ()
        reached = 1
        while reached < size and rest:
            next_size, own = rest.pop(0)
            joined, reached = joined + own, reached * next_size
        if reached != size:
            return None
        made.append(joined)
    return tuple(made)


_MOVES: dict[str, Callable[[JaxprEqn, Axes], Axes | None]] = {
    "transpose": lambda equation, axes: tuple(axes[axis] for axis in equation.params["permutation"]),
    "squeeze": lambda equation, axes: tuple(
        own for axis, own in enumerate(axes) if axis not in equation.params["dimensions"]
    ),
    "reshape": _reshaped,
    "broadcast_in_dim": _broadcast,
    "convert_element_type": _converted,
    "copy": lambda _, axes: axes,
}
"""What becomes of a weight's axes in operations that keep each of its elements, once."""
