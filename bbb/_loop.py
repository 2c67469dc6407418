"""The part of training that is not compiled: chunk by chunk, so that it can report, save, be interrupted, and stop."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from bbb import _check, _mesh, _signals
from bbb._noise import SMALL
from bbb._resume import Checkpoints, Stand
from bbb._train import (
    AXES,
    MOST_SKIPS,
    Examined,
    Over,
    Problem,
    Recipe,
    State,
    examine,
    is_sound,
    member_of,
    problem_over,
    recipe_over,
    run_chunk,
    start,
    state_over,
    watched,
    with_trainable,
)
from bbb._tree import Tree, all_finite, count, names
from bbb._validation import Best, HeldOut, is_over, observe
from bbb.history import History
from bbb.model import BNN

CHUNK_SECONDS = 0.5
"""What a chunk is sized to take, so that Ctrl-C, the bar and a bad loss are answered soon."""

SAVE_SECONDS = (5.0, 60.0)
"""Least and most time between two checkpoints, unless their distance in steps is given."""

SAVE_SHARE = 0.02
"""The share of the time that saving may take between those two: a small model is saved often, so that a job that is
killed every minute gets on."""

Run = Callable[[State, int], tuple[State, Any]]


class Keeper(NamedTuple):
    """Where checkpoints are kept, how many steps lie between two (None: by time), and whether to go on."""

    checkpoints: Checkpoints
    every: int | None
    resume: bool


def train(
    problem: Problem,
    recipe: Recipe,
    steps: int,
    progress: bool | None,
    watch: HeldOut | None = None,
    keep: Keeper | None = None,
    over: Over | None = None,
) -> tuple[BNN, History]:
    """Run the chunks, and give the trained model (with early stopping, the best) and the history.

    On a mesh of several hosts each process does the same chunks, and the first one writes checkpoints.

    Raises:
        InputError, ModelFileError: from checkpoints.
        WriteError: if one cannot be written; it holds the model and the history as far as they came.
        HostError: if another process fails, is told to leave, or is lost.
        NonFiniteLossError: at a loss, a parameter or an optimiser's state that is not finite.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    large = count(problem.model.posterior.params) > SMALL
    state = start(problem, recipe)
    recipe = recipe._replace(watched=watched(state.member.optimizer_state))

    def run(state: State, until: int) -> tuple[State, Any]:
        return run_chunk(state, problem, jnp.asarray(until, jnp.int32), recipe=recipe, large=large)

    stand = _resumed(Stand(state, Best.none(state, problem.key.shape), None), run, steps, keep, over and over.mesh)
    given = problem.model  # of one device, which can be read without a word from another host
    problem, recipe, watch, state = _laid_out(over, problem, recipe, watch, stand.state)
    before, best = state, stand.best
    records = [] if stand.record is None else [stand.record]
    done, ask, due_at = int(state.step), recipe.block, time.monotonic() + SAVE_SECONDS[0]
    bar = tqdm(total=steps, initial=done, desc="fit", unit="step", disable=not shown)
    with bar, _signals.held(keep is not None) as signals:
        ended = watch is not None and is_over(best, watch)
        while done < steps and not ended:
            stop = min(steps, done + ask, *_stops(done, watch, keep))
            started = time.perf_counter()
            after, record = run(state, stop)
            now = int(after.step)
            seconds, due, leaving = _agreed(
                time.perf_counter() - started,
                keep is not None and _is_due(keep, now, steps, due_at),
                bool(signals.came),
                recipe.mesh,
            )
            records.append(jax.tree.map(lambda leaf, n=now - done: np.asarray(leaf)[:n], record))
            bar.update(now - done)
            if not bool(after.healthy):
                _stop(problem, recipe, run, before, after, partial(_history, records, recipe, best))
            if watch and now % watch.every == 0:
                best = observe(best, problem, _readable(after, recipe), watch, recipe)
                ended = is_over(best, watch)
            if now - done == ask or seconds > CHUNK_SECONDS:  # else it was cut short, which says little of the time
                ask = _next_chunk(ask, seconds, recipe.chunk)
            before, state, done = state, after, now
            if keep and (due or ended or leaving):
                saving = time.monotonic()
                _save(keep, Stand(state, best, _joined(records)), recipe, given)
                due_at = _next_save(saving, time.monotonic())
            if leaving:
                _leave(signals, now)
    if watch and not ended and best.steps[-1:] != (done,):  # not in a checkpoint: more steps would not score here
        best = observe(best, problem, _readable(state, recipe), watch, recipe)
    history = _history(records, recipe, best, done)
    if watch:
        return _home(with_trainable(problem.model, best.trainable, best.running), recipe), history
    return _home(_model(problem, state), recipe), history


