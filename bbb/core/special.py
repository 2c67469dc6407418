"""Special functions that `jax.scipy` lacks, or has only slowly."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, gammaincc, gammaln, ndtr

STIRLING_FROM = 16.0
"""From here on, Stirling's series of four terms is right to 1e-14."""


GAUSSIAN_FROM = (20.0, 64.0)
"""Degrees of freedom, in float32 and in float64, above which Student's t is computed as a transformed Gaussian: right
to 1e-7, and to 1e-12."""


POISSON_FROM = (1e3, 1e8)
"""Failures, in float32 and in float64, above which a negative binomial is computed as a Poisson of another mean."""


LINEAR_FROM = 20.0
"""Up to here, `eased` is the identity."""


def eased(x: jax.Array) -> jax.Array:
    """Return x up to 20, and 20 + log(1 + x − 20) above, so that its exponential continues as a line, and is finite."""
    excess = jnp.maximum(x - LINEAR_FROM, 0)
    return jnp.where(x > LINEAR_FROM, LINEAR_FROM + jnp.log1p(excess), x)


def eased_slope(x: jax.Array) -> jax.Array:
    """Return the derivative of `eased` at x."""
    return 1 / (1 + jnp.maximum(x - LINEAR_FROM, 0))


def log_gamma_ratio(a: jax.Array, y: jax.Array) -> jax.Array:
    """Return log Γ(a + y) − log Γ(a) − y·log a for a > 0, y ≥ 0: accurate too for large a, where it tends to 0.

    From a = 16 on, by Stirling's series: (a + y − ½)·log(1 + y/a) − y + r(a + y) − r(a).
    """
    a, y = jnp.broadcast_arrays(a, y)
    large = jnp.maximum(a, STIRLING_FROM)  # so that the gradient of the branch that is not used is finite
    series = (large + y - 0.5) * jnp.log1p(y / large) - y + _stirling(large + y) - _stirling(large)
    small = jnp.minimum(a, STIRLING_FROM)
    return jnp.where(a < STIRLING_FROM, gammaln(small + y) - gammaln(small) - y * jnp.log(small), series)


def _stirling(x: jax.Array) -> jax.Array:
    """Return log Γ(x) − (x − ½)·log x + x − ½·log 2π, for large x."""
    z = 1 / jnp.square(x)
    return (1 / 12 - z * (1 / 360 - z * (1 / 1260 - z / 1680))) / x


def student_t_cdf(z: jax.Array, df: jax.Array) -> jax.Array:
    """Return P(T ≤ z) for Student's t of `df` degrees of freedom.

    By the incomplete beta function I of z²/(df + z²) near 0, and of its complement far from it, so that both are
    accurate: P(|T| ≤ |z|) = I(½, df/2), P(|T| > |z|) = I(df/2, ½). JAX's I loses accuracy as df grows, so that from
    some df on the cdf is computed as a Gaussian's, of a transformed z.
    """
    z, df = jnp.broadcast_arrays(z, df)
    many = GAUSSIAN_FROM[jnp.finfo(z.dtype).bits >= 64]
    few = jnp.minimum(df, many)
    square, half = jnp.square(z), jnp.full_like(z, 0.5)
    near = square < few
    # df/(df + z²) as 1/(1 + z²/df): finite for any z whose square is
    x = jnp.where(near, square / (few + square), 1 / (1 + square / few))
    part = betainc(jnp.where(near, half, 0.5 * few), jnp.where(near, 0.5 * few, half), x)
    inside = jnp.where(z < 0, 0.5 - 0.5 * part, 0.5 + 0.5 * part)
    by_beta = jnp.where(near, inside, jnp.where(z < 0, 0.5 * part, 1 - 0.5 * part))
    return jnp.where(df > many, ndtr(_gaussian_of_student_t(z, jnp.maximum(df, many))), by_beta)


def _gaussian_of_student_t(z: jax.Array, df: jax.Array) -> jax.Array:
    """Return the Gaussian quantile of Student's t at z (Hill 1970, Commun. ACM 13, 617, algorithm 395)."""
    a = df - 0.5
    b = 48 * jnp.square(a)
    y = a * jnp.log1p(jnp.square(z) / df)
    series = (((-0.4 * y - 3.3) * y - 24) * y - 85.5) / (0.8 * jnp.square(y) + 100 + b) + y + 3
    return jnp.sign(z) * jnp.sqrt(y) * (1 + series / b)


def negative_binomial_cdf(k: jax.Array, n: jax.Array, log_odds: jax.Array) -> jax.Array:
    """Return P(Y ≤ k) for whole k ≥ 0, with n failures and mean n·e^log_odds.

    By the incomplete beta function of the smaller of n/(n + μ) and μ/(n + μ). JAX's loses accuracy as n grows; there,
    for k well below n, by a Poisson of mean (2n + k)·x/(2 − x), x = μ/(n + μ), which is right to about 0.03·(k/n)².
    """
    k, n, log_odds = jnp.broadcast_arrays(k, n, log_odds)
    many = POISSON_FROM[jnp.finfo(k.dtype).bits >= 64]
    rare = log_odds < 0
    smaller = jax.nn.sigmoid(-jnp.abs(log_odds))
    part = betainc(jnp.where(rare, k + 1, n), jnp.where(rare, n, k + 1), smaller)
    x = jax.nn.sigmoid(log_odds)
    poisson = gammaincc(k + 1, (2 * n + k) * x / (2 - x))
    return jnp.where((n > many) & (k + 1 < 0.1 * n), poisson, jnp.where(rare, 1 - part, part))


class Cubics(NamedTuple):
    """A function of x ≥ 0 on a grid of equal steps, by its values and slopes: cubic Hermite interpolation.

    The error is step⁴/384 times the fourth derivative. Beyond the grid it is constant.
    """

    step: jax.Array
    values: jax.Array
    slopes: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the function at x."""
        place = jnp.clip(x / self.step, 0, self.values.shape[0] - 1)
        i = jnp.minimum(place.astype(jnp.int32), self.values.shape[0] - 2)
        t = place - i.astype(x.dtype)
        low, high = self.values[i], self.values[i + 1]
        left, right = self.step * self.slopes[i], self.step * self.slopes[i + 1]
        rise = high - low
        return low + t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))


def student_t_tail(df: jax.Array) -> Cubics:
    """Return P(T > z) of Student's t as a fast function of asinh z ≥ 0, right to 1e-12 or to rounding; df is ()."""
    dtype = df.dtype
    nodes, reach = (2**11, 16.0) if jnp.finfo(dtype).bits < 64 else (2**14, 28.0)  # past it, less than 1e-13 or 1e-23
    u = jnp.linspace(0, reach, nodes, dtype=dtype)
    z = jnp.sinh(u)
    slopes = -jnp.exp(log_student_t(z, df)) * jnp.cosh(u)
    return Cubics(jnp.asarray(reach / (nodes - 1), dtype), student_t_cdf(-z, df), slopes)


def log_student_t(z: jax.Array, df: jax.Array) -> jax.Array:
    """Return the log density of Student's t at z, in nats: accurate too for large df, where it is a Gaussian's."""
    a = 0.5 * df
    constant = log_gamma_ratio(a, jnp.full_like(a, 0.5)) - 0.5 * math.log(2 * math.pi)
    return constant - (a + 0.5) * jnp.log1p(jnp.square(z) / df)
