"""The classifier for scikit-learn."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from bbb.errors import InputError, fail
from bbb.likelihoods.classes import Categorical
from bbb.metrics.classification import Entropy
from bbb.sklearn.base import BayesianMLP, validated


class BayesianMLPClassifier(ClassifierMixin, BayesianMLP):
    """A multilayer perceptron with a Gaussian over every weight, for classes, with the uncertainty of its weights.

    It is trained by Bayes by backprop (Blundell et al. 2015, arXiv 1505.05424) on columns that it standardises itself.
    Probabilities are means over draws of the weights, so they are less confident where the draws disagree.

    Args:
        hidden_layer_sizes, activation, prior_gain, steps, batch_size, learning_rate, draws_per_step, kl_warm_up,
            posterior, draws, random_state, warm_start: as in `BayesianMLPRegressor`, but for one default, "mean_field":
            on three sets of scikit-learn, "laplace" was about as good in log score, and 3 to 25 times slower.

    Attributes:
        classes_: the labels, sorted.
        model_, structure_: the `BNN` of standardised columns, whose outputs are logits; as in `BayesianMLPRegressor`.
        x_scaler_: the `StandardScaler` before it. A constant column becomes 0.
        loss_curve_: (steps,) the negative evidence lower bound of the last training, with the KL's weight at each
            step, in nats over its rows.
        n_samples_seen_: the number of rows that the posterior has learned from.
        n_features_in_, feature_names_in_: as in every estimator.

    Raises:
        ValueError, NotFittedError: as in scikit-learn's conventions.
        InputError: a ValueError, if a parameter or argument is invalid, such as an unknown label.
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X, (n_samples, n_features), and labels y, (n_samples,), of any kind.

        Raises:
            InputError: if all labels are the same.
        """
        return self._begin(X, y, None)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Learn from more rows: the posterior so far becomes the prior.

        The first call is `fit`, for the labels `classes`, by default those of y. Later calls keep its standardisation.

        Raises:
            InputError: if a label is not among the first call's classes.

        Source: Nguyen et al. 2018, arXiv 1710.10628, eq. 4, without its coreset.
        """
        if not hasattr(self, "model_"):
            return self._begin(X, y, classes)
        X, y = self._labelled(X, y, reset=False)
        if classes is not None:
            self._numbers(np.unique(classes), "classes")
        return self._update(X, self._numbers(y, "y"))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable label of each row, (n_samples,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each of `classes_`, averaged over draws: (n_samples, n_classes)."""
        probabilities = self._predicted(X, lambda p: p.y.probabilities)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

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

    def log_score(self, X: Any, y: Any) -> float:
        """Compute the mean of log p(y | X) over rows, in nats: at most 0, higher is better. Can be used as `scoring`.

        Raises:
            InputError: if a label is not one of `classes_`.
        """
        check_is_fitted(self)
        X, y = self._labelled(X, y, reset=False)
        return float(np.mean(self._log_scores(X, self._numbers(y, "y"))))

    def _begin(self, X: Any, y: Any, classes: Any) -> Self:
        """Train from the start, or from the last training, for the labels `classes` or those of y."""
        if self._goes_on:
            X, y = self._labelled(X, y, reset=False)
            return self._learn(X, self._numbers(y, "y"), len(self.classes_), Categorical())
        X, y = self._labelled(X, y, reset=True)
        self.classes_ = np.unique(y if classes is None else classes)
        if len(self.classes_) < 2:
            do = "Pass rows of every class, or the classes: partial_fit(X, y, classes)."
            fail(InputError, "labels of at least two classes", f"one class, {self.classes_.tolist()[0]!r}", do)
        return self._learn(X, self._numbers(y, "y"), len(self.classes_), Categorical())

    def _labelled(self, X: Any, y: Any, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        X, y = validated(self, X, y, reset=reset, dtype=np.float64)
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
