"""Drift: noticed where y given x has changed, and not where the model knows that it does not know."""

import jax
import numpy as np
import pytest

import bbb
from bbb import likelihoods
from bbb.decide.continual import Drift, drift
from tests.decide_update.models import KEY, laplace, rows, trained

X = rows(1)[0]


def own_rows(key, model, x):
    """Return y that the model itself draws at x, of one draw of the weights."""
    weights, noise = jax.random.split(key)
    return np.asarray(model.likelihood.sample(noise, bbb.draws(weights, model, x, draws=1)))[0]


def test_rows_of_its_own_lie_where_it_expects_them():
    model = trained("MeanField")
    found = [
        drift(key, model, X, own_rows(jax.random.fold_in(key, 7), model, X), draws=200, replicates=40)
        for key in jax.random.split(KEY, 40)
    ]
    shares = np.array([one.share_below for one in found])
    assert abs(shares.mean() - 0.5) < 4 * 0.289 / np.sqrt(len(shares))  # uniform, if the sets are like the rows
    assert not any(one.deviations < -6 for one in found)


def test_a_shift_of_y_is_noticed_and_one_of_x_is_not():
    x, y = rows()
    model = laplace("full")
    assert not drift(KEY, model, x, y).noticed
    shifted = drift(KEY, model, x, y + 3.0)
    assert shifted.noticed
    assert str(shifted).startswith("drift: ")
    assert shifted.share_below == 1 / 101
    far = x + 30.0
    away = drift(KEY, model, far, own_rows(KEY, model, far))
    assert away.expected < drift(KEY, model, x, y).expected - 1
    assert not away.noticed


def test_tiles_and_their_size_change_nothing():
    model, (x, y) = trained("MeanField"), rows(3, 40)
    whole = drift(KEY, model, x, y, draws=40, replicates=5)
    parts = drift(KEY, model, x, y, draws=40, replicates=5, memory=60_000)
    assert np.allclose(whole.replicates, parts.replicates, rtol=1e-5)
    assert np.isclose(whole.log_score, parts.log_score, rtol=1e-5)
    assert np.isclose(whole.std_error, parts.std_error, rtol=1e-4)


def test_the_log_score_is_that_of_the_mixture():
    model, (x, y) = trained("MeanField"), rows(3)
    found = drift(KEY, model, x, y, draws=40, replicates=5)
    outputs = bbb.draws(jax.random.fold_in(KEY, 0), model, x, draws=40)
    scores = np.asarray(bbb.mixture.log_score(model.likelihood, outputs, y))
    assert np.isclose(found.log_score, scores.mean(), rtol=1e-5)
    assert np.isclose(found.std_error, scores.std(ddof=1) / np.sqrt(len(scores)), rtol=1e-5)


def test_weights_leave_rows_out():
    model, (x, y) = trained("MeanField"), rows(3)
    y = np.where(np.arange(len(y))[:, None] < 6, y, 1e3)
    weighted = drift(KEY, model, x, y, draws=40, replicates=5, sample_weight=np.arange(len(y)) < 6)
    assert weighted.log_score > -20
    assert weighted.rows == len(y)


def test_missing_targets_say_nothing_and_are_not_drawn():
    model, (x, y) = trained("MeanField"), rows(3)
    partly = bbb.bayesianize(
        model.apply,
        model.posterior.mean,
        prior=model.prior,
        likelihood=likelihoods.PartiallyObserved(likelihoods.Gaussian(0.1)),
        std=0.3,
    )
    y = np.where(np.arange(len(y))[:, None] < 6, y, np.nan)
    found = drift(KEY, partly, x, y, draws=40, replicates=5)
    half = drift(KEY, partly, x[:6], y[:6], draws=40, replicates=5)
    assert np.isclose(2 * found.log_score, half.log_score, rtol=1e-4)
    assert np.allclose(2 * found.replicates, half.replicates, rtol=1e-4)


@pytest.mark.parametrize(
    ("score", "said"), [(-9.0, "drift: "), (-1.0, "no drift: "), (7.0, "no drift, but "), (-1.5, "no drift: ")]
)
def test_words(score, said):
    own = np.array([-2.0, 0.0])
    assert str(Drift(score, 0.1, -1.0, 1.4, own, 3)).startswith(said)


def test_what_has_no_spread_is_said_so():
    certain = Drift(-3.0, 0.1, 0.0, 0.0, np.zeros(2), 3)
    assert certain.deviations == -np.inf
    assert certain.noticed
    assert Drift(0.0, 0.1, 0.0, 0.0, np.zeros(2), 3).deviations == 0
