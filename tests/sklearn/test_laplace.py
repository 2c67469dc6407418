"""The estimators with a Laplace posterior."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris

import bbb
from bbb.inference import laplace
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision
from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor

QUICK = {"hidden_layer_sizes": (20,), "steps": 2_000, "draws": 200, "random_state": 0}


def lines(rows=80, seed=0):
    """Return rows in two clusters of the first column, and targets with noise of 0.2."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.7, 1.6, (rows, 2))
    x[:, 0] *= rng.choice([-1, 1], rows)
    return x, 2 * np.abs(x[:, 0]) + 2 * x[:, 1] + 0.2 * rng.normal(size=rows)


@pytest.fixture(scope="module")
def regressor():
    return BayesianMLPRegressor(**QUICK, posterior="laplace").fit(*lines())


def test_the_posterior_is_a_parameter_like_others(regressor):
    assert BayesianMLPRegressor().posterior == "laplace"
    assert BayesianMLPClassifier().posterior == "mean_field"
    assert clone(regressor).posterior == "laplace"
    assert clone(regressor).set_params(posterior="mean_field").get_params()["posterior"] == "mean_field"


def test_it_is_the_library_underneath(regressor):
    assert regressor.structure_ == "full"
    assert regressor.model_.linearized
    assert isinstance(regressor.model_.posterior, LowRankPrecision)
    X, y = lines()
    x = regressor.x_scaler_.transform(X)
    wide = bbb.laplace(regressor._key(0), regressor.model_, x, regressor.y_scaler_.transform(y[:, None]))
    std = bbb.predict(regressor._key(0), wide, x).f.std[:, 0] * regressor.y_scaler_.scale_
    np.testing.assert_allclose(regressor.predict(X, return_std=True, of="f")[1], std, rtol=1e-3)


def test_it_learns_the_line_and_its_noise(regressor):
    X, y = lines(400, seed=1)
    assert regressor.score(X, y) > 0.8
    assert 0.15 < float(regressor.noise_std_[0]) < 0.25  # it is 0.2
    lower, upper = regressor.predict_interval(X, coverage=0.9)
    assert 0.8 < np.mean((lower <= y) & (y <= upper)) < 0.99


def test_the_band_widens_between_the_rows(regressor):
    between = np.column_stack([np.linspace(-0.3, 0.3, 20), np.ones(20)])
    std = [regressor.predict(X, return_std=True, of="f")[1].mean() for X in (between, lines()[0])]
    assert std[0] > 2 * std[1]


def test_a_pickle_predicts_the_same(regressor):
    again, (X, _) = pickle.loads(pickle.dumps(regressor)), lines(20, seed=2)
    np.testing.assert_array_equal(again.predict(X, return_std=True)[1], regressor.predict(X, return_std=True)[1])
    assert again.sample_y(X, 3).shape == (20, 3)


def test_more_rows_narrow_it(regressor):
    model, (X, y) = copy.deepcopy(regressor), lines(100, seed=3)
    before, learned = model.predict(X, return_std=True, of="f")[1], copy.deepcopy(model._trained)
    model.partial_fit(X, y)
    assert model.structure_ == "full"
    assert model.model_.linearized
    assert model.n_samples_seen_ == 180
    assert model.model_.prior.std[0]["weight"].shape == learned.posterior.std[0]["weight"].shape
    assert np.median(model.predict(X, return_std=True, of="f")[1]) < np.median(before)
    assert model.score(*lines(400, seed=1)) > 0.8


def test_several_targets_have_noise_of_their_own():
    X, _ = lines()
    both = X * (100, 1) + np.random.default_rng(0).normal(size=X.shape) * (20, 0.1)
    model = BayesianMLPRegressor(**QUICK, posterior="laplace").fit(X, both)
    np.testing.assert_allclose(model.noise_std_, (20, 0.1), rtol=0.5)


def test_classes():
    X, y = load_iris(return_X_y=True)
    model = BayesianMLPClassifier(**QUICK, posterior="laplace").fit(X[::2], y[::2])
    assert model.structure_ == "full"
    assert model.score(X[1::2], y[1::2]) > 0.9
    assert model.log_score(X[1::2], y[1::2]) > -0.35


def test_by_default_a_column_that_says_nothing_counts_for_nothing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = np.sin(2 * X[:, 0]) + 0.2 * rng.normal(size=60)
    model = BayesianMLPRegressor((10,), steps=4_000, random_state=0).fit(X, y)
    std = np.ravel(model.model_.prior.std[0]["weight"])
    assert std[1] < 0.1 * std[0]
    assert len(model.loss_curve_) == 80
    np.testing.assert_allclose(model.predict(X + np.array([[0, 1]])), model.predict(X), atol=0.05)


def test_where_the_evidence_takes_too_long_it_is_bayes_by_backprop_first(monkeypatch):
    monkeypatch.setattr("bbb.inference.evidence.MAX_MULTIPLICATIONS", 1)
    model = BayesianMLPRegressor((5,), steps=100, random_state=0).fit(*lines())
    assert len(model.loss_curve_) == 100
    assert model.structure_ == "full"


def test_of_three_starts_the_one_of_the_largest_evidence_is_kept(monkeypatch):
    found, by_evidence = [], laplace.by_evidence

    def watched(*args):
        found.append((np.asarray(args[1].posterior.params[0]["weight"]), by_evidence(*args)))
        return found[-1][1]

    monkeypatch.setattr(laplace, "by_evidence", watched)
    model = BayesianMLPRegressor((5,), steps=200, random_state=0).fit(*lines())
    assert len({start.tobytes() for start, _ in found}) == len(found) == 3
    assert model.loss_curve_.min() == min(one.loss.min() for _, one in found)
