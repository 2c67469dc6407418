"""Sets of classes that hold a new label at the level promised."""

import dataclasses
import os
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
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsClasses
from bbb.model import BNN

APS, RAPS = "aps", "raps"
"""The words of the scores."""

CALIBRATING = np.uint32(2**32 - 21)
"""What is folded into the key for the uniform numbers of the calibration rows."""

ROUNDING = 1e-6
"""The distance by which a score of probabilities in float32 may exceed its bound and still count as equal to it."""


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """The score of each class: the probability of all classes that are at least as probable.

    With `randomised`, only a uniform share of the class's own probability counts, so that sets are smaller, and hold
    the label with the level alone and not more. With a penalty, each class beyond the `free_ranks` most probable adds
    it, so that no set is long because of many improbable classes.

    Attributes:
        penalty: λ of RAPS; 0 for APS.
        free_ranks: k_reg of RAPS.
        randomised: whether to draw a uniform number for each row.

    Source: Romano, Sesia & Candès 2020, arXiv 2006.02544, eq. 5, 7; Angelopoulos et al. 2021, arXiv 2009.14193, eq. 4.
    """

    penalty: float = 0.0
    free_ranks: int = 0
    randomised: bool = False

    @property
    def word(self) -> str:
        """The word of the score."""
        return RAPS if self.penalty else APS

    def scores(self, probabilities: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return the score of every class of each row, (rows, ..., classes), for the `shares` of each row."""
        p = np.asarray(probabilities, np.float64)
        order = np.argsort(-p, axis=-1, kind="stable")
        own = np.take_along_axis(p, order, axis=-1)
        beyond = np.maximum(np.arange(1, p.shape[-1] + 1) - self.free_ranks, 0)
        by_rank = np.cumsum(own, axis=-1) - (1 - shares[..., None]) * own + self.penalty * beyond
        found = np.empty_like(p)
        np.put_along_axis(found, order, by_rank, axis=-1)
        return found

    def shares(self, key: jax.Array | None, shape: tuple[int, ...]) -> np.ndarray:
        """Return what share of its own probability counts in a class's score, for rows of a shape: 1, or uniform."""
        if not self.randomised:
            return np.ones(shape)
        with jax.enable_x64(True):
            return np.asarray(jax.random.uniform(key, shape, "float64"))  # type: ignore[arg-type]


def class_score(score: Any, penalty: Any, free_ranks: Any, randomised: Any) -> ClassScore:
    """Return the score of these options, after checking them.

    Raises:
        InputError: naming the one that does not fit.
    """
    checks.word("score", score, (APS, RAPS))
    randomised = checks.boolean("randomised", randomised)
    if score == APS:
        return ClassScore(randomised=randomised)
    penalty = checks.one_number("penalty", penalty)
    return ClassScore(penalty, checks.positive_integer("free_ranks", free_ranks), randomised)


def of_label(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the score of the label of each row, (1, rows, ...), of those of all classes, (rows, ..., classes)."""
    return np.take_along_axis(scores, y[..., None].astype(np.int64), axis=-1)[..., 0][None]


def within(scores: np.ndarray, bounds: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return which classes are in the set of each row, (rows, ..., classes), bool: the most probable one always."""
    best = np.arange(scores.shape[-1]) == np.argmax(probabilities, axis=-1)[..., None]
    return (scores <= bounds[..., None] + ROUNDING) | best


def conformal_sets(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    score: str = APS,
    penalty: float = 0.01,
    free_ranks: int = 5,
    randomised: bool = False,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    trained_on: Any = None,
    method: str | None = None,
    draws: int = 10_000,
    **machine: Any,
) -> "ConformalSets":
    """Calibrate sets of classes on rows that the model was not trained on.

    What is guaranteed, and of what rows, is as in `conformal`, of the label of a new row and its set, at any level that
    the number of rows allows.

    Args:
        key: one typed JAX key, of the draws and, with `randomised`, of the uniform numbers. It is kept.
        model: the model of classes.
        x: the calibration rows, as in `fit`.
        y: their classes, whole numbers from 0.
        score: "aps", adaptive prediction sets; or "raps", which keeps them short by a penalty.
        penalty: of "raps", λ: what each class beyond the `free_ranks` most probable adds to a score, above 0.
        free_ranks: of "raps", k_reg. Like λ it has to be chosen without the calibration rows.
        randomised: whether sets are smaller at random, and hold the label with no more than the level plus 1/(n + 1);
            each call of `sets` then needs a key. A set has its most probable class in any case, which adds to that.
        groups: as in `conformal`.
        weights: as in `conformal`.
        trained_on: as in `conformal`.
        method: as in `conformal`.
        draws: as in `conformal`.
        machine: as in `conformal`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit.

    Source: see `ClassScore`.

    Example:
        >>> import bbb, jax
        >>> x, y = jax.numpy.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, 0, 1, 1]
        >>> layer = bbb.nn.linear(1, 2)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Categorical()}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> held = bbb.decide.conformal_sets(jax.random.key(2), model, x, y, draws=100)
        >>> held.sets(x, 0.75).shape  # whether each class is in the set of each row
        (4, 2)
    """
    given: dict[str, Any] = {"x": x, "y": y, "groups": groups, "weights": weights, "trained_on": trained_on}
    predictive = fixed("conformal_sets", key, model, method, draws, **given)
    if not implements(model.likelihood, SupportsClasses):
        got, do = f"a {type(model.likelihood).__name__}", "Pass it to bbb.decide.conformal."
        fail(InputError, "a model of classes", got, do)
    how = class_score(score, penalty, free_ranks, randomised)
    check_machine(machine)
    x, labels = rows_to_calibrate(predictive, x, y, trained_on)
    calibration_of(np.zeros((1, len(labels))), (), groups, weights)  # which raises before anything is computed
    probabilities = predictive.predict(x, machine).probabilities
    scores = how.scores(probabilities, how.shares(jax.random.fold_in(key, CALIBRATING), labels.shape))
    return ConformalSets(predictive, how, calibration_of(of_label(scores, labels), (), groups, weights))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ConformalSets(display.Displayed):
    """A model of classes whose sets are calibrated: what `conformal_sets` returns.

    Attributes:
        predictive: the model, with the key and the number of its draws.
        score: the score of a class.
        calibration: the scores of the labels of the calibration rows.
    """

    predictive: FixedPredictive
    score: ClassScore
    calibration: Calibration

    @property
    def model(self) -> BNN:
        """The model, as it was given."""
        return self.predictive.model

    def sets(
        self,
        x: Any,
        level: float,
        *,
        key: jax.Array | None = None,
        groups: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        **machine: Any,
    ) -> np.ndarray:
        """Return the set that holds the label of each new row with a probability of at least `level`.

        Args:
            x: the new rows, (rows, ...), or a tree of them.
            level: inside (0, 1), and at most n/(n + 1) for n calibration rows.
            key: one typed JAX key, of the uniform numbers of the rows, if the calibration is randomised.
            groups: as in `Conformal.interval`.
            weights: as in `Conformal.interval`; a row of too large a weight gets the set of all classes.
            machine: `rows`, `memory`, `mesh` and `partition` of `bbb.predict`.

        Returns:
            (rows, ..., classes), bool: whether each class is in the set. The most probable one is in every set.

        Raises:
            KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before anything
                is computed.
        """
        checks.outside("ConformalSets.sets", x=x, key=key, groups=groups, weights=weights)
        level = self.calibration.check_level(level)
        self._check_key(key)
        x = rows_for(self.model, "x", x)
        bounds = self.calibration.bounds(level, count_rows(x), groups, weights)
        probabilities = self.predictive.predict(x, machine).probabilities
        scores = self.score.scores(probabilities, self.score.shares(key, probabilities.shape[:-1]))
        return within(scores, bounds, probabilities)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, the key and the scores to one file, as `Conformal.save` does.

        Raises:
            WriteError: if the file cannot be written.
        """
        files.write(path, self.score, self.predictive, self.calibration)

    def _check_key(self, key: Any) -> None:
        if self.score.randomised:
            checks.key(key)
        elif key is not None:
            do = "Leave it out, or calibrate with randomised=True."
            fail(InputError, "no key for sets that are not randomised", f"a {type(key).__name__}", do)

    def _table_shown(self) -> display.Table:
        word = f"{self.score.word}, randomised" if self.score.randomised else self.score.word
        model = ("model", display.part(self.model))
        return display.Table("Conformal sets of classes", [("score", word), *self.calibration.shown(), model])
