"""What became of each weight, why and where."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.forwards.explanation import Route, explain
from bbb.forwards.rowwise import flipout, local_reparam
from bbb.forwards.sampling import weight_sampling

X = np.ones((4, 3), "float32")
NAMES = ("bias", "gain", "layers", "table", "tied", "tower", "unused", "weight")
SHAPES = {"gain": (3,), "layers": (2, 3, 3), "table": (5, 3), "tied": (3, 3), "tower": (3, 3), "weight": (3, 3)}
PARAMS = {name: jnp.ones(SHAPES.get(name, (3,))) for name in NAMES}


def network(params, x):
    x = x * params["gain"][None]
    x = x @ params["weight"] + params["bias"][None]
    x = x + params["table"][jnp.int32(x[:, 0] > 0)]
    x = jax.lax.scan(lambda h, w: (h @ w, None), x, params["layers"])[0]
    x = jnp.tanh(x @ params["tied"]) @ params["tied"].T
    return x @ (jnp.eye(3) @ params["tower"])


def posterior():
    return bbb.MeanField.around(PARAMS, 0.1)


def test_it_says_which_weight_took_which_route_and_why():
    found = explain(network, posterior(), X, local_reparam)
    assert [(route.leaf, route.route, route.reason) for route in found] == [
        ("bias", "local", "is added to a product of data and a weight"),
        ("gain", "shared draw", "is used by mul"),
        ("layers", "shared draw", "is used inside scan"),
        ("table", "shared draw", "is used by gather"),
        ("tied", "shared draw", "is used more than once"),
        ("tower", "shared draw", "multiplies what does not depend on x"),
        ("unused", "unused", "the outputs do not depend on it"),
        ("weight", "local", "multiplies data in dot_general"),
    ]
    lines = {route.leaf: route.line for route in found}
    assert "test_explain.py:" in lines["weight"]
    assert "(network)" in lines["layers"]
    assert lines["tied"] == ""


def test_flipout_turns_every_weight_and_says_of_which_a_row_has_a_copy():
    found = explain(network, posterior(), X, flipout)
    assert [(route.leaf, route.route, route.reason) for route in found] == [
        ("bias", "flipout", "is used by add, once for each row"),
        ("gain", "flipout", "is used by mul, once for each row"),
        ("layers", "flipout", "is used inside scan"),
        ("table", "flipout", "is used by gather"),
        ("tied", "flipout", "is used more than once"),
        ("tower", "flipout", "is multiplied in dot_general"),
        ("unused", "unused", "the outputs do not depend on it"),
        ("weight", "flipout", "is multiplied in dot_general"),
    ]
    assert {route.each_row for route in found if route.route == "flipout"} == {"exact"}
    lines = {route.leaf: route.line for route in found}
    assert "test_explain.py:" in lines["weight"]
    assert "(network)" in lines["layers"]


def test_where_rows_meet_flipout_shares_what_it_does_not_follow():
    def meeting(params, x):
        return jnp.tanh(x @ params["weight"]) * params["gain"][None] - jnp.mean(x, axis=0, keepdims=True)

    found = {route.leaf: route for route in explain(meeting, posterior(), X, flipout)}
    assert (found["weight"].route, found["weight"].each_row) == ("flipout", "exact")
    assert (found["gain"].route, found["gain"].each_row) == ("shared draw", "shared")


def test_point_estimates_are_named():
    q = posterior()
    q = bbb.MeanField(q.mean, q.log_std | {"weight": None, "unused": None})
    for forward in (weight_sampling, local_reparam):
        found = {route.leaf: route for route in explain(network, q, X, forward)}
        assert found["weight"] == Route("weight", "point estimate", "has no standard deviation")
        assert found["unused"].route == "point estimate"
    assert found["bias"].route == "shared draw"  # added to a product that has no noise


def test_weight_sampling_shares_every_draw():
    assert {route.route for route in explain(network, posterior(), X, weight_sampling)} == {"shared draw"}


def test_its_text_is_an_aligned_table():
    lines = str(explain(network, posterior(), X)).splitlines()
    assert lines[0].split() == ["leaf", "route", "reason", "line", "each", "row"]
    assert len(lines) == 1 + len(NAMES)
    assert {line.index(word) for line, word in zip(lines, ["route", "local", "shared"], strict=False)} == {8}


def test_nothing_is_computed():
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (posterior(), X))
    assert explain(network, *abstract) == explain(network, posterior(), X)


def test_a_network_that_is_not_pure_is_refused():
    counter = itertools.count()
    rng = np.random.default_rng(0)
    for impure in (
        lambda p, x: x @ p["weight"] * float(next(counter)),
        lambda p, x: x @ p["weight"] + rng.normal(size=(1, 3)).astype("f4"),
        lambda p, x: jnp.tanh(x @ p["weight"]) if next(counter) % 2 else x @ p["weight"],
    ):
        with pytest.raises(
            bbb.errors.InputError, match=r"a pure function apply\(params, x\), got a different function"
        ):
            explain(impure, posterior(), X)


def test_a_forward_of_another_kind_is_refused():
    with pytest.raises(bbb.errors.InputError, match="Expected a forward of bbb, got a function"):
        explain(network, posterior(), X, lambda apply: apply)
