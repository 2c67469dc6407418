"""scikit-learn's own checks, all of them, with default settings: minutes of compiling, and so marked slow."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor


@pytest.mark.slow
@parametrize_with_checks(
    [
        kind(posterior=posterior)
        for kind in (BayesianMLPRegressor, BayesianMLPClassifier)
        for posterior in ("mean_field", "laplace")
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
