"""Activations and affine maps of features."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, ShapeError, fail
from bbb.networks.nn.base import Layer, check_fraction, refuse_x

_FUNCTIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
}


@dataclasses.dataclass(frozen=True)
class Elementwise(Layer):
    """A function of each element, by name."""

    kind: ClassVar[str] = "elementwise"
    function: str

    def __post_init__(self) -> None:
        """Check that the function is known."""
        if not isinstance(self.function, str) or self.function not in _FUNCTIONS:
            known = ", ".join(_FUNCTIONS)
            fail(InputError, f"function to be one of {known}", repr(self.function), "Pass one of them.")

    @property
    def layout(self) -> str:
        """Any, because each element is processed by itself."""
        return "either"

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Apply the function to each element of x."""
        del params
        return _FUNCTIONS[self.function](x)

    apply_columns = apply


relu = Elementwise("relu")


tanh = Elementwise("tanh")


gelu = Elementwise("gelu")


softplus = Elementwise("softplus")


ACTIVATIONS = {layer.function: layer for layer in (relu, tanh, gelu, softplus)}
"""The activation functions, by name."""


CLOSED_FORM = frozenset({"relu"})
"""Those whose moments under a Gaussian `bbb.moments` has in closed form. It integrates others by quadrature: a training
on the exact bound then takes 20 times as long, and is better done on draws."""


@dataclasses.dataclass(frozen=True)
class Affine(Layer):
    """y = (x + shift)·scale for each feature, with constants that are not parameters."""

    kind: ClassVar[str] = "affine"
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the constants are finite, and of the same length."""
        checks.untraced("nn.affine", shift=self.shift, scale=self.scale)
        for name in ("shift", "scale"):
            value = getattr(self, name)
            checks.finite(name, value)
            if np.ndim(value) != 1:
                do = "Pass one number for each feature."
                fail(ShapeError, f"{name} to be a list of numbers", f"shape {np.shape(value)}", do)
            object.__setattr__(self, name, tuple(np.asarray(value, float).tolist()))
        if len(self.shift) != len(self.scale):
            fail(
                ShapeError,
                f"scale to have the {len(self.shift)} numbers of shift",
                f"{len(self.scale)}",
                "Pass one number for each feature.",
            )

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to the same shape."""
        del params
        if x.shape[0] != len(self.shift):
            refuse_x(f"affine takes x of shape (rows, {len(self.shift)})", x.T.shape)
        shift, scale = jnp.asarray(self.shift, x.dtype), jnp.asarray(self.scale, x.dtype)
        return (x + shift[:, None]) * scale[:, None]


def affine(shift: Any, scale: Any) -> Affine:
    """Return the layer (x + shift)·scale, which has no parameters.

    `affine(-mean, 1 / std)` standardises, and `affine(mean / std, std)` inverts it.

    Raises:
        InputError: if a number is not finite.
        ShapeError: if the lists have different lengths.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.affine(shift=(1.0,), scale=(2.0,))
        >>> layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((1, 1))).tolist()
        [[4.0]]
    """
    return Affine(shift, scale)


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """In training, each element is 0 with probability `rate`, and else divided by 1 − rate; otherwise x is unchanged.

    Source: Srivastava et al. 2014, JMLR 15, §4, with the scaling in training, as torch.
    """

    kind: ClassVar[str] = "dropout"
    rate: float = 0.5

    def __post_init__(self) -> None:
        """Check that `rate` is a probability below 1."""
        check_fraction("rate", self.rate)
        object.__setattr__(self, "rate", float(self.rate))
        if self.rate == 1:
            fail(InputError, "rate to be below 1", f"{self.rate}", "Pass for example rate=0.5.")

    @property
    def layout(self) -> str:
        """Any, because each element is processed by itself."""
        return "either"

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Return x."""
        del params
        return x

    apply_columns = apply

    def train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Set random elements of x to 0; there are no updates."""
        return self.run(params, x, key, False)

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Set random elements of x to 0 if there is a key."""
        del columns
        if key is None:
            return x, params
        kept = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return jnp.where(kept, x / (1.0 - self.rate), jnp.zeros_like(x)), params


def dropout(rate: float = 0.5) -> Dropout:
    """Return a layer that sets each element to 0 with probability `rate` in training.

    Raises:
        InputError: if `rate` is not in [0, 1).

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.dropout(0.5)
        >>> layer.apply(
        ...     layer.init(jax.random.key(0)), jax.numpy.ones((1, 2))
        ... ).tolist()  # off, outside of training
        [[1.0, 1.0]]
    """
    return Dropout(rate)
