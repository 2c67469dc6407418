"""The leading directions of the Gauss-Newton matrix, by products with vectors alone."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb.core.jit import jit
from bbb.core.tree import Tree, from_vector, to_vector
from bbb.curvature import rows
from bbb.curvature.problem import Problem, Size
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision

MORE_STEPS = 20
"""Steps beyond twice the rank: the outermost directions of that many are found to rounding in most cases."""


def steps_of(size: Size, rank: int) -> int:
    """Return how many steps of the search find `rank` directions: no more than there can be."""
    return min(size.weights, size.rows + 1, 2 * rank + MORE_STEPS)


def held(size: Size, rank: int) -> int:
    """Return how many numbers the search takes: its basis, and the directions with a copy."""
    return (steps_of(size, rank) + 2 * rank + 8) * size.weights


def low_rank(key: jax.Array, problem: Problem, size: Size, rank: int) -> LowRankPrecision:
    """Return the posterior of the leading directions of the Gauss-Newton matrix, in units of the prior.

    With D the standard deviations of the prior and u an eigenvector of D·Vᵀ·V·D of eigenvalue λ, a row of the factor
    is √λ·uᵀ·D⁻¹. All other directions keep the prior's spread.

    Raises:
        NonFiniteOutputError: if the matrix is not finite.
    """
    steps = steps_of(size, rank)
    wide, factor, cholesky = _leading(key, problem, steps=steps, rank=min(rank, steps, size.rows), large=True)
    if not np.isfinite(np.asarray(cholesky)).all():
        rows.check_finite(_finite_rows(key, problem, large=True), cholesky)
    return LowRankPrecision(problem.params, wide, factor, cholesky)


@partial(jit, static_argnames=("steps", "rank"))
def _leading(key: jax.Array, problem: Problem, *, steps: int, rank: int) -> tuple[Tree, jax.Array, jax.Array]:
    """Return the prior's log scales, the factor, (rank, d), and the triangle of its posterior, (rank, rank)."""
    scale = jnp.exp(problem.log_scale)
    basis, tridiagonal = lanczos(key, lambda v: scale * _product(problem, scale * v), len(scale), steps, scale.dtype)
    values, vectors = jnp.linalg.eigh(tridiagonal)
    roots = jnp.sqrt(jnp.maximum(values[-rank:], 0))
    factor = roots[:, None] * (vectors[:, -rank:].T @ basis) / scale[None]
    triangle = jnp.diag(jnp.hypot(roots, jnp.ones_like(roots)))  # rows are orthogonal in units of the prior
    return problem.wide, factor, triangle


def lanczos(key: jax.Array, product: Any, size: int, steps: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Return orthonormal rows Q, (steps, size), and the tridiagonal T, (steps, steps), with Q·M·Qᵀ = T.

    Every new row is made orthogonal to all before it, twice. Where the space is exhausted, the search goes on from a
    new random direction.

    Args:
        key: of the directions to start from.
        product: v -> M·v, of a symmetric M, (size, size).
        size: of a vector.
        steps: at most `size`.
        dtype: of all numbers.

    Source: Golub & Van Loan 2013, Matrix Computations, §10.3; "twice is enough", Parlett 1998, The Symmetric
    Eigenvalue Problem, §6.9.
    """

    def apart(v: jax.Array, basis: jax.Array) -> jax.Array:
        v = v - (basis @ v) @ basis
        return v - (basis @ v) @ basis

    def fresh(i: Any, basis: jax.Array) -> jax.Array:
        v = apart(jax.random.normal(jax.random.fold_in(key, i), (size,), dtype), basis)
        return v / jnp.linalg.norm(v)

    def step(i: jax.Array, state: Tree) -> Tree:
        basis, diagonal, beside = state
        v = product(basis[i])
        alpha = v @ basis[i]
        v = apart(v, basis)
        beta = jnp.linalg.norm(v)
        reach = jnp.maximum(jnp.max(jnp.abs(diagonal)), jnp.abs(alpha))
        ended = beta <= math.sqrt(size) * jnp.finfo(dtype).eps * reach
        follows = lax.cond(ended, lambda: fresh(i + 1, basis), lambda: v / beta)
        basis = jnp.where((i + 1 < steps), basis.at[i + 1].set(follows), basis)
        return basis, diagonal.at[i].set(alpha), beside.at[i].set(jnp.where(ended, 0, beta))

    basis = jnp.zeros((steps, size), dtype)
    zeros = jnp.zeros(steps, dtype)
    start = basis.at[0].set(fresh(0, basis))
    basis, diagonal, beside = lax.fori_loop(0, steps, step, (start, zeros, zeros))
    return basis, jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)


def _product(problem: Problem, vector: jax.Array) -> jax.Array:
    """Return Vᵀ·V·vector, (d,), in one pass over the data, tile by tile."""
    tangents = from_vector(vector, problem.random)

    def tile(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x, real = part
        outputs, push, pull = _linear(problem, x)
        seen = _seen(problem, outputs, push(tangents), real)
        root = _root(problem, outputs, real.dtype)
        back = jnp.einsum("ijk,ik->ij", root, seen).reshape(outputs.shape).astype(outputs.dtype)
        return total + to_vector(pull(back), total.dtype), None

    return lax.scan(tile, jnp.zeros_like(vector), (problem.x, problem.real))[0]


def _linear(problem: Problem, x: jax.Array) -> tuple[jax.Array, Any, Any]:
    """Return the outputs at x, and their Jacobian's products with a tree of tangents, and with outputs."""
    outputs, push = jax.linearize(lambda random: problem.network(random, x), problem.random)
    transposed = jax.linear_transpose(push, problem.random)
    return outputs, push, lambda back: transposed(back)[0]


def _root(problem: Problem, outputs: jax.Array, dtype: Any) -> jax.Array:
    return problem.likelihood.fisher_root(outputs).astype(dtype)


def _seen(problem: Problem, outputs: jax.Array, moved: jax.Array, real: jax.Array) -> jax.Array:
    """Return Aᵀ·J·tangents of each row, (rows, k): 0 for what is no row."""
    flat = moved.reshape(len(real), -1).astype(real.dtype)
    return real[:, None] * jnp.einsum("ijk,ij->ik", _root(problem, outputs, real.dtype), flat)


@jit
def _finite_rows(key: jax.Array, problem: Problem) -> jax.Array:
    """Return at which rows of data the product with a random vector is finite, (tiles, size)."""
    vector = jax.random.normal(key, (problem.weights,), problem.real.dtype)
    tangents = from_vector(vector, problem.random)

    def tile(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, real = part
        outputs, push, _ = _linear(problem, x)
        return jnp.isfinite(_seen(problem, outputs, push(tangents), real)).all(axis=1)

    return lax.map(tile, (problem.x, problem.real))
