"""Estimates from draws for each row: moments and quantiles, each with its Monte Carlo standard error."""

import math
from functools import lru_cache, partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb.core.ability import implements
from bbb.core.jit import jit
from bbb.core.tree import Tree, is_floating
from bbb.likelihoods.protocol import (
    NumericLikelihood,
    SupportsClasses,
    SupportsFunction,
    SupportsGaussianNoise,
    SupportsQuantiles,
)
from bbb.metrics.classification import Entropy
from bbb.mixture.distribution import Mixture, Normals, Root, group_means, mean_of_draws, solve, without_lone_axis
from bbb.mixture.entropy import entropies
from bbb.mixture.quantile_error import quantile_error
from bbb.moments.values import MeanVariance

SPACING = 1.5
"""Half-width, in standard errors of p, of the range of order statistics that a quantile's error is estimated from."""


MIN_SPACINGS = 20
"""The least number of spacings in that range: the slope is then known to 22 %."""


MANY_BEYOND = 100
"""Number of draws beyond a quantile from which its error is the asymptotic one, within 1 %."""


SIMULATED = 2**14
"""Number of simulated sets of Gaussian draws for the error of a quantile further out, which is right to 1 or 2 %."""


Estimate = tuple[Tree, Tree]
"""A value and its Monte Carlo standard error: arrays of JAX while draws are summarised, and of NumPy afterwards."""


class Moments(NamedTuple):
    """The moments of values v_s with variances a_s that the mean, the std and their Monte Carlo errors follow from.

    With ψ_s = (v_s − v̄)² + a_s, the total variance is the mean of ψ, and an estimate's error follows from the
    variance of its influence function: v for the mean, ψ for the variance, (v ± k·ψ/(2 std)) for mean ± k·std.
    """

    mean: Tree
    variance: Tree
    value_variance: Tree
    psi_variance: Tree
    covariance: Tree


class Summary(NamedTuple):
    """The summary of a block of draws; what was not asked for is empty.

    Attributes:
        f: `Moments` of the function.
        y: `Moments` of a new observation, or `Classes`.
        f_quantiles: of the function, one for each p.
        y_quantiles: likewise.
    """

    f: Tree
    y: Tree
    f_quantiles: list[Estimate]
    y_quantiles: list[Estimate]


def summarise(
    likelihood: SupportsFunction,
    outputs: jax.Array | MeanVariance,
    *,
    group: int = 1,
    moments_too: bool = False,
    f_ps: tuple[float, ...] = (),
    y_ps: tuple[float, ...] = (),
) -> Summary:
    """Summarise draws: an array (draws, rows, ...), or the means and variances of Gaussians, of that shape each.

    Numbers of 16 bits are brought to float32 first: draws may be coarse, but not sums over thousands of them.
    """
    likelihood, outputs = widened((likelihood, outputs))
    if isinstance(outputs, MeanVariance):
        observed = MeanVariance(*cast(SupportsGaussianNoise, likelihood).observed(*outputs))
        f, y = (_moments(*pair, group) for pair in (outputs, observed)) if moments_too else ((), ())
        f_quantiles = observation_quantiles(Normals, outputs, f_ps, group=group) if f_ps else []
        return Summary(f, y, f_quantiles, observation_quantiles(Normals, observed, y_ps, group=group) if y_ps else [])
    function = likelihood.function(outputs)
    f_quantiles = function_quantiles(function, f_ps, group=group) if f_ps else []
    if implements(likelihood, SupportsClasses):
        f = _moments(function, jnp.zeros_like(function), group) if moments_too else ()
        return Summary(f, _classes(likelihood, outputs, group) if moments_too else (), f_quantiles, [])
    f, y = moments(likelihood, outputs, group=group) if moments_too else ((), ())
    y_quantiles = observation_quantiles(likelihood, outputs, y_ps, group=group) if y_ps else []
    return Summary(f, y, f_quantiles, y_quantiles)


def widened(tree: Tree) -> Tree:
    """Return a tree with its numbers of 16 bits in float32."""

    def leaf(value: Tree) -> Tree:
        return value.astype(np.float32) if is_floating(value) and value.dtype.itemsize < 4 else value

    return jax.tree.map(leaf, tree)


class Classes(NamedTuple):
    """The mean probability of each class and the entropies of each row, each with its Monte Carlo standard error."""

    probabilities: Tree
    mcse_probabilities: Tree
    entropy: Entropy
    mcse_entropy: Entropy


def _classes(likelihood: SupportsClasses, outputs: jax.Array, group: int) -> Classes:
    probabilities = likelihood.probabilities(outputs)
    draws, *shape, classes = probabilities.shape
    error = _influence_std(probabilities, group) / math.sqrt(draws)
    found = entropies(probabilities.reshape(draws, -1, classes), group)
    entropy, mcse = jax.tree.map(lambda nats: nats.reshape(shape), found)
    return Classes(mean_of_draws(probabilities), error, entropy, mcse)


