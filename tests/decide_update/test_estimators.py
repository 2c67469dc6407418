"""`partial_fit` of the estimators says how likely its rows were before it learned from them."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators are scikit-learn's")

from bbb.decide.continual import Drift
from bbb.sklearn import BayesianMLPClassifier, BayesianMLPRegressor

QUICK = {"hidden_layer_sizes": 4, "steps": 400, "posterior": "mean_field", "random_state": 0}


def rows(seed, count=60):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 2))
    return X, X[:, 0] - X[:, 1] + 0.2 * rng.normal(size=count)


def test_a_shift_of_the_targets_is_noticed_and_none_is_not():
    model = BayesianMLPRegressor(**QUICK).fit(*rows(0))
    assert model.drift_ is None
    model.partial_fit(*rows(1))
    assert isinstance(model.drift_, Drift)
    assert not model.drift_.noticed
    assert model.drift_.rows == 60
    X, y = rows(2)
    assert model.partial_fit(X, y + 5).drift_.noticed


def test_classes_too():
    X, y = rows(0)
    model = BayesianMLPClassifier(**QUICK).partial_fit(X, y > 0, classes=[False, True])
    assert model.drift_ is None
    X, y = rows(1)
    assert model.partial_fit(X, y < 0).drift_.noticed
