"""Bayesian networks as scikit-learn estimators, the only mutable objects of the library.

    model = BayesianMLPRegressor(random_state=0).fit(X, y)
    mean, std = model.predict(X_new, return_std=True)
    lower, upper = model.predict_interval(X_new, coverage=0.95)

Compiled programs belong to functions outside the objects, so that estimators can be pickled, and they serve all data of
similar shapes: columns are standardised outside the network, training rows are repeated up to a power of two (with
weights that compensate), and predictions are made in tiles of one size.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from bbb import _check, mixture, nn
from bbb._tiles import by_tile
from bbb._tree import Tree, noun, widest_dtype
from bbb.fit import fit
from bbb.likelihood import Categorical, Gaussian, Likelihood
from bbb.metrics import Entropy
from bbb.model import BNN, bayesianize
from bbb.objective import exact_elbo_cost, has_exact_elbo
from bbb.options import Objective
from bbb.posterior import marginals
from bbb.predict import draws, predict
from bbb.prior import Normal, fan_in
from bbb.schedule import warm_up
from bbb.summary import Interval, Predictive, tails

try:
    import sklearn  # noqa: F401 - the message says how to install it
except ImportError as error:
    raise ImportError(
        "The estimators need scikit-learn: pip install scikit-learn; or, in a clone of bbb, pip install '.[sklearn]'."
    ) from error

from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

TILE = 64
"""The fixed number of rows predicted at once: a row's prediction has the same bits whatever rows come with it."""

MIN_ROWS = 256
"""The least number of rows that a training program is compiled for; others are powers of two above it."""

START_NOISE_STD = 0.5
"""The starting value of the learned noise, as a share of the target's standard deviation."""

BATCH, EXACT_BATCH = 32, 64
"""The default batch size with draws, and with the exact bound. Without the noise of draws, the latter fits closer.
On rows held out of the training rows of yacht and energy (20 splits), it scored 0.13 ± 0.06 and 0.02 ± 0.01 nats per
row less than draws did with 32 rows, and 0.02 ± 0.10 less and 0.00 ± 0.01 more with 64."""

INIT, FIT, PREDICT = range(3)
"""The uses of random numbers by an estimator."""


@noun(data=("likelihood",))
class WeightedRows:
    """A likelihood that multiplies each row's log density by a weight, the last column of y.

    Attributes:
        likelihood: the likelihood of the observation, the other columns of y.
    """

    likelihood: Any

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the parameters of the likelihood."""
        return self.likelihood.learn

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y, made by `repeated`, in the dtype of the outputs."""
        return y.astype(outputs.dtype)

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Compute weight · log p(observation | outputs) in nats, (rows,)."""
        observed = y[:, 0].astype(int) if isinstance(self.likelihood, Categorical) else y[:, :-1]
        return y[:, -1] * self.likelihood.log_prob(observed, outputs)

    def expected_log_prob(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Compute weight · E[log p(observation | f)] in nats, (rows,), as `Gaussian.expected_log_prob` does."""
        return y[:, -1] * self.likelihood.expected_log_prob(y[:, :-1], mean, variance)


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings of a training."""

    steps: int
    batch_size: int | None
    learning_rate: float
    draws: int


@functools.lru_cache(maxsize=64)
def _optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return Adam with a learning rate that falls to 0 on a cosine; cached, as training is compiled for the object."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


def repeated(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows repeated up to a power of two, at least `MIN_ROWS`, and y with a last column of weights.

    The weights of a row's copies sum to 1, so that the bound is that of the given rows and every minibatch is full of
    real rows, while programs are compiled for only a few numbers of rows.
    """
    size = max(MIN_ROWS, 1 << (len(x) - 1).bit_length())
    index = np.arange(size) % len(x)
    weights = 1 / np.bincount(index)[index]
    return x[index], np.column_stack([y[index], weights])


