"""Training: the whole loop compiled, run in chunks so that it can report, be interrupted, and stop on bad numbers."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from bbb import _check
from bbb._members import PerMember
from bbb._train import (
    NOISE_KEYS,
    ORDER_KEYS,
    Problem,
    Recipe,
    State,
    count_noise,
    in_training,
    member_of,
    run_chunk,
    stacked,
    start,
    with_trainable,
)
from bbb._tree import Tree, all_finite, count, widest_dtype
from bbb._validation import CHECKS, Best, HeldOut, hold_out, is_over, observe
from bbb.forward import as_forward, weight_sampling
from bbb.model import BNN
from bbb.objective import CostFunction, data_for, elbo_cost
from bbb.posterior import SMALL, Ensemble, MeanField

MAX_CHUNK = 1024
"""Most steps between two looks at the numbers."""

CHUNK_SECONDS = 0.5
"""What a chunk is sized to take, so that Ctrl-C, the bar and a bad loss are answered soon."""

NOISE_ELEMENTS = 2**20
"""How many random numbers are drawn at once, for several steps: one large draw is far cheaper than many small ones."""


@dataclasses.dataclass(frozen=True)
class History:
    """What happened at each step, before its update; arrays of shape (steps,).

    Attributes:
        loss: what was minimised. Under `elbo_cost` it is in nats over the whole data set.
        data_term: its first part, in the same units.
        kl: KL(posterior ‖ prior) in nats, unweighted.
        noise_std: the likelihood's noise in y's units, (steps,) or (steps, outputs); None if it has none.
        cost: the name of the cost function.
        kl_std_error: the Monte Carlo standard error of `kl`, in nats; None for a prior whose KL has a closed form.
        validation_log_score: the mean log score of the held-out rows, in nats a row, each time it was taken; None
            without validation.
        validation_steps: how many steps had been done then.
        best_step: the one of these at which the score was best, whose model was returned.
    """

    loss: np.ndarray
    data_term: np.ndarray
    kl: np.ndarray
    noise_std: np.ndarray | None
    cost: str
    kl_std_error: np.ndarray | None = None
    validation_log_score: np.ndarray | None = None
    validation_steps: np.ndarray | None = None
    best_step: np.ndarray | None = None

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

    def member(self, k: int) -> "History":
        """Give the history of one of several members trained side by side, whose arrays are (steps, members, ...)."""
        arrays: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        best = None if self.best_step is None else arrays.pop("best_step")[k]
        arrays.pop("validation_steps", None)
        return dataclasses.replace(self, best_step=best, **{name: value[:, k] for name, value in arrays.items()})


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
    restarts: int = 1,
    init: Callable[[jax.Array], Tree] | None = None,
    validation: tuple[Any, Any] | float | None = None,
    validate_every: int | None = None,
    patience: int = 10,
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
        restarts: how many posteriors to train, from as many starts, side by side in one program. Member k is what
            `fit(member_key, start)` would give, to rounding, with `member_key = bbb.member_keys(key, restarts)[k]`, and
            with `init(member_key)` for the means of the model's posterior.
        init: gives parameters for a key, such as `network.init`; needed with restarts.
        validation: rows to stop early by, a pair (x, y), or a share of the rows, such as 0.1, which are chosen by the
            key and not trained on. What is returned is the model of the best mean log score on them, over 100 draws
            whose noise is the same each time; of each member its own best.
        validate_every: steps between two scores; by default a hundredth of all. The last step is scored too.
        patience: how many scores in a row may be no better than the best before training stops.
        progress: show a bar on stderr; by default if stderr is a terminal.

    Returns:
        The trained model, and the history of the training. With restarts, the posterior is an `Ensemble`, the
        likelihood's learned noise is each member's own, and the arrays of the history are (steps, restarts, ...).

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before training.
        NonFiniteLossError: if a loss or a parameter turns non-finite; it holds the last finite model.
    """
    _check.key(key)
    x, y = _to_learn(model, x, y)
    held_out: list[Any] = []
    if validation is not None:
        x, y, *held_out = hold_out(key, model, x, y, validation)
    problem = Problem(key, model, x, y, None)
    if _check.positive_integer("restarts", restarts) > 1:
        keys = member_keys(key, restarts)
        problem = problem._replace(key=keys, model=stacked([_started(model, init, k) for k in keys]))
    recipe, steps, weight = _plan(
        key,
        model,
        x,
        members=restarts if restarts > 1 else None,
        steps=steps,
        epochs=epochs,
        optimizer=optimizer,
        batch_size=batch_size,
        kl_weight=kl_weight,
        draws=draws,
        objective=objective,
        forward=forward,
    )
    watch = _watch(held_out, steps, validate_every, patience) if held_out else None
    trained, history = _train(problem._replace(kl_weight=weight), recipe, steps, progress, watch)
    return (trained if restarts == 1 else _ensemble(model, trained)), history


