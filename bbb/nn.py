"""Small layers that know nothing of Bayes: each has `init(key) -> params` and `apply(params, x) -> outputs`.

A layer is described by plain values (`describe`), so that a saved network comes back whole (`build`). Inside
`sequential`, rows run along the last axis of a matrix: hidden activations are (features, rows), which lets one product
`W @ x` with W (out, in) serve all rows without a transpose, about four times faster on a CPU for a wide layer. Layers
of images and sequences take x as torch does, (rows, channels, *space).

A network with a layer that behaves otherwise in training (`batch_norm`, `dropout`) has one more method, and only then:

    train(params, x, key) -> (outputs, updates)    updates: a tree like params, None where nothing changes
    state(params) -> tree of bools                 True for statistics that training replaces by their updates
"""

import dataclasses
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb import _check
from bbb._compile import jit
from bbb._tree import Tree

MOST_UNITS = 2**31 - 1
"""Units of a layer, which an axis of an array has to hold."""


class Layer:
    """A layer: `init(key) -> params`, `apply(params, x) -> outputs`, rows along the first axis of x."""

    kind: ClassVar[str]

    @property
    def layout(self) -> str:
        """How it takes a matrix: "columns" (features, rows), "rows" (rows, features), or "either", as it comes."""
        return "columns"

    def init(self, key: jax.Array) -> Tree:
        """Draw starting parameters; a layer without any has the empty tuple."""
        del key
        return ()

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, features) to (rows, features)."""
        if x.ndim != 2:
            _refuse_x(f"{self.kind} takes x of shape (rows, features)", x.shape)
        return self.apply_columns(params, x.T).T

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to (features, rows)."""
        raise NotImplementedError

    def state(self, params: Tree) -> Tree:
        """Say which leaves of `params` are statistics of the data, which nothing trains: a tree of bools like it."""
        return jax.tree.map(lambda _: False, params)

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Apply to x in a layout; in training mode if there is a key. Gives outputs and updates, as `train` does."""
        del key
        y = self.apply_columns(params, x) if columns else self.apply(params, x)
        return y, jax.tree.map(lambda _: None, params)

    def describe(self) -> dict[str, Any]:
        """Give the layer as a dictionary of JSON values, from which `build` makes it again."""
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind, **options}


def _refuse_x(takes: str, met: Any) -> NoReturn:
    """Refuse an x that a layer cannot take; a network that is traced is told by the first line of this."""
    raise _check.ShapeError(f"Expected an x that fits the network, got another: {takes}, met {met}.")


def _entries(layer: "Layer", params: Tree, *wanted: str) -> Tree:
    """Refuse parameters that lack an array of a layer."""
    if not isinstance(params, Mapping) or any(name not in params for name in wanted):
        got = f"{sorted(params)}" if isinstance(params, Mapping) else f"a {type(params).__name__}"
        do = "Pass what its init gave."
        _check.fail(_check.ShapeError, f"the parameters of a {layer.kind} layer, {list(wanted)}", got, do)
    return params


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
        _check.positive_integer("in_features", self.in_features, most=MOST_UNITS)
        _check.positive_integer("out_features", self.out_features, most=MOST_UNITS)
        _check.boolean("bias", self.bias)
        _check_start(self.init_by, "he", "torchbnn")

    def init(self, key: jax.Array) -> Tree:
        """Draw W and b.

        "he": W ~ N(0, 2/in_features) (He et al. 2015, arXiv 1502.01852, eq. 10), b ~ U(±1/√in_features), so that
        the kinks of rectified units start spread over the inputs. "torchbnn": both U(±1/√in_features).
        """
        bound = 1.0 / math.sqrt(self.in_features)
        return _start(key, (self.out_features, self.in_features), bound, self.init_by == "he", self.bias)

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
        """Refuse parameters of another layer, and an x of other features."""
        _entries(self, params, *(("weight", "bias") if self.bias else ("weight",)))
        if not shape or shape[axis] != self.in_features:
            _refuse_x(f"linear takes x of shape (rows, {self.in_features})", shape if axis else shape[::-1])


def _check_start(init_by: Any, *known: str) -> None:
    if not _check.is_word(init_by, known):
        expected = " or ".join(f'"{name}"' for name in known)
        _check.fail(_check.InputError, f"init_by to be {expected}", repr(init_by), "Pass one of them.")


def _check_fraction(name: str, value: Any) -> None:
    _check.untraced("bbb", **{name: value})
    _check.not_negative(name, value)
    if value > 1:
        _check.fail(_check.InputError, f"{name} to be at most 1", f"{value}", f"Pass {name}=0.1, for example.")


def _start(key: jax.Array, shape: Sequence[int], bound: float, he: bool, bias: bool) -> Tree:
    """Draw weights, N(0, 2·bound²) or U(±bound), and biases U(±bound)."""
    _check.key(key)
    smallest = jnp.finfo(jax.dtypes.canonicalize_dtype(float)).eps
    uniform = jax.random.uniform(key, (shape[0], math.prod(shape[1:]) + 1), minval=smallest - 1.0)
    weight, last = uniform[:, :-1].reshape(shape), uniform[:, -1]
    if he:
        weight = math.sqrt(2.0) * jax.scipy.special.erfinv(weight) * math.sqrt(2.0)
    weight = weight * bound
    return {"weight": weight, "bias": last * bound} if bias else {"weight": weight}


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
        if not isinstance(self.function, str) or self.function not in _FUNCTIONS:
            known = ", ".join(_FUNCTIONS)
            _check.fail(_check.InputError, f"function to be one of {known}", repr(self.function), "Pass one of them.")

    @property
    def layout(self) -> str:
        """It looks at one number at a time."""
        return "either"

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
        _check.untraced("nn.affine", shift=self.shift, scale=self.scale)
        for name in ("shift", "scale"):
            value = getattr(self, name)
            _check.finite(name, value)
            if np.ndim(value) != 1:
                do = "Pass one of each for every feature."
                _check.fail(_check.ShapeError, f"{name} to be a list of numbers", f"shape {np.shape(value)}", do)
            object.__setattr__(self, name, tuple(np.asarray(value, float).tolist()))
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
            _refuse_x(f"affine takes x of shape (rows, {len(self.shift)})", x.T.shape)
        shift, scale = jnp.asarray(self.shift, x.dtype), jnp.asarray(self.scale, x.dtype)
        return (x + shift[:, None]) * scale[:, None]


MOST_AXES = 32
"""Axes of an array, at most."""

_PADDING_MODES = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}
"""torch's names of what stands beyond the edge, and NumPy's."""


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
    """Cross-correlation in 1, 2 or 3 dimensions: x (rows, in_channels, *space), W (out, in/groups, *kernel), as torch.

    Sizes are tuples with one number for each dimension, and `padding` one pair (before, after); `conv` makes them.
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
        """Refuse sizes below 1, groups that do not divide the channels, and unknown words."""
        for name in ("in_channels", "out_channels", "groups"):
            _check.positive_integer(name, getattr(self, name), most=MOST_UNITS)
        dims = _dimensions(self.kernel_size)
        for name in ("kernel_size", "stride", "dilation"):
            object.__setattr__(self, name, _per_axis(name, getattr(self, name), dims))
        object.__setattr__(self, "padding", _pairs_per_axis(self.padding, dims))
        _check.boolean("bias", self.bias)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                _check.fail(
                    _check.InputError,
                    f"{name} to be a multiple of the {self.groups} groups",
                    f"{getattr(self, name)}",
                    "Pass groups that divide in_channels and out_channels.",
                )
        if not isinstance(self.padding_mode, str) or self.padding_mode not in _PADDING_MODES:
            known = ", ".join(_PADDING_MODES)
            _check.fail(_check.InputError, f"padding_mode to be one of {known}", repr(self.padding_mode), "Pass one.")
        _check_start(self.init_by, "he", "torchbnn")

    @property
    def layout(self) -> str:
        """Rows come first."""
        return "rows"

    def init(self, key: jax.Array) -> Tree:
        """Draw W and b.

        "he": W ~ N(0, 2/fan_in) and b ~ U(±1/√fan_in), fan_in = in_channels/groups·Πkernel_size (He et al. 2015,
        arXiv 1502.01852, eq. 10). "torchbnn": both U(±1/√(in_channels·kernel_size[0]²)), whatever groups and the
        other sizes of the kernel are (torchbnn 1.2, modules/conv.py).
        """
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        he = self.init_by == "he"
        fan_in = math.prod(shape[1:]) if he else self.in_channels * self.kernel_size[0] ** 2
        return _start(key, shape, 1.0 / math.sqrt(fan_in), he, self.bias)

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, in_channels, *space) to (rows, out_channels, *space)."""
        _entries(self, params, *(("weight", "bias") if self.bias else ("weight",)))
        _check_space(self, x, self.in_channels)
        padding = self.padding
        if self.padding_mode != "zeros":
            x = jnp.pad(x, [(0, 0), (0, 0), *padding], _PADDING_MODES[self.padding_mode])
            padding = ((0, 0),) * len(padding)
        y = lax.conv_general_dilated(
            x, params["weight"], self.stride, padding, rhs_dilation=self.dilation, feature_group_count=self.groups
        )
        return y + params["bias"].reshape(1, -1, *(1,) * (y.ndim - 2)) if self.bias else y


def _check_dims(dims: Any) -> None:
    if not isinstance(dims, int) or dims not in (1, 2, 3):
        _check.fail(_check.InputError, "dims to be 1, 2 or 3", repr(dims), "Pass dims=2 for images.")


def _dimensions(sizes: Any) -> int:
    """Count the dimensions that a size has a number for."""
    _check_dims(len(sizes))
    return len(sizes)


def _per_axis(name: str, value: Any, dims: int, least: int = 1) -> tuple[int, ...]:
    """Read one whole number for each of several dimensions, or one for all."""
    many = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= least for n in many)
    if len(many) != dims or not whole:
        _check.fail(
            _check.InputError,
            f"{name} to be a whole number of at least {least}, or {dims} of them",
            repr(value),
            f"Pass {name}={least} or more.",
        )
    return tuple(map(int, many))


def _pairs_per_axis(padding: Any, dims: int) -> tuple[tuple[int, ...], ...]:
    """Read a pair of whole numbers for each of several dimensions."""
    if len(padding) != dims:
        do = "Pass one (before, after) for each dimension."
        _check.fail(_check.InputError, f"padding of {dims} pairs", repr(padding), do)
    return tuple(_per_axis("padding", pair, 2, least=0) for pair in padding)


def _check_space(layer: Any, x: jax.Array, channels: int | None = None) -> None:
    """Refuse an x of another number of dimensions or channels, or smaller than the window that moves over it."""
    dims = len(layer.kernel_size)
    if x.ndim != dims + 2 or (channels is not None and x.shape[1] != channels):
        wanted = "channels" if channels is None else f"{channels} channels"
        space = ", ".join(("depth", "height", "width")[-dims:]) if dims > 1 else "length"
        _refuse_x(f"{layer.kind} takes x of shape (rows, {wanted}, {space})", x.shape)
    reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, getattr(layer, "dilation", (1,) * dims), strict=True)]
    padded = [size + sum(pair) for size, pair in zip(x.shape[2:], layer.padding, strict=True)]
    if any(n < k for n, k in zip(padded, reach, strict=True)):
        _refuse_x(f"{layer.kind} needs at least {tuple(reach)} points", f"{tuple(padded)} with its padding")


@dataclasses.dataclass(frozen=True)
class _Pool(Layer):
    """A window that moves over each channel."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Refuse sizes below 1, and padding of more than half a window, where a window could see nothing else."""
        dims = _dimensions(self.kernel_size)
        for name in ("kernel_size", "stride"):
            object.__setattr__(self, name, _per_axis(name, getattr(self, name), dims))
        object.__setattr__(self, "padding", _pairs_per_axis(self.padding, dims))
        if any(max(pair) > k // 2 for pair, k in zip(self.padding, self.kernel_size, strict=True)):
            _check.fail(
                _check.InputError,
                f"padding of at most half the kernel_size {self.kernel_size}",
                f"{tuple(max(pair) for pair in self.padding)}",
                "Pass less padding.",
            )

    @property
    def layout(self) -> str:
        """Rows come first."""
        return "rows"

    def reduce(self, x: jax.Array, start: float, by: Any) -> jax.Array:
        """Reduce each window of x, (rows, channels, *space), by a function of two numbers."""
        _check_space(self, x)
        window, strides = (1, 1, *self.kernel_size), (1, 1, *self.stride)
        return lax.reduce_window(x, np.asarray(start, x.dtype), by, window, strides, ((0, 0), (0, 0), *self.padding))


@dataclasses.dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest of each window, channel by channel."""

    kind: ClassVar[str] = "max_pool"

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, channels, *space) to (rows, channels, *space)."""
        del params
        return self.reduce(x, -math.inf, lax.max)


@dataclasses.dataclass(frozen=True)
class AvgPool(_Pool):
    """The mean of each window, channel by channel; padding counts as zeros, unless `count_include_pad` is False."""

    kind: ClassVar[str] = "avg_pool"
    count_include_pad: bool = True

    def __post_init__(self) -> None:
        """Refuse what its parent does, and anything but a bool."""
        super().__post_init__()
        _check.boolean("count_include_pad", self.count_include_pad)

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, channels, *space) to (rows, channels, *space)."""
        del params
        total = self.reduce(x, 0.0, lax.add)
        if self.count_include_pad:
            return total / math.prod(self.kernel_size)
        return total / self.reduce(jnp.ones((1, 1, *x.shape[2:]), x.dtype), 0.0, lax.add)


@dataclasses.dataclass(frozen=True)
class Flatten(Layer):
    """All numbers of a row side by side."""

    kind: ClassVar[str] = "flatten"

    @property
    def layout(self) -> str:
        """Rows come first."""
        return "rows"

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, ...) to (rows, features)."""
        del params
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