def trained(
    key: jax.Array, model: BNN, x: np.ndarray, y: np.ndarray, training: Training, kl_weight: Any
) -> tuple[BNN, np.ndarray]:
    """Train on standardised rows; return the model and the loss of each step, (steps,), in nats over all rows."""
    likelihood: Any = WeightedRows(model.likelihood)
    weighted = dataclasses.replace(model, likelihood=likelihood)
    exact = has_exact_elbo(model, x)
    after, history = fit(
        key,
        weighted,
        *repeated(x, y),
        objective=Objective(exact_elbo_cost, kl_weight=kl_weight)
        if exact
        else Objective(kl_weight=kl_weight, draws=training.draws),
        steps=training.steps,
        optimizer=_optimizer(training.learning_rate, training.steps),
        batch_size=training.batch_size or (EXACT_BATCH if exact else BATCH),
        progress=False,
    )
    return dataclasses.replace(after, likelihood=after.likelihood.likelihood), history.loss  # type: ignore[attr-defined]


def validated(estimator: Any, *data: Any, **how: Any) -> Any:
    """Check rows X, or X and y, as scikit-learn does; traced and masked arrays, which it cannot handle, are refused.

    Raises:
        InputError: if an array is traced or masked.
        ValueError: as `sklearn.utils.validation.validate_data` does.
    """
    given = dict(zip(("X", "y"), data, strict=False))
    _check.outside(type(estimator).__name__, **given)
    for name, values in given.items():
        _check.unmasked(name, values)
    return validate_data(estimator, *data, **how)


def in_tiles(function: Callable[..., Tree], *arrays: np.ndarray, axis: int = 0) -> Tree:
    """Apply a function to tiles of `TILE` rows; return float64 arrays, as scikit-learn does."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float64), by_tile(function, *arrays, size=TILE, axis=axis))


def scaler(values: np.ndarray) -> StandardScaler:
    """Return a fitted scaler of columns, which returns arrays whatever scikit-learn's `set_output` is set to."""
    return StandardScaler().set_output(transform="default").fit(values)


