"""The record of every step, chunk by chunk as training returns it, and the history that it makes."""

import dataclasses
from typing import Any

import jax
import numpy as np

from bbb import display
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.objectives.objective import elbo_cost, exact_elbo_cost
from bbb.train.steps.state import Recipe
from bbb.train.validation import Best


@dataclasses.dataclass(frozen=True, repr=False)
class History(display.Displayed):
    """What happened at each step, before its update; arrays of shape (steps,).

    Attributes:
        loss: what was minimised. Under `elbo_cost` and `exact_elbo_cost` it is in nats over the whole data set.
        data_term: its first part, in the same units.
        kl: KL(posterior ‖ prior) in nats, unweighted.
        noise_std: the likelihood's noise in y's units, (steps,) or (steps, outputs); None if it has none.
        cost: the name of the cost function.
        kl_std_error: the Monte Carlo standard error of `kl`, in nats; None for a prior whose KL has a closed form.
        validation_log_score: the mean log score of the held-out rows, in nats a row, each time it was taken; None
            without validation.
        validation_steps: how many steps had been done then.
        best_step: the one of these at which the score was best, whose model was returned.
        skipped: which steps were undone, with `Objective(on_nonfinite="skip")`; None without. Their loss may be NaN.
    """

    loss: np.ndarray
    data_term: np.ndarray
    kl: np.ndarray
    noise_std: np.ndarray | None
    cost: str
    kl_std_error: np.ndarray | None = None
    validation_log_score: np.ndarray | None = None
    validation_steps: np.ndarray | None = None
    best_step: np.ndarray | None = None
    skipped: np.ndarray | None = None

    @property
    def is_elbo(self) -> bool:
        """True if the cost is the negative evidence lower bound, on draws or exactly: its parts are in nats."""
        return self.cost in (elbo_cost.__name__, exact_elbo_cost.__name__)

    @property
    def negative_elbo(self) -> np.ndarray:
        """The negative evidence lower bound, data term plus unweighted KL, in nats over the whole data set.

        Raises:
            InputError: if another cost was minimised, whose data term is not a log-probability.
        """
        if not self.is_elbo:
            fail(
                InputError,
                "a history of elbo_cost",
                f"one of {self.cost}, whose data term is not in nats",
                "Read history.loss, or train with objective=bbb.objectives.elbo_cost.",
            )
        return self.data_term + self.kl

    def without_skipped(self) -> "History":
        """Return it without the steps that were undone for any member, whose numbers may be NaN; scores stay."""
        if self.skipped is None or not self.skipped.any():
            return self
        kept = ~self.skipped.reshape(len(self.skipped), -1).any(axis=1)
        names = ("loss", "data_term", "kl", "noise_std", "kl_std_error", "skipped")
        arrays: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return dataclasses.replace(self, **{name: array[kept] for name, array in arrays.items()})

    def member(self, k: int) -> "History":
        """Return the history of one of several members trained side by side, whose arrays are (steps, members, ...)."""
        arrays: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        best = None if self.best_step is None else arrays.pop("best_step")[k]
        arrays.pop("validation_steps", None)
        return dataclasses.replace(self, best_step=best, **{name: value[:, k] for name, value in arrays.items()})

    def _table_shown(self) -> display.Table:
        steps, *members = self.loss.shape
        of = f" of {display.counted(members[0], 'member')}" if members else ""
        unit = " nats" if self.is_elbo else ""
        rows = [
            ("loss", _first_and_last(self.loss, unit)),
            ("data term", _first_and_last(self.data_term, unit)),
            ("KL", _first_and_last(self.kl, " nats")),
        ]
        if self.noise_std is not None:
            rows.append(("noise std", _first_and_last(self.noise_std)))
        if self.validation_log_score is not None and self.validation_log_score.size:
            best, at = display.span(np.max(self.validation_log_score, axis=0)), display.span(self.best_step)
            rows.append(("validation", f"log score {best} nats a row, the best, after {at} steps"))
        if self.skipped is not None:
            rows.append(("skipped", display.counted(int(np.sum(self.skipped)), "step")))
        return display.Table(f"History of {display.counted(steps, 'step')}{of}, minimising {self.cost}", rows)


def _first_and_last(values: np.ndarray, unit: str = "") -> str:
    """Say a quantity at the first step and at the last, as a range over members and outputs."""
    if not len(values):
        return "none"
    first, last = display.span(values[0]), display.span(values[-1])
    return f"{first}{unit} at first, {last}{unit} at last"


def joined(records: list[Tree]) -> Tree:
    """Return the records of several chunks as one, along the axis of steps."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *records)


def history_of(records: list[Tree], recipe: Recipe, best: Best, steps: int) -> History:
    """Return the history of the first `steps` steps, with the scores of validation if there are any."""
    cost, noise_std, skipped = jax.tree.map(lambda leaf: leaf[:steps], joined(records))
    name = getattr(recipe.cost, "__name__", "cost")
    parts = {"kl_std_error": cost.kl_std_error, "skipped": skipped}
    history = History(cost.total, cost.data_term, cost.kl, noise_std, name, **parts)
    if not best.steps:
        return history
    scores: dict[str, Any] = {"validation_log_score": np.stack(best.scores), "validation_steps": np.array(best.steps)}
    return dataclasses.replace(history, best_step=best.step, **scores)
