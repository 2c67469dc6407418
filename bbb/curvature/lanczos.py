"""The leading directions of the Gauss-Newton matrix, by products of its square root with vectors alone.

They are the right singular vectors of V·D, with D the standard deviations of the prior. Products with the matrix
D·Vᵀ·V·D itself would have the square of that condition: in float32, directions in which the data say less than 1/3000
of what they say in the first would drown in the rounding of that one, and the bands of accurate data be far too wide.
"""

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
from bbb.likelihoods.protocol import fisher_root_of
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision
from bbb.tracing.convolutions import channels_last

MORE_STEPS = 20
"""Steps beyond twice the rank: the outermost directions of that many are found to rounding in most cases."""


def steps_of(size: Size, rank: int) -> int:
    """Return how many steps of the search find `rank` directions: no more than there can be."""
    return min(size.weights, size.rows + 1, 2 * rank + MORE_STEPS)


def held(size: Size, rank: int) -> int:
    """Return how many numbers the search takes: its basis, the directions with a copy, and a few values of each row."""
    return (steps_of(size, rank) + 2 * rank + 8) * size.weights + 4 * size.rows


def low_rank(key: jax.Array, problem: Problem, size: Size, rank: int) -> LowRankPrecision:
    """Return the posterior of the leading directions of the Gauss-Newton matrix, in units of the prior.

    With D the standard deviations of the prior and u a right singular vector of V·D of singular value σ, a row of the
    factor is σ·uᵀ·D⁻¹. All other directions keep the prior's spread.

    Raises:
        NonFiniteOutputError: if the matrix is not finite.
    """
    steps = steps_of(size, rank)
    rank = min(rank, steps, size.rows)
    wide, factor, cholesky = _leading(key, problem, steps=steps, rank=rank, outputs=size.outputs, large=True)
    if not np.isfinite(np.asarray(cholesky)).all():
        rows.check_finite(_finite_rows(key, problem, large=True), cholesky)
    return LowRankPrecision(problem.params, wide, factor, cholesky)


@partial(jit, static_argnames=("steps", "rank", "outputs"))
@channels_last
def _leading(
    key: jax.Array, problem: Problem, *, steps: int, rank: int, outputs: int
) -> tuple[Tree, jax.Array, jax.Array]:
    """Return the prior's log scales, the factor, (rank, d), and the triangle of its posterior, (rank, rank)."""
    scale = jnp.exp(problem.log_scale)
    left = jnp.zeros((*problem.real.shape, outputs), problem.real.dtype)
    basis, bidiagonal = golub_kahan(key, partial(_there_and_back, problem, scale), len(scale), left, steps)
    _, values, turn = jnp.linalg.svd(bidiagonal)
    values = values[:rank]
    factor = values[:, None] * (turn[:rank] @ basis) / scale[None]
    triangle = jnp.diag(jnp.hypot(values, jnp.ones_like(values)))  # rows are orthogonal in units of the prior
    return problem.wide, factor, triangle