def _watch(held_out: Sequence[Any], steps: int, every: int | None, patience: int) -> HeldOut:
    every = math.ceil(steps / CHECKS) if every is None else _check.positive_integer("validate_every", every)
    x, y = held_out
    return HeldOut(x, y, every, _check.positive_integer("patience", patience))


RESTART_KEYS = ORDER_KEYS + 2**29
"""Where the keys of members begin, beyond those of epochs."""


def member_keys(key: jax.Array, restarts: int) -> jax.Array:
    """Give the key of each member of `fit(key, ..., restarts=...)`, which it is started and trained with: (restarts,).

    Raises:
        KeyTypeError, InputError: if `key` is not one typed JAX key, or `restarts` no whole number of at least 1.
    """
    _check.key(key)
    index = jnp.arange(_check.positive_integer("restarts", restarts), dtype=jnp.uint32)
    return jax.vmap(lambda k: jax.random.fold_in(key, np.uint32(RESTART_KEYS) + k))(index)


def _started(model: BNN, init: Callable[[jax.Array], Tree] | None, key: jax.Array) -> BNN:
    """Give the model another start: means of its own."""
    if init is None:
        do = "Pass init=network.init, a function of a key that gives parameters."
        _check.fail(_check.InputError, "init with restarts, to start each member elsewhere", "none", do)
    params, like = init(key), model.posterior.mean
    _check.fits("init(key)", params, "the model's parameters", like)
    mean = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), params, like)
    return dataclasses.replace(model, posterior=MeanField(mean, model.posterior.log_std))


def _ensemble(model: BNN, trained: BNN) -> BNN:
    """Make one model of the members, which share what was not trained."""
    likelihood: Any = PerMember(trained.likelihood) if model.likelihood.learn else model.likelihood
    posterior: Any = Ensemble(trained.posterior)
    return dataclasses.replace(model, posterior=posterior, likelihood=likelihood)


def fit_each(
    keys: jax.Array, models: Sequence[BNN], x: Any, y: Any, *, progress: bool | None = None, **options: Any
) -> tuple[list[BNN], list[History]]:
    """Train several Bayesian networks of one shape, each on data of its own, side by side in one program.

    Member k is trained as `fit(keys[k], models[k], x[k], y[k], **options)` trains it, to rounding; members share
    nothing but the compiled program.

    Args:
        keys: (members,) typed JAX keys, such as `jax.random.split(key, members)`.
        models: what `bayesianize` returned, for each member: the same network, prior and likelihood in other numbers.
        x: (members, rows, ...), finite; or a sequence of arrays (rows, ...).
        y: (members, rows, ...), likewise.
        progress: as for `fit`.
        options: `steps`, `epochs`, `optimizer`, `batch_size`, `kl_weight`, `draws`, `objective` and `forward` of `fit`.

    Returns:
        The trained models, and the history of each.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before training.
        NonFiniteLossError: if a loss or a parameter of any member turns non-finite; it names the member, and its model
            and history are that member's.
    """
    models = list(models)
    _check_members(keys, models, x, y)
    data = [_to_learn(model, *pair) for model, *pair in zip(models, x, y, strict=True)]
    shapes = [jnp.shape(part) for part, _ in data]
    if len(set(shapes)) > 1:
        other = next(shape for shape in shapes if shape != shapes[0])
        got, do = f"shapes {shapes[0]} and {other}", "Give every member the same number of rows and columns."
        _check.fail(_check.ShapeError, "x of one shape for all members", got, do)
    recipe, steps, weight = _plan(keys[0], models[0], data[0][0], members=len(models), own_data=True, **options)
    x, y = (stacked(list(parts)) for parts in zip(*data, strict=True))
    problem = Problem(keys, stacked(models), x, y, weight)
    trained, history = _train(problem, recipe, steps, progress)
    return [member_of(trained, k) for k in range(len(models))], [history.member(k) for k in range(len(models))]


