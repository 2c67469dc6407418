"""Small layers: pairs of `init` and `apply`."""

from bbb.networks.nn.base import Layer, check_fraction, check_params, check_start, draw_weights, per_axis, refuse_x
from bbb.networks.nn.combine import Residual, Sequential, residual, sequential
from bbb.networks.nn.convolution import Conv, conv
from bbb.networks.nn.dense import Linear, linear
from bbb.networks.nn.elementwise import (
    ACTIVATIONS,
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
from bbb.networks.nn.kinds import build
from bbb.networks.nn.norm import BatchNorm, LayerNorm, batch_norm, layer_norm
from bbb.networks.nn.pool import AvgPool, Flatten, MaxPool, avg_pool, flatten, max_pool

__all__ = [
    "ACTIVATIONS",
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
    "build",
    "check_fraction",
    "check_params",
    "check_start",
    "conv",
    "draw_weights",
    "dropout",
    "flatten",
    "gelu",
    "layer_norm",
    "linear",
    "max_pool",
    "per_axis",
    "refuse_x",
    "relu",
    "residual",
    "sequential",
    "softplus",
    "tanh",
]