@partial(jit, static_argnames=("group",))
def moments(likelihood: NumericLikelihood, outputs: jax.Array, *, group: int = 1) -> tuple[Moments, Moments]:
    """Return the moments of f and of y for draws (draws, rows, ...) of the outputs: each leaf (rows, ...).

    Draws are independent in groups of `group` neighbours: 1, or 2 for antithetic pairs.
    """
    function, values, variances = likelihood.function(outputs), likelihood.mean(outputs), likelihood.variance(outputs)
    return _moments(function, jnp.zeros_like(function), group), _moments(values, variances, group)


def _moments(values: jax.Array, variances: jax.Array, group: int) -> Moments:
    draws, *shape = values.shape
    values, variances = without_lone_axis((values, variances))
    mean = mean_of_draws(values)
    deviations = values - mean[None]
    deviations = deviations - mean_of_draws(deviations)[None]  # the rounding error of the mean (corrected two-pass)
    psi = jnp.square(deviations) + variances
    psi_deviations = psi - mean_of_draws(psi)[None]
    variance = mean_of_draws(jnp.square(deviations)) * (draws / max(draws - 1, 1)) + mean_of_draws(variances)
    value, square = group_means(deviations, group), group_means(psi_deviations, group)
    groups = value.shape[0]
    scale = group * groups / max(groups - 1, 1)
    alone = groups < 2  # the spread of one is not known
    found = Moments(
        mean=mean,
        variance=variance,
        value_variance=jnp.full_like(mean, jnp.inf) if alone else mean_of_draws(jnp.square(value)) * scale,
        psi_variance=jnp.full_like(mean, jnp.inf) if alone else mean_of_draws(jnp.square(square)) * scale,
        covariance=mean_of_draws(value * square) * scale,
    )
    return jax.tree.map(lambda leaf: leaf.reshape(shape), found)


def _influence_std(influences: jax.Array, group: int) -> jax.Array:
    """Compute the std that, over √draws, is the standard error of the mean of `influences`; inf of a single group."""
    means = group_means(influences, group)
    if means.shape[0] < 2:
        return jnp.full_like(means[0], jnp.inf)
    scale = group * means.shape[0] / (means.shape[0] - 1)
    return jnp.sqrt(mean_of_draws(jnp.square(means - mean_of_draws(means)[None])) * scale)


class OrderStatistics(NamedTuple):
    """The order statistics that a quantile and its error are estimated from, counted from 1 at the nearer end.

    Attributes:
        rank: of the quantile itself, between two whole numbers.
        first: the rank of the outermost one that the slope is computed from.
        last: the rank of the innermost.
        gaps: (last − first,), the expected distances between them for N(0, 1) draws.
        factor: the error of the quantile over the slope, which is the std of the draws if they are Gaussian.
    """

    rank: float
    first: int
    last: int
    gaps: np.ndarray
    factor: float

    @property
    def noise(self) -> float:
        """The relative standard error of the slope, and hence of the quantile's error itself."""
        return 1 / math.sqrt(max(self.last - self.first, 1))


@lru_cache(maxsize=256)
def stretch(p: float, draws: int) -> OrderStatistics:
    """Choose the order statistics around the quantile p, and compute the factor from their slope to an error.

    The slope is the mean of the spacings, each over its expectation for N(0, 1): `SPACING` standard errors of p to
    either side, and at least `MIN_SPACINGS` of them, where there are that many draws.

    The factor is √(p(1−p)/draws)/φ(z_p) far inside (Woodruff 1952, J. Am. Stat. Assoc. 47, 635, in which the slope is
    that of the quantile function). With fewer than `MANY_BEYOND` draws beyond, it is computed from the order statistics
    of simulated N(0, 1) draws, such that 1.96 errors cover the truth in 95 of 100 cases: this accounts for the bias
    where a quantile lies beyond all draws, and for the noise of the slope. Such a tail is assumed to be Gaussian.
    """
    tail = min(p, 1 - p)
    beyond = tail * draws
    rank = 1 + tail * (draws - 1)
    width = max(SPACING * math.sqrt(beyond * (1 - tail)), MIN_SPACINGS / 2)
    first = max(math.floor(rank - width), 1)
    last = min(max(math.ceil(rank + width), first + MIN_SPACINGS), draws)
    ranks = np.arange(first, last + 1)
    scores = -_normal_quantile((ranks - 0.375) / (draws + 0.25))  # Blom's, of the expected order statistics
    density = math.exp(-0.5 * float(_normal_quantile(tail)) ** 2) / math.sqrt(2 * math.pi)
    found = OrderStatistics(rank, first, last, -np.diff(scores), math.sqrt(tail * (1 - tail) / draws) / density)
    return found if beyond >= MANY_BEYOND else found._replace(factor=_simulated_factor(found, tail, draws))


def _normal_quantile(p: float | np.ndarray) -> np.ndarray:
    """Return Φ⁻¹(p) in float64."""
    from scipy.special import ndtri  # noqa: PLC0415 - half as long to import as the rest of bbb

    return ndtri(p)


