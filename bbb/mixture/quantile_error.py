"""The Monte Carlo standard error of a quantile of a mixture of draws: how far it would vary if others were drawn.

With w_s the share of component s that lies beyond the quantile, whose mean over S draws is the tail t, and z = Φ⁻¹(t),

    error = dq/dz · √(V/S)/φ(z) · correction        V = Var w_s

which is √(V/S) over the density (delta method). Where few components reach the tail, neither V nor the density there
can be estimated: the quantile may lie beyond all components. Both are then estimated further in, where `MIN_BEYOND`
components count, and extrapolated to t as for a Gaussian y whose components have Gaussian means.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr, ndtri

from bbb.mixture.distribution import Mixture, MixtureAt, Root, solve_near

MIN_BEYOND = 20
"""Number of components that must count for their spread to be used without extrapolation."""


SPACING = 1.5
"""Half-width, in standard errors of p, of the range of the quantile function over which its slope is computed."""


FEW_BEYOND = 5
"""Number of components at or below which that range ends at the quantile."""


LOOSE = 0.25
"""Tolerance of the ends of that range, in standard errors of p."""


SKEWNESS, SKEWED_UNTIL, DOUBT = 0.3, 15, 6
"""Relative corrections of an error where n components count beyond, 0.3/(1 + n/15); and of an extrapolated variance
where n count further in and the noise is a share a of the variance of y, 6·a/n. With them 1.96 errors cover the truth
in 95 of 100 cases, although such a quantile is skewed and its error uncertain. Chosen by simulation of Gaussian means
with noise of .05, .3, .7, 1 and 2 of their std; the test has noise of .1, .5 and 1.5, and other keys."""


NINETY_FIVE = 1.959964
"""Standard errors to either side that cover the truth in 95 of 100 cases."""


NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def quantile_error(mixture: Mixture, p: jax.Array, found: Root, draws: int) -> jax.Array:
    """Return the standard error of the quantile `found` of each element; p has its shape, and draws are at least 2."""
    tail, sigma, alone = jnp.minimum(p, 1 - p), found.at.alone / math.sqrt(draws), jnp.square(found.at.alone)
    z = -ndtri(tail)
    gaussian = _shared(_angle(mixture.between), z)
    beyond = draws * tail / jnp.maximum(_held(alone, tail), _held(gaussian, tail))
    (q_in, z_in, v_in), (q_out, z_out, _) = _ends(mixture, p, found, sigma, *_stretch(tail, sigma, beyond))
    slope = jnp.abs(q_out - q_in) / jnp.maximum(z_out - z_in, jnp.finfo(p.dtype).tiny)
    doubt = 1 + DOUBT * (1 - mixture.between) * _held(v_in, ndtr(-z_in)) / (draws * ndtr(-z_in))
    carried = _shared(_angle_that_shares(v_in * doubt, z_in), z)
    beyond = draws * tail / _held(carried, tail)
    variance = _between(carried, alone, jnp.minimum(MIN_BEYOND / beyond, 1))
    density = jnp.exp(-0.5 * jnp.square(z)) / math.sqrt(2 * math.pi)
    # The spread is estimated from this number of independent values.
    correction = (
        student(draws // mixture.group)
        * (1 + SKEWNESS / (1 + beyond / SKEWED_UNTIL))
        * _dependence(found.at, tail, draws, mixture.group)
    )
    return slope * jnp.sqrt(variance / draws) / density * correction


def student(groups: int) -> float:
    """Return the factor of an error from a few independent groups, with which 1.96 errors cover 95 of 100 truths.

    Source: Student 1908, Biometrika 6, 1, of Gaussian numbers.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - half as long to import as the rest of bbb

    return float(stdtrit(groups - 1, 0.975)) / NINETY_FIVE


