"""Training: the whole loop compiled, run in chunks so that it can report, be interrupted, and stop on bad numbers."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from tqdm import tqdm

from bbb import _check
from bbb._compile import jit
from bbb._tree import Tree, all_finite, count, is_floating, is_none, widest_dtype
from bbb.forward import Forward, as_forward, weight_sampling
from bbb.model import BNN, state_of
from bbb.objective import Cost, CostFunction, data_for, elbo_cost, evaluate_draws
from bbb.posterior import SMALL, MeanField

MAX_CHUNK = 1024
"""Most steps between two looks at the numbers."""

CHUNK_SECONDS = 0.5
"""What a chunk is sized to take, so that Ctrl-C, the bar and a bad loss are answered soon."""

NOISE_ELEMENTS = 2**20
"""How many random numbers are drawn at once, for several steps: one large draw is far cheaper than many small ones."""

NOISE_KEYS, ORDER_KEYS = 2**31, 2**31 + 2**30
"""Where the keys of noise, counted over draws and steps, and of epochs begin. Below are those of `predict`: if the two
shared numbers, a key used for both would show the posterior the very noise it was fitted to, and narrow its band."""

TRAIN_KEY = 2**32 - 1
"""The key of a network's own randomness in training, such as dropout's: each draw of each step has one made of it."""


@dataclasses.dataclass(frozen=True)
class History:
    """What happened at each step, before its update; arrays of shape (steps,).

    Attributes:
        loss: what was minimised. Under `elbo_cost` it is in nats over the whole data set.
        data_term: its first part, in the same units.
        kl: KL(posterior ‖ prior) in nats, unweighted.
        noise_std: the likelihood's noise in y's units, (steps,) or (steps, outputs); None if it has none.
        cost: the name of the cost function.
    """

    loss: np.ndarray
    data_term: np.ndarray
    kl: np.ndarray
    noise_std: np.ndarray | None
    cost: str

    @property
    def negative_elbo(self) -> np.ndarray:
        """The negative evidence lower bound, data term plus unweighted KL, in nats over the whole data set.

        Raises:
            InputError: if another cost was minimised, whose data term is no log-probability.
        """
        if self.cost != elbo_cost.__name__:
            _check.fail(
                _check.InputError,
                "a history of elbo_cost",
                f"one of {self.cost}, whose data term is not in nats",
                "Read history.loss, or train with objective=bbb.objective.elbo_cost.",
            )
        return self.data_term + self.kl


class _State(NamedTuple):
    step: jax.Array
    trainable: Tree
    optimizer_state: Tree
    running: Tree  # the network's state, which training updates but does not train; None if it has none
    order: jax.Array  # the rows in this epoch's order; empty for a full batch
    healthy: jax.Array


class _Recipe(NamedTuple):
    """All that the compiled program depends on besides arrays."""

    forward: Forward
    optimizer: optax.GradientTransformation
    cost: CostFunction
    kl_schedule: Callable[[jax.Array], Any] | None
    batch_size: int | None
    draws: int
    chunk: int
    block: int


def fit(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    kl_weight: float | Callable[[jax.Array], Any] = 1.0,
    draws: int = 1,
    objective: CostFunction = elbo_cost,
    forward: Callable[..., jax.Array] | None = None,
    progress: bool | None = None,
) -> tuple[BNN, History]:
    """Train a Bayesian network.

    Args:
        key: one typed JAX key. Step t's noise and epoch e's order depend on it and on t or e alone.
        model: what `bayesianize` returned. It is not changed.
        x: (rows, ...), finite.
        y: the shape of the network's outputs for x, finite.
        steps: how many updates; 2,000 unless `epochs` says how many passes over the data instead.
        epochs: passes over the data; each is one step for a full batch.
        optimizer: any optax optimiser; by default `optax.adam(1e-2)`. Keep one object to train again without
            compiling again.
        batch_size: rows a step; by default all. Rows are reshuffled every epoch, and its last short batch is used.
        kl_weight: a number, or a schedule from the step to a number (such as optax's), of at least 0.
        draws: draws of the weights a step.
        objective: the cost, by default the negative evidence lower bound; `bbb.torchbnn.mse_cost` is another.
        forward: how the network is made random; by default `weight_sampling(model.apply)`. A network with a training
            mode (see `bbb.model`) is run in it, and its state is updated; the mean over draws, where there are several.
        progress: show a bar on stderr; by default if stderr is a terminal.

    Returns:
        The trained model, and the history of the training.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before training.
        NonFiniteLossError: if a loss or a parameter turns non-finite; it holds the last finite model.
    """
    _check.key(key)
    x, y = data_for(model, x, y)
    if batch_size is not None and _check.positive_integer("batch_size", batch_size) >= x.shape[0]:
        batch_size = None
    steps = _count_steps(steps, epochs, 1 if batch_size is None else math.ceil(x.shape[0] / batch_size))
    draws = _check.positive_integer("draws", draws)
    if not callable(kl_weight):
        _check.not_negative("kl_weight", kl_weight)
    if steps * draws >= ORDER_KEYS - NOISE_KEYS:
        _check.fail(
            _check.InputError,
            f"steps × draws below {ORDER_KEYS - NOISE_KEYS:,}",
            f"{steps * draws:,}",
            "Train in several calls.",
        )
    if optimizer is not None:
        _check.has("an optimizer", optimizer, ("init", "update"), "optax.adam(1e-2)")
    chunk = min(steps, MAX_CHUNK)
    random = _in_training(as_forward(weight_sampling(model.apply) if forward is None else forward), model, x)
    recipe = _Recipe(
        forward=random,
        optimizer=_DEFAULT_OPTIMIZER if optimizer is None else optimizer,
        cost=objective,
        kl_schedule=kl_weight if callable(kl_weight) else None,
        batch_size=batch_size,
        draws=draws,
        chunk=chunk,
        block=min(chunk, 64, max(1, NOISE_ELEMENTS // (draws * _count_noise(key, random, model, x[:batch_size])))),
    )
    weight = jnp.asarray(0.0 if callable(kl_weight) else kl_weight, widest_dtype(model.posterior.mean))
    bar = tqdm(
        total=steps, desc="fit", unit="step", disable=not (sys.stderr.isatty() if progress is None else progress)
    )
    with bar:
        return _train(key, model, x, y, weight, recipe, steps, bar)


_DEFAULT_OPTIMIZER = optax.adam(1e-2)


@dataclasses.dataclass(frozen=True)
class _Training:
    """A network in training mode, as a function of its parameters and a pair (x, key)."""

    apply: Any

    def __call__(self, params: Tree, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Tree]:
        return self.apply.train(params, *inputs)


def _in_training(forward: Any, model: BNN, x: jax.Array) -> Forward:
    """Make the same forward of the network's training mode, if it has one; a plain function is left as it is."""
    apply: Any = getattr(forward, "apply", None)
    if not (dataclasses.is_dataclass(forward) and hasattr(apply, "train")):
        return forward
    params = model.posterior.mean
    shape = _check.output_shape(model.apply, params, x).shape
    _check.training(apply.train, params, state_of(model.apply, params), x, shape)
    return dataclasses.replace(forward, apply=_Training(apply))  # type: ignore[type-var, return-value]


def _has_training(forward: Forward) -> bool:
    return isinstance(getattr(forward, "apply", None), _Training)


def _noise(key: jax.Array, forward: Forward, posterior: MeanField, x: Any, train_key: jax.Array) -> Tree:
    """Draw the noise of one draw of one step; `train_key` stands for the key of the training mode, if it has one."""
    inputs: Any = (x, train_key) if _has_training(forward) else x
    return forward.noise(key, posterior, inputs)


def _count_noise(key: jax.Array, forward: Forward, model: BNN, batch: jax.Array) -> int:
    """Count the random numbers of one draw of one step, 1 at least."""
    return max(1, count(jax.eval_shape(lambda key, x: _noise(key, forward, model.posterior, x, key), key, batch)))


def _count_steps(steps: int | None, epochs: int | None, steps_per_epoch: int) -> int:
    if epochs is None:
        return 2000 if steps is None else _check.positive_integer("steps", steps)
    if steps is not None:
        _check.fail(_check.InputError, "steps or epochs", "both", "Pass one of them.")
    return _check.positive_integer("epochs", epochs) * steps_per_epoch


def _train(
    key: jax.Array, model: BNN, x: jax.Array, y: jax.Array, kl_weight: jax.Array, recipe: _Recipe, steps: int, bar: Any
) -> tuple[BNN, History]:
    """Run the chunks: the only part of training that is not compiled."""
    trainable, running = _trainable(model)
    start = state = _State(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        optimizer_state=recipe.optimizer.init(trainable),
        running=running,
        order=jnp.zeros(0 if recipe.batch_size is None else x.shape[0], jnp.int32),
        healthy=jnp.ones((), bool),
    )
    large = count(model.posterior.mean) > SMALL

    def run(state: _State, until: int) -> tuple[_State, Any]:
        stop = jnp.asarray(until, jnp.int32)
        return _run_chunk(state, key, model, x, y, kl_weight, stop, recipe=recipe, large=large)

    records: list[Any] = []
    done, ask = 0, recipe.block
    while done < steps:
        started = time.perf_counter()
        after, record = run(state, min(steps, done + ask))
        now = int(after.step)
        seconds = time.perf_counter() - started
        records.append(jax.tree.map(lambda leaf, n=now - done: np.asarray(leaf)[:n], record))
        bar.update(now - done)
        if not (bool(after.healthy) and (now < steps or all_finite((after.trainable, after.running)))):
            # Nothing was kept for this case at every step: instead, run again up to the last model of a finite loss.
            last = run(start, max(now - 1, 0))[0] if now > int(start.step) else start
            _stop(now, _with_trainable(model, last.trainable, last.running), _history(records, recipe))
        ask = int(min(recipe.chunk, max(1, 2 * ask if seconds < CHUNK_SECONDS else ask * CHUNK_SECONDS / seconds)))
        start, state, done = state, after, now
    return _with_trainable(model, state.trainable, state.running), _history(records, recipe)


def _stop(step: int, model: BNN, history: History) -> None:
    raise _check.NonFiniteLossError(
        f"Expected a finite loss and finite parameters at every step, got NaN or infinity at step {step} (from 0). "
        "Lower the learning rate, scale x and y to unit size, or clip gradients; "
        "the last model of a finite loss is this error's .model, and its .history ends before that step.",
        step=step,
        model=model,
        history=history,
    )


def _history(records: list[Any], recipe: _Recipe) -> History:
    cost, noise_std = jax.tree.map(lambda *parts: np.concatenate(parts), *records)
    return History(cost.total, cost.data_term, cost.kl, noise_std, getattr(recipe.cost, "__name__", "cost"))


def _trainable(model: BNN) -> tuple[Tree, Tree]:
    """Give what the optimiser moves, and apart from it the network's state, if it has any."""
    posterior, running = model.posterior, None
    if hasattr(model.apply, "state"):
        state = state_of(model.apply, posterior.mean)
        running = jax.tree.map(lambda is_state, leaf: leaf if is_state else None, state, posterior.mean)
        moved = jax.tree.map(lambda is_state, leaf: None if is_state else leaf, state, posterior.mean)
        posterior = MeanField(moved, posterior.log_std)
    return (posterior, model.likelihood if model.likelihood.learn else None), running


def _with_trainable(model: BNN, trainable: Tree, running: Tree) -> BNN:
    posterior, likelihood = trainable
    if running is not None:
        posterior = MeanField(_replaced(posterior.mean, running), posterior.log_std)
    return dataclasses.replace(model, posterior=posterior, likelihood=likelihood or model.likelihood)


@partial(jit, static_argnames=("recipe",))
def _run_chunk(
    state: _State,
    key: jax.Array,
    model: BNN,
    x: jax.Array,
    y: jax.Array,
    kl_weight: jax.Array,
    until: jax.Array,
    *,
    recipe: _Recipe,
) -> tuple[_State, Any]:
    """Train up to step `until`, or to the first bad one; return the parts of the cost of each step done."""
    batch_rows = x.shape[0] if recipe.batch_size is None else recipe.batch_size
    first = state.step

    def step(state: _State, noise: Tree) -> tuple[_State, Any]:
        state = _shuffle(state, key, recipe)
        batch, counts = _batch(state, (x, y), recipe)
        weight = kl_weight if recipe.kl_schedule is None else _scheduled(recipe.kl_schedule, state.step, kl_weight)

        def loss(trainable: Tree) -> tuple[jax.Array, tuple[Cost, Tree]]:
            candidate = _with_trainable(model, trainable, state.running)
            if _has_training(recipe.forward):
                outputs, running = _train_draws(key, state, noise, candidate, batch[0], recipe)
            else:
                outputs = evaluate_draws(recipe.forward, noise, candidate, batch[0], recipe.draws)
                running = state.running
            row_weights = counts.astype(outputs.dtype)
            cost = recipe.cost(candidate, outputs, batch[1], row_weights, x.shape[0], weight)
            return cost.total, (cost, running)

        grads, (cost, running) = jax.grad(loss, has_aux=True)(state.trainable)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes, whatever the user asked for
            updates, optimizer_state = recipe.optimizer.update(grads, state.optimizer_state, state.trainable)
            updated = optax.apply_updates(state.trainable, updates)
        good = jnp.isfinite(cost.total) & jnp.isfinite(cost.kl)  # the KL sees every weight
        noise_std = getattr(_with_trainable(model, state.trainable, None).likelihood, "std", None)
        advanced = state.step + good.astype(jnp.int32)
        return _State(advanced, updated, optimizer_state, running, state.order, good), (cost, noise_std)

    def block(carry: tuple[_State, Any]) -> tuple[_State, Any]:
        state, record = carry
        start = state.step
        noise = _noise_of_steps(key, state, model, x[:batch_rows], recipe)
        end = jnp.minimum(until, start + recipe.block)

        def one(carry: tuple[_State, Any]) -> tuple[_State, Any]:
            state, record = carry
            at = state.step
            new_state, now = step(state, jax.tree.map(lambda leaf: leaf[at - start], noise))
            return new_state, jax.tree.map(lambda log, value: log.at[at - first].set(value), record, now)

        return lax.while_loop(lambda c: (c[0].step < end) & c[0].healthy, one, (state, record))

    noise = jax.eval_shape(lambda: _noise_of_steps(key, state, model, x[:batch_rows], recipe))
    one_noise = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), noise)
    shapes = jax.eval_shape(step, state, one_noise)[1]
    record = jax.tree.map(lambda leaf: jnp.zeros((recipe.chunk, *leaf.shape), leaf.dtype), shapes)
    return lax.while_loop(lambda c: (c[0].step < until) & c[0].healthy, block, (state, record))


