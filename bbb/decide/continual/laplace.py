"""The update of a Laplace posterior: the mode under the old Gaussian, and the precision of the new rows added to it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bbb.core.tree import is_none, map_present, pytree_dataclass
from bbb.curvature.api import laplace
from bbb.curvature.choice import check_problem, structure_for
from bbb.decide.continual import kept
from bbb.forwards.mean import at_mean
from bbb.model import BNN
from bbb.posteriors.correlated.kronecker import Kronecker
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision
from bbb.posteriors.mean_field import MeanField
from bbb.priors.multivariate_normal import MultivariateNormal
from bbb.train.api import fit
from bbb.train.history import History
from bbb.train.options import Objective


class Plan(NamedTuple):
    """What is kept of the curvature, and of how many directions if that is "low_rank"."""

    structure: str
    rank: int


@pytree_dataclass(data=("prior",))
class Penalty:
    """A Gaussian prior for training a point: to the objective, a prior like any other.

    Attributes:
        prior: the Gaussian.
    """

    prior: MultivariateNormal

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return log p(its mean) − log p(w) at the posterior's parameters w: nats, a scalar, 0 at its mean."""
        return self.prior.half_square(posterior.random_leaves(posterior.params))


def laplace_plan(model: BNN, x: Any, y: Any, prior: Any, memory: int | str, sample_weight: Any) -> Plan:
    """Return what the update keeps of the curvature: what the posterior so far does; nothing is computed.

    Raises:
        InputError, ShapeError, NonFiniteInputError: as `bbb.laplace`, for what it cannot take.
    """
    known, at = model.posterior, dataclasses.replace(model, posterior=_point(model), prior=prior)
    rank = 1
    if isinstance(known, MeanField | Kronecker):
        structure = "diag" if isinstance(known, MeanField) else "kron"
    elif isinstance(known, LowRankPrecision):
        structure, rank = structure_for(at, x, memory), len(known.factor)
        structure = "full" if structure == "full" else "low_rank"
    else:
        structure = "full"
    check_problem("update", at, x, y, structure, rank, memory, sample_weight)
    return Plan(structure, rank)


def updated_by_laplace(
    keys: tuple[jax.Array, jax.Array], model: BNN, start: BNN, x: Any, y: Any, plan: Plan, memory: Any, how: Any
) -> tuple[BNN, History]:
    """Return the model at the mode of the new rows and the prior, with the Gaussian of the curvature there.

    Args:
        keys: of the training, and of the search for leading directions.
        model: before.
        start: the same as it is trained, with the prior.
        x: the new rows.
        y: observed there.
        plan: what is kept of the curvature.
        memory: bound on the working memory of the curvature.
        how: options of the training.

    Raises:
        NonFiniteLossError, NonFiniteOutputError: if a number turns non-finite.
    """
    point = dataclasses.replace(start, posterior=_point(model), prior=Penalty(_gaussian(start.prior, model)))
    mode, history = fit(keys[0], point, x, y, **how | {"objective": Objective(forward=at_mean(point.apply))})
    at = kept.with_fixed_leaves(mode.posterior, model.posterior)
    likelihood: Any = mode.likelihood if start.likelihood.learn else model.likelihood
    whole = dataclasses.replace(model, posterior=at, prior=start.prior, likelihood=likelihood)
    given = {"structure": plan.structure, "rank": plan.rank, "memory": memory}
    return laplace(keys[1], whole, x, y, sample_weight=how["sample_weight"], **given), history


def _gaussian(prior: Any, model: BNN) -> MultivariateNormal:
    """Return a prior as one Gaussian over the leaves that are random in a model."""
    if isinstance(prior, MultivariateNormal):
        return prior
    means, fixed = prior.mean, model.posterior.params
    params = jax.tree.map(lambda mean, rest: rest if mean is None else mean, means, fixed, is_leaf=is_none)
    return MultivariateNormal(MeanField(params, map_present(jnp.log, prior.std)))


def _point(model: BNN) -> MeanField:
    """Return the means of a posterior, with standard deviations of 1 that nothing reads."""
    params = model.posterior.params
    return MeanField(params, map_present(jnp.zeros_like, model.posterior.random_leaves(params)))
