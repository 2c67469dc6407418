"""Estimates from draws, for each row on its own: moments and quantiles, each with its Monte Carlo standard error."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bbb._compile import jit
from bbb.likelihood import Likelihood
from bbb.metrics import Entropy, predictive_entropy
from bbb.mixture import Mixture, Normals, Root, group_means, mean_of_draws, solve, solve_near, without_lone_axis
from bbb.moments import Closed

SPACING = 1.5
"""Half-width, in standard errors of p, of the stretch of order statistics a quantile's error is read from."""

LOOSE = 0.25
"""How far from p ± its standard error, in standard errors, the slope of a mixture's quantile may be taken."""

Estimate = tuple[Any, Any]
"""A value and its Monte Carlo standard error."""


class Moments(NamedTuple):
    """Of values v_s with variances a_s: what the mean, the std and their Monte Carlo errors are made of.

    With ψ_s = (v_s − v̄)² + a_s, the total variance is the mean of ψ, and an estimate's error follows from the
    variance of its influence function: v for the mean, ψ for the variance, (v ± k·ψ/(2 std)) for mean ± k·std.
    """

    mean: Any
    variance: Any
    value_variance: Any
    psi_variance: Any
    covariance: Any


class Summary(NamedTuple):
    """What a block of draws says: moments of f and y, and quantiles of each; what was not asked for is empty."""

    f: Any
    y: Any
    f_quantiles: list[Estimate]
    y_quantiles: list[Estimate]


def summarise(
    likelihood: Any,
    outputs: Any,
    *,
    group: int = 1,
    moments_too: bool = False,
    f_ps: tuple[float, ...] = (),
    y_ps: tuple[float, ...] = (),
) -> Summary:
    """Summarise draws: arrays (draws, rows, ...), or pairs of such, `Closed`, of Gaussians integrated out."""
    if isinstance(outputs, Closed):
        observed = Closed(*likelihood.observed(*outputs))
        f, y = (_moments(*pair, group) for pair in (outputs, observed)) if moments_too else ((), ())
        f_quantiles = observation_quantiles(Normals, outputs, f_ps, group=group) if f_ps else []
        return Summary(f, y, f_quantiles, observation_quantiles(Normals, observed, y_ps, group=group) if y_ps else [])
    function = likelihood.function(outputs)
    f_quantiles = function_quantiles(function, f_ps, group=group) if f_ps else []
    if hasattr(likelihood, "probabilities"):
        f = _moments(function, jnp.zeros_like(function), group) if moments_too else ()
        return Summary(f, _classes(likelihood, outputs, group) if moments_too else (), f_quantiles, [])
    f, y = moments(likelihood, outputs, group=group) if moments_too else ((), ())
    y_quantiles = observation_quantiles(likelihood, outputs, y_ps, group=group) if y_ps else []
    return Summary(f, y, f_quantiles, y_quantiles)


def _classes(likelihood: Any, outputs: jax.Array, group: int) -> tuple[jax.Array, jax.Array, Entropy]:
    """Give the mean probabilities, the spread that their error is made of, and the entropies of each row."""
    probabilities = likelihood.probabilities(outputs)
    spread = _influence_std(probabilities, group)
    draws, *shape, classes = probabilities.shape
    entropy = predictive_entropy(probabilities.reshape(draws, -1, classes))
    return mean_of_draws(probabilities), spread, jax.tree.map(lambda nats: nats.reshape(shape), entropy)


@partial(jit, static_argnames=("group",))
def moments(likelihood: Likelihood, outputs: jax.Array, *, group: int = 1) -> tuple[Moments, Moments]:
    """Summarise draws (draws, rows, ...) of the function: moments of f and of y, each leaf (rows, ...).

    Draws are independent in groups of `group` neighbours: 1, or 2 for antithetic pairs.
    """
    function, values, variances = likelihood.function(outputs), likelihood.mean(outputs), likelihood.variance(outputs)
    return _moments(function, jnp.zeros_like(function), group), _moments(values, variances, group)


def _moments(values: jax.Array, variances: jax.Array, group: int) -> Moments:
    draws, *shape = values.shape
    values, variances = without_lone_axis((values, variances))
    mean = mean_of_draws(values)
    deviations = values - mean[None]
    psi = jnp.square(deviations) + variances
    psi_deviations = psi - mean_of_draws(psi)[None]
    variance = mean_of_draws(jnp.square(deviations)) * (draws / max(draws - 1, 1)) + mean_of_draws(variances)
    value, square = group_means(deviations, group), group_means(psi_deviations, group)
    groups = value.shape[0]
    scale = group * groups / max(groups - 1, 1)
    found = Moments(
        mean=mean,
        variance=variance,
        value_variance=mean_of_draws(jnp.square(value)) * scale,
        psi_variance=mean_of_draws(jnp.square(square)) * scale,
        covariance=mean_of_draws(value * square) * scale,
    )
    return jax.tree.map(lambda leaf: leaf.reshape(shape), found)


def _influence_std(influences: jax.Array, group: int) -> jax.Array:
    """Give the standard deviation that, over √draws, is the standard error of the mean of `influences`."""
    means = group_means(influences, group)
    scale = group * means.shape[0] / max(means.shape[0] - 1, 1)
    return jnp.sqrt(mean_of_draws(jnp.square(means - mean_of_draws(means)[None])) * scale)


