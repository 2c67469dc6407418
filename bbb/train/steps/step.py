"""The compiled part of training: one step, and many steps in one program, of one model or of several side by side.

`advance` is the step: it takes a batch, computes the cost and its gradient, and lets the optimiser update. `run_chunk`
repeats it on noise that is drawn for a block of steps at once. The steps of several members are one `vmap` of the step
of one; what they share, which is the loop and its counter, is not batched, so that an order of the rows is drawn once
an epoch and not at every step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb.core.jit import jit
from bbb.core.noise import SMALL
from bbb.core.rows import count_rows
from bbb.core.tree import Tree, is_floating, widest_dtype
from bbb.likelihoods.protocol import noise_std
from bbb.objectives import optimizers
from bbb.objectives.objective import KL_KEY, Cost, contract_of, evaluate_draws, with_kl_noise, with_std_error
from bbb.tracing.convolutions import channels_last
from bbb.train.steps.anchors import with_row_noise
from bbb.train.steps.batches import batch_of, batch_of_stream, rows_of, shuffled
from bbb.train.steps.noise import noise_of_steps, noise_step
from bbb.train.steps.sharding import as_it_came, on_every_device, rows_over_devices
from bbb.train.steps.state import (
    MAX_SKIPS,
    Member,
    Recipe,
    TrainInputs,
    TrainState,
    each_member,
    input_axes,
    with_trainable,
)
from bbb.train.steps.training_mode import has_training, train_draws


def advance(
    recipe: Recipe, inputs: TrainInputs, member: Member, noise: Tree, step: jax.Array
) -> tuple[Member, jax.Array, Tree]:
    """Do one step of one member.

    Returns:
        The member after it, whether its numbers were finite, and a record: the parts of the cost, the likelihood's
        noise, and whether the step was undone.
    """
    order = shuffled(member.order, inputs.key, step, recipe)
    cost, slope, running = _cost_and_slope(recipe, inputs, member, noise, order, step)
    cost, trainable = _cost_first(cost, member.trainable)
    after = _updated(recipe, member._replace(trainable=trainable), slope, running, order)
    good = jnp.isfinite(cost.total) & jnp.isfinite(cost.kl)  # the KL sees every weight
    skipped = None
    if recipe.skips:
        after, good, skipped = _undo_nonfinite(recipe, member, after, good)
    std = noise_std(with_trainable(inputs.model, member.trainable, None).likelihood)
    return after, good, (cost, std, skipped)


def _cost_and_slope(
    recipe: Recipe, inputs: TrainInputs, member: Member, noise: Tree, order: jax.Array, step: jax.Array
) -> tuple[Cost, optimizers.Slope, Tree]:
    """Return the cost of a step's rows and noise, its gradient, and the network's new state."""
    seen = noise_step(recipe, step)
    if recipe.num_data is None:
        indices = (jnp.arange(count_rows(inputs.y), dtype=jnp.uint32),) if recipe.anchored else ()
        batch, counts = batch_of(order, step, (inputs.x, inputs.y, inputs.sample_weight, *indices), recipe)
    else:
        batch, counts = batch_of_stream(inputs, step)
    x, y, weights, *rows = rows_over_devices(recipe, batch)
    weight = _kl_weight(recipe, inputs, step)

    def loss(trainable: Tree) -> tuple[jax.Array, tuple[Cost, Tree]]:
        model, running = with_trainable(inputs.model, trainable, member.running), member.running
        if has_training(recipe.forward):
            outputs, running = train_draws(inputs.key, seen, noise, running, model, x, recipe)
        else:
            outputs = evaluate_draws(recipe.forward, noise, model, x, recipe.draws)
        model = with_kl_noise(_kl_key(inputs.key, seen), model, recipe.draws)
        if recipe.anchored:
            model = with_row_noise(inputs.key, model, rows[0], outputs, weights)
        # On every device, as the sum of the weights scales the gradient: else that would be sent.
        counted, times = on_every_device(recipe, (counts.astype(widest_dtype(outputs)), weights))
        row_weights, num_data = contract_of(counted, times, rows_of(inputs, recipe))
        cost = recipe.cost(model, outputs, y, row_weights, num_data, weight)
        return cost.total, (with_std_error(cost, model), running)

    gradient, (cost, running) = jax.grad(loss, has_aux=True)(member.trainable)
    return cost, optimizers.Slope(cost.total, gradient, lambda trainable: loss(trainable)[0]), running


def _cost_first(cost: Cost, trainable: Tree) -> tuple[Cost, Tree]:
    """Return what is given, with the cost before the update of large arrays.

    XLA updates an array in place only where all that reads it comes before, and no update needs the value of the cost:
    without this, each step copies the means and deviations of all weights first. That is 4 % of a step on a CPU on JAX
    0.12; the XLA of JAX 0.10 copies them in either case.
    """
    leaves, structure = jax.tree.flatten(trainable)
    large = [i for i, leaf in enumerate(leaves) if leaf.size > SMALL]
    if large:
        cost, held = lax.optimization_barrier((cost, [leaves[i] for i in large]))
        for i, leaf in zip(large, held, strict=True):
            leaves[i] = leaf
    return cost, jax.tree.unflatten(structure, leaves)


def _updated(recipe: Recipe, member: Member, slope: optimizers.Slope, running: Tree, order: jax.Array) -> Member:
    """Return the member after the optimiser's update."""
    trainable, optimizer_state = optimizers.update(recipe.optimizer, slope, member.optimizer_state, member.trainable)
    return Member(trainable, optimizer_state, running, order, member.skipped)


