"""Bad input to `nn`, `standardize` and `adapters`: refused by name, and nothing is written."""

import jax.numpy as jnp
import pytest

import bbb
from bbb.errors import InputError, ShapeError
from bbb.networks import nn
from bbb.networks.nn import kinds
from tests.bad_input import (
    BATCH,
    KEY,
    MODEL,
    NAN,
    NETWORK,
    X,
    Y,
    assert_refused,
    not_above_0,
    wrong_applies,
    wrong_counts,
    wrong_keys,
    wrong_rows,
)


def nested(depth):
    """Describe layers in layers."""
    description = {"kind": "elementwise", "function": "relu"}
    for _ in range(depth):
        description = {"kind": "sequential", "layers": [description]}
    return description


KEYED = {
    "nn.linear: key of init": lambda key: nn.linear(1, 1).init(key),
    "nn.conv: key of init": lambda key: nn.conv(1, 1, 3).init(key),
    "nn.batch_norm: key of init": lambda key: nn.batch_norm(1).init(key),
    "nn.layer_norm: key of init": lambda key: nn.layer_norm(1).init(key),
    "nn.sequential: key of init": NETWORK.init,
    "nn.residual: key of init": lambda key: nn.residual(nn.linear(1, 1)).init(key),
}

ROWED = {
    "networks.standardize: x": lambda x: bbb.networks.standardize(MODEL.apply, x, Y),
    "networks.standardize: y": lambda y: bbb.networks.standardize(MODEL.apply, X, y),
}
"""Calls of an array with a row for each observation."""

ABOVE_0 = {
    "nn.batch_norm: eps": lambda eps: nn.batch_norm(1, eps=eps),
    "nn.layer_norm: eps": lambda eps: nn.layer_norm(1, eps=eps),
}

COUNTS = {
    "nn.linear: in_features": lambda n: nn.linear(n, 1),
    "nn.linear: out_features": lambda n: nn.linear(1, n),
    "nn.conv: in_channels": lambda n: nn.conv(n, 1, 3),
    "nn.conv: out_channels": lambda n: nn.conv(1, n, 3),
    "nn.conv: kernel_size": lambda n: nn.conv(1, 1, n),
    "nn.conv: stride": lambda n: nn.conv(1, 1, 3, stride=n),
    "nn.conv: dilation": lambda n: nn.conv(1, 1, 3, dilation=(1, n)),
    "nn.conv: groups": lambda n: nn.conv(1, 1, 3, groups=n),
    "nn.max_pool: kernel_size": nn.max_pool,
    "nn.max_pool: stride": lambda n: nn.max_pool(2, stride=n),
    "nn.avg_pool: kernel_size": nn.avg_pool,
    "nn.batch_norm: num_features": nn.batch_norm,
    "nn.layer_norm: shape": lambda n: nn.layer_norm((2, n)),
}

APPLIES = {"networks.standardize: apply": lambda apply: bbb.networks.standardize(apply, X, Y)}

CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **wrong_applies(APPLIES),
    "networks.standardize: a constant column": (
        lambda: bbb.networks.standardize(MODEL.apply, 0 * X, Y),
        InputError,
        r"x\[:, 0\] to vary",
    ),
    "networks.standardize: y of one axis": (
        lambda: bbb.networks.standardize(MODEL.apply, X, Y[:, 0]),
        ShapeError,
        r"\(rows, columns\)",
    ),
    "networks.standardize: a training mode": (
        lambda: bbb.networks.standardize(BATCH.apply.__self__, X, Y),
        InputError,
        "a network",
    ),
    "networks.standardize: numbers whose spread overflows": (
        lambda: bbb.networks.standardize(MODEL.apply, X * 1e300, Y),
        InputError,
        r"the standard deviation of x\[:, 0\] to be finite",
    ),
    "networks.standardize: other rows": (
        lambda: bbb.networks.standardize(MODEL.apply, X, Y[:5]),
        ShapeError,
        "the 6 rows of x",
    ),
    "nn.linear: another init": (lambda: nn.linear(1, 1, init="xavier"), InputError, 'init_by to be "he" or "torchbnn"'),
    "nn.linear: bias in words": (lambda: nn.linear(1, 1, bias="yes"), InputError, "bias to be a bool"),
    "nn.linear: x of other columns": (
        lambda: nn.linear(2, 1).apply(nn.linear(2, 1).init(KEY), jnp.ones((3, 5))),
        ShapeError,
        "linear takes x of shape",
    ),
    "nn.linear: parameters of nothing": (lambda: nn.linear(2, 1).apply({}, jnp.ones((3, 2))), ShapeError, "parameters"),
    "nn.conv: another init": (lambda: nn.conv(1, 1, 3, init="zeros"), InputError, "init_by to be"),
    "nn.conv: four dimensions": (lambda: nn.conv(1, 1, 3, dims=4), InputError, "dims to be 1, 2 or 3"),
    "nn.conv: padding in other words": (lambda: nn.conv(1, 1, 3, padding="full"), InputError, 'padding to be "same"'),
    "nn.conv: padding of -1": (lambda: nn.conv(1, 1, 3, padding=-1), InputError, "padding to be a whole number"),
    "nn.conv: padding of three": (lambda: nn.conv(1, 1, 3, padding=(1, 1, 1)), InputError, "padding to be a whole"),
    "nn.conv: same padding with a stride": (
        lambda: nn.conv(1, 1, 3, padding="same", stride=2),
        InputError,
        'stride 1 with padding="same"',
    ),
    "nn.conv: a kernel of three for two": (lambda: nn.conv(1, 1, (3, 3, 3)), InputError, "or 2 of them"),
    "nn.conv: groups that do not divide": (lambda: nn.conv(3, 3, 3, groups=2), InputError, "a multiple of the 2"),
    "nn.conv: another padding mode": (
        lambda: nn.conv(1, 1, 3, padding_mode="mirror"),
        InputError,
        "padding_mode to be",
    ),
    "nn.conv: a list for a padding mode": (lambda: nn.conv(1, 1, 3, padding_mode=["zeros"]), InputError, "padding_mod"),
    "nn.conv: x of other channels": (
        lambda: nn.conv(3, 1, 3).apply(nn.conv(3, 1, 3).init(KEY), jnp.ones((1, 2, 5, 5))),
        ShapeError,
        "conv takes x of shape",
    ),
    "nn.max_pool: padding of more than half": (lambda: nn.max_pool(2, padding=2), InputError, "at most half"),
    "nn.max_pool: x too small": (lambda: nn.max_pool(3).apply((), jnp.ones((1, 1, 2, 2))), ShapeError, "at least"),
    "nn.avg_pool: padding in words": (lambda: nn.avg_pool(2, padding="some"), InputError, "padding to be"),
    "nn.avg_pool: count_include_pad in words": (
        lambda: nn.avg_pool(2, count_include_pad="no"),
        InputError,
        "count_include_pad to be a bool",
    ),
    "nn.batch_norm: momentum of 2": (lambda: nn.batch_norm(1, momentum=2.0), InputError, "momentum to be at most 1"),
    "nn.batch_norm: affine in words": (lambda: nn.batch_norm(1, affine="no"), InputError, "affine to be a bool"),
    "nn.batch_norm: another init": (lambda: nn.batch_norm(1, init="he"), InputError, "init_by to be"),
    "nn.batch_norm: x of other channels": (
        lambda: nn.batch_norm(2).apply(nn.batch_norm(2).init(KEY), jnp.ones((3, 5))),
        ShapeError,
        "batch_norm takes x of shape",
    ),
    "nn.layer_norm: no axes": (lambda: nn.layer_norm(()), InputError, "normalized_shape"),
    "nn.layer_norm: bias in words": (lambda: nn.layer_norm(2, bias="no"), InputError, "bias to be a bool"),
    "nn.layer_norm: x of other features": (
        lambda: nn.layer_norm(2).apply(nn.layer_norm(2).init(KEY), jnp.ones((3, 5))),
        ShapeError,
        "layer_norm takes x of shape",
    ),
    "nn.dropout: a rate of 1": (lambda: nn.dropout(1.0), InputError, "rate to be below 1"),
    "nn.dropout: a rate of -1": (lambda: nn.dropout(-1.0), InputError, "rate to be one finite number"),
    "nn.dropout: a rate in words": (lambda: nn.dropout("half"), InputError, "rate to be real numbers"),
    "nn.sequential: no layers": (nn.sequential, InputError, "at least one layer"),
    "nn.sequential: a function": (lambda: nn.sequential(jnp.tanh), InputError, "every layer to come from bbb.nn"),
    "nn.sequential: a list": (lambda: nn.sequential([nn.relu]), InputError, "every layer to come from bbb.nn"),
    "nn.sequential: parameters of fewer layers": (
        lambda: NETWORK.apply(NETWORK.init(KEY)[:2], jnp.ones((3, 1))),
        ShapeError,
        "parameters of 3 layers",
    ),
    "nn.residual: no layers": (nn.residual, InputError, "at least one layer"),
    "nn.residual: another shape": (
        lambda: nn.residual(nn.linear(1, 2)).apply(nn.residual(nn.linear(1, 2)).init(KEY), jnp.ones((3, 1))),
        ShapeError,
        "cannot be added",
    ),
    "nn.affine: numbers of two lengths": (lambda: nn.affine([1.0], [1.0, 2.0]), ShapeError, "scale to have the 1"),
    "nn.affine: NaN": (lambda: nn.affine([NAN], [1.0]), InputError, "shift to be finite"),
    "nn.affine: words": (lambda: nn.affine("ab", "cd"), InputError, "shift to be real numbers"),
    "nn.affine: one number": (lambda: nn.affine(1.0, 2.0), ShapeError, "shift to be a list of numbers"),
    "nn.affine: nothing": (lambda: nn.affine(None, None), InputError, "shift to be real numbers"),
    "nn.affine: x of other features": (
        lambda: nn.affine([1.0], [1.0]).apply((), jnp.ones((3, 2))),
        ShapeError,
        "affine takes x of shape",
    ),
    "networks.nn.kinds.build: another kind": (
        lambda: kinds.build({"kind": "os.system"}),
        InputError,
        "the description of a bbb.nn layer",
    ),
    "networks.nn.kinds.build: a number": (lambda: kinds.build(3), InputError, "the description of a bbb.nn layer"),
    "networks.nn.kinds.build: nothing": (lambda: kinds.build(None), InputError, "the description of a bbb.nn layer"),
    "networks.nn.kinds.build: an option too many": (
        lambda: kinds.build({"kind": "relu", "inplace": True}),
        InputError,
        "the description of a bbb.nn layer",
    ),
    "networks.nn.kinds.build: another function": (
        lambda: kinds.build({"kind": "elementwise", "function": ["relu"]}),
        InputError,
        "function to be one of|description",
    ),
    "networks.nn.kinds.build: very deep": (
        lambda: kinds.build(nested(5000)),
        InputError,
        "the description of a bbb.nn layer",
    ),
    "networks.adapters.linen: no variables": (
        lambda: bbb.networks.adapters.linen(NETWORK, {}),
        InputError,
        'a collection "params"',
    ),
    "networks.adapters.linen: a list": (
        lambda: bbb.networks.adapters.linen(NETWORK, []),
        InputError,
        'a collection "params"',
    ),
    "networks.adapters.restore: another structure": (
        lambda: bbb.networks.adapters.restore(MODEL, {"w": 1.0}),
        ShapeError,
        "params to have the structure of the model",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
