"""Normalisation over a batch or over features."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.networks.nn.base import MAX_UNITS, Layer, check_fraction, check_params, check_start, per_axis, refuse_x

if TYPE_CHECKING:
    pass


MAX_AXES = 32
"""The largest number of normalised axes."""


@dataclasses.dataclass(frozen=True)
class BatchNorm(Layer):
    """y = (x − mean)/√(variance + eps)·weight + bias for each channel, the second axis of x.

    In training, mean and variance are those over the rows and the space of the batch; otherwise, running averages.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2; the averages are torch's.
    """

    kind: ClassVar[str] = "batch_norm"
    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    init_by: str = "ones"

    def __post_init__(self) -> None:
        """Check the size and the options."""
        checks.positive_integer("num_features", self.num_features, maximum=MAX_UNITS)
        object.__setattr__(self, "eps", checks.one_number("eps", self.eps))
        if self.momentum is not None:
            check_fraction("momentum", self.momentum)
            object.__setattr__(self, "momentum", float(self.momentum))
        checks.boolean("affine", self.affine)
        check_start(self.init_by, "ones", "torchbnn")

    @property
    def layout(self) -> str:
        """Any: the channels are along the second axis or the first."""
        return "either"

    def init(self, key: jax.Array) -> Tree:
        """Return bias 0, and weight 1 ("ones", as torch) or U(0, 1) ("torchbnn"); running mean 0 and variance 1."""
        checks.key(key)
        zeros, ones = jnp.zeros(self.num_features), jnp.ones(self.num_features)
        running = {"running_mean": zeros, "running_var": ones, "num_batches_tracked": jnp.zeros(())}
        weight = jax.random.uniform(key, ones.shape) if self.init_by == "torchbnn" else ones
        return {"weight": weight, "bias": zeros, **running} if self.affine else running

    def state(self, params: Tree) -> Tree:
        """Return True for the running averages."""
        return {name: name not in ("weight", "bias") for name in params}

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, channels, ...) to the same shape."""
        return self.run(params, x, None, False)[0]

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (channels, rows) to the same shape."""
        return self.run(params, x, None, True)[0]

    def train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Normalise by the batch, and return its updates of the running averages, whose variance is unbiased.

        Raises:
            ShapeError: if the batch has only one value of each channel.
        """
        return self.run(params, x, key, False)

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Normalise each channel over all other axes."""
        axis = 0 if columns else 1
        if x.ndim < 2 or x.shape[axis] != self.num_features:
            met = x.shape[::-1] if columns else x.shape
            refuse_x(f"batch_norm takes x of shape (rows, {self.num_features} channels, ...)", met)
        check_params(self, params, *(("weight", "bias") if self.affine else ()), "running_mean", "running_var")
        updates = dict.fromkeys(params)
        mean, variance = params["running_mean"], params["running_var"]
        if key is not None:
            others = tuple(i for i in range(x.ndim) if i != axis)
            mean, variance = jnp.mean(x, others), jnp.var(x, others)
            updates |= self._moved_on(params, mean, variance, x.size // self.num_features)
        scale = lax.rsqrt(variance + self.eps)
        along = [-1 if i == axis else 1 for i in range(x.ndim)]
        if not self.affine:
            return (x - mean.reshape(along)) * scale.reshape(along), updates
        scale = scale * params["weight"]
        return (x - mean.reshape(along)) * scale.reshape(along) + params["bias"].reshape(along), updates

    def _moved_on(self, params: Tree, mean: jax.Array, variance: jax.Array, size: int) -> dict[str, jax.Array]:
        """Return the running averages after a batch with `size` values of each channel."""
        if size < 2:
            refuse_x("batch_norm needs more than one value of each channel to train on", f"{size}: pass larger batches")
        batches = params["num_batches_tracked"] + 1
        weight = 1 / batches if self.momentum is None else self.momentum
        moved = {
            "running_mean": (1 - weight) * params["running_mean"] + weight * mean,
            "running_var": (1 - weight) * params["running_var"] + weight * (variance * (size / (size - 1))),
            "num_batches_tracked": batches,
        }
        return jax.tree.map(lax.stop_gradient, moved)


def batch_norm(
    num_features: int,
    *,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    init: str = "ones",
) -> BatchNorm:
    """Return a layer that normalises each channel of x, (rows, channels, ...).

    It uses the mean and variance of the batch in training, and running averages otherwise.

    Args:
        num_features: the number of channels.
        eps: a number that is added to variances.
        momentum: the weight of the latest batch in the running averages; None averages all batches equally.
        affine: whether to multiply by a weight and add a bias.
        init: "ones" or "torchbnn" (see `BatchNorm.init`).

    Raises:
        InputError: if the size is below 1, eps is not positive, momentum is outside [0, 1], or `init` is unknown.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.batch_norm(3)
        >>> layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((5, 3))).shape
        (5, 3)
    """
    return BatchNorm(num_features, eps, momentum, affine, init)


@dataclasses.dataclass(frozen=True)
class LayerNorm(Layer):
    """y = (x − mean)/√(variance + eps)·weight + bias, for each row over its last axes, of shape `normalized_shape`.

    Source: Ba et al. 2016, arXiv 1607.06450, eq. 3 and 4.
    """

    kind: ClassVar[str] = "layer_norm"
    normalized_shape: tuple[int, ...]
    eps: float = 1e-5
    affine: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        """Check the sizes and the options."""
        dims = len(self.normalized_shape)
        if dims > MAX_AXES:
            do = "Flatten x, and pass one size."
            fail(InputError, f"at most {MAX_AXES} axes to normalise", f"{dims}", do)
        object.__setattr__(
            self, "normalized_shape", per_axis("normalized_shape", tuple(self.normalized_shape), max(dims, 1))
        )
        object.__setattr__(self, "eps", checks.one_number("eps", self.eps))
        checks.boolean("affine", self.affine)
        checks.boolean("bias", self.bias)

    @property
    def layout(self) -> str:
        """Any for one axis of features, which is the last or the first; else rows first."""
        return "either" if len(self.normalized_shape) == 1 else "rows"

    def init(self, key: jax.Array) -> Tree:
        """Return weight 1 and bias 0."""
        checks.key(key)
        if not self.affine:
            return ()
        weight = jnp.ones(self.normalized_shape)
        return {"weight": weight, "bias": jnp.zeros(self.normalized_shape)} if self.bias else {"weight": weight}

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map `(rows, ..., *normalized_shape)` to the same shape."""
        dims = len(self.normalized_shape)
        if x.shape[1:][-dims:] != self.normalized_shape:
            wanted = ", ".join(("rows", "...", *map(str, self.normalized_shape)))
            refuse_x(f"layer_norm takes x of shape ({wanted})", x.shape)
        along = (1,) * (x.ndim - dims) + self.normalized_shape
        return self._normalised(params, x, tuple(range(x.ndim - dims, x.ndim)), along)

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to the same shape."""
        if x.shape[:1] != self.normalized_shape:
            refuse_x(f"layer_norm takes x of shape (rows, {self.normalized_shape[0]})", x.T.shape)
        return self._normalised(params, x, (0,), (*self.normalized_shape, 1))

    def _normalised(self, params: Tree, x: jax.Array, axes: tuple[int, ...], along: tuple[int, ...]) -> jax.Array:
        centred = x - jnp.mean(x, axes, keepdims=True)
        y = centred * lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + self.eps)
        if self.affine:
            check_params(self, params, *(("weight", "bias") if self.bias else ("weight",)))
            y = y * params["weight"].reshape(along)
        return y + params["bias"].reshape(along) if self.affine and self.bias else y


def layer_norm(shape: int | Sequence[int], *, eps: float = 1e-5, affine: bool = True, bias: bool = True) -> LayerNorm:
    """Return a layer that normalises each row over its last axes, of the given shape.

    Raises:
        InputError: if a size is below 1, or eps is not positive.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.layer_norm(3)
        >>> layer.apply(layer.init(jax.random.key(0)), jax.numpy.ones((5, 3))).shape
        (5, 3)
    """
    return LayerNorm(tuple(shape) if isinstance(shape, Sequence) else (shape,), eps, affine, bias)
