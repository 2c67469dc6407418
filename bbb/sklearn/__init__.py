"""Estimators for scikit-learn."""

try:
    import sklearn  # noqa: F401 - the message says how to install it
except ImportError as error:
    raise ImportError(
        "The estimators need scikit-learn: pip install scikit-learn; or, in a clone of bbb, pip install '.[sklearn]'."
    ) from error

from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor

__all__ = ["BayesianMLPClassifier", "BayesianMLPRegressor"]