def _to_learn(model: BNN, x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    """Check data as `data_for` does, and what a likelihood asks of data to learn from, such as two classes."""
    x, y = data_for(model, x, y)
    if hasattr(model.likelihood, "check_training"):
        model.likelihood.check_training(y)
    return x, y


def _check_members(keys: Any, models: list[BNN], x: Any, y: Any) -> None:
    """Refuse keys, models and data that are not of one number of members, or models that differ in structure."""
    if not models:
        _check.fail(_check.InputError, "at least one model", "none", "Pass one model for each member.")
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if not typed or keys.shape != (len(models),):
        got = f"an array of shape {keys.shape} and dtype {keys.dtype}" if hasattr(keys, "dtype") else repr(keys)[:60]
        do = f"Make them with jax.random.split(key, {len(models)})."
        _check.fail(_check.KeyTypeError, f"{len(models)} typed JAX keys, one for each model", got, do)
    for name, data in (("x", x), ("y", y)):
        if len(data) != len(models):
            got, do = f"{len(data)}", f"Pass {name} of shape (members, rows, ...)."
            _check.fail(_check.ShapeError, f"{name} for each of {len(models)} members", got, do)
    structures: list[Any] = [jax.tree.structure(model) for model in models]
    for k, structure in enumerate(structures):
        if structure != structures[0]:
            got, do = f"another at member {k}", "Make all models of one network object, one prior and one likelihood."
            _check.fail(_check.ShapeError, "members of one network and one structure", got, do)


def _plan(
    key: jax.Array,
    model: BNN,
    x: jax.Array,
    *,
    members: int | None = None,
    own_data: bool = False,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    kl_weight: float | Callable[[jax.Array], Any] = 1.0,
    draws: int = 1,
    objective: CostFunction = elbo_cost,
    forward: Callable[..., jax.Array] | None = None,
) -> tuple[Recipe, int, jax.Array]:
    """Check the options of `fit`; give the recipe, the number of steps, and the KL's weight where it is a number."""
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
    random = in_training(as_forward(weight_sampling(model.apply) if forward is None else forward), model, x)
    numbers = (members or 1) * draws * count_noise(key, random, model, x[:batch_size])
    recipe = Recipe(
        forward=random,
        optimizer=_DEFAULT_OPTIMIZER if optimizer is None else optimizer,
        cost=objective,
        kl_schedule=kl_weight if callable(kl_weight) else None,
        batch_size=batch_size,
        draws=draws,
        chunk=chunk,
        block=min(chunk, 64, max(1, NOISE_ELEMENTS // numbers)),
        members=members is not None,
        own_data=own_data,
    )
    weight = jnp.asarray(0.0 if callable(kl_weight) else kl_weight, widest_dtype(model.posterior.mean))
    return recipe, steps, weight


_DEFAULT_OPTIMIZER = optax.adam(1e-2)


def _count_steps(steps: int | None, epochs: int | None, steps_per_epoch: int) -> int:
    if epochs is None:
        return 2000 if steps is None else _check.positive_integer("steps", steps)
    if steps is not None:
        _check.fail(_check.InputError, "steps or epochs", "both", "Pass one of them.")
    return _check.positive_integer("epochs", epochs) * steps_per_epoch


def _train(
    problem: Problem, recipe: Recipe, steps: int, progress: bool | None, watch: HeldOut | None = None
) -> tuple[BNN, History]:
    """Run the chunks: the only part of training that is not compiled."""
    shown = sys.stderr.isatty() if progress is None else progress
    large = count(problem.model.posterior.mean) > SMALL

    def run(state: State, until: int) -> tuple[State, Any]:
        return run_chunk(state, problem, jnp.asarray(until, jnp.int32), recipe=recipe, large=large)

    before = state = start(problem, recipe)
    best = Best.none(state, problem.key.shape)
    records: list[Any] = []
    done, ask = 0, recipe.block
    with tqdm(total=steps, desc="fit", unit="step", disable=not shown) as bar:
        while done < steps and not (watch and is_over(best, watch)):
            stop = min(steps, done + ask, steps if watch is None else (done // watch.every + 1) * watch.every)
            started = time.perf_counter()
            after, record = run(state, stop)
            now = int(after.step)
            seconds = time.perf_counter() - started
            records.append(jax.tree.map(lambda leaf, n=now - done: np.asarray(leaf)[:n], record))
            bar.update(now - done)
            finite = now < steps or all_finite((after.member.trainable, after.member.running))
            if not (bool(after.healthy) and finite):
                # Nothing was kept for this case at every step: instead, run again up to the last finite loss.
                last = run(before, max(now - 1, 0))[0] if now > int(before.step) else before
                bad = _bad_member(after, record, now - done) if recipe.members else None
                _stop(now, _model(problem, last), _history(records, recipe, best), bad)
            if watch and (now == steps or now % watch.every == 0):
                best = observe(best, problem, after, watch, recipe)
            if now - done == ask or seconds > CHUNK_SECONDS:  # else it was cut short, which says little of the time
                ask = _next_chunk(ask, seconds, recipe.chunk)
            before, state, done = state, after, now
    history = _history(records, recipe, best)
    if watch:
        return with_trainable(problem.model, best.trainable, best.running), history
    return _model(problem, state), history


def _next_chunk(ask: int, seconds: float, most: int) -> int:
    return int(min(most, max(1, 2 * ask if seconds < CHUNK_SECONDS else ask * CHUNK_SECONDS / seconds)))


def _bad_member(after: State, record: Any, at: int) -> int:
    """Find the first member whose loss at a step, or what it trained to, is not finite."""
    cost, _ = record
    if not bool(after.healthy):
        good = np.isfinite(np.asarray(cost.total)[at]) & np.isfinite(np.asarray(cost.kl)[at])
        return int(np.argmin(good))
    trained = (after.member.trainable, after.member.running)
    return next(k for k in range(len(cost.total[0])) if not all_finite(member_of(trained, k)))


def _stop(step: int, model: BNN, history: History, member: int | None) -> None:
    where = f"at step {step} (from 0)"
    if member is not None:
        where, model, history = f"{where} of member {member} (from 0)", member_of(model, member), history.member(member)
    raise _check.NonFiniteLossError(
        f"Expected a finite loss and finite parameters at every step, got NaN or infinity {where}. "
        "Lower the learning rate, scale x and y to unit size, or clip gradients; "
        "the last model of a finite loss is this error's .model, and its .history ends before that step.",
        step=step,
        model=model,
        history=history,
    )


def _model(problem: Problem, state: State) -> BNN:
    return with_trainable(problem.model, state.member.trainable, state.member.running)


def _history(records: list[Any], recipe: Recipe, best: Best) -> History:
    cost, noise_std = jax.tree.map(lambda *parts: np.concatenate(parts), *records)
    name = getattr(recipe.cost, "__name__", "cost")
    history = History(cost.total, cost.data_term, cost.kl, noise_std, name, kl_std_error=cost.kl_std_error)
    if not best.steps:
        return history
    scores: dict[str, Any] = {"validation_log_score": np.stack(best.scores), "validation_steps": np.array(best.steps)}
    return dataclasses.replace(history, best_step=best.step, **scores)
