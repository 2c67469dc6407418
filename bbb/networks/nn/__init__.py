"""Small layers: pairs of `init` and `apply`."""

from bbb.networks.nn.base import Layer
from bbb.networks.nn.combine import Residual, Sequential, residual, sequential
from bbb.networks.nn.convolution import Conv, conv
from bbb.networks.nn.dense import Linear, linear
from bbb.networks.nn.elementwise import (
    ACTIVATIONS,
    CLOSED_FORM,
    Affine,
    Dropout,
    Elementwise,
    affine,
    dropout,
    gelu,
    relu,
    softplus,
    tanh,
)
from bbb.networks.nn.norm import BatchNorm, LayerNorm, batch_norm, layer_norm
from bbb.networks.nn.pool import AvgPool, Flatten, MaxPool, avg_pool, flatten, max_pool

__all__ = [
    "ACTIVATIONS",
    "CLOSED_FORM",
    "Affine",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "Dropout",
    "Elementwise",
    "Flatten",
    "Layer",
    "LayerNorm",
    "Linear",
    "MaxPool",
    "Residual",
    "Sequential",
    "affine",
    "avg_pool",
    "batch_norm",
    "conv",
    "dropout",
    "flatten",
    "gelu",
    "layer_norm",
    "linear",
    "max_pool",
    "relu",
    "residual",
    "sequential",
    "softplus",
    "tanh",
]
