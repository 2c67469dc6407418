"""Dense layers."""

import dataclasses
import math
from typing import ClassVar

import jax

from bbb import checks
from bbb.core.tree import Tree
from bbb.networks.nn.base import MAX_UNITS, Layer, check_params, check_start, draw_weights, refuse_x


@dataclasses.dataclass(frozen=True)
class Linear(Layer):
    """y = W x + b, with W of shape (out_features, in_features), as torch stores it."""

    kind: ClassVar[str] = "linear"
    in_features: int
    out_features: int
    bias: bool = True
    init_by: str = "he"

    def __post_init__(self) -> None:
        """Check the sizes and the initialisation."""
        checks.positive_integer("in_features", self.in_features, maximum=MAX_UNITS)
        checks.positive_integer("out_features", self.out_features, maximum=MAX_UNITS)
        checks.boolean("bias", self.bias)
        check_start(self.init_by, "he", "torchbnn")

    def init(self, key: jax.Array) -> Tree:
        """Draw W and b.

        "he": W ~ N(0, 2/in_features) (He et al. 2015, arXiv 1502.01852, eq. 10), b ~ U(±1/√in_features), so that
        the initial kinks of rectified units are spread over the inputs. "torchbnn": both U(±1/√in_features).
        """
        bound = 1.0 / math.sqrt(self.in_features)
        return draw_weights(key, (self.out_features, self.in_features), bound, self.init_by == "he", self.bias)

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (..., in_features) to (..., out_features)."""
        self._check(params, x.shape, -1)
        y = x @ params["weight"].T
        return y + params["bias"].reshape((1,) * (y.ndim - 1) + (-1,)) if self.bias else y

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (in_features, rows) to (out_features, rows)."""
        self._check(params, x.shape, 0)
        y = params["weight"] @ x
        return y + params["bias"][:, None] if self.bias else y

    def _check(self, params: Tree, shape: tuple[int, ...], axis: int) -> None:
        """Check that the parameters have the arrays of this layer, and that x has its number of features."""
        check_params(self, params, *(("weight", "bias") if self.bias else ("weight",)))
        if not shape or shape[axis] != self.in_features:
            refuse_x(f"linear takes x of shape (rows, {self.in_features})", shape if axis else shape[::-1])


def linear(in_features: int, out_features: int, *, bias: bool = True, init: str = "he") -> Linear:
    """Return a dense layer; `init` is "he" or "torchbnn" (see `Linear.init`).

    Raises:
        InputError: if a size is below 1, or `init` is unknown.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(2, 3)
        >>> layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((5, 2))).shape
        (5, 3)
    """
    return Linear(in_features, out_features, bias, init)
