"""The benchmark of the digits: its prior, its rows, and the choice of a gain."""

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks import digits

TINY = {"steps": 3, "gains": (1.0, 0.5), "halvings": 2, "rank": 2, "draws": 8}


def arrays():
    rows = digits.data()
    return {name: value[: 300 if "test" not in name else 40] for name, value in rows.items()}


def settings(kind):
    return {"kind": kind, "recipe": {**TINY, "widths": digits.QUICK_WIDTHS[kind]}}


def test_the_test_rows_are_those_that_follow_the_first_1400():
    rows = digits.data()
    assert rows["x"].shape == (1_400, 64)
    assert rows["test_x"].shape == (397, 64)
    assert (rows["x"].min(), rows["x"].max()) == (0, 1)


@pytest.mark.parametrize(("kind", "inputs"), [("mlp", [64, 960, 960]), ("conv", [9, 288, 1024, 940])])
def test_a_million_weights_whose_prior_falls_with_the_inputs(kind, inputs):
    params = jax.eval_shape(digits.network(kind, digits.WIDTHS[kind]).init, jax.random.key(0))
    assert 0.9e6 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 1.1e6
    stds = [layer for layer in digits.prior(params, 0.5).std if layer]
    assert [layer["weight"] for layer in stds] == pytest.approx([0.5 * (2 / n) ** 0.5 for n in inputs])
    assert all(layer["weight"] == layer["bias"] for layer in stds)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_gain_is_chosen_by_rows_held_out_and_never_by_those_scored(kind):
    given = arrays()
    mode = digits.run_trained(given, settings(kind), mean_field=False)()
    gains, scores = mode["tried"].T
    assert mode["gain"] == gains[np.argmax(scores)]
    weights = {name: value for name, value in mode.items() if name[:4] in ("part", "all_", "gain")}
    found = digits.run_laplace({**given, **weights}, settings(kind), structure="kron")()
    gains, scores = found["tried"].T
    assert found["gain"] == gains[np.argmax(scores)]
    assert gains[0] == 1
    other = {**given, "test_y": 9 - given["test_y"]}
    again = digits.run_laplace({**other, **weights}, settings(kind), structure="kron")()
    np.testing.assert_array_equal(found["probabilities"], again["probabilities"])
    np.testing.assert_allclose(found["probabilities"].sum(1), 1, rtol=1e-5)