def _scheduled(schedule: Callable[[jax.Array], Any], step: jax.Array, like: jax.Array) -> jax.Array:
    """Ask a schedule, which may be optax's, for the weight at a step."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.asarray(schedule(step), like.dtype)


def _noise_of_steps(key: jax.Array, state: _State, model: BNN, x: Any, recipe: _Recipe) -> Tree:
    """Draw the noise of a block of steps at once: leading axes of steps and draws."""
    shape = (recipe.block, recipe.draws)
    posterior = _with_trainable(model, state.trainable, state.running).posterior
    index = (state.step * recipe.draws + jnp.arange(math.prod(shape), dtype=jnp.int32)).astype(jnp.uint32)

    def one(i: jax.Array) -> Tree:
        return _noise(jax.random.fold_in(key, np.uint32(NOISE_KEYS) + i), recipe.forward, posterior, x, key)

    noise = jax.vmap(one)(index)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), noise)


def _train_draws(
    key: jax.Array, state: _State, noise: Tree, model: BNN, x: jax.Array, recipe: _Recipe
) -> tuple[jax.Array, Tree]:
    """Run the network in training mode once for each draw; give outputs (draws, rows, ...), and the new state."""
    index = (state.step * recipe.draws + jnp.arange(recipe.draws, dtype=jnp.int32)).astype(jnp.uint32)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, np.uint32(TRAIN_KEY)), i))(index)

    def one(noise: Tree, k: jax.Array) -> tuple[jax.Array, Tree]:
        outputs, updates = recipe.forward.evaluate(noise, model.posterior, (x, k))  # type: ignore[arg-type]
        return outputs, updates

    if recipe.draws == 1:
        outputs, updates = jax.tree.map(lambda leaf: leaf[None], one(jax.tree.map(lambda e: e[0], noise), keys[0]))
    else:
        outputs, updates = jax.vmap(one)(noise, keys)
    return outputs, _replaced(state.running, jax.tree.map(_over_draws, updates))


def _over_draws(update: jax.Array) -> jax.Array:
    """Average over draws; integers, such as counters, are the first draw's."""
    return jnp.mean(update, axis=0) if is_floating(update) else update[0]


