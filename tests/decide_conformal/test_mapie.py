"""The same scores lead to the same numbers as in MAPIE (Taquet et al. 2022, arXiv 2207.12274)."""

import numpy as np
import pytest

pytest.importorskip("mapie", reason="the oracle of conformal prediction, in the extra `test`")

from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, RAPSConformityScore
from mapie.conformity_scores.bounds.std_normalised import StdConformityScore
from mapie.regression import ConformalizedQuantileRegressor, CrossConformalRegressor, SplitConformalRegressor
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, LeaveOneOut

from bbb.decide.coverage.calibration import calibration_of
from bbb.decide.coverage.cross import jackknife_plus
from bbb.decide.coverage.intervals import around_mean, around_quantiles, quantile_scores, std_scores
from bbb.decide.coverage.sets import ClassScore, of_label, within
from bbb.predictive.summary import Interval

LEVELS = (0.5, 0.8, 0.9, 0.95)
RNG = np.random.default_rng(0)
X, NEW = RNG.uniform(-2, 2, (83, 1)), np.linspace(-2, 2, 40)[:, None]
Y = np.sin(X[:, 0]) + (0.1 + 0.2 * np.abs(X[:, 0])) * RNG.standard_normal(83)


class Known(RegressorMixin, BaseEstimator):
    """A regressor that is a known function of x, and has nothing to fit."""

    is_fitted = True

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y):
        del X, y
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X, return_std=False):
        mean, std = 0.9 * np.sin(X[:, 0]) + self.shift * (1 + np.abs(X[:, 0])), 0.1 + np.abs(X[:, 0])
        return (mean, std) if return_std else mean


class Line(LinearRegression):
    """A line with a standard deviation, which depends on what it was fitted to."""

    def predict(self, X, return_std=False):
        mean, std = super().predict(X), 0.1 + np.abs(X[:, 0] * self.coef_[0])
        return (mean, std) if return_std else mean


