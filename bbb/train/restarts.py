"""Several members from as many starts: their keys and starts before training, one ensemble after it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import WriteError
from bbb.likelihoods.per_member import PerMember
from bbb.model import BNN
from bbb.posteriors.ensemble import Ensemble
from bbb.train.options import Restarts
from bbb.train.steps.state import ORDER_KEYS, TrainInputs, stacked

RESTART_KEYS = ORDER_KEYS + 2**29
"""Where the keys of members begin, beyond those of epochs."""


def member_keys(key: jax.Array, restarts: int) -> jax.Array:
    """Return the key of each member of `fit(key, ..., restarts=...)`, which starts and trains it: (restarts,).

    Raises:
        KeyTypeError, InputError: if `key` is not one typed JAX key, or `restarts` not a whole number of at least 1.
    """
    checks.key(key)
    index = jnp.arange(checks.positive_integer("restarts", restarts, maximum=2**28), dtype=jnp.uint32)
    return jax.vmap(lambda k: jax.random.fold_in(key, np.uint32(RESTART_KEYS) + k))(index)


def several(restarts: Restarts | None) -> Restarts | None:
    """Return the restarts if they ask for several members; one is a plain training, as None is."""
    return None if restarts is None or restarts.number == 1 else restarts


def with_members(inputs: TrainInputs, restarts: Restarts | None) -> TrainInputs:
    """Return the inputs with the key and the start of each member in the place of one; None changes nothing.

    Raises:
        ShapeError: if `init` returns other parameters than the model's.
    """
    if restarts is None:
        return inputs
    keys = member_keys(inputs.key, restarts.number)
    return inputs._replace(key=keys, model=stacked([_started(inputs.model, restarts.init, key) for key in keys]))


def as_ensemble(model: BNN, trained: BNN, restarts: Restarts | None) -> BNN:
    """Return one model of the members, which share what was not trained; a plain training's as it is."""
    if restarts is None:
        return trained
    likelihood: Any = PerMember(trained.likelihood) if model.likelihood.learn else model.likelihood
    posterior: Any = Ensemble(trained.posterior)
    return dataclasses.replace(model, posterior=posterior, likelihood=likelihood)


@contextlib.contextmanager
def ensemble_in_errors(model: BNN, restarts: Restarts | None) -> Iterator[None]:
    """Within it, an error that holds what was trained holds it as `fit` would have returned it."""
    try:
        yield
    except WriteError as error:
        if error.model is not None:
            error.model = as_ensemble(model, error.model, restarts)
        raise


def _started(model: BNN, init: Callable[[jax.Array], Tree] | None, key: jax.Array) -> BNN:
    """Return the model with another start: means of its own."""
    params, like = init(key), model.posterior.params  # type: ignore[misc]  # of several members, `Restarts` asks for it
    checks.fits("init(key)", params, "the model's parameters", like)
    mean = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), params, like)
    return dataclasses.replace(model, posterior=model.posterior.with_params(mean))
