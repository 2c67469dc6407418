"""The posterior of Kronecker factors of the Gauss-Newton matrix, half its log determinant, and `explain`."""

from functools import partial

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from bbb.core.jit import jit
from bbb.core.noise import SMALL
from bbb.core.tree import Tree, is_none, names
from bbb.curvature import factors, rows
from bbb.curvature.problem import Form, Problem, Size, sites_of
from bbb.data import rows_for
from bbb.forwards.explanation import Explanation, Route
from bbb.model import BNN
from bbb.posteriors.correlated.kronecker import Kronecker, as_basis, as_matrix, from_matrix
from bbb.priors.multivariate_normal import is_dependent
from bbb.tracing import purity
from bbb.tracing.convolutions import channels_last
from bbb.tracing.products import Site


def posterior(problem: Problem, size: Size) -> Kronecker:
    """Return the posterior of the factors and the prior.

    Raises:
        NonFiniteOutputError: if they are not finite.
    """
    log_std, left, right, fine = _parts(problem, form=size.form, large=size.rows * size.weights > SMALL)
    rows.check_finite(fine, (log_std, left, right))
    return Kronecker(problem.params, log_std, left, right)


def half_log_det(problem: Problem, form: Form) -> tuple[jax.Array, jax.Array]:
    """Return ½·log det of the precision, a scalar, and the finite rows."""
    _, precisions, fine = _found(problem, form)
    zero = jnp.zeros((), problem.real.dtype)
    return 0.5 * sum((jnp.sum(jnp.log(leaf)) for leaf in precisions), zero), fine


@partial(jit, static_argnames=("form",))
@channels_last
def _parts(problem: Problem, *, form: Form) -> tuple[Tree, Tree, Tree, jax.Array]:
    """Return the fields of the posterior after its mean, and the finite rows."""
    bases, precisions, fine = _found(problem, form)
    every = list(zip(bases, precisions, form.sites, strict=True))
    log_stds = [-0.5 * jnp.log(from_matrix(p, site.shape, site.inputs or ())) for _, p, site in every]
    lefts = [None if b.left is None else as_basis(b.left, s.shape, s.inputs or ()) for b, _, s in every]
    rights = [None if b.right is None else as_basis(b.right, s.shape, _others(s)) for b, _, s in every]
    log_std = jax.tree.map(lambda w, s: s.astype(w.dtype), problem.random, factors.like(problem.random, log_stds))
    return log_std, factors.like(problem.random, lefts), factors.like(problem.random, rights), fine


def _others(site: Site) -> tuple[int, ...]:
    return tuple(axis for axis in range(len(site.shape)) if axis not in (site.inputs or ()))


def _found(problem: Problem, form: Form) -> tuple[list[factors.Basis], list[jax.Array], jax.Array]:
    """Return bases and precisions of each leaf, and the finite rows."""
    prior = _prior_of(problem, form)
    bases, fine = factors.bases(problem, form.sites, prior)
    precisions, _ = factors.precisions(problem, form.sites, bases, prior)
    return bases, precisions, fine


def _prior_of(problem: Problem, form: Form) -> list[factors.PriorBlock]:
    """Return the prior's precision of each leaf."""
    dtype = problem.real.dtype

    def matrix(leaf: jax.Array, site: Site) -> jax.Array:
        return as_matrix(leaf.astype(dtype), site.inputs or ()).reshape(site.fan_in, site.fan_out)

    if not is_dependent(problem.prior):
        curvatures = jax.tree.leaves(problem.prior.curvature(problem.random))
        return [factors.PriorBlock(matrix(leaf, site)) for leaf, site in zip(curvatures, form.sites, strict=True)]
    known, leaves = problem.prior.distribution, partial(jax.tree.leaves, is_leaf=is_none)
    parts = zip(*map(leaves, (known.log_std, known.left, known.right)), strict=True)
    present = (part for part in parts if part[0] is not None)
    return [_block(matrix(jnp.exp(-2 * s), site), u, v) for (s, u, v), site in zip(present, form.sites, strict=True)]


def _block(precision: jax.Array, left: jax.Array | None, right: jax.Array | None) -> factors.PriorBlock:
    if left is None or right is None:
        return factors.PriorBlock(precision)
    bases = (basis.reshape(-1, basis.shape[-1]).astype(precision.dtype) for basis in (left, right))
    return factors.PriorBlock(precision, factors.Basis(*bases))


def explain(model: BNN, x: ArrayLike) -> Explanation:
    """Return what `laplace(..., structure="kron")` keeps of each leaf of the parameters, and why.

    Nothing is computed. A route is "factors n × m", of a leaf that one product of n inputs and m outputs uses; "own
    block", exactly that of the matrix, of all other vectors; "diagonal" of all other leaves; or "point estimate".

    Args:
        model: of whose means only shapes and dtypes matter.
        x: likewise, (rows, ...).

    Raises:
        InputError, ShapeError, NonFiniteInputError: for what is not a model or rows of data, or a network that JAX
            cannot trace.
    """
    x = rows_for(model, "x", x)
    one = model.posterior.component(0)
    params, random = one.params, one.random_leaves(one.params)
    purity.output_shape(model.apply, params, x)
    found = dict(zip(names(random), sites_of(model.apply, params, random, x), strict=True))
    return Explanation(_route(name, found.get(name)) for name in names(params))


def _route(name: str, site: Site | None) -> Route:
    if site is None:
        return Route(name, "point estimate", "has no standard deviation")
    at = f", at {site.places} places of a row" if site.places > 1 else ""
    routes = {
        factors.KRON: f"factors {site.fan_in} × {site.fan_out}",
        factors.VECTOR: "own block",
        factors.DIAGONAL: "diagonal",
    }
    return Route(name, routes[factors.kind_of(site)], site.reason + at, site.line)
