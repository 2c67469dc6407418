"""The triangle of a QR decomposition, by matrix products where they are enough."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

SMALL = 10**9
"""Multiplications up to which a QR decomposition by reflections takes no time that matters."""


WELL = 10
"""Mean of the eigenvalues' squares, rooted, up to which a sum of squares is as exact as its root."""


QUICK = 10**7
"""Multiplications up to which a QR decomposition takes less than a millisecond."""


MODERATE = 10**5
"""Sum of the eigenvalues over √n, up to which the logarithm of the determinant of a sum of squares is near enough."""


def near_triangle_of(rows: jax.Array) -> jax.Array:
    """Return R as `triangle_of` does, in a third of the time, with the logarithm of its determinant to 0.01 in float32.

    Roundings of I + Aᵀ·A are small beside the roots of its diagonal, and differ in sign: they change the logarithm of
    the determinant by about 2·eps·Σλ/√n. Where the eigenvalues λ are moderate, R is the Cholesky factor.
    """
    m, n = rows.shape
    if (m + n) * n * n <= QUICK:
        return triangle_of(rows)
    gram = _with_unit(rows)
    moderate = jnp.trace(gram) <= MODERATE * math.sqrt(n)
    return lax.cond(moderate, lambda: _factor(gram), lambda: triangle_of(rows))


def _with_unit(rows: jax.Array) -> jax.Array:
    """Return I + Aᵀ·A, (n, n)."""
    return rows.T @ rows + jnp.eye(rows.shape[1], dtype=rows.dtype)


@jax.custom_jvp
def triangle_of(rows: jax.Array) -> jax.Array:
    """Return the upper triangular R, (n, n), of positive diagonal, with Rᵀ·R = I + Aᵀ·A, for A, (m, n).

    The sum has the square of the condition of A above I, so that it may have no Cholesky factor R in float32. Where it
    is far from that, R is its factor. Otherwise the stack of A and I is decomposed three times: the sum plus a multiple
    of I has a factor C; the stack times C⁻¹ has a far better condition, and is decomposed twice more. Both take much
    less time than reflections, which run at the speed of memory; where the columns do not end up orthonormal,
    reflections do follow.

    Source: Fukaya et al. 2020, "Shifted Cholesky QR for computing the QR factorization of ill-conditioned matrices",
    SIAM J. Sci. Comput. 42(1), with a shift for errors that add up like random ones.
    """
    m, n = rows.shape
    if (m + n) * n * n <= SMALL:
        return _reflected(rows)
    gram = _with_unit(rows)
    norm = jnp.linalg.norm(gram)
    well = norm <= WELL * math.sqrt(n)
    return lax.cond(well, lambda: _factor(gram), lambda: _in_three_steps(rows, gram, norm))


def _in_three_steps(rows: jax.Array, gram: jax.Array, norm: jax.Array) -> jax.Array:
    """Return the triangle of a stack of a large condition, whose squares have the norm that is given."""
    unit = jnp.eye(len(gram), dtype=gram.dtype)
    first = _factor(gram + math.sqrt(len(gram)) * jnp.finfo(gram.dtype).eps * norm * unit)
    stack = divided(jnp.concatenate([rows, unit]), first)
    second = _factor(stack.T @ stack)
    stack = divided(stack, second)
    gram = stack.T @ stack
    found = _factor(gram) @ (second @ first)
    fine = (jnp.linalg.norm(gram - unit) < 0.1) & jnp.isfinite(found).all()
    return lax.cond(fine, lambda: found, lambda: _reflected(rows))


def divided(matrix: jax.Array, upper: jax.Array) -> jax.Array:
    """Return M·R⁻¹, (m, n), for an upper triangular R, (n, n)."""
    return solve_triangular(upper, matrix.T, trans="T").T


def _factor(gram: jax.Array) -> jax.Array:
    """Return the upper triangular C with Cᵀ·C = gram."""
    return jnp.linalg.cholesky(gram, symmetrize_input=False).T


def _reflected(rows: jax.Array) -> jax.Array:
    upper = jnp.linalg.qr(jnp.concatenate([rows, jnp.eye(rows.shape[1], dtype=rows.dtype)]), mode="r")
    return upper * jnp.sign(jnp.diagonal(upper))[:, None]


@triangle_of.defjvp
def _triangle_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Differentiate Rᵀ·R = I + Aᵀ·A: dR·R⁻¹ is the upper triangle of R⁻ᵀ·d(Aᵀ·A)·R⁻¹, with half of its diagonal."""
    (rows,), (moved,) = primals, tangents
    upper = triangle_of(rows)
    half = divided(rows, upper).T @ divided(moved, upper)
    change = half + half.T
    return upper, (jnp.triu(change) - jnp.diag(jnp.diagonal(change)) / 2) @ upper