def _undo_nonfinite(
    recipe: Recipe, member: Member, after: Member, good: jax.Array
) -> tuple[Member, jax.Array, jax.Array]:
    """Undo a step of numbers that are not finite.

    Returns:
        The member, whether training may go on, and whether the step was undone.
    """
    skipped = ~(good & is_sound(after, recipe))
    undone = member._replace(order=after.order, skipped=member.skipped + 1)
    after = jax.tree.map(partial(jnp.where, skipped), undone, after._replace(skipped=jnp.zeros_like(after.skipped)))
    return after, after.skipped <= MAX_SKIPS, skipped


def is_sound(member: Member, recipe: Recipe) -> jax.Array:
    """Return whether all that was trained is finite, and the optimiser's state as far as it is watched: a bool, ()."""
    optimizer_state = jax.tree.leaves(member.optimizer_state)
    watched = [leaf for leaf, finite in zip(optimizer_state, recipe.watched, strict=True) if finite]
    leaves = filter(is_floating, [*jax.tree.leaves((member.trainable, member.running)), *watched])
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def _kl_key(key: jax.Array, step: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, np.uint32(KL_KEY)), step)


def _kl_weight(recipe: Recipe, inputs: TrainInputs, step: jax.Array) -> jax.Array:
    """Return the weight of the KL at a step, as a number or its schedule gives it."""
    if recipe.kl_schedule is None:
        return inputs.kl_weight
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # it may be optax's
        return jnp.asarray(recipe.kl_schedule(step), inputs.kl_weight.dtype)


@partial(jit, static_argnames=("recipe",))
def run_chunk(state: TrainState, inputs: TrainInputs, until: jax.Array, *, recipe: Recipe) -> tuple[TrainState, Any]:
    """Train up to step `until`, or to the first bad one; return the state, and the record of each step done."""
    first, (step, draw_noise) = state.step, _of_members(recipe, inputs)

    def block(carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
        state, record = carry
        start = state.step
        noise = draw_noise(state)
        end = jnp.minimum(until, start + recipe.block)

        def one(carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            state, record = carry
            at = state.step
            nth = 0 if recipe.fixed else at - start
            new_state, now = step(state, jax.tree.map(lambda leaf: leaf[nth], noise))
            return new_state, jax.tree.map(lambda log, value: log.at[at - first].set(value), record, now)

        return lax.while_loop(lambda c: (c[0].step < end) & c[0].healthy, one, (state, record))

    noise = jax.eval_shape(lambda: draw_noise(state))
    one_noise = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), noise)
    shapes = jax.eval_shape(step, state, one_noise)[1]
    record = jax.tree.map(lambda leaf: jnp.zeros((recipe.chunk, *leaf.shape), leaf.dtype), shapes)
    state, record = lax.while_loop(lambda c: (c[0].step < until) & c[0].healthy, block, (state, record))
    state = state._replace(healthy=state.healthy & is_sound(state.member, recipe))
    return as_it_came(recipe, state), on_every_device(recipe, record)


def _of_members(recipe: Recipe, inputs: TrainInputs) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the step, and what draws the noise of a block of steps, of one member or of several side by side."""
    each_advance = each_member(partial(advance, recipe), recipe, (input_axes(recipe), 0, 0, None))
    each_noise = each_member(partial(noise_of_steps, recipe), recipe, (input_axes(recipe), 0, None), out_axes=1)

    def step(state: TrainState, noise: Tree) -> tuple[TrainState, Any]:
        member, good, record = each_advance(inputs, state.member, noise, state.step)
        good = jnp.all(good) if recipe.members else good
        return TrainState(state.step + good.astype(jnp.int32), member, good), record

    return channels_last(step) if recipe.convolves else step, lambda state: each_noise(inputs, state.member, state.step)


class ExaminedStep(NamedTuple):
    """What one step meets and makes, for the question which of it was not finite."""

    cost: Cost
    gradient: Tree
    member: Member


@partial(jit, static_argnames=("recipe",))
def examine(state: TrainState, inputs: TrainInputs, *, recipe: Recipe) -> ExaminedStep:
    """Do the step that `state` stands before once more, and keep all of it."""

    def one(inputs: TrainInputs, member: Member, step: jax.Array) -> ExaminedStep:
        noise = jax.tree.map(lambda leaf: leaf[0], noise_of_steps(recipe, inputs, member, step))
        order = shuffled(member.order, inputs.key, step, recipe)
        cost, slope, running = _cost_and_slope(recipe, inputs, member, noise, order, step)
        return ExaminedStep(cost, slope.gradient, _updated(recipe, member, slope, running, order))

    return each_member(one, recipe, (input_axes(recipe), 0, None))(inputs, state.member, state.step)
