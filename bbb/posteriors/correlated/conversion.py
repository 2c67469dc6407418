"""From one Gaussian posterior to another family of them: such as from that of `laplace` to one that `fit` trains.

as_full_rank(posterior)          the same Gaussian as a `FullRank`
as_low_rank(posterior, rank)     a `LowRank` close to it, which is inside it in every direction that the data fix
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from bbb import checks
from bbb.core.jit import jit
from bbb.core.tree import Tree, count, from_vector, to_vector, widest_dtype
from bbb.errors import InputError, fail
from bbb.posteriors.correlated.full_rank import FullRank
from bbb.posteriors.correlated.low_rank import LowRank
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.verbs import check_random

MOST = 10_000
"""Weights whose covariance is decomposed as one dense matrix."""


def as_full_rank(posterior: GaussianPosterior) -> FullRank:
    """Return the same Gaussian as a `FullRank`, which `fit` trains.

    Of a network that is not linear in its weights, draws of Laplace's posterior itself lie where its Gauss-Newton
    matrix no longer holds, hence the 0.1: at it training begins thousands of nats higher. A trained mean-field needs no
    such factor. `python -m benchmarks.bounds` shows where each start leads.

    It is a QR decomposition of the derivative of a draw in its noise: the covariance, whose condition is the square of
    that, is never made.

    Args:
        posterior: of up to 10,000 Gaussian weights, such as the `LowRankPrecision` of `laplace`.

    Raises:
        InputError: for what is not one Gaussian posterior, or one of more weights.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.posteriors.as_full_rank(bbb.MeanField.around(params, std=0.1))
        >>> type(posterior).__name__
        'FullRank'
    """
    random = _random_of(posterior, "as_full_rank")
    if isinstance(posterior, FullRank):
        return posterior
    log_diagonal, lower = _modified_cholesky(posterior)
    return FullRank(posterior.params, from_vector(log_diagonal, random), lower)


def as_low_rank(posterior: GaussianPosterior, rank: int = 8) -> LowRank:
    """Return a `LowRank` close to a Gaussian, which `fit` trains, as it does that of `as_full_rank`.

    Its diagonal is that of the independent Gaussians of the least KL from them to the posterior, D² = 1/diag(P) of the
    precision P. Given these, the directions of the least KL are the eigenvectors of D·P·D of the least eigenvalues π,
    with variances 1/π − 1: where weights depend on each other most. The KL to the posterior falls with each of them,
    and is 0 for rank d − 1 or more only if D happens to be right.

    Args:
        posterior: of up to 10,000 Gaussian weights, such as the `LowRankPrecision` of `laplace`.
        rank: the number of directions; those beyond the number of weights, or of no more variance than D, are 0.

    Raises:
        InputError: for what is not one Gaussian posterior, or one of more weights; or a rank below 1.

    Source: as the principal components of Tipping and Bishop 1999, "Probabilistic principal component analysis", J. R.
    Stat. Soc. B 61(3), with the divergence from the approximation rather than to it.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.posteriors.as_low_rank(bbb.MeanField.around(params, std=0.1), rank=2)
        >>> type(posterior).__name__
        'LowRank'
    """
    rank = checks.positive_integer("rank", rank)
    random = _random_of(posterior, "as_low_rank")
    log_diagonal, factor = _leading(posterior, rank=rank)
    return LowRank(posterior.params, from_vector(log_diagonal, random), factor)


def _random_of(posterior: Any, verb: str) -> Tree:
    """Return the random leaves of one Gaussian posterior.

    Raises:
        InputError: for what is no such posterior, or one of too many weights.
    """
    check_random(posterior, verb)
    checks.outside(verb, posterior=posterior)
    if not isinstance(posterior, GaussianPosterior):
        got = f"an ensemble of {posterior.components}" if posterior.is_mixture else f"a {type(posterior).__name__}"
        do = "Pass a member, model.member(0).posterior." if posterior.is_mixture else "Pass that of bbb.laplace."
        fail(InputError, f"one Gaussian posterior, for {verb}", got, do)
    random = posterior.random_leaves(posterior.params)
    if count(random) > MOST:
        do = "Train a MeanField, or start at bbb.posteriors.LowRank.around(params, std)."
        fail(InputError, f"at most {MOST:,} Gaussian weights, for {verb}", f"{count(random):,}", do)
    return random


def _scale(posterior: GaussianPosterior) -> jax.Array:
    """Return the lower triangular L, (d, d), of positive diagonal, of the covariance L·Lᵀ."""
    random = posterior.random_leaves(posterior.params)
    dtype = widest_dtype(random)

    def drawn(noise: Tree) -> jax.Array:
        return to_vector(posterior.random_leaves(posterior.weights(noise)), dtype)

    noise = jax.tree.map(jnp.zeros_like, posterior.noise(jax.random.key(0)))
    slopes: Any = jax.jacobian(drawn)(noise)
    flat = [leaf.reshape(leaf.shape[0], -1).astype(dtype) for leaf in jax.tree.leaves(slopes)]
    upper = jnp.linalg.qr(jnp.concatenate(flat, axis=1).T, mode="r")
    return upper.T * jnp.sign(jnp.diagonal(upper))[None]


@jit
def _modified_cholesky(posterior: GaussianPosterior) -> tuple[jax.Array, jax.Array]:
    """Return the logarithm of L's diagonal, and L below it in units of that."""
    scale = _scale(posterior)
    diagonal = jnp.diagonal(scale)
    return jnp.log(diagonal), jnp.tril(scale / diagonal[:, None], -1)


@partial(jit, static_argnames=("rank",))
def _leading(posterior: GaussianPosterior, *, rank: int) -> tuple[jax.Array, jax.Array]:
    """Return log D, (d,), and the directions in units of D, (d, rank)."""
    scale = _scale(posterior)
    unit = jnp.eye(len(scale), dtype=scale.dtype)
    inverse = solve_triangular(scale, unit, lower=True)
    log_diagonal = -0.5 * jnp.log(jnp.sum(jnp.square(inverse), axis=0))
    left, widths, _ = jnp.linalg.svd(scale * jnp.exp(-log_diagonal)[:, None], full_matrices=False)
    kept = min(rank, len(scale))
    factor = left[:, :kept] * jnp.sqrt(jnp.maximum(jnp.square(widths[:kept]) - 1, 0))[None]
    return log_diagonal, jnp.pad(factor, ((0, 0), (0, rank - kept)))
