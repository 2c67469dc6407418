"""The compiled part of training: many steps in one program, of one model or of several members side by side.

The steps of several members are one `vmap` of the step of one; what they share, which is the loop and its counter, is
not batched, so that an order of the rows is drawn once an epoch and not at every step.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bbb import _check, _mesh, _optimizer
from bbb._compile import jit
from bbb._shapes import from_shapes
from bbb._tree import Tree, all_finite, count, is_floating, is_none
from bbb.forward import Forward, WeightSampling
from bbb.likelihood import noise_std
from bbb.model import BNN, state_of
from bbb.objective import KL_KEY, Cost, CostFunction, evaluate_draws, with_kl_noise, with_std_error
from bbb.posterior import MeanField, reparameterize

NOISE_KEYS, ORDER_KEYS = 2**31, 2**31 + 2**30
"""Where the keys of noise, counted over draws and steps, and of epochs begin. Below are those of `predict`: if the two
shared numbers, a key used for both would show the posterior the very noise it was fitted to, and narrow its band."""

MOST_SKIPS = 10
"""How many steps in a row may be undone before training stops."""

TRAIN_KEY = 2**32 - 1
"""The key of a network's own randomness in training, such as dropout's: each draw of each step has one made of it."""


class Recipe(NamedTuple):
    """All that the compiled program depends on besides arrays."""

    forward: Forward
    optimizer: optax.GradientTransformation
    cost: CostFunction
    kl_schedule: Callable[[jax.Array], Any] | None
    batch_size: int | None
    draws: int
    chunk: int
    block: int
    skips: bool = False  # whether a step that makes bad numbers is undone, and training goes on
    watched: tuple[bool, ...] = ()  # which leaves of the optimiser's state have to stay finite: those that begin so
    members: bool = False  # whether the key and the model of a `Problem`, and a `Member`, have an axis of members
    own_data: bool = False  # whether x and y have that axis too
    fixed: bool = False  # whether every step has the noise of the first: an optimiser asks for one function
    mesh: Mesh | None = None  # of axes "restarts" and "batch"
    layout: tuple[NamedSharding, ...] = ()  # where the leaves of a `State` lie on it


class Problem(NamedTuple):
    """What is trained on what: all that stays as it is."""

    key: jax.Array
    model: BNN
    x: jax.Array
    y: jax.Array
    kl_weight: Any


class Member(NamedTuple):
    """What changes from step to step."""

    trainable: Tree
    optimizer_state: Tree
    running: Tree  # the network's state, which training updates but does not train; None if it has none
    order: jax.Array  # the rows in this epoch's order; empty for a full batch
    skipped: jax.Array  # how many steps in a row were undone


class State(NamedTuple):
    """Where training stands."""

    step: jax.Array
    member: Member
    healthy: jax.Array  # whether this step's cost, and all that was trained, are finite


def stacked(trees: list[Tree]) -> Tree:
    """Stack trees leaf by leaf, along a new leading axis of members; by NumPy, which has nothing to compile."""
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack([np.asarray(leaf) for leaf in leaves])), *trees)


def member_of(tree: Tree, k: int) -> Tree:
    """Take one member out of what `stacked` made."""
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[k]), tree)


def start(problem: Problem, recipe: Recipe) -> State:
    """Give the state before the first step."""
    trainable, running = trainable_of(problem.model)
    rows = 0 if recipe.batch_size is None else problem.y.shape[1 if recipe.own_data else 0]
    member = Member(
        trainable=trainable,
        optimizer_state=each_member(partial(_optimizer.init, recipe.optimizer), recipe)(trainable),
        running=running,
        order=jnp.zeros((*problem.key.shape, rows), jnp.int32),
        skipped=jnp.zeros(problem.key.shape, jnp.int32),
    )
    return State(jnp.zeros((), jnp.int32), member, jnp.ones((), bool))


class Over(NamedTuple):
    """A mesh to train on, of axes "restarts" and "batch", and where parameters lie on it."""

    mesh: Mesh
    parameters: _mesh.Layout


AXES = ("restarts", "batch")


@dataclasses.dataclass(frozen=True)
class _Gathering:
    """A forward whose large weights are cut along "batch" until the network meets them.

    Each device draws the noise of its part, makes weights of it, and gathers those of the others. Without this every
    device would repeat the noise, the KL and the optimiser's work for all parameters.
    """

    forward: Forward
    mesh: Mesh
    structure: Any
    cuts: tuple[bool, ...]

    @property
    def apply(self) -> Any:
        """The network."""
        return self.forward.apply  # type: ignore[attr-defined]

    def noise(self, key: jax.Array, posterior: MeanField, x: Any) -> Tree:
        """Draw what the forward draws."""
        return self.forward.noise(key, posterior, x)

    def evaluate(self, noise: Tree, posterior: MeanField, x: Any) -> Any:
        """Run the network: one draw of the weights is gathered, or where rows have their own, what they are made of."""
        if isinstance(self.forward, WeightSampling):
            return self.apply(self._whole(reparameterize(posterior, noise)), x)
        gathered = MeanField(self._whole(posterior.mean), self._whole(posterior.log_std))
        return self.forward.evaluate(noise, gathered, x)

    def __call__(self, key: jax.Array, posterior: MeanField, x: Any) -> Any:
        """Compute the outputs of one random draw."""
        return self.evaluate(self.noise(key, posterior, x), posterior, x)

    def _whole(self, params: Tree) -> Tree:
        """Gather what is cut; None, in the place of a point estimate's standard deviations, stays."""

        def leaf(cut: bool, w: jax.Array | None) -> jax.Array | None:
            return _mesh.whole(w, self.mesh, "batch") if cut and w is not None else w

        return jax.tree.map(leaf, jax.tree.unflatten(self.structure, self.cuts), params)


