"""What tells the run of a checkpoint from others: its inputs and options, part by part, as digests."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.rows import some_rows
from bbb.core.tree import Tree, widest_dtype
from bbb.model import BNN
from bbb.objectives.objective import with_kl_noise
from bbb.storage import arrays
from bbb.tracing import purity
from bbb.tracing.interpreter import trace
from bbb.train.steps.batches import rows_of
from bbb.train.steps.state import Recipe, TrainInputs
from bbb.train.steps.training_mode import has_training
from bbb.train.validation import ValidationSet


def fingerprint(inputs: TrainInputs, recipe: Recipe, validation: ValidationSet | None) -> dict[str, str]:
    """Return what tells a run from others, part by part.

    Functions are told by their names, and the user's by what they compute too.
    """
    model = inputs.model
    scored = None
    if validation is not None:
        held_out = (validation.x, validation.y, validation.sample_weight)
        scored = (_digest(*held_out), validation.every, validation.patience)
    described: dict[str, Any] = {
        "key": (str(jax.random.key_impl(inputs.key)), _digest(inputs.key)),
        "x": _data(inputs.x, recipe),
        "y": _data(inputs.y, recipe),
        "network": _program(inputs, recipe),
        "posterior to begin with": _digest(model.posterior),
        "prior": (str(jax.tree.structure(model.prior)), _digest(model.prior)),
        "likelihood": (str(jax.tree.structure(model.likelihood)), _digest(model.likelihood)),
        "forward": _forward(inputs, recipe),
        "objective": _objective(inputs, recipe),
        "kl_weight": _digest(_weights(inputs, recipe)),
        "batch_size, draws or on_nonfinite": (recipe.batch_size, recipe.draws, recipe.skips),
        "validation": scored,
    }
    # no parts of other runs, so that folders of earlier versions are known again
    if recipe.fixed:
        described["kind of optimizer: its steps share one noise"] = True
    if inputs.sample_weight is not None:
        described["sample_weight"] = _data(inputs.sample_weight, recipe)
    return {part: repr(value) for part, value in described.items()}


def _data(rows: Tree, recipe: Recipe) -> Any:
    """Return what tells data from others; of a stream, which may come in another order, only shapes and sizes."""
    if recipe.num_data is None:
        return _digest(rows)
    return recipe.num_data, str(jax.eval_shape(lambda: rows))


PROBES = (0, *(first * 10**power for power in range(7) for first in (1, 2, 5)))
"""The steps by whose weights of the KL a schedule is known."""


def _weights(inputs: TrainInputs, recipe: Recipe) -> list[np.ndarray]:
    """Return the weights of the KL at a few steps."""
    schedule = recipe.kl_schedule
    if schedule is None:
        return [np.asarray(inputs.kl_weight)]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # it may be optax's
        return [np.asarray(schedule(jnp.asarray(step, jnp.int32)), np.float64) for step in PROBES]


def _program(inputs: TrainInputs, recipe: Recipe) -> str:
    """Return what tells a network from others: its program, as two of one class and shape may differ in a function."""
    model, x, _ = _one_row(inputs, recipe)
    return _traced(model.apply, model.posterior.params, x)


def _forward(inputs: TrainInputs, recipe: Recipe) -> str:
    """Return what tells a forward from others."""
    forward = recipe.forward
    if _is_ours(forward):
        return _name(forward)
    model, x, _ = _one_row(inputs, recipe)
    key = _first_key(inputs, recipe)
    seen: Any = (x, key) if has_training(forward) else x
    noise = jax.eval_shape(forward.noise, key, model.posterior, seen)
    return _name(forward) + _traced(forward.evaluate, noise, model.posterior, seen)


def _objective(inputs: TrainInputs, recipe: Recipe) -> str:
    """Return what tells a cost from others."""
    if _is_ours(recipe.cost):
        return _name(recipe.cost)
    model, x, y = _one_row(inputs, recipe)
    outputs = jax.eval_shape(
        jax.vmap(model.apply, in_axes=(None, 0)), model.posterior.params, jax.tree.map(lambda leaf: leaf[None], x)
    )

    def cost(key: jax.Array, model: BNN, outputs: jax.Array, y: jax.Array, weight: Any) -> jax.Array:
        model = with_kl_noise(key, model, recipe.draws)
        return recipe.cost(model, outputs, y, jnp.ones(1, widest_dtype(outputs)), rows_of(inputs, recipe), weight).total

    key = _first_key(inputs, recipe)
    return _name(recipe.cost) + _traced(cost, key, model, outputs, y, inputs.kl_weight)


def _one_row(inputs: TrainInputs, recipe: Recipe) -> tuple[BNN, Tree, jax.Array]:
    """Return the model, or the first member, and a row of data: what shapes are taken from."""
    model = jax.tree.map(lambda leaf: leaf[0], inputs.model) if recipe.members else inputs.model
    return model, some_rows(inputs.x, slice(1)), some_rows(inputs.y, slice(1))


def _first_key(inputs: TrainInputs, recipe: Recipe) -> jax.Array:
    return inputs.key[0] if recipe.members else inputs.key


def _traced(function: Callable[..., Any], *args: Any) -> str:
    """Return what tells a function from others: its program and the constants in it."""
    jaxpr = trace(function, *args).jaxpr
    return hashlib.sha256(purity.program_text(jaxpr).encode()).hexdigest() + _digest(jaxpr.consts)


def _is_ours(function: Any) -> bool:
    """Return whether a function is this library's, whose name is enough: another version may compute it otherwise."""
    function = getattr(function, "function", function)  # a user's, that was wrapped as a forward
    return str(getattr(function, "__module__", "")).split(".", maxsplit=1)[0] == "bbb"


def _name(function: Callable[..., Any]) -> str:
    """Return the name of a function, or of the class of an object that is called: an address would differ by run."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def _digest(*trees: Tree) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.named(trees).items():
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
