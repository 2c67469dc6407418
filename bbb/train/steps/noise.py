"""The random numbers of training steps: drawn for a block of steps at once, and the same whatever the blocks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree, count
from bbb.forwards.select import Forward
from bbb.model import BNN
from bbb.posteriors.protocol import Posterior
from bbb.train.steps.batches import first_rows
from bbb.train.steps.state import NOISE_KEYS, Member, Recipe, TrainInputs, with_trainable
from bbb.train.steps.training_mode import has_training


def noise_of_steps(recipe: Recipe, inputs: TrainInputs, member: Member, step: jax.Array) -> Tree:
    """Draw the noise of a block of steps at once: leading axes of steps, a single one if all share it, and draws."""
    shape, step = (1 if recipe.fixed else recipe.block, recipe.draws), noise_step(recipe, step)
    posterior = with_trainable(inputs.model, member.trainable, member.running).posterior
    index = (step * recipe.draws + jnp.arange(math.prod(shape), dtype=jnp.int32)).astype(jnp.uint32)
    x, key = first_rows(inputs, recipe), inputs.key

    def one(i: jax.Array) -> Tree:
        return _noise(jax.random.fold_in(key, np.uint32(NOISE_KEYS) + i), recipe.forward, posterior, x, key)

    noise = jax.vmap(one)(index)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), noise)


def noise_step(recipe: Recipe, step: jax.Array) -> jax.Array:
    """Return the step whose noise a step has: its own, or the first's."""
    return jnp.zeros_like(step) if recipe.fixed else step


def count_noise(key: jax.Array, forward: Forward, model: BNN, batch: Tree) -> int:
    """Return how many random numbers one draw of one step takes."""
    return int(from_shapes(_count_noise, forward, key, model.posterior, batch))


def _count_noise(forward: Any, key: jax.Array, posterior: Posterior, batch: Tree) -> int:
    return count(jax.eval_shape(lambda key, x: _noise(key, forward, posterior, x, key), key, batch))


def _noise(key: jax.Array, forward: Forward, posterior: Posterior, x: Any, train_key: jax.Array) -> Tree:
    """Draw the noise of one draw of one step; `train_key` stands for the key of the training mode, if it has one."""
    inputs: Any = (x, train_key) if has_training(forward) else x
    return forward.noise(key, posterior, inputs)
