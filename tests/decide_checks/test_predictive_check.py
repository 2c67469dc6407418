"""Posterior predictive checks: uniform p-values under truth, and what they find."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

import bbb
from bbb import likelihoods
from bbb.decide.model_checks import at_prior, posterior_predictive_check
from bbb.decide.model_checks.predictive_check import ranks
from bbb.errors import NonFiniteOutputError
from bbb.posteriors import Ensemble, Point
from tests.decide_checks.models import KEY, X_TEST, X_TRAIN, Exact, data_sets

SETS = 150
NAMES = ("mean", "std", "max", "log_prob", "autocorrelation", "slope")


def slopes(x):
    """Return the statistics of rows x, with one that the weights are fitted to."""
    return [*NAMES[:-1], functools.partial(slope, x=tuple(x[:, 0].tolist()))]


def slope(y, f, x):
    return y[:, 0] @ jnp.asarray(x, y.dtype)


@pytest.fixture(scope="module")
def exact():
    return Exact()


@pytest.fixture(scope="module")
def sets():
    return data_sets(SETS)


def p_values(exact, sets, held_out, on_test, scale=1.0):
    """Return the p-values of all data sets, (sets, statistics)."""
    found, statistics = [], (slopes(X_TRAIN), slopes(X_TEST))
    for s, every in enumerate(sets):
        model = exact.given(every[:10], scale)
        x, y = (X_TEST, every[10:]) if on_test else (X_TRAIN, every[:10])
        how = {"held_out": held_out, "draws": 100, "statistics": statistics[on_test]}
        found.append(posterior_predictive_check(jax.random.fold_in(KEY, s), model, x, y, **how).p_values)
    return np.stack(found)


@pytest.mark.parametrize("held_out", [True, False])
def test_p_values_are_uniform_under_truth(exact, sets, held_out):
    p = p_values(exact, sets, held_out, on_test=held_out)
    assert min(kstest(column, "uniform").pvalue for column in p.T) > 0.01 / len(NAMES)


def test_the_usual_check_uses_the_data_twice_and_is_not_uniform(exact, sets):
    p = p_values(exact, sets, held_out=True, on_test=False)  # draws of all weights, on the rows of the training
    assert kstest(p[:, NAMES.index("slope")], "uniform").pvalue < 1e-6
    assert np.mean(p[:, NAMES.index("slope")] < 0.1) < 0.03  # where 0.1 is promised


def test_a_posterior_that_is_too_narrow_is_found_by_rows_held_out(exact, sets):
    p = p_values(exact, sets, held_out=True, on_test=True, scale=0.1)
    assert kstest(p[:, NAMES.index("mean")], "uniform").pvalue < 1e-3


def test_ranks_are_uniform_with_ties_and_without():
    assert kstest(ranks(KEY, np.zeros(2000), np.zeros((9, 2000))), "uniform").pvalue > 0.01
    np.testing.assert_allclose(ranks(KEY, np.array([5.0, -5.0]), np.zeros((999, 2))), [0.0005, 0.9995], atol=0.0006)


def test_heavy_tails_and_trends_are_named(exact, sets):
    y = sets[0][10:].copy()
    y[3] += 8
    model = exact.given(sets[0][:10])
    found = posterior_predictive_check(KEY, model, X_TEST, y, held_out=True, draws=300)
    assert found.names == ("mean", "std", "min", "max", "log_prob")
    assert any("The observed max is higher" in problem and "StudentT" in problem for problem in found.problems)
    assert "p < 0.0066" in repr(found)
    good = posterior_predictive_check(KEY, model, X_TEST, sets[0][10:], held_out=True, draws=300)
    assert not good.problems
    assert "nothing: the data look like" in repr(good)


def test_a_function_of_ones_own_sees_y_and_the_outputs(exact, sets):
    model = exact.given(sets[0][:10])
    given = {"range": lambda y, f: jnp.max(y) - jnp.min(y), "residual": lambda y, f: jnp.sum((y - f) ** 2)}
    found = posterior_predictive_check(KEY, model, X_TEST, sets[0][10:], held_out=True, draws=100, statistics=given)
    assert found.names == ("range", "residual")
    assert found.observed[0] == pytest.approx(np.ptp(sets[0][10:]), rel=1e-6)
    again = posterior_predictive_check(KEY, model, X_TEST, sets[0][10:], held_out=True, draws=100, statistics=given)
    np.testing.assert_array_equal(found.replicated, again.replicated)


def test_a_statistic_that_is_not_a_number_is_named(exact, sets):
    def ratio(y, f):
        return jnp.sum(y) / jnp.sum(0 * y)

    with pytest.raises(NonFiniteOutputError, match="the statistic 'ratio' to be finite"):
        posterior_predictive_check(
            KEY, exact.model, X_TRAIN, sets[0][:10], held_out=True, draws=100, statistics=[ratio]
        )


def linear(likelihood, outputs=1):
    layer = bbb.nn.linear(2, outputs)
    return bbb.bayesianize(layer.apply, layer.init(KEY), prior=bbb.priors.Normal(0.0, 0.5), likelihood=likelihood)


KINDS = {
    "counts": (likelihoods.Poisson(), 1, ("mean", "std", "zeros", "max", "log_prob")),
    "classes": (likelihoods.Categorical(), 3, ("shares", "log_prob")),
    "labels": (likelihoods.Bernoulli(), 1, ("shares", "log_prob")),
    "noise of rows": (likelihoods.HeteroscedasticGaussian(), 2, ("mean", "std", "min", "max", "log_prob")),
}


@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_observations_has_statistics(kind, held_out):
    likelihood, outputs, names = KINDS[kind]
    model = at_prior(linear(likelihood, outputs))
    f = bbb.draws(jax.random.key(9), model, X_TEST, draws=1)
    y = np.asarray(bbb.mixture.sample_y(KEY, likelihood, f))[0]
    found = posterior_predictive_check(KEY, model, X_TEST, y, held_out=held_out, draws=100)
    assert found.names == names
    assert found.replicated.shape == (100, len(names))
    assert np.all((found.p_values > 0) & (found.p_values <= 1))


@pytest.mark.parametrize("held_out", [True, False])
def test_ensembles_and_draws_that_are_held(exact, sets, held_out):
    model = exact.given(sets[0][:10])
    two = Ensemble(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), model.posterior))
    points = Ensemble(Point(jnp.zeros((50, 2, 1)), None))
    for posterior, draws in ((two, 200), (points, 50 if held_out else 200)):
        several = dataclasses.replace(model, posterior=posterior)
        found = posterior_predictive_check(KEY, several, X_TEST, sets[0][10:], held_out=held_out, draws=200)
        assert found.replicated.shape == (draws, 5)


def test_numbers_do_not_depend_on_the_memory(exact, sets):
    model = exact.given(sets[0][:10])
    much, little = (
        posterior_predictive_check(KEY, model, X_TEST, sets[0][10:], held_out=True, draws=100, memory=memory)
        for memory in ("1GB", "1MB")
    )
    np.testing.assert_array_equal(much.replicated, little.replicated)
