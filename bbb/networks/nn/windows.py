"""Padding, strides and sizes of layers that slide a window."""

from collections.abc import Sequence
from typing import Any

import jax

from bbb.errors import InputError, fail
from bbb.networks.nn.base import per_axis, refuse_x


def _check_dims(dims: Any) -> None:
    if not isinstance(dims, int) or dims not in (1, 2, 3):
        fail(InputError, "dims to be 1, 2 or 3", repr(dims), "Pass dims=2 for images.")


def count_dims(sizes: Any) -> int:
    """Return the number of dimensions of a size."""
    _check_dims(len(sizes))
    return len(sizes)


def check_padding(padding: Any, dims: int) -> tuple[tuple[int, ...], ...]:
    """Check that padding has one pair of whole numbers for each dimension, and return them as tuples."""
    if len(padding) != dims:
        do = "Pass one (before, after) for each dimension."
        fail(InputError, f"padding of {dims} pairs", repr(padding), do)
    return tuple(per_axis("padding", pair, 2, least=0) for pair in padding)


def check_space(layer: Any, x: jax.Array, channels: int | None = None) -> None:
    """Check that x has the dimensions and channels of a layer, and is not smaller than its window."""
    dims = len(layer.kernel_size)
    if x.ndim != dims + 2 or (channels is not None and x.shape[1] != channels):
        wanted = "channels" if channels is None else f"{channels} channels"
        space = ", ".join(("depth", "height", "width")[-dims:]) if dims > 1 else "length"
        refuse_x(f"{layer.kind} takes x of shape (rows, {wanted}, {space})", x.shape)
    reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, getattr(layer, "dilation", (1,) * dims), strict=True)]
    padded = [size + sum(pair) for size, pair in zip(x.shape[2:], layer.padding, strict=True)]
    if any(n < k for n, k in zip(padded, reach, strict=True)):
        refuse_x(f"{layer.kind} needs at least {tuple(reach)} points", f"{tuple(padded)} with its padding")


def sizes_per_axis(dims: int, **sizes: Any) -> list[tuple[int, ...]]:
    """Return each size as one number for each dimension."""
    _check_dims(dims)
    return [per_axis(name, size, dims) for name, size in sizes.items()]


def read_padding(padding: Any, dims: int) -> tuple[tuple[int, int], ...]:
    """Return padding as a pair (before, after) for each dimension.

    Raises:
        InputError: if it is not "valid", a number, or a number or a pair for each dimension.
    """
    if isinstance(padding, str) and padding != "valid":
        expected = 'padding to be "same", "valid", a number or one for each dimension'
        fail(InputError, expected, repr(padding), "Pass one of them.")
    each = 0 if isinstance(padding, str) else padding
    if isinstance(each, Sequence) and len(each) == dims and all(isinstance(pair, Sequence) for pair in each):
        pairs = [per_axis("padding", pair, 2, least=0) for pair in each]
    else:
        pairs = [(n, n) for n in per_axis("padding", each, dims, least=0)]
    return tuple((before, after) for before, after in pairs)
