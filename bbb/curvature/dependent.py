"""Laplace posteriors under a prior whose weights depend on each other, such as the posterior of earlier data.

The precision of the rows is added to the whole precision of the prior, not to its diagonal:

| structure                | prior                                            | what is added                        |
|--------------------------|--------------------------------------------------|--------------------------------------|
| `"full"`, `"last_layer"` | any; other than `LowRankPrecision`, a `FullRank` | all of it                            |
| `"low_rank"`             | `LowRankPrecision`                               | its leading directions, and no more  |
| `"kron"`                 | `Kronecker`                                      | in bases of the sum: `factors.bases` |
| `"diag"`                 | any                                              | the diagonals                        |
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.tree import Tree
from bbb.curvature import lanczos, structures
from bbb.curvature.problem import Needs, Problem, Size
from bbb.errors import InputError, ShapeError, fail
from bbb.posteriors.correlated.conversion import as_full_rank
from bbb.posteriors.correlated.full_rank import FullRank
from bbb.posteriors.correlated.kronecker import Kronecker
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.priors.multivariate_normal import MultivariateNormal, is_dependent
from bbb.priors.normal import Normal

EXACT = ("full", "last_layer")
GIVEN = {"kron": Kronecker, "low_rank": LowRankPrecision}
"""Structures that a prior of one kind alone goes with."""


def prior_for(prior: Any, structure: str) -> Any:
    """Return a prior in the form that a structure takes; one of independent weights as it is.

    Raises:
        InputError: for a prior that does not go with the structure.
    """
    if not is_dependent(prior):
        return prior
    known = prior.distribution
    if structure in EXACT:
        return prior if isinstance(known, FullRank | LowRankPrecision) else MultivariateNormal(as_full_rank(known))
    kind = GIVEN.get(structure)
    if kind is not None and not isinstance(known, kind):
        expected = f"a prior of a {kind.__name__} for the structure {structure!r}"
        do = 'Pass structure="full", which takes any, or "diag".'
        fail(InputError, expected, f"one of a {type(known).__name__}", do)
    return prior


def needs_for(needs: Needs, prior: Any) -> Needs:
    """Return how much memory a structure needs with a prior."""
    if not is_dependent(prior) or needs.structure not in EXACT:
        return needs
    before = len(prior.distribution.factor) if isinstance(prior.distribution, LowRankPrecision) else None
    return needs._replace(held=partial(_held, before=before))


def _held(size: Size, before: int | None) -> int:
    """Return how many numbers the full matrix takes, after a prior of so many rows; None for one of a matrix."""
    rows = size.weights if before is None else min(size.weights, before + size.rows)
    return structures.held_full(size._replace(rows=rows))


def check_leaves(problem: Problem) -> None:
    """Raise unless the prior is about the leaves that are random.

    Raises:
        ShapeError: naming the numbers of weights.
    """
    known = problem.prior.distribution
    of_prior = known.random_leaves(known.params)
    if jax.tree.map(np.shape, of_prior) != jax.tree.map(np.shape, problem.random):
        expected = "a prior about the weights that the structure takes as random"
        sizes = (sum(map(np.size, jax.tree.leaves(tree))) for tree in (of_prior, problem.random))
        got = "one of {:,} weights for {:,}".format(*sizes)
        fail(ShapeError, expected, got, "Take the structure that the prior was made with.")


def posterior(key: jax.Array, problem: Problem, size: Size, structure: str, rank: int) -> GaussianPosterior:
    """Return the posterior of the structure "full", "last_layer" or "low_rank".

    Raises:
        NonFiniteOutputError: if the Gauss-Newton is not finite.
    """
    known = problem.prior.distribution
    if structure == "low_rank":
        found: Any = lanczos.low_rank(key, _without_rows(problem), size, rank)
        return _added(problem.params, known, found, max(rank, len(known.factor)))
    if isinstance(known, LowRankPrecision) and len(known.factor) + size.rows < size.weights:
        return _added(problem.params, known, structures.full(_without_rows(problem), size))
    return structures.by_weights(problem, size)


def _without_rows(problem: Problem) -> Problem:
    """Return the problem with the diagonal of the prior's precision alone, D⁻²."""
    known = problem.prior.distribution
    alone = known.diagonal_alone
    return dataclasses.replace(problem, prior=Normal(alone.random_leaves(alone.mean), alone.std))


def _added(params: Tree, known: LowRankPrecision, found: Any, most: int | None = None) -> LowRankPrecision:
    """Return the Gaussian around `params` of the rows of both."""
    dtype = jnp.promote_types(known.factor.dtype, found.factor.dtype)
    return structures.joined(params, known.log_diagonal, [part.factor.astype(dtype) for part in (known, found)], most)
