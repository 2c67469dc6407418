"""Several members from as many starts: their keys and starts before training, one ensemble after it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.ability import implements
from bbb.core.tree import Tree, is_none, stacked
from bbb.errors import InputError, StreamError, WriteError, fail
from bbb.likelihoods.per_member import PerMember
from bbb.likelihoods.protocol import SupportsGaussianNoise, check_fisher
from bbb.model import BNN
from bbb.objectives.objective import elbo_cost
from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.point import Point
from bbb.priors.anchored import check_anchoring
from bbb.train.options import Objective, Restarts
from bbb.train.steps.anchors import as_point, with_anchor
from bbb.train.steps.state import ORDER_KEYS, Recipe, TrainInputs

KL_WEIGHT_ERROR = 1e-6
"""How far from 1 the weight of the KL may end: by a schedule's rounding."""


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
    if not restarts.anchored:
        return inputs._replace(key=keys, model=stacked([_started(inputs.model, restarts.init, key) for key in keys]))
    members = jax.vmap(lambda key: with_anchor(key, inputs.model))(keys)
    if restarts.init is not None:
        point = as_point(inputs.model)
        starts = stacked([_started(point, restarts.init, key).posterior for key in keys])
        members = dataclasses.replace(members, posterior=starts)
    return inputs._replace(key=keys, model=members)


def as_trained(model: BNN, restarts: Restarts | None, objective: Objective) -> BNN:
    """Return the model of which every member is one like: itself, or a point of anchored restarts, after their checks.

    Raises:
        InputError: if the prior, the likelihood or the objective is not one that anchored members can be trained with.
    """
    if restarts is None or not restarts.anchored:
        return model
    check_anchoring(model.prior)
    check_fisher(model.likelihood, "anchored restarts")
    if objective.cost is not elbo_cost:
        got = getattr(objective.cost, "__qualname__", type(objective.cost).__qualname__)
        do = "Leave the objective's cost out, or anchored."
        fail(InputError, "the negative evidence lower bound for anchored restarts", got, do)
    return as_point(model)


def check_anchored(model: BNN, objective: Objective, recipe: Recipe, steps: int) -> None:
    """Raise if an objective does not end at the posterior, or an optimiser compares steps of several functions.

    Raises:
        InputError: naming the option.
    """
    if not recipe.anchored:
        return
    weight: Any = objective.kl_weight
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # a schedule may be optax's
        last = float(weight(jnp.asarray(steps - 1, jnp.int32)) if callable(weight) else weight)
    if abs(last - 1) > KL_WEIGHT_ERROR:
        got, do = f"{last:g}", "Leave kl_weight out, or pass a schedule that ends at 1."
        fail(InputError, "kl_weight to be 1 at the end of anchored restarts", got, do)
    if recipe.fixed and (model.likelihood.learn or not implements(model.likelihood, SupportsGaussianNoise)):
        do = "Pass another optimizer, such as optax.adam(1e-2), or bbb.likelihoods.Gaussian(std) without learn."
        expected = (
            "Gaussian noise of a known std, for anchored restarts with an optimizer that learns the curvature from "
            "several steps, such as lbfgs"
        )
        got = f"a {type(model.likelihood).__name__}" + (" that learns" if model.likelihood.learn else "")
        fail(InputError, expected, got, do)


def as_ensemble(model: BNN, trained: BNN, restarts: Restarts | None) -> BNN:
    """Return one model of the members, which share what was not trained; a plain training's as it is."""
    if restarts is None:
        return trained
    likelihood: Any = PerMember(trained.likelihood) if model.likelihood.learn else model.likelihood
    posterior: Any = Ensemble(_as_points(model, trained) if restarts.anchored else trained.posterior)
    return dataclasses.replace(model, posterior=posterior, likelihood=likelihood)


def _as_points(model: BNN, trained: BNN) -> Point:
    """Return anchored members as draws of the leaves that are random in `model`."""
    params: Tree = trained.posterior.params
    drawn = model.posterior.random_leaves(params)
    fixed = jax.tree.map(lambda kept, leaf: leaf if kept is None else None, drawn, params, is_leaf=is_none)
    return Point(drawn, fixed)


@contextlib.contextmanager
def ensemble_in_errors(model: BNN, restarts: Restarts | None) -> Iterator[None]:
    """Within it, an error that holds what was trained holds it as `fit` would have returned it."""
    try:
        yield
    except (StreamError, WriteError) as error:
        if error.model is not None:
            error.model = as_ensemble(model, error.model, restarts)
        raise


def _started(model: BNN, init: Callable[[jax.Array], Tree] | None, key: jax.Array) -> BNN:
    """Return the model with another start: means of its own."""
    params, like = init(key), model.posterior.params  # type: ignore[misc]  # of several members, `Restarts` asks for it
    checks.fits("init(key)", params, "the model's parameters", like)
    mean = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), params, like)
    return dataclasses.replace(model, posterior=model.posterior.with_params(mean))
