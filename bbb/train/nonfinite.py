"""A training that met NaN or infinity: which step did, in which of its numbers, and the last model that was good."""

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import jax

from bbb.core.tree import Tree, all_finite, member_of, names
from bbb.errors import NonFiniteLossError
from bbb.train.history import History
from bbb.train.steps.sharding import model_home
from bbb.train.steps.state import MAX_SKIPS, Recipe, TrainInputs, TrainState, model_at
from bbb.train.steps.step import ExaminedStep, examine, is_sound

Run = Callable[[TrainState, int], tuple[TrainState, Any]]
"""`run(state, until)`: train up to a step; return the state, and the record of each step done."""


class BadStep(NamedTuple):
    """The state that the first bad step begins from, and the last state whose loss was finite."""

    state: TrainState
    good: TrainState


def nonfinite_loss(
    inputs: TrainInputs,
    recipe: Recipe,
    run: Run,
    before: TrainState,
    after: TrainState,
    history: Callable[[int], History],
) -> NonFiniteLossError:
    """Return the error for a chunk that ended at numbers that were not finite.

    It names the step and the first such number, and holds the last model of a finite loss.

    Args:
        inputs: what is trained on what.
        recipe: of the training.
        run: what trains up to a step.
        before: the state that the chunk before this one began from.
        after: the state that this chunk ended in.
        history: returns the history of the first so many steps.
    """
    bad = _bad_step(run, recipe, before, after)
    step, member = int(bad.state.step), None
    found = examine(bad.state, inputs, recipe=recipe)
    where, model, record = f"at step {step} (from 0)", model_home(model_at(inputs, bad.good), recipe), history(step)
    if recipe.members:
        members = range(bad.state.member.skipped.shape[0])
        each = [jax.tree.map(itemgetter(k), found) for k in members]
        member = next((k for k in members if _first_bad(each[k], recipe) is not None), 0)
        found = each[member]
        where, model, record = f"{where} of member {member} (from 0)", member_of(model, member), record.member(member)
    often = f"{MAX_SKIPS + 1} times in a row, the last " if recipe.skips else ""
    culprit = _first_bad(found, recipe)
    blame = f"first in {culprit}" if culprit else "though all its numbers are finite when it is computed by itself"
    return NonFiniteLossError(
        "Expected a finite loss and finite parameters at every step, got NaN or infinity "
        f"{often}{where}, {blame}. "
        "Lower the learning rate, scale x and y to unit size, or clip gradients; "
        "the last model of a finite loss is this error's .model, and its .history ends before that step.",
        step=step,
        model=model,
        history=record,
    )


def _bad_step(run: Run, recipe: Recipe, before: TrainState, after: TrainState) -> BadStep:
    """Find the first bad step, and the last state whose loss was finite.

    Nothing was kept for this case at every step. Instead, steps since the chunk before are done again.
    """
    now, first = int(after.step), int(before.step)
    if recipe.skips:
        return BadStep(after, after)
    reached = run(before, now)[0]  # and not `after`, which holds what the bad step made
    if is_sound(reached.member, recipe):  # then it is this state's cost
        return BadStep(reached, run(before, max(first, now - 1))[0])
    good, bad = first, now
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_sound(run(before, middle)[0].member, recipe):
            good = middle
        else:
            bad = middle
    state = run(before, good)[0]
    return BadStep(state, state)


def _first_bad(found: ExaminedStep, recipe: Recipe) -> str | None:
    """Return the name of the first number that is not finite, in the order in which a step makes them."""
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
    """Yield the leaves of what is trained, with their names."""
    for part, tree in zip(("posterior", "likelihood"), trainable, strict=True):
        for name, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
            yield f"{part}/{name}", leaf
