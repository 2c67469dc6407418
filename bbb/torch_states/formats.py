"""How a library writes the Gaussians of its layers into a state dict."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bbb.networks import nn
from bbb.torch_states.slots import Slot

Arrays = dict[str, Any]
"""A state dict: arrays by their keys."""


class Keys(NamedTuple):
    """The keys of one Gaussian array after the prefix of its module; "" for what a library does not keep.

    Attributes:
        mean: of the means.
        scale: of what the standard deviations are made from.
        noise: of the ε of a frozen model.
        prior_mean: of the means of the prior.
        prior_std: of the standard deviations of the prior.
    """

    mean: str
    scale: str
    noise: str = ""
    prior_mean: str = ""
    prior_std: str = ""


def _same(value: Any, places: Sequence[Slot] = ()) -> Any:
    del places
    return value


@dataclasses.dataclass(frozen=True)
class Format:
    """What a library's state dicts differ by.

    Attributes:
        library: its name in messages.
        gaussians: for each kind of layer, the keys of its arrays that may be Gaussian.
        log_std: log σ from the array under `scale`.
        scale: the inverse.
        tidied: a state dict without what says nothing of the model, from it and the layers.
        completed: a state dict with what the library writes besides, as its `load_state_dict` demands, from likewise.
    """

    library: str
    gaussians: Mapping[type[nn.Layer], Mapping[str, Keys]]
    log_std: Callable[[np.ndarray], np.ndarray] = _same
    scale: Callable[[np.ndarray], np.ndarray] = _same
    tidied: Callable[[Arrays, Sequence[Slot]], Arrays] = _same
    completed: Callable[[Arrays, Sequence[Slot]], Arrays] = _same

    def keys(self, layer: nn.Layer, name: str) -> Keys | None:
        """Return the keys of an array of a layer as a Gaussian; None if it can only be a plain one."""
        return self.gaussians.get(type(layer), {}).get(name)

    def parsed(self, key: str) -> tuple[str, str]:
        """Return the module of a key, and the name in torch of the array that it belongs to."""
        module, _, last = key.rpartition(".")
        return module, self._names().get(last, last)

    def _names(self) -> dict[str, str]:
        """Return the name in torch of the array that each key after a prefix belongs to."""
        arrays = [pair for of_layer in self.gaussians.values() for pair in of_layer.items()]
        return {key: name for name, keys in arrays for key in keys if key}
