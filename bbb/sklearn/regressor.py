"""The regressor for scikit-learn."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from bbb import checks
from bbb.core.jit import jit
from bbb.core.tree import Tree, widest_dtype
from bbb.data import rows_for
from bbb.decide.coverage.calibration import Calibration
from bbb.decide.coverage.intervals import around_mean, std_scores
from bbb.errors import InputError, ShapeError, fail
from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian, Gaussian, HeteroscedasticGaussian
from bbb.model import BNN
from bbb.networks.standardized import Standardized
from bbb.predictive.api import predict
from bbb.predictive.summary import Interval, Predictive, tails
from bbb.sklearn.base import PREDICT, BayesianMLP, ByMethod, in_tiles, scaler
from bbb.sklearn.calibration import bounds_of, check_none, split_of
from bbb.sklearn.frames import validated
from bbb.sklearn.noise import AUTO, CONSTANT, REACH, TYPICAL, VARYING, varies, with_varying
from bbb.sklearn.weights import counted, row_weights
from bbb.tables.encoding import REFUSE
from bbb.tracing.network import Apply

NOISE_STD = ByMethod(0.5, 1.0)
"""The starting value of the learned noise, as a share of the target's standard deviation. By the evidence, training
starts as if nothing were explained."""


class BayesianMLPRegressor(MultiOutputMixin, RegressorMixin, BayesianMLP):
    """A multilayer perceptron with a Gaussian over every weight, for regression with error bars.

    It standardises columns and targets itself; inputs and predictions are in original units. The noise has one learned
    standard deviation for each target, or one for each row where the data say that it varies. Predictions distinguish
    the spread of the function from that of a new observation.

    By default the weights of largest posterior density, a prior for each layer and each column of X, and the noise are
    found together, by the evidence (`bbb.tune`); the posterior is the Gaussian of the curvature there (`bbb.laplace`).
    Of three starts, that of the largest evidence is kept; where the squares of its residuals depend on the columns, a
    fourth starts there with noise that may vary, and is kept if its evidence is larger.
    Nothing is to be chosen by hand: a column that says nothing gets a prior next to 0. `python -m benchmarks.tabular`
    compares the defaults with Gaussian processes, boosting and ensembles on ten tables. Where the matrix of the
    curvature takes more than a minute or so, training is by Bayes by backprop, and the posterior is added after it.

    Args:
        hidden_layer_sizes: the number of units of each hidden layer, or of the only one.
        activation: "relu", "tanh", "gelu" or "softplus"; by default "gelu" by the evidence, "relu" for Bayes by
            backprop.
        prior_gain: the prior of a weight is N(0, prior_gain/fan-in), that of a bias N(0, 1), in standardised columns;
            by the evidence, at the start. By default 2 for Bayes by backprop, 0.5 by the evidence.
        steps: the number of updates by Adam; by the evidence, of all rows, with a step of the prior after each 50.
        posterior: "laplace", a Gaussian of the curvature of the data around the means, with all correlations if it fits
            in 2 GB (`bbb.laplace`), whose spread grows between the data, all by the evidence; or "hmc", draws of four
            Markov chains that start there (`bbb.mcmc.hmc`, with the extra `mcmc`), for up to some thousand rows and
            weights, with a ConvergenceWarning for what is wrong with them; or "mean_field", independent Gaussians by
            Bayes by backprop (Blundell et al. 2015, arXiv 1505.05424), too sure between the data. `partial_fit` is by
            Bayes by backprop, and goes on from independent Gaussians with the same precision of each weight.
        noise: "constant"; "varying", whose logarithm is a second output of the network for each target; or "auto",
            which is "constant" for Bayes by backprop, and by the evidence what has the larger one, see above.
        batch_size: rows per update of Bayes by backprop; by default 32, or 64 with the exact bound.
        learning_rate: likewise, Adam's at the first step; it falls to 0 on a cosine.
        draws_per_step: likewise, draws of the weights per update. Not used with one hidden layer of "relu", whose
            bound is computed exactly without draws (`bbb.objectives.exact_elbo_cost`).
        kl_warm_up: likewise, the share of the steps over which the weight of the KL rises from 0 to 1; 0 for no
            warm-up. Without it, units are pruned before they have learned anything from the data.
        draws: draws of the weights for a prediction.
        random_state: None, an int or a `numpy.random.RandomState`. A fitted estimator's predictions are reproducible.
        warm_start: whether `fit` goes on from the last training, with its standardisation: from its means, its noise
            and, by the evidence, its prior; of Bayes by backprop, from the standard deviations too. The columns, the
            targets and the layers have to be the same, and the new posterior is that of the new rows alone:
            `partial_fit` is what adds rows to those before.
        missing: what is done about missing values of X: "refuse"; "median", the median of the rows to learn from, or of
            words the most frequent; or "indicator", that and a column of 0 and 1 that says so for each column with
            missing values among those rows. See `bbb.tables.encoding`.
        unknown: what is done about a category that was not among the rows of the first `fit`: "refuse", or "ignore",
            which takes it for none of those. It may be set after `fit`.
        calibrate: a share of the rows, such as 0.2, that `fit` holds out at random and calibrates by: y of a new row is
            then inside of `predict_interval` with a probability of at least `coverage`, also where the model is wrong
            (split conformal prediction, see `bbb.decide.conformal`). Nothing else is learned from these rows. None
            learns from all, and its intervals are right as far as the model is. Not for `warm_start` and
            `partial_fit`, whose rows before may be among those held out.

    Attributes:
        calibration_: the scores of the rows held out, `|y − mean|` in standard deviations of the predictive, as a
            `bbb.decide.coverage.calibration.Calibration`; None without `calibrate`.
        model_: the `BNN` of standardised columns and targets.
        structure_: of `posterior="laplace"`, what it keeps of the curvature: "full", "last_layer" or "low_rank"; else
            None.
        encoding_: how the columns of a frame with words or dates, or with `missing`, become numbers: the
            `bbb.tables.encoding.Encoding` of the first `fit`. None of numbers, which stay what they are.
        x_scaler_: the `StandardScaler` of X, encoded. A constant column becomes 0; the columns of one category share a
            scale.
        y_scaler_: that of y.
        noise_: "constant" or "varying".
        noise_std_: (n_targets,) the learned standard deviation of the noise, in units of y; where it varies, the root
            of its mean square over the rows learned from: `predict_noise_std` has that of each row.
        loss_curve_: minus the evidence after each step of the prior, (steps/50,); or, of Bayes by backprop, the
            negative evidence lower bound with the KL's weight at each step, (steps,); in nats over the rows of the
            last training, with y standardised.
        drift_: after `partial_fit`, how likely its rows were before it learned from them, beside what the estimator
            expected of rows of its own: a `bbb.decide.Drift`, of standardised y. None after `fit`.
        n_samples_seen_: the number of rows that the posterior has learned from, or the sum of their weights.
        n_features_in_: the number of columns of X, as in every estimator.
        feature_names_in_: their names, of a frame.

    Raises:
        ValueError, NotFittedError: as in scikit-learn's conventions.
        InputError: a ValueError, if a parameter or argument is invalid.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(30, 2))
        >>> regressor = bbb.sklearn.BayesianMLPRegressor(
        ...     2, posterior="mean_field", steps=20, random_state=0
        ... )
        >>> regressor = regressor.fit(X, X[:, 0])
        >>> mean, std = regressor.predict(X, return_std=True)
        >>> mean.shape, std.shape
        ((30,), (30,))
    """

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
        posterior: str = "laplace",
        noise: str = AUTO,
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
        self.noise = noise

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from rows X, (n_samples, n_features), and targets y, (n_samples,) or (n_samples, n_targets).

        Args:
            X: numbers; or a frame of pandas or polars (extra `tables`), whose columns may also be of words or
                categories, which are encoded by one-hot, and of dates, as days.
            y: numbers.
            sample_weight: (n_samples,), what each row counts for, at least 0: a row of weight 2 is the row twice, one
                of weight 0 is absent, and rows that are equal are learned as one. None for 1 each.

        Raises:
            TableError: an InputError, for a column that cannot be encoded, or a missing value that is refused.
        """
        if not checks.is_word(self.noise, (AUTO, CONSTANT, VARYING)):
            known = ", ".join(f'"{word}"' for word in (AUTO, CONSTANT, VARYING))
            fail(InputError, f"noise to be one of {known}", repr(self.noise), "Pass one of them.")
        goes_on = self._goes_on
        split = split_of(self, X, sample_weight, goes_on)
        X, y = self._measured(X, y, split.to_learn, reset=not goes_on)
        one_target, y = y.ndim == 1, y.reshape(len(y), -1).astype(np.float64)
        rows = counted(X, y, row_weights(split.to_learn, len(X)))
        if not goes_on:
            self.y_scaler_ = scaler(rows.y, rows.counts)
        rows, targets = rows._replace(y=self._targets(rows.y)), y.shape[1]
        likelihood = self._noise_so_far() if goes_on else self._first_noise(targets)
        self._learn(rows, targets * (2 if isinstance(likelihood, HeteroscedasticGaussian) else 1), likelihood)
        self._one_target = one_target
        self._variance = rows.mean(self._noise_variances(rows.X))
        self.calibration_ = split.calibrated(self._scores, X, y)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from more rows: the posterior so far becomes the prior.

        The first call is `fit`; later calls keep its standardisation. Constant noise is held fixed during training. Its
        variance is then averaged, weighted by numbers of rows, with that of the new rows: E(y − f)², with f from the
        new posterior. Noise that varies is learned on like the means.

        Raises:
            InputError: if `calibrate` is set.
            ShapeError: if the number of targets differs from the first call's.

        Source: Nguyen et al. 2018, arXiv 1710.10628, eq. 4, without its coreset.
        """
        check_none(self)
        if not hasattr(self, "model_"):
            return self.fit(X, y, sample_weight)
        self.calibration_ = None
        X, y = self._measured(X, y)
        rows = counted(X, self._targets(y), row_weights(sample_weight, len(X)))
        seen, constant = self.n_samples_seen_, self.noise_ == CONSTANT
        if constant:
            self._set_noise(np.sqrt(self._variance))
        self._update(rows)
        new = rows.mean(self._squared_residuals(rows.X, rows.y) if constant else self._noise_variances(rows.X))
        self._variance = (seen * self._variance + rows.total * new) / self.n_samples_seen_
        if constant:
            self._set_noise(np.sqrt(self._variance))
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
        ps = checks.levels("quantile", quantiles)
        if not ps:
            fail(InputError, "at least one quantile", "none", "Pass, for example, (0.05, 0.5, 0.95).")

        def chosen(p: Predictive) -> list[np.ndarray]:
            return [getattr(p, of).quantile(q) for q in ps]

        found = self._predicted(X, chosen, quantiles=ps)
        return np.stack([self._shaped(self._original(values)) for values in found], axis=-1)

    def predict_interval(self, X: ArrayLike, coverage: float = 0.95, of: str = "y") -> Interval:
        """Return the ends (lower, upper) of the central interval of probability `coverage`, in the shape of `predict`.

        With `calibrate`, that of y is mean ± q standard deviations, where q is the least that holds as many of the rows
        held out as `coverage` asks for. That of f, which nobody observes, is the model's own.

        Args:
            X: (n_samples, n_features).
            coverage: a number inside (0, 1); with `calibrate`, at most n/(n + 1) for n rows held out.
            of: "y" or "f", as in `predict`.

        Raises:
            InputError: if `coverage` is not such a number.
        """
        coverage = checks.probability("coverage", coverage)
        check_is_fitted(self)
        if of == "y" and self.calibration_ is not None:
            return self._calibrated_interval(X, self.calibration_, coverage)
        ends = self.predict_quantiles(X, tails(coverage), of)
        return Interval(ends[..., 0], ends[..., 1])

    def _calibrated_interval(self, X: ArrayLike, calibrated: Calibration, coverage: float) -> Interval:
        calibrated.check_enough(coverage)
        mean, std = self._predicted(X, _moments)
        bounds = bounds_of(calibrated, coverage, len(mean))
        return Interval(*(self._shaped(self._original(end)) for end in around_mean(mean, std, bounds)))

    def _scores(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return how far y of validated rows is from its mean, in standard deviations: (rows, n_targets)."""
        return std_scores(self._targets(y), *self._predicted_at(self.x_scaler_.transform(X), _moments))

    def predict_noise_std(self, X: ArrayLike) -> np.ndarray:
        """Return the standard deviation of the noise of each row in units of y, in the shape of `predict`.

        That of the posterior's mean; of constant noise the same for all rows.

        Args:
            X: (n_samples, n_features).
        """
        check_is_fitted(self)
        variances = self._noise_variances(validated(self, X, reset=False))
        return self._shaped(np.sqrt(variances) * self.y_scaler_.scale_)

    def sample_y(self, X: ArrayLike, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draw observations in units of y: (n_rows, n_samples), or (n_rows, n_targets, n_samples).

        Each sample uses one draw of the weights for all rows, and independent noise for each row. Of "hmc", it is one
        of the draws of the chains, at random.

        Args:
            X: (n_rows, n_features).
            n_samples: the number of draws.
            random_state: None, an int or a `numpy.random.RandomState`.
        """
        random = check_random_state(random_state)
        f, std = self._drawn(
            X, n_samples, random, lambda outputs: (self._likelihood.mean(outputs), self._stds(outputs))
        )
        y = f + std * random.standard_normal(f.shape)
        return np.stack([self._shaped(self._original(sample)) for sample in y], axis=-1)

    def log_score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the mean of log p(y | X) over rows, in nats, of densities in units of y; higher is better.

        The predictive is a mixture of normals, one for each draw of the weights. Rows count by `sample_weight`. It can
        be used as `scoring`, and `LogScorer` in pipelines too.
        """
        check_is_fitted(self)
        X, y = self._measured(X, y)
        scores = np.average(self._log_scores(X, self._targets(y)), weights=row_weights(sample_weight, len(X)))
        return float(scores - np.sum(np.log(self.y_scaler_.scale_)))

    def _measured(self, X: Any, y: Any, sample_weight: Any = None, *, reset: bool = False) -> Any:
        """Return rows and targets as numbers: see `validated`."""
        how: dict[str, Any] = {"multi_output": True, "y_numeric": True}
        return validated(self, X, y, reset=reset, sample_weight=sample_weight, **how)

    @property
    def noise_std_(self) -> np.ndarray:
        """The learned standard deviation of the noise of each target, in units of y: (n_targets,)."""
        return np.sqrt(self._variance) * self.y_scaler_.scale_

    @property
    def noise_(self) -> str:
        """Whether the noise is "constant" or "varying"."""
        return VARYING if isinstance(self._likelihood, HeteroscedasticGaussian) else CONSTANT

    @property
    def _likelihood(self) -> Any:
        check_is_fitted(self)
        return self.model_.likelihood

    def _stds(self, outputs: jax.Array) -> jax.Array:
        """Return the noise's standard deviation of each target, standardised: of (..., outputs), (..., targets)."""
        std = self._likelihood.std
        return std(outputs) if callable(std) else jnp.broadcast_to(std, outputs.shape)

    def _noise_variances(self, X: np.ndarray) -> np.ndarray:
        """Compute the noise's variance of each validated row at the means, standardised: (rows, n_targets)."""
        if self.noise_ == CONSTANT:  # which the network has no part in
            return np.tile(np.square(np.asarray(self._likelihood.std, np.float64)), (len(X), 1))
        x = self.x_scaler_.transform(X)
        return in_tiles(lambda tile: self._likelihood.variance(_at_means(self._trained, tile)), x)

    def _first_noise(self, targets: int) -> Gaussian | BoundedHeteroscedasticGaussian:
        """Return the likelihood that a training from the start begins with."""
        if self.noise == VARYING:
            return BoundedHeteroscedasticGaussian(np.full(targets, TYPICAL), REACH)
        return Gaussian(np.full(targets, self._default(NOISE_STD)), learn=True)

    def _noise_so_far(self) -> Any:
        """Return the likelihood that the last training ended with.

        Raises:
            InputError: if it is of another kind than `noise` now asks for.
        """
        if self.noise not in (AUTO, self.noise_):
            do = f'Pass noise="{self.noise_}", or set warm_start=False.'
            expected = f'noise="{self.noise_}", as in the last training, which warm_start goes on from'
            fail(InputError, expected, repr(self.noise), do)
        return Gaussian(np.sqrt(self._variance), learn=True) if self.noise_ == CONSTANT else self._trained.likelihood

    def _further(self, best: BNN, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> BNN | None:
        """Return a start with noise that may vary, where the residuals of constant noise ask for it."""
        if self.noise != AUTO or isinstance(best.likelihood, HeteroscedasticGaussian):
            return None
        if not varies(x, y - in_tiles(lambda tile: _at_means(best, tile), x), weights):
            return None
        network = self._network(x.shape[1], 2 * y.shape[1])
        return with_varying(best, self._init(network, 0), network, self._prior_gain)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets standardised as those of the first call."""
        y = y.reshape(len(y), -1).astype(np.float64)
        if y.shape[1] != self.y_scaler_.n_features_in_:
            got, do = f"{y.shape[1]}", "Pass the same targets as in the first call."
            fail(ShapeError, f"y of {self.y_scaler_.n_features_in_} targets", got, do)
        return self.y_scaler_.transform(y)

    def _squared_residuals(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Compute E(y − f)² of standardised targets: (rows, n_targets)."""
        x, key = self.x_scaler_.transform(X), self._key(PREDICT)
        f = in_tiles(lambda tile: _mean_and_std(predict(key, self.model_, tile, draws=self.draws)), x)
        return np.square(y - f[0]) + np.square(f[1])

    def _set_noise(self, std: np.ndarray) -> None:
        noise = Gaussian(jnp.asarray(std, widest_dtype(self.model_.posterior.params)))
        self.model_, self._trained = (
            dataclasses.replace(model, likelihood=noise) for model in (self.model_, self._trained)
        )

    def _in_units(self) -> BNN:
        """Return the network with its outputs and its noise in units of y, of rows that are standardised."""
        model, features = super()._in_units(), self.x_scaler_.n_features_in_
        mean, std = tuple(self.y_scaler_.mean_.tolist()), tuple(self.y_scaler_.scale_.tolist())
        apply = Standardized(model.apply, (0.0,) * features, (1.0,) * features, mean, std)
        likelihood: Any = jax.tree_util.tree_map_with_path(partial(_shifted, np.log(std)), model.likelihood)
        return dataclasses.replace(model, apply=apply, likelihood=likelihood)

    def _original(self, values: np.ndarray) -> np.ndarray:
        return values * self.y_scaler_.scale_ + self.y_scaler_.mean_

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._one_target else values


def _at_means(model: BNN, x: np.ndarray) -> jax.Array:
    """Run the network with the means of a posterior, on standardised rows."""
    return _outputs(model.posterior.params, rows_for(model, "x", x), apply=model.apply)


@partial(jit, static_argnames=("apply",))
def _outputs(params: Tree, x: jax.Array, *, apply: Apply) -> jax.Array:
    return apply(params, x)


def _shifted(log_scale: np.ndarray, path: tuple[Any, ...], leaf: Any) -> Any:
    """Return a leaf of a likelihood in other units: logarithms of standard deviations shift, all else stays."""
    if path[-1].name not in ("log_std", "log_center"):
        return leaf
    return jnp.asarray(np.asarray(leaf) + log_scale.astype(leaf.dtype))


def _moments(predictive: Predictive) -> tuple[np.ndarray, np.ndarray]:
    return predictive.y.mean, predictive.y.std


def _mean_and_std(predictive: Predictive) -> tuple[np.ndarray, np.ndarray]:
    return predictive.f.mean, predictive.f.std


def _check_of(of: Any) -> None:
    if not isinstance(of, str) or of not in ("y", "f"):
        do = 'Pass "y" for a new observation, "f" for the function.'
        fail(InputError, 'of to be "y" or "f"', repr(of), do)
