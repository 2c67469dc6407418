"""Layers by name, and networks from their descriptions."""

import reprlib
from collections.abc import Callable
from typing import Any

from bbb.errors import InputError
from bbb.networks.nn.base import Layer
from bbb.networks.nn.combine import Residual, Sequential, residual, sequential
from bbb.networks.nn.convolution import Conv
from bbb.networks.nn.dense import Linear
from bbb.networks.nn.elementwise import Affine, Dropout, Elementwise
from bbb.networks.nn.norm import BatchNorm, LayerNorm
from bbb.networks.nn.pool import AvgPool, Flatten, MaxPool

_PLAIN = (Linear, Elementwise, Affine, Conv, BatchNorm, LayerNorm, MaxPool, AvgPool, Flatten, Dropout)


_KINDS: dict[str, type[Layer]] = {cls.kind: cls for cls in _PLAIN}


_CHAINS: dict[str, Callable[..., Layer]] = {Sequential.kind: sequential, Residual.kind: residual}


def build(description: Any) -> Layer:
    """Return the layer of a description that `Layer.describe` made.

    Raises:
        InputError: if it is not the description of a layer of this module.
    """
    try:
        options = dict(description)
        kind = options.pop("kind")
        if kind in _CHAINS:
            return _CHAINS[kind](*map(build, options["layers"]))
        return _KINDS[kind](**options)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"Expected the description of a bbb.nn layer, got {reprlib.repr(description)}. "
            "It may have been written by a newer version: update bbb."
        ) from error
