"""What ArviZ reads: the groups, their dimensions, and the same draws that the library gives elsewhere."""

import dataclasses
import sys

import jax
import numpy as np
import pytest

import bbb
from bbb.core.tree import is_none
from bbb.evaluate.datatree import to_datatree
from bbb.likelihoods.per_member import PerMember

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(6, 2))


@pytest.fixture(scope="module")
def xarray():
    return pytest.importorskip("xarray")


@pytest.fixture(scope="module")
def model():
    network = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.relu, bbb.nn.linear(4, 3))
    likelihood = bbb.likelihoods.Gaussian(0.5)
    return bbb.bayesianize(
        network.apply, network.init(jax.random.key(1)), prior=bbb.priors.Normal(), likelihood=likelihood, where="weight"
    )


def test_draws_that_are_held_are_one_chain(xarray, model):
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, leaf + 1, leaf + 2]), model.posterior.params)
    drawn = model.posterior.random_leaves(stacked)
    fixed = jax.tree.map(lambda leaf, whole: whole if leaf is None else None, drawn, stacked, is_leaf=is_none)
    held = dataclasses.replace(model, posterior=bbb.posteriors.Ensemble(bbb.posteriors.Point(drawn, fixed)))
    tree = to_datatree(KEY, held, X, draws=7)
    assert tree["posterior_predictive"]["f"].shape == (1, 3, 6, 3)
    np.testing.assert_array_equal(tree["posterior"]["0.weight"][0], drawn[0]["weight"])


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
    model = bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Categorical())
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
        ((0, X), bbb.errors.KeyTypeError, "one typed JAX key"),
        ((KEY, X, np.zeros((5, 3))), bbb.errors.ShapeError, "y to have the 6 rows of x"),
        ((KEY, X, np.zeros((6, 1))), bbb.errors.ShapeError, "y to have the shape (6, 3)"),
        ((KEY, X * np.nan), bbb.errors.NonFiniteInputError, "x to hold finite numbers only"),
    ],
)
def test_what_does_not_fit_is_refused(xarray, model, args, error, text):
    key, *data = args
    with pytest.raises(error) as caught:
        to_datatree(key, model, *data, draws=2)
    assert text in str(caught.value)


def test_leaves_of_one_name_are_refused(xarray):
    params = {"a": {"b": np.zeros((2, 1), "float32")}, "a.b": np.zeros((2, 1), "float32")}
    prior, likelihood = bbb.priors.Normal(), bbb.likelihoods.Gaussian()
    model = bbb.bayesianize(lambda p, x: x @ p["a.b"], params, prior=prior, likelihood=likelihood)
    with pytest.raises(bbb.errors.InputError, match=r"a name for every parameter, got 'a\.b' twice"):
        to_datatree(KEY, model, X, draws=2)


def test_without_xarray_the_error_says_what_to_install(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(bbb.errors.InputError, match=r"the package xarray, got .* Run pip install"):
        to_datatree(KEY, model, X, draws=2)


# --- ensembles: their members are chains -----------------------------------------------------------------------------


def ensemble_of(models):
    """Join models of one posterior each, with the noise that each learned, as `fit(..., restarts=K)` does."""
    posteriors, likelihoods = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
        for parts in zip(*((model.posterior, model.likelihood) for model in models), strict=True)
    )
    parts = {"posterior": bbb.posteriors.Ensemble(posteriors), "likelihood": PerMember(likelihoods)}
    return dataclasses.replace(models[0], **parts)


@pytest.fixture(scope="module")
def members():
    network = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.relu, bbb.nn.linear(4, 1))
    how = {"prior": bbb.priors.Normal(), "where": "weight"}
    return [
        bbb.bayesianize(
            network.apply, network.init(jax.random.key(k)), likelihood=bbb.likelihoods.Gaussian(0.1 + k), **how
        )
        for k in range(3)
    ]


@pytest.fixture(scope="module")
def chains(xarray, members):
    return to_datatree(KEY, ensemble_of(members), X, np.ones((6, 1)), draws=1_198)


def test_the_members_of_an_ensemble_are_chains(chains):
    assert chains["posterior"].sizes["chain"] == 3
    assert chains["posterior"].sizes["draw"] == 400  # 1,198 draws, rounded up to as many of each member
    assert chains["posterior"]["0.weight"].dims == ("chain", "draw", "0.weight_dim_0", "0.weight_dim_1")
    assert chains["posterior_predictive"]["f"].shape == (3, 400, 6, 1)
    assert chains["posterior_predictive"]["y"].dims == ("chain", "draw", "row", "output_0")
    assert chains["log_likelihood"]["y"].shape == (3, 400, 6)


def test_the_draws_of_a_chain_are_those_of_its_member(chains, members):
    f = bbb.draws(KEY, ensemble_of(members), X, draws=1_200)
    for k, member in enumerate(members):
        np.testing.assert_array_equal(chains["posterior_predictive"]["f"][k], f[k::3])
        params = jax.tree.map(np.asarray, member.posterior.mean)
        for i in (0, 2):
            params[i]["weight"] = chains["posterior"][f"{i}.weight"].values[k, 2]
        np.testing.assert_allclose(member.apply(params, X.astype("float32")), f[6 + k], rtol=1e-5, atol=1e-6)
        nats = member.likelihood.log_prob(np.ones((6, 1), "float32"), f[6 + k])
        np.testing.assert_allclose(chains["log_likelihood"]["y"][k, 2], nats, rtol=1e-5)


def test_each_chain_has_the_noise_of_its_member(chains):
    tree = chains["posterior_predictive"]
    for k in range(3):
        noise = (tree["y"] - tree["f"]).values[k].ravel()
        assert abs(noise.std() - (0.1 + k)) < 4 * (0.1 + k) / np.sqrt(2 * noise.size)


def test_members_that_share_what_was_not_learned_are_chains_too(chains, members):
    model = dataclasses.replace(ensemble_of(members), likelihood=members[0].likelihood)
    y = np.ones((6, 1), "float32")
    nats = to_datatree(KEY, model, X, y, draws=1_200)["log_likelihood"]["y"]
    f = chains["posterior_predictive"]["f"].values[2, 7]
    np.testing.assert_allclose(nats[2, 7], members[0].likelihood.log_prob(y, f), rtol=1e-5)


def test_what_does_not_fit_an_ensemble_is_refused(xarray, members):
    with pytest.raises(bbb.errors.ShapeError, match=r"y to have the shape \(6, 1\)"):
        to_datatree(KEY, ensemble_of(members), X, np.ones((6, 2)), draws=3)
