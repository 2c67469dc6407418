"""The common base of the estimators."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jax import lax
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from bbb import checks, mixture
from bbb.core.jit import jit
from bbb.core.tiles import by_tile
from bbb.core.tree import Tree
from bbb.decide.continual import Drift, drift
from bbb.decide.coverage.calibration import Calibration
from bbb.errors import InputError, ShapeError, fail
from bbb.inference import METHODS, Learned, Method, activation_of, method_of
from bbb.likelihoods.protocol import Likelihood
from bbb.model import BNN, bayesianize
from bbb.networks import nn
from bbb.objectives.schedules import warm_up
from bbb.posteriors.verbs import marginals
from bbb.predictive.api import predict
from bbb.predictive.evaluation import draws
from bbb.predictive.summary import Predictive
from bbb.priors.normal import Normal, fan_in
from bbb.sklearn.frames import validated
from bbb.sklearn.training import Training, trained
from bbb.sklearn.weights import Rows, padded
from bbb.tables.encoding import REFUSE, Encoding

TILE = 64
"""The fixed number of rows predicted at once: a row's prediction has the same bits whatever rows come with it."""


class ByMethod(NamedTuple):
    """A starting value for Bayes by backprop, by the bound, and one for learning by the evidence."""

    bound: float
    evidence: float


GAIN = ByMethod(2.0, 0.5)
"""The prior's gain; by the evidence, at the start. From a wider one, the means may follow the noise before the prior
can say that it is noise: from 2, one of four starts on Friedman 1 ended 50 nats below the others, from 0.5 none did."""


STARTS = 3
"""Starts of a training by the evidence, of which the one of the largest is kept: with 20 useless columns, some end
where the noise explains most, hundreds of nats below the others."""


INIT, FIT, PREDICT, FINISH, DRIFT = range(5)
"""The uses of random numbers by an estimator."""


def in_tiles(function: Callable[..., Tree], *arrays: np.ndarray, axis: int = 0) -> Tree:
    """Apply a function to tiles of `TILE` rows; return float64 arrays, as scikit-learn does."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float64), by_tile(function, *arrays, size=TILE, axis=axis))


def scaler(values: np.ndarray, counts: np.ndarray | None) -> StandardScaler:
    """Return a fitted scaler of columns, which returns arrays whatever scikit-learn's `set_output` is set to."""
    return StandardScaler().set_output(transform="default").fit(values, sample_weight=counts)