class BayesianMLP(BaseEstimator):
    """The common base of the regressor and the classifier."""

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (50,),
        activation: str = "relu",
        *,
        prior_gain: float = 2.0,
        steps: int = 10_000,
        batch_size: int | None = None,
        learning_rate: float = 0.01,
        draws_per_step: int = 4,
        kl_warm_up: float = 0.8,
        draws: int = 1000,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.prior_gain = prior_gain
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.draws_per_step = draws_per_step
        self.kl_warm_up = kl_warm_up
        self.draws = draws
        self.random_state = random_state

    def _training(self) -> Training:
        rate = _check.one_number("learning_rate", self.learning_rate)
        _check.not_negative("kl_warm_up", self.kl_warm_up)
        if self.kl_warm_up > 1:
            do = "Pass a share of the steps, such as 0.8."
            _check.fail(_check.InputError, "kl_warm_up to be at most 1", f"{self.kl_warm_up}", do)
        return Training(
            _check.positive_integer("steps", self.steps),
            None if self.batch_size is None else _check.positive_integer("batch_size", self.batch_size),
            rate,
            _check.positive_integer("draws_per_step", self.draws_per_step),
        )

    def _network(self, features: int, outputs: int) -> nn.Sequential:
        if not isinstance(self.activation, str) or self.activation not in nn.ACTIVATIONS:
            known = ", ".join(nn.ACTIVATIONS)
            _check.fail(_check.InputError, f"activation to be one of {known}", repr(self.activation), "Pass one.")
        sizes = [features, *np.atleast_1d(self.hidden_layer_sizes).tolist()]
        layers: list[nn.Layer] = []
        for inputs, units in itertools.pairwise(sizes):
            layers += [nn.linear(inputs, units), nn.ACTIVATIONS[self.activation]]
        return nn.sequential(*layers, nn.linear(sizes[-1], outputs))

    def _key(self, use: int) -> jax.Array:
        _check.process()
        return jax.random.fold_in(jax.random.key(self.seed_), use)

    def _learn(self, X: np.ndarray, y: np.ndarray, outputs: int, likelihood: Likelihood) -> Self:
        """Train from the start on validated rows; y holds standardised targets, or the indices of classes."""
        training = self._training()
        network = self._network(X.shape[1], outputs)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.x_scaler_ = scaler(X)
        params = network.init(self._key(INIT))
        model = bayesianize(network.apply, params, prior=fan_in(params, self.prior_gain), likelihood=likelihood)
        warm = round(self.kl_warm_up * training.steps)
        self.n_samples_seen_, self.n_updates_ = 0, 0
        return self._train(model, X, y, warm_up(warm) if warm else 1.0)

    def _update(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Train on more rows, with the posterior so far as the prior and as the start."""
        before = marginals(self.model_.posterior, "partial_fit")
        return self._train(dataclasses.replace(self.model_, prior=Normal(before.mean, before.std)), X, y, 1.0)

    def _train(self, model: BNN, X: np.ndarray, y: np.ndarray, kl_weight: Any) -> Self:
        key = jax.random.fold_in(self._key(FIT), self.n_updates_)
        x = self.x_scaler_.transform(X)
        self.model_, self.loss_curve_ = trained(key, model, x, y, self._training(), kl_weight)
        self.n_samples_seen_ += len(X)
        self.n_updates_ += 1
        return self

    def _rows(self, X: ArrayLike) -> np.ndarray:
        """Check rows to predict, and return them standardised as in training."""
        check_is_fitted(self)
        _check.positive_integer("draws", self.draws)
        return self.x_scaler_.transform(validated(self, X, reset=False, dtype=np.float64))

    def _predicted(self, X: ArrayLike, of: Callable[[Predictive], Tree], **wanted: Any) -> Tree:
        """Return the result of `of` for the predictive of each tile, in standardised units."""
        x, key = self._rows(X), self._key(PREDICT)
        return in_tiles(lambda tile: of(predict(key, self.model_, tile, draws=self.draws, **wanted)), x)

    def _log_scores(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Compute log p(y | X) of each validated row, in nats, with y in the units of training: (n_samples,)."""
        key, model = self._key(PREDICT), self.model_

        def scores(x: np.ndarray, y: np.ndarray) -> jax.Array:
            return mixture.log_score(model.likelihood, draws(key, model, x, draws=self.draws), y)

        return in_tiles(scores, self.x_scaler_.transform(X), y)


class BayesianMLPRegressor(MultiOutputMixin, RegressorMixin, BayesianMLP):
    """A multilayer perceptron with a Gaussian over every weight, for regression with error bars.

    It is trained by Bayes by backprop (Blundell et al. 2015, arXiv 1505.05424) on columns and targets that it
    standardises itself; inputs and predictions are in original units. The noise is one learned standard deviation for
    each target. Predictions distinguish the spread of the function from that of a new observation.

    The defaults were chosen on rows held out of the training rows of four UCI sets. The most important one is
    `kl_warm_up`: without it, units are pruned before they have learned anything from the data.

    Args:
        hidden_layer_sizes: the number of units of each hidden layer, or of the only one.
        activation: "relu", "tanh", "gelu" or "softplus".
        prior_gain: the prior of a weight is N(0, prior_gain/fan-in), that of a bias N(0, 1), in standardised columns.
        steps: the number of updates by Adam.
        batch_size: rows per update; by default 32, or 64 with the exact bound.
        learning_rate: Adam's learning rate at the first step; it falls to 0 on a cosine.
        draws_per_step: draws of the weights per update. Not used with one hidden layer, whose bound is computed
            exactly without draws (`bbb.objective.exact_elbo_cost`).
        kl_warm_up: the share of the steps over which the weight of the KL rises from 0 to 1; 0 for no warm-up.
        draws: draws of the weights for a prediction.
        random_state: None, an int or a `numpy.random.RandomState`. A fitted estimator's predictions are reproducible.

    Attributes:
        model_: the `BNN` of standardised columns and targets.
        x_scaler_, y_scaler_: the `StandardScaler`s of X and y. A constant column becomes 0.
        noise_std_: (n_targets,) the learned standard deviation of the noise, in units of y.
        loss_curve_: (steps,) the negative evidence lower bound of the last training, with the KL's weight at each
            step, in nats over its rows, with y standardised.
        n_samples_seen_: the number of rows that the posterior has learned from.
        n_features_in_, feature_names_in_: as in every estimator.

    Raises:
        ValueError, NotFittedError: as in scikit-learn's conventions.
        InputError: a ValueError, if a parameter or argument is invalid.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X, (n_samples, n_features), and targets y, (n_samples,) or (n_samples, n_targets)."""
        X, y = validated(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._one_target = y.ndim == 1
        y = y.reshape(len(y), -1).astype(np.float64)
        self.y_scaler_ = scaler(y)
        noise = Gaussian(np.full(y.shape[1], START_NOISE_STD), learn=True)
        return self._learn(X, self.y_scaler_.transform(y), y.shape[1], noise)

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from more rows: the posterior so far becomes the prior.

        The first call is `fit`; later calls keep its standardisation. The noise is held fixed during training. Its
        variance is then averaged, weighted by numbers of rows, with that of the new rows: E(y − f)², with f from the
        new posterior.

        Raises:
            ShapeError: if the number of targets differs from the first call's.

        Source: Nguyen et al. 2018, arXiv 1710.10628, eq. 4, without its coreset.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y)
        X, y = validated(self, X, y, reset=False, dtype=np.float64, multi_output=True, y_numeric=True)
        y = self._targets(y)
        seen, noise_std = self.n_samples_seen_, self._noise_std
        self._set_noise(noise_std)
        self._update(X, y)
        residuals = self._squared_residuals(X, y)
        pooled = (seen * noise_std**2 + residuals.sum(axis=0)) / self.n_samples_seen_
        self._set_noise(np.sqrt(pooled))
        return self

    def predict(self, X: ArrayLike, return_std: bool = False, of: str = "y") -> Any:
        """Return the mean of each row and, with `return_std`, the standard deviation, in units of y.

        The shapes are (n_samples,), or (n_samples, n_targets) for y of two axes.

        Args:
            X: (n_samples, n_features).
            return_std: whether to return the standard deviation too.
            of: "y", a new observation including its noise, or "f", the function: the uncertainty of the weights only.
        """
        _check_of(of)
        mean, std = self._predicted(X, lambda p: (getattr(p, of).mean, getattr(p, of).std))
        mean = self._shaped(self._original(mean))
        return (mean, self._shaped(std * self.y_scaler_.scale_)) if return_std else mean

    def predict_quantiles(
        self, X: ArrayLike, quantiles: Sequence[float] = (0.05, 0.5, 0.95), of: str = "y"
    ) -> np.ndarray:
        """Return quantiles in units of y: (n_samples, n_quantiles), or (n_samples, n_targets, n_quantiles).

        Args:
            X: (n_samples, n_features).
            quantiles: probabilities inside (0, 1), in any order.
            of: "y" or "f", as in `predict`.

        Raises:
            InputError: if a quantile is not inside (0, 1), or there are none.
        """
        _check_of(of)
        ps = _check.levels("quantile", quantiles)
        if not ps:
            _check.fail(_check.InputError, "at least one quantile", "none", "Pass, for example, (0.05, 0.5, 0.95).")

        def chosen(p: Predictive) -> list[np.ndarray]:
            return [getattr(p, of).quantile(q) for q in ps]

        found = self._predicted(X, chosen, quantiles=ps)
        return np.stack([self._shaped(self._original(values)) for values in found], axis=-1)

    def predict_interval(self, X: ArrayLike, coverage: float = 0.95, of: str = "y") -> Interval:
        """Return the ends (lower, upper) of the central interval of probability `coverage`, in the shape of `predict`.

        Args:
            X: (n_samples, n_features).
            coverage: a number inside (0, 1).
            of: "y" or "f", as in `predict`.

        Raises:
            InputError: if `coverage` is not inside (0, 1).
        """
        ends = self.predict_quantiles(X, tails(_check.probability("coverage", coverage)), of)
        return Interval(ends[..., 0], ends[..., 1])

    def sample_y(self, X: ArrayLike, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draw observations in units of y: (n_rows, n_samples), or (n_rows, n_targets, n_samples).

        Each sample uses one draw of the weights for all rows, and independent noise for each row.

        Args:
            X: (n_rows, n_features).
            n_samples: the number of draws.
            random_state: None, an int or a `numpy.random.RandomState`.
        """
        count, random = _check.positive_integer("n_samples", n_samples), check_random_state(random_state)
        x, key = self._rows(X), jax.random.key(int(random.randint(2**31 - 1)))
        f = in_tiles(lambda tile: draws(key, self.model_, tile, draws=count), x, axis=1)
        y = f + self._noise_std * random.standard_normal(f.shape)
        return np.stack([self._shaped(self._original(sample)) for sample in y], axis=-1)

    def log_score(self, X: Any, y: Any) -> float:
        """Compute the mean of log p(y | X) over rows, in nats, of densities in units of y; higher is better.

        The predictive is a mixture of normals, one for each draw of the weights. It can be used as `scoring`.
        """
        check_is_fitted(self)
        X, y = validated(self, X, y, reset=False, dtype=np.float64, multi_output=True, y_numeric=True)
        return float(np.mean(self._log_scores(X, self._targets(y))) - np.sum(np.log(self.y_scaler_.scale_)))

    @property
    def noise_std_(self) -> np.ndarray:
        """The learned standard deviation of the noise of each target, in units of y: (n_targets,)."""
        return self._noise_std * self.y_scaler_.scale_

    @property
    def _noise_std(self) -> np.ndarray:
        likelihood: Any = self.model_.likelihood
        return np.asarray(likelihood.std, np.float64)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets standardised as those of the first call."""
        y = y.reshape(len(y), -1).astype(np.float64)
        if y.shape[1] != self.y_scaler_.n_features_in_:
            got, do = f"{y.shape[1]}", "Pass the same targets as in the first call."
            _check.fail(_check.ShapeError, f"y of {self.y_scaler_.n_features_in_} targets", got, do)
        return self.y_scaler_.transform(y)

    def _squared_residuals(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Compute E(y − f)² of standardised targets: (rows, n_targets)."""
        x, key = self.x_scaler_.transform(X), self._key(PREDICT)
        f = in_tiles(lambda tile: _mean_and_std(predict(key, self.model_, tile, draws=self.draws)), x)
        return np.square(y - f[0]) + np.square(f[1])

    def _set_noise(self, std: np.ndarray) -> None:
        noise = Gaussian(jnp.asarray(std, widest_dtype(self.model_.posterior.params)))
        self.model_ = dataclasses.replace(self.model_, likelihood=noise)

    def _original(self, values: np.ndarray) -> np.ndarray:
        return values * self.y_scaler_.scale_ + self.y_scaler_.mean_

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._one_target else values


class BayesianMLPClassifier(ClassifierMixin, BayesianMLP):
    """A multilayer perceptron with a Gaussian over every weight, for classes, with the uncertainty of its weights.

    It is trained by Bayes by backprop (Blundell et al. 2015, arXiv 1505.05424) on columns that it standardises itself.
    Probabilities are means over draws of the weights, so they are less confident where the draws disagree.

    Args:
        hidden_layer_sizes, activation, prior_gain, steps, batch_size, learning_rate, draws_per_step, kl_warm_up,
            draws, random_state: as in `BayesianMLPRegressor`.

    Attributes:
        classes_: the labels, sorted.
        model_: the `BNN` of standardised columns, whose outputs are logits.
        x_scaler_: the `StandardScaler` before it. A constant column becomes 0.
        loss_curve_: (steps,) the negative evidence lower bound of the last training, with the KL's weight at each
            step, in nats over its rows.
        n_samples_seen_: the number of rows that the posterior has learned from.
        n_features_in_, feature_names_in_: as in every estimator.

    Raises:
        ValueError, NotFittedError: as in scikit-learn's conventions.
        InputError: a ValueError, if a parameter or argument is invalid, such as an unknown label.
    """

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
        X, y = self._labelled(X, y, reset=True)
        self.classes_ = np.unique(y if classes is None else classes)
        if len(self.classes_) < 2:
            do = "Pass rows of every class, or the classes: partial_fit(X, y, classes)."
            _check.fail(
                _check.InputError, "labels of at least two classes", f"one class, {self.classes_.tolist()[0]!r}", do
            )
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
            _check.fail(_check.InputError, f"{name} of the classes {known}", repr(unseen.tolist()[0]), do)
        return np.searchsorted(self.classes_, y)


def _mean_and_std(predictive: Predictive) -> tuple[np.ndarray, np.ndarray]:
    return predictive.f.mean, predictive.f.std


def _check_of(of: Any) -> None:
    if not isinstance(of, str) or of not in ("y", "f"):
        do = 'Pass "y" for a new observation, "f" for the function.'
        _check.fail(_check.InputError, 'of to be "y" or "f"', repr(of), do)
