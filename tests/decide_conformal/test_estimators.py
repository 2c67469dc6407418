"""The estimators with `calibrate=`, and `CrossConformalRegressor`: intervals, sets, and scikit-learn's checks."""

import functools

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import BayesianRidge, LinearRegression
from sklearn.model_selection import KFold, LeaveOneOut
from sklearn.utils.estimator_checks import parametrize_with_checks

from bbb.decide.coverage.ranks import rank_of
from bbb.sklearn import BayesianMLPClassifier, BayesianMLPRegressor, CrossConformalRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 2))
Y = X[:, 0] + 0.3 * RNG.standard_normal(80)
NEW = RNG.normal(size=(30, 2))
HOW = {"hidden_layer_sizes": 3, "posterior": "mean_field", "steps": 50, "draws": 20, "random_state": 0}


@functools.cache
def regressor(calibrate=0.5):
    return BayesianMLPRegressor(**HOW, calibrate=calibrate).fit(X, Y)


@functools.cache
def classifier(calibrate=0.5):
    return BayesianMLPClassifier(**HOW, calibrate=calibrate).fit(X, np.where(Y > 0, "up", "down"))


def test_half_of_the_rows_is_held_out_and_the_rank_of_them_is_inside():
    found = regressor()
    assert found.n_samples_seen_ == 40
    assert found.calibration_.rows == 40
    held = np.random.RandomState(0).permutation(80)[:40]
    for level in (0.5, 0.9):
        lower, upper = found.predict_interval(X[held], level)
        assert np.sum((lower <= Y[held]) & (Y[held] <= upper)) == rank_of(level, 40)


def test_without_calibrate_nothing_changes_and_f_and_quantiles_are_the_models_own():
    plain = BayesianMLPRegressor(**HOW).fit(X, Y)
    assert plain.calibration_ is None
    found = regressor()
    for of in ("y", "f"):
        own = found.predict_quantiles(NEW, (0.05, 0.95), of)
        lower = found.predict_interval(NEW, 0.9, of).lower
        assert np.array_equal(own[:, 0], lower) == (of == "f")
    assert clone(found).calibrate == 0.5


def test_a_row_of_weight_two_counts_twice_and_of_0_not_at_all():
    weights = np.where(np.arange(80) % 4 == 0, 2.0, 1.0)
    weights[3] = 0
    found = BayesianMLPRegressor(**HOW, calibrate=0.5).fit(X, Y, sample_weight=weights)
    assert found.n_samples_seen_ + found.calibration_.weights.sum() == weights.sum()
    assert found.predict_interval(NEW, 0.9).lower.shape == (30,)
    assert (found.calibration_.weights > 0).all()


def test_several_targets_are_calibrated_apart():
    both = np.column_stack([Y, 10 * Y + 1])
    found = BayesianMLPRegressor(**HOW, calibrate=0.5).fit(X, both)
    assert found.predict_interval(NEW, 0.8).lower.shape == (30, 2)
    assert found.calibration_.scores.shape == (1, 40, 2)


def test_sets_hold_the_labels_held_out_and_the_most_probable_class():
    found = classifier()
    assert found.calibration_.rows == 40
    sets = found.predict_set(X, 0.9)
    assert sets.shape == (80, 2)
    assert sets[np.arange(80), found.predict_proba(X).argmax(axis=1)].all()
    assert found.predict_set(X, 0.6).sum() <= sets.sum()


def test_a_class_that_is_held_out_alone_is_one_of_the_classes():
    labels = np.where(Y > 0, "up", "down").astype(object)
    labels[np.random.RandomState(0).permutation(80)[0]] = "rare"  # the first row that is held out
    found = BayesianMLPClassifier(**HOW, calibrate=0.5).fit(X, labels)
    assert list(found.classes_) == ["down", "rare", "up"]
    assert found.predict_set(X, 0.9).shape == (80, 3)


@pytest.mark.parametrize("cv", [LeaveOneOut(), 5])
def test_cross_conformal_intervals_are_those_of_the_folds_by_hand(cv):
    found = CrossConformalRegressor(BayesianRidge(), cv).fit(X, Y)
    assert len(found.estimators_) == (5 if cv == 5 else 80)
    rest, held = next(iter((KFold(5) if cv == 5 else cv).split(X)))
    mean, std = BayesianRidge().fit(X[rest], Y[rest]).predict(X[held], return_std=True)
    np.testing.assert_allclose(found.scores_[held], np.abs(Y[held] - mean) / std)
    lower, upper = found.predict_interval(X, 0.9)
    assert np.mean((lower <= Y) & (upper >= Y)) >= 0.9
    np.testing.assert_array_equal(found.predict(NEW), BayesianRidge().fit(X, Y).predict(NEW))


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
@pytest.mark.parametrize(("estimator", "shape"), [(BayesianRidge(), (30,)), (LinearRegression(), (30, 1))])
def test_a_column_of_y_is_scored_in_the_shape_that_the_estimator_predicts(estimator, shape):
    found, plain = (CrossConformalRegressor(estimator, 3, residuals="absolute").fit(X, y) for y in (Y[:, None], Y))
    for end, same in zip(found.predict_interval(NEW, 0.8), plain.predict_interval(NEW, 0.8), strict=True):
        assert end.shape == shape
        np.testing.assert_allclose(end.ravel(), same)


def test_cross_conformal_by_bayes():
    found = CrossConformalRegressor(BayesianMLPRegressor(**HOW), 2).fit(X, Y)
    lower, upper = found.predict_interval(NEW, 0.8)
    assert (lower < upper).all()


@parametrize_with_checks([CrossConformalRegressor(LinearRegression(), 2, residuals="absolute")])
def test_scikit_learns_checks(estimator, check):
    check(estimator)
