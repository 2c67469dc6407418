"""From the options of `fit` to a recipe: every option checked against the model and the data, before any training."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from bbb import checks
from bbb.core.rows import count_rows, with_rows
from bbb.core.tree import Tree, cast, widest_dtype
from bbb.errors import InputError, fail
from bbb.forwards.mean import AtMean
from bbb.forwards.rowwise import warn_if_approximate
from bbb.forwards.sampling import weight_sampling
from bbb.forwards.select import Forward, as_forward
from bbb.model import BNN
from bbb.objectives import optimizers
from bbb.objectives.kl_weight import check_schedule
from bbb.tracing.canonical import canonical
from bbb.tracing.convolutions import convolves
from bbb.tracing.memory import check_step
from bbb.tracing.rows import refuse_mixed_rows
from bbb.train.options import Objective
from bbb.train.steps.noise import count_noise
from bbb.train.steps.state import NOISE_KEYS, ORDER_KEYS, Recipe, trainable_of
from bbb.train.steps.training_mode import has_training, in_training

MAX_CHUNK = 1024
"""Most steps between two looks at the numbers."""


MAX_BLOCK, SHORT_BLOCK = 64, 8
"""Most steps whose noise is drawn at once; and in a training of fewer steps than that, which would use little of it."""


NOISE_ELEMENTS = 2**20
"""How many random numbers are drawn at once, for several steps: one large draw is far cheaper than many small ones."""


DEFAULT_STEPS = 2000
"""Steps of a training that names neither steps nor epochs."""


DEFAULT_OPTIMIZER = optax.adam(1e-2)
"""What trains unless another optimizer is passed."""


INSTEAD = "jax.grad of bbb.objectives.negative_elbo, and optax's own updates"
"""What trains within a compiled function of the user's."""


def plan(
    key: jax.Array,
    model: BNN,
    x: Tree,
    objective: Objective,
    *,
    steps: int | None,
    epochs: int | None,
    optimizer: optax.GradientTransformation | None,
    batch_size: int | None,
    members: int | None = None,
    own_data: bool = False,
    anchored: bool = False,
    num_data: int | None = None,
) -> tuple[Recipe, int]:
    """Check the options of a training, and return its recipe and its number of steps.

    Args:
        key: one typed JAX key; it is used for shapes alone.
        model: of one member.
        x: (rows, ...), the rows to train on, of one member.
        objective: what is minimised.
        steps: as for `fit`.
        epochs: as for `fit`.
        optimizer: as for `fit`.
        batch_size: as for `fit`; of all rows or more it is a full batch.
        members: how many are trained side by side; None for a plain training.
        own_data: whether each has x and y of its own.
        anchored: whether each is a point with an anchor of its own.
        num_data: rows of the whole data set, where x is the first batch of a stream; None where x is all of it.

    Raises:
        InputError, ShapeError: for options that do not fit the model, the data or each other.
    """
    if batch_size is not None and checks.positive_integer("batch_size", batch_size) >= count_rows(x):
        batch_size = None
    _check_network(model, x, batch_size, objective.draws * (members or 1))
    steps = _count_steps(steps, epochs, 1 if batch_size is None else math.ceil(count_rows(x) / batch_size))
    _check_keys(steps, objective.draws)
    schedule = objective.kl_weight if callable(objective.kl_weight) else None
    if schedule is not None:
        check_schedule(schedule, steps)
    optimizer = DEFAULT_OPTIMIZER if optimizer is None else canonical(optimizer, "The optimiser")
    trainable, _ = trainable_of(model)
    optimizers.check(optimizer, trainable)
    batch = with_rows(x, batch_size or count_rows(x))
    forward = _forward(key, model, x, batch, objective)
    numbers = count_noise(key, forward, model, batch)
    fixed = optimizers.learns_curvature(optimizer, trainable)
    if fixed:
        optimizers.check_fixed(batch_size or num_data, objective.draws, numbers > 0)
    numbers = (members or 1) * objective.draws * max(1, numbers)
    recipe = Recipe(
        forward=canonical(forward, "The forward"),
        scored=canonical(_scored(model, objective), "The forward"),
        optimizer=optimizer,
        cost=canonical(objective.cost, "The cost"),
        kl_schedule=canonical(schedule, "The schedule"),
        batch_size=batch_size,
        draws=objective.draws,
        chunk=MAX_CHUNK,
        block=_block(steps, numbers),
        skips=objective.on_nonfinite == "skip",
        members=members is not None,
        own_data=own_data,
        anchored=anchored,
        fixed=fixed,
        num_data=num_data,
        convolves=convolves(model.apply, model.posterior.params, batch),
    )
    return recipe, steps


def weight_of(objective: Objective, model: BNN) -> jax.Array:
    """Return the KL's weight as an array of the model's dtype; of a schedule 0, which gives the dtype alone."""
    weight: Any = 0.0 if callable(objective.kl_weight) else objective.kl_weight
    return cast(weight, widest_dtype(model.posterior.params))


def _check_network(model: BNN, x: Tree, batch_size: int | None, draws: int) -> None:
    """Raise an error if one step's arrays cannot be computed, or if rows of a batch would not stand for themselves."""
    at_once = with_rows(x, batch_size or count_rows(x))
    check_step(model.apply, model.posterior.params, at_once, draws)
    if batch_size is not None and not hasattr(model.apply, "train"):  # a training mode may use the batch as it likes
        do = "Leave batch_size out, to train on all rows at once."
        refuse_mixed_rows(model.apply, model.posterior.params, x, "minibatches hold some rows only", do)


def _count_steps(steps: int | None, epochs: int | None, steps_per_epoch: int) -> int:
    """Return the number of steps that steps or epochs, but not both, ask for."""
    if epochs is None:
        return DEFAULT_STEPS if steps is None else checks.positive_integer("steps", steps)
    if steps is not None:
        fail(InputError, "steps or epochs", "both", "Pass one of them.")
    return checks.positive_integer("epochs", epochs) * steps_per_epoch


def _block(steps: int, numbers: int) -> int:
    """Return for how many steps, of so many random numbers each, noise is drawn at once: one of few sizes.

    The program hangs on it, and is to be the same for any number of steps.
    """
    longest = min(MAX_BLOCK if steps >= MAX_BLOCK else SHORT_BLOCK, MAX_CHUNK)
    return min(longest, max(1, NOISE_ELEMENTS // numbers))


def _check_keys(steps: int, draws: int) -> None:
    """Raise an error for more draws than there are keys of their noise."""
    most = ORDER_KEYS - NOISE_KEYS
    if steps * draws >= most:
        got, do = f"{steps * draws:,}", "Train in several calls."
        fail(InputError, f"steps × draws below {most:,}", got, do)


def _forward(key: jax.Array, model: BNN, x: Tree, batch: Tree, objective: Objective) -> Forward:
    """Return the forward that is asked for, in training mode if the network has one; warn if it is approximate."""
    brought: Callable[..., Any] = getattr(objective.cost, "forward", weight_sampling)
    forward: Any = brought(model.apply) if objective.forward is None else objective.forward
    random = in_training(as_forward(forward), model, x)
    warn_if_approximate(random, model.posterior, (batch, key) if has_training(random) else batch)
    return random


def _scored(model: BNN, objective: Objective) -> Forward:
    """Return the network that validation scores: with weights drawn, unless training is of the network at the mean."""
    return objective.forward if isinstance(objective.forward, AtMean) else weight_sampling(model.apply)
