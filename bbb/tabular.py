"""Learning from a table: the commands `bbb fit`, `bbb predict` and `bbb evaluate` as functions."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from bbb import _check, checkpoint, metrics, mixture, nn, prior, schedule
from bbb._tiles import by_tile
from bbb._tree import Tree, widest_dtype
from bbb._validation import count_held
from bbb.diagnose import Diagnosis, Finding, diagnose, of_training
from bbb.fit import fit
from bbb.history import History
from bbb.likelihood import (
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
    StudentT,
    is_discrete,
    noise_std,
)
from bbb.model import BNN, bayesianize
from bbb.objective import exact_elbo_cost, has_exact_elbo
from bbb.options import Checkpointing, Objective, Placement, Restarts
from bbb.predict import draws as draw
from bbb.predict import predict
from bbb.summary import Predictive
from bbb.table import Table

LEVELS = (0.5, 0.9, 0.95, 0.997)
"""The levels of the intervals whose coverage `evaluate` reports."""

SCORED_ROWS = 256
"""The number of rows scored at once: all their draws are held in memory."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of learning from a table; sizes and rates refer to standardised columns.

    By default the network has one hidden layer of rectified units. It is trained by Adam with a learning rate that
    falls to zero on a cosine, while the weight of the KL divergence rises over most of the steps: on rows held out of
    the training rows of three UCI sets, this warm-up gained 0.2 to 1 nat per row. The prior is N(0, 2/fan-in) on
    weights, the scale at which such a network preserves the variance of its inputs (He et al. 2015, arXiv 1502.01852,
    eq. 10), and N(0, 1) on biases. On the training rows of two UCI sets, priors of about this scale that shrink with
    the fan-in reached a higher bound than N(0, 1).

    Attributes:
        hidden: the number of units of the hidden layer, or of each of several, such as (64, 64).
        activation: one of `nn.ACTIVATIONS`, after each hidden layer.
        epochs: passes over the rows.
        batch_size: rows per step.
        learning_rate: Adam's learning rate at the start.
        draws_per_step: draws of the weights per step. Not used with one hidden layer and a "gaussian" likelihood, where
            `bbb.objective.exact_elbo_cost` needs no draws.
        kl_warm_up: the share of the steps over which the weight of the KL divergence rises from 0 to 1.
        noise_std: the starting value of the learned noise, in standard deviations of the target.
        likelihood: one of `LIKELIHOODS`, or "auto" to choose one by the target: see `kind_of`.
        prior: one of `PRIORS`.
        restarts: the number of posteriors to learn, each from its own start; they predict as one mixture.
        validation: the share of rows to hold out, so that training stops at the best log score on them; 0 holds out
            none.
    """

    hidden: int | Sequence[int] = 50
    activation: str = "relu"
    epochs: int = 500
    batch_size: int = 32
    learning_rate: float = 0.01
    draws_per_step: int = 4
    kl_warm_up: float = 0.8
    noise_std: float = 0.5
    likelihood: str = "auto"
    prior: str = "fan-in"
    restarts: int = 1
    validation: float = 0.0

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of units of each hidden layer."""
        return (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)

    def rows_a_step(self, rows: int) -> int:
        """Return the number of rows per step for a table of `rows` rows."""
        held = count_held(self.validation, rows) if self.validation else 0
        return min(self.batch_size, rows - held)


@dataclasses.dataclass(frozen=True)
class Head:
    """The last layers of a network for a kind of target: from outputs near N(0, 1) to those of the likelihood.

    Attributes:
        outputs: the number of outputs of the last linear layer.
        scale: the layers after it.
        likelihood: the likelihood.
    """

    outputs: int
    scale: tuple[nn.Layer, ...]
    likelihood: Any


def _number_head(make: Callable[[float], Likelihood]) -> Callable[[np.ndarray, float], Head]:
    def head(y: np.ndarray, noise_std: float) -> Head:
        mean, std = float(np.mean(y)), float(np.std(y))
        return Head(1, (nn.affine([mean / std], [std]),), make(noise_std * std))

    return head


def _two_headed(y: np.ndarray, noise_std: float) -> Head:
    mean, std = float(np.mean(y)), float(np.std(y))
    units = nn.affine([mean / std, math.log(noise_std * std)], [std, 1.0])
    return Head(2, (units,), HeteroscedasticGaussian())


