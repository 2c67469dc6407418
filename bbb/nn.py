"""Small layers that know nothing of Bayes: each has `init(key) -> params` and `apply(params, x) -> outputs`.

A layer is described by plain values (`describe`), so that a saved network comes back whole (`build`). Inside
`sequential`, rows run along the last axis: hidden activations are (features, rows), which lets one product
`W @ x` with W (out, in) serve all rows without a transpose, about four times faster on a CPU for a wide layer.
"""

import dataclasses
import math
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from bbb import _check
from bbb._compile import jit
from bbb._tree import Tree


class Layer:
    """A layer: `init(key) -> params`, `apply(params, x) -> outputs`, rows along the first axis of x."""

    kind: ClassVar[str]

    def init(self, key: jax.Array) -> Tree:
        """Draw starting parameters; a layer without any has the empty tuple."""
        del key
        return ()

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, features) to (rows, features)."""
        return self.apply_columns(params, x.T).T

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to (features, rows)."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Give the layer as a dictionary of JSON values, from which `build` makes it again."""
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind, **options}


@dataclasses.dataclass(frozen=True)
class Linear(Layer):
    """y = W x + b, with W of shape (out_features, in_features), as torch stores it."""

    kind: ClassVar[str] = "linear"
    in_features: int
    out_features: int
    bias: bool = True
    init_by: str = "he"

    def __post_init__(self) -> None:
        """Refuse sizes below 1 and unknown initialisations."""
        _check.positive_integer("in_features", self.in_features)
        _check.positive_integer("out_features", self.out_features)
        if self.init_by not in ("he", "torchbnn"):
            _check.fail(_check.InputError, 'init_by to be "he" or "torchbnn"', repr(self.init_by), "Pass one of them.")

    def init(self, key: jax.Array) -> Tree:
        """Draw W and b.

        "he": W ~ N(0, 2/in_features) (He et al. 2015, arXiv 1502.01852, eq. 10), b ~ U(±1/√in_features), so that
        the kinks of rectified units start spread over the inputs. "torchbnn": both U(±1/√in_features).
        """
        _check.key(key)
        bound = 1.0 / math.sqrt(self.in_features)
        smallest = jnp.finfo(jax.dtypes.canonicalize_dtype(float)).eps
        uniform = jax.random.uniform(key, (self.out_features, self.in_features + 1), minval=smallest - 1.0)
        weight, bias = uniform[:, :-1], uniform[:, -1]
        if self.init_by == "he":
            weight = math.sqrt(2.0) * jax.scipy.special.erfinv(weight) * math.sqrt(2.0) * bound
        else:
            weight = weight * bound
        return {"weight": weight, "bias": bias * bound} if self.bias else {"weight": weight}

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (..., in_features) to (..., out_features)."""
        y = x @ params["weight"].T
        return y + params["bias"].reshape((1,) * (y.ndim - 1) + (-1,)) if self.bias else y

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (in_features, rows) to (out_features, rows)."""
        weight = params["weight"]
        y = weight @ x
        return y + params["bias"][:, None] if self.bias else y


_FUNCTIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
}


