"""Importance weights of posteriors that are right, near and wrong, and rows left out, against closed forms."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.decide.model_checks import loo, psis
from bbb.decide.model_checks.pareto import smoothed
from bbb.errors import InputError
from bbb.posteriors import Ensemble, Point
from tests.decide_checks.models import KEY, X_TRAIN, Exact, X, data_sets, gap_model
from tests.truth.conjugate import NOISE_STD, problem

pytest.importorskip("arviz_stats", reason="needs arviz-stats, of the extra arviz")

ALL = data_sets(1)[0]
Y = ALL[:10]
DRAWS = 1_000


@pytest.fixture(scope="module")
def exact():
    found = Exact()
    return found.given(Y)


def scaled(model, factor):
    return dataclasses.replace(model, posterior=model.posterior.scaled(factor))


def log_evidence():
    covariance = NOISE_STD**2 * np.eye(10) + X_TRAIN @ X_TRAIN.T
    square = Y[:, 0] @ np.linalg.solve(covariance, Y[:, 0])
    return -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + square)


def elpd(x, y):
    """Return log p(y_i | the other rows) of each row, in closed form."""
    found = []
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        p = problem(x[others].astype(float), y[others].astype(float))
        variance = x[i] @ p.covariance @ x[i] + NOISE_STD**2
        square = (y[i, 0] - x[i] @ p.mean) ** 2 / variance
        found.append(-0.5 * (np.log(2 * np.pi * variance) + square))
    return np.array(found)


def test_the_exact_posterior_has_equal_weights_and_the_evidence(exact):
    found = psis(KEY, exact, X_TRAIN, Y, draws=DRAWS)
    assert found.k_hat < 0.5
    np.testing.assert_allclose(found.log_weights, -np.log(DRAWS), atol=1e-3)
    assert found.ess == pytest.approx(DRAWS, rel=1e-4)
    assert found.log_evidence == pytest.approx(log_evidence(), abs=1e-4)
    assert not found.problems
    assert "near the true one" in repr(found)


def test_a_wider_posterior_is_usable_and_the_weights_correct_it(exact):
    found = psis(KEY, scaled(exact, 1.3), X_TRAIN, Y, draws=DRAWS)
    assert found.k_hat < 0.5
    assert found.ess < 0.95 * DRAWS
    assert found.log_evidence == pytest.approx(log_evidence(), abs=0.1)
    assert np.exp(found.log_weights).sum() == pytest.approx(1, rel=1e-9)


def test_a_posterior_that_is_wrong_on_purpose_is_told(exact):
    found = psis(KEY, scaled(exact, 0.2), X_TRAIN, Y, draws=DRAWS)
    assert found.k_hat > 0.7
    assert "the posterior is far from the true one" in found.problems[0]
    assert "audit" in repr(found)


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_rows_left_out_are_predicted_as_in_closed_form(dtype, scale):
    every = Exact(X.astype(dtype))
    model = every.given(ALL, scale)
    found = loo(KEY, model, X, ALL, draws=4_000)
    assert np.max(found.k_hat) < 0.7
    np.testing.assert_allclose(found.pointwise, elpd(X, ALL), atol=0.1)  # by chance, of 4,000 draws
    assert found.elpd == pytest.approx(elpd(X, ALL).sum(), abs=0.15)
    assert found.se == pytest.approx(np.sqrt(20) * np.std(found.pointwise, ddof=1))
    assert 0 < found.p_loo < 3  # of two weights
    assert not found.problems


def test_rows_of_a_wrong_posterior_are_told(exact):
    found = loo(KEY, scaled(exact, 0.2), X_TRAIN, Y, draws=DRAWS)
    assert np.max(found.k_hat) > 0.7
    assert "the posterior is far" in found.problems[0]
    assert "of 10 rows, the worst row" in found.problems[1]


def test_an_outlier_is_a_row_that_is_not_known():
    x, y = np.ones((6, 1), np.float32), np.zeros((6, 1), np.float32)
    x[0], y[0] = 30.0, 30.0  # far from all others, it decides the slope alone
    exact = Exact(x)
    found = loo(KEY, exact.given(y), x, y, draws=DRAWS)
    assert int(np.argmax(found.k_hat)) == 0
    assert found.k_hat[0] > 0.7
    assert len(found.problems) == 1
    assert "1 of 6 rows, the worst row 0" in found.problems[0]


def test_draws_that_are_held_need_no_weights(exact):
    weights = jax.vmap(lambda i: bbb.posteriors.sample(jax.random.fold_in(KEY, i), exact.posterior))(jnp.arange(DRAWS))
    held = dataclasses.replace(exact, posterior=Ensemble(Point(weights, None)))
    found = loo(KEY, held, X_TRAIN, Y, draws=DRAWS)
    same = loo(KEY, exact, X_TRAIN, Y, draws=DRAWS)
    np.testing.assert_allclose(found.pointwise, same.pointwise, atol=2e-3)
    with pytest.raises(InputError, match="a posterior with a density, for psis, got draws"):
        psis(KEY, held, X_TRAIN, Y)


def test_a_mixture_of_one_posterior_twice_is_that_posterior(exact):
    twice = Ensemble(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), exact.posterior))
    found = psis(KEY, dataclasses.replace(exact, posterior=twice), X_TRAIN, Y, draws=DRAWS)
    assert found.log_evidence == pytest.approx(log_evidence(), abs=1e-4)


def test_numbers_do_not_depend_on_blocks_or_memory(exact, monkeypatch):
    whole = loo(KEY, scaled(exact, 1.3), X_TRAIN, Y, draws=DRAWS)
    monkeypatch.setattr("bbb.decide.model_checks.importance.ROWS", 4)  # three blocks, the last of them padded
    for memory in ("512MB", "1MB"):
        found = loo(KEY, scaled(exact, 1.3), X_TRAIN, Y, draws=DRAWS, memory=memory)
        np.testing.assert_allclose(found.pointwise, whole.pointwise, atol=1e-5)
        np.testing.assert_allclose(found.k_hat, whole.k_hat, atol=1e-3)


def test_the_linearised_network_has_an_exact_posterior_by_laplace():
    model, x, y = gap_model()
    found = psis(KEY, bbb.laplace(KEY, model, x, y), x, y, draws=DRAWS)
    assert found.k_hat > 0.7  # its mean is not yet a mode
    assert found.draws == DRAWS


def test_empirical_scales_count_as_they_are(exact):
    empirical = dataclasses.replace(exact, prior=bbb.priors.EmpiricalNormal())
    held = dataclasses.replace(exact, prior=empirical.prior.fitted(exact.posterior.marginals()))
    one, other = (psis(KEY, model, X_TRAIN, Y, draws=DRAWS).log_evidence for model in (empirical, held))
    assert one == other


def test_smoothing_is_of_each_row_and_sums_to_1():
    ratios = np.random.default_rng(0).normal(size=(4, 500)) * np.array([[0.0], [1.0], [10.0], [1.0]])
    ratios[3] = np.minimum(ratios[3], 0.5)  # whose largest are alike
    logs, k_hat = smoothed(ratios)
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1)
    assert k_hat[0] == k_hat[3] == 0
    assert k_hat[1] < 0.7 < k_hat[2]


def test_without_arviz_it_says_what_to_install(exact, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_stats.base", None)
    with pytest.raises(InputError, match=r"the package arviz-stats, got an environment without it. Run pip install"):
        psis(KEY, exact, X_TRAIN, Y)