def _resumed(stand: Stand, run: Run, steps: int, keep: Keeper | None, mesh: Mesh | None) -> Stand:
    """Give where the newest checkpoint stands, or the start; in all processes the same."""
    if keep is None or not keep.resume:
        return stand
    _, record = jax.eval_shape(lambda state: run(state, 0), stand.state)
    with _mesh.together(mesh):
        found = keep.checkpoints.newest(stand._replace(record=record))
        if found is not None and int(found.state.step) > steps:
            got, do = f"{int(found.state.step):,} of {steps:,}", "Pass more steps, or another folder."
            _check.fail(_check.InputError, f"no more steps done in {keep.checkpoints.folder} than asked for", got, do)
    _check_alike(keep, found, mesh)
    return stand if found is None else found


def _check_alike(keep: Keeper, found: Stand | None, mesh: Mesh | None) -> None:
    """Refuse processes that would go on from different steps."""
    at = _mesh.said([0 if found is None else int(found.state.step)], mesh)[:, 0]
    other = next((step for step in at if step != at[0]), at[0])
    if other != at[0]:
        got, do = f"step {at[0]} and step {other}", "Name a folder of a file system that all hosts share."
        expected = f"every process to find the same newest checkpoint in {keep.checkpoints.folder}"
        _check.fail(_check.InputError, expected, got, do)


def _stops(done: int, watch: HeldOut | None, keep: Keeper | None) -> Iterator[int]:
    """Yield the next steps at which something is looked at or saved."""
    for every in (watch and watch.every, keep and keep.every):
        if every:
            yield (done // every + 1) * every


def _is_due(keep: Keeper, now: int, steps: int, due_at: float) -> bool:
    """Return whether to save: when training ends, and every so often before."""
    due = time.monotonic() > due_at if keep.every is None else now % keep.every == 0
    return now == steps or due


def _next_save(began: float, ended: float) -> float:
    """Return when to save next, in seconds of the same clock, from when the last saving began and ended."""
    least, most = SAVE_SECONDS
    return ended + min(max(least, (ended - began) / SAVE_SHARE), most)


def _save(keep: Keeper, stand: Stand, recipe: Recipe, given: BNN) -> None:
    """Write a checkpoint; on several hosts, in the first process alone, once all have handed over their parts."""
    if recipe.mesh is not None:
        stand = stand._replace(state=_mesh.fetched(stand.state, recipe.mesh))
    with _mesh.together(recipe.mesh):
        if recipe.mesh is None or _mesh.is_local(recipe.mesh) or jax.process_index() == 0:
            try:
                keep.checkpoints.save(stand)
            except _check.WriteError as error:
                raise _handing_over(error, stand, recipe, given) from error


def _handing_over(error: _check.WriteError, stand: Stand, recipe: Recipe, given: BNN) -> _check.WriteError:
    """Make an error that holds what was trained, which would be lost with the checkpoint."""
    trained = stand.best if stand.best.steps else stand.state.member
    full = _check.WriteError(
        f"{error} What was trained so far is this error's .model and .history; "
        "resume=True, or --resume, goes on from the checkpoint before, if that is still there."
    )
    full.model = with_trainable(given, trained.trainable, trained.running)
    full.history = _history([stand.record], recipe, stand.best, int(stand.state.step))
    return full


def _leave(signals: _signals.Held, now: int) -> None:
    """Do what a signal asks that came here, or stop because one came in another process."""
    if signals.came:
        signals.deliver()
    else:
        got, do = f"a signal to leave in another, saved at step {now}", "Start all of them again, with resume=True."
        _check.fail(_check.HostError, "every process to train on", got, do)


# On a mesh


def _laid_out(
    over: Over | None, problem: Problem, recipe: Recipe, watch: HeldOut | None, state: State
) -> tuple[Problem, Recipe, HeldOut | None, State]:
    """Lay out over a mesh, if there is one, all that training needs."""
    if over is None:
        return problem, recipe, watch, state
    state = state_over(over, state, recipe)
    if watch is not None:
        x, y = _mesh.put(over.mesh, (watch.x, watch.y), P())
        watch = watch._replace(x=x, y=y)
    return problem_over(over, problem, recipe), recipe_over(over, problem, recipe, state), watch, state


def _agreed(seconds: float, due: bool, leaving: bool, mesh: Mesh | None) -> tuple[float, bool, bool]:
    """Give the first process's clock and whether it is time to save, and whether any was told to leave."""
    if mesh is None or _mesh.is_local(mesh):
        return seconds, due, leaving
    each = _mesh.said([int(1000 * seconds), due, leaving], mesh)
    return float(each[0, 0]) / 1000, bool(each[0, 1]), bool(each[:, 2].any())


def _readable(state: State, recipe: Recipe) -> State:
    """Give a state that every process can read."""
    if recipe.mesh is None or _mesh.is_local(recipe.mesh):
        return state
    return _mesh.laid_out(state, recipe.mesh, P())


def _home(model: BNN, recipe: Recipe) -> BNN:
    """Bring a model to the first device, but for parameters that are cut into parts."""
    return model if recipe.mesh is None else _mesh.home(model, recipe.mesh, AXES)


def _next_chunk(ask: int, seconds: float, most: int) -> int:
    return int(min(most, max(1, 2 * ask if seconds < CHUNK_SECONDS else ask * CHUNK_SECONDS / seconds)))


def _model(problem: Problem, state: State) -> BNN:
    return with_trainable(problem.model, state.member.trainable, state.member.running)


def _joined(records: list[Any]) -> Any:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *records)


