"""Rules for `_trace` that run a network for one row, with random signs of that row on its weights: Flipout, row by row.

The network is traced for a single row and run for all rows by `jax.vmap`. For each weight N(μ, σ²), ε is drawn once for
all rows, and each row has two vectors of signs, s and r, along two groups of axes of the weight:

    w of a row = μ + (σ·ε)∘s∘r

The distribution of the noise is symmetric, so that the weights of a row have exactly the distribution of those of
`weight_sampling`, wherever and however often they are used: at all positions of the row, at all steps of a scan, twice,
or through a function. In a product with data, the signs move to the data and to the outputs, without a copy of the
weight for each row:

    x·w = x·μ + ((x∘s)·(σ·ε))∘r

Elsewhere each row has a copy, which is always correct.

Source: Wen et al. 2018, arXiv 1803.04386, eq. 1 to 4, for a single product; here the signs belong to the weight.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jax.typing import DTypeLike

from bbb.core.tree import pytree_dataclass
from bbb.forwards.values import MOVES, NoiseRequest, Note, Take, Weight, moved, product_with, regrouped, scaled
from bbb.tracing.interpreter import OWN_DERIVATIVE, Lazy, as_traced, called, carry_out, enter, run, scanned


@pytree_dataclass(data=("mean", "change", "signs"), static=("leaf",))
class SignedWeight(Lazy):
    """A weight of one row: mean + change∘(product of all signs).

    Attributes:
        mean, change: arrays of the same shape, shared by all rows.
        signs: those of this row, each with as many axes as the weight, of length 1 where the sign does not vary.
        leaf: the weight's index among the leaves of the parameters.
    """

    mean: jax.Array
    change: jax.Array
    signs: tuple[jax.Array, ...]
    leaf: int

    def array(self) -> jax.Array:
        """Return the row's own copy of the weight."""
        return self.mean + functools.reduce(operator.mul, self.signs, self.change)


