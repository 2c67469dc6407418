"""The layers of a network of `bbb.nn` and the names of their arrays in torch's state dicts."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.networks import nn

_LAYERS = (nn.Linear, nn.Conv, nn.BatchNorm, nn.LayerNorm)
"""The layers with arrays that have a counterpart in torch, under the same names."""


class Slot(NamedTuple):
    """A layer other than a `Sequential`, and the place of its arrays.

    Attributes:
        place: the place of the layer in the network, as a Sequential would name it, such as "4.0".
        layer: the layer.
        shapes: the shapes of its arrays, in torch's order; empty if it has no arrays.
        prefix: the prefix of the names of its arrays, such as "4.0." or "fc1.".
    """

    place: str
    layer: nn.Layer
    shapes: dict[str, tuple[int, ...]]
    prefix: str

    def __str__(self) -> str:
        """Return the place and the kind of the layer."""
        return f"{self.place} ({self.layer.kind})" if self.place else self.layer.kind


def slots(network: nn.Layer, names: Sequence[str] | None = None) -> list[Slot]:
    """Return the layers of a network in order, those with arrays under `names`, if given.

    Raises:
        InputError: if a layer has no counterpart in torch, or `names` are not one for each layer with arrays.
    """
    found = [
        Slot(place, layer, _shapes(place, layer), f"{place}." if place else "") for place, layer in _leaves(network)
    ]
    if names is None:
        return found
    given = iter(_checked_names(names, [slot for slot in found if slot.shapes]))
    return [slot._replace(prefix=prefix_of(next(given))) if slot.shapes else slot for slot in found]


def arrays_of(network: nn.Layer, names: Sequence[str] | None, *trees: Tree) -> Iterator[tuple[Any, ...]]:
    """Yield, for each array of a network in torch's order, its layer, its name and the value of each tree there.

    Raises:
        InputError: as for `slots`.
    """
    for slot, *parts in zip(slots(network, names), *(_flat(network, tree) for tree in trees), strict=True):
        for name in slot.shapes:
            yield (slot, name, *(part[name] for part in parts))


def _leaves(network: nn.Layer, place: str = "") -> Iterator[tuple[str, nn.Layer]]:
    if type(network) is nn.Sequential:
        for i, layer in enumerate(network.layers):
            yield from _leaves(layer, f"{place}.{i}" if place else f"{i}")
    else:
        yield place, network


def _flat(network: nn.Layer, tree: Tree) -> Iterator[Tree]:
    """Yield the part of each layer from a tree like the network's parameters."""
    if type(network) is nn.Sequential:
        for layer, part in zip(network.layers, tree, strict=True):
            yield from _flat(layer, part)
    else:
        yield tree


def nested(network: nn.Layer, parts: Iterator[Tree]) -> Tree:
    """Return the tree of a network from the parts of its layers: the inverse of `_flat`."""
    if type(network) is nn.Sequential:
        return tuple(nested(layer, parts) for layer in network.layers)
    return next(parts)


def _shapes(place: str, layer: nn.Layer) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a layer, in torch's order."""
    params = jax.eval_shape(layer.init, jax.random.key(0))
    if jax.tree.leaves(params) and not isinstance(layer, _LAYERS):
        fail(
            InputError,
            "layers that a torch Sequential has: linear, conv, batch_norm, layer_norm, sequential",
            f"'{layer.kind}' at '{place}'",
            "Copy its arrays yourself: bbb.MeanField takes any tree.",
        )
    order = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {name: params[name].shape for name in order if name in params}


def prefix_of(name: str) -> str:
    """Return the prefix of the arrays of a module; none for a module that is a single layer."""
    return f"{name}." if name else ""


def _checked_names(names: Any, layers: list[Slot]) -> list[str]:
    """Check that there is one name for each layer with arrays, and return the list."""
    several = isinstance(names, Sequence) and not isinstance(names, str)
    words = several and all(isinstance(name, str) for name in names)
    if not words or len(set(names)) != len(names) or len(names) != len(layers):
        expected = f"names of modules, one for each layer with arrays: {', '.join(map(str, layers))}"
        do = f"Pass, for example, names={tuple(f'fc{i + 1}' for i in range(len(layers)))}."
        fail(InputError, expected, repr(names), do)
    return list(names)