class BayesianMLP(BaseEstimator):
    """The common base of the regressor and the classifier."""

    calibration_: Calibration | None
    drift_: Drift | None
    encoding_: Encoding | None
    model_: BNN
    n_samples_seen_: float
    x_scaler_: StandardScaler

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
        draws: int = 1000,
        random_state: Any = None,
        warm_start: bool = False,
        missing: str = REFUSE,
        unknown: str = REFUSE,
        calibrate: float | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.prior_gain = prior_gain
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.draws_per_step = draws_per_step
        self.kl_warm_up = kl_warm_up
        self.posterior = posterior
        self.draws = draws
        self.random_state = random_state
        self.warm_start = warm_start
        self.missing = missing
        self.unknown = unknown
        self.calibrate = calibrate

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn is told of an estimator: missing values are fine where they are filled in."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing != REFUSE
        return tags

    def _training(self) -> Training:
        rate = checks.one_number("learning_rate", self.learning_rate)
        checks.not_negative("kl_warm_up", self.kl_warm_up)
        if self.kl_warm_up > 1:
            do = "Pass a share of the steps, such as 0.8."
            fail(InputError, "kl_warm_up to be at most 1", f"{self.kl_warm_up}", do)
        method_of(self.posterior)
        return Training(
            checks.positive_integer("steps", self.steps),
            None if self.batch_size is None else checks.positive_integer("batch_size", self.batch_size),
            rate,
            checks.positive_integer("draws_per_step", self.draws_per_step),
            exact=self._activation in nn.CLOSED_FORM,
        )

    def _network(self, features: int, outputs: int) -> nn.Sequential:
        sizes = [features, *np.atleast_1d(self.hidden_layer_sizes).tolist()]
        layers: list[nn.Layer] = []
        for inputs, units in itertools.pairwise(sizes):
            layers += [nn.linear(inputs, units), nn.ACTIVATIONS[self._activation]]
        return nn.sequential(*layers, nn.linear(sizes[-1], outputs))

    @property
    def _activation(self) -> str:
        """The name of the activation.

        Raises:
            InputError: for what is not one.
        """
        found = activation_of(self.posterior) if self.activation is None else self.activation
        if not checks.is_word(found, tuple(nn.ACTIVATIONS)):
            known = ", ".join(nn.ACTIVATIONS)
            fail(InputError, f"activation to be one of {known}", repr(found), "Pass one.")
        return str(found)

    def _default(self, of: ByMethod) -> float:
        """Return the starting value of Bayes by backprop, or of learning by the evidence."""
        return of.bound if self._by_bound else of.evidence

    @property
    def _by_bound(self) -> bool:
        """Whether the posterior is that of Bayes by backprop, whose prior nothing changes."""
        return method_of(self.posterior) is METHODS["mean_field"]

    def _key(self, *use: int) -> jax.Array:
        return _folded(
            np.uint32(self.seed_), np.resize(np.asarray(use, np.uint32), max(2, len(use))), np.int32(len(use))
        )

    @property
    def _goes_on(self) -> bool:
        """Whether `fit` goes on from the training before."""
        checks.boolean("warm_start", self.warm_start)
        return self.warm_start and hasattr(self, "model_")

    def _learn(self, rows: Rows, outputs: int, likelihood: Likelihood) -> Self:
        """Train on rows, from the start or, warm, from the last training.

        Their y holds standardised targets, or the indices of classes.
        """
        steps, goes_on = self._training().steps, self._goes_on
        network = self._network(rows.X.shape[1], outputs)
        last = [self._last(network, likelihood)] if goes_on else []
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        if not goes_on:
            self.x_scaler_ = scaler(rows.X, rows.counts)
            if self.encoding_ is not None:
                self.x_scaler_.scale_ = np.maximum(self.x_scaler_.scale_, self.encoding_.scales(self.x_scaler_.var_))
        warm = 0 if goes_on else round(self.kl_warm_up * steps)
        self.n_samples_seen_, self.n_updates_, self.drift_ = 0, 0, None
        self._train(last or self._starts(network, likelihood), rows, warm_up(warm) if warm else 1.0)
        self._prior = self.model_.prior
        return self

    def _starts(self, network: nn.Sequential, likelihood: Likelihood) -> list[BNN]:
        every, gain = [self._init(network, k) for k in range(STARTS)], self._prior_gain
        return [bayesianize(network.apply, p, prior=fan_in(p, gain), likelihood=likelihood) for p in every]

    def _last(self, network: nn.Sequential, likelihood: Likelihood) -> BNN:
        """Return where the last training ended, with the prior of the weights before any data.

        Raises:
            ShapeError: if the network has other layers.
        """
        posterior = marginals(self._trained.posterior, "warm_start")
        units = _units(posterior.mean)
        if _units(jax.eval_shape(network.init, jax.random.key(0))) != units:
            expected = f"hidden_layer_sizes of the last training, {units[:-1]}, as warm_start goes on from there"
            do = "Pass the same, or set warm_start=False."
            fail(ShapeError, expected, repr(self.hidden_layer_sizes), do)
        prior = fan_in(posterior.mean, self._prior_gain) if self._by_bound else self._prior
        model = bayesianize(network.apply, posterior.mean, prior=prior, likelihood=likelihood)
        return dataclasses.replace(model, posterior=posterior)

    def _init(self, network: nn.Sequential, k: int) -> Tree:
        return network.init(self._key(INIT, k))

    @property
    def _prior_gain(self) -> float:
        return self._default(GAIN) if self.prior_gain is None else self.prior_gain

    def _further(self, best: BNN, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> BNN | None:
        """Return a start of another kind, which the best model by the evidence asks for; None for none."""
        del best, x, y, weights
        return None

    def _update(self, rows: Rows) -> Self:
        """Train on more rows, with the independent Gaussians of the training so far as the prior and the start."""
        key = jax.random.fold_in(self._key(DRIFT), self.n_updates_)
        self.drift_ = drift(key, self.model_, self.x_scaler_.transform(rows.X), rows.y, sample_weight=rows.weights)
        before = marginals(self._trained.posterior, "partial_fit")
        prior = Normal(before.mean, before.std)
        model = dataclasses.replace(self._trained, posterior=before, prior=prior, linearized=False)
        return self._train([model], rows, 1.0)

    def _train(self, starts: Sequence[BNN], rows: Rows, kl_weight: Any) -> Self:
        method = method_of(self.posterior)
        method.check(starts[0])
        learned = self._learned(method, starts, rows._replace(X=self.x_scaler_.transform(rows.X)), kl_weight)
        self.model_, self.structure_ = learned.model, learned.structure
        for problem in learned.problems:
            warnings.warn(problem, ConvergenceWarning, stacklevel=3)
        self.n_samples_seen_ += rows.total
        self.n_updates_ += 1
        return self

    def _learned(self, method: Method, starts: Sequence[BNN], rows: Rows, kl_weight: Any) -> Learned:
        """Return what a method makes of standardised rows: by itself, or after a training by the bound."""
        key, last_key = (self._key(use, self.n_updates_) for use in (FIT, FINISH))
        training, first, (x, y, _, weights) = self._training(), not self.n_updates_, padded(rows)
        learned = self._by_evidence(method, last_key, starts, x, y, weights) if first else None
        if learned is not None and learned.independent is not None:
            self._trained, self.loss_curve_ = learned.independent, learned.loss
            return learned
        self._trained, self.loss_curve_ = trained(key, starts[0], rows, training, kl_weight)
        return method.finished(last_key, self._trained, x, y, first, sample_weight=weights)

    def _by_evidence(
        self, method: Method, key: jax.Array, starts: Sequence[BNN], x: np.ndarray, y: np.ndarray, weights: Any
    ) -> Learned | None:
        """Return what a method learns by itself; None for one that needs a training by the bound, or data too large."""
        steps = self._training().steps
        learned: Any = method.learned(key, starts, x, y, steps, sample_weight=weights)
        further = None if learned is None else self._further(learned.independent, x, y, weights)
        other: Any = None if further is None else method.learned(key, [further], x, y, steps, sample_weight=weights)
        return learned if other is None or learned.loss.min() <= other.loss.min() else other

    def as_bnn(self, X: Any) -> tuple[BNN, np.ndarray]:
        """Return the fitted network, with its outputs in units of y, and rows as it takes them.

        They are what functions of `bbb` take, such as those that say what to ask next::

            scores = bbb.decide.acquisition.bald(key, *estimator.as_bnn(X))

        Args:
            X: (n_samples, n_features), or a frame, as in `predict`.

        Raises:
            InputError, TableError, ValueError: for an X that does not fit, as `predict` raises them.
            NotFittedError: before `fit`.
        """
        return self._in_units(), self._rows(X)

    def _in_units(self) -> BNN:
        """Return the network with its outputs in units of y: for classes, as it is."""
        check_is_fitted(self)
        return self.model_

    def _rows(self, X: ArrayLike) -> np.ndarray:
        """Check rows to predict, and return them standardised as in training."""
        check_is_fitted(self)
        checks.positive_integer("draws", self.draws)
        return self.x_scaler_.transform(validated(self, X, reset=False))

    def _predicted(self, X: ArrayLike, of: Callable[[Predictive], Tree], **wanted: Any) -> Tree:
        """Return the result of `of` for the predictive of each tile, in standardised units."""
        return self._predicted_at(self._rows(X), of, **wanted)

    def _predicted_at(self, x: np.ndarray, of: Callable[[Predictive], Tree], **wanted: Any) -> Tree:
        """Return the same for rows that are standardised."""
        key = self._key(PREDICT)
        return in_tiles(lambda tile: of(predict(key, self.model_, tile, draws=self.draws, **wanted)), x)

    def _drawn(
        self, X: ArrayLike, n_samples: int, random: np.random.RandomState, of: Callable[[jax.Array], Tree]
    ) -> Tree:
        """Return the result of `of` for the outputs at draws of the weights: leaves (n_samples, n_rows, ...).

        Of "hmc", each is one of the draws of the chains, at random.
        """
        count = checks.positive_integer("n_samples", n_samples)
        x, key = self._rows(X), jax.random.key(int(random.randint(2**31 - 1)))
        held = self.model_.members if self.model_.posterior.holds_draws else 0  # of which all come, each once
        chosen = random.randint(held, size=count) if held else slice(None)
        return in_tiles(lambda tile: of(draws(key, self.model_, tile, draws=count)[chosen]), x, axis=1)

    def _log_scores(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Compute log p(y | X) of each validated row, in nats, with y in the units of training: (n_samples,)."""
        key, model = self._key(PREDICT), self.model_

        def scores(x: np.ndarray, y: np.ndarray) -> jax.Array:
            return mixture.log_score(model.likelihood, draws(key, model, x, draws=self.draws), y)

        return in_tiles(scores, self.x_scaler_.transform(X), y)


@jit
def _folded(seed: jax.Array, use: jax.Array, count: jax.Array) -> jax.Array:
    """Return the key of a seed with the first numbers of a use folded in, one after the other: one program for all."""
    return lax.fori_loop(0, count, lambda i, key: jax.random.fold_in(key, use[i]), jax.random.key(seed))


def _units(params: Tree) -> tuple[int, ...]:
    """Return the number of units of each layer of a network."""
    return tuple(len(layer["bias"]) for layer in params if layer)
