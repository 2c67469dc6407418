"""Ensembles: how much a result depends on where training started."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.ability import implements
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsFunction
from bbb.model import BNN, check_model
from bbb.predictive.evaluation import draws as draw


class Spread(NamedTuple):
    """The standard deviations of the function at each row, (rows, ...) each, in units of y.

    Their squares add up: total² = between² + within².

    Attributes:
        between: of the members' means; where it is not far below `within`, the result depends on the start.
        within: of one member's draws, the root mean square over members.
        total: of all draws, which is what `predict(...).f.std` estimates too.
    """

    between: jax.Array
    within: jax.Array
    total: jax.Array


def spread(key: jax.Array, model: BNN, x: Any, *, draws: int = 1000, rows: str = "apart") -> Spread:
    """Split the predictive's spread into that between the posteriors of an ensemble and that within them.

    Args:
        key: one typed JAX key.
        model: what `fit(..., restarts=K)` returned.
        x: (rows, ...), finite.
        draws: of all members together; rounded up to a multiple of their number.
        rows: "apart", or "together" for a network whose rows meet: see `predict`.

    Raises:
        KeyTypeError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        InputError: for a model of one member, or fewer than two draws of each.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> how = {"steps": 20, "progress": False, "restarts": bbb.train.Restarts(2, layer.init)}
        >>> model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> bbb.evaluate.spread(jax.random.key(2), model, task.x, draws=100).between.shape
        (20, 1)
    """
    check_model(model)
    checks.outside("spread", key=key, model=model, x=x)
    members = model.members
    if members == 1:
        do = "Train with bbb.fit(..., restarts=bbb.train.Restarts(5, init=network.init))."
        fail(InputError, "a model of several members", "one of a single posterior", do)
    if model.posterior.holds_draws:
        do = "What its chains have in common is in the report of bbb.mcmc: report.rhat."
        fail(InputError, "a model of several members", f"{members:,} draws, which are points", do)
    if checks.positive_integer("draws", draws) < 2 * members:
        fail(InputError, "two draws of each member at least", f"{draws}", f"Pass {2 * members} or more.")
    outputs = draw(key, model, x, draws=draws, rows=rows)
    if implements(model.likelihood, SupportsFunction):
        outputs = model.likelihood.function(outputs)
    of_members = outputs.reshape(-1, members, *outputs.shape[1:])  # draw i is of member i % members
    within = jnp.mean(jnp.var(of_members, axis=0, ddof=1), axis=0)
    chance = within / of_members.shape[0]  # what the means of so few draws differ by in any case
    between = jnp.maximum(jnp.var(jnp.mean(of_members, axis=0), axis=0) - chance * (1 - 1 / members), 0)
    return Spread(jnp.sqrt(between), jnp.sqrt(within), jnp.sqrt(between + within))
