"""Early stopping: the log score of held-out rows, taken every so many steps, and the model that had the best."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb import _check
from bbb._compile import jit
from bbb._train import Problem, Recipe, State, each_member, with_trainable
from bbb._tree import Tree, is_none
from bbb.model import BNN
from bbb.objective import data_for

SCORE_KEY, SPLIT_KEY = 2**32 - 3, 2**32 - 4
"""The keys of the noise that a score is made of, the same at every step, and of the choice of rows."""

SCORE_DRAWS = 100
"""Draws of the weights that a score is an average over."""

CHECKS = 100
"""How often a score is taken in a training, unless told."""


class HeldOut(NamedTuple):
    """The rows that are held out, and when to look at them."""

    x: jax.Array
    y: jax.Array
    every: int
    patience: int


class Best(NamedTuple):
    """The best that was seen; arrays have an axis of members, where there are several."""

    score: np.ndarray
    step: np.ndarray
    stale: np.ndarray  # how many scores in a row were no better
    trainable: Tree
    running: Tree
    scores: tuple[np.ndarray, ...]
    steps: tuple[int, ...]

    @classmethod
    def none(cls, state: State, members: tuple[int, ...]) -> "Best":
        """Begin, with nothing seen."""
        zeros = np.zeros(members, int)
        return cls(np.full(members, -np.inf), zeros, zeros, state.member.trainable, state.member.running, (), ())


def count_held(share: float, rows: int) -> int:
    """Say how many of so many rows a share of them holds out: at least one."""
    return max(1, round(share * rows))


def hold_out(key: jax.Array, model: BNN, x: jax.Array, y: jax.Array, validation: Any) -> tuple[Any, Any, Any, Any]:
    """Give x and y to train on and x and y to score: those of a pair, or a share of the rows, chosen by the key."""
    if isinstance(validation, tuple | list):
        if len(validation) != 2:
            got, do = f"{len(validation)} of them", "Pass validation=(x, y), or a share such as 0.1."
            _check.fail(_check.InputError, "validation to be a pair of arrays", got, do)
        return x, y, *data_for(model, *validation)
    rows = x.shape[0]
    held = count_held(_check.probability("validation", validation, example=0.1), rows)
    if held >= rows:
        got, do = f"{held} of {rows}", "Pass a smaller share, or more rows."
        _check.fail(_check.InputError, "validation to leave a row to train on", got, do)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, np.uint32(SPLIT_KEY)), rows))
    parts = [np.sort(order[held:]), np.sort(order[:held])]
    return tuple(jax.device_put(np.asarray(data)[part]) for part in parts for data in (x, y))


def observe(best: Best, problem: Problem, state: State, held_out: HeldOut, recipe: Recipe) -> Best:
    """Score the model as it stands; keep it where it is the best, of members that were not stopped before."""
    model = with_trainable(problem.model, state.member.trainable, state.member.running)
    score = np.asarray(_score(problem.key, model, held_out.x, held_out.y, recipe=recipe))
    better = (score > best.score) & (best.stale < held_out.patience)
    now = int(state.step)

    def keep(old: Any, new: Any) -> Any:
        if old is None:
            return None
        chosen = better.reshape(better.shape + (1,) * (jnp.ndim(new) - better.ndim))
        return jax.device_put(np.where(chosen, np.asarray(new), np.asarray(old)))

    kept = ((best.trainable, best.running), (state.member.trainable, state.member.running))
    trainable, running = jax.tree.map(keep, *kept, is_leaf=is_none)
    return Best(
        score=np.where(better, score, best.score),
        step=np.where(better, now, best.step),
        stale=np.where(better, 0, best.stale + 1),
        trainable=trainable,
        running=running,
        scores=(*best.scores, score),
        steps=(*best.steps, now),
    )


def is_over(best: Best, held_out: HeldOut) -> bool:
    """Tell whether every member has gone `patience` scores without a better one."""
    return bool(np.all(best.stale >= held_out.patience))


@partial(jit, static_argnames=("recipe",))
def _score(key: jax.Array, model: BNN, x: jax.Array, y: jax.Array, *, recipe: Recipe) -> jax.Array:
    """Give the mean over rows of log (1/S)·Σ_s p(y | draw s), in nats, of each member."""
    return each_member(partial(_score_of_one, x, y), recipe)(key, model)


def _score_of_one(x: jax.Array, y: jax.Array, key: jax.Array, model: BNN) -> jax.Array:
    key = jax.random.fold_in(key, np.uint32(SCORE_KEY))

    def add(total: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        noise = model.posterior.noise(jax.random.fold_in(key, i))
        outputs = model.apply(model.posterior.weights(noise), x)
        return jnp.logaddexp(total, model.likelihood.log_prob(y, outputs).astype(total.dtype)), None

    nothing = jnp.full(x.shape[0], -jnp.inf, jnp.result_type(float))
    total, _ = lax.scan(add, nothing, jnp.arange(SCORE_DRAWS, dtype=jnp.uint32))
    return jnp.mean(total) - float(np.log(SCORE_DRAWS))
