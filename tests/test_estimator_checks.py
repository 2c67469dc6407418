"""scikit-learn's own checks, all of them, with default settings."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from bbb.estimator import BayesianMLPClassifier, BayesianMLPRegressor


@parametrize_with_checks([BayesianMLPRegressor(), BayesianMLPClassifier()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)
