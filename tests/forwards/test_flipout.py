"""Flipout: one draw of the weights, turned by signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.core.jit import jit
from bbb.forwards import rowwise
from bbb.forwards.rowwise import flipout
from bbb.forwards.values import NoiseRequest

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
    one, other = rowwise._random_signs(KEY, [NoiseRequest(False, shape, dtype), NoiseRequest(False, shape, dtype)])
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

    def draws(forward):  # key by key: under vmap the convolution would have 5,000 groups, and take most of a minute
        return np.float64(jax.jit(lambda keys: jax.lax.map(lambda key: forward(key, q, x), keys))(keys))

    ours, exact = draws(flipout(apply)), draws(bbb.forwards.weight_sampling(apply))
    assert {route.each_row for route in bbb.forwards.explain(apply, q, x, flipout)} == {"exact"}
    squares = [np.square(found - found.mean(0)) for found in (ours, exact)]
    for a, b in ((ours, exact), squares):
        assert np.max(np.abs(a.mean(0) - b.mean(0)) / np.sqrt((a.var(0) + b.var(0)) / len(keys))) < 5


def test_explain_says_which_weights_are_exact_approximate_or_shared():
    def merged(p, x):
        return jnp.mean((x.reshape(-1, 2) @ p["w"]).reshape(-1, 9, 2), axis=1) * p["gain"][None]

    def meeting(p, x):
        return merged(p, x - jnp.mean(x, axis=0, keepdims=True))

    q, x = bbb.MeanField.around({"w": jnp.ones((2, 2)), "gain": jnp.ones(2)}, 0.3), jnp.ones((5, 9, 2))
    size = "approximate: the std of a sum over its 9 positions may be too small by a factor of up to √9"
    assert [route.each_row for route in bbb.forwards.explain(merged, q, x, flipout)] == ["exact", "exact"]
    assert [route.each_row for route in bbb.forwards.explain(meeting, q, x, flipout)] == ["shared", size]
    assert [route.each_row for route in bbb.forwards.explain(merged, q, x, bbb.forwards.local_reparam)] == [
        "shared",
        size,
    ]
    w, x = {"w": q.mean["w"]}, jnp.ones((5, 9, 2))
    q = bbb.MeanField.around(w, 0.3)
    assert [r.each_row for r in bbb.forwards.explain(turned_about, q, x, bbb.forwards.local_reparam)] == [size]
    assert [
        r.each_row for r in bbb.forwards.explain(lambda p, x: x @ p["w"], q, x[:, 0], bbb.forwards.local_reparam)
    ] == ["exact"]
    assert [r.each_row for r in bbb.forwards.explain(turned_about, q, x, bbb.forwards.weight_sampling)] == ["shared"]


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_places_share_signs_for_any_number_of_rows(rows):
    # of one row too, and of as many as it has places; rows that vmap hides are found as well
    q, x = bbb.MeanField.around({"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, 0.3), jnp.ones((rows, 9, 2))
    for apply in (per_time, lambda p, x: jax.vmap(lambda row: jnp.mean(row @ p["w"] + p["b"][None], axis=0))(x)):
        shapes = [leaf.shape for leaf in jax.eval_shape(flipout(apply).noise, KEY, q, x)]
        assert {np.prod(shape) for shape in shapes[:1]} == {rows * 2}
        assert {route.each_row for route in bbb.forwards.explain(apply, q, x, flipout)} == {"exact"}


# --- a weight in a scan, twice, or in a function of it ----------------------------------------------------------------


def recurrent(p, x):
    def step(h, z):
        return jnp.tanh(z @ p["w"] + h @ p["v"] + p["b"][None]), None

    return jax.lax.scan(step, jnp.zeros((x.shape[0], 3), x.dtype), x.transpose(1, 0, 2))[0] @ p["o"]


def lstm(p, x):
    def step(state, z):
        h, c = state
        i, f, g, o = jnp.split(z @ p["w4"] + h @ p["v4"] + p["b4"][None], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[0], 3), x.dtype)
    return jnp.mean(jax.lax.scan(step, (start, start), x.transpose(1, 0, 2))[1], axis=0)


def gru_of_rows(p, x):
    """A row at a time, as equinox has it."""

    def step(h, z):
        u, r = jnp.split(jax.nn.sigmoid(jnp.concatenate([z, h]) @ p["gates"]), 2)
        return u * h + (1 - u) * jnp.tanh(jnp.concatenate([z, r * h]) @ p["new"]), None

    return jax.vmap(lambda row: jax.lax.scan(step, jnp.zeros(3, x.dtype), row)[0])(x)


def low_rank(p, x):
    return jnp.mean(x, axis=1) @ (p["a"] @ p["c"])


def tied(p, x):
    return jnp.tanh(x[:, 0] @ p["w"]) @ p["w"].T + p["w"][0, 0]


def stacked(p, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x[:, 0], p["layers"])[0]


def embedded(p, x):
    words = p["table"][jnp.int32(jnp.clip(jnp.abs(3 * x[..., 0]), 0, 4))]
    return jnp.tanh(jnp.mean(words, axis=1)) @ p["table"].T


def chosen(p, x):
    return jnp.mean(p["table"][jnp.int32(jnp.clip(jnp.abs(3 * x[..., 0]), 0, 4))], axis=1)


def twice_convolved(p, x):
    dims = ("NHC", "HIO", "NHC")

    def layer(h):
        return jnp.tanh(jax.lax.conv_general_dilated(h, p["kernel"], (1,), "SAME", dimension_numbers=dims))

    return jnp.mean(layer(layer(x)), axis=1)


def normalised(p, x):
    h = jax.nn.standardize(x @ p["w"], axis=-1) * p["b"][None, None] + p["b"][None, None]
    return jnp.mean(jax.nn.gelu(h.reshape(-1, 3) @ p["v"]).reshape(-1, 4, 3), axis=1)


def branching(p, x):
    h = jax.lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ p["square"]), x[:, 0])
    return jax.lax.cond(p["switch"] > 0, lambda h: h @ p["square"], lambda h: h, h)


def recomputed(p, x):
    return jax.checkpoint(lambda w: jnp.tanh(x[:, 0] @ w) @ w.T)(p["w"])


def of_columns(p, x):
    """Look up each column in a table of its own, as an embedding of several categories does."""
    places = jnp.argsort(jnp.abs(x[:, :2, :]), axis=1)[:, 0]  # (rows, 2), whole numbers
    found = jax.vmap(lambda table, i: table[i], in_axes=(0, 1), out_axes=1)(p["tables"], places)
    return found.reshape(x.shape[0], 4)


KINDS = [lstm, gru_of_rows, low_rank, tied, stacked, embedded, chosen, twice_convolved, normalised]
KINDS += [branching, recomputed, of_columns]
SHAPES = {"w": (2, 3), "v": (3, 3), "b": (3,), "o": (3, 2), "w4": (2, 12), "v4": (3, 12), "b4": (12,)}
SHAPES |= {"gates": (5, 6), "new": (5, 3), "a": (2, 1), "c": (1, 3), "layers": (2, 2, 2), "table": (5, 3)}
SHAPES |= {"kernel": (3, 2, 2), "square": (2, 2), "switch": (), "tables": (2, 2, 2)}


def of_rows(apply, dtype, rows=5, std=0.4):
    """Return a posterior with the leaves that a network reads, and x."""
    rng = np.random.default_rng(4)
    read = set(apply.__code__.co_consts)
    for inner in (c for c in apply.__code__.co_consts if hasattr(c, "co_consts")):
        read |= set(inner.co_consts)
    params = {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in SHAPES.items() if name in read}
    return bbb.MeanField.around(params, std), jnp.asarray(rng.normal(size=(rows, 4, 2)) + 0.3, dtype)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("apply", KINDS)
def test_a_row_sees_one_draw_of_every_weight_at_all_its_places_and_steps(apply, dtype):
    # what is drawn is (ε, s, r) of each weight, and row i is the network itself with the weights mean + std·ε∘sᵢ∘rᵢ
    q, x = of_rows(apply, dtype)
    forward, order = flipout(apply), []
    forward.follow(q, x, lambda leaf, *_: order.append(leaf))
    noise = jax.jit(forward.noise)(KEY, q, x)
    names = [sorted(q.mean)[leaf] for leaf in dict.fromkeys(order)]
    triples = dict(zip(names, zip(noise[::3], noise[1::3], noise[2::3], strict=True), strict=True))
    assert {route.each_row for route in bbb.forwards.explain(apply, q, x, flipout)} == {"exact"}

    def one(row, signs):
        drawn = {n: q.mean[n] + 0.4 * (triples[n][0] * signs[n][0] * signs[n][1]).reshape(SHAPES[n]) for n in q.mean}
        return apply(drawn, row[None])[0]

    signs = {name: (s, r) for name, (_, s, r) in triples.items()}
    expected = jax.jit(jax.vmap(one))(x, signs)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(jax.jit(forward.evaluate)(noise, q, x), expected, rtol=tolerance, atol=tolerance)
    assert np.ptp(np.concatenate([np.reshape(s * r, -1) for s, r in signs.values()])) == 2  # signs differ


@pytest.mark.parametrize("apply", [recurrent, low_rank])
def test_costs_and_gradients_vary_less_than_with_a_shared_draw(apply):
    q, x = of_rows(apply, "float32", rows=32, std=0.1)
    y = apply(jax.tree.map(lambda leaf: leaf + jnp.flip(leaf) / 2, q.mean), x)  # as before training

    def variances(forward):
        def cost(q, key):
            return jnp.mean(jnp.square(forward(apply)(key, q, x) - y))

        costs, slopes = jax.jit(jax.vmap(jax.value_and_grad(cost), in_axes=(None, 0)))(q, jax.random.split(KEY, 500))
        return np.var(costs), sum(np.sum(np.var(leaf, axis=0)) for leaf in jax.tree.leaves(slopes))

    (cost, slope), (shared_cost, shared_slope) = variances(flipout), variances(bbb.forwards.weight_sampling)
    assert cost < 0.8 * shared_cost
    assert slope < 0.5 * shared_slope


def test_weights_met_by_products_have_no_copy_for_each_row():
    # 1,000 rows and a recurrent weight of 200 × 200: copies would be 40 million numbers
    def wide(p, x):
        return jax.lax.scan(lambda h, z: (jnp.tanh(z + h @ p["v"]), None), x[:, 0], x.transpose(1, 0, 2))[0]

    q, x = bbb.MeanField.around({"v": jnp.zeros((200, 200))}, 0.1), jnp.ones((1000, 2, 200))
    program = jax.make_jaxpr(lambda key: flipout(wide)(key, q, x))(KEY)
    assert "1000,200,200" not in str(program)


def test_rows_that_meet_or_know_their_place_are_not_run_one_by_one():
    def meeting(p, x):
        return jnp.tanh(x @ p["w"]) @ p["w"].T - jnp.mean(x, axis=0, keepdims=True)

    def placed(p, x):
        return jnp.tanh(x @ p["w"]) @ p["w"].T + jnp.arange(x.shape[0], dtype=x.dtype)[:, None]

    def counted(p, x):
        return jnp.tanh(x @ p["w"]) @ p["w"].T / x.shape[0]

    def dropping(p, x):
        kept = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
        return jnp.tanh(jnp.where(kept, x, 0) @ p["w"]) @ p["w"].T

    q, x = bbb.MeanField.around({"w": jnp.ones((2, 3))}, 1e-9), jnp.asarray(RNG.normal(size=(4, 2)), "float32")
    for apply in (meeting, placed, counted, dropping):
        assert [route.each_row for route in bbb.forwards.explain(apply, q, x, flipout)] == ["shared"]
        np.testing.assert_allclose(jax.jit(flipout(apply))(KEY, q, x), apply(q.mean, x), rtol=1e-5, atol=1e-6)
