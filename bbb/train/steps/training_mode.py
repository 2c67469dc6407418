"""The network in training mode: with its own randomness, such as dropout's, and its state updated at every step."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.tree import Tree, is_floating
from bbb.forwards.select import Forward
from bbb.model import BNN
from bbb.networks.protocol import state_of
from bbb.tracing import purity
from bbb.train.steps.state import Recipe, replaced

TRAIN_KEY = 2**32 - 1
"""The key of a network's own randomness in training, such as dropout's: each draw of each step has one made of it."""


@dataclasses.dataclass(frozen=True)
class _Training:
    """A network in training mode, as a function of its parameters and a pair (x, key)."""

    apply: Any

    has_aux: ClassVar[bool] = True
    """Whether a second output is no output of the network, so that nothing linearises it."""

    def __call__(self, params: Tree, inputs: tuple[Tree, jax.Array]) -> tuple[jax.Array, Tree]:
        return self.apply.train(params, *inputs)


def in_training(forward: Any, model: BNN, x: Tree) -> Forward:
    """Return the same forward of the network's training mode, if it has one; a plain function is left as it is."""
    apply: Any = getattr(forward, "apply", None)
    if not (dataclasses.is_dataclass(forward) and hasattr(apply, "train")):
        return forward
    params = model.posterior.params
    shape = jax.tree.map(jnp.shape, purity.output_shapes(model.apply, params, x))
    purity.training(apply.train, params, state_of(model.apply, params), x, shape)
    return dataclasses.replace(forward, apply=_Training(apply))  # type: ignore[type-var, return-value]


def has_training(forward: Forward) -> bool:
    """Return whether a forward is one of a training mode."""
    return isinstance(getattr(forward, "apply", None), _Training)


def train_draws(
    key: jax.Array, step: jax.Array, noise: Tree, running: Tree, model: BNN, x: Tree, recipe: Recipe
) -> tuple[jax.Array, Tree]:
    """Run the network in training mode once for each draw; return outputs (draws, rows, ...), and the new state."""
    index = (step * recipe.draws + jnp.arange(recipe.draws, dtype=jnp.int32)).astype(jnp.uint32)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, np.uint32(TRAIN_KEY)), i))(index)

    def one(noise: Tree, k: jax.Array) -> tuple[jax.Array, Tree]:
        outputs, updates = recipe.forward.evaluate(noise, model.posterior, (x, k))  # type: ignore[arg-type]
        return outputs, updates

    if recipe.draws == 1:
        outputs, updates = jax.tree.map(lambda leaf: leaf[None], one(jax.tree.map(lambda e: e[0], noise), keys[0]))
    else:
        outputs, updates = jax.vmap(one)(noise, keys)
    return outputs, replaced(running, jax.tree.map(_over_draws, updates))


def _over_draws(update: jax.Array) -> jax.Array:
    """Average over draws; integers, such as counters, are the first draw's."""
    return jnp.mean(update, axis=0) if is_floating(update) else update[0]
