"""Which structure of the curvature a model and its data allow."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from bbb import checks
from bbb.core.noise import at_least_float32
from bbb.core.rows import count_rows
from bbb.core.tree import count, widest_dtype
from bbb.curvature.api import needs_of
from bbb.curvature.dependent import check_leaves, needs_for, prior_for
from bbb.curvature.problem import Size, fewest_bytes, prior_of, problem_of, random_of
from bbb.data import rows_for
from bbb.errors import InputError
from bbb.likelihoods.per_member import PerMember
from bbb.likelihoods.protocol import check_fisher
from bbb.model import BNN
from bbb.priors.multivariate_normal import is_dependent
from bbb.tracing import purity

EXACT = ("full", "last_layer")


def structure_for(model: BNN, x: Any, memory: int | str = "2GB") -> str:
    """Return the structure with which `laplace` should be asked: "full" where it fits in memory.

    Otherwise "last_layer", which says nothing of the layers before but is exact in that; and "low_rank" where the
    outputs are not linear in any layer, or the last one is too large as well.

    Args:
        model: of one posterior or several, trained or not.
        x: (rows, ...), the data.
        memory: bound on the working memory, such as "2GB".

    Raises:
        InputError, ShapeError, NonFiniteInputError: for arguments that do not fit.
    """
    limit = checks.memory(memory)
    one = model.member(0)
    x = rows_for(one, "x", x)
    return next((structure for structure in EXACT if _fits(one, x, structure, limit)), "low_rank")


def _fits(model: BNN, x: Any, structure: str, limit: int) -> bool:
    """Return whether a structure fits in so many bytes; False of "last_layer" if outputs are linear in no layer."""
    a_row = math.prod(purity.output_shape(model.apply, model.posterior.params, x).shape[1:])
    try:
        random = random_of(model, x, structure)
    except InputError:
        return False
    itemsize = jnp.dtype(at_least_float32(widest_dtype(random))).itemsize
    size = Size(count(random), count_rows(x) * a_row, itemsize, a_row)
    fixed, each = fewest_bytes(model, x, size, needs_for(needs_of(structure), model.prior))
    return fixed + each <= limit


def check_parts(model: BNN, verb: str) -> None:
    """Raise for a likelihood without Fisher information, or a prior without curvature: of an untrained model too.

    Raises:
        InputError: naming what it lacks.
    """
    likelihood: Any = model.likelihood
    check_fisher(likelihood.likelihood if isinstance(likelihood, PerMember) else likelihood, verb)
    prior_of(model, verb)


def check_problem(
    verb: str, model: BNN, x: Any, y: Any, structure: str, rank: int, memory: int | str, sample_weight: Any
) -> None:
    """Raise what `laplace` raises before its pass over the data; nothing is computed.

    Raises:
        InputError, ShapeError, NonFiniteInputError: as `laplace`.
    """
    model = dataclasses.replace(model, prior=prior_for(model.prior, structure))
    needs = needs_for(needs_of(structure, rank), model.prior)
    problem, _ = problem_of(verb, model, x, y, needs, None, memory, sample_weight)
    if is_dependent(problem.prior):
        check_leaves(problem)