def recipe_over(over: Over, problem: Problem, recipe: Recipe, state: State) -> Recipe:
    """Make the recipe one of a mesh; the state lies on it already."""
    layout = tuple(leaf.sharding for leaf in jax.tree.leaves(state))
    cuts, structure = _mesh.cuts(over.parameters, "batch"), jax.tree.structure(problem.model.posterior.mean)
    forward = _Gathering(recipe.forward, over.mesh, structure, cuts) if any(cuts) else recipe.forward
    return recipe._replace(mesh=over.mesh, layout=layout, forward=forward)


def problem_over(over: Over, problem: Problem, recipe: Recipe) -> Problem:
    """Lay a problem out: members along "restarts", and of a full batch the rows along "batch".

    Of smaller batches, rows are picked anywhere: every device has all of them.
    """
    mesh, each = over.mesh, _each(recipe)
    data = P("batch") if recipe.batch_size is None else P()
    x, y = _mesh.put(mesh, (problem.x, problem.y), data)
    model = _mesh.spread(mesh, problem.model, over.parameters, each)
    return Problem(_mesh.put(mesh, problem.key, each), model, x, y, _mesh.put(mesh, problem.kl_weight, P()))


def state_over(over: Over, state: State, recipe: Recipe) -> State:
    """Lay a state out: what the optimiser keeps of a parameter lies where that does."""
    step, healthy = _mesh.put(over.mesh, (state.step, state.healthy), P())
    return State(step, _mesh.spread(over.mesh, state.member, over.parameters, _each(recipe)), healthy)


def _each(recipe: Recipe) -> P:
    return P("restarts") if recipe.members else P()


def each_member(
    function: Callable[..., Any], recipe: Recipe, in_axes: Any = 0, out_axes: Any = 0
) -> Callable[..., Any]:
    """Map a function over the members, where there are several."""
    return jax.vmap(function, in_axes, out_axes) if recipe.members else function


def _problem_axes(recipe: Recipe) -> Any:
    data: Any = 0 if recipe.own_data else None
    return Problem(0, 0, data, data, None)  # type: ignore[arg-type]


