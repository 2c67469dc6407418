"""A model and the names of its columns."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bbb import metrics, mixture
from bbb.core.tiles import by_tile
from bbb.core.tree import Tree, widest_dtype
from bbb.decide.continual import Update, update
from bbb.decide.continual.api import check_updatable, is_laplace
from bbb.decide.coverage.calibration import Calibration, calibration_of
from bbb.decide.coverage.files import described
from bbb.decide.coverage.intervals import around_mean, std_scores, whole
from bbb.decide.coverage.sets import ClassScore, of_label, within
from bbb.errors import InputError, ModelFileError, ShapeError, fail
from bbb.evaluate.diagnosis import Diagnosis, diagnose, of_training
from bbb.evaluate.diagnosis.case import Finding
from bbb.io import models
from bbb.likelihoods.classes import Categorical
from bbb.likelihoods.protocol import is_discrete, noise_std
from bbb.model import BNN
from bbb.objectives.objective import exact_elbo_cost, has_exact_elbo
from bbb.predictive.api import has_exact_moments, predict
from bbb.predictive.evaluation import draws as draw
from bbb.predictive.plan import placed_over
from bbb.predictive.summary import Interval, Predictive
from bbb.tables import formats, groups
from bbb.tables.cells.dialect import Dialect
from bbb.tables.encoding import IGNORE, REFUSE, Column, Encoding
from bbb.tables.frames import as_table
from bbb.tables.parts import ranges, stored
from bbb.tables.parts.record import TrainingRecord, record_in
from bbb.tables.parts.scores import LEVELS, hits, of_classes, of_numbers, selective
from bbb.tables.recipe import Recipe
from bbb.tables.table import NUMBER, WORDS, Table, Wanted
from bbb.tracing import purity
from bbb.train.options import Objective

SCORED_ROWS = 256
"""The number of rows scored at once: all their draws are held in memory."""


@dataclasses.dataclass(frozen=True)
class TabularModel:
    """A model and the names of the columns it was trained on; inputs and predictions are in original units.

    Attributes:
        model: the model.
        features: the names of the input columns, in the model's order.
        target: the name of the predicted column.
        classes: the names of the classes, in the order of their probabilities; None if the target is a number.
        training: the findings of `bbb.diagnose` in the history of its training; None if they are not known.
        structure: what a Laplace posterior keeps of the curvature, such as "full"; None of others.
        encoding: how the input columns become the network's input; None if all are numbers, and stay what they are.
        calibration: the scores of the rows that intervals, or sets of classes, are calibrated by; None if they are the
            model's own.
        learned_from: the number of rows that the posterior was learned from; None if it is not known.
        record: how it was trained: seed, versions, settings and the curve; None if it is not known.
    """

    model: BNN
    features: tuple[str, ...]
    target: str
    classes: tuple[str, ...] | None = None
    training: tuple[Finding, ...] | None = None
    structure: str | None = None
    encoding: Encoding | None = None
    calibration: Calibration | None = None
    learned_from: int | None = None
    record: TrainingRecord | None = None

    @property
    def columns(self) -> Encoding:
        """How the input columns become the network's input."""
        return self.encoding or Encoding(tuple(map(Column, self.features)))

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
        if self.structure is not None:
            metadata["structure"] = self.structure
        if not self.columns.is_plain:
            metadata["encoding"] = self.columns.described()
        if self.learned_from is not None:
            metadata["learned_from"] = self.learned_from
        if self.record is not None:
            metadata["record"] = self.record.described()
        arrays: dict[str, np.ndarray] = {}
        if self.calibration is not None:
            metadata["calibration"], arrays = described(self.calibration)
        models.save_with_arrays(path, self.model, metadata, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TabularModel":
        """Return the model in a file that `save` wrote.

        Raises:
            ModelFileError: if the file is missing, damaged, or holds no column names.
        """
        model, metadata, arrays = models.load_with_arrays(path)
        features, target, classes = (metadata.get(name, None) for name in ("features", "target", "classes"))
        if not (
            stored.are_names(features) and isinstance(target, str) and (classes is None or stored.are_names(classes))
        ):
            raise ModelFileError(
                f"Expected {path} to hold the names of its columns, got none. Pass a model written by `bbb fit`."
            )
        training, structure = stored.findings_in(path, metadata.get("training")), metadata.get("structure")
        if not isinstance(structure, str | None):
            raise ModelFileError(
                f"Expected {path} to hold the structure of its posterior as a word, got something else. "
                "Pass a model written by `bbb fit`."
            )
        named = None if classes is None else tuple(classes)
        encoding = stored.encoding_in(path, tuple(features or ()), metadata.get("encoding"))
        calibration = stored.calibration_in(path, metadata.get("calibration"), arrays)
        known = stored.count_in(path, metadata.get("learned_from")), record_in(path, metadata.get("record"))
        made = cls(model, tuple(features or ()), target, named, training, structure, encoding, calibration, *known)
        made._check_sizes(path)
        return made

    def _check_sizes(self, path: str | os.PathLike[str]) -> None:
        """Raise a ModelFileError if the model does not fit the numbers of columns and classes."""
        one: Any = self.model.member(0)
        row = np.zeros((1, self.columns.width), widest_dtype(one.posterior.params))
        is_classifier = isinstance(one.likelihood, Categorical)
        try:
            outputs = purity.output_shape(one.apply, one.posterior.params, row)
            shape = jax.eval_shape(one.likelihood.function, outputs).shape
            if is_classifier != (self.classes is not None) or shape != (1, len(self.classes or (self.target,))):
                raise ShapeError(f"outputs of shape {shape}")
        except InputError as error:
            raise ModelFileError(
                f"Expected {path} to hold a model that fits its columns and classes, got another: {error} "
                "Pass a model written by `bbb fit`."
            ) from error

    def read(
        self,
        path: str | os.PathLike[str],
        *,
        target: bool = False,
        group: str | None = None,
        delimiter: str | None = None,
        decimal: str | None = None,
    ) -> Table:
        """Read the columns that the model was trained on from a file, as `bbb.tables.read` does.

        Args:
            path: the file.
            target: whether to read the column that is predicted too.
            group: a column of groups to read too, as words.
            delimiter: as of `bbb.tables.read`.
            decimal: as of `bbb.tables.read`.

        Raises:
            TableError: as `bbb.tables.read` does.
        """
        return formats.read(
            path, delimiter=delimiter, decimal=decimal, **self.wanted(target, group), holes=self.columns.holes
        )

    def read_pieces(
        self, path: str | os.PathLike[str], size: int, *, delimiter: str | None = None, decimal: str | None = None
    ) -> Iterator[Table]:
        """Yield the columns that the model was trained on of a file too large to be held, `size` rows at a time.

        For example::

            model = bbb.tables.TabularModel.load("house.safetensors")
            with bbb.tables.streams.writing("predictions.parquet") as append:
                for table in model.read_pieces("houses.parquet", 65536):
                    append({"mean": model.predict(table).y.mean[:, 0]})

        Raises:
            TableError: as `bbb.tables.read` does, once it comes to what is wrong.
        """
        wanted = self.wanted(False)
        asked = Wanted((), wanted["only"], wanted["kinds"], self.columns.holes)
        return formats.pieces(path, asked, Dialect(delimiter, decimal), size)

    def wanted(self, target: bool, group: str | None = None) -> dict[str, Any]:
        """Return which columns to read, and as what; a group that is one of them is read as that."""
        only = (*self.features, self.target) if target else self.features
        labels = self.target if target and self.classes is not None else ""
        kinds = self.columns.kinds | {self.target: NUMBER}
        if group is not None and group not in only:
            only, kinds = (*only, group), kinds | {group: WORDS}
        return {"only": only, "labels": labels, "kinds": kinds}

    def inputs(self, table: Any, *, unknown: str = REFUSE) -> np.ndarray:
        """Return the network's input of every row of a table or a frame, (rows, width).

        Args:
            table: a `Table`, or a frame of pandas, polars or pyarrow.
            unknown: what to do about a category that was not in the training rows: "refuse", or "ignore", which takes
                it for none of those.

        Raises:
            TableError: if a column is missing or of another kind, or has a missing value or a category that is refused.
            InputError: if it is no table, or `unknown` is another word.
        """
        table = as_table(table, **self.wanted(False))
        table.require(self.features)
        for column in self.columns.columns:
            if column.kind == table.kind(column.name) == NUMBER:
                ranges.check_sizes(table, column.name)
        return self.columns.encode(table, unknown)

    def predict(
        self,
        table: Any,
        *,
        seed: int = 0,
        draws: int = 10_000,
        levels: Sequence[float] = (0.95,),
        rows: str = "apart",
        mesh: Mesh | None = None,
        unknown: str = REFUSE,
    ) -> Predictive:
        """Predict the target of every row of a table or a frame, in original units.

        For `rows` and `mesh`, see `bbb.predict`, and for `unknown`, `inputs`. Of a model that needs no draws, answers
        do not depend on `draws` and `mesh`.

        Raises:
            TableError: as `inputs` does.
            InputError: if the mesh has other axes, or as `inputs` raises it.
        """
        x, levels = self.inputs(table, unknown=unknown), () if self.classes else levels
        if has_exact_moments(self.model):
            placed_over(mesh, None)  # which raises for what is no mesh
            mesh = None
        return predict(jax.random.key(seed), self.model, x, draws=draws, levels=levels, rows=rows, mesh=mesh)

    def calibrated(self, table: Any, *, seed: int = 0, draws: int = 10_000) -> "TabularModel":
        """Return the model with intervals, or sets of classes, calibrated by rows that it has not learned from.

        If these rows and a new one are exchangeable, the target of the new one is inside of `interval(predictive,
        level)`, or its class in `sets(predictive, level)`, with a probability of at least the level: for any level of
        at most n/(n + 1), of n rows. Numbers are scored by `|y − mean|/std`, classes by adaptive prediction sets: see
        `bbb.decide.conformal` and `bbb.decide.conformal_sets`. The guarantee is of predictions by this `seed` and
        number of `draws`; others differ from these by their Monte Carlo error.

        Args:
            table: a `Table` or a frame with the target. A category that was not among the training rows is taken for
                none of those; so is a class, which no set can hold.
            seed: as in `predict`.
            draws: as in `predict`.

        Raises:
            TableError: if the target is missing, or as `inputs` raises it.
        """
        table = as_table(table, **self.wanted(True))
        made = self.predict(table, seed=seed, draws=draws, levels=(), unknown=IGNORE).y
        if self.classes is None:
            scores = std_scores(table.observed(self.target)[:, None], made.mean, made.std)
        else:
            names = class_names(table.observed(self.target))
            labels = np.array([self.classes.index(name) if name in self.classes else -1 for name in names])
            scores = of_label(_class_scores(made.probabilities), np.maximum(labels, 0))[0]
            scores = np.where(labels < 0, np.finfo(np.float64).max, scores)
        return dataclasses.replace(self, calibration=calibration_of(scores[None], (), None, None))

    def interval(self, predictive: Predictive, level: float) -> Interval:
        """Return the interval of the target, (rows, 1), of a predictive that `predict` returned for the level.

        Calibrated, where the model is; else the predictive's own.

        Raises:
            InputError: if the calibration rows are too few for the level.
        """
        if self.calibration is None:
            return predictive.y.interval(level)
        mean, std = predictive.y.mean, predictive.y.std
        found = around_mean(mean, std, self.calibration.bounds(self.calibration.check_level(level), len(mean)))
        return whole(found) if self.is_count else found

    def sets(self, predictive: Predictive, level: float) -> np.ndarray:
        """Return which classes are in the set of each row, (rows, classes), bool, of a model that is calibrated.

        Raises:
            InputError: if it is not, or the calibration rows are too few for the level.
        """
        if self.calibration is None:
            fail(
                InputError, "a model that is calibrated", "one that is not", "Pass recipe=Recipe(calibrate=0.2) to fit."
            )
        probabilities = predictive.y.probabilities
        bounds = self.calibration.bounds(self.calibration.check_level(level), len(probabilities))
        return within(_class_scores(probabilities), bounds, probabilities)

    def observed(self, table: Any) -> np.ndarray:
        """Return the target in the model's form: numbers, (rows, 1), or the indices of classes, (rows,).

        Raises:
            TableError: if it is missing, has an empty cell or a number beyond JAX's floats, or holds a class that was
                not in the training rows.
        """
        table = as_table(table, **self.wanted(True))
        y = table.observed(self.target)
        if self.classes is None:
            ranges.check_sizes(table, self.target)
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
        table: Any,
        *,
        seed: int = 0,
        draws: int = 10_000,
        level: float = 0.95,
        rows: str = "apart",
        mesh: Mesh | None = None,
        unknown: str = REFUSE,
        group: str | None = None,
        promise: float | None = None,
    ) -> dict[str, Any]:
        """Compute scores of predictions of the target, in original units; log scores are means over rows, in nats.

        For numbers: RMSE, CRPS, the coverage of intervals of several levels, and the mean width of those of `level`.
        For classes: accuracy, Brier score and expected calibration error. For `rows` and `mesh`, see `bbb.predict`, and
        for `unknown`, `inputs`. If `group` names a column, "groups" holds, of each of its values, the number of rows,
        and the share of them inside the interval of `level`, or whose class is predicted. "aurc" is the area under the
        risk-coverage curve: of wrong classes by the total entropy, or of squared errors by the standard deviation of y.
        If `promise` is an error rate, for classes, "promise" holds the threshold of the total entropy below which at
        most that share of answers is wrong, with confidence 0.95: see `bbb.decide.abstention.learn_then_test`.

        Of a calibrated model, intervals are the calibrated ones, of the levels that its rows allow, "calibration_rows"
        is their number, and of classes, "set_coverage" is the share of rows whose class is in the set of `level`, and
        "mean_set_size" the mean number of classes in it.

        Raises:
            TableError: if the target or the group is missing, or as `inputs` raises it.
            InputError: if the mesh has other axes, the calibration rows are too few for `level`, as `inputs` raises it,
                or for a promise of numbers, or one that the rows do not allow.
        """
        if promise is not None and self.classes is None:
            do = "Leave it out, or pass whether each row is wrong to bbb.decide.learn_then_test."
            fail(InputError, "a promise about classes", f"numbers of '{self.target}'", do)
        if self.calibration is not None:
            self.calibration.check_level(level)
        table = as_table(table, **self.wanted(True, group))
        y, names = self.observed(table), None if group is None else groups.names_of(table, group)
        how: dict[str, Any] = {"seed": seed, "draws": draws, "rows": rows, "mesh": mesh, "unknown": unknown}
        predictive = self.predict(table, levels=(*LEVELS, level), **how)
        scores: dict[str, Any] = {"rows": len(y), **self._draw_scores(table, y, **how)}
        scores |= selective(self, predictive, y, promise)
        if self.calibration is not None:
            scores["calibration_rows"] = self.calibration.rows
        if names is not None:
            scores["groups"] = groups.shares(names, hits(self, predictive, y, level))
        return scores | (of_numbers if self.classes is None else of_classes)(self, predictive, y, level)

    def update(
        self,
        table: Any,
        *,
        seed: int = 0,
        epochs: int = Recipe.epochs,
        batch_size: int = Recipe.batch_size,
        discount: float = 1.0,
        unknown: str = REFUSE,
        progress: bool | None = None,
    ) -> tuple["TabularModel", Update]:
        """Learn on from the new rows of a table or a frame; the columns' encoding and scales, and the noise, are kept.

        For what is learned, and for `discount`, see `bbb.decide.update`; for `unknown`, `inputs`. Independent Gaussians
        are trained for `epochs` of `batch_size` rows, as `fit_table` trains them; a Laplace posterior takes neither. A
        calibration was of the model before, and is dropped.

        Returns:
            The model, and a record whose `drift` says how likely the rows were before.

        Raises:
            TableError: if the target is missing, or as `inputs` raises it.
            InputError: for a model of several restarts or of draws, or as `bbb.decide.update` raises it.
        """
        table = as_table(table, **self.wanted(True))
        x, y = self.inputs(table, unknown=unknown), self.observed(table)
        how: dict[str, Any] = {"discount": discount, "progress": progress}
        check_updatable(self.model)
        if not is_laplace(self.model):
            exact = has_exact_elbo(self.model, x)
            how |= {"epochs": epochs, "batch_size": batch_size}
            how["objective"] = exact_elbo_cost if exact else Objective(draws=Recipe.draws_per_step)
        model, found = update(jax.random.key(seed), self.model, x, y, **how)
        training = self.training if found.structure else of_training(found.history)
        structure = self.structure if self.structure == "last_layer" else found.structure  # which is all of that
        known = None if self.learned_from is None else self.learned_from + len(x)
        changed: dict[str, Any] = {"model": model, "training": training, "structure": structure}
        settings = {"epochs": epochs, "batch_size": batch_size, "discount": discount}
        record = None if found.structure else TrainingRecord.of(found.history, seed, settings)
        changed |= {"calibration": None, "learned_from": known, "record": record}
        return dataclasses.replace(self, **changed), found

    def diagnose(self, table: Any, *, rows: str = "apart", unknown: str = REFUSE) -> Diagnosis:
        """Diagnose the model by its training and its predictions of a table: see `bbb.diagnose`."""
        table = as_table(table, **self.wanted(True))
        x, y = self.inputs(table, unknown=unknown), self.observed(table)
        return diagnose(self.model, self.training, x, y, rows=rows)

    def pit(
        self,
        table: Any,
        *,
        seed: int = 0,
        draws: int = 10_000,
        rows: str = "apart",
        mesh: Mesh | None = None,
        unknown: str = REFUSE,
    ) -> np.ndarray:
        """Compute the probability integral transform of the target, (rows,): uniform if the model is calibrated.

        For `rows` and `mesh`, see `bbb.draws`, and for `unknown`, `inputs`.
        """
        key, likelihood = jax.random.key(seed), self.model.likelihood
        table = as_table(table, **self.wanted(True))

        def of_rows(outputs: jax.Array, y: np.ndarray) -> list[np.ndarray]:
            upto = np.asarray(mixture.cdf(likelihood, outputs, y), float)
            below = np.asarray(mixture.cdf(likelihood, outputs, y - 1), float) if self.is_count else upto
            return [below, upto]

        how: dict[str, Any] = {"seed": seed, "draws": draws, "rows": rows, "mesh": mesh, "unknown": unknown}
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

    def _by_rows(
        self, function: Callable[..., Tree], table: Table, y: Any, *, seed: int, unknown: str, **how: Any
    ) -> Any:
        """Apply a function of draws of outputs and of y to tiles of rows, or to all rows if `rows` is "together"."""

        def of_tile(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
            return function(draw(jax.random.key(seed), self.model, x, **how), y)

        size = len(y) if how["rows"] == "together" else SCORED_ROWS
        return by_tile(of_tile, self.inputs(table, unknown=unknown), y, size=size)


def _class_scores(probabilities: np.ndarray) -> np.ndarray:
    return ClassScore().scores(probabilities, np.ones(len(probabilities)))


def class_names(observed: np.ndarray) -> list[str]:
    """Return the names of observed classes, which may be numbers."""
    return [value if isinstance(value, str) else f"{value:g}" for value in observed.tolist()]
