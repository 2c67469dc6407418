"""`log_evidence`: how probable the data are under a model, by the curvature at its means."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from numpy.typing import ArrayLike

from bbb.core.jit import jit
from bbb.curvature import dependent, rows, structures
from bbb.curvature.api import check_structure, needs_of
from bbb.curvature.problem import Form, Problem, Size, problem_of
from bbb.model import BNN, check_model
from bbb.priors.multivariate_normal import is_dependent
from bbb.tracing.convolutions import channels_last

STRUCTURES = ("full", "last_layer", "kron", "diag")


def log_evidence(
    model: BNN,
    x: ArrayLike,
    y: ArrayLike,
    structure: str = "full",
    *,
    batch_size: int | None = None,
    memory: int | str = "2GB",
    sample_weight: ArrayLike | None = None,
) -> jax.Array:
    """Return Laplace's estimate of log p(y | x, model) at the means of its posterior: nats, a scalar.

    log p(y | x, w) + log p(w) + ½·d·log 2π − ½·log det H, at the means w of the d random weights, with H the precision
    of `laplace`. It is exact for a network that is linear in its weights, with Gaussian noise and prior, at the mean of
    its posterior; elsewhere it is an estimate for comparing priors, noises and networks at their own modes.

    Differentiable in the prior's standard deviations and the likelihood's parameters, with the means as they are, and
    in the means; with "kron" with the eigenbases as they are, which the determinant does not depend on to first order
    where the prior has one scale for each leaf. Works within compiled functions too.

    Args:
        model: trained, of one posterior, of which only the means count.
        x: (rows, ...), the data it was trained on.
        y: the shape of the network's outputs, (rows, ...).
        structure: "full"; "last_layer", where all leaves before it are taken as given; "kron", where H is that of
            Kronecker factors; or "diag", where H is its diagonal, so that the estimate is a lower one, by Hadamard's
            inequality.
        batch_size: how many rows are evaluated at once; by default as many as the memory allows.
        memory: bound on the working memory of a value; a gradient takes several times as much.
        sample_weight: (rows,), finite and at least 0: how often each row counts, as for `laplace`; by default once.

    Raises:
        InputError, ShapeError, NonFiniteInputError: as `laplace`.
        NonFiniteOutputError: if the Gauss-Newton is NaN or infinite; it names the first row.

    Source: MacKay 1992, "The evidence framework applied to classification networks", Neural Comput. 4, 720; Immer et
    al. 2021, arXiv 2104.04975, eq. 6.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> evidence = bbb.log_evidence(model, task.x, task.y)
        >>> evidence.shape, bool(evidence < 0)
        ((), True)
    """
    problem, size = evidence_problem("log_evidence", model, x, y, structure, batch_size, memory, sample_weight)
    nats, fine = evidence(problem, form=size.form, structure=structure, large=structures.is_large(size, structure))
    rows.check_finite(fine, nats)
    return nats


def evidence_problem(
    verb: str,
    model: BNN,
    x: ArrayLike,
    y: ArrayLike,
    structure: str,
    batch_size: int | None,
    memory: int | str,
    sample_weight: ArrayLike | None = None,
) -> tuple[Problem, Size]:
    """Check the arguments of a verb that needs the evidence, and return what it is computed from.

    Raises:
        InputError, ShapeError, NonFiniteInputError: as `log_evidence`.
    """
    check_structure(structure, STRUCTURES, verb)
    check_model(model)
    model = dataclasses.replace(model, prior=dependent.prior_for(model.prior, structure))
    needs = dependent.needs_for(needs_of(structure), model.prior)
    problem, size = problem_of(verb, model, x, y, needs, batch_size, memory, sample_weight)
    if is_dependent(problem.prior):
        dependent.check_leaves(problem)
    return problem, size


@partial(jit, static_argnames=("form", "structure", "near"))
@channels_last
def evidence(problem: Problem, *, form: Form, structure: str, near: bool = False) -> tuple[jax.Array, jax.Array]:
    """Return the evidence, a scalar, and the finite rows; `near` to about 0.01 nats in float32, in less time."""
    half, fine = structures.half_log_det(problem, form, structure, near)
    return log_joint(problem) + 0.5 * problem.weights * math.log(2 * math.pi) - half, fine


def log_joint(problem: Problem) -> jax.Array:
    """Return log p(y | x, w) + log p(w) of all rows and random weights, at the means: nats, a scalar."""
    nats = log_likelihood(problem)
    return nats + problem.prior.log_prob(problem.random).astype(nats.dtype)


def log_likelihood(problem: Problem) -> jax.Array:
    """Return log p(y | x, w) of all rows, at the means: nats, a scalar."""

    def tile(total: jax.Array, part: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x, y, real = part
        nats = problem.likelihood.log_prob(y, problem.network(problem.random, x)).astype(real.dtype)
        return total + jnp.sum(real * nats), None

    zero = jnp.zeros((), problem.real.dtype)
    return lax.scan(jax.checkpoint(tile), zero, (problem.x, problem.y, problem.real))[0]
