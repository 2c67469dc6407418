"""scikit-learn's own checks, all of them, with default settings; those of the classifier are marked slow."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from bbb.estimator import BayesianMLPClassifier, BayesianMLPRegressor


@parametrize_with_checks([BayesianMLPRegressor()])
def test_scikit_learns_checks_of_a_regressor(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([BayesianMLPClassifier()])
def test_scikit_learns_checks_of_a_classifier(estimator, check):
    check(estimator)
