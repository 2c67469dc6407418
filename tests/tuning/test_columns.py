"""Which leaves multiply the columns of x, along which axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.tuning.columns import column_axes

ROW = jax.ShapeDtypeStruct((1, 3), jnp.float32)
NN = bbb.nn.sequential(bbb.nn.linear(3, 5), bbb.nn.gelu, bbb.nn.linear(5, 3), bbb.nn.tanh, bbb.nn.linear(3, 1))


def axes_of(apply, params, row=ROW):
    found = column_axes(apply, params, row)
    return dict(zip(bbb.core.tree.names(params), found, strict=True))


def plain(**shapes):
    return {name: jnp.ones(shape, jnp.float32) for name, shape in shapes.items()}


def test_of_dense_layers_the_first_weight_alone():
    found = axes_of(NN.apply, NN.init(jax.random.key(0)))
    assert {name for name, axis in found.items() if axis is not None} == {"0/weight"}
    assert found["0/weight"] == 1


@pytest.mark.parametrize(
    ("apply", "axes"),
    [
        (lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], {"a": 0, "b": None}),
        (lambda p, x: jnp.tanh((x - 1) * jnp.arange(1.0, 4.0)[None] @ p["a"]) @ p["b"], {"a": 0, "b": None}),
        (lambda p, x: jax.jit(jnp.matmul)(x, p["a"]) @ p["b"], {"a": 0, "b": None}),
        (lambda p, x: (p["a"].T @ x.T).T @ p["b"], {"a": 0, "b": None}),
        (lambda p, x: jnp.tanh(x) @ p["a"] @ p["b"], {"a": None, "b": None}),  # no column of its own scale
        (lambda p, x: (x + x[:, ::-1]) @ p["a"] @ p["b"], {"a": None, "b": None}),
        (lambda p, x: (x * p["a"][:, 0][None]) @ p["a"] @ p["b"], {"a": None, "b": None}),
        (lambda p, x: x @ p["a"] @ p["b"] + x @ p["a"][:, :1], {"a": 0, "b": None}),
    ],
)
def test_what_is_done_with_x_before(apply, axes):
    params = plain(a=(3, 4), b=(4, 1))
    assert axes_of(apply, params) == axes


def test_standardising_layers_are_followed_through():
    mean = np.arange(3.0)
    network = bbb.nn.sequential(bbb.nn.affine(-mean, 1 / (1 + mean)), bbb.nn.linear(3, 2))
    assert axes_of(network.apply, network.init(jax.random.key(0)))["1/weight"] == 1


def test_rows_that_are_no_lists_of_columns_have_none():
    params = plain(a=(6, 2))
    row = jax.ShapeDtypeStruct((1, 2, 3), jnp.float32)
    assert axes_of(lambda p, x: x.reshape(1, -1) @ p["a"], params, row) == {"a": None}
