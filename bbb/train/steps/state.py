"""What a training step takes and returns: what is fixed when it is compiled, what stays, and what it changes."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from bbb.core.jit import jit
from bbb.core.rows import row_leaves
from bbb.core.tree import Tree, all_finite, is_none
from bbb.forwards.select import Forward
from bbb.model import BNN
from bbb.networks.protocol import state_of
from bbb.objectives import optimizers
from bbb.objectives.objective import CostFunction

NOISE_KEYS, ORDER_KEYS = 2**31, 2**31 + 2**30
"""Where the keys of noise, counted over draws and steps, and of epochs begin. Below are those of `predict`: if the two
shared numbers, a key used for both would show the posterior the very noise it was fitted to, and narrow its band."""


MAX_SKIPS = 10
"""How many steps in a row may be undone before training stops."""


class Recipe(NamedTuple):
    """All that the compiled program depends on besides arrays."""

    forward: Forward
    scored: Forward  # the network that validation scores
    optimizer: optax.GradientTransformation
    cost: CostFunction
    kl_schedule: Callable[[jax.Array], Any] | None
    batch_size: int | None
    draws: int
    chunk: int
    block: int
    skips: bool = False  # whether a step that makes bad numbers is undone, and training goes on
    watched: tuple[bool, ...] = ()  # which leaves of the optimiser's state have to stay finite: those that begin so
    members: bool = False  # whether the key and model of `TrainInputs`, and a `Member`, have an axis of members
    own_data: bool = False  # whether x and y have that axis too
    anchored: bool = False  # whether members are points, each with noise of its own on what its rows say
    fixed: bool = False  # whether every step has the noise of the first: an optimiser asks for one function
    num_data: int | None = None  # rows of the whole data set, where batches come from a stream
    convolves: bool = False  # whether the network does, for which a loop has a layout of its own
    mesh: Mesh | None = None  # of axes "restarts" and "batch"
    layout: tuple[NamedSharding, ...] = ()  # where the leaves of a `TrainState` lie on it


class Streamed(NamedTuple):
    """Of a stream, whose batches are x and y, (batches, rows, ...): the step of the first, and which rows count."""

    first: jax.Array
    counts: jax.Array


class TrainInputs(NamedTuple):
    """What is trained on what: all that stays as it is; of a stream, for some steps."""

    key: jax.Array
    model: BNN
    x: Tree
    y: jax.Array
    kl_weight: Any
    sample_weight: jax.Array | None = None  # how often each row counts: None for once
    stream: Streamed | None = None


class Member(NamedTuple):
    """What changes from step to step; checkpoints hold its fields by their names."""

    trainable: Tree
    optimizer_state: Tree
    running: Tree  # the network's state, which training updates but does not train; None if it has none
    order: jax.Array  # the rows in this epoch's order; empty for a full batch
    skipped: jax.Array  # how many steps in a row were undone


class TrainState(NamedTuple):
    """The step that comes next, and all that a step changes; checkpoints hold its fields by their names."""

    step: jax.Array
    member: Member
    healthy: jax.Array  # whether this step's cost, and all that was trained, are finite


def initial_state(inputs: TrainInputs, recipe: Recipe) -> TrainState:
    """Return the state before the first step."""
    trainable, running = trainable_of(inputs.model)
    rows = 0 if recipe.batch_size is None else row_leaves(inputs.y)[0].shape[1 if recipe.own_data else 0]
    member = Member(
        trainable=trainable,
        optimizer_state=_optimizer_state(trainable, optimizer=recipe.optimizer, members=recipe.members),
        running=running,
        order=jax.device_put(np.zeros((*inputs.key.shape, rows), np.int32)),  # `jnp.zeros` would compile a program
        skipped=jax.device_put(np.zeros(inputs.key.shape, np.int32)),
    )
    return TrainState(jax.device_put(np.int32(0)), member, jax.device_put(np.True_))


@partial(jit, static_argnames=("optimizer", "members"))
def _optimizer_state(trainable: Tree, *, optimizer: optax.GradientTransformation, members: bool) -> Tree:
    """Return what the optimiser begins with: one program, where outside of one it would be one for each shape."""
    begin = partial(optimizers.init, optimizer)
    return (jax.vmap(begin) if members else begin)(trainable)


def finite_leaves(optimizer_state: Tree) -> tuple[bool, ...]:
    """Return which leaves of an optimiser's state begin finite; some keep a best value, which begins at infinity."""
    return tuple(all_finite(leaf) for leaf in jax.tree.leaves(optimizer_state))


def trainable_of(model: BNN) -> tuple[Tree, Tree]:
    """Return what the optimiser moves, and apart from it the network's state, if it has any."""
    posterior, running = model.posterior, None
    if hasattr(model.apply, "state"):
        state = state_of(model.apply, posterior.params)
        running = jax.tree.map(lambda is_state, leaf: leaf if is_state else None, state, posterior.params)
        moved = jax.tree.map(lambda is_state, leaf: None if is_state else leaf, state, posterior.params)
        posterior = posterior.with_params(moved)
    return (posterior, model.likelihood if model.likelihood.learn else None), running


def with_trainable(model: BNN, trainable: Tree, running: Tree) -> BNN:
    """Return the model with what was trained, and the network's state, in their places."""
    posterior, likelihood = trainable
    if running is not None:
        posterior = posterior.with_params(replaced(posterior.params, running))
    return dataclasses.replace(model, posterior=posterior, likelihood=likelihood or model.likelihood)


def replaced(tree: Tree, new: Tree) -> Tree:
    """Return `tree` with what is not None in `new`, in the old dtype, in its place."""

    def leaf(value: Any, old: Any) -> Any:
        return old if value is None else value if old is None else value.astype(old.dtype)

    return jax.tree.map(leaf, new, tree, is_leaf=is_none)


def model_at(inputs: TrainInputs, state: TrainState) -> BNN:
    """Return the model as it stands in a state."""
    return with_trainable(inputs.model, state.member.trainable, state.member.running)


def each_member(
    function: Callable[..., Any], recipe: Recipe, in_axes: Any = 0, out_axes: Any = 0
) -> Callable[..., Any]:
    """Map a function over the members, where there are several."""
    return jax.vmap(function, in_axes, out_axes) if recipe.members else function


def input_axes(recipe: Recipe) -> Any:
    """Return which of the inputs have an axis of members, as `each_member` takes it."""
    data: Any = 0 if recipe.own_data else None
    return TrainInputs(0, 0, data, data, None, data, None)  # type: ignore[arg-type]