@dataclasses.dataclass(frozen=True)
class BatchNorm(Layer):
    """y = (x − mean)/√(variance + eps)·weight + bias for each channel, the second axis of x.

    Mean and variance are of the rows and the space of the batch in training, and running averages otherwise.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2; the averages are torch's.
    """

    kind: ClassVar[str] = "batch_norm"
    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    init_by: str = "ones"

    def __post_init__(self) -> None:
        """Refuse a size below 1, and numbers without meaning."""
        _check.positive_integer("num_features", self.num_features, most=MOST_UNITS)
        object.__setattr__(self, "eps", _check.one_number("eps", self.eps))
        if self.momentum is not None:
            _check_fraction("momentum", self.momentum)
            object.__setattr__(self, "momentum", float(self.momentum))
        _check.boolean("affine", self.affine)
        _check_start(self.init_by, "ones", "torchbnn")

    @property
    def layout(self) -> str:
        """The channels may lie along the second axis, or the first."""
        return "either"

    def init(self, key: jax.Array) -> Tree:
        """Give bias 0, and weight 1 ("ones", as torch) or ~ U(0, 1) ("torchbnn"); running mean 0, variance 1."""
        _check.key(key)
        zeros, ones = jnp.zeros(self.num_features), jnp.ones(self.num_features)
        running = {"running_mean": zeros, "running_var": ones, "num_batches_tracked": jnp.zeros(())}
        weight = jax.random.uniform(key, ones.shape) if self.init_by == "torchbnn" else ones
        return {"weight": weight, "bias": zeros, **running} if self.affine else running

    def state(self, params: Tree) -> Tree:
        """Say that the running averages are."""
        return {name: name not in ("weight", "bias") for name in params}

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, channels, ...) to the same shape."""
        return self.run(params, x, None, False)[0]

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (channels, rows) to the same shape."""
        return self.run(params, x, None, True)[0]

    def train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Normalise by the batch, and give the running averages that it moves on (their variance is unbiased).

        Raises:
            ShapeError: if the batch has one value of a channel only.
        """
        return self.run(params, x, key, False)

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Normalise along the other axes."""
        axis = 0 if columns else 1
        if x.ndim < 2 or x.shape[axis] != self.num_features:
            met = x.shape[::-1] if columns else x.shape
            _refuse_x(f"batch_norm takes x of shape (rows, {self.num_features} channels, ...)", met)
        _entries(self, params, *(("weight", "bias") if self.affine else ()), "running_mean", "running_var")
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
        """Move the running averages towards those of a batch with `size` values of each channel."""
        if size < 2:
            _refuse_x(
                "batch_norm needs more than one value of each channel to train on", f"{size}: pass larger batches"
            )
        batches = params["num_batches_tracked"] + 1
        weight = 1 / batches if self.momentum is None else self.momentum
        moved = {
            "running_mean": (1 - weight) * params["running_mean"] + weight * mean,
            "running_var": (1 - weight) * params["running_var"] + weight * (variance * (size / (size - 1))),
            "num_batches_tracked": batches,
        }
        return jax.tree.map(lax.stop_gradient, moved)


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
        """Refuse sizes below 1, and numbers without meaning."""
        dims = len(self.normalized_shape)
        if dims > MOST_AXES:
            do = "Flatten x, and pass one size."
            _check.fail(_check.InputError, f"at most {MOST_AXES} axes to normalise", f"{dims}", do)
        object.__setattr__(
            self, "normalized_shape", _per_axis("normalized_shape", tuple(self.normalized_shape), max(dims, 1))
        )
        object.__setattr__(self, "eps", _check.one_number("eps", self.eps))
        _check.boolean("affine", self.affine)
        _check.boolean("bias", self.bias)

    @property
    def layout(self) -> str:
        """One axis of features may lie along the last axis, or the first."""
        return "either" if len(self.normalized_shape) == 1 else "rows"

    def init(self, key: jax.Array) -> Tree:
        """Give weight 1 and bias 0."""
        _check.key(key)
        if not self.affine:
            return ()
        weight = jnp.ones(self.normalized_shape)
        return {"weight": weight, "bias": jnp.zeros(self.normalized_shape)} if self.bias else {"weight": weight}

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, ..., *normalized_shape) to the same shape."""
        dims = len(self.normalized_shape)
        if x.shape[1:][-dims:] != self.normalized_shape:
            wanted = ", ".join(("rows", "...", *map(str, self.normalized_shape)))
            _refuse_x(f"layer_norm takes x of shape ({wanted})", x.shape)
        along = (1,) * (x.ndim - dims) + self.normalized_shape
        return self._normalised(params, x, tuple(range(x.ndim - dims, x.ndim)), along)

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to the same shape."""
        if x.shape[:1] != self.normalized_shape:
            _refuse_x(f"layer_norm takes x of shape (rows, {self.normalized_shape[0]})", x.T.shape)
        return self._normalised(params, x, (0,), (*self.normalized_shape, 1))

    def _normalised(self, params: Tree, x: jax.Array, axes: tuple[int, ...], along: tuple[int, ...]) -> jax.Array:
        centred = x - jnp.mean(x, axes, keepdims=True)
        y = centred * lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + self.eps)
        if self.affine:
            _entries(self, params, *(("weight", "bias") if self.bias else ("weight",)))
            y = y * params["weight"].reshape(along)
        return y + params["bias"].reshape(along) if self.affine and self.bias else y


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """In training, each number is 0 with probability `rate`, and else divided by 1 − rate; otherwise x itself.

    Source: Srivastava et al. 2014, JMLR 15, §4, scaled in training as torch does.
    """

    kind: ClassVar[str] = "dropout"
    rate: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no probability below 1."""
        _check_fraction("rate", self.rate)
        object.__setattr__(self, "rate", float(self.rate))
        if self.rate == 1:
            _check.fail(_check.InputError, "rate to be below 1", f"{self.rate}", "Pass for example rate=0.5.")

    @property
    def layout(self) -> str:
        """It looks at one number at a time."""
        return "either"

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Give x."""
        del params
        return x

    apply_columns = apply

    def train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Drop some numbers of x; there is nothing to update."""
        return self.run(params, x, key, False)

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Drop some numbers of x, if there is a key."""
        del columns
        if key is None:
            return x, params
        kept = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return jnp.where(kept, x / (1.0 - self.rate), jnp.zeros_like(x)), params


