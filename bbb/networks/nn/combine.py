"""Layers made of layers, and dropout."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import jax

from bbb import checks
from bbb.core.jit import jit
from bbb.core.tree import Tree
from bbb.errors import InputError, ShapeError, fail
from bbb.networks.nn.base import Layer


@dataclasses.dataclass(frozen=True)
class Sequential(Layer):
    """A composition of layers; params is the tuple of their parameters."""

    kind: ClassVar[str] = "sequential"
    layers: tuple[Layer, ...]

    @property
    def layout(self) -> str:
        """Rows if a layer needs them first, else columns if a layer needs them, else "either"."""
        layouts = {layer.layout for layer in self.layers}
        return next((layout for layout in ("rows", "columns") if layout in layouts), "either")

    def init(self, key: jax.Array) -> Tree:
        """Draw the parameters of every layer, each with its own key."""
        checks.key(key)
        return _init_all(key, layers=self.layers)

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to (features, rows)."""
        return self.run(params, x, None, True)[0]

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, ...) to (rows, ...), with rows along the last axis between layers where that is faster."""
        by_columns = self.layout == "columns" or (self.layout == "either" and x.ndim == 2)
        return super().apply(params, x) if by_columns else self.run(params, x, None, False)[0]

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Apply the layers in order, and transpose x only if the next layer takes the other layout."""
        if not isinstance(params, Sequence) or len(params) != len(self.layers):
            got = f"{len(params)}" if isinstance(params, Sequence) else f"a {type(params).__name__}"
            do = "Pass the parameters that its init returned."
            fail(ShapeError, f"the parameters of {len(self.layers)} layers", got, do)
        keys = [None] * len(self.layers) if key is None else list(jax.random.split(key, len(self.layers)))
        turned, updates = columns, []
        for layer, layer_params, layer_key in zip(self.layers, params, keys, strict=True):
            turn = x.ndim == 2 and (layer.layout == "columns" or (turned and layer.layout == "either"))
            x, update = layer.run(layer_params, x.T if turn != turned else x, layer_key, turn)
            turned = turn
            updates.append(update)
        return (x.T if turned != columns else x), tuple(updates)

    @property
    def train(self) -> Callable[[Tree, jax.Array, jax.Array], tuple[jax.Array, Tree]]:
        """The network in training mode, `train(params, x, key) -> (outputs, updates)`.

        Raises:
            AttributeError: if no layer behaves differently in training.
        """
        if not any(hasattr(layer, "train") for layer in self.layers):
            raise AttributeError(f"this {self.kind} has no training mode: use apply")
        return self._train

    def _train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        return self.run(params, x, key, False)

    def state(self, params: Tree) -> Tree:
        """Return the state of every layer, a tuple."""
        return tuple(layer.state(part) for layer, part in zip(self.layers, params, strict=True))

    def describe(self) -> dict[str, Any]:
        """Return the descriptions of all layers as a dictionary of JSON values."""
        return {"kind": self.kind, "layers": [layer.describe() for layer in self.layers]}


def sequential(*layers: Layer) -> Sequential:
    """Return the composition of layers, from first to last.

    Raises:
        InputError: if there are no layers, or one is not a layer of this module.

    Example:
        >>> import bbb, jax
        >>> network = bbb.nn.sequential(bbb.nn.linear(2, 20), bbb.nn.relu, bbb.nn.linear(20, 1))
        >>> network.apply(network.init(jax.random.key(0)), jax.numpy.ones((5, 2))).shape
        (5, 1)
    """
    return Sequential(_layers(layers))


@dataclasses.dataclass(frozen=True)
class Residual(Sequential):
    """y = x + f(x), with f a composition of layers; params is the tuple of their parameters.

    Source: He et al. 2016, arXiv 1512.03385, eq. 1.
    """

    kind: ClassVar[str] = "residual"

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Add x to the outputs of the layers."""
        y, updates = super().run(params, x, key, columns)
        if y.shape != x.shape:
            what = f"residual layers that map {x.shape} to {y.shape}, which cannot be added"
            raise ShapeError(f"Expected layers that keep the shape of x, got {what}.")
        return x + y, updates


def residual(*layers: Layer) -> Residual:
    """Return the composition of layers, plus its input, which must have the shape of the outputs.

    Raises:
        InputError: if there are no layers, or one is not a layer of this module.

    Example:
        >>> import bbb, jax
        >>> block = bbb.nn.residual(bbb.nn.linear(2, 2), bbb.nn.tanh)
        >>> block.apply(block.init(jax.random.key(0)), jax.numpy.ones((5, 2))).shape
        (5, 2)
    """
    return Residual(_layers(layers))


@partial(jit, static_argnames=("layers",))
def _init_all(key: jax.Array, *, layers: tuple[Layer, ...]) -> Tree:
    """Draw the parameters of several layers in one compiled program, which compiles faster than one for each array."""
    keys = jax.random.split(key, len(layers))
    return tuple(layer.init(k) for layer, k in zip(layers, keys, strict=True))


def _layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    for layer in layers:
        if not isinstance(layer, Layer):
            fail(
                InputError,
                "every layer to come from bbb.nn",
                f"a {type(layer).__name__}",
                "Write apply(params, x) yourself, or use another library: bayesianize takes any network.",
            )
    if not layers:
        fail(InputError, "at least one layer", "none", "Pass for example bbb.nn.linear(1, 10).")
    return layers
