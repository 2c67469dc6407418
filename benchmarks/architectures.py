"""A residual network and a vision transformer, each written once for all libraries.

    network(layer, ops, x, settings) -> logits

`layer(name, x)` applies a layer with weights, which each library has of its own, and `ops` are the functions of a
library: `TorchOps` or `JaxOps`. Images are (rows, channels, height, width) in torch and (rows, height, width, channels)
in JAX, as each computes fastest; tokens are (rows, places, features). All weights belong to the layers, so that all of
them are Bayesian: the normalisations have no scale and no shift, which the layer after them would absorb.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contender import Settings

Layer = Callable[[str, Any], Any]
EPSILON = 1e-5
"""It is added to the variances of normalisations, as in torch."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of a layer: a dense one, or a convolution of kernel × kernel with zeros around its input."""

    fan_in: int
    fan_out: int
    kernel: int = 0
    stride: int = 1

    @property
    def weight(self) -> tuple[int, ...]:
        """The shape of its weight, as torch stores it."""
        return (self.fan_out, self.fan_in, *(self.kernel,) * 2 * (self.kernel > 0))

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw He's weights, and no bias."""
        std = math.sqrt(2.0 / math.prod(self.weight[1:]))
        return rng.normal(0.0, std, self.weight), np.zeros(self.fan_out)


def resnet_layers(settings: Settings) -> dict[str, Shape]:
    """Return the layers of a residual network, by name: three stages, each of twice the channels of the one before."""
    width, blocks = settings["width"], settings["blocks"]
    layers, now = {"stem": Shape(3, width, 3)}, width
    for name, channels, stride in _blocks(width, blocks):
        layers |= {f"{name} first": Shape(now, channels, 3, stride), f"{name} second": Shape(channels, channels, 3)}
        if now != channels:
            layers[f"{name} past"] = Shape(now, channels, 1, stride)
        now = channels
    return layers | {"head": Shape(now, settings["classes"])}


def resnet(layer: Layer, ops: Any, x: Any, settings: Settings) -> Any:
    """Compute the logits of images.

    Source: He et al. 2016, arXiv 1603.05027, fig. 4e; ResNet-20 is width 16 and 3 blocks.
    """
    x, width = layer("stem", x), settings["width"]
    now = width
    for name, channels, _ in _blocks(width, settings["blocks"]):
        h = layer(f"{name} first", ops.relu(ops.normalise_images(x)))
        h = layer(f"{name} second", ops.relu(ops.normalise_images(h)))
        x = h + (x if now == channels else layer(f"{name} past", x))
        now = channels
    return layer("head", ops.mean_of_images(ops.relu(ops.normalise_images(x))))


def _blocks(width: int, blocks: int) -> list[tuple[str, int, int]]:
    """Return the name, the channels and the stride of each residual block."""
    stages = [(stage, width * 2**stage) for stage in range(3)]
    return [(f"block {s}.{i}", n, 2 if s > 0 and i == 0 else 1) for s, n in stages for i in range(blocks)]


def transformer_layers(settings: Settings) -> dict[str, Shape]:
    """Return the layers of a vision transformer, by name."""
    width, patch = settings["width"], 3 * settings["patch"] ** 2
    layers = {"embed": Shape(patch, width)}
    for i in range(settings["blocks"]):
        layers |= {
            f"block {i} queries, keys, values": Shape(width, 3 * width),
            f"block {i} attended": Shape(width, width),
            f"block {i} up": Shape(width, 4 * width),
            f"block {i} down": Shape(4 * width, width),
        }
    return layers | {"head": Shape(width, settings["classes"])}


def transformer(layer: Layer, ops: Any, x: Any, settings: Settings) -> Any:
    """Compute the logits of images cut into patches, (rows, patches, numbers of a patch).

    Source: Dosovitskiy et al. 2021, arXiv 2010.11929, eq. 1 to 4, with the mean of all patches in the place of a class
    token, and fixed positions as in Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
    """
    x = layer("embed", x) + ops.array(positions(x.shape[1], settings["width"]))
    for i in range(settings["blocks"]):
        of_all = layer(f"block {i} queries, keys, values", ops.normalise_tokens(x))
        x = x + layer(f"block {i} attended", ops.attention(of_all, settings["heads"]))
        x = x + layer(f"block {i} down", ops.gelu(layer(f"block {i} up", ops.normalise_tokens(x))))
    return layer("head", ops.normalise_tokens(x).mean(1))


