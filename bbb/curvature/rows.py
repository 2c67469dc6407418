"""The square root of the Gauss-Newton matrix, row by row, and what is accumulated of it in one pass over the data.

With A·Aᵀ the Fisher information in the outputs of a row of data and J its Jacobian, (k, d), the Gauss-Newton matrix is
the sum of VᵢᵀVᵢ with Vᵢ = Aᵀ·J, (k, d), or √w·Aᵀ·J for a row that counts w times. It is kept as a square root where it
can be: a sum of squares has the square of its condition, which float32 cannot hold for noise of 0.01 beside a prior of
1.

Source: Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent", Neural Comput. 14;
Martens 2020, JMLR 21(146), for the Fisher information in its middle.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.scipy.linalg import solve_triangular

from bbb.core.rows import as_row, some_rows
from bbb.core.tree import Tree, to_vector
from bbb.core.triangles import divided, near_triangle_of, triangle_of
from bbb.curvature.problem import Form, Problem
from bbb.errors import NonFiniteOutputError, fail
from bbb.likelihoods.protocol import fisher_root_of
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision
from bbb.priors.multivariate_normal import is_dependent


def of_tile(problem: Problem, x: Tree, y: jax.Array, spread: jax.Array) -> jax.Array:
    """Return Vᵢ of each row of a tile, (size, k, d), times its `spread`: 0 for what is no row."""
    dtype = spread.dtype

    def of_row(row: Tree, target: jax.Array, times: jax.Array) -> jax.Array:
        found, pullback = jax.vjp(lambda random: problem.network(random, as_row(row)), problem.random)
        root = fisher_root_of(problem.likelihood, target[None], found)[0].astype(dtype)
        # the barrier keeps XLA from computing the derivatives of activations anew for each weight that they meet; here,
        # within the map over rows, no weight is copied for each of them
        found, root, pullback = lax.optimization_barrier((found, root, pullback))
        units = jnp.eye(found.size, dtype=found.dtype).reshape(-1, *found.shape)
        (jacobian,) = jax.vmap(pullback)(units)
        flat = [leaf.reshape(found.size, -1).astype(dtype) for leaf in jax.tree.leaves(jacobian)]
        return times * (root.T @ jnp.concatenate(flat, axis=1))

    return jax.vmap(of_row)(x, y, spread)


def _tiles(problem: Problem) -> Tree:
    return problem.x, problem.y, problem.spread


def all_rows(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """Return V of all data, (r, d), and whether each row of data is finite, (tiles, size); filled-up rows are 0."""

    def tile(part: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        rows = of_tile(problem, *part)
        return rows, finite(rows)

    rows, fine = lax.map(jax.checkpoint(tile), _tiles(problem))
    return rows.reshape(-1, rows.shape[-1]), fine


def triangle(problem: Problem, of: Callable[[jax.Array], jax.Array] = triangle_of) -> tuple[jax.Array, jax.Array]:
    """Return the lower triangular T, (d, d), with Tᵀ·T = Vᵀ·V + P, of positive diagonal; and the finite rows.

    P is the precision of the prior. T is that of QR decompositions, tile after tile: of the rows so far as a triangle,
    which is the unit of the next rows, so that these do not dwarf it; with the weights in reverse order, so that T
    comes out lower triangular.
    """

    def turned(part: Tree) -> tuple[jax.Array, jax.Array]:
        rows = of_tile(problem, *part)
        return rows.reshape(-1, rows.shape[-1])[:, ::-1], finite(rows)

    def step(above: jax.Array, part: Tree) -> tuple[jax.Array, jax.Array]:
        rows, fine = turned(part)
        return of(divided(rows, above)) @ above, fine

    tiles = _tiles(problem)
    if len(problem.real) == 1 and not is_dependent(problem.prior):  # a diagonal unit: nothing is to be solved
        rows, fine = turned(some_rows(tiles, 0))
        scale = jnp.exp(problem.log_scale[::-1])[None]
        upper, fine = of(rows * scale) / scale, fine[None]
    else:
        upper, fine = lax.scan(jax.checkpoint(step), _prior_triangle(problem), tiles)
    return upper[::-1, ::-1], fine


def _prior_triangle(problem: Problem) -> jax.Array:
    """Return the upper triangular R, (d, d), with Rᵀ·R the precision of the prior with the weights in reverse order."""
    if not is_dependent(problem.prior):
        return jnp.diag(jnp.exp(-problem.log_scale[::-1]))
    known, dtype = problem.prior.distribution, problem.real.dtype
    if isinstance(known, LowRankPrecision):
        scale = jnp.exp(to_vector(known.log_diagonal, dtype))[::-1]
        return triangle_of(known.factor.astype(dtype)[:, ::-1] * scale[None]) / scale[None]
    return solve_triangular(known.scale.astype(dtype), jnp.eye(problem.weights, dtype=dtype), lower=True)[::-1, ::-1]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def half_log_det(problem: Problem, form: Form, near: bool) -> tuple[jax.Array, jax.Array]:
    """Return ½·log det H, a scalar, of H = Vᵀ·V + P, with P the precision of the prior; and the finite rows.

    `near` takes less time, with an error of up to about 0.01 in float32.
    """
    return _determinant(problem, form, near)[:2]


def _determinant(problem: Problem, form: Form, near: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ½·log det H, the finite rows, and the triangle: T, (d, d), or that of the rows, (r, r)."""
    of = near_triangle_of if near else triangle_of
    if not _is_in_rows(problem, form):
        below, fine = triangle(problem, of)
        return jnp.sum(jnp.log(jnp.diagonal(below))), fine, below
    every, fine = _scaled_rows(problem)
    cholesky = of(every.T).T
    return jnp.sum(jnp.log(jnp.diagonal(cholesky))) - jnp.sum(problem.log_scale), fine, cholesky


