"""Which rows a training step sees: all of them, or the next batch of an order that every epoch draws anew."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb.train.steps.state import ORDER_KEYS, Recipe


def shuffled(order: jax.Array, key: jax.Array, step: jax.Array, recipe: Recipe) -> jax.Array:
    """Return the order of the rows: at the start of an epoch, a new one."""
    if recipe.batch_size is None:
        return order
    rows = order.shape[0]
    epoch, position = jnp.divmod(step, math.ceil(rows / recipe.batch_size))

    def permute() -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, np.uint32(ORDER_KEYS) + epoch.astype(jnp.uint32)), rows)

    return lax.cond(position == 0, lambda: permute().astype(jnp.int32), lambda: order)


def batch_of(order: jax.Array, step: jax.Array, data: tuple[Any, ...], recipe: Recipe) -> tuple[Any, jax.Array]:
    """Return a step's rows of each array of the data, and which of them count: not the padding of an epoch's last."""
    rows, size = data[0].shape[0], recipe.batch_size
    if size is None:
        return data, jnp.ones(rows, bool)
    position = step % math.ceil(rows / size)
    places = position * size + jnp.arange(size, dtype=jnp.int32)
    index = order.at[places % rows].get(
        mode="promise_in_bounds"
    )  # padding is rows of its own, which statistics of the batch may see
    return jax.tree.map(lambda leaf: leaf.at[index].get(mode="promise_in_bounds"), data), places < rows
