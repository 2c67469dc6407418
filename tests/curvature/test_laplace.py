"""Laplace posteriors against exact Bayesian linear regression, and dense algebra."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.curvature import structures
from bbb.posteriors import FullRank, LowRankPrecision
from tests import compilations
from tests.curvature.models import CASES, KEY, covariance_of, ensemble_of, linear, mlp, precision_of

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


@pytest.mark.parametrize(("rows", "kind"), [(12, FullRank), (3, LowRankPrecision)])
@pytest.mark.parametrize("batch_size", [None, 1, 5])
def test_of_a_linear_network_it_is_the_exact_posterior_in_either_space(rows, kind, batch_size):
    with jax.enable_x64(True):
        model, x, y, covariance, _ = linear(rows)
        made = bbb.laplace(KEY, model, x, y, batch_size=batch_size)
        assert type(made.posterior) is kind
        np.testing.assert_allclose(covariance_of(made.posterior), covariance, **CLOSE)
        jax.tree.map(np.testing.assert_array_equal, made.posterior.params, model.posterior.params)
        made.posterior.validate()
        assert (made.apply, made.prior, made.likelihood) == (model.apply, model.prior, model.likelihood)
        elsewhere = dataclasses.replace(
            model, posterior=model.posterior.with_params({"b": jnp.ones(2), "w": x[:3, :2]})
        )
        moved = bbb.laplace(KEY, elsewhere, x, y)
        np.testing.assert_allclose(covariance_of(moved.posterior), covariance, **CLOSE)


@pytest.mark.parametrize("rows", [40, 5])
@pytest.mark.parametrize("kind", CASES)
def test_of_a_network_it_is_the_gauss_newton_of_dense_algebra(kind, rows):
    with jax.enable_x64(True):
        model, x, y = mlp(kind, rows)
        precision = precision_of(model, x)
        made = bbb.laplace(KEY, model, x, y).posterior
        outputs = CASES[kind][1]
        assert type(made) is (FullRank if len(precision) <= rows * outputs else LowRankPrecision)
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision), **CLOSE)
        alone = bbb.laplace(KEY, model, x, y, structure="diag").posterior
        assert type(alone) is bbb.MeanField
        stds = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(alone.std)])
        np.testing.assert_allclose(stds, np.diag(precision) ** -0.5, **CLOSE)


def test_weights_and_rows_say_the_same_of_the_same_data():
    """The Gauss-Newton is the same where rows are repeated with as much more noise, and only the space changes."""
    with jax.enable_x64(True):
        model, x, y = mlp("Gaussian", 7)
        wide = bbb.likelihoods.Gaussian(0.3 * 4**0.5)
        many = dataclasses.replace(model, likelihood=wide)
        few = bbb.laplace(KEY, model, x, y).posterior
        more = bbb.laplace(KEY, many, np.repeat(x, 4, 0), np.repeat(y, 4, 0)).posterior
        assert (type(few), type(more)) == (LowRankPrecision, FullRank)
        np.testing.assert_allclose(covariance_of(few), covariance_of(more), **CLOSE)
        np.testing.assert_allclose(few.entropy(), more.entropy(), rtol=1e-10)


def test_only_random_leaves_have_a_part_in_it():
    with jax.enable_x64(True):
        model, x, y = mlp(where="*/weight")
        made = bbb.laplace(KEY, model, x, y).posterior
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), **CLOSE)
        alone = bbb.laplace(KEY, model, x, y, structure="diag").posterior
        for posterior in (made, alone):
            assert posterior.random_leaves(posterior.params)[0]["bias"] is None


@pytest.mark.parametrize(("rows", "kind"), [(23, FullRank), (4, LowRankPrecision)])
def test_the_last_layer_is_found_and_the_rest_are_points(rows, kind):
    with jax.enable_x64(True):
        model, x, y = mlp(rows=rows)
        made = bbb.laplace(KEY, model, x, y, structure="last_layer").posterior
        assert type(made) is kind
        random = made.random_leaves(made.params)
        assert jax.tree.leaves(random[0]) == []
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x, random)), **CLOSE)


def test_each_member_of_an_ensemble_gets_its_own():
    with jax.enable_x64(True):
        model, x, y = mlp()
        several = ensemble_of(model)
        for structure in ("full", "diag", "last_layer"):
            made = bbb.laplace(KEY, several, x, y, structure=structure)
            assert made.members == 2
            for k in range(2):
                one = bbb.laplace(KEY, several.member(k), x, y, structure=structure).posterior
                np.testing.assert_allclose(covariance_of(made.posterior[k]), covariance_of(one), **CLOSE)


@pytest.mark.parametrize("structure", ["full", "diag", "last_layer"])
@pytest.mark.parametrize("rows", [40, 5])
def test_float32_agrees_with_float64(structure, rows):
    model, x, y = mlp(rows=rows, dtype="float32")
    short = bbb.laplace(KEY, model, x, y, structure=structure).posterior
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), model)
        exact = covariance_of(bbb.laplace(KEY, wide, x, y, structure=structure).posterior)
    np.testing.assert_allclose(covariance_of(short), exact, rtol=1e-3, atol=1e-5)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(short))


def test_in_float32_little_noise_beside_a_wide_prior_is_no_trouble():
    """A sum of squares of condition 1e12 has no Cholesky factor in float32; the triangle of its root has."""
    model, x, y = mlp(
        rows=200, dtype="float32", likelihood=bbb.likelihoods.Gaussian(1e-4), prior=bbb.priors.Normal(0, 10)
    )
    short = bbb.laplace(KEY, model, x, y).posterior
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), model)
        exact = bbb.laplace(KEY, wide, x, y).posterior
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.02), short.std, exact.std)


@pytest.mark.parametrize("structure", ["full", "last_layer"])
def test_in_float32_outputs_far_surer_than_their_prior_keep_their_spread(structure):
    """300 tanh units of one input are nearly collinear: the data divide the spread of f by a thousand and more."""
    network = bbb.nn.sequential(bbb.nn.linear(1, 300), bbb.nn.tanh, bbb.nn.linear(300, 1))
    x, grid = np.linspace(-2, 2, 150)[:, None], np.linspace(-2, 2, 40)[:, None]
    parts = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.05)}

    def std():
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), start)
        wide = bbb.laplace(KEY, bbb.bayesianize(network.apply, params, **parts), x, np.sin(x), structure=structure)
        return np.asarray(bbb.predict(KEY, wide, grid).f.std, float)

    start = jax.tree.map(lambda leaf: 3 * np.asarray(leaf), network.init(KEY))
    single = std()
    with jax.enable_x64(True):
        np.testing.assert_allclose(single, std(), rtol=0.02)


def smooth(rows):
    """Return a network of one input, whose rows have few directions, and data for it."""
    network = bbb.nn.sequential(bbb.nn.linear(1, 30), bbb.nn.tanh, bbb.nn.linear(30, 1))
    params = jax.tree.map(lambda leaf: leaf.astype(float), network.init(KEY))
    parts = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.1)}
    x = np.linspace(-1, 1, rows)[:, None]
    return bbb.bayesianize(network.apply, params, **parts), x, np.sin(3 * x)


def test_directions_that_say_no_more_than_rounding_are_left_out():
    """80 rows of one input of a smooth network have 32 directions at most, and the posterior is that of all rows."""
    with jax.enable_x64(True):
        model, x, y = smooth(80)
        made = bbb.laplace(KEY, model, x, y).posterior
        assert made.factor.shape == (32, 91)
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), rtol=1e-8, atol=1e-9)
        made.validate()
        few = bbb.laplace(KEY, model, x[:20], y[:20]).posterior
        assert len(few.factor) == 24  # never more than rows, with those that fill up a tile


@pytest.mark.parametrize(
    ("count", "kept"), [(0, 32), (1, 32), (32, 32), (33, 64), (64, 64), (65, 96), (128, 128), (129, 192), (294, 384)]
)
def test_numbers_of_directions_are_few(count, kept):
    widths = np.r_[np.linspace(50, 1, count), np.zeros(500 - count)].astype(np.float32)
    assert structures._rank(widths) == kept
    assert structures._rank(widths[: max(count, 1)]) == min(kept, max(count, 1))


def test_members_with_other_numbers_of_directions_are_one_ensemble():
    with jax.enable_x64(True):
        model, x, y = smooth(80)
        steep = jax.tree.map(lambda leaf: 3 * leaf, model.posterior.params)  # far from linear: more directions
        posteriors = [model.posterior.with_params(steep), model.posterior]
        members = bbb.posteriors.Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *posteriors))
        several = dataclasses.replace(model, posterior=members)
        alone = [bbb.laplace(KEY, several.member(k), x, y).posterior for k in range(2)]
        assert [len(one.factor) for one in alone] == [64, 32]
        made = bbb.laplace(KEY, several, x, y).posterior
        for k in range(2):
            np.testing.assert_allclose(covariance_of(made[k]), covariance_of(alone[k]), **CLOSE)


def test_it_and_its_predictions_compile_few_programs():
    """Each program that is compiled costs tens of milliseconds: no step of either is an operation of its own."""
    model, x, y = mlp(rows=37, hidden=12, dtype="float32")
    jax.block_until_ready(model.posterior)
    bbb.predict(KEY, dataclasses.replace(model, linearized=True), x[:2])  # what every program needs once
    with compilations.noted() as compiled:
        made = bbb.laplace(KEY, model, x, y)
        assert 1 <= len(compiled) <= 2  # the posterior, its leading directions
        compiled.clear()
        bbb.predict(KEY, made, x)
        assert 1 <= len(compiled) <= 2  # moments of f, and of y


def test_fitted_scales_of_an_empirical_prior_count():
    with jax.enable_x64(True):
        model, x, y = mlp(prior=bbb.priors.EmpiricalNormal())
        fixed = dataclasses.replace(model, prior=model.prior.fitted(model.posterior))
        made, same = (bbb.laplace(KEY, m, x, y).posterior for m in (model, fixed))
        jax.tree.map(np.testing.assert_array_equal, made, same)


def test_convolutions_and_several_axes_of_outputs():
    with jax.enable_x64(True):
        network = bbb.nn.sequential(bbb.nn.conv(1, 2, 3), bbb.nn.gelu)
        params = jax.tree.map(lambda leaf: leaf.astype(float), network.init(KEY))
        x = np.random.default_rng(0).normal(size=(4, 1, 5, 5))
        parts = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        model = bbb.bayesianize(network.apply, params, **parts)
        y = np.zeros(model.apply(params, jnp.asarray(x)).shape)
        made = bbb.laplace(KEY, model, x, y).posterior
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), **CLOSE)


def test_it_predicts_saves_and_loads(tmp_path):
    model, x, y = mlp(rows=5, dtype="float32")
    made = bbb.laplace(KEY, model, x, y)
    bbb.save(tmp_path / "model", made)
    loaded = bbb.load(tmp_path / "model")
    found = [bbb.predict(KEY, m, x, draws=16).y.std for m in (made, loaded)]
    np.testing.assert_array_equal(*found)