@partial(jit, static_argnames=("recipe",))
def run_chunk(state: State, problem: Problem, until: jax.Array, *, recipe: Recipe) -> tuple[State, Any]:
    """Train up to step `until`, or to the first bad one; return the parts of the cost of each step done."""
    first = state.step
    advance = each_member(partial(_advance, recipe), recipe, (_problem_axes(recipe), 0, 0, None))
    draw_noise = each_member(partial(_noise_of_steps, recipe), recipe, (_problem_axes(recipe), 0, None), out_axes=1)

    def step(state: State, noise: Tree) -> tuple[State, Any]:
        member, good, record = advance(problem, state.member, noise, state.step)
        good = jnp.all(good) if recipe.members else good
        return State(state.step + good.astype(jnp.int32), member, good), record

    def block(carry: tuple[State, Any]) -> tuple[State, Any]:
        state, record = carry
        start = state.step
        noise = draw_noise(problem, state.member, state.step)
        end = jnp.minimum(until, start + recipe.block)

        def one(carry: tuple[State, Any]) -> tuple[State, Any]:
            state, record = carry
            at = state.step
            nth = 0 if recipe.fixed else at - start
            new_state, now = step(state, jax.tree.map(lambda leaf: leaf[nth], noise))
            return new_state, jax.tree.map(lambda log, value: log.at[at - first].set(value), record, now)

        return lax.while_loop(lambda c: (c[0].step < end) & c[0].healthy, one, (state, record))

    noise = jax.eval_shape(lambda: draw_noise(problem, state.member, state.step))
    one_noise = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), noise)
    shapes = jax.eval_shape(step, state, one_noise)[1]
    record = jax.tree.map(lambda leaf: jnp.zeros((recipe.chunk, *leaf.shape), leaf.dtype), shapes)
    state, record = lax.while_loop(lambda c: (c[0].step < until) & c[0].healthy, block, (state, record))
    state = state._replace(healthy=state.healthy & is_sound(state.member, recipe))
    return (state, record) if recipe.mesh is None else _in_place(recipe.mesh, recipe, state, record)


def _in_place(mesh: Mesh, recipe: Recipe, state: State, record: Any) -> tuple[State, Any]:
    """Lay the state out as it came, so that one program serves all chunks, and the record on every device."""
    leaves, structure = jax.tree.flatten(state)
    state = jax.tree.unflatten(structure, map(lax.with_sharding_constraint, leaves, recipe.layout))
    return state, lax.with_sharding_constraint(record, NamedSharding(mesh, P()))


def is_sound(member: Member, recipe: Recipe) -> jax.Array:
    """Tell whether all that was trained is finite, and the optimiser's state as far as it is watched: a bool, ()."""
    optimizer_state = jax.tree.leaves(member.optimizer_state)
    watched = [leaf for leaf, finite in zip(optimizer_state, recipe.watched, strict=True) if finite]
    leaves = filter(is_floating, [*jax.tree.leaves((member.trainable, member.running)), *watched])
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def watched(optimizer_state: Tree) -> tuple[bool, ...]:
    """Tell which leaves of an optimiser's state begin finite; some keep a best value, which begins at infinity."""
    return tuple(all_finite(leaf) for leaf in jax.tree.leaves(optimizer_state))


class Examined(NamedTuple):
    """What one step meets and makes, for the question which of it was not finite."""

    cost: Cost
    gradient: Tree
    member: Member


@partial(jit, static_argnames=("recipe",))
def examine(state: State, problem: Problem, *, recipe: Recipe) -> Examined:
    """Do the step that `state` stands before once more, and keep all of it."""

    def one(problem: Problem, member: Member, step: jax.Array) -> Examined:
        noise = jax.tree.map(lambda leaf: leaf[0], _noise_of_steps(recipe, problem, member, step))
        cost, slope, running, order = _slope(recipe, problem, member, noise, step)
        return Examined(cost, slope.gradient, _updated(recipe, member, slope, running, order))

    return each_member(one, recipe, (_problem_axes(recipe), 0, None))(problem, state.member, state.step)


def _advance(
    recipe: Recipe, problem: Problem, member: Member, noise: Tree, step: jax.Array
) -> tuple[Member, jax.Array, Any]:
    """Do one step of one member; say whether its numbers were finite, and give the parts of its cost."""
    cost, slope, running, order = _slope(recipe, problem, member, noise, step)
    after = _updated(recipe, member, slope, running, order)
    good = jnp.isfinite(cost.total) & jnp.isfinite(cost.kl)  # the KL sees every weight
    skipped = None
    if recipe.skips:
        skipped = ~(good & is_sound(after, recipe))
        undone = member._replace(order=order, skipped=member.skipped + 1)
        after = jax.tree.map(partial(jnp.where, skipped), undone, after._replace(skipped=jnp.zeros_like(after.skipped)))
        good = after.skipped <= MOST_SKIPS
    std = noise_std(with_trainable(problem.model, member.trainable, None).likelihood)
    return after, good, (cost, std, skipped)