def _count_head(make: Callable[[], Likelihood]) -> Callable[[np.ndarray, float], Head]:
    def head(y: np.ndarray, noise_std: float) -> Head:
        del noise_std
        return Head(1, (nn.affine([math.log(float(np.mean(y)))], [1.0]),), make())

    return head


def _class_head(y: np.ndarray, noise_std: float) -> Head:
    del noise_std
    return Head(int(np.max(y)) + 1, (), Categorical())


LIKELIHOODS: dict[str, Callable[[np.ndarray, float], Head]] = {
    "gaussian": _number_head(lambda std: Gaussian(std, learn=True)),
    "student-t": _number_head(lambda std: StudentT(std, learn=True, learn_df=True)),
    "heteroscedastic": _two_headed,
    "poisson": _count_head(Poisson),
    "negative-binomial": _count_head(lambda: NegativeBinomial(learn=True)),
    "categorical": _class_head,
}
"""Likelihoods by name: each makes the last layers from the target and the starting noise."""

PRIORS: dict[str, Callable[[Tree], Any]] = {
    "fan-in": prior.fan_in,
    "normal": lambda _: prior.Normal(0.0, 1.0),
    "learned": lambda _: prior.EmpiricalNormal(),
    "laplace": lambda _: prior.Laplace(0.0, 1.0),
    "mixture": lambda _: prior.ScaleMixture(),
}
"""Priors by name: N(0, 2/fan-in), N(0, 1), N(0, s²) of learned s for each array, Laplace(0, 1), and two Gaussians."""


def hidden_layers(inputs: int, recipe: Recipe) -> Iterator[nn.Layer]:
    """Yield the hidden layers of a network of so many inputs, each followed by its activation."""
    for width in recipe.widths:
        yield nn.linear(inputs, width)
        yield nn.ACTIVATIONS[recipe.activation]
        inputs = width


def kind_of(y: np.ndarray) -> str:
    """Choose a likelihood: words, or 0 and 1 only, are classes; whole numbers from 0, counts; others, measurements.

    Whole numbers whose minimum is not 0, such as grades from 3 to 8, are treated as measurements.
    """
    if y.dtype.kind == "U" or np.array_equal(np.unique(y), (0, 1)):
        return "categorical"
    return "poisson" if np.all(y == np.round(y)) and np.min(y) == 0 else "gaussian"


