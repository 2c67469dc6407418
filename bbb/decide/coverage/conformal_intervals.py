"""Intervals that hold a new observation at the level promised: split conformal prediction around any model."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.core.ability import implements
from bbb.core.rows import count_rows
from bbb.data import rows_for
from bbb.decide.coverage import files
from bbb.decide.coverage.calibration import Calibration, calibration_of
from bbb.decide.coverage.fixed import FixedPredictive, check_machine, fixed, rows_to_calibrate
from bbb.decide.coverage.intervals import (
    QUANTILE,
    STD,
    around_mean,
    around_quantiles,
    quantile_scores,
    std_scores,
    whole,
)
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsClasses, is_discrete
from bbb.model import BNN
from bbb.predictive.summary import Interval, Marginal


def conformal(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    score: str = QUANTILE,
    levels: Sequence[float] = (0.95,),
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    trained_on: Any = None,
    method: str | None = None,
    draws: int = 10_000,
    **machine: Any,
) -> "Conformal":
    """Calibrate the intervals of a model on rows that it was not trained on.

    If the calibration rows and a new row are exchangeable, such as drawn independently from one distribution, its y is
    inside the interval with a probability of at least the level, and of at most 1/(n + 1) more where no two scores of n
    rows are equal: for any model, also one that is wrong, any network and any data. The probability is over the
    calibration rows and the new one. It is of each output by itself, and not of each x by itself: a wrong model is too
    narrow at some x and too wide at others, which `groups` corrects for the groups named.

    Args:
        key: one typed JAX key, of the draws. It is kept: the guarantee is of one function of x, that of these draws.
        model: the model, of numbers or counts; for classes, see `conformal_sets`.
        x: the calibration rows, as in `fit`: rows that neither training nor the choice of the model has seen.
        y: their targets, in the shape of the outputs.
        score: "quantile", which moves both ends of the model's own interval by as much, in units of y (conformalised
            quantile regression); or "std", which multiplies its standard deviation, and serves any level.
        levels: the levels that will be asked for. With "std" others can be asked for too.
        groups: (rows,), the name of each row's group, whole numbers or words, a function of x alone: each is calibrated
            by its own rows, and the level holds within it.
        weights: (rows,), p_new(x)/p_calibration(x) at each row, up to a common factor, where new rows have another
            distribution of x, and the same of y at each x. Intervals may be infinite: see `Conformal.interval`.
        trained_on: the pair (x, y) that the model was trained on, to notice a calibration row that is among them. A
            model does not keep its rows: without the pair, such rows are not noticed, and nothing is guaranteed.
        method: as in `bbb.predict`.
        draws: likewise, a number.
        machine: `rows`, `memory`, `mesh` and `partition` of `bbb.predict`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit.
        InputError: for a level that the rows do not allow, of all or of a group: at most n/(n + 1) for n rows.

    Source: see `bbb.decide.coverage.ranks` and `bbb.decide.coverage.intervals`; by group, Vovk, Lindsay, Nouretdinov &
    Gammerman 2003, "Mondrian confidence machine".

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> held = bbb.conformal(jax.random.key(2), model, task.x, task.y, levels=(0.9,), draws=100)
        >>> lower, upper = held.interval(task.x, 0.9)
        >>> lower.shape, bool((lower < upper).all())
        ((20, 1), True)
    """
    given: dict[str, Any] = {"x": x, "y": y, "groups": groups, "weights": weights, "trained_on": trained_on}
    predictive = fixed("conformal", key, model, method, draws, **given)
    if implements(model.likelihood, SupportsClasses):
        got, do = f"classes, of a {type(model.likelihood).__name__}", "Pass it to bbb.decide.conformal_sets."
        fail(InputError, "a model of numbers", got, do)
    checks.word("score", score, (QUANTILE, STD))
    wanted = tuple(sorted(set(checks.levels("level", levels))))
    if not wanted:
        fail(InputError, "levels to hold at least one level", "none", "Pass for example levels=(0.9, 0.95).")
    check_machine(machine)
    x, y = rows_to_calibrate(predictive, x, y, trained_on)
    calibration_of(np.zeros((1, len(y))), wanted, groups, weights)  # which raises before anything is computed
    marginal = predictive.predict(x, machine, wanted if score == QUANTILE else ())
    scores = _scores(score, y, marginal, wanted)
    calibrated = calibration_of(scores, wanted if score == QUANTILE else (), groups, weights)
    return Conformal(predictive, score, calibrated)


def _scores(score: str, y: np.ndarray, marginal: Marginal, levels: Sequence[float]) -> np.ndarray:
    """Return the scores of rows: (levels, rows, ...), or (1, rows, ...) if they do not depend on the level."""
    if score == STD:
        return std_scores(y, marginal.mean, marginal.std)[None]
    return np.stack([quantile_scores(y, marginal.interval(level)) for level in levels])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Conformal(display.Displayed):
    """A model whose intervals are calibrated: what `conformal` returns.

    Attributes:
        predictive: the model, with the key and the number of its draws.
        score: "quantile" or "std".
        calibration: the scores of the calibration rows.
    """

    predictive: FixedPredictive
    score: str
    calibration: Calibration

    @property
    def model(self) -> BNN:
        """The model, as it was given."""
        return self.predictive.model

    def interval(
        self, x: Any, level: float, *, groups: ArrayLike | None = None, weights: ArrayLike | None = None, **machine: Any
    ) -> Interval:
        """Return the interval that holds y of each new row with a probability of at least `level`, (rows, ...).

        Ends are in units of y, in float64. Of counts, they are whole numbers. Where the model is far too wide for the
        level, no y may be left inside: the interval is then the middle of the model's own, and has no width.

        Args:
            x: the new rows, (rows, ...), or a tree of them.
            level: one that was calibrated; with "std", any inside (0, 1) that the number of rows allows.
            groups: (rows,), the group of each row, if the calibration has groups.
            weights: (rows,), p_new(x)/p_calibration(x) at each row, by the same factor as those of the calibration. A
                row whose weight is more than 1 − level of all weights gets an infinite interval: the calibration rows
                say too little about rows like it.
            machine: `rows`, `memory`, `mesh` and `partition` of `bbb.predict`.

        Raises:
            InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before anything is computed.
        """
        checks.outside("Conformal.interval", x=x, groups=groups, weights=weights)
        level = self.calibration.check_level(level)
        x = rows_for(self.model, "x", x)
        bounds = self.calibration.bounds(level, count_rows(x), groups, weights)
        marginal = self.predictive.predict(x, machine, (level,) if self.score == QUANTILE else ())
        found = (
            around_mean(marginal.mean, marginal.std, bounds)
            if self.score == STD
            else around_quantiles(marginal.interval(level), bounds)
        )
        return whole(found) if is_discrete(self.model.likelihood) else found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, the key and the scores to one file, whole or not at all: see `load_conformal`.

        `bbb.load` reads the model alone from it.

        Raises:
            WriteError: if the file cannot be written.
        """
        files.write(path, self.score, self.predictive, self.calibration)

    def _table_shown(self) -> display.Table:
        model = ("model", display.part(self.model))
        return display.Table("Conformal intervals", [("score", self.score), *self.calibration.shown(), model])