def positions(places: int, width: int) -> np.ndarray:
    """Return sines and cosines of each place, (places, width)."""
    angles = np.arange(places)[:, None] / 10_000 ** (np.arange(width // 2) / (width // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def patches(images: np.ndarray, size: int) -> np.ndarray:
    """Cut images (rows, 3, height, width) into patches, (rows, patches, 3·size²)."""
    rows, channels, height, width = images.shape
    cut = images.reshape(rows, channels, height // size, size, width // size, size).transpose(0, 2, 4, 1, 3, 5)
    return np.ascontiguousarray(cut.reshape(rows, -1, channels * size**2))


class TorchOps:
    """The functions of torch."""

    def __init__(self) -> None:
        from torch.nn import functional

        self.functional = functional
        self.relu = functional.relu

    def array(self, values: np.ndarray) -> Any:
        """Return an array of torch."""
        import torch

        return torch.from_numpy(values)

    def gelu(self, x: Any) -> Any:
        """Compute GELU by its formula with tanh, as JAX does."""
        return self.functional.gelu(x, approximate="tanh")

    def normalise_images(self, x: Any) -> Any:
        """Normalise each row over all else."""
        return self.functional.layer_norm(x, x.shape[1:], eps=EPSILON)

    def normalise_tokens(self, x: Any) -> Any:
        """Normalise each token."""
        return self.functional.layer_norm(x, x.shape[2:], eps=EPSILON)

    def mean_of_images(self, x: Any) -> Any:
        """Return the mean over all places."""
        return x.mean((2, 3))

    def attention(self, of_all: Any, heads: int) -> Any:
        """Attend by heads; torch has it as one fused function."""
        rows, places, width = of_all.shape
        apart = of_all.reshape(rows, places, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
        return self.functional.scaled_dot_product_attention(*apart).transpose(1, 2).reshape(rows, places, width // 3)


class JaxOps:
    """The functions of JAX."""

    def __init__(self) -> None:
        import jax

        self.relu, self.gelu, self.array = jax.nn.relu, jax.nn.gelu, jax.numpy.asarray

    def normalise_images(self, x: Any) -> Any:
        """Normalise each row over all else."""
        return self._normalise(x, (1, 2, 3))

    def normalise_tokens(self, x: Any) -> Any:
        """Normalise each token."""
        return self._normalise(x, (2,))

    def _normalise(self, x: Any, axes: tuple[int, ...]) -> Any:
        import jax

        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + EPSILON)

    def mean_of_images(self, x: Any) -> Any:
        """Return the mean over all places."""
        return x.mean((1, 2))

    def attention(self, of_all: Any, heads: int) -> Any:
        """Attend by heads."""
        import jax
        import jax.numpy as jnp

        rows, places, width = of_all.shape
        q, k, v = jnp.moveaxis(of_all.reshape(rows, places, 3, heads, width // 3 // heads), 2, 0)
        scores = jnp.einsum("rqhf,rkhf->rhqk", q, k) / math.sqrt(width // 3 // heads)
        return jnp.einsum("rhqk,rkhf->rqhf", jax.nn.softmax(scores, axis=-1), v).reshape(rows, places, width // 3)


def torch_module(layers: dict[str, Any], network: Any, settings: Settings) -> Any:
    """Return a network of torch's layers by name."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(layers.values())
            self.index = {name: i for i, name in enumerate(layers)}
            self.ops = TorchOps()

        def forward(self, x: Any) -> Any:
            return network(lambda name, x: self.layers[self.index[name]](x), self.ops, x, settings)

    return Module()


def jax_apply(shapes: dict[str, Shape], network: Any, settings: Settings) -> Callable[[Any, Any], Any]:
    """Return `apply(params, x)`, with one pair of a weight and a bias for each layer."""
    from jax import lax

    index, ops = {name: i for i, name in enumerate(shapes)}, JaxOps()

    def apply(params: Any, x: Any) -> Any:
        def layer(name: str, x: Any) -> Any:
            (weight, bias), shape = params[index[name]], shapes[name]
            if not shape.kernel:
                return x @ weight + bias
            around = ((shape.kernel // 2,) * 2,) * 2
            dimensions = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, weight, (shape.stride,) * 2, around, dimension_numbers=dimensions) + bias

        return network(layer, ops, x, settings)

    return apply
