"""What ArviZ reads: the groups, their dimensions, and the same draws that the library gives elsewhere."""

import sys

import jax
import numpy as np
import pytest

import bbb
from bbb.datatree import to_datatree

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(6, 2))


@pytest.fixture(scope="module")
def xarray():
    return pytest.importorskip("xarray")


@pytest.fixture(scope="module")
def model():
    network = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.relu, bbb.nn.linear(4, 3))
    likelihood = bbb.likelihood.Gaussian(0.5)
    return bbb.bayesianize(
        network.apply, network.init(jax.random.key(1)), prior=bbb.prior.Normal(), likelihood=likelihood, where="weight"
    )


def test_the_groups_have_arviz_dimensions(xarray, model):
    tree = to_datatree(KEY, model, X, np.zeros((6, 3)), draws=5)
    groups = ["posterior", "posterior_predictive", "constant_data", "observed_data", "log_likelihood"]
    assert list(tree.children) == groups
    assert list(tree["posterior"].data_vars) == ["0.weight", "2.weight"]
    assert tree["posterior"]["0.weight"].dims == ("chain", "draw", "0.weight_dim_0", "0.weight_dim_1")
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "row", "output_0")
    assert tree["posterior_predictive"]["f"].shape == (1, 5, 6, 3)
    assert tree["constant_data"]["x"].dims == ("row", "x_dim_0")
    assert tree["observed_data"]["y"].dims == ("row", "output_0")
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "row")
    np.testing.assert_array_equal(tree["posterior"]["draw"], np.arange(5))


def test_without_observations_there_are_no_groups_of_them(xarray, model):
    assert list(to_datatree(KEY, model, X, draws=2).children) == ["posterior", "posterior_predictive", "constant_data"]


def test_draws_are_those_of_the_library_and_weights_belong_to_them(xarray, model):
    y = np.ones((6, 3))
    tree = to_datatree(KEY, model, X, y, draws=5)
    f = bbb.draws(KEY, model, X, draws=5)
    np.testing.assert_array_equal(tree["posterior_predictive"]["f"][0], f)
    params = jax.tree.map(np.asarray, model.posterior.mean)
    for i in (0, 2):
        params[i]["weight"] = tree["posterior"][f"{i}.weight"].values[0, 3]
    np.testing.assert_allclose(model.apply(params, X.astype("float32")), f[3], rtol=1e-5, atol=1e-6)
    nats = model.likelihood.log_prob(y.astype("float32"), f[3])
    np.testing.assert_allclose(tree["log_likelihood"]["y"][0, 3], nats, rtol=1e-5)


def test_new_observations_spread_around_the_function_as_the_noise_does(xarray, model):
    tree = to_datatree(KEY, model, X, draws=2000)["posterior_predictive"]
    noise = (tree["y"] - tree["f"]).values.ravel()  # of one number each: their dimensions are the same
    assert noise.size == 2000 * 6 * 3
    assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(noise.size)
    assert abs(noise.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * noise.size)


def test_classes_are_exported_too(xarray):
    network = bbb.nn.linear(2, 4)
    params = network.init(KEY)
    model = bbb.bayesianize(network.apply, params, prior=bbb.prior.Normal(), likelihood=bbb.likelihood.Categorical())
    tree = to_datatree(KEY, model, X, np.array([0, 1, 2, 3, 0, 1]), draws=3)
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "row")
    assert set(np.unique(tree["posterior_predictive"]["y"])) <= {0, 1, 2, 3}
    assert tree["posterior_predictive"]["f"].dims == ("chain", "draw", "row", "f_dim_0")
    assert tree["log_likelihood"]["y"].shape == (1, 3, 6)


def test_arviz_summarises_it_as_its_own(xarray, model):
    arviz = pytest.importorskip("arviz_base")
    tree = to_datatree(KEY, model, X, draws=5)
    values = {name: tree["posterior"][name].values for name in tree["posterior"].data_vars}
    own = arviz.from_dict({"posterior": values})["posterior"]
    xarray.testing.assert_equal(own.to_dataset(), tree["posterior"].to_dataset())


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((0, X), bbb.KeyTypeError, "one typed JAX key"),
        ((KEY, X, np.zeros((5, 3))), bbb.ShapeError, "y to have the 6 rows of x"),
        ((KEY, X, np.zeros((6, 1))), bbb.ShapeError, "y to have the shape (6, 3)"),
        ((KEY, X * np.nan), bbb.NonFiniteInputError, "x to hold finite numbers only"),
    ],
)
def test_what_does_not_fit_is_refused(xarray, model, args, error, text):
    key, *data = args
    with pytest.raises(error) as caught:
        to_datatree(key, model, *data, draws=2)
    assert text in str(caught.value)


def test_leaves_of_one_name_are_refused(xarray):
    params = {"a": {"b": np.zeros((2, 1), "float32")}, "a.b": np.zeros((2, 1), "float32")}
    prior, likelihood = bbb.prior.Normal(), bbb.likelihood.Gaussian()
    model = bbb.bayesianize(lambda p, x: x @ p["a.b"], params, prior=prior, likelihood=likelihood)
    with pytest.raises(bbb.InputError, match=r"a name for every parameter, got 'a\.b' twice"):
        to_datatree(KEY, model, X, draws=2)


def test_without_xarray_the_error_says_what_to_install(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(bbb.InputError, match=r"the package xarray, got .* Run pip install"):
        to_datatree(KEY, model, X, draws=2)