def golub_kahan(
    key: jax.Array, there_and_back: Any, size: int, left: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Return orthonormal rows Q, (steps, size), and the upper bidiagonal B, (steps, steps), with W·Qᵀ = U·B.

    The columns of U are orthonormal, or 0 where B has a row of zeros, so that Bᵀ·B = Q·Wᵀ·W·Qᵀ. Each is needed for one
    step alone. Every new row of Q is made orthogonal to all before it, twice; U is not, and need not be: B is still
    that of a matrix that differs from W by its rounding. Where the space is exhausted, the search goes on from a new
    random direction. A step has one product with W and one with Wᵀ, which share a pass over the data, because the
    length of a column of U is divided out after it.

    Args:
        key: of the directions to start from.
        there_and_back: (v, u) -> s = W·v − u, like `left`, and Wᵀ·s, (size,).
        size: of a vector v.
        left: zeros in the shape of a vector u, of the dtype of all numbers.
        steps: at most `size`.

    Source: Golub & Kahan 1965, SIAM J. Numer. Anal. B 2(2), 205; Simon & Zha 2000, SIAM J. Sci. Comput. 21(6), 2257,
    for one-sided reorthogonalisation, and Barlow 2013, Numer. Math. 124, 237, for its rounding; "twice is enough",
    Parlett 1998, The Symmetric Eigenvalue Problem, §6.9.
    """
    dtype = left.dtype

    def apart(v: jax.Array, basis: jax.Array) -> jax.Array:
        v = v - (basis @ v) @ basis
        return v - (basis @ v) @ basis

    def fresh(i: Any, basis: jax.Array) -> jax.Array:
        v = apart(jax.random.normal(jax.random.fold_in(key, i), (size,), dtype), basis)
        return v / jnp.linalg.norm(v)

    def step(i: jax.Array, state: Tree) -> Tree:
        basis, left, diagonal, above = state
        there, back = there_and_back(basis[i], above[i] * left)
        alpha = jnp.linalg.norm(there.ravel())
        reach = jnp.maximum(alpha, jnp.maximum(jnp.max(diagonal), jnp.max(above)))
        rounding = math.sqrt(size) * jnp.finfo(dtype).eps * reach
        inverse = jnp.where(alpha <= rounding, 0, 1 / alpha)
        alpha = jnp.where(alpha <= rounding, 0, alpha)
        v = apart(inverse * back - alpha * basis[i], basis)
        beta = jnp.linalg.norm(v)
        ended = beta <= rounding
        follows = lax.cond(ended, lambda: fresh(i + 1, basis), lambda: v / beta)
        basis = jnp.where(i + 1 < steps, basis.at[i + 1].set(follows), basis)
        above = above.at[i + 1].set(jnp.where(ended, 0, beta))
        return basis, inverse * there, diagonal.at[i].set(alpha), above

    basis = jnp.zeros((steps, size), dtype)
    start = basis.at[0].set(fresh(0, basis)), left, jnp.zeros(steps, dtype), jnp.zeros(steps + 1, dtype)
    basis, _, diagonal, above = lax.fori_loop(0, steps, step, start)
    return basis, jnp.diag(diagonal) + jnp.diag(above[1:-1], 1)


def _there_and_back(
    problem: Problem, scale: jax.Array, vector: jax.Array, less: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return s = V·D·vector − less, (tiles, size, k), and D·Vᵀ·s, (d,), in one pass over the data, tile by tile."""
    tangents = from_vector(scale * vector, problem.random)

    def tile(total: jax.Array, part: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        x, y, spread, taken = part
        outputs, push, pull = _linear(problem, x)
        root = fisher_root_of(problem.likelihood, y, outputs).astype(spread.dtype)
        seen = _seen(root, push(tangents), spread) - taken
        back = jnp.einsum("ijk,ik->ij", root, spread[:, None] * seen).reshape(outputs.shape).astype(outputs.dtype)
        return total + to_vector(pull(back), total.dtype), seen

    back, there = lax.scan(tile, jnp.zeros_like(vector), (problem.x, problem.y, problem.spread, less))
    return there, scale * back


def _linear(problem: Problem, x: Tree) -> tuple[jax.Array, Any, Any]:
    """Return the outputs at x, and their Jacobian's products with a tree of tangents, and with outputs."""
    outputs, push = jax.linearize(lambda random: problem.network(random, x), problem.random)
    transposed = jax.linear_transpose(push, problem.random)
    return outputs, push, lambda back: transposed(back)[0]


def _seen(root: jax.Array, moved: jax.Array, spread: jax.Array) -> jax.Array:
    """Return Aᵀ·J·tangents of each row, (rows, k), times its spread: 0 for what is no row."""
    flat = moved.reshape(len(spread), -1).astype(spread.dtype)
    return spread[:, None] * jnp.einsum("ijk,ij->ik", root, flat)


@jit
@channels_last
def _finite_rows(key: jax.Array, problem: Problem) -> jax.Array:
    """Return at which rows of data the product with a random vector is finite, (tiles, size)."""
    vector = jax.random.normal(key, (problem.weights,), problem.real.dtype)
    tangents = from_vector(vector, problem.random)

    def tile(part: tuple[jax.Array, ...]) -> jax.Array:
        x, y, spread = part
        outputs, push, _ = _linear(problem, x)
        root = fisher_root_of(problem.likelihood, y, outputs).astype(spread.dtype)
        return jnp.isfinite(_seen(root, push(tangents), spread)).all(axis=1)

    return lax.map(tile, (problem.x, problem.y, problem.spread))
