"""Pooling and flattening."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.networks.nn.base import Layer, per_axis
from bbb.networks.nn.windows import check_padding, check_space, count_dims, read_padding, sizes_per_axis


@dataclasses.dataclass(frozen=True)
class _Pool(Layer):
    """Base class of layers that reduce a sliding window of each channel."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Check the sizes, and that padding is at most half a window, so that no window contains padding only."""
        dims = count_dims(self.kernel_size)
        for name in ("kernel_size", "stride"):
            object.__setattr__(self, name, per_axis(name, getattr(self, name), dims))
        object.__setattr__(self, "padding", check_padding(self.padding, dims))
        if any(max(pair) > k // 2 for pair, k in zip(self.padding, self.kernel_size, strict=True)):
            fail(
                InputError,
                f"padding of at most half the kernel_size {self.kernel_size}",
                f"{tuple(max(pair) for pair in self.padding)}",
                "Pass less padding.",
            )

    @property
    def layout(self) -> str:
        """Rows first."""
        return "rows"

    def reduce(self, x: jax.Array, start: float, by: Any) -> jax.Array:
        """Reduce each window of x, (rows, channels, *space), with a function of two numbers."""
        check_space(self, x)
        window, strides = (1, 1, *self.kernel_size), (1, 1, *self.stride)
        return lax.reduce_window(x, np.asarray(start, x.dtype), by, window, strides, ((0, 0), (0, 0), *self.padding))


@dataclasses.dataclass(frozen=True)
class MaxPool(_Pool):
    """The maximum of each window, for each channel."""

    kind: ClassVar[str] = "max_pool"

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map `(rows, channels, *space)` to `(rows, channels, *space)`."""
        del params
        return self.reduce(x, -math.inf, lax.max)


@dataclasses.dataclass(frozen=True)
class AvgPool(_Pool):
    """The mean of each window, for each channel; padding counts as zeros unless `count_include_pad` is False."""

    kind: ClassVar[str] = "avg_pool"
    count_include_pad: bool = True

    def __post_init__(self) -> None:
        """Check the sizes and the padding, and that `count_include_pad` is a bool."""
        super().__post_init__()
        checks.boolean("count_include_pad", self.count_include_pad)

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map `(rows, channels, *space)` to `(rows, channels, *space)`."""
        del params
        total = self.reduce(x, 0.0, lax.add)
        if self.count_include_pad:
            return total / math.prod(self.kernel_size)
        return total / self.reduce(jnp.ones((1, 1, *x.shape[2:]), x.dtype), 0.0, lax.add)


def max_pool(
    kernel_size: int | Sequence[int],
    *,
    dims: int = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[Any] = 0,
) -> MaxPool:
    """Return max pooling of x, `(rows, channels, *space)`, whose windows do not overlap by default.

    Raises:
        InputError: if a size is invalid.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.max_pool(2)
        >>> layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((5, 3, 4, 4))).shape
        (5, 3, 2, 2)
    """
    kernel, steps = sizes_per_axis(dims, kernel_size=kernel_size, stride=kernel_size if stride is None else stride)
    return MaxPool(kernel, steps, read_padding(padding, dims))


def avg_pool(
    kernel_size: int | Sequence[int],
    *,
    dims: int = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[Any] = 0,
    count_include_pad: bool = True,
) -> AvgPool:
    """Return average pooling of x, `(rows, channels, *space)`, whose windows do not overlap by default.

    Raises:
        InputError: if a size is invalid.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.avg_pool(2)
        >>> layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((5, 3, 4, 4))).shape
        (5, 3, 2, 2)
    """
    kernel, steps = sizes_per_axis(dims, kernel_size=kernel_size, stride=kernel_size if stride is None else stride)
    return AvgPool(kernel, steps, read_padding(padding, dims), count_include_pad)


@dataclasses.dataclass(frozen=True)
class Flatten(Layer):
    """All elements of a row along one axis."""

    kind: ClassVar[str] = "flatten"

    @property
    def layout(self) -> str:
        """Rows first."""
        return "rows"

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, ...) to (rows, features)."""
        del params
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


flatten = Flatten()
