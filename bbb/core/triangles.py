"""The triangle of a QR decomposition, by matrix products where they are enough."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

SMALL = 10**8
"""Multiplications up to which a QR decomposition by reflections takes no time that matters."""


@jax.custom_jvp
def triangle_of(matrix: jax.Array) -> jax.Array:
    """Return the upper triangular R, (n, n), of positive diagonal, with Rᵀ·R = Mᵀ·M, for M (m, n) of full rank, m ≥ n.

    Mᵀ·M has the square of M's condition, so that it may have no Cholesky factor R in float32. A large M is therefore
    decomposed three times: Mᵀ·M plus a multiple of the identity has a factor C; M·C⁻¹ has a far better condition, and
    is decomposed twice more. This takes ten times less time than reflections, which run at the speed of memory; if
    it does not end with orthonormal columns, reflections do follow.

    Source: Fukaya et al. 2020, "Shifted Cholesky QR for computing the QR factorization of ill-conditioned matrices",
    SIAM J. Sci. Comput. 42(1), with a shift for errors that add up like random ones.
    """
    m, n = matrix.shape
    if m * n * n <= SMALL:
        return _reflected(matrix)
    norm = jnp.linalg.norm(matrix.T @ matrix)
    first, apart = _step(matrix, math.sqrt(n) * jnp.finfo(matrix.dtype).eps * norm)
    second, apart = _step(apart, jnp.zeros((), matrix.dtype))
    gram = apart.T @ apart
    off = jnp.linalg.norm(gram - jnp.eye(n, dtype=gram.dtype))
    third = jnp.linalg.cholesky(gram, symmetrize_input=False).T
    fast = third @ (second @ first)
    fine = (off < 0.1) & jnp.isfinite(fast).all()
    return lax.cond(fine, lambda: fast, lambda: _reflected(matrix))


def _step(matrix: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the upper triangular C with Cᵀ·C = Mᵀ·M + shift·I, and M·C⁻¹."""
    gram = matrix.T @ matrix + shift * jnp.eye(matrix.shape[1], dtype=matrix.dtype)
    upper = jnp.linalg.cholesky(gram, symmetrize_input=False).T
    return upper, divided(matrix, upper)


def divided(matrix: jax.Array, upper: jax.Array) -> jax.Array:
    """Return M·R⁻¹, (m, n), for an upper triangular R, (n, n)."""
    return solve_triangular(upper, matrix.T, trans="T").T


def _reflected(matrix: jax.Array) -> jax.Array:
    upper = jnp.linalg.qr(matrix, mode="r")
    return upper * jnp.sign(jnp.diagonal(upper))[:, None]


@triangle_of.defjvp
def _triangle_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Differentiate Rᵀ·R = Mᵀ·M: dR·R⁻¹ is the upper triangle of R⁻ᵀ·d(Mᵀ·M)·R⁻¹, with half of its diagonal."""
    (matrix,), (moved,) = primals, tangents
    upper = triangle_of(matrix)
    half = divided(matrix, upper).T @ divided(moved, upper)
    change = half + half.T
    return upper, (jnp.triu(change) - jnp.diag(jnp.diagonal(change)) / 2) @ upper
