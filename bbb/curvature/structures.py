"""The posteriors of each structure of the Gauss-Newton matrix, and half the logarithm of its determinant."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from bbb.core.jit import jit
from bbb.core.noise import SMALL
from bbb.core.tiles import rounded_up
from bbb.core.tree import Tree, from_vector, map_present, sum_leaves, to_vector
from bbb.curvature import factors, kronecker, rows
from bbb.curvature.problem import MAX_ROWS, Form, Problem, Size
from bbb.posteriors.correlated.full_rank import FullRank
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision, cholesky_of
from bbb.posteriors.mean_field import MeanField
from bbb.tracing.convolutions import channels_last
from bbb.tracing.products import Site

MAX_ROTATED = 2 * 10**10
"""Multiplications up to which a singular value decomposition takes seconds."""


LARGE_EXACT = 2**22
"""Numbers of the root of the Gauss-Newton up to which "full" and "last_layer" are compiled as small programs, which
takes half the time: their decompositions are calls of a library, whatever the program around them is like."""


def held_full(size: Size) -> int:
    """Return how many numbers the full matrix takes: triangles of the weights, or all rows and a triangle of them."""
    d, r = size.weights, size.filled_rows
    return 6 * r * d + 10 * r * r if size.form.in_rows else 14 * d * d


def jacobian_of_row(size: Size) -> int:
    """Return how many numbers the Jacobian of a row of data takes, with copies."""
    return 4 * size.outputs * size.weights


def rows_of_triangle(size: Size) -> int:
    """Return how many rows of the root are best computed at once: as many as the triangle that they join has."""
    return max(size.weights, MAX_ROWS)


def held_diagonal(size: Size) -> int:
    """Return how many numbers the diagonal takes, with one row's Jacobian in what is used at several places."""
    at_places = [site.fan_in * site.fan_out for site in size.sites if site.places > 1]
    return 8 * size.weights + 2 * size.outputs * max(at_places, default=0)


def is_large(size: Size, structure: str) -> bool:
    """Return whether a structure is best compiled as a program of large arrays."""
    return size.rows * size.weights > (LARGE_EXACT if structure in ("full", "last_layer") else SMALL)


def full(problem: Problem, size: Size) -> FullRank | LowRankPrecision:
    """Return the posterior of the full matrix, in the space of the rows where there are fewer of them than weights.

    Raises:
        NonFiniteOutputError: if it is not finite.
    """
    if not size.form.in_rows:
        return by_weights(problem, size)
    if size.rows**2 * size.weights > MAX_ROTATED:
        wide, factor, cholesky, fine = _by_rows(problem, large=True)
        rows.check_finite(fine, cholesky)
        return LowRankPrecision(problem.params, wide, factor, cholesky)
    wide, factor, widths, fine = _by_directions(problem, large=is_large(size, "full"))
    rows.check_finite(fine, widths)
    return LowRankPrecision(problem.params, wide, *_leading(factor, widths, rank=_rank(np.asarray(widths))))


def by_weights(problem: Problem, size: Size) -> FullRank:
    """Return the posterior of the full matrix in the space of the weights.

    Raises:
        NonFiniteOutputError: if it is not finite.
    """
    log_diagonal, lower, fine = _by_weights(problem, large=is_large(size, "full"))
    rows.check_finite(fine, (log_diagonal, lower))
    return FullRank(problem.params, log_diagonal, lower)


def joined(params: Tree, log_diagonal: Tree, factors_of: list[jax.Array], most: int | None = None) -> LowRankPrecision:
    """Return the Gaussian around `params` of the precision D⁻² + Σ VᵢᵀVᵢ, of several factors V, (rᵢ, d).

    Its rows are turned to orthogonal directions in units of D, of which the widest `most` are kept, or all that count:
    few more, as those of later data are joined to them.
    Too many to be turned stay as they are.
    """
    factor = jnp.concatenate(factors_of)
    if most is None and len(factor) ** 2 * factor.shape[1] > MAX_ROTATED:
        return LowRankPrecision.of(params, log_diagonal, factor)
    scale = jnp.exp(to_vector(log_diagonal, factor.dtype))
    turned, widths = _orthogonal(factor, scale, large=factor.size > LARGE_EXACT)
    kept = _rank(np.asarray(widths), least=1, parts=4) if most is None else min(most, len(widths))
    return LowRankPrecision(params, log_diagonal, *_leading(turned, widths, rank=kept))