def _scaled_rows(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """Return V·D of all data, (r, d), and the finite rows; the last rows come first.

    Columns of zeros, of copies, cost a decomposition nothing where they come first, and a third of its time at the end.
    """
    every, fine = all_rows(problem)
    return every[::-1] * jnp.exp(problem.log_scale)[None], fine


def _is_in_rows(problem: Problem, form: Form) -> bool:
    """Return whether the determinant is that of a matrix of rows; a dependent prior has a triangle of weights."""
    return form.in_rows and not is_dependent(problem.prior)


def _half_log_det_jvp(form: Form, near: bool, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Differentiate ½·log det H as Σᵢ⟨Vᵢ·H⁻¹, dVᵢ⟩ + ½·⟨H⁻¹, dP⟩, which takes no derivative of a decomposition.

    Only in what does move: the root of how often a copy counts, which is 0, has no derivative.
    """
    (problem,), (moved,) = primals, tangents
    nats, fine, below = _determinant(problem, form, near)
    leaves = jax.tree.leaves(problem)
    moves = {i: t for i, t in enumerate(jax.tree.leaves(moved)) if not isinstance(t, SymbolicZero)}
    slope = _slope_in_rows if _is_in_rows(problem, form) else _slope

    def along(some: dict[int, jax.Array]) -> jax.Array:
        every = [some.get(i, leaf) for i, leaf in enumerate(leaves)]
        return slope(problem, below, jax.tree.unflatten(jax.tree.structure(problem), every))

    _, change = jax.jvp(along, ({i: leaves[i] for i in moves},), (moves,))
    return (nats, fine), (change, np.zeros(fine.shape, jax.dtypes.float0))


half_log_det.defjvp(_half_log_det_jvp, symbolic_zeros=True)


def _slope(known: Problem, below: jax.Array, moving: Problem) -> jax.Array:
    """Return what changes with `moving` as ½·log det H does where that is `known`, of the triangle T."""

    def change(before: jax.Array, rows: jax.Array) -> jax.Array:
        """Return the sum of rows, (m, d), times those before them times H⁻¹ = T⁻¹·T⁻ᵀ."""
        halfway = solve_triangular(below, before.T, lower=True, trans="T")
        return jnp.sum(solve_triangular(below, halfway, lower=True).T * rows)

    def tile(total: jax.Array, parts: tuple[Tree, Tree]) -> tuple[jax.Array, None]:
        before, rows = (of_tile(one, *part) for one, part in zip((known, moving), parts, strict=True))
        return total + change(before.reshape(-1, len(below)), rows.reshape(-1, len(below))), None

    of_prior = change(*(_prior_triangle(one)[:, ::-1] for one in (known, moving)))
    return lax.scan(jax.checkpoint(tile, prevent_cse=False), of_prior, (_tiles(known), _tiles(moving)))[0]


def _slope_in_rows(known: Problem, below: jax.Array, moving: Problem) -> jax.Array:
    """Return what changes with `moving` as ½·log det H does where that is `known`, of the triangle of I + V·D²·Vᵀ."""
    before, scaled = (_scaled_rows(one)[0] for one in (known, moving))
    halfway = solve_triangular(below, before, lower=True)
    pulled = solve_triangular(below, halfway, lower=True, trans="T")
    return jnp.sum(pulled * scaled) - jnp.sum(moving.log_scale)


def finite(rows: jax.Array) -> jax.Array:
    """Return which rows of data have a finite V, (size,)."""
    return jnp.isfinite(rows).all(axis=(1, 2))


def check_finite(fine: jax.Array, made: Tree) -> None:
    """Raise if V is not finite at some row of data, or what was made of it is not; tracers pass.

    Raises:
        NonFiniteOutputError: naming the first row.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((fine, made))):
        return
    wrong = np.argwhere(~np.asarray(fine).reshape(-1))
    if len(wrong):
        do = "Look there for a division by 0, a square root of 0, or an overflow of the network or its gradient."
        fail(NonFiniteOutputError, "a finite Gauss-Newton", f"NaN or infinity at row {wrong[0][0]}", do)
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(made)):
        do = "Use float64, a larger noise, or inputs of moderate size."
        fail(NonFiniteOutputError, "a finite Gauss-Newton", "an overflow in the sum over all rows", do)
