"""Early stopping: the log score of held-out rows, taken every so many steps, and the model that had the best."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from bbb.core.jit import jit
from bbb.core.rows import count_rows
from bbb.core.tree import Tree, is_none
from bbb.devices import layout as layout_module
from bbb.forwards.mean import AtMean
from bbb.forwards.select import Forward
from bbb.model import BNN
from bbb.tracing.convolutions import channels_last
from bbb.train.data.rows import Data
from bbb.train.options import EarlyStopping
from bbb.train.steps.sharding import MeshLayout
from bbb.train.steps.state import Recipe, TrainInputs, TrainState, each_member, model_at

SCORE_KEY = 2**32 - 3
"""The key of the noise that a score is made of, the same at every step."""


SCORE_DRAWS = 100
"""Draws of the weights that a score is an average over."""


CHECKS = 100
"""How often a score is taken in a training, unless its distance in steps is given."""


class ValidationSet(NamedTuple):
    """The rows that are held out, the steps between two scores, and how many scores may be no better."""

    x: Tree
    y: jax.Array
    every: int
    patience: int
    sample_weight: jax.Array | None = None


class Best(NamedTuple):
    """The best that was seen; arrays have an axis of members, where there are several.

    Checkpoints hold its fields by their names.
    """

    score: np.ndarray
    step: np.ndarray
    stale: np.ndarray  # how many scores in a row were no better
    trainable: Tree
    running: Tree
    scores: tuple[np.ndarray, ...]
    steps: tuple[int, ...]

    @classmethod
    def none(cls, state: TrainState, members: tuple[int, ...]) -> "Best":
        """Return the best before any score, of a state that training begins with."""
        zeros = np.zeros(members, int)
        return cls(np.full(members, -np.inf), zeros, zeros, state.member.trainable, state.member.running, (), ())


def validation_set(asked: EarlyStopping | None, data: Data | None, steps: int) -> ValidationSet | None:
    """Return what validation scores in a training of so many steps; None if it is not asked for."""
    if asked is None or data is None:
        return None
    every = math.ceil(steps / CHECKS) if asked.every is None else asked.every
    return ValidationSet(data.x, data.y, every, asked.patience, data.sample_weight)


def on_mesh(validation: ValidationSet | None, layout: MeshLayout | None) -> ValidationSet | None:
    """Return the validation set with its rows on every device of a mesh, if there are both."""
    if validation is None or layout is None:
        return validation
    held_out = (validation.x, validation.y, validation.sample_weight)
    x, y, sample_weight = layout_module.put(layout.mesh, held_out, P())
    return validation._replace(x=x, y=y, sample_weight=sample_weight)


def observe(
    best: Best, inputs: TrainInputs, state: TrainState, validation: ValidationSet | None, recipe: Recipe
) -> Best:
    """Score the model as it stands; keep it where it is the best, of members that were not stopped before.

    Without a validation set nothing is scored, and `best` is returned.
    """
    if validation is None:
        return best
    held_out = Data(validation.x, validation.y, validation.sample_weight)
    score = np.asarray(_score(inputs.key, model_at(inputs, state), held_out, recipe=recipe))
    better = (score > best.score) & (best.stale < validation.patience)
    now = int(state.step)

    def keep(old: Tree, new: Tree) -> Tree:
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


def is_over(best: Best, validation: ValidationSet | None) -> bool:
    """Return whether every member has gone `patience` scores without a better one; False without validation."""
    return validation is not None and bool(np.all(best.stale >= validation.patience))


@partial(jit, static_argnames=("recipe",))
def _score(key: jax.Array, model: BNN, data: Data, *, recipe: Recipe) -> jax.Array:
    """Return the mean over rows, weighted by theirs, of log (1/S)·Σ_s p(y | draw s), in nats, of each member."""
    score = each_member(partial(_score_of_one, recipe.scored, data), recipe)
    return (channels_last(score) if recipe.convolves else score)(key, model)


def _score_of_one(forward: Forward, data: Data, key: jax.Array, model: BNN) -> jax.Array:
    x, y, weights = data
    key = jax.random.fold_in(key, np.uint32(SCORE_KEY))

    def add(total: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        outputs = forward(jax.random.fold_in(key, i), model.posterior, x)
        return jnp.logaddexp(total, model.likelihood.log_prob(y, outputs).astype(total.dtype)), None

    nothing = jnp.full(count_rows(y), -jnp.inf, jnp.result_type(float))
    is_sure = isinstance(forward, AtMean) or model.posterior.is_point  # so that all draws would be alike
    count = 1 if is_sure else SCORE_DRAWS
    total, _ = lax.scan(add, nothing, jnp.arange(count, dtype=jnp.uint32))
    if weights is None:
        return jnp.mean(total) - float(np.log(count))
    weights = weights.astype(total.dtype)
    return jnp.dot(weights, total) / jnp.sum(weights) - float(np.log(count))