def _rank(widths: np.ndarray, least: int = 32, parts: int = 2) -> int:
    """Return how many directions count, of standard deviations that fall: the data's, in units of the prior's.

    Without a direction of width s every variance stays the same but for a share of s², which for those left out is
    rounding: that of 1, or that of s itself, which is that of the widest. Numbers are rounded up, to 32, 64, 96, 128,
    192, 256, … by default, so that few programs are compiled.
    """
    eps = np.finfo(widths.dtype).eps
    count = max(1, int(np.sum(widths > max(math.sqrt(eps), eps * widths.max()))))
    return min(len(widths), rounded_up(count, least, parts))


@partial(jit, static_argnames=("rank",))
def _leading(factor: jax.Array, widths: jax.Array, *, rank: int) -> tuple[jax.Array, jax.Array]:
    """Return the first rows of a factor whose rows are orthogonal in units of the prior, and their triangle."""
    return factor[:rank], jnp.diag(jnp.hypot(widths[:rank], jnp.ones(rank, widths.dtype)))


def diagonal(problem: Problem, size: Size) -> MeanField:
    """Return the posterior of the diagonal of the matrix: independent weights.

    Raises:
        NonFiniteOutputError: if it is not finite.
    """
    log_std, fine = _by_diagonal(problem, sites=size.sites, large=is_large(size, "diag"))
    rows.check_finite(fine, log_std)
    return MeanField(problem.params, log_std)


@jit
@channels_last
def _by_weights(problem: Problem) -> tuple[Tree, jax.Array, jax.Array]:
    """Return the logarithm of L's diagonal, a tree like the random leaves, and L below it in units of that.

    Of the covariance L·Lᵀ = (Tᵀ·T)⁻¹; and the finite rows.

    T is lower triangular, and so is L = T⁻¹: the covariance itself is never made.
    """
    below, fine = rows.triangle(problem)
    scale = solve_triangular(below, jnp.eye(len(below), dtype=below.dtype), lower=True)
    diagonal = jnp.diagonal(scale)
    return from_vector(jnp.log(diagonal), problem.random), jnp.tril(scale / diagonal[:, None], -1), fine


@jit
@channels_last
def _by_rows(problem: Problem) -> tuple[Tree, jax.Array, jax.Array, jax.Array]:
    """Return the prior's log scales, V, (r, d), the triangle of its posterior, (r, r), and the finite rows."""
    every, fine = rows.all_rows(problem)
    return problem.wide, every, cholesky_of(every, problem.log_scale), fine


@jit
@channels_last
def _by_directions(problem: Problem) -> tuple[Tree, jax.Array, jax.Array, jax.Array]:
    """Return the prior's log scales, Uᵀ·V, (r, d), its rows' lengths in units of the prior, and the finite rows.

    The lengths, (r,), fall. U holds the left singular vectors of V·D, so that rows are orthogonal in units of the
    prior. Where the data have made an output a thousand times surer than the prior, the draws of V itself end in a
    difference of numbers that float32 has lost; those of orthogonal rows do not. A row's sign is that of its largest
    part in V.
    """
    every, fine = rows.all_rows(problem)
    return problem.wide, *_turned(every, jnp.exp(problem.log_scale)), fine


def _turned(every: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return rows, (r, d), as orthogonal ones in units of `scale`, (d,), and their lengths in these units, falling."""
    left, values, right = jnp.linalg.svd(every * scale[None], full_matrices=False)
    sign = jnp.where(jnp.max(left, axis=0) >= -jnp.min(left, axis=0), 1, -1)
    return (sign.astype(values.dtype) * values)[:, None] * right / scale[None], values


_orthogonal = jit(_turned)


@partial(jit, static_argnames=("sites",))
@channels_last
def _by_diagonal(problem: Problem, *, sites: tuple[Site, ...]) -> tuple[Tree, jax.Array]:
    precisions, fine = factors.diagonals(problem, sites)
    return map_present(lambda w, p: (-0.5 * jnp.log(p)).astype(w.dtype), problem.random, precisions), fine


def half_log_det(problem: Problem, form: Form, structure: str, near: bool) -> tuple[jax.Array, jax.Array]:
    """Return ½·log det of the matrix with the prior's curvature, a scalar, and the finite rows.

    `near` takes less time for the exact structures, with an error of up to about 0.01 in float32.
    """
    if structure == "diag":
        precisions, fine = factors.diagonals(problem, form.sites)
        return 0.5 * sum_leaves(jax.tree.map(jnp.log, precisions)), fine
    if structure == "kron":
        return kronecker.half_log_det(problem, form)
    return rows.half_log_det(problem, form, near)