class RowRules:
    """Rules for the weights of a network in one row: see the module."""

    def __init__(self, take: Take, note: Note) -> None:
        self.take = take
        self.note = note

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        """Apply the rule of an equation: see `_trace.Rules`."""
        name = equation.primitive.name
        if called(equation) is not None and name not in OWN_DERIVATIVE:
            return enter(equation, inputs, self)
        if name == "scan":
            return self._scan(equation, inputs)
        output = self._lazily(name, equation, inputs)
        if output is not None:
            return [output]
        return carry_out(equation, [self.settle(v, equation) if isinstance(v, Lazy) else v for v in inputs])

    def share(self, value: Lazy) -> Lazy:
        """Return the weight with its signs drawn, which are then the same for all uses: see `_trace.Rules`."""
        if not isinstance(value, Weight):
            return value
        self.note(value.leaf, ROUTE, "is used more than once", None, EXACT)
        return self._with_signs(value)

    def settle(self, value: Lazy, equation: JaxprEqn | None) -> jax.Array:
        """Return the row's own copy of a weight: see `_trace.Rules`."""
        made: Any = self._with_signs(value)
        self.note(made.leaf, ROUTE, f"{_use(equation)}, once for each row", equation, EXACT)
        return made.array()

    def signed(self, weight: Weight, groups: Sequence[Sequence[int]]) -> SignedWeight:
        """Draw a weight's noise, and this row's signs along two groups of its axes.

        There are always two vectors of signs, of which one may be a single sign. With an odd number of random factors,
        negating all noise gives the mirrored draw.
        """
        shape = tuple(1 if mark else size for size, mark in zip(weight.mean.shape, weight.repeated, strict=True))
        change = weight.std * self.take(NoiseRequest(True, shape, weight.mean.dtype))
        vectors = (tuple(size if axis in group else 1 for axis, size in enumerate(shape)) for group in groups)
        signs = tuple(self.take(NoiseRequest(False, vector, weight.mean.dtype)) for vector in vectors)
        return SignedWeight(weight.mean, change, signs, weight.leaf)

    def _lazily(self, name: str, equation: JaxprEqn, inputs: list[Any]) -> Any:
        """Return the output of an equation that needs no copy of a weight, or None."""
        places = [place for place, value in enumerate(inputs) if isinstance(value, Lazy)]
        if name in _PRODUCTS:
            return self._product(equation, inputs, max(places, key=lambda place: inputs[place].mean.size))
        weight = inputs[places[0]]
        if name == "gather" and places == [0] and not equation.params["dimension_numbers"].operand_batching_dims:
            return self._chosen(equation, weight, inputs[1])
        if isinstance(weight, Weight):
            if name in ("mul", "div") and all(jnp.ndim(value) == 0 for value in inputs if value is not weight):
                return scaled(equation, inputs)
            if name in MOVES and len(inputs) == 1:
                return moved(equation, weight)
        elif name in MOVES and len(inputs) == 1:
            return _moved(equation, weight)
        return None

    def _product(self, equation: JaxprEqn, inputs: list[Any], place: int) -> jax.Array | None:
        """Multiply by the larger of two weights, or by the only one, without a copy of it; None if it needs one."""
        weight, name = inputs[place], equation.primitive.name
        groups = _PRODUCTS[name](equation, place)
        if groups is None:
            return None
        other = inputs[1 - place]
        x = self.settle(other, equation) if isinstance(other, Lazy) else other
        if isinstance(weight, Weight):
            self.note(weight.leaf, ROUTE, f"is multiplied in {name}", equation, EXACT)
            weight = self.signed(weight, groups)
        sides = [_side(sign, groups) for sign in weight.signs]
        if None in sides:
            return product_with(equation, x, self.settle(weight, equation), place)
        align = _ALIGNMENTS[name]
        ins, outs = ([sign for sign, side in zip(weight.signs, sides, strict=True) if side == i] for i in (0, 1))
        turned_x = functools.reduce(lambda x, sign: x * align(equation, place, sign, 0).astype(x.dtype), ins, x)
        change = product_with(equation, turned_x, weight.change, place)
        change = functools.reduce(lambda x, sign: x * align(equation, place, sign, 1).astype(x.dtype), outs, change)
        return product_with(equation, x, weight.mean, place) + change

    def _chosen(self, equation: JaxprEqn, weight: Weight | SignedWeight, indices: jax.Array) -> jax.Array:
        """Gather elements of a weight, as an embedding does, and of its signs."""
        if isinstance(weight, Weight):
            sizes = enumerate(zip(equation.params["slice_sizes"], weight.mean.shape, strict=True))
            # signs along the indexed axes are not needed
            whole = [axis for axis, (size, full) in sizes if size == full]
            self.note(weight.leaf, ROUTE, "is used by gather", equation, EXACT)
            weight = self.signed(weight, ((), whole))
        signs = [_chosen_sign(equation, sign, indices) for sign in weight.signs]
        mean, change = (carry_out(equation, [array, indices])[0] for array in (weight.mean, weight.change))
        return mean + functools.reduce(operator.mul, signs, change)

    def _scan(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        """Run the steps of a scan, in all of which a weight has the same noise and signs."""
        params = equation.params
        inner, first, carried = scanned(params)
        second = first + carried
        for weight in (value for value in inputs if isinstance(value, Weight)):
            self.note(weight.leaf, ROUTE, "is used inside scan", equation, EXACT)
        consts = [self._with_signs(value) for value in inputs[:first]]
        kept = zip(inputs[first:second], equation.invars[first:second], strict=True)
        start = [self._array(value, place.aval.dtype, equation) for value, place in kept]  # type: ignore[attr-defined]
        steps = [_by_steps(self._with_signs(value)) for value in inputs[second:]]
        traced = as_traced(inner)

        def step(carry: list[Any], now: list[Any]) -> tuple[list[Any], list[Any]]:
            given = [_of_step(value, same) for value, (_, same) in zip(now, steps, strict=True)]
            outputs = run(traced, [*consts, *carry, *given], self, equation.source_info)
            outputs = [self.settle(value, None) if isinstance(value, Lazy) else value for value in outputs]
            return outputs[: len(carry)], outputs[len(carry) :]

        how = {name: params[name] for name in ("length", "reverse", "unroll")}
        carry, made = lax.scan(step, start, [value for value, _ in steps], **how)
        return [*carry, *made]

    def _array(self, value: Any, dtype: DTypeLike, equation: JaxprEqn) -> Any:
        """Return an initial value of a scan as an array; literals are numbers without a dtype."""
        value = self.settle(value, equation) if isinstance(value, Lazy) else value
        return value if hasattr(value, "dtype") else jnp.asarray(value, dtype)

    def _with_signs(self, value: Any) -> Any:
        return self.signed(value, _last_two(value.mean.ndim)) if isinstance(value, Weight) else value


ROUTE, EXACT = "flipout", "exact"


def _use(equation: JaxprEqn | None) -> str:
    return "is an output of the network" if equation is None else f"is used by {equation.primitive.name}"


def _last_two(ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the groups of axes of a weight that is not used in a single product: the last two, as of a matrix."""
    return ((ndim - 2,) if ndim > 1 else ()), ((ndim - 1,) if ndim else ())


def _by_steps(value: Any) -> tuple[Any, Any]:
    """Split an array that is scanned into the part that is sliced at each step, and the part that all steps share."""
    if not isinstance(value, SignedWeight):
        return value, None
    if any(sign.shape[0] > 1 for sign in value.signs):  # signs that change from step to step
        return value.array(), None
    return (value.mean, value.change), SignedWeight(
        value.mean, value.change, tuple(s[0] for s in value.signs), value.leaf
    )


def _of_step(value: Any, same: SignedWeight | None) -> Any:
    return value if same is None else dataclasses.replace(same, mean=value[0], change=value[1])


def _side(sign: jax.Array, groups: Sequence[Sequence[int]]) -> int | None:
    """Return to which group of axes a sign belongs, 0 for the data and 1 for the outputs; None if to both."""
    varying = {axis for axis, size in enumerate(sign.shape) if size > 1}
    return next((side for side, group in enumerate(groups) if varying <= set(group)), None)


def _dense_groups(equation: JaxprEqn, place: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of a weight that a product contracts or pairs with the data's, and those of the weight only."""
    (contracted, batch) = (sides[place] for sides in equation.params["dimension_numbers"])
    paired = (*contracted, *batch)
    return paired, tuple(a for a in range(equation.invars[place].aval.ndim) if a not in paired)  # type: ignore[attr-defined]


def _convolution_groups(equation: JaxprEqn, place: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the axes of a kernel's inputs and outputs; None if the weight is not a kernel."""
    if place == 0 or equation.params["batch_group_count"] != 1:
        return None
    spec = equation.params["dimension_numbers"].rhs_spec
    return (spec[1],), (spec[0],)


def _dense_alignment(equation: JaxprEqn, place: int, sign: jax.Array, side: int) -> jax.Array:
    """Reshape a sign of a weight to the axes of the data (side 0) or of the outputs (side 1) of a product."""
    contracted, batch = equation.params["dimension_numbers"]
    ndims = [v.aval.ndim for v in equation.invars]  # type: ignore[attr-defined]
    if side == 0:
        pairs = [*zip(contracted[place], contracted[1 - place], strict=True)]
        pairs += zip(batch[place], batch[1 - place], strict=True)
        return _with_axes(sign, pairs, ndims[1 - place])
    free = [n - len(contracted[0]) - len(batch[0]) for n in ndims]
    start = len(batch[0]) + (free[0] if place == 1 else 0)
    _, own = _dense_groups(equation, place)
    return _with_axes(sign, [(axis, start + i) for i, axis in enumerate(own)], len(batch[0]) + sum(free))


def _convolution_alignment(equation: JaxprEqn, place: int, sign: jax.Array, side: int) -> jax.Array:
    """Reshape a sign of a kernel to the axes of the images (side 0) or of the outputs (side 1)."""
    del place
    numbers = equation.params["dimension_numbers"]
    if side == 1:
        return _with_axes(sign, [(numbers.rhs_spec[0], numbers.out_spec[1])], sign.ndim)
    found = _with_axes(sign, [(numbers.rhs_spec[1], numbers.lhs_spec[1])], sign.ndim)
    groups = equation.params["feature_group_count"] if found.size > 1 else 1
    return jnp.concatenate([found] * groups, axis=numbers.lhs_spec[1])  # all groups of channels have the same signs


def _with_axes(sign: jax.Array, pairs: Sequence[tuple[int, int]], ndim: int) -> jax.Array:
    """Move axes of a sign as `pairs` of (from, to) say, to `ndim` axes of which the others have length 1."""
    pairs = sorted(pairs, key=lambda pair: pair[1])
    chosen = [axis for axis, _ in pairs]
    rest = [axis for axis in range(sign.ndim) if axis not in chosen]
    shape = [1] * ndim
    for axis, to in pairs:
        shape[to] = sign.shape[axis]
    return jnp.transpose(sign, (*chosen, *rest)).reshape(shape)


_PRODUCTS: dict[str, Any] = {"dot_general": _dense_groups, "conv_general_dilated": _convolution_groups}


_ALIGNMENTS: dict[str, Any] = {"dot_general": _dense_alignment, "conv_general_dilated": _convolution_alignment}


def _chosen_sign(equation: JaxprEqn, sign: jax.Array, indices: jax.Array) -> jax.Array:
    """Gather the signs of gathered elements; along an axis of length 1 all have the same sign."""
    params, numbers = equation.params, equation.params["dimension_numbers"]
    sizes = [1 if n == 1 else size for n, size in zip(sign.shape, params["slice_sizes"], strict=True)]
    varies = jnp.array([sign.shape[axis] > 1 for axis in numbers.start_index_map], bool)
    indices = jnp.where(varies, indices, jnp.zeros_like(indices))
    how = {name: params[name] for name in ("mode", "fill_value")}
    return lax.gather(sign, indices, numbers, sizes, **how)


def _moved(equation: JaxprEqn, value: SignedWeight) -> SignedWeight | None:
    """Move the elements of a weight and its signs; None if a sign would lose its meaning."""
    if not jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating):  # type: ignore[attr-defined]
        return None
    signs = tuple(sign for sign in (_moved_sign(equation, sign) for sign in value.signs) if sign is not None)
    if len(signs) < len(value.signs):
        return None
    mean, change = (carry_out(equation, [array])[0] for array in (value.mean, value.change))
    return dataclasses.replace(value, mean=mean, change=change, signs=signs)


def _moved_sign(equation: JaxprEqn, sign: jax.Array) -> jax.Array | None:
    name, params = equation.primitive.name, equation.params
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    if name in ("transpose", "squeeze", "convert_element_type", "copy"):
        return carry_out(equation, [sign])[0]
    if name == "broadcast_in_dim":
        shape = [1] * len(after)
        for axis, to in enumerate(params["broadcast_dimensions"]):
            shape[to] = sign.shape[axis]
        return sign.reshape(shape)
    if name == "reshape":
        marks = regrouped(before, [size > 1 for size in sign.shape], after)
        shape = [size if mark else 1 for size, mark in zip(after, marks or (), strict=False)]
        return None if marks is None or math.prod(shape) != sign.size else sign.reshape(shape)
    if name == "slice":
        cuts = zip(sign.shape, params["start_indices"], params["limit_indices"], strict=True)
        steps = params["strides"] or (1,) * sign.ndim
        chosen = [slice(None) if n == 1 else slice(a, b, s) for (n, a, b), s in zip(cuts, steps, strict=True)]
        return sign[tuple(chosen)]
    return None
