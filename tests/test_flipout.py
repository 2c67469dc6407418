"""Flipout: one draw of the weights, turned by signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import forward as forward_module
from bbb._compile import jit
from bbb._rules import Order
from bbb.forward import flipout

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
DIMS = ("NHWC", "HWIO", "NHWC")


def dense(params, x):
    return x @ params["w"] + params["b"][None]


def conv(params, x):
    images = jax.lax.conv_general_dilated(x, params["k"], (1, 1), "SAME", dimension_numbers=DIMS)
    return images + params["b"][None, None, None]


def test_a_dense_layer_is_the_papers_formula(dtype):
    # x·μ + ((x∘s)·(σ∘ε))∘r, and for the bias, as the weight of a constant input, m + σ·ε·s·r
    w, b, x = (jnp.asarray(RNG.normal(size=shape), dtype) for shape in ((3, 4), (4,), (5, 3)))
    q = bbb.MeanField.around({"w": w, "b": b}, {"w": 0.3, "b": 0.2})
    noise = jit(flipout(dense).noise)(KEY, q, x)
    s, eps, r, sign, bias_eps = noise
    assert [leaf.shape for leaf in noise] == [(5, 3), (3, 4), (5, 4), (1, 1), (1, 4)]
    assert all(leaf.dtype == dtype for leaf in noise)
    expected = x @ w + ((x * s) @ (0.3 * eps)) * r + b[None] + 0.2 * bias_eps * sign * r
    np.testing.assert_allclose(jit(flipout(dense).evaluate)(noise, q, x), expected, rtol=1e-4, atol=1e-5)


def test_all_places_of_an_image_see_the_same_weights():
    q = bbb.MeanField.around({"k": jnp.ones((3, 3, 2, 4)), "b": jnp.ones(4)}, 0.3)
    x = np.tile(RNG.normal(size=(5, 1, 1, 2)).astype("float32"), (1, 6, 6, 1))
    outputs = jax.jit(flipout(conv))(KEY, q, x)
    inside = outputs[:, 1:-1, 1:-1]
    np.testing.assert_allclose(inside, np.broadcast_to(inside[:, :1, :1], inside.shape), rtol=1e-4, atol=1e-5)
    assert np.min(np.std(inside[:, 0, 0] - conv(q.mean, x)[:, 1, 1], axis=0)) > 0  # and another image others


def test_the_weights_noise_is_drawn_once_for_all_rows():
    # with one input and one output there are two signs at most: all rows are the mean ± one number
    q = bbb.MeanField.around({"w": jnp.ones((1, 1))}, 0.3)
    outputs = jit(flipout(lambda p, x: x @ p["w"]))(KEY, q, jnp.ones((50, 1)))
    assert len(np.unique(np.round(np.abs(outputs - 1), 5))) == 1
    assert len(np.unique(np.round(outputs, 5))) == 2


def test_each_time_of_a_sequence_has_signs_of_its_own():
    q = bbb.MeanField.around({"w": jnp.ones((3, 4))}, 0.3)
    noise = jax.eval_shape(flipout(lambda p, x: x @ p["w"]).noise, KEY, q, jnp.ones((5, 7, 3)))
    assert [leaf.shape for leaf in noise] == [(5, 7, 3), (3, 4), (5, 7, 4)]


@pytest.mark.parametrize("shape", [(), (7,), (1000, 33)])
def test_signs_are_minus_or_plus_one(shape, dtype):
    one, other = forward_module._random_signs(KEY, [Order(False, shape, dtype), Order(False, shape, dtype)])
    assert one.shape == shape
    assert one.dtype == dtype
    assert set(np.unique(one)) <= {-1, 1}
    if np.size(one) > 1000:
        for signs in (one, other, one * other, one[:, :-1] * one[:, 1:], one[:-1] * one[1:]):
            assert abs(np.mean(signs)) < 5 / np.sqrt(signs.size)
