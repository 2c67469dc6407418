"""The log score as scikit-learn's `scoring`."""

from typing import Any

from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import UNUSED, _MetadataRequester

from bbb.errors import InputError, fail, typed_repr


class LogScorer(_MetadataRequester):
    """The mean of log p(y | X) over rows, in nats, for `scoring`: of an estimator alone, in a pipeline or a search.

    `score` of the estimators remains R² and the accuracy, as of every regressor and classifier of scikit-learn, whose
    users and tools read it so. `BayesianMLPRegressor.log_score` itself serves as `scoring` of an estimator alone. With
    metadata routing, weights of rows come to it after `LogScorer().set_score_request(sample_weight=True)`.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(30, 2))
        >>> regressor = bbb.sklearn.BayesianMLPRegressor(
        ...     2, posterior="mean_field", steps=20, random_state=0
        ... )
        >>> score = bbb.sklearn.LogScorer()(regressor.fit(X, X[:, 0]), X, X[:, 0])
        >>> bool(np.isfinite(score))
        True
    """

    __metadata_request__score = {"estimator": UNUSED}  # noqa: RUF012 - scikit-learn reads it

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Compute the log score of a fitted estimator on rows X and targets y, weighted by `sample_weight`.

        Raises:
            InputError: if the estimator has no `log_score`.
        """
        return self.score(estimator, X, y, sample_weight)

    def score(self, estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Compute what a call does: the name by which scikit-learn routes metadata."""
        estimator = getattr(estimator, "best_estimator_", estimator)
        if isinstance(estimator, Pipeline):
            return self.score(estimator[-1], estimator[:-1].transform(X) if len(estimator) > 1 else X, y, sample_weight)
        if not hasattr(estimator, "log_score"):
            do = "Pass a BayesianMLPRegressor or BayesianMLPClassifier, or a pipeline that ends in one."
            fail(InputError, "an estimator with log_score", typed_repr(estimator), do)
        return estimator.log_score(X, y) if sample_weight is None else estimator.log_score(X, y, sample_weight)