def _replaced(tree: Tree, new: Tree) -> Tree:
    """Put what is not None in `new`, in the old dtype, in its place in `tree`."""

    def leaf(value: Any, old: Any) -> Any:
        return old if value is None else value if old is None else value.astype(old.dtype)

    return jax.tree.map(leaf, new, tree, is_leaf=is_none)


def _shuffle(state: _State, key: jax.Array, recipe: _Recipe) -> _State:
    """At the start of an epoch, draw its order of the rows."""
    if recipe.batch_size is None:
        return state
    rows = state.order.shape[0]
    epoch, position = jnp.divmod(state.step, math.ceil(rows / recipe.batch_size))

    def permute() -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, np.uint32(ORDER_KEYS) + epoch.astype(jnp.uint32)), rows)

    return state._replace(order=lax.cond(position == 0, lambda: permute().astype(jnp.int32), lambda: state.order))


def _batch(state: _State, data: tuple[jax.Array, jax.Array], recipe: _Recipe) -> tuple[Any, jax.Array]:
    """Take this step's rows, and say which count: not what pads the last batch of an epoch to full size."""
    rows, size = data[0].shape[0], recipe.batch_size
    if size is None:
        return data, jnp.ones(rows, bool)
    position = state.step % math.ceil(rows / size)
    places = position * size + jnp.arange(size, dtype=jnp.int32)
    index = state.order[places % rows]  # padding is rows of its own, which statistics of the batch may see
    return jax.tree.map(lambda leaf: leaf[index], data), places < rows
