"""How a model was trained, in few enough numbers to be kept in its file: seed, versions, settings and the curve."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np

from bbb._version import __version__
from bbb.errors import ModelFileError
from bbb.train.history import History

POINTS = 100
"""The points of a curve at most: each is a mean over as many steps as the others, so that a file grows by some kB."""

LARGEST = 1e100
"""The largest number of a curve: those of any training that came to its end are far below."""

MEMBERS = 10
"""The restarts at most whose curves are kept."""


@dataclasses.dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained.

    Attributes:
        seed: that of the training.
        versions: of the packages that trained it, by name.
        settings: the fields of the recipe, or of the update, by name.
        cost: the name of the cost function.
        in_nats: whether `objective` is the negative evidence lower bound, in nats over the whole data set.
        steps: (points,), the last step of each stretch of steps, which the others are means over.
        objective: (points, members), the negative evidence lower bound, or another cost that was minimised.
        kl: (points,), KL(posterior ‖ prior) in nats, of the mean member.
        noise_std: (points,), the likelihood's noise in the target's units, likewise; None if it has none.
        validation: pairs of a step and the mean log score of the held-out rows then, in nats a row; empty without.
        best_step: the step whose model was kept, of the mean member; None without validation.
    """

    seed: int
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    cost: str
    in_nats: bool
    steps: np.ndarray
    objective: np.ndarray
    kl: np.ndarray
    noise_std: np.ndarray | None = None
    validation: tuple[tuple[float, float], ...] = ()
    best_step: float | None = None

    @classmethod
    def of(cls, history: History, seed: int, settings: Mapping[str, Any]) -> Self | None:
        """Return the record of a history; None if it has no step, or a number that is not finite."""
        history = history.without_skipped()
        objective = history.negative_elbo if history.is_elbo else history.loss
        if not len(objective):
            return None
        stretches = np.array_split(np.arange(len(objective)), min(POINTS, len(objective)))
        scores, taken, best = history.validation_log_score, history.validation_steps, history.best_step
        pairs = () if scores is None or taken is None else zip(taken.tolist(), _of_mean(scores), strict=True)
        made = cls(
            int(seed),
            {"bbb": __version__, "jax": jax.__version__, "numpy": np.__version__},
            {name: _plain(value) for name, value in settings.items()},
            history.cost,
            history.is_elbo,
            np.array([stretch[-1] + 1.0 for stretch in stretches]),
            _means(objective.reshape(len(objective), -1)[:, :MEMBERS], stretches),
            _means(_of_mean(history.kl), stretches),
            None if history.noise_std is None else _means(_of_mean(history.noise_std), stretches),
            tuple((float(step), float(score)) for step, score in list(pairs)[-POINTS:]),
            None if best is None else float(np.mean(best)),
        )
        return made if made._is_sound() else None

    def described(self) -> dict[str, Any]:
        """Return the record as JSON has it, in six digits."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: _rounded(value) for name, value in found.items()}

    def _is_sound(self) -> bool:
        """Return whether steps rise from 1 or above, and every number can be summed and drawn."""
        numbers = [self.steps, self.objective, self.kl, np.array(self.validation, float)]
        numbers += [] if self.noise_std is None else [self.noise_std]
        rising = self.steps[0] >= 1 and bool(np.all(np.diff(self.steps) > 0))
        return rising and all(bool(np.all(np.abs(part) <= LARGEST)) for part in numbers)  # not of NaN


def record_in(path: str | os.PathLike[str], given: Any) -> TrainingRecord | None:
    """Return the record in a file; None if there is none, as in files of earlier versions.

    Raises:
        ModelFileError: if the value is no record.
    """
    if given is None:
        return None
    try:
        return _made(given)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        message = f"Expected {path} to hold how it was trained, got {type(error).__name__}: {error}."
        raise ModelFileError(f"{message} Pass a model written by `bbb fit`.") from error


def _made(given: Any) -> TrainingRecord:
    """Return the record of what `described` gave, every value of which is checked: it may be a stranger's."""
    names = {field.name for field in dataclasses.fields(TrainingRecord)}
    if not isinstance(given, dict) or given.keys() != names:
        raise ValueError(f"other names than {', '.join(sorted(names))}")
    arrays = {name: np.array(given[name], float) for name in ("steps", "objective", "kl")}
    noise = None if given["noise_std"] is None else np.array(given["noise_std"], float)
    points, pairs = len(arrays["steps"]), np.array(given["validation"], float).reshape(-1, 2)
    fits = arrays["objective"].ndim == 2 and arrays["objective"].shape[0] == points
    alike = all(
        part.shape == (points,) for part in (arrays["steps"], arrays["kl"], *([] if noise is None else [noise]))
    )
    if not (
        0 < points <= POINTS and fits and alike and len(pairs) <= POINTS and 0 < arrays["objective"].shape[1] <= MEMBERS
    ):
        raise ValueError("curves that do not fit one another")
    best = given["best_step"]
    words = isinstance(given["cost"], str) and type(given["in_nats"]) is bool and type(given["seed"]) is int
    plain = all(isinstance(given[name], dict) for name in ("versions", "settings"))
    if not (words and plain and (best is None or math.isfinite(best))):
        raise ValueError("a value of another type")
    made = TrainingRecord(**given | arrays | {"noise_std": noise, "validation": tuple(map(tuple, pairs.tolist()))})
    if not made._is_sound():
        raise ValueError(f"steps that do not rise from 1, or a number that is not finite or above {LARGEST:g}")
    return made


def _of_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over members, and outputs, of (steps, ...): (steps,)."""
    return np.asarray(values, float).reshape(len(values), -1).mean(axis=1)


def _means(values: np.ndarray, stretches: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.asarray(values, float)[stretch].mean(axis=0) for stretch in stretches])


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _rounded(value: Any) -> Any:
    """Return arrays as lists, and their numbers in six digits."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_rounded(part) for part in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return float(f"{value:.6g}") if type(value) is float else value
