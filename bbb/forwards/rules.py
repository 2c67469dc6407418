"""Rules for `_trace` that move noise from weights to their products with data: local reparameterisation and Flipout.

A Bayesian leaf starts as a `Weight`, a Gaussian that has not been drawn, and is carried through changes of shape. In a
product with data, the noise can move to the `Product`, independent for each row, and a bias that is added joins it.
Everywhere else the weight is drawn, once for all rows, which is always correct.

Only products with data have rows: a factor that does not depend on x is the same for all rows, and independent noise
for the elements of its product would lose their correlation. Values that depend on x are therefore marked as `Data`.
"""

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Literal

from bbb.forwards.values import (
    Data,
    NoiseRequest,
    Note,
    Product,
    Take,
    Weight,
    broadcast_weight,
    centre,
    evaluate,
    is_tied,
    moved,
    negated,
    product_with,
    scaled,
)
from bbb.tracing.interpreter import OWN_DERIVATIVE, Lazy, called, carry_out, enter
from bbb.tracing.row_axes import RowAxes


class Rules:
    """Rules that both forwards share: carry weights, find products and biases, and draw the remaining weights."""

    route: str
    needs_rows = False

    def __init__(self, take: Take, note: Note, rows: int | None = None, where: RowAxes | None = None) -> None:
        self.take = take
        self.note = note
        self.rows = rows
        self.where = where

    def product(self, equation: JaxprEqn, x: jax.Array, weight: Weight, place: int, own: Sequence[bool]) -> Product:
        """Multiply data by the weight at input `place` of the equation."""
        raise NotImplementedError

    def join(self, equation: JaxprEqn, inputs: list[Any], product: Product) -> Product:
        """Add, or subtract, biases, data and products; `product` is the first of these."""
        raise NotImplementedError

    def draw(self, product: Product) -> jax.Array:
        """Return the array of a product."""
        raise NotImplementedError

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Apply the rule of an equation: see `_trace.Rules`."""
        name = equation.primitive.name
        if called(equation) is not None and name not in OWN_DERIVATIVE:
            return self._inside(equation, inputs)
        output = self._lazily(name, equation, inputs)
        if output is not None:
            return [output]
        depends = any(isinstance(value, Data | Product) for value in inputs)
        arrays = [self.settle(value, equation) if isinstance(value, Lazy) else value for value in inputs]
        outputs = carry_out(equation, arrays)
        return list(map(Data, outputs)) if depends else outputs

    def share(self, value: Lazy) -> Any:
        """Draw a weight or a product that is used more than once: see `_trace.Rules`."""
        if isinstance(value, Weight):
            return self._draw_weight(value, "is used more than once", None)
        return Data(self.settle(value, None))

    def settle(self, value: Lazy, equation: JaxprEqn | None) -> jax.Array:
        """Return the array of a lazy value, drawn if it is random: see `_trace.Rules`."""
        if isinstance(value, Weight):
            return self._draw_weight(value, _why_drawn(value, equation), equation)
        return self.draw(value) if isinstance(value, Product) else value.value  # type: ignore[attr-defined]

    def _draw_weight(self, weight: Weight, reason: str, equation: JaxprEqn | None) -> jax.Array:
        self.note(weight.leaf, "shared draw", reason, equation, "shared")
        return weight.mean + weight.std * self.weight_noise(weight)

    def weight_noise(self, weight: Weight) -> jax.Array:
        """Return a standard normal for each element that is not repeated; the shape broadcasts to the weight's."""
        each = zip(weight.mean.shape, weight.repeated, strict=True)
        return self.take(
            NoiseRequest(True, tuple(1 if repeated else size for size, repeated in each), weight.mean.dtype)
        )

    def _inside(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        """Enter a call, with the row axes of the called function."""
        outside = self.where
        self.where = None if outside is None else outside.calls.get(equation.outvars[0])
        try:
            return enter(equation, inputs, self)
        finally:
            self.where = outside

    def places(self, shape: Sequence[int], own: Sequence[bool]) -> int:
        """Return at how many positions of each row a product uses the same weight, if it has the rows of x."""
        others = math.prod(size for size, mine in zip(shape, own, strict=True) if not mine)
        return max(1, others // self.rows) if self.rows else 1

    def exactness(self, equation: JaxprEqn, own: Sequence[bool]) -> str:
        """Return whether the distribution of a product is exact for each row, or how large its error may be."""
        count = self.places(equation.outvars[0].aval.shape, own)  # type: ignore[attr-defined]
        if count == 1:
            return "exact"
        return (
            f"approximate: the std of a sum over its {count} positions may be too small by a factor of up to √{count}"
        )

    def _lazily(self, name: str, equation: JaxprEqn, inputs: list[Any]) -> Lazy | None:
        """Return the lazy output of an equation that needs no draw, or None."""
        if name in _PRODUCTS:
            return self._product(equation, inputs)
        if name in _SUMS:
            return self._sum(equation, inputs)
        if name in _SCALES:
            return scaled(equation, inputs)
        if len(inputs) == 1 and isinstance(inputs[0], Weight | Product):
            return negated(inputs[0]) if name == "neg" else moved(equation, inputs[0])
        return None

    def _product(self, equation: JaxprEqn, inputs: list[Any]) -> Product | None:
        """Multiply data by a weight of which each output has its own elements; None for other products."""
        places = [place for place, value in enumerate(inputs) if isinstance(value, Weight)]
        own = _PRODUCTS[equation.primitive.name](equation, places[0]) if len(places) == 1 else None
        if own is None:
            return None
        weight, other = inputs[places[0]], inputs[1 - places[0]]
        if any(weight.repeated) or not isinstance(other, Data | Product):
            return None
        reason = f"multiplies data in {equation.primitive.name}"
        self.note(weight.leaf, self.route, reason, equation, self.exactness(equation, own))
        return self.product(equation, self.settle(other, equation), weight, places[0], own)

    def _sum(self, equation: JaxprEqn, inputs: list[Any]) -> Product | None:
        """Add data, biases and other products to a product; None if the sum must be drawn."""
        shape = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
        full = [broadcast_weight(value, shape) if isinstance(value, Weight) else value for value in inputs]
        full = [self.share(v) if isinstance(v, Product) and v.value.shape != shape else v for v in full]
        product = next((value for value in full if isinstance(value, Product)), None)
        if product is None or any(isinstance(value, Weight) and is_tied(value, product) for value in full):
            return None
        for bias in (value for value in full if isinstance(value, Weight)):
            reason = "is added to a product of data and a weight"
            self.note(bias.leaf, self.route, reason, equation, self.exactness(equation, product.own))
        return self.join(equation, full, product)


class LocalRules(Rules):
    """Local reparameterisation: products keep their mean and variance until an operation needs a draw.

    Source: Kingma et al. 2015, arXiv 1506.02557, eq. 6.
    """

    route = "local"

    def product(self, equation: JaxprEqn, x: jax.Array, weight: Weight, place: int, own: Sequence[bool]) -> Product:
        """Compute the mean x·μ and the variance x²·σ² of a product."""
        mean = product_with(equation, x, weight.mean, place)
        return Product(mean, product_with(equation, x * x, weight.std * weight.std, place), tuple(own))

    def join(self, equation: JaxprEqn, inputs: list[Any], product: Product) -> Product:
        """Add means and variances."""
        variance, own = product.spread, product.own
        for value in inputs:
            if isinstance(value, Weight):
                variance += value.std * value.std
            elif isinstance(value, Product) and value is not product:
                variance, own = variance + value.spread, tuple(map(operator.or_, own, value.own))
        return Product(evaluate(equation, *map(centre, inputs)), variance, own)

    def draw(self, product: Product) -> jax.Array:
        """Compute mean + √variance·ε."""
        noise = self.take(NoiseRequest(True, product.value.shape, product.value.dtype))
        return product.value + _sqrt(product.spread) * noise


class FlipoutRules(Rules):
    """Flipout: one draw of a weight's noise, which random signs change for every row.

    Source: Wen et al. 2018, arXiv 1803.04386, eq. 3 and 4.
    """

    route = "flipout"
    needs_rows = True

    def product(self, equation: JaxprEqn, x: jax.Array, weight: Weight, place: int, own: Sequence[bool]) -> Product:
        """Compute x·μ + ((x∘s)·(σ∘ε))∘r, with signs s of each row and input, and r of each row and output."""
        shape = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
        in_shape, out_shape = self._signs(equation, x.shape, place, own)
        ins, noise = self.take(NoiseRequest(False, in_shape, x.dtype)), self.weight_noise(weight)
        outs = jnp.broadcast_to(self.take(NoiseRequest(False, out_shape, weight.mean.dtype)), shape)
        perturbation = product_with(equation, x * ins, weight.std * noise, place)
        outs = outs.astype(perturbation.dtype)
        return Product(product_with(equation, x, weight.mean, place) + perturbation * outs, outs, tuple(own))

    def _signs(
        self, equation: JaxprEqn, in_shape: tuple[int, ...], place: int, own: Sequence[bool]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of the signs of inputs and outputs, which are the same at all positions of a row."""
        shape = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
        found = self._row_axes(equation, place)
        if equation.primitive.name == "conv_general_dilated":
            numbers = equation.params["dimension_numbers"]
            return _without_places(in_shape, numbers.lhs_spec), _without_places(shape, numbers.out_spec)
        if found is None:
            return in_shape, shape
        row_in, row_out = found
        (contracted, batch) = (sides[1 - place] for sides in equation.params["dimension_numbers"])
        kept = {row_in, *contracted, *batch}
        ins = tuple(size if axis in kept else 1 for axis, size in enumerate(in_shape))
        marked = enumerate(zip(shape, own, strict=True))
        return ins, tuple(size if mine or axis == row_out else 1 for axis, (size, mine) in marked)

    def _row_axes(self, equation: JaxprEqn, place: int) -> tuple[int, int] | None:
        """Return the row axes of the data and of the output, or None if they are not known."""
        if self.where is None:
            return None
        ends = (equation.invars[1 - place], equation.outvars[0])
        axes = [None if isinstance(end, Literal) else self.where.axes.get(end) for end in ends]
        if axes[0] is None or axes[1] is None:
            return None
        return axes[0], axes[1]

    def exactness(self, equation: JaxprEqn, own: Sequence[bool]) -> str:
        """Return `Rules.exactness`, or "exact" where the row axis is known, because a row's positions share signs."""
        end = equation.outvars[0]
        axis = None if self.where is None else self.where.axes.get(end)
        image = equation.primitive.name == "conv_general_dilated"
        many = image and end.aval.shape[equation.params["dimension_numbers"].out_spec[0]] != self.rows  # type: ignore[attr-defined]
        return "exact" if axis is not None or (image and not many) else super().exactness(equation, own)

    def join(self, equation: JaxprEqn, inputs: list[Any], product: Product) -> Product:
        """Add biases whose noise has the signs of the product's rows and outputs.

        With a third, single sign the perturbation of a bias, like that of a weight, has an odd number of random
        factors, so that negating all noise gives the mirrored draw.
        """

        def term(value: Any) -> Any:
            if not isinstance(value, Weight):
                return centre(value)
            sign = self.take(NoiseRequest(False, (1,) * value.mean.ndim, value.mean.dtype))
            return value.mean + value.std * (self.weight_noise(value) * sign) * product.spread

        return dataclasses.replace(product, value=evaluate(equation, *map(term, inputs)))

    def draw(self, product: Product) -> jax.Array:
        """Return the value, which is already a draw."""
        return product.value


_SUMS = {"add", "sub", "add_any"}


_SCALES = {"mul", "div"}


_INSIDE = {"scan", "while", "cond"}


def _dense_own(equation: JaxprEqn, place: int) -> list[bool]:
    """Return which axes of a `dot_general` run along weights: its batch axes, and those of the weight only."""
    (contracted, _), (batch, _) = equation.params["dimension_numbers"]
    free = [v.aval.ndim - len(contracted) - len(batch) for v in equation.invars]  # type: ignore[attr-defined]
    return [True] * len(batch) + [place == 0] * free[0] + [place == 1] * free[1]


def _convolution_own(equation: JaxprEqn, place: int) -> list[bool] | None:
    """Return which axes of a convolution run along weights: its output channels. None if the weight is not a kernel."""
    if place == 0 or equation.params["batch_group_count"] != 1:
        return None
    spec = equation.params["dimension_numbers"].out_spec
    return [axis == spec[1] for axis in range(len(spec))]


_PRODUCTS: dict[str, Callable[[JaxprEqn, int], list[bool] | None]] = {
    "dot_general": _dense_own,
    "conv_general_dilated": _convolution_own,
}


def _why_drawn(weight: Weight, equation: JaxprEqn | None) -> str:
    """Return why a weight is drawn for an equation."""
    if equation is None:
        return "is an output of the network"
    name = equation.primitive.name
    if name in _PRODUCTS:
        return "is repeated by a broadcast" if any(weight.repeated) else "multiplies what does not depend on x"
    if name in _INSIDE:
        return f"is used inside {name}"
    if name.startswith("custom_"):
        return f"is used inside {name}, whose derivative is the user's own"
    return f"is used by {name}"


def _without_places(shape: Sequence[int], spec: Sequence[int]) -> tuple[int, ...]:
    """Return an image's shape with 1 for its space; `spec` lists the axes of rows and channels first."""
    return tuple(size if axis in spec[:2] else 1 for axis, size in enumerate(shape))


def _sqrt(variance: jax.Array) -> jax.Array:
    """Compute √variance, with derivative 0 at 0: the product of a row of zeros has variance 0 for all weights."""
    positive = variance > 0
    root = lax.sqrt(jnp.where(positive, variance, jnp.ones_like(variance)))
    return jnp.where(positive, root, lax.stop_gradient(variance))  # here 0 or NaN