@dataclasses.dataclass(frozen=True)
class TabularModel:
    """A model and the names of the columns it was trained on; inputs and predictions are in original units.

    Attributes:
        model: the model.
        features: the names of the input columns, in the model's order.
        target: the name of the predicted column.
        classes: the names of the classes, in the order of their probabilities; None if the target is a number.
        training: the findings of `bbb.diagnose` in the history of its training; None if they are not known.
    """

    model: BNN
    features: tuple[str, ...]
    target: str
    classes: tuple[str, ...] | None = None
    training: tuple[Finding, ...] | None = None

    @property
    def noise_std(self) -> float | None:
        """The learned standard deviation of the noise, in units of the target; None if there is no single number.

        For several restarts, it is the root mean square.
        """
        std = noise_std(self.model.likelihood)
        return None if std is None else float(np.sqrt(np.mean(np.square(std))))

    @property
    def is_count(self) -> bool:
        """Whether the target is a count."""
        return self.classes is None and is_discrete(self.model.likelihood)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and its names to one file, as `bbb.save` does.

        Raises:
            WriteError: if the file cannot be written.
        """
        metadata: dict[str, Any] = {"features": list(self.features), "target": self.target}
        if self.classes is not None:
            metadata["classes"] = list(self.classes)
        if self.training is not None:
            metadata["training"] = [list(finding) for finding in self.training]
        checkpoint.save(path, self.model, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TabularModel":
        """Return the model in a file that `save` wrote.

        Raises:
            ModelFileError: if the file is missing, damaged, or holds no column names.
        """
        model, metadata = checkpoint.load_with_metadata(path)
        features, target, classes = (metadata.get(name, None) for name in ("features", "target", "classes"))
        if not (_are_names(features) and isinstance(target, str) and (classes is None or _are_names(classes))):
            raise _check.ModelFileError(
                f"Expected {path} to hold the names of its columns, got none. Pass a model written by `bbb fit`."
            )
        training = _findings(path, metadata.get("training"))
        made = cls(model, tuple(features or ()), target, None if classes is None else tuple(classes), training)
        made._check_sizes(path)
        return made

    def _check_sizes(self, path: str | os.PathLike[str]) -> None:
        """Raise a ModelFileError if the model does not fit the numbers of columns and classes."""
        one: Any = self.model.member(0)
        row = np.zeros((1, len(self.features)), widest_dtype(one.posterior.params))
        is_classifier = isinstance(one.likelihood, Categorical)
        try:
            outputs = _check.output_shape(one.apply, one.posterior.params, row)
            shape = jax.eval_shape(one.likelihood.function, outputs).shape
            if is_classifier != (self.classes is not None) or shape != (1, len(self.classes or (self.target,))):
                raise _check.ShapeError(f"outputs of shape {shape}")
        except _check.InputError as error:
            raise _check.ModelFileError(
                f"Expected {path} to hold a model that fits its columns and classes, got another: {error} "
                "Pass a model written by `bbb fit`."
            ) from error

    def predict(
        self,
        table: Table,
        *,
        seed: int = 0,
        draws: int = 10_000,
        levels: Sequence[float] = (0.95,),
        rows: str = "apart",
        mesh: Mesh | None = None,
    ) -> Predictive:
        """Predict the target of every row of a table, in original units; for `rows` and `mesh`, see `bbb.predict`.

        Raises:
            TableError: if a column that the model was trained on is missing.
            InputError: if the mesh has other axes.
        """
        x, levels = table.select(self.features), () if self.classes else levels
        return predict(jax.random.key(seed), self.model, x, draws=draws, levels=levels, rows=rows, mesh=mesh)

    def observed(self, table: Table) -> np.ndarray:
        """Return the target in the model's form: numbers, (rows, 1), or the indices of classes, (rows,).

        Raises:
            TableError: if it is missing, or holds a class that was not in the training rows.
        """
        y = table.observed(self.target)
        if self.classes is None:
            return table.select([self.target])
        names = class_names(y)
        for name in names:
            if name not in self.classes:
                known = ", ".join(self.classes[:10])
                table.fail(
                    f"classes of '{self.target}' among {known}", repr(name), "Remove those rows, or train on them."
                )
        return np.array([self.classes.index(name) for name in names], np.int32)

    def evaluate(
        self,
        table: Table,
        *,
        seed: int = 0,
        draws: int = 10_000,
        level: float = 0.95,
        rows: str = "apart",
        mesh: Mesh | None = None,
    ) -> dict[str, Any]:
        """Compute scores of predictions of the target, in original units; log scores are means over rows, in nats.

        For numbers: RMSE, CRPS, the coverage of intervals of several levels, and the mean width of those of `level`.
        For classes: accuracy, Brier score and expected calibration error. For `rows` and `mesh`, see `bbb.predict`.

        Raises:
            TableError: if a column, or the target, is missing.
            InputError: if the mesh has other axes.
        """
        y = self.observed(table)
        predictive = self.predict(table, seed=seed, draws=draws, levels=(*LEVELS, level), rows=rows, mesh=mesh)
        how: dict[str, Any] = {"seed": seed, "draws": draws, "rows": rows, "mesh": mesh}
        scores: dict[str, Any] = {"rows": len(y), **self._draw_scores(table, y, **how)}
        if self.classes is not None:
            probabilities = predictive.y.probabilities
            return scores | {
                "accuracy": metrics.accuracy(y, probabilities),
                "brier": float(np.mean(metrics.brier(y, probabilities))),
                "expected_calibration_error": metrics.expected_calibration_error(y, probabilities),
            }
        inside = {p: metrics.coverage(y, *predictive.y.interval(p)) for p in (*LEVELS, level)}
        return scores | {
            "rmse": metrics.rmse(y, predictive.y.mean),
            "level": level,
            "coverage": inside[level],
            "mean_width": metrics.interval_width(*predictive.y.interval(level)),
            "coverages": {f"{p:g}": inside[p] for p in LEVELS},
        }

    def diagnose(self, table: Table, *, rows: str = "apart") -> Diagnosis:
        """Diagnose the model by its training and its predictions of a table: see `bbb.diagnose`."""
        return diagnose(self.model, self.training, table.select(self.features), self.observed(table), rows=rows)

    def pit(
        self, table: Table, *, seed: int = 0, draws: int = 10_000, rows: str = "apart", mesh: Mesh | None = None
    ) -> np.ndarray:
        """Compute the probability integral transform of the target, (rows,): uniform if the model is calibrated.

        For `rows` and `mesh`, see `bbb.draws`.
        """
        key, likelihood = jax.random.key(seed), self.model.likelihood

        def of_rows(outputs: jax.Array, y: np.ndarray) -> list[np.ndarray]:
            upto = np.asarray(mixture.cdf(likelihood, outputs, y), float)
            below = np.asarray(mixture.cdf(likelihood, outputs, y - 1), float) if self.is_count else upto
            return [below, upto]

        how: dict[str, Any] = {"seed": seed, "draws": draws, "rows": rows, "mesh": mesh}
        below, upto = self._by_rows(of_rows, table, self.observed(table), **how)
        return metrics.pit(jax.random.fold_in(key, 1), below, upto)[:, 0]

    def _draw_scores(self, table: Table, y: np.ndarray, **how: Any) -> dict[str, float]:
        """Compute the scores that need every draw: the log score and, for numbers, the CRPS from one y per draw."""
        likelihood, key = self.model.likelihood, jax.random.fold_in(jax.random.key(how["seed"]), 2)

        def of_rows(outputs: jax.Array, y: np.ndarray) -> list[np.ndarray]:
            score = np.asarray(mixture.log_score(likelihood, outputs, y))
            if self.classes is not None:
                return [score]
            return [score, metrics.crps_draws(y, np.asarray(mixture.sample_y(key, likelihood, outputs)))]

        parts = self._by_rows(of_rows, table, y, **how)
        return {name: float(np.mean(part)) for name, part in zip(("log_score", "crps"), parts, strict=False)}

    def _by_rows(self, function: Callable[..., Tree], table: Table, y: Any, *, seed: int, **how: Any) -> Any:
        """Apply a function of draws of outputs and of y to tiles of rows, or to all rows if `rows` is "together"."""

        def of_tile(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
            return function(draw(jax.random.key(seed), self.model, x, **how), y)

        size = len(y) if how["rows"] == "together" else SCORED_ROWS
        return by_tile(of_tile, table.select(self.features), y, size=size)


def fit_table(
    table: Table,
    target: str,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    checkpoints: Checkpointing | str | os.PathLike[str] | None = None,
    placement: Placement | Mesh | None = None,
    progress: bool | None = None,
) -> tuple[TabularModel, History]:
    """Learn to predict one column of a table from all other columns.

    For `checkpoints`, `placement` and `progress`, see `fit`.

    Raises:
        TableError: if the target is missing or is the only column, a column is constant, or the target does not fit the
            recipe's likelihood.
        InputError: if a likelihood, a prior or an activation is unknown, there are no hidden units, the mesh has other
            axes, or its size divides neither `recipe.rows_a_step` nor the restarts.
        NonFiniteLossError: if training diverges.
        InputError, ModelFileError, WriteError: for checkpoints, as `fit` raises them.
    """
    recipe = recipe or Recipe()
    _check_known("likelihood", recipe.likelihood, ("auto", *LIKELIHOODS))
    _check_known("prior", recipe.prior, tuple(PRIORS))
    _check_known("activation", recipe.activation, tuple(nn.ACTIVATIONS))
    for width in recipe.widths or (0,):
        _check.positive_integer("hidden", width)
    observed = table.observed(target)
    features = tuple(column for column in table.columns if column != target)
    if not features:
        table.fail(f"at least one column besides '{target}'", "no other", "Add the columns to predict it from.")
    kind = kind_of(observed) if recipe.likelihood == "auto" else recipe.likelihood
    y, classes = _to_learn(table, target, observed, kind)
    x = table.varying(features)
    head = LIKELIHOODS[kind](y, recipe.noise_std)
    init_key, fit_key = jax.random.split(jax.random.key(seed))
    hidden = hidden_layers(x.shape[1], recipe)
    network = nn.sequential(_standardizing(x), *hidden, nn.linear(recipe.widths[-1], head.outputs), *head.scale)
    params = network.init(init_key)
    model = bayesianize(network.apply, params, prior=PRIORS[recipe.prior](params), likelihood=head.likelihood)
    steps = recipe.epochs * math.ceil(len(x) / min(recipe.batch_size, len(x)))
    model, history = fit(
        fit_key,
        model,
        x,
        y,
        epochs=recipe.epochs,
        optimizer=optax.adam(optax.cosine_decay_schedule(recipe.learning_rate, steps)),
        batch_size=recipe.batch_size,
        objective=_objective(model, x, recipe, steps),
        validation=recipe.validation or None,
        checkpoints=checkpoints,
        restarts=Restarts(recipe.restarts, network.init),
        placement=placement,
        progress=progress,
    )
    return TabularModel(model, features, target, classes, of_training(history)), history


def _objective(model: BNN, x: Any, recipe: Recipe, steps: int) -> Objective:
    """Return the bound with a warm-up of the KL divergence: exact where it can be, else on draws."""
    weight = schedule.warm_up(max(1, int(recipe.kl_warm_up * steps)))
    if has_exact_elbo(model, x):
        return Objective(exact_elbo_cost, kl_weight=weight)
    return Objective(kl_weight=weight, draws=recipe.draws_per_step)


def _are_names(values: Any) -> bool:
    """Return whether a value from a file is a list of unique names."""
    is_list = isinstance(values, list) and len(values) > 0 and all(isinstance(name, str) for name in values)
    return is_list and len(set(values)) == len(values)


def _findings(path: str | os.PathLike[str], given: Any) -> tuple[Finding, ...] | None:
    """Return the findings of the training in a file; None if there are none, as in files of earlier versions.

    Raises:
        ModelFileError: if the value is not a list of findings.
    """
    if given is None:
        return None
    width = len(Finding._fields)
    if not isinstance(given, list) or not all(
        isinstance(parts, list) and len(parts) == width and all(isinstance(part, str) for part in parts)
        for parts in given
    ):
        raise _check.ModelFileError(
            f"Expected {path} to hold a list of the findings of its training, got something else. "
            "Pass a model written by `bbb fit`."
        )
    return tuple(Finding(*parts) for parts in given)


def _check_known(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        _check.fail(_check.InputError, f"{name} to be one of {', '.join(known)}", repr(value), "Pass one of them.")


def _to_learn(table: Table, target: str, observed: np.ndarray, kind: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the target in the form of its likelihood, and the names of its classes or None."""
    if kind == "categorical":
        names = class_names(observed)
        classes = tuple(sorted(set(names), key=_in_order))
        if len(classes) < 2:
            do = "Nothing can be learned from one class: add rows of others."
            table.fail(f"two classes or more in column '{target}'", f"'{classes[0]}' alone", do)
        return np.array([classes.index(name) for name in names], np.int32), classes
    if observed.dtype.kind == "U":
        do = "Leave --likelihood out, or pass categorical."
        table.fail(f"numbers in column '{target}' for a {kind} likelihood", f"'{observed[0]}'", do)
    y = table.varying([target])
    if kind in ("poisson", "negative-binomial") and (np.any(y < 0) or np.any(y != np.round(y))):
        wrong = y[(y < 0) | (y != np.round(y))][0]
        do = "Pass --likelihood gaussian for measurements."
        table.fail(f"counts, whole numbers from 0, in column '{target}'", f"{wrong:g}", do)
    return y, None


def class_names(observed: np.ndarray) -> list[str]:
    """Return the names of observed classes, which may be numbers."""
    return [value if isinstance(value, str) else f"{value:g}" for value in observed.tolist()]


def _in_order(name: str) -> tuple[float, str]:
    """Return a key that sorts names that are numbers by value, and others alphabetically."""
    try:
        return float(name), name
    except ValueError:
        return math.inf, name


def _standardizing(x: Any) -> nn.Layer:
    mean, std = np.mean(x, 0), np.std(x, 0)
    return nn.affine(-mean, 1 / std)
