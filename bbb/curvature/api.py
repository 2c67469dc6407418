"""`laplace`: from a trained model to one with a Gaussian posterior of the curvature at its means."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.curvature import dependent, factors, kronecker, lanczos, structures
from bbb.curvature.problem import Needs, Problem, Size, problem_of
from bbb.errors import InputError, fail
from bbb.model import BNN, check_model
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision
from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.verbs import check_gaussians
from bbb.priors.multivariate_normal import is_dependent

STRUCTURES = ("full", "last_layer", "kron", "low_rank", "diag")


def laplace(
    key: jax.Array,
    model: BNN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    structure: str = "full",
    rank: int = 32,
    batch_size: int | None = None,
    memory: int | str = "2GB",
    sample_weight: ArrayLike | None = None,
) -> BNN:
    """Return the model with a Laplace posterior: a Gaussian around its means, of the curvature of the data there.

    Its precision is the sum over the rows of Jᵀ·F·J, the generalised Gauss-Newton matrix, and the curvature of the
    prior: J is the Jacobian of the outputs in the random weights, F the Fisher information of y in the outputs. For
    likelihoods whose outputs are natural parameters (Gaussian, Categorical, Bernoulli, Poisson) F is minus the Hessian
    of log p(y | outputs); for the others its expectation, which has no negative eigenvalue. Means, prior and likelihood
    stay what they are, and so do the leaves that are point estimates. Each member of an ensemble gets its own.

    Structures, for d weights and r rows times outputs:

    ==============  ================================================================  =======================
    structure       posterior                                                         memory, numbers
    ==============  ================================================================  =======================
    `"full"`        all of it: `FullRank` if d ≤ r, and otherwise `LowRankPrecision`  14·d², or 6·r·d + 10·r²
    `"last_layer"`  the same of the last layer, all other leaves point estimates      the same of its weights
    `"kron"`        `Kronecker`: two factors of each leaf, as `explain` says          8·Σ(n² + m²) + 8·d
    `"low_rank"`    `LowRankPrecision`: its `rank` leading directions                 (4·rank + 40)·d + 4·r
    `"diag"`        `MeanField`: its diagonal                                         8·d
    ==============  ================================================================  =======================

    and the Jacobians of the rows that are evaluated at once; of `"kron"` and `"diag"` only what dense and convolutional
    layers, of n inputs and m outputs, meet in those rows; of `"low_rank"` none.

    In the space of rows, `"full"` and `"last_layer"` turn the rows to directions that are orthogonal in units of the
    prior, and keep those that say more than rounding, 32, 64, 96, … of them: few where a network is smooth in few
    inputs. Beyond 2·10¹⁰ multiplications, r²·d, they keep the rows as they are.

    `"kron"` approximates the block of a leaf by A⊗B and takes leaves for independent: with a the inputs that the leaf
    meets at a place of a row, and g the gradients there of the outputs times √F, A is the mean of a·aᵀ over rows and
    places, and B the sum of g·gᵀ (KFAC-expand). It is exact for a leaf whose g are the same in all rows, such as a
    layer without hidden units under Gaussian noise. A prior whose precision differs within a leaf counts by its
    diagonal in the eigenbases of A and B.

    A prior whose weights depend on each other, a `bbb.priors.MultivariateNormal`, is added as a whole, which makes the
    posterior of earlier data the prior of new ones: see `bbb.decide.update`, and `bbb.curvature.dependent` for which
    structures go with which priors.

    Args:
        key: one typed JAX key: where the search for leading directions starts; other structures are without chance.
        model: trained; a point estimate as well as a posterior, of which the means count.
        x: (rows, ...), the data it was trained on.
        y: the shape of the network's outputs, (rows, ...).
        structure: one of those above.
        rank: the number of directions of `"low_rank"`, those in which the data say most in units of the prior.
        batch_size: how many rows are evaluated at once; by default as many as the memory allows, up to a few thousand.
            The result depends on it by rounding alone.
        memory: bound on the working memory, such as "2GB".
        sample_weight: (rows,), finite and at least 0: how often each row counts, as in `fit`; by default once. Its
            Jᵀ·F·J is multiplied by it, so that a row of weight 2 is the row twice.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, a likelihood or a
            prior without curvature, a network that mixes rows, or too little memory: before the pass over the data.
        NonFiniteOutputError: if the Gauss-Newton is NaN or infinite; it names the first row.

    Source: MacKay 1992, "A practical Bayesian framework for backpropagation networks", Neural Comput. 4, 448; Immer et
    al. 2021, arXiv 2008.08400, which shows why the Gauss-Newton matrix goes with the linearised network. For `"kron"`,
    Ritter et al. 2018, "A scalable Laplace approximation for neural networks", and Eschenhagen et al. 2023, arXiv
    2311.00636.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> wide = bbb.laplace(jax.random.key(2), model, task.x, task.y)
        >>> type(wide.posterior).__name__, wide.linearized
        ('FullRank', True)
    """
    checks.key(key)
    check_structure(structure, STRUCTURES, "laplace")
    rank = checks.positive_integer("rank", rank)
    check_model(model)
    check_gaussians(model.posterior, "laplace")
    checks.outside("laplace", key=key, model=model, x=x, y=y, sample_weight=sample_weight)
    whole = dataclasses.replace(model, prior=dependent.prior_for(model.prior, structure))
    needs = dependent.needs_for(needs_of(structure, rank), whole.prior)

    def of_member(k: int) -> GaussianPosterior:
        problem, size = problem_of("laplace", whole.member(k), x, y, needs, batch_size, memory, sample_weight)
        own_key = partial(jax.random.fold_in, key, np.uint32(k))  # made where it is used: it is a program
        if is_dependent(problem.prior):
            dependent.check_leaves(problem)
            if structure in ("full", "last_layer", "low_rank"):
                return dependent.posterior(own_key(), problem, size, structure, rank)
        if structure == "low_rank":
            return lanczos.low_rank(own_key(), problem, size, rank)
        return _posterior(problem, size, structure)

    made = [of_member(k) for k in range(model.members)]
    posterior = _joined(made) if model.posterior.is_mixture else made[0]
    return dataclasses.replace(model, posterior=posterior, linearized=True)


def _joined(made: Any) -> Ensemble:
    """Return the members' posteriors as one; each takes as many directions as the one of most."""
    if isinstance(made[0], LowRankPrecision):
        most = max(len(one.factor) for one in made)
        made = [one.padded(most) for one in made]
    return Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *made))


def check_structure(structure: object, words: tuple[str, ...], verb: str) -> None:
    """Raise for what is not one of the structures.

    Raises:
        InputError: naming those that are.
    """
    if not checks.is_word(structure, words):
        known = ", ".join(f'"{word}"' for word in words)
        fail(InputError, f"structure of {verb} to be one of {known}", repr(structure), "Pass one of them.")


def _posterior(problem: Problem, size: Size, structure: str) -> GaussianPosterior:
    """Return the posterior of a structure without chance."""
    if structure == "diag":
        return structures.diagonal(problem, size)
    if structure == "kron":
        return kronecker.posterior(problem, size)
    return structures.full(problem, size)


def needs_of(structure: str, rank: int = 32) -> Needs:
    """Return how much memory a structure needs."""
    if structure == "low_rank":
        return Needs(structure, partial(lanczos.held, rank=rank), None)
    if structure in ("diag", "kron"):
        held = structures.held_diagonal if structure == "diag" else factors.held
        return Needs(structure, held, factors.held_of_row, sites=True)
    return Needs(structure, structures.held_full, structures.jacobian_of_row, structures.rows_of_triangle)
