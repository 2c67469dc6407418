"""The record of every step, chunk by chunk as training returns it, and the history that it makes."""

import dataclasses
from typing import Any

import jax
import numpy as np

from bbb._train_state import Recipe
from bbb._tree import Tree
from bbb._validation import Best
from bbb.history import History


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
