"""Intervals of any regressor by cross-validation, which learns from every row: jackknife+ and CV+."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils.validation import _num_samples, check_is_fitted

from bbb import checks
from bbb.decide.coverage.cross import check_level, jackknife_plus
from bbb.decide.coverage.intervals import std_scores
from bbb.errors import InputError, fail
from bbb.predictive.summary import Interval
from bbb.sklearn.regressor import BayesianMLPRegressor

STD, ABSOLUTE = "std", "absolute"
"""The words of the residuals."""


class CrossConformalRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """A regressor whose intervals hold y by cross-validation: for each fold, a copy learns from the others.

    No row is lost to calibration, but as many copies are trained as there are folds. If all rows are exchangeable, y of
    a new row is inside of `predict_interval` with a probability of at least 2·coverage − 1 (less a little for few
    folds), and in most cases of about `coverage`: for as many rows, `BayesianMLPRegressor(calibrate=0.2)` guarantees
    `coverage` itself.

    Args:
        estimator: the regressor, of scikit-learn or of `bbb.sklearn`; None for a `BayesianMLPRegressor`.
        cv: the number of folds, or a splitter of scikit-learn by which each row is held out once; `LeaveOneOut()` is
            the jackknife+.
        residuals: "std", `|y − mean|` in the standard deviations that `predict(X, return_std=True)` returns; or
            "absolute", `|y − mean|`, for a regressor that has none.

    Attributes:
        estimator_: the estimator of all rows, which predicts.
        estimators_: those of all rows but one fold.
        scores_: (n_samples,) or (n_samples, n_targets), the residual of each row by the copy that did not see it.
        folds_: (n_samples,), the fold of each row.
        n_features_in_: the number of columns of X, as in every estimator.
        feature_names_in_: their names, of a frame.

    Raises:
        InputError: a ValueError, if a parameter or argument is invalid.

    Source: Barber, Candès, Ramdas & Tibshirani 2021, arXiv 1905.02928.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(30, 2))
        >>> regressor = bbb.sklearn.BayesianMLPRegressor(
        ...     2, posterior="mean_field", steps=20, random_state=0
        ... )
        >>> crossed = bbb.sklearn.CrossConformalRegressor(regressor, cv=2).fit(X, X[:, 0])
        >>> lower, upper = crossed.predict_interval(X, 0.5)
        >>> lower.shape
        (30,)
    """

    def __init__(self, estimator: Any = None, cv: Any = 10, *, residuals: str = STD) -> None:
        self.estimator = estimator
        self.cv = cv
        self.residuals = residuals

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn is told of an estimator: what it is told of the one inside."""
        tags, inside = super().__sklearn_tags__(), get_tags(self._made())
        tags.target_tags, tags.input_tags = inside.target_tags, inside.input_tags
        return tags

    def _made(self) -> Any:
        return BayesianMLPRegressor() if self.estimator is None else self.estimator

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn from rows X and targets y, as the estimator takes them; `groups` is what `cv` may need.

        Raises:
            InputError: if `cv` does not hold each row out once.
        """
        checks.word("residuals", self.residuals, (STD, ABSOLUTE))
        checks.outside("CrossConformalRegressor", X=X, y=y)
        checks.unmasked("X", X)
        checks.unmasked("y", y)
        made = self._made()
        self.estimator_ = clone(made).fit(X, y)  # which checks both
        (X,), y, rows = indexable(X), np.asarray(y), _num_samples(X)
        splits = list(check_cv(self.cv).split(X, y, groups))
        if not np.array_equal(np.sort(np.concatenate([held for _, held in splits])), np.arange(rows)):
            do = "Pass for example cv=10, or LeaveOneOut()."
            fail(InputError, "cv to hold each row out once", repr(self.cv), do)
        self.estimators_, self.folds_ = [], np.empty(rows, int)
        y = y.reshape(rows, *np.shape(self.estimator_.predict(_safe_indexing(X, [0])))[1:])  # some flatten one column
        self.scores_ = np.empty(y.shape)
        for k, (rest, held) in enumerate(splits):
            self.estimators_.append(clone(made).fit(_safe_indexing(X, rest), y[rest]))
            self.folds_[held] = k
            self.scores_[held] = std_scores(y[held], *self._moments(self.estimators_[k], _safe_indexing(X, held)))
        return self

    def predict(self, X: ArrayLike, **options: Any) -> Any:
        """Return what `estimator_` predicts."""
        check_is_fitted(self)
        return self.estimator_.predict(X, **options)

    def predict_interval(self, X: ArrayLike, coverage: float = 0.95) -> Interval:
        """Return the ends (lower, upper) of an interval of y at each row, in the shape of `predict`.

        Args:
            X: (n_samples, n_features).
            coverage: inside (0, 1), and at most n/(n + 1) for n rows learned from; see the class for what it means.

        Raises:
            InputError: if `coverage` is not such a number.
        """
        check_is_fitted(self)
        check_level(coverage, len(self.folds_))
        means, stds = zip(*(self._moments(estimator, X) for estimator in self.estimators_), strict=True)
        return jackknife_plus(np.stack(means), self.scores_, self.folds_, coverage, stds=np.stack(stds))

    @property
    def n_features_in_(self) -> int:
        """The number of columns that `estimator_` learned from."""
        return int(self.estimator_.n_features_in_)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Their names, of a frame."""
        return np.asarray(self.estimator_.feature_names_in_)

    def _moments(self, estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation, 1 with "absolute", that an estimator predicts."""
        if self.residuals == ABSOLUTE:
            mean = estimator.predict(X)
            return mean, np.ones_like(mean)
        return estimator.predict(X, return_std=True)