@dataclasses.dataclass(frozen=True)
class Elementwise(Layer):
    """One function of every number, by name."""

    kind: ClassVar[str] = "elementwise"
    function: str

    def __post_init__(self) -> None:
        """Refuse a function that is not known."""
        if self.function not in _FUNCTIONS:
            known = ", ".join(_FUNCTIONS)
            _check.fail(_check.InputError, f"function to be one of {known}", repr(self.function), "Pass one of them.")

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Apply the function to every number of x."""
        del params
        return _FUNCTIONS[self.function](x)

    apply_columns = apply


@dataclasses.dataclass(frozen=True)
class Affine(Layer):
    """Fixed y = (x + shift)·scale for each feature: constants of the data, not parameters."""

    kind: ClassVar[str] = "affine"
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse constants that are not finite, or of different lengths."""
        object.__setattr__(self, "shift", tuple(map(float, self.shift)))
        object.__setattr__(self, "scale", tuple(map(float, self.scale)))
        _check.finite("shift", self.shift)
        _check.finite("scale", self.scale)
        if len(self.shift) != len(self.scale):
            _check.fail(
                _check.ShapeError,
                f"scale to have the {len(self.shift)} numbers of shift",
                f"{len(self.scale)}",
                "Pass one of each for every feature.",
            )

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to the same shape."""
        del params
        if x.shape[0] != len(self.shift):
            raise ValueError(f"affine layer of {len(self.shift)} features met {x.shape[0]}")
        shift, scale = jnp.asarray(self.shift, x.dtype), jnp.asarray(self.scale, x.dtype)
        return (x + shift[:, None]) * scale[:, None]


@dataclasses.dataclass(frozen=True)
class Sequential(Layer):
    """Layers one after the other; params is the tuple of theirs."""

    kind: ClassVar[str] = "sequential"
    layers: tuple[Layer, ...]

    def init(self, key: jax.Array) -> Tree:
        """Draw the parameters of every layer, each from its own key."""
        _check.key(key)
        return _init_all(key, layers=self.layers)

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to (features, rows)."""
        for layer, layer_params in zip(self.layers, params, strict=True):
            x = layer.apply_columns(layer_params, x)
        return x

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, features) to (rows, features), with rows along the last axis in between."""
        if x.ndim != 2:
            raise ValueError(f"sequential takes x of shape (rows, features), met {x.shape}")
        return super().apply(params, x)

    def describe(self) -> dict[str, Any]:
        """Describe every layer."""
        return {"kind": self.kind, "layers": [layer.describe() for layer in self.layers]}


@partial(jit, static_argnames=("layers",))
def _init_all(key: jax.Array, *, layers: tuple[Layer, ...]) -> Tree:
    """Draw the parameters of several layers in one compiled program, which starts faster than one for each array."""
    keys = jax.random.split(key, len(layers))
    return tuple(layer.init(k) for layer, k in zip(layers, keys, strict=True))


def linear(in_features: int, out_features: int, *, bias: bool = True, init: str = "he") -> Linear:
    """Make a dense layer; `init` is "he" or "torchbnn" (see `Linear.init`).

    Raises:
        InputError: for a size below 1 or an unknown `init`.
    """
    return Linear(in_features, out_features, bias, init)


def sequential(*layers: Layer) -> Sequential:
    """Chain layers.

    Raises:
        InputError: without layers, or for something that is no layer of this module.
    """
    for layer in layers:
        if not isinstance(layer, Layer):
            _check.fail(
                _check.InputError,
                "every layer to come from bbb.nn",
                f"a {type(layer).__name__}",
                "Write apply(params, x) yourself, or use another library: bayesianize takes any network.",
            )
    if not layers:
        _check.fail(_check.InputError, "at least one layer", "none", "Pass for example bbb.nn.linear(1, 10).")
    return Sequential(layers)


def affine(shift: Any, scale: Any) -> Affine:
    """Make the fixed layer (x + shift)·scale.

    `affine(-mean, 1 / std)` standardises, and `affine(mean / std, std)` undoes it.

    Raises:
        InputError, ShapeError: for numbers that are not finite, or of different lengths.
    """
    return Affine(tuple(shift), tuple(scale))


relu = Elementwise("relu")
tanh = Elementwise("tanh")
gelu = Elementwise("gelu")
softplus = Elementwise("softplus")

_KINDS: dict[str, type[Layer]] = {cls.kind: cls for cls in (Linear, Elementwise, Affine)}


def build(description: Any) -> Layer:
    """Make a layer again from what `describe` gave.

    Raises:
        InputError: if it describes no layer of this module.
    """
    try:
        options = dict(description)
        kind = options.pop("kind")
        if kind == Sequential.kind:
            return sequential(*map(build, options["layers"]))
        return _KINDS[kind](**options)
    except (KeyError, TypeError, ValueError) as error:
        raise _check.InputError(
            f"Expected the description of a bbb.nn layer, got {str(description)[:80]!r}. "
            "It may have been written by a newer version: update bbb."
        ) from error
