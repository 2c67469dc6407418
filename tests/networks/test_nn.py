"""Layers: shapes, arithmetic as NumPy does it, initialisation, and descriptions that build the same layer."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import bbb
from bbb.networks import nn
from bbb.networks.nn import kinds

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3)).astype("float32")

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x * scipy.special.ndtr(x),  # the exact one, as torch's
    "softplus": lambda x: np.logaddexp(x, 0),
}


def test_linear_is_the_product_and_the_bias():
    layer = nn.linear(3, 4)
    params = layer.init(KEY)
    assert {name: leaf.shape for name, leaf in params.items()} == {"weight": (4, 3), "bias": (4,)}
    expected = X @ np.asarray(params["weight"]).T + np.asarray(params["bias"])
    np.testing.assert_allclose(layer.apply(params, X), expected, rtol=1e-5, atol=1e-6)


def test_linear_takes_any_leading_axes():
    layer = nn.linear(3, 4)
    params = layer.init(KEY)
    x = RNG.normal(size=(2, 6, 5, 3)).astype("float32")
    out = layer.apply(params, x)
    assert out.shape == (2, 6, 5, 4)
    np.testing.assert_allclose(out[1, 2], layer.apply(params, x[1, 2]), rtol=1e-5, atol=1e-6)
    assert layer.apply(params, x[0, 0, 0]).shape == (4,)


def test_linear_without_bias_has_none():
    layer = nn.linear(3, 4, bias=False)
    params = layer.init(KEY)
    assert list(params) == ["weight"]
    np.testing.assert_allclose(layer.apply(params, X), X @ np.asarray(params["weight"]).T, rtol=1e-5, atol=1e-6)


def test_rows_and_columns_are_one_map_transposed():
    layer = nn.linear(3, 4)
    params = layer.init(KEY)
    np.testing.assert_allclose(layer.apply(params, X), layer.apply_columns(params, X.T).T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_numpy(name):
    layer = getattr(nn, name)
    assert layer.init(KEY) == ()
    wide = np.linspace(-5, 5, 101, dtype="float32")[:, None]
    np.testing.assert_allclose(layer.apply((), wide), FUNCTIONS[name](np.float64(wide)), rtol=1e-4, atol=1e-6)


def test_sequential_is_its_layers_one_after_the_other():
    layers = nn.linear(3, 6), nn.tanh, nn.linear(6, 2), nn.softplus
    network = nn.sequential(*layers)
    params = network.init(KEY)
    x = X
    for layer, part in zip(layers, params, strict=True):
        x = layer.apply(part, x)
    assert network.apply(params, X).shape == (5, 2)
    np.testing.assert_allclose(network.apply(params, X), x, rtol=1e-5, atol=1e-6)


def test_sequentials_may_be_nested():
    inner = nn.sequential(nn.linear(3, 6), nn.relu)
    network = nn.sequential(inner, nn.linear(6, 2))
    params = network.init(KEY)
    expected = nn.linear(6, 2).apply(params[1], inner.apply(params[0], X))
    np.testing.assert_allclose(network.apply(params, X), expected, rtol=1e-5, atol=1e-6)


def test_every_layer_starts_from_its_own_key():
    params = nn.sequential(nn.linear(3, 3), nn.linear(3, 3)).init(KEY)
    assert (params[0]["weight"] != params[1]["weight"]).all()


def test_the_start_of_torchbnn_is_uniform_within_1_over_root_in(dtype):
    params = nn.linear(16, 2000, init="torchbnn").init(KEY)
    for leaf in (params["weight"], params["bias"]):
        assert leaf.dtype == dtype
        sample = np.float64(leaf).ravel() * 4.0  # now U(−1, 1)
        assert 1 - 20 / sample.size < np.abs(sample).max() <= 1.0
        assert abs(sample.mean()) < 5 / np.sqrt(3 * sample.size)
        assert abs((sample**2).mean() - 1 / 3) < 5 * np.sqrt((1 / 5 - 1 / 9) / sample.size)


def test_he_starts_with_variance_2_over_in_and_biases_within_1_over_root_in(dtype):
    params = nn.linear(16, 2000).init(KEY)
    weight, bias = np.float64(params["weight"]).ravel(), np.float64(params["bias"])
    assert params["weight"].dtype == dtype
    assert abs(weight.mean()) < 5 * np.sqrt(2 / 16 / weight.size)
    assert abs((weight**2).mean() / (2 / 16) - 1) < 5 * np.sqrt(2 / weight.size)
    assert np.abs(bias).max() <= 0.25
    assert abs((bias**2).mean() - 0.25**2 / 3) < 5 * 0.25**2 * np.sqrt((1 / 5 - 1 / 9) / bias.size)


def test_he_never_starts_at_infinity():
    # A uniform number that is exactly −1, one in 2²³ of float32's, would become −∞: this draws it three times over.
    weight = nn.linear(1000, 25_000, bias=False).init(jax.random.key(1))["weight"]
    assert np.isfinite(np.asarray(weight)).all()


def test_affine_standardises_and_undoes_it():
    data = RNG.normal(size=(50, 3)) * [1.0, 10.0, 0.1] + [5.0, -3.0, 0.0]
    data = data.astype("float32")
    mean, std = data.mean(0), data.std(0)
    there, back = nn.affine(-mean, 1 / std), nn.affine(mean / std, std)
    standard = there.apply((), data)
    np.testing.assert_allclose(standard.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(standard.std(0), 1.0, rtol=1e-4)
    np.testing.assert_allclose(back.apply((), standard), data, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(nn.sequential(there, back).apply(((), ()), data), data, rtol=1e-4, atol=1e-4)


def test_affine_has_no_parameters_and_keeps_the_dtype(dtype):
    layer = nn.affine([1.0], [2.0])
    assert layer.init(KEY) == ()
    out = layer.apply((), jnp.ones((4, 1), dtype))
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, 4.0)


LAYERS = {
    "linear": nn.linear(3, 4),
    "linear without bias": nn.linear(3, 4, bias=False, init="torchbnn"),
    **{name: getattr(nn, name) for name in FUNCTIONS},
    "affine": nn.affine(np.array([0.1, -2.0], "float32"), (1 / 3, 1e-30)),
    "sequential": nn.sequential(nn.affine([1.0], [2.0]), nn.linear(1, 2), nn.sequential(nn.relu, nn.linear(2, 1))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_description_builds_the_same_layer_also_through_json(name):
    layer = LAYERS[name]
    assert kinds.build(layer.describe()) == layer
    assert kinds.build(json.loads(json.dumps(layer.describe()))) == layer


@pytest.mark.parametrize(
    "description",
    [{}, {"kind": "conv9"}, {"kind": "linear"}, {"kind": "linear", "in_features": 0, "out_features": 1}, None, 3, "x"],
)
def test_what_describes_no_layer_is_refused(description):
    with pytest.raises(bbb.errors.InputError, match=r"Expected the description of a bbb\.nn layer"):
        kinds.build(description)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.linear(0, 1), bbb.errors.InputError, "in_features to be a whole number of at least 1"),
        (lambda: nn.linear(1, 2.0), bbb.errors.InputError, "out_features to be a whole number of at least 1"),
        (lambda: nn.linear(1, 1, init="xavier"), bbb.errors.InputError, '"he" or "torchbnn", got \'xavier\''),
        (nn.sequential, bbb.errors.InputError, "at least one layer"),
        (lambda: nn.sequential(jnp.tanh), bbb.errors.InputError, "every layer to come from bbb.nn"),
        (lambda: nn.Elementwise("sin"), bbb.errors.InputError, "one of relu, tanh, gelu, softplus, got 'sin'"),
        (lambda: nn.affine([1.0], [1.0, 2.0]), bbb.errors.ShapeError, "scale to have the 1 numbers of shift"),
        (lambda: nn.affine([np.nan], [1.0]), bbb.errors.InputError, "shift to be finite"),
        (lambda: nn.linear(1, 1).init(0), bbb.errors.KeyTypeError, "one typed JAX key, got int 0"),
        (lambda: nn.sequential(nn.relu).init(0), bbb.errors.KeyTypeError, "one typed JAX key, got int 0"),
    ],
)
def test_layers_that_make_no_sense_are_refused(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)