def _stretch(tail: jax.Array, sigma: jax.Array, beyond: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the tails between which the slope is computed: further in, where many components count, and out."""
    near = tail + SPACING * sigma
    inner = jnp.maximum(near, tail + MIN_BEYOND * tail / beyond)
    inner = jnp.minimum(jnp.minimum(inner, jnp.maximum(0.5, near)), 1 - 0.25 * tail)
    share = jnp.maximum(1 - FEW_BEYOND / beyond, 0)
    return inner, tail - share * jnp.minimum(SPACING * sigma, 0.75 * tail)


def _ends(
    mixture: Mixture, p: jax.Array, found: Root, sigma: jax.Array, inner: jax.Array, outer: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Return approximate quantiles of two tails, each with the z of the tail reached, and the variance of the w_s."""
    upper = p > 0.5

    def end(tail: jax.Array) -> tuple[jax.Array, ...]:
        target = jnp.where(upper, 1 - tail, tail)
        low, high = mixture.bracket(target)
        low, high = jnp.where(target < p, low, found.root), jnp.where(target < p, found.root, high)
        tolerance = LOOSE * jnp.minimum(sigma, 0.5 * tail) + 4 * float(jnp.finfo(p.dtype).eps)
        guess = found.root + found.at.step(target - p)
        there = solve_near(mixture, target, guess, low, high, tolerance, last_step=False)
        reached = tail + jnp.where(upper, -1, 1) * there.at.excess
        z = -ndtri(jnp.clip(reached, 0.125 * tail, 1 - 0.125 * (1 - tail)))
        return there.tried, z, jnp.square(there.at.alone)

    found_in_turn = lax.map(end, jnp.stack([inner, outer]))
    first, last = (tuple(part[i] for part in found_in_turn) for i in (0, 1))
    return first, last


def _held(variance: jax.Array, tail: jax.Array) -> jax.Array:
    """Return the share of a component in the tail, of those that reach it: E w²/E w, which is 1 if each w is 0 or 1.

    The number of components that count is (Σ w)²/Σ w², which is draws · tail over this (Kish 1965, Survey Sampling).
    """
    return variance / tail + tail


def _angle(correlation: jax.Array) -> jax.Array:
    """Return √((1 − ρ)/(1 + ρ)), the argument of `_shared`."""
    return jnp.sqrt(jnp.maximum(1 - correlation, 0) / (1 + correlation))


def _shared(angle: jax.Array, z: jax.Array) -> jax.Array:
    """Return Var P(Y > z | component) for a Gaussian Y whose correlation with another of its component is ρ.

    P(both > z) − P(> z)² = (1/π)·∫ exp(−z²(1 + x²)/2)/(1 + x²) dx from √((1 − ρ)/(1 + ρ)) to 1.

    Source: Owen 1956, Annals of Mathematical Statistics 27, 1075, on the T function.
    """
    along = (-1, *(1 for _ in z.shape))
    nodes, weights = (jnp.asarray(part, z.dtype).reshape(along) for part in (0.5 * (NODES + 1), 0.5 * WEIGHTS))
    square = 1 + jnp.square(angle[None] + (1 - angle[None]) * nodes)
    heights = jnp.exp(-0.5 * jnp.square(z)[None] * square) / square
    return (1 - angle) / math.pi * jnp.sum(heights * weights, axis=0)


def _angle_that_shares(variance: jax.Array, z: jax.Array) -> jax.Array:
    """Return the angle at which `_shared` is this variance beyond z: by bisection, as it decreases from 0 to 1."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        more = _shared(middle, z) > variance
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    low, high = lax.fori_loop(0, 25, halve, (jnp.zeros_like(z), jnp.ones_like(z)))
    return 0.5 * (low + high)


def _between(a: jax.Array, b: jax.Array, share: jax.Array) -> jax.Array:
    """Return the geometric mean of a and b, with this weight of a."""
    tiny = float(jnp.finfo(a.dtype).tiny)
    return jnp.exp(share * jnp.log(jnp.maximum(a, tiny)) + (1 - share) * jnp.log(jnp.maximum(b, tiny)))


def _dependence(at: MixtureAt, tail: jax.Array, draws: int, group: int) -> jax.Array:
    """Return the spread over that of independent draws, where draws are independent in groups.

    Groups may all have the same share beyond, as half of each Sobol net lies below the median. If each component lies
    on one side of the quantile, this still moves among those next to it: a share is then not known better than to one
    draw. Of components that lie on both sides there are about draws · (1 − Var w/(t·(1 − t))), which smooth it.
    """
    alone = jnp.where(at.alone > 0, at.alone, 1)
    found = at.spread / alone
    if group > 1:
        smooth = draws * jnp.maximum(1 - jnp.square(alone) / (tail * (1 - tail)), 0)
        found = jnp.maximum(found, jnp.minimum(1 / (math.sqrt(draws) * alone * (1 + smooth)), 1))
    return jnp.where(at.alone > 0, found, 1)