@dataclasses.dataclass(frozen=True)
class Sequential(Layer):
    """Layers one after the other; params is the tuple of theirs."""

    kind: ClassVar[str] = "sequential"
    layers: tuple[Layer, ...]

    @property
    def layout(self) -> str:
        """It is "columns" or "either" only where no layer needs rows first."""
        layouts = {layer.layout for layer in self.layers}
        return next((layout for layout in ("rows", "columns") if layout in layouts), "either")

    def init(self, key: jax.Array) -> Tree:
        """Draw the parameters of every layer, each from its own key."""
        _check.key(key)
        return _init_all(key, layers=self.layers)

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to (features, rows)."""
        return self.run(params, x, None, True)[0]

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, ...) to (rows, ...), with rows along the last axis in between wherever that serves."""
        by_columns = self.layout == "columns" or (self.layout == "either" and x.ndim == 2)
        return super().apply(params, x) if by_columns else self.run(params, x, None, False)[0]

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Turn x over only where the next layer takes the other layout."""
        if not isinstance(params, Sequence) or len(params) != len(self.layers):
            got = f"{len(params)}" if isinstance(params, Sequence) else f"a {type(params).__name__}"
            do = "Pass what its init gave."
            _check.fail(_check.ShapeError, f"the parameters of {len(self.layers)} layers", got, do)
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
            AttributeError: if no layer behaves otherwise in training.
        """
        if not any(hasattr(layer, "train") for layer in self.layers):
            raise AttributeError(f"this {self.kind} behaves in training as it always does: use apply")
        return self._train

    def _train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        return self.run(params, x, key, False)

    def state(self, params: Tree) -> Tree:
        """Ask every layer."""
        return tuple(layer.state(part) for layer, part in zip(self.layers, params, strict=True))

    def describe(self) -> dict[str, Any]:
        """Describe every layer."""
        return {"kind": self.kind, "layers": [layer.describe() for layer in self.layers]}


