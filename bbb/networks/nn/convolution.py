"""Convolutions."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.networks.nn.base import MAX_UNITS, Layer, check_params, check_start, draw_weights, per_axis
from bbb.networks.nn.windows import check_padding, check_space, count_dims, read_padding, sizes_per_axis

_PADDING_MODES = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}
"""NumPy's names of the padding modes, by torch's."""


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
    """Cross-correlation in 1, 2 or 3 dimensions: x `(rows, in_channels, *space)`, W `(out, in/groups, *kernel)`.

    As in torch. Sizes are tuples with one number for each dimension, and `padding` has one pair (before, after) for
    each; `conv` makes them.
    """

    kind: ClassVar[str] = "conv"
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"
    init_by: str = "he"

    def __post_init__(self) -> None:
        """Check the sizes, the options, and that the groups divide the channels."""
        for name in ("in_channels", "out_channels", "groups"):
            checks.positive_integer(name, getattr(self, name), maximum=MAX_UNITS)
        dims = count_dims(self.kernel_size)
        for name in ("kernel_size", "stride", "dilation"):
            object.__setattr__(self, name, per_axis(name, getattr(self, name), dims))
        object.__setattr__(self, "padding", check_padding(self.padding, dims))
        checks.boolean("bias", self.bias)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                fail(
                    InputError,
                    f"{name} to be a multiple of the {self.groups} groups",
                    f"{getattr(self, name)}",
                    "Pass groups that divide in_channels and out_channels.",
                )
        if not isinstance(self.padding_mode, str) or self.padding_mode not in _PADDING_MODES:
            known = ", ".join(_PADDING_MODES)
            fail(InputError, f"padding_mode to be one of {known}", repr(self.padding_mode), "Pass one.")
        check_start(self.init_by, "he", "torchbnn")

    @property
    def layout(self) -> str:
        """Rows first."""
        return "rows"

    def init(self, key: jax.Array) -> Tree:
        """Draw W and b.

        "he": W ~ N(0, 2/fan_in) and b ~ U(±1/√fan_in), fan_in = in_channels/groups·Πkernel_size (He et al. 2015,
        arXiv 1502.01852, eq. 10). "torchbnn": both U(±1/√(in_channels·kernel_size[0]²)), independently of groups and
        of the other sizes of the kernel (torchbnn 1.2, modules/conv.py).
        """
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        he = self.init_by == "he"
        fan_in = math.prod(shape[1:]) if he else self.in_channels * self.kernel_size[0] ** 2
        return draw_weights(key, shape, 1.0 / math.sqrt(fan_in), he, self.bias)

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map `(rows, in_channels, *space)` to `(rows, out_channels, *space)`."""
        check_params(self, params, *(("weight", "bias") if self.bias else ("weight",)))
        check_space(self, x, self.in_channels)
        padding = self.padding
        if self.padding_mode != "zeros":
            x = jnp.pad(x, [(0, 0), (0, 0), *padding], _PADDING_MODES[self.padding_mode])
            padding = ((0, 0),) * len(padding)
        y = lax.conv_general_dilated(
            x, params["weight"], self.stride, padding, rhs_dilation=self.dilation, feature_group_count=self.groups
        )
        return y + params["bias"].reshape(1, -1, *(1,) * (y.ndim - 2)) if self.bias else y


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    *,
    dims: int = 2,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[Any] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    init: str = "he",
) -> Conv:
    """Return a convolution over `dims` dimensions, with the options of torch.

    Args:
        in_channels: the number of channels of x, `(rows, in_channels, *space)`.
        out_channels: the number of channels of the outputs, `(rows, out_channels, *space)`.
        kernel_size: a number, or one for each dimension, as `stride` and `dilation`.
        dims: 1, 2 or 3.
        stride: the number of points from one window to the next.
        padding: "valid" (no padding), "same" (as many points out as in; needs stride 1), a number of points for both
            sides, or one for each dimension, or a pair (before, after) for each dimension.
        dilation: the number of points from one weight of the kernel to the next.
        groups: the number of groups of channels that are convolved separately.
        bias: whether to add a bias to each channel.
        padding_mode: the values of the padding: "zeros", "circular", "reflect" or "replicate".
        init: "he" or "torchbnn" (see `Conv.init`).

    Raises:
        InputError: if a size, a word or the number of groups is invalid.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.conv(3, 8, 3, padding="same")
        >>> layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((5, 3, 4, 4))).shape
        (5, 8, 4, 4)
    """
    kernel, steps, gaps = sizes_per_axis(dims, kernel_size=kernel_size, stride=stride, dilation=dilation)
    same = isinstance(padding, str) and padding == "same"
    if same and set(steps) != {1}:
        fail(InputError, 'stride 1 with padding="same"', f"{stride}", "Pass the padding in numbers.")
    reach = [d * (k - 1) for k, d in zip(kernel, gaps, strict=True)]
    pairs = tuple((n // 2, n - n // 2) for n in reach) if same else read_padding(padding, dims)
    return Conv(in_channels, out_channels, kernel, steps, pairs, gaps, groups, bias, padding_mode, init)