class KnownClasses(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are its rows of X."""

    classes_ = np.arange(5)

    def fit(self, X, y):
        del X, y
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        return X.argmax(axis=1)

    def predict_proba(self, X):
        return X


def bounds(scores, level, rows):
    return calibration_of(scores[None], (), None, None).bounds(level, rows)


@pytest.mark.parametrize("level", LEVELS)
def test_quantiles_are_moved_as_by_mapie(level):
    ends = [Known(-0.3), Known(0.3)]
    theirs = ConformalizedQuantileRegressor([*ends, Known()], confidence_level=level, prefit=True).conformalize(X, Y)
    wanted = theirs.predict_interval(NEW, symmetric_correction=True)[1][..., 0]
    scores = quantile_scores(Y, Interval(*(end.predict(X) for end in ends)))
    found = around_quantiles(Interval(*(end.predict(NEW) for end in ends)), bounds(scores, level, len(NEW)))
    in_order = wanted[:, 0] <= wanted[:, 1]  # of no y at all, MAPIE gives the ends turned round
    np.testing.assert_allclose(np.stack(found, axis=-1)[in_order], wanted[in_order], rtol=1e-12, atol=1e-12)
    assert in_order.any()


@pytest.mark.parametrize("level", LEVELS)
def test_a_band_of_one_width_is_that_of_mapie(level):
    theirs = SplitConformalRegressor(Known(), confidence_level=level, prefit=True).conformalize(X, Y)
    wanted = theirs.predict_interval(NEW)[1][..., 0]
    mean, ones = Known().predict(NEW), np.ones(len(NEW))
    scores = std_scores(Y, Known().predict(X), np.ones(len(X)))
    found = around_mean(mean, ones, bounds(scores, level, len(NEW)))
    np.testing.assert_allclose(np.stack(found, axis=-1), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_the_std_is_multiplied_as_by_mapie(level):
    theirs = SplitConformalRegressor(Known(), level, StdConformityScore(), prefit=True).conformalize(X, Y)
    wanted = theirs.predict_interval(NEW)[1][..., 0]
    scores = std_scores(Y, *Known().predict(X, return_std=True))
    found = around_mean(*Known().predict(NEW, return_std=True), bounds(scores, level, len(NEW)))
    np.testing.assert_allclose(found.upper, wanted[:, 1], rtol=1e-12, atol=1e-12)
    assert (found.lower <= wanted[:, 0] + 1e-12).all()  # MAPIE 1.6 rounds the rank of this end down, and not up


@pytest.mark.parametrize("cv", [LeaveOneOut(), KFold(5)], ids=["jackknife+", "CV+"])
@pytest.mark.parametrize("level", LEVELS)
def test_intervals_by_cross_validation_in_stds_are_those_of_mapie(cv, level):
    how = {"conformity_score": StdConformityScore(), "confidence_level": level, "cv": cv}
    wanted = CrossConformalRegressor(Line(), **how).fit_conformalize(X, Y).predict_interval(NEW)[1][..., 0]
    folds, scores, made = np.empty(len(X), int), np.empty(len(X)), []
    for k, (rest, held) in enumerate(cv.split(X)):
        model = Line().fit(X[rest], Y[rest])
        folds[held], scores[held] = k, std_scores(Y[held], *model.predict(X[held], return_std=True))
        made.append(model.predict(NEW, return_std=True))
    means, stds = (np.stack(part) for part in zip(*made, strict=True))
    found = jackknife_plus(means, scores, folds, level, stds=stds)
    np.testing.assert_allclose(np.stack(found, axis=-1), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cv", [LeaveOneOut(), KFold(5)], ids=["jackknife+", "CV+"])
@pytest.mark.parametrize("level", LEVELS)
def test_intervals_by_cross_validation_are_those_of_mapie(cv, level):
    theirs = CrossConformalRegressor(LinearRegression(), confidence_level=level, cv=cv).fit_conformalize(X, Y)
    wanted = theirs.predict_interval(NEW)[1][..., 0]
    folds, scores, means = np.empty(len(X), int), np.empty(len(X)), []
    for k, (rest, held) in enumerate(cv.split(X)):
        model = LinearRegression().fit(X[rest], Y[rest])
        folds[held], scores[held] = k, np.abs(Y[held] - model.predict(X[held]))
        means.append(model.predict(NEW))
    found = jackknife_plus(means, scores, folds, level)
    np.testing.assert_allclose(np.stack(found, axis=-1), wanted, rtol=1e-12, atol=1e-12)


def class_rows(rows):
    rng = np.random.default_rng(rows)
    p = rng.dirichlet([0.5] * 5, rows)
    return p, np.array([rng.choice(5, p=row) for row in p])


def uniforms(seed, rows):
    """Return MAPIE's uniform numbers, which count what is left out, as the shares that count."""
    return 1 - np.random.RandomState(seed).uniform(size=rows)


@pytest.mark.parametrize("level", LEVELS)
def test_adaptive_sets_are_those_of_mapie_on_the_same_uniform_numbers(level):
    (p, y), (new, _) = class_rows(200), class_rows(101)
    aps = APSConformityScore()
    theirs = SplitConformalClassifier(KnownClasses(), level, aps, prefit=True, random_state=3).conformalize(p, y)
    wanted = theirs.predict_set(new, conformity_score_params={"include_last_label": "randomized"})[1][..., 0]
    scores = ClassScore(randomised=True).scores(p, uniforms(3, 200))
    of_new = ClassScore(randomised=True).scores(new, uniforms(3, 101))
    limits = bounds(of_label(scores, y)[0], level, 101)
    assert wanted.any(axis=0).all()
    np.testing.assert_array_equal(of_new <= limits[:, None], wanted)
    ours = within(of_new, limits, new)  # which has the most probable class too
    np.testing.assert_array_equal(ours, wanted | (np.arange(5) == new.argmax(axis=1)[:, None]))


def test_penalties_are_those_of_mapie():
    p, y = class_rows(200)
    theirs = RAPSConformityScore()
    theirs.set_external_attributes(classes=np.arange(5), random_state=3)
    plain = APSConformityScore.get_conformity_scores(theirs, y, p, y_enc=y)
    wanted = theirs._regularize_conformity_score(np.array([2]), np.array([0.05]), plain, theirs.cutoff)[:, 0, 0]
    scores = ClassScore(0.05, 2, randomised=True).scores(p, uniforms(3, 200))
    np.testing.assert_allclose(of_label(scores, y)[0], wanted, rtol=1e-12)