def _history(records: list[Any], recipe: Recipe, best: Best, steps: int) -> History:
    cost, noise_std, skipped = jax.tree.map(lambda leaf: leaf[:steps], _joined(records))
    name = getattr(recipe.cost, "__name__", "cost")
    parts = {"kl_std_error": cost.kl_std_error, "skipped": skipped}
    history = History(cost.total, cost.data_term, cost.kl, noise_std, name, **parts)
    if not best.steps:
        return history
    scores: dict[str, Any] = {"validation_log_score": np.stack(best.scores), "validation_steps": np.array(best.steps)}
    return dataclasses.replace(history, best_step=best.step, **scores)


# Numbers that are not finite


def _stop(
    problem: Problem, recipe: Recipe, run: Run, before: State, after: State, history: Callable[[int], History]
) -> NoReturn:
    """Find the step and the first of its numbers that was not finite, and the last good model; raise the error."""
    bad, last = _bad_step(run, recipe, before, after)
    step, member = int(bad.step), None
    found = examine(bad, problem, recipe=recipe)
    where, model, record = f"at step {step} (from 0)", _home(_model(problem, last), recipe), history(step)
    if recipe.members:
        members = range(bad.member.skipped.shape[0])
        each = [jax.tree.map(itemgetter(k), found) for k in members]
        member = next((k for k in members if _first_bad(each[k], recipe) is not None), 0)
        found = each[member]
        where, model, record = f"{where} of member {member} (from 0)", member_of(model, member), record.member(member)
    often = f"{MOST_SKIPS + 1} times in a row, the last " if recipe.skips else ""
    culprit = _first_bad(found, recipe)
    blame = f"first in {culprit}" if culprit else "though all its numbers are finite when it is computed by itself"
    raise _check.NonFiniteLossError(
        "Expected a finite loss and finite parameters at every step, got NaN or infinity "
        f"{often}{where}, {blame}. "
        "Lower the learning rate, scale x and y to unit size, or clip gradients; "
        "the last model of a finite loss is this error's .model, and its .history ends before that step.",
        step=step,
        model=model,
        history=record,
    )


def _bad_step(run: Run, recipe: Recipe, before: State, after: State) -> tuple[State, State]:
    """Give the state before the first bad step, and the last state whose loss was finite.

    Nothing was kept for this case at every step. Instead, steps since the chunk before are done again.
    """
    now, first = int(after.step), int(before.step)
    if recipe.skips:
        return after, after
    reached = run(before, now)[0]  # and not `after`, which holds what the bad step made
    if is_sound(reached.member, recipe):  # then it is this state's cost
        return reached, run(before, max(first, now - 1))[0]
    good, bad = first, now
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_sound(run(before, middle)[0].member, recipe):
            good = middle
        else:
            bad = middle
    state = run(before, good)[0]
    return state, state


def _first_bad(found: Examined, recipe: Recipe) -> str | None:
    """Name the first number that is not finite, in the order in which a step makes them."""
    cost, gradient, member = found
    if not all_finite((cost.total, cost.kl)):
        return (
            "the KL" if not all_finite(cost.kl) else "the data term" if not all_finite(cost.data_term) else "the loss"
        )
    state = jax.tree.leaves(member.optimizer_state)
    watched_leaves = [leaf if finite else None for leaf, finite in zip(state, recipe.watched, strict=True)]
    places = (
        ("the gradient of", _named(gradient)),
        ("the optimiser's state", zip(names(member.optimizer_state), watched_leaves, strict=True)),
        ("the update of", _named(member.trainable)),
        ("the network's state", zip(names(member.running), jax.tree.leaves(member.running), strict=True)),
    )
    for place, leaves in places:
        for name, leaf in leaves:
            if not all_finite(leaf):
                return f"{place} {name}"
    return None


def _named(trainable: Tree) -> Iterator[tuple[str, Any]]:
    for part, tree in zip(("posterior", "likelihood"), trainable, strict=True):
        for name, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
            yield f"{part}/{name}", leaf