@partial(jit, static_argnames=("ps", "group"))
def function_quantiles(outputs: jax.Array, ps: tuple[float, ...], *, group: int = 1) -> list[Estimate]:
    """Give quantiles of the draws themselves, linear between order statistics, for each p: leaves (rows, ...).

    The error is σ_p times the slope of the quantile function, read off the order statistics around it, where
    σ_p = √(p(1−p)/draws) (Woodruff 1952, J. Am. Stat. Assoc. 47, 635).
    """
    draws = outputs.shape[0]
    flat = outputs.reshape(draws, -1).T  # (rows·outputs, draws)
    spans = {p: _span(p, draws) for p in ps}
    below = max([math.floor(high * (draws - 1)) + 2 for p, (_, high) in spans.items() if p <= 0.5], default=0)
    above = max([draws - math.floor(low * (draws - 1)) for p, (low, _) in spans.items() if p > 0.5], default=0)
    least = -lax.top_k(-flat, min(below, draws))[0] if below else flat[:, :0]
    greatest = lax.top_k(flat, min(above, draws))[0][:, ::-1] if above else flat[:, :0]

    def order_statistic(side: float, k: int) -> jax.Array:
        return least[:, k] if side <= 0.5 else greatest[:, k - draws + greatest.shape[1]]

    def at(side: float, p: float) -> jax.Array:
        k = min(math.floor(p * (draws - 1)), max(draws - 2, 0))
        lower, upper = order_statistic(side, k), order_statistic(side, min(k + 1, draws - 1))
        return lower + (p * (draws - 1) - k) * (upper - lower)

    def estimate(p: float) -> Estimate:
        low, high = spans[p]
        slope = (at(p, high) - at(p, low)) / (high - low)
        value = at(p, p)
        if group == 1:
            spread: Any = math.sqrt(p * (1 - p))
        else:  # of the indicators whose mean is p
            spread = _influence_std((flat <= value[:, None]).astype(flat.dtype).T, group)
        error = slope * spread / math.sqrt(draws) if draws > 1 else jnp.full_like(slope, jnp.inf)
        return value.reshape(outputs.shape[1:]), error.reshape(outputs.shape[1:])

    return [estimate(p) for p in ps]


def _span(p: float, draws: int) -> tuple[float, float]:
    """Give the stretch of probabilities around p over which the quantile function's slope is taken."""
    width = SPACING * math.sqrt(p * (1 - p) / draws)
    return max(p - width, 0.0), min(p + width, 1.0)


@partial(jit, static_argnames=("ps", "group"))
def observation_quantiles(likelihood: Any, outputs: Any, ps: tuple[float, ...], *, group: int = 1) -> list[Estimate]:
    """Give quantiles of the mixture (1/S)·Σ_s p(y | draw s), for each p: leaves (rows, ...); of counts, exactly.

    The error follows from σ_p, the spread of the components' cdfs at the quantile over √S: see `_mcse` and
    `_mcse_of_counts`.
    """
    mixture = Mixture.of(likelihood, outputs, group)
    draws = jax.tree.leaves(outputs)[0].shape[0]

    def estimate(p: jax.Array) -> Estimate:
        p = jnp.broadcast_to(p, mixture.mean.shape)
        found = solve(mixture, p)
        sigma = found.at.spread / math.sqrt(draws)
        error = _mcse_of_counts(found, sigma) if mixture.likelihood.discrete else _mcse(mixture, p, found, sigma)
        error = error if draws > 1 else jnp.full_like(error, jnp.inf)
        return found.root.reshape(mixture.shape), error.reshape(mixture.shape)

    values, errors = lax.map(estimate, jnp.asarray(ps, mixture.mean.dtype))  # one search compiled for all
    return list(zip(values, errors, strict=True))


def _mcse(mixture: Mixture, p: jax.Array, found: Root, sigma: jax.Array) -> jax.Array:
    """Give σ_p times the slope of the quantile function over p ± σ_p.

    The slope at p itself, one over the density, is useless in a tail of few components.
    """
    rounding = float(jnp.finfo(p.dtype).eps)
    low, high = mixture.bracket(p)
    ends = jnp.stack([jnp.maximum(p - sigma, 0.25 * p), jnp.minimum(p + sigma, 1 - 0.25 * (1 - p))])
    brackets = jnp.stack([low, found.root]), jnp.stack([found.root, high])
    tolerance = LOOSE * sigma + 4 * rounding

    def end(args: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        p_end, low, high = args
        there = solve_near(mixture, p_end, found.root + found.at.step(p_end - p), low, high, tolerance, last_step=False)
        return there.tried, p_end + there.at.excess

    y, reached = lax.map(end, (ends, *brackets))
    rise = reached[1] - reached[0]
    slope_at_p = 1 / jnp.maximum(found.at.density, jnp.finfo(p.dtype).tiny)
    return sigma * jnp.where(rise > 64 * rounding * p * (1 - p), (y[1] - y[0]) / rise, slope_at_p)


def _mcse_of_counts(found: Root, sigma: jax.Array) -> jax.Array:
    """Give half the distance in y between the quantiles of p ± σ_p, at the density there: 0 well inside a step."""
    at = found.at
    up = jnp.ceil((sigma - at.excess) / at.density)
    down = jnp.floor((at.excess + sigma) / at.density)
    return 0.5 * (jnp.maximum(up, 0) + jnp.maximum(down, 0))
