"""The classifier for scikit-learn."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from bbb import checks
from bbb.decide.coverage.sets import ClassScore, of_label, within
from bbb.errors import InputError, fail
from bbb.likelihoods.classes import Categorical
from bbb.metrics.classification import Entropy
from bbb.sklearn.base import BayesianMLP
from bbb.sklearn.calibration import bounds_of, check_none, split_of
from bbb.sklearn.frames import validated
from bbb.sklearn.weights import BALANCED, Rows, class_factors, counted, present, row_weights
from bbb.tables.encoding import REFUSE


class BayesianMLPClassifier(ClassifierMixin, BayesianMLP):
    """A multilayer perceptron with a Gaussian over every weight, for classes, with the uncertainty of its weights.

    It is trained by Bayes by backprop (Blundell et al. 2015, arXiv 1505.05424) on columns that it standardises itself.
    Probabilities are means over draws of the weights, so they are less confident where the draws disagree.

    Args:
        hidden_layer_sizes: as in `BayesianMLPRegressor`, and so are `activation`, `prior_gain`, `steps`, `batch_size`,
            `learning_rate`, `draws_per_step`, `kl_warm_up`, `draws`, `random_state`, `warm_start`, `missing` and
            `unknown`.
        posterior: likewise, but for the default, "mean_field": on three sets of scikit-learn, "laplace" was about as
            good in log score, and 3 to 25 times slower.
        calibrate: a share of the rows, such as 0.2, that `fit` holds out at random, and that `predict_set` is
            calibrated by: as in `BayesianMLPRegressor`.
        class_weight: None; weights above 0 by label, 1 for labels left out, that multiply those of the rows; or
            "balanced", by which every class counts for as much. Probabilities are then those of data with such shares
            of the classes, and not of the data given.

    Attributes:
        classes_: the labels, sorted.
        calibration_: the scores of the labels held out, as in `BayesianMLPRegressor`; None without `calibrate`.
        model_: the `BNN` of standardised columns, whose outputs are logits.
        structure_: as in `BayesianMLPRegressor`.
        encoding_: how the columns of a frame become numbers, as in `BayesianMLPRegressor`.
        x_scaler_: the `StandardScaler` of these, likewise.
        loss_curve_: (steps,) the negative evidence lower bound of the last training, with the KL's weight at each
            step, in nats over its rows.
        drift_: after `partial_fit`, how likely its rows were before it learned from them: as in `BayesianMLPRegressor`.
        n_samples_seen_: the number of rows that the posterior has learned from.
        n_features_in_: the number of columns of X, as in every estimator.
        feature_names_in_: their names, of a frame.

    Raises:
        ValueError, NotFittedError: as in scikit-learn's conventions.
        InputError: a ValueError, if a parameter or argument is invalid, such as an unknown label.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(30, 2))
        >>> classifier = bbb.sklearn.BayesianMLPClassifier(2, steps=20, random_state=0)
        >>> classifier = classifier.fit(X, np.where(X[:, 0] > 0, "up", "down"))
        >>> classifier.predict_proba(X).shape, classifier.classes_.tolist()
        ((30, 2), ['down', 'up'])
    """

    classes_: np.ndarray

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (50,),
        activation: str | None = None,
        *,
        prior_gain: float | None = None,
        steps: int = 10_000,
        batch_size: int | None = None,
        learning_rate: float = 0.01,
        draws_per_step: int = 4,
        kl_warm_up: float = 0.8,
        posterior: str = "mean_field",
        class_weight: Any = None,
        draws: int = 1000,
        random_state: Any = None,
        warm_start: bool = False,
        missing: str = REFUSE,
        unknown: str = REFUSE,
        calibrate: float | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            prior_gain=prior_gain,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            draws_per_step=draws_per_step,
            kl_warm_up=kl_warm_up,
            posterior=posterior,
            draws=draws,
            random_state=random_state,
            warm_start=warm_start,
            missing=missing,
            unknown=unknown,
            calibrate=calibrate,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from rows X, (n_samples, n_features), and labels y, (n_samples,), of any kind.

        Args:
            X: numbers; or a frame, whose columns may also be of words, categories and dates: as in
                `BayesianMLPRegressor`.
            y: labels.
            sample_weight: (n_samples,), what each row counts for, at least 0: a row of weight 2 is the row twice, one
                of weight 0 is absent, and rows that are equal are learned as one. None for 1 each.

        Raises:
            InputError: if all labels of rows that count are the same.
        """
        return self._begin(X, y, None, sample_weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn from more rows: the posterior so far becomes the prior.

        The first call is `fit`, for the labels `classes`, by default those of y. Later calls keep its standardisation.

        Raises:
            InputError: if a label is not among the first call's classes, `class_weight` is "balanced", which asks for
                all rows at once, or `calibrate` is set.

        Source: Nguyen et al. 2018, arXiv 1710.10628, eq. 4, without its coreset.
        """
        if checks.is_word(self.class_weight, (BALANCED,)):
            do = "Pass weights by label, such as n/(K·n_k) for n_k of all n rows and K classes."
            fail(InputError, "class_weight to be None or a dict, for partial_fit", repr(self.class_weight), do)
        check_none(self)
        if not hasattr(self, "model_"):
            return self._begin(X, y, classes, sample_weight)
        self.calibration_ = None
        X, y = self._labelled(X, y)
        if classes is not None:
            self._numbers(np.unique(classes), "classes")
        return self._update(self._weighted(*present(X, y, row_weights(sample_weight, len(X)))))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable label of each row, (n_samples,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each of `classes_`, averaged over draws: (n_samples, n_classes)."""
        return self._probabilities(self._rows(X))

    def predict_set(self, X: ArrayLike, coverage: float = 0.95) -> np.ndarray:
        """Return which of `classes_` are in the set of each row, (n_samples, n_classes), bool.

        The label of a new row is in its set with a probability of at least `coverage`, also where the model is wrong:
        adaptive prediction sets, calibrated on the rows that `calibrate` held out (see `bbb.decide.conformal_sets`).
        The most probable class is in every set.

        Args:
            X: (n_samples, n_features).
            coverage: inside (0, 1), and at most n/(n + 1) for n rows held out.

        Raises:
            InputError: if `coverage` is not such a number, or the estimator was fitted without `calibrate`.
        """
        coverage = checks.probability("coverage", coverage)
        check_is_fitted(self)
        found = self.calibration_
        if found is None:
            fail(InputError, "an estimator that was calibrated", "calibrate=None", "Pass calibrate=0.2, and fit anew.")
        found.check_enough(coverage)
        probabilities = self.predict_proba(X)
        bounds = bounds_of(found, coverage, len(probabilities))
        return within(ClassScore().scores(probabilities, np.ones(len(probabilities))), bounds, probabilities)

    def sample_y(self, X: ArrayLike, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draw labels: (n_rows, n_samples).

        Each sample uses one draw of the weights for all rows, and an independent label for each row. Of "hmc", it is
        one of the draws of the chains, at random.

        Args:
            X: (n_rows, n_features).
            n_samples: the number of draws.
            random_state: None, an int or a `numpy.random.RandomState`.
        """
        random = check_random_state(random_state)
        below = np.cumsum(self._drawn(X, n_samples, random, Categorical().probabilities), axis=-1)
        chosen = below[..., -1:] * random.random_sample((*below.shape[:-1], 1))
        return self.classes_[np.sum(below[..., :-1] <= chosen, axis=-1).T]

    def predict_entropy(self, X: ArrayLike) -> Entropy:
        """Return the total, aleatoric and epistemic entropy of each row's label, in nats: (n_samples,) each.

        See `bbb.metrics.Entropy`.
        """
        return self._predicted(X, lambda p: p.y.entropy)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy: the share of rows whose label is predicted correctly.

        Raises:
            InputError: if a label is not one of `classes_`.
        """
        check_is_fitted(self)
        self._numbers(np.asarray(y).ravel(), "y")
        return float(super().score(X, y, sample_weight))

    def log_score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the mean of log p(y | X) over rows, in nats: at most 0, higher is better.

        Rows count by `sample_weight`. It can be used as `scoring`, and `LogScorer` in pipelines too.

        Raises:
            InputError: if a label is not one of `classes_`.
        """
        check_is_fitted(self)
        X, y = self._labelled(X, y)
        scores = self._log_scores(X, self._numbers(y, "y"))
        return float(np.average(scores, weights=row_weights(sample_weight, len(X))))

    def _begin(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:
        """Train from the start, or from the last training, for the labels `classes` or those of y."""
        goes_on = self._goes_on
        split = split_of(self, X, sample_weight, goes_on)
        every_X, every_y = self._labelled(X, y, split.to_learn, reset=not goes_on)
        X, y, weights = present(every_X, every_y, row_weights(split.to_learn, len(every_X)))
        if not goes_on:
            self.classes_ = np.unique(np.append(y, split.held_of(every_y)) if classes is None else classes)
        if len(self.classes_) < 2:
            do = "Pass rows of every class, or the classes: partial_fit(X, y, classes)."
            fail(InputError, "labels of at least two classes", f"one class, {self.classes_.tolist()[0]!r}", do)
        self._learn(self._weighted(X, y, weights), len(self.classes_), Categorical())
        self.calibration_ = split.calibrated(self._scores, every_X, every_y)
        return self

    def _probabilities(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of each class at standardised rows, (n_samples, n_classes)."""
        probabilities = self._predicted_at(x, lambda p: p.y.probabilities)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def _scores(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the scores of the labels of validated rows, (rows,)."""
        probabilities = self._probabilities(self.x_scaler_.transform(X))
        scores = ClassScore().scores(probabilities, np.ones(len(y)))
        return of_label(scores, self._numbers(y, "y"))[0]

    def _weighted(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Rows:
        """Return rows that count, with the weights of their classes too."""
        rows = counted(X, self._numbers(y, "y"), weights)
        return rows.times(class_factors(self.class_weight, self.classes_, rows))

    def _labelled(self, X: Any, y: Any, sample_weight: Any = None, *, reset: bool = False) -> tuple[Any, np.ndarray]:
        X, y = validated(self, X, y, reset=reset, sample_weight=sample_weight)
        check_classification_targets(y)
        return X, column_or_1d(y, warn=True)

    def _numbers(self, y: np.ndarray, name: str) -> np.ndarray:
        """Return the indices of labels in `classes_`."""
        unseen = np.setdiff1d(y, self.classes_)
        if len(unseen):
            known = ", ".join(map(repr, self.classes_[:10].tolist())) + (", …" if len(self.classes_) > 10 else "")
            do = "Train on rows of every class, or leave these rows out."
            fail(InputError, f"{name} of the classes {known}", repr(unseen.tolist()[0]), do)
        return np.searchsorted(self.classes_, y)