def _simulated_factor(found: OrderStatistics, tail: float, draws: int) -> float:
    """Return the factor with which 1.96 slopes cover the true quantile of N(0, 1) draws in 95 of 100 cases."""
    rng = np.random.default_rng(0)
    k = min(math.floor(found.rank), draws - 1)
    start = min(found.first, k)
    sums = rng.exponential(size=(SIMULATED, found.last - start + 1))  # Rényi 1953, Acta Math. Hung. 4, 191
    sums[:, 0] = rng.gamma(start, size=SIMULATED)
    sums = np.cumsum(sums, axis=1)
    total = sums[:, -1:] + rng.gamma(draws + 1 - found.last, size=(SIMULATED, 1))
    ordered = -_normal_quantile(sums / total)  # from the greatest but `start` on, in falling order
    value = ordered[:, k - start] + (found.rank - k) * (ordered[:, k - start + 1] - ordered[:, k - start])
    slope = np.mean(-np.diff(ordered[:, found.first - start :]) / found.gaps, axis=1)
    return float(np.quantile(np.abs(value + _normal_quantile(tail)) / slope, 0.95) / -_normal_quantile(0.025))


@partial(jit, static_argnames=("ps", "group"))
def function_quantiles(outputs: jax.Array, ps: tuple[float, ...], *, group: int = 1) -> list[Estimate]:
    """Return quantiles of the draws themselves for each p, linear between order statistics: leaves (rows, ...).

    The error is the slope of the order statistics around it, in stds of a Gaussian, times the factor of `stretch`.
    """
    draws = outputs.shape[0]
    if draws == 1:
        return [(outputs[0], jnp.full_like(outputs[0], jnp.inf)) for _ in ps]
    flat = outputs.reshape(draws, -1).T  # (rows·outputs, draws)
    spans = {p: stretch(p, draws) for p in ps}
    most = {low: max([span.last for p, span in spans.items() if (p <= 0.5) == low], default=0) for low in (True, False)}
    # from the nearer end inwards, and mirrored at 0 where that is the upper one
    ends = {low: lax.top_k(-flat if low else flat, count)[0] for low, count in most.items() if count}

    def estimate(p: float) -> Estimate:
        low, span = p <= 0.5, spans[p]
        end, k = ends[low], min(math.floor(span.rank), draws - 1)
        value = end[:, k - 1] + (span.rank - k) * (end[:, k] - end[:, k - 1])
        value = -value if low else value
        spacings = end[:, span.first - 1 : span.last - 1] - end[:, span.first : span.last]
        slope = jnp.mean(spacings / jnp.asarray(span.gaps, flat.dtype)[None], axis=1)
        error = slope * span.factor
        if draws // group < 2:
            error = jnp.full_like(error, jnp.inf)
        elif group > 1:
            error = error * _dependence((flat <= value[:, None]).astype(flat.dtype).T, group)
        return value.reshape(outputs.shape[1:]), error.reshape(outputs.shape[1:])

    return [estimate(p) for p in ps]


def _dependence(indicators: jax.Array, group: int) -> jax.Array:
    """Return the std of a share over that of independent draws, where draws are independent in groups.

    A share is never known better than to one draw. Groups may all have the same, as where half of each Sobol net, or
    one draw of each antithetic pair, lies below the median: the quantile still moves among the draws next to it.
    """
    share = mean_of_draws(indicators)
    alone = jnp.sqrt(share * (1 - share))
    spread = jnp.maximum(_influence_std(indicators, group), 1 / math.sqrt(indicators.shape[0]))
    return jnp.where(alone > 0, spread / jnp.where(alone > 0, alone, 1), 1)


@partial(jit, static_argnames=("ps", "group"))
def observation_quantiles(
    likelihood: SupportsQuantiles, outputs: Tree, ps: tuple[float, ...], *, group: int = 1
) -> list[Estimate]:
    """Return quantiles of the mixture (1/S)·Σ_s p(y | draw s) for each p: leaves (rows, ...); exact for counts.

    The error follows from σ_p, the spread of the components' cdfs at the quantile over √S: see `quantile_error` and
    `_mcse_of_counts`. It is infinite for a single draw, or a single group of draws that depend on each other.
    """
    mixture = Mixture.of(likelihood, outputs, group)
    draws = jax.tree.leaves(outputs)[0].shape[0]

    def estimate(p: jax.Array) -> Estimate:
        p = jnp.broadcast_to(p, mixture.mean.shape)
        found = solve(mixture, p)
        if draws // group < 2:
            error = jnp.full_like(found.root, jnp.inf)
        elif mixture.likelihood.discrete:
            error = _mcse_of_counts(found, found.at.spread / math.sqrt(draws))
        else:
            error = quantile_error(mixture, p, found, draws)
        return found.root.reshape(mixture.shape), error.reshape(mixture.shape)

    values, errors = lax.map(estimate, jnp.asarray(ps, mixture.mean.dtype))  # one search compiled for all
    return list(zip(values, errors, strict=True))


def _mcse_of_counts(found: Root, sigma: jax.Array) -> jax.Array:
    """Return half the distance in y between the quantiles of p ± σ_p, at the density there: 0 well inside a step."""
    at = found.at
    up = jnp.ceil((sigma - at.excess) / at.density)
    down = jnp.floor((at.excess + sigma) / at.density)
    return 0.5 * (jnp.maximum(up, 0) + jnp.maximum(down, 0))
