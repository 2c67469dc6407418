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


def test_all_times_of_a_sequence_share_the_signs_of_their_row():
    q = bbb.MeanField.around({"w": jnp.ones((3, 4))}, 0.3)
    noise = jax.eval_shape(flipout(lambda p, x: x @ p["w"]).noise, KEY, q, jnp.ones((5, 7, 3)))
    assert [leaf.shape for leaf in noise] == [(5, 1, 3), (3, 4), (5, 1, 4)]


@pytest.mark.parametrize("shape", [(), (7,), (1000, 33)])
def test_signs_are_minus_or_plus_one(shape, dtype):
    one, other = forward_module._random_signs(KEY, [Order(False, shape, dtype), Order(False, shape, dtype)])
    assert one.shape == shape
    assert one.dtype == dtype
    assert set(np.unique(one)) <= {-1, 1}
    if np.size(one) > 1000:
        for signs in (one, other, one * other, one[:, :-1] * one[:, 1:], one[:-1] * one[1:]):
            assert abs(np.mean(signs)) < 5 / np.sqrt(signs.size)


def per_time(p, x):
    return jnp.mean(x @ p["w"] + p["b"][None, None], axis=1)


def gelu_on_places(p, x):
    return jnp.mean(jax.nn.gelu(x @ p["w"] + p["b"][None, None]), axis=1)


def turned_about(p, x):
    """Times first, rows inside."""
    return jnp.mean(jnp.einsum("trf,fo->otr", x.transpose(1, 0, 2), p["w"]), axis=1).T


def convolved(p, x):
    dims = ("NHC", "HIO", "NHC")
    return jnp.mean(jax.lax.conv_general_dilated(x, p["w"][None], (1,), "SAME", dimension_numbers=dims), axis=1)


def attention(p, x):
    q, k, v = (x @ p[name] for name in ("q", "k", "w"))
    weights = jax.nn.softmax(jnp.einsum("rsf,rtf->rst", q, k), axis=-1)
    return jnp.mean(jnp.einsum("rst,rtf->rsf", weights, v), axis=1)


def stepped(p, x):
    """A scan over times of what a dense layer makes of each."""
    steps = (x @ p["w"]).transpose(1, 0, 2)
    return jax.lax.scan(lambda h, z: (jnp.tanh(0.5 * h + z), None), jnp.zeros_like(steps[0]), steps)[0]


SHARED = [per_time, gelu_on_places, turned_about, convolved, attention, stepped]


@pytest.mark.parametrize("apply", SHARED)
def test_rows_whose_places_share_a_weight_are_distributed_as_under_weight_sampling(apply, dtype):
    rng = np.random.default_rng(4)
    names = ("w", "q", "k") if apply is attention else ("w", "b") if apply in (per_time, gelu_on_places) else ("w",)
    q = bbb.MeanField.around({n: jnp.asarray(rng.normal(size=(2,) if n == "b" else (2, 2)), dtype) for n in names}, 0.4)
    x = jnp.asarray(rng.normal(size=(3, 9, 2)) + 0.5, dtype)
    keys = jax.random.split(KEY, 5_000)

    def draws(forward):
        return np.float64(jax.jit(jax.vmap(lambda key: forward(key, q, x)))(keys))

    ours, exact = draws(flipout(apply)), draws(bbb.weight_sampling(apply))
    assert {route.each_row for route in bbb.explain(apply, q, x, flipout)} == {"exact"}
    squares = [np.square(found - found.mean(0)) for found in (ours, exact)]
    for a, b in ((ours, exact), squares):
        assert np.max(np.abs(a.mean(0) - b.mean(0)) / np.sqrt((a.var(0) + b.var(0)) / len(keys))) < 5


def test_explain_says_which_weights_are_exact_approximate_or_shared():
    def merged(p, x):
        return jnp.mean((x.reshape(-1, 2) @ p["w"]).reshape(5, 9, 2), axis=1) * p["gain"][None]

    q, x = bbb.MeanField.around({"w": jnp.ones((2, 2)), "gain": jnp.ones(2)}, 0.3), jnp.ones((5, 9, 2))
    size = "approximate: a sum of its 9 places may spread as little as 1/√9"
    assert [route.each_row for route in bbb.explain(merged, q, x, flipout)] == ["shared", size]
    w, x = {"w": q.mean["w"]}, jnp.ones((5, 9, 2))
    q = bbb.MeanField.around(w, 0.3)
    assert [r.each_row for r in bbb.explain(turned_about, q, x, bbb.local_reparam)] == [size]
    assert [r.each_row for r in bbb.explain(lambda p, x: x @ p["w"], q, x[:, 0], bbb.local_reparam)] == ["exact"]
    assert [r.each_row for r in bbb.explain(turned_about, q, x, bbb.weight_sampling)] == ["shared"]


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_places_share_signs_for_any_number_of_rows(rows):
    # of one row too, and of as many as it has places; rows that vmap hides are found as well
    q, x = bbb.MeanField.around({"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, 0.3), jnp.ones((rows, 9, 2))
    for apply in (per_time, lambda p, x: jax.vmap(lambda row: jnp.mean(row @ p["w"] + p["b"][None], axis=0))(x)):
        shapes = [leaf.shape for leaf in jax.eval_shape(flipout(apply).noise, KEY, q, x)]
        assert {np.prod(shape) for shape in shapes[:1]} == {rows * 2}
        assert {route.each_row for route in bbb.explain(apply, q, x, flipout)} == {"exact"}
