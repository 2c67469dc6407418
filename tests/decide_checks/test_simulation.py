"""Simulation-based calibration, with the published controls: exact, too narrow, too wide, off, and the prior itself.

Source of the controls: Talts et al. 2018, arXiv 1804.06788, §4; Modrák et al. 2023, arXiv 2211.02383, §3.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

import bbb
from bbb.decide.model_checks import at_prior, simulation_based_calibration
from bbb.decide.model_checks.simulation import uniformity
from bbb.errors import NonFiniteOutputError
from bbb.posteriors import Ensemble, Point
from tests.decide_checks.models import KEY, X_TRAIN, Exact

NAMES = ("f of row 0", "f of row 5", "f of row 9", "log_prob")


@pytest.fixture(scope="module")
def exact():
    return Exact()


def inferred(exact, scale=1.0):
    """Return the exact inference, or one of posteriors `scale` times as wide."""
    return lambda key, model, x, y: exact.given(y, scale)


def run(exact, infer, **options):
    return simulation_based_calibration(KEY, exact.model, X_TRAIN, infer, **{"simulations": 60, **options})


def test_the_exact_inference_is_calibrated(exact):
    found = run(exact, inferred(exact), simulations=200)
    assert found.names == NAMES
    assert found.pit.shape == (200, 4)
    assert np.min(found.p_values) > 0.05 / 4
    assert min(kstest(column, "uniform").pvalue for column in found.pit.T) > 0.01
    assert not found.problems
    assert "nothing: the inference is calibrated" in repr(found)


@pytest.mark.parametrize(("scale", "word"), [(0.5, "too narrow"), (2.0, "too wide")])
def test_a_posterior_of_the_wrong_width_is_named(exact, scale, word):
    found = run(exact, inferred(exact, scale))
    assert np.all(found.p_values < 0.05 / 4)
    assert all(word in problem for problem in found.problems)
    assert np.sign(found.components[0, 1]) == (1 if scale < 1 else -1)


def test_a_posterior_that_is_off_is_named(exact):
    shift = np.array([[1.0], [0.5]], np.float32)

    def infer(key, model, x, y):
        return exact.given(y + x @ shift)

    found = run(exact, infer)
    for row, name in ((0, NAMES[0]), (5, NAMES[1]), (9, NAMES[2])):
        side = "too high: the truth lies below" if (X_TRAIN[row] @ shift)[0] > 0 else "too low: the truth lies above"
        assert any(f"Posteriors of {name} are {side}" in problem for problem in found.problems)


def test_the_prior_passes_by_the_function_and_is_found_by_the_likelihood(exact):
    found = run(exact, lambda key, model, x, y: at_prior(model))
    assert np.min(found.p_values[:3]) > 0.05 / 4
    assert found.p_values[3] < 1e-20
    assert "The truth fits the data better than posterior draws do" in found.problems[0]


def test_an_inference_that_depends_on_the_key_and_holds_its_draws_is_thinned(exact):
    def infer(key, model, x, y):
        one = exact.given(y)
        weights = jax.vmap(lambda i: bbb.posteriors.sample(jax.random.fold_in(key, i), one.posterior))(jnp.arange(60))
        return bbb.BNN(model.apply, Ensemble(Point(weights, None)), model.prior, model.likelihood)

    found = run(exact, infer, draws=30, simulations=30)
    assert not found.problems


def test_simulations_do_not_depend_on_how_many_there_are(exact):
    some, more = (run(exact, inferred(exact), simulations=n, draws=20).pit for n in (20, 25))
    np.testing.assert_array_equal(some, more[:20])


def test_quantities_of_ones_own_are_ranked(exact):
    found = run(
        exact, inferred(exact), simulations=20, draws=20, quantities={"residual": lambda y, f: jnp.sum((y - f) ** 2)}
    )
    assert found.names == ("residual",)


def test_a_quantity_that_is_not_a_number_is_named(exact):
    with pytest.raises(NonFiniteOutputError, match="the quantity 'bad' to be finite"):
        run(
            exact,
            inferred(exact),
            simulations=20,
            draws=20,
            quantities={"bad": lambda y, f: jnp.sum(f) / jnp.sum(0 * y)},
        )


def test_the_test_of_uniformity_keeps_its_level_and_sees_each_fault():
    u = np.random.default_rng(0).uniform(size=(50, 4000))
    components = uniformity(u)
    np.testing.assert_allclose(components.mean(axis=0), 0, atol=4.5 / np.sqrt(4000))
    np.testing.assert_allclose(components.var(axis=0), 1, atol=4.5 * np.sqrt(2 / 4000))
    assert uniformity(u[:, :1] / 2 + 0.5)[0, 0] > 4  # all high
    assert uniformity(np.where(u[:, :1] < 0.5, u[:, :1] / 4, 1 - u[:, :1] / 4))[0, 1] > 4  # both ends