def _slope(
    recipe: Recipe, problem: Problem, member: Member, noise: Tree, step: jax.Array
) -> tuple[Cost, _optimizer.Slope, Tree, jax.Array]:
    """Give the cost of a step, its gradient, the network's new state, and the order of the rows."""
    model, x, y = problem.model, problem.x, problem.y
    seen = _noise_step(recipe, step)
    order = _shuffled(member.order, problem.key, step, recipe)
    batch, counts = _batch(order, step, (x, y), recipe)
    if recipe.mesh is not None:  # each device computes its rows, and sums over rows are sums over devices
        batch = lax.with_sharding_constraint(batch, NamedSharding(recipe.mesh, P("batch")))
    schedule = recipe.kl_schedule
    weight = problem.kl_weight if schedule is None else _scheduled(schedule, step, problem.kl_weight)

    def loss(trainable: Tree) -> tuple[jax.Array, tuple[Cost, Tree]]:
        candidate = with_trainable(model, trainable, member.running)
        if has_training(recipe.forward):
            outputs, running = _train_draws(problem.key, seen, noise, member.running, candidate, batch[0], recipe)
        else:
            outputs = evaluate_draws(recipe.forward, noise, candidate, batch[0], recipe.draws)
            running = member.running
        candidate = with_kl_noise(_kl_key(problem.key, seen), candidate, recipe.draws)
        row_weights = counts.astype(outputs.dtype)
        if recipe.mesh is not None:  # whole on every device, as their sum scales the gradient: else that would be sent
            row_weights = lax.with_sharding_constraint(row_weights, NamedSharding(recipe.mesh, P()))
        cost = recipe.cost(candidate, outputs, batch[1], row_weights, x.shape[0], weight)
        return cost.total, (with_std_error(cost, candidate), running)

    gradient, (cost, running) = jax.grad(loss, has_aux=True)(member.trainable)
    return cost, _optimizer.Slope(cost.total, gradient, lambda trainable: loss(trainable)[0]), running, order


def _updated(recipe: Recipe, member: Member, slope: _optimizer.Slope, running: Tree, order: jax.Array) -> Member:
    trainable, optimizer_state = _optimizer.update(recipe.optimizer, slope, member.optimizer_state, member.trainable)
    return Member(trainable, optimizer_state, running, order, member.skipped)


def _noise_step(recipe: Recipe, step: jax.Array) -> jax.Array:
    """Give the step whose noise a step has: its own, or the first's."""
    return jnp.zeros_like(step) if recipe.fixed else step


def _kl_key(key: jax.Array, step: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, np.uint32(KL_KEY)), step)


def _scheduled(schedule: Callable[[jax.Array], Any], step: jax.Array, like: jax.Array) -> jax.Array:
    """Ask a schedule, which may be optax's, for the weight at a step."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # it may be optax's
        return jnp.asarray(schedule(step), like.dtype)


# What is trained


def trainable_of(model: BNN) -> tuple[Tree, Tree]:
    """Give what the optimiser moves, and apart from it the network's state, if it has any."""
    posterior, running = model.posterior, None
    if hasattr(model.apply, "state"):
        state = state_of(model.apply, posterior.mean)
        running = jax.tree.map(lambda is_state, leaf: leaf if is_state else None, state, posterior.mean)
        moved = jax.tree.map(lambda is_state, leaf: None if is_state else leaf, state, posterior.mean)
        posterior = MeanField(moved, posterior.log_std)
    return (posterior, model.likelihood if model.likelihood.learn else None), running


def with_trainable(model: BNN, trainable: Tree, running: Tree) -> BNN:
    """Put what was trained, and the network's state, in their places."""
    posterior, likelihood = trainable
    if running is not None:
        posterior = MeanField(_replaced(posterior.mean, running), posterior.log_std)
    return dataclasses.replace(model, posterior=posterior, likelihood=likelihood or model.likelihood)


def _replaced(tree: Tree, new: Tree) -> Tree:
    """Put what is not None in `new`, in the old dtype, in its place in `tree`."""

    def leaf(value: Any, old: Any) -> Any:
        return old if value is None else value if old is None else value.astype(old.dtype)

    return jax.tree.map(leaf, new, tree, is_leaf=is_none)


# The network in training mode


@dataclasses.dataclass(frozen=True)
class _Training:
    """A network in training mode, as a function of its parameters and a pair (x, key)."""

    apply: Any

    def __call__(self, params: Tree, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Tree]:
        return self.apply.train(params, *inputs)


def in_training(forward: Any, model: BNN, x: jax.Array) -> Forward:
    """Make the same forward of the network's training mode, if it has one; a plain function is left as it is."""
    apply: Any = getattr(forward, "apply", None)
    if not (dataclasses.is_dataclass(forward) and hasattr(apply, "train")):
        return forward
    params = model.posterior.mean
    shape = _check.output_shape(model.apply, params, x).shape
    _check.training(apply.train, params, state_of(model.apply, params), x, shape)
    return dataclasses.replace(forward, apply=_Training(apply))  # type: ignore[type-var, return-value]


