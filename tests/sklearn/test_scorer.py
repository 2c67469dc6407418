"""The log score as `scoring`: the same number by every way that leads to it."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from bbb.errors import InputError
from bbb.sklearn import BayesianMLPClassifier, BayesianMLPRegressor, LogScorer

QUICK = {"hidden_layer_sizes": 4, "steps": 100, "draws": 50, "random_state": 0, "posterior": "mean_field"}


def rows(count=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 2))
    return X, X[:, 0] + 0.3 * rng.normal(size=count)


@pytest.mark.parametrize("kind", [BayesianMLPRegressor, BayesianMLPClassifier])
def test_it_is_the_estimators_own_in_pipelines_and_searches(kind):
    X, y = rows()
    y = y > 0 if kind is BayesianMLPClassifier else y
    pipeline = make_pipeline(MinMaxScaler(), kind(**QUICK)).fit(X, y)
    scaled, own = pipeline[0].transform(X), pipeline[-1]
    assert LogScorer()(pipeline, X, y) == own.log_score(scaled, y)
    assert LogScorer()(make_pipeline(own), scaled, y) == LogScorer()(own, scaled, y) == own.log_score(scaled, y)
    search = GridSearchCV(pipeline, {f"{kind.__name__.lower()}__prior_gain": [0.1, 2.0]}, cv=2, scoring=LogScorer())
    search.fit(X, y)
    assert search.score(X, y) == LogScorer()(search, X, y) == LogScorer()(search.best_estimator_, X, y)


def test_cross_validation_scores_the_rows_held_out():
    X, y = rows()
    model, folds = BayesianMLPRegressor(**QUICK), KFold(2)
    parts = [model.fit(X[train], y[train]).log_score(X[test], y[test]) for train, test in folds.split(X)]
    np.testing.assert_array_equal(cross_val_score(model, X, y, cv=folds, scoring=LogScorer()), parts)
    np.testing.assert_array_equal(cross_val_score(model, X, y, cv=folds, scoring=BayesianMLPRegressor.log_score), parts)


def test_it_pickles_and_copies():
    X, y = rows()
    model = BayesianMLPRegressor(**QUICK).fit(X, y)
    for scorer in (pickle.loads(pickle.dumps(LogScorer())), copy.deepcopy(LogScorer())):
        assert scorer(model, X, y) == model.log_score(X, y)


def test_an_estimator_without_densities_is_refused():
    X, y = rows()
    for estimator in (LinearRegression(), make_pipeline(MinMaxScaler(), LinearRegression())):
        with pytest.raises(InputError, match="Expected an estimator with log_score, got LinearRegression"):
            LogScorer()(estimator.fit(X, y), X, y)