@dataclasses.dataclass(frozen=True)
class Residual(Sequential):
    """y = x + f(x), with f some layers one after the other; params is the tuple of theirs.

    Source: He et al. 2016, arXiv 1512.03385, eq. 1.
    """

    kind: ClassVar[str] = "residual"

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Add x to what the layers make of it."""
        y, updates = super().run(params, x, key, columns)
        if y.shape != x.shape:
            what = f"residual of layers that turn {x.shape} into {y.shape}, which cannot be added to it"
            raise _check.ShapeError(f"Expected layers that keep the shape of x, got others: {what}.")
        return x + y, updates


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
    """Make a convolution over `dims` dimensions, with torch's meaning of every option.

    Args:
        in_channels: of x, (rows, in_channels, *space).
        out_channels: of the outputs.
        kernel_size: a number, or one for each dimension; so are `stride` and `dilation`.
        dims: 1, 2 or 3.
        stride: points from one window to the next.
        padding: "valid" (none), "same" (as many points out as in; needs stride 1), a number of points for both sides,
            or one for each dimension, or a pair (before, after) for each dimension.
        dilation: points from one weight of the kernel to the next.
        groups: in how many groups the channels are kept apart.
        bias: whether to add one number for each channel.
        padding_mode: what stands beyond the edge: "zeros", "circular", "reflect" or "replicate".
        init: "he" or "torchbnn" (see `Conv.init`).

    Raises:
        InputError: for a size, a word or a number of groups that makes no sense.
    """
    kernel, steps, gaps = _sizes(dims, kernel_size=kernel_size, stride=stride, dilation=dilation)
    same = isinstance(padding, str) and padding == "same"
    if same and set(steps) != {1}:
        _check.fail(_check.InputError, 'stride 1 with padding="same"', f"{stride}", "Pass the padding in numbers.")
    reach = [d * (k - 1) for k, d in zip(kernel, gaps, strict=True)]
    pairs = tuple((n // 2, n - n // 2) for n in reach) if same else _pairs(padding, dims)
    return Conv(in_channels, out_channels, kernel, steps, pairs, gaps, groups, bias, padding_mode, init)


def max_pool(
    kernel_size: int | Sequence[int],
    *,
    dims: int = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[Any] = 0,
) -> MaxPool:
    """Take the largest of each window; by default windows do not overlap. x is (rows, channels, *space).

    Raises:
        InputError: for a size that makes no sense.
    """
    kernel, steps = _sizes(dims, kernel_size=kernel_size, stride=kernel_size if stride is None else stride)
    return MaxPool(kernel, steps, _pairs(padding, dims))


def avg_pool(
    kernel_size: int | Sequence[int],
    *,
    dims: int = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[Any] = 0,
    count_include_pad: bool = True,
) -> AvgPool:
    """Take the mean of each window; by default windows do not overlap. x is (rows, channels, *space).

    Raises:
        InputError: for a size that makes no sense.
    """
    kernel, steps = _sizes(dims, kernel_size=kernel_size, stride=kernel_size if stride is None else stride)
    return AvgPool(kernel, steps, _pairs(padding, dims), count_include_pad)


def _sizes(dims: int, **sizes: Any) -> list[tuple[int, ...]]:
    _check_dims(dims)
    return [_per_axis(name, size, dims) for name, size in sizes.items()]


def _pairs(padding: Any, dims: int) -> tuple[tuple[int, int], ...]:
    """Read padding as a pair (before, after) for each dimension."""
    if isinstance(padding, str) and padding != "valid":
        expected = 'padding to be "same", "valid", a number or one for each dimension'
        _check.fail(_check.InputError, expected, repr(padding), "Pass one of them.")
    each = 0 if isinstance(padding, str) else padding
    if isinstance(each, Sequence) and len(each) == dims and all(isinstance(pair, Sequence) for pair in each):
        pairs = [_per_axis("padding", pair, 2, least=0) for pair in each]
    else:
        pairs = [(n, n) for n in _per_axis("padding", each, dims, least=0)]
    return tuple((before, after) for before, after in pairs)


def batch_norm(
    num_features: int,
    *,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    init: str = "ones",
) -> BatchNorm:
    """Normalise each channel, the second axis of x: by the batch in training, by running averages otherwise.

    Args:
        num_features: how many channels.
        eps: added to variances.
        momentum: the weight of the newest batch in the running averages; None averages all batches alike.
        affine: whether to multiply by a weight and add a bias.
        init: "ones" or "torchbnn" (see `BatchNorm.init`).

    Raises:
        InputError: for a size below 1, an eps that is not positive, a momentum outside [0, 1], an unknown `init`.
    """
    return BatchNorm(num_features, eps, momentum, affine, init)


def layer_norm(shape: int | Sequence[int], *, eps: float = 1e-5, affine: bool = True, bias: bool = True) -> LayerNorm:
    """Normalise each row over its last axes, which have this shape.

    Raises:
        InputError: for a size below 1, or an eps that is not positive.
    """
    return LayerNorm(tuple(shape) if isinstance(shape, Sequence) else (shape,), eps, affine, bias)


def dropout(rate: float = 0.5) -> Dropout:
    """Drop each number with probability `rate` in training.

    Raises:
        InputError: if `rate` is not in [0, 1).
    """
    return Dropout(rate)


def sequential(*layers: Layer) -> Sequential:
    """Chain layers.

    Raises:
        InputError: without layers, or for something that is no layer of this module.
    """
    return Sequential(_layers(layers))


def residual(*layers: Layer) -> Residual:
    """Chain layers, and add their input to what they make of it; both must have one shape.

    Raises:
        InputError: without layers, or for something that is no layer of this module.
    """
    return Residual(_layers(layers))


def _layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
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
    return layers


def affine(shift: Any, scale: Any) -> Affine:
    """Make the fixed layer (x + shift)·scale.

    `affine(-mean, 1 / std)` standardises, and `affine(mean / std, std)` undoes it.

    Raises:
        InputError, ShapeError: for numbers that are not finite, or of different lengths.
    """
    return Affine(shift, scale)


flatten = Flatten()
relu = Elementwise("relu")
tanh = Elementwise("tanh")
gelu = Elementwise("gelu")
softplus = Elementwise("softplus")

ACTIVATIONS: dict[str, Elementwise] = {layer.function: layer for layer in (relu, tanh, gelu, softplus)}
"""Activations by name."""

_PLAIN = (Linear, Elementwise, Affine, Conv, BatchNorm, LayerNorm, MaxPool, AvgPool, Flatten, Dropout)
_KINDS: dict[str, type[Layer]] = {cls.kind: cls for cls in _PLAIN}
_CHAINS: dict[str, Callable[..., Layer]] = {Sequential.kind: sequential, Residual.kind: residual}


def build(description: Any) -> Layer:
    """Make a layer again from what `describe` gave.

    Raises:
        InputError: if it describes no layer of this module.
    """
    try:
        options = dict(description)
        kind = options.pop("kind")
        if kind in _CHAINS:
            return _CHAINS[kind](*map(build, options["layers"]))
        return _KINDS[kind](**options)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise _check.InputError(
            f"Expected the description of a bbb.nn layer, got {reprlib.repr(description)}. "
            "It may have been written by a newer version: update bbb."
        ) from error