def has_training(forward: Forward) -> bool:
    """Tell whether a forward is one of a training mode."""
    return isinstance(getattr(forward, "apply", None), _Training)


def _train_draws(
    key: jax.Array, step: jax.Array, noise: Tree, running: Tree, model: BNN, x: jax.Array, recipe: Recipe
) -> tuple[jax.Array, Tree]:
    """Run the network in training mode once for each draw; give outputs (draws, rows, ...), and the new state."""
    index = (step * recipe.draws + jnp.arange(recipe.draws, dtype=jnp.int32)).astype(jnp.uint32)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, np.uint32(TRAIN_KEY)), i))(index)

    def one(noise: Tree, k: jax.Array) -> tuple[jax.Array, Tree]:
        outputs, updates = recipe.forward.evaluate(noise, model.posterior, (x, k))  # type: ignore[arg-type]
        return outputs, updates

    if recipe.draws == 1:
        outputs, updates = jax.tree.map(lambda leaf: leaf[None], one(jax.tree.map(lambda e: e[0], noise), keys[0]))
    else:
        outputs, updates = jax.vmap(one)(noise, keys)
    return outputs, _replaced(running, jax.tree.map(_over_draws, updates))


def _over_draws(update: jax.Array) -> jax.Array:
    """Average over draws; integers, such as counters, are the first draw's."""
    return jnp.mean(update, axis=0) if is_floating(update) else update[0]


# Noise


def _noise_of_steps(recipe: Recipe, problem: Problem, member: Member, step: jax.Array) -> Tree:
    """Draw the noise of a block of steps at once: leading axes of steps, a single one if all share it, and draws."""
    shape, step = (1 if recipe.fixed else recipe.block, recipe.draws), _noise_step(recipe, step)
    posterior = with_trainable(problem.model, member.trainable, member.running).posterior
    index = (step * recipe.draws + jnp.arange(math.prod(shape), dtype=jnp.int32)).astype(jnp.uint32)
    x, key = problem.x[: recipe.batch_size], problem.key

    def one(i: jax.Array) -> Tree:
        return _noise(jax.random.fold_in(key, np.uint32(NOISE_KEYS) + i), recipe.forward, posterior, x, key)

    noise = jax.vmap(one)(index)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), noise)


def _noise(key: jax.Array, forward: Forward, posterior: MeanField, x: Any, train_key: jax.Array) -> Tree:
    """Draw the noise of one draw of one step; `train_key` stands for the key of the training mode, if it has one."""
    inputs: Any = (x, train_key) if has_training(forward) else x
    return forward.noise(key, posterior, inputs)


def count_noise(key: jax.Array, forward: Forward, model: BNN, batch: jax.Array) -> int:
    """Count the random numbers of one draw of one step."""
    return int(from_shapes(_count_noise, forward, key, model.posterior, batch))


def _count_noise(forward: Any, key: jax.Array, posterior: MeanField, batch: jax.Array) -> int:
    return count(jax.eval_shape(lambda key, x: _noise(key, forward, posterior, x, key), key, batch))


# Rows


def _shuffled(order: jax.Array, key: jax.Array, step: jax.Array, recipe: Recipe) -> jax.Array:
    """Give the order of the rows: at the start of an epoch, a new one."""
    if recipe.batch_size is None:
        return order
    rows = order.shape[0]
    epoch, position = jnp.divmod(step, math.ceil(rows / recipe.batch_size))

    def permute() -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, np.uint32(ORDER_KEYS) + epoch.astype(jnp.uint32)), rows)

    return lax.cond(position == 0, lambda: permute().astype(jnp.int32), lambda: order)


def _batch(
    order: jax.Array, step: jax.Array, data: tuple[jax.Array, jax.Array], recipe: Recipe
) -> tuple[Any, jax.Array]:
    """Take this step's rows, and say which count: not what pads the last batch of an epoch to full size."""
    rows, size = data[0].shape[0], recipe.batch_size
    if size is None:
        return data, jnp.ones(rows, bool)
    position = step % math.ceil(rows / size)
    places = position * size + jnp.arange(size, dtype=jnp.int32)
    index = order.at[places % rows].get(
        mode="promise_in_bounds"
    )  # padding is rows of its own, which statistics of the batch may see
    return jax.tree.map(lambda leaf: leaf.at[index].get(mode="promise_in_bounds"), data), places < rows
