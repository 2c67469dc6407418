"""What many draws say at each row: means, spreads, quantiles, and the Monte Carlo error of each of them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr, ndtri

from bbb import _check
from bbb._compile import jit
from bbb.likelihood import Likelihood
from bbb.metrics import Entropy, predictive_entropy
from bbb.moments import Closed

SPACING = 1.5
"""Half-width, in standard errors of p, of the stretch of order statistics a quantile's error is read from."""

NEWTON_STEPS = 40
"""Bound on the safeguarded Newton steps for a mixture's quantile; six or seven are usual."""


Estimate = tuple[Any, Any]
"""A value and its Monte Carlo standard error."""


class Interval(NamedTuple):
    """The two ends of a band, arrays of the shape of the outputs."""

    lower: np.ndarray
    upper: np.ndarray


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


@dataclasses.dataclass(frozen=True, eq=False)
class Marginal:
    """The predictive distribution of one quantity, for each row on its own; in the units of y.

    Attributes:
        mean: (rows, ...), the mean over the draws.
        std: (rows, ...), the standard deviation.
        draws: how many draws of the network it rests on; 0 for a closed form.

    Every `mcse_…` is the Monte Carlo standard error of the estimate it names: how far it would vary if other draws
    were taken. It falls with the square root of `draws`, is infinite for a single draw, and 0 for a closed form.
    """

    mean: np.ndarray
    std: np.ndarray
    draws: int
    moments: Moments
    _table: dict[float, Estimate]
    _later: Callable[[float], Estimate] | None

    @property
    def mcse_mean(self) -> np.ndarray:
        """The Monte Carlo standard error of `mean`."""
        return self._mcse(self.moments.value_variance)

    @property
    def mcse_std(self) -> np.ndarray:
        """The Monte Carlo standard error of `std`, by the delta method, without assuming Gaussian draws."""
        return self._mcse(self.moments.psi_variance) / (2 * self._safe_std)

    def sigma_interval(self, sigmas: float) -> Interval:
        """Give mean ± sigmas·std.

        Raises:
            InputError: if `sigmas` is not positive and finite.
        """
        _check.positive("sigmas", sigmas)
        return Interval(self.mean - sigmas * self.std, self.mean + sigmas * self.std)

    def mcse_sigma_interval(self, sigmas: float) -> Interval:
        """Give the Monte Carlo standard errors of the two ends of `sigma_interval`."""
        _check.positive("sigmas", sigmas)
        slope = sigmas / (2 * self._safe_std)
        m = self.moments
        square, cross = m.value_variance + slope**2 * m.psi_variance, 2 * slope * m.covariance
        return Interval(self._mcse(np.maximum(square - cross, 0)), self._mcse(np.maximum(square + cross, 0)))

    def quantile(self, p: float) -> np.ndarray:
        """Give the value that a share `p` of the distribution lies below, for each row.

        Raises:
            InputError: if `p` is not inside (0, 1).
            QuantileError: if `p` was not asked for, and the draws were too many to keep.
        """
        return self._lookup(p)[0]

    def mcse_quantile(self, p: float) -> np.ndarray:
        """Give the Monte Carlo standard error of `quantile(p)`."""
        return self._lookup(p)[1]

    def interval(self, level: float) -> Interval:
        """Give the central interval that holds a share `level` of the distribution, such as 0.95.

        Raises:
            InputError: if `level` is not inside (0, 1).
            QuantileError: if `level` was not asked for, and the draws were too many to keep.
        """
        return Interval(*(self.quantile(p) for p in tails(_check.probability("level", level))))

    def mcse_interval(self, level: float) -> Interval:
        """Give the Monte Carlo standard errors of the two ends of `interval(level)`."""
        return Interval(*(self.mcse_quantile(p) for p in tails(_check.probability("level", level))))

    def mcse(self, ps: Sequence[float]) -> list[np.ndarray]:
        """Give the Monte Carlo standard errors of the mean, of the std and of the quantiles `ps`."""
        return [self.mcse_mean, self.mcse_std, *(self.mcse_quantile(p) for p in ps)]

    def _mcse(self, influence_variance: np.ndarray) -> np.ndarray:
        if self.draws == 0:
            return np.zeros_like(self.mean)
        if self.draws == 1:
            return np.full_like(self.mean, np.inf)
        return np.sqrt(influence_variance / self.draws)

    @property
    def _safe_std(self) -> np.ndarray:
        return np.maximum(self.std, np.finfo(self.std.dtype).tiny)

    def _lookup(self, p: float) -> Estimate:
        p = resolved(_check.probability("p", p), self.mean.dtype)
        if p not in self._table:
            if self._later is None:
                known = ", ".join(f"{q:g}" for q in sorted(self._table)) or "none"
                _check.fail(
                    _check.QuantileError,
                    f"a quantile that was asked for when predicting ({known})",
                    f"{p:g}, and the draws were too many to keep",
                    "Pass predict(..., levels=(0.95,)) for intervals or quantiles=(0.1,) for quantiles, "
                    "or a larger memory.",
                )
            self._table[p] = self._later(p)
        return self._table[p]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassMarginal:
    """The predictive distribution of a class, for each row on its own.

    Attributes:
        probabilities: (rows, classes), the mean over the draws.
        mcse_probabilities: the Monte Carlo standard error of each.
        entropy: in nats, (rows,) each: how unsure the prediction is in all, `total`; of that, `aleatoric`, which more
            data would not lower, and `epistemic`, by how much the draws disagree.
        draws: how many draws of the network it rests on.
    """

    probabilities: np.ndarray
    mcse_probabilities: np.ndarray
    entropy: Entropy
    draws: int

    @property
    def classes(self) -> np.ndarray:
        """The most probable class of each row, (rows,)."""
        return self.probabilities.argmax(axis=1)

    def mcse(self, ps: Sequence[float]) -> list[np.ndarray]:
        """Give the Monte Carlo standard errors of the probabilities; a class has no quantiles."""
        del ps
        return [self.mcse_probabilities]


@dataclasses.dataclass(frozen=True, eq=False)
class Predictive:
    """What the model predicts, for each row.

    Attributes:
        f: the function: the spread of the network's own outputs, epistemic only.
        y: a new observation: epistemic and aleatoric, the exact mixture of the draws' likelihoods. A `Marginal` of
            numbers, or a `ClassMarginal` of classes.
        draws: how many draws of the network both rest on; 0 for a closed form.
        method: how it was computed, as `predict` was told.
        assumptions: what a closed form took for granted about mean and std, and where; none if they are exact.
    """

    f: Marginal
    y: Any
    draws: int
    method: str = "draws"
    assumptions: tuple[str, ...] = ()


def tails(level: float) -> tuple[float, float]:
    """Give the two probabilities between which a central interval of this level lies."""
    return (1 - level) / 2, (1 + level) / 2


def resolved(p: float, dtype: Any) -> float:
    """Give p as quantiles are filed, refusing one that the dtype of the outputs cannot tell from 0 or 1.

    Raises:
        InputError: for a p closer to 0 or 1 than four units of rounding.
    """
    p, least = round(p, 12), 4 * float(jnp.finfo(dtype).eps)
    if not least <= p <= 1 - least:
        _check.fail(
            _check.InputError,
            f"probabilities that {jnp.dtype(dtype).name} can tell from 0 and 1, at least {least:.1g} from both",
            f"{p:.12g}",
            "Pass a less extreme level, or use float64 (jax_enable_x64).",
        )
    return p


class Normals:
    """Components N(mean, variance), of which `outputs` holds a pair for each: what is left to chance within a draw."""

    @staticmethod
    def mean(outputs: Closed) -> jax.Array:
        """Give the components' means."""
        return outputs.mean

    @staticmethod
    def variance(outputs: Closed) -> jax.Array:
        """Give the components' variances."""
        return outputs.variance

    @staticmethod
    def cdf(y: jax.Array, outputs: Closed) -> jax.Array:
        """Give Φ((y − mean)/std) of each component."""
        return ndtr((y - outputs.mean) / _std(outputs))

    @staticmethod
    def density(y: jax.Array, outputs: Closed) -> jax.Array:
        """Give the density of each component at y."""
        std = _std(outputs)
        return jnp.exp(-0.5 * jnp.square((y - outputs.mean) / std)) / (std * math.sqrt(2 * math.pi))

    @staticmethod
    def quantile(p: jax.Array, outputs: Closed) -> jax.Array:
        """Give mean + std·Φ⁻¹(p) of each component."""
        return outputs.mean + _std(outputs) * ndtri(p)


def _std(outputs: Closed) -> jax.Array:
    return jnp.sqrt(jnp.maximum(outputs.variance, jnp.finfo(outputs.variance.dtype).tiny))


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
    f_quantiles = function_quantiles(outputs, f_ps, group=group) if f_ps else []
    if hasattr(likelihood, "probabilities"):
        f = _moments(outputs, jnp.zeros_like(outputs), group) if moments_too else ()
        return Summary(f, _classes(likelihood, outputs, group) if moments_too else (), f_quantiles, [])
    f, y = moments(likelihood, outputs, group=group) if moments_too else ((), ())
    y_quantiles = observation_quantiles(likelihood, outputs, y_ps, group=group) if y_ps else []
    return Summary(f, y, f_quantiles, y_quantiles)


def _classes(likelihood: Any, outputs: jax.Array, group: int) -> tuple[jax.Array, jax.Array, Entropy]:
    """Give the mean probabilities, the spread that their error is made of, and the entropies of each row."""
    probabilities = likelihood.probabilities(outputs)
    spread = _influence_std(probabilities, group)
    return _mean(probabilities), spread, predictive_entropy(probabilities)


@partial(jit, static_argnames=("group",))
def moments(likelihood: Likelihood, outputs: jax.Array, *, group: int = 1) -> tuple[Moments, Moments]:
    """Summarise draws (draws, rows, ...) of the function: moments of f and of y, each leaf (rows, ...).

    Draws are independent in groups of `group` neighbours: 1, or 2 for antithetic pairs.
    """
    values, variances = likelihood.mean(outputs), likelihood.variance(outputs)
    return _moments(outputs, jnp.zeros_like(outputs), group), _moments(values, variances, group)


def _moments(values: jax.Array, variances: jax.Array, group: int) -> Moments:
    draws = values.shape[0]
    mean = _mean(values)
    deviations = values - mean[None]
    psi = jnp.square(deviations) + variances
    psi_deviations = psi - _mean(psi)[None]
    variance = _mean(jnp.square(deviations)) * (draws / max(draws - 1, 1)) + _mean(variances)
    value, square = _group_means(deviations, group), _group_means(psi_deviations, group)
    groups = value.shape[0]
    scale = group * groups / max(groups - 1, 1)
    return Moments(
        mean=mean,
        variance=variance,
        value_variance=_mean(jnp.square(value)) * scale,
        psi_variance=_mean(jnp.square(square)) * scale,
        covariance=_mean(value * square) * scale,
    )


def _group_means(influences: jax.Array, group: int) -> jax.Array:
    """Average what depends on each other, so that the spread of the averages is that of chance."""
    if group == 1:
        return influences
    return jnp.mean(influences.reshape(-1, group, *influences.shape[1:]), axis=1)


def _influence_std(influences: jax.Array, group: int) -> jax.Array:
    """Give the standard deviation that, over √draws, is the standard error of the mean of `influences`."""
    means = _group_means(influences, group)
    groups = means.shape[0]
    return jnp.sqrt(_mean(jnp.square(means - _mean(means)[None])) * (group * groups / max(groups - 1, 1)))


def _mean(values: jax.Array) -> jax.Array:
    """Average over draws, with all else on one axis: XLA's loop over a last axis of length 1 is 40 times slower."""
    return jnp.mean(values.reshape(values.shape[0], -1), axis=0).reshape(values.shape[1:])


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


@partial(jit, static_argnames=("group",))
def observation_quantiles(likelihood: Any, outputs: Any, ps: tuple[float, ...], *, group: int = 1) -> list[Estimate]:
    """Give quantiles of the mixture (1/S)·Σ_s p(y | draw s), for each p: leaves (rows, ...).

    The error is σ_p, the spread of the components' cdfs at the quantile over √S, times the slope of the quantile
    function over p ± σ_p. (The slope at p itself, one over the density, is useless in a tail of few components.)
    """
    means = likelihood.mean(outputs)
    draws, rounding = means.shape[0], float(jnp.finfo(means.dtype).eps)
    centre = _mean(means)
    spread = jnp.sqrt(_mean(jnp.square(means - centre[None]) + likelihood.variance(outputs)))

    def estimate(p: jax.Array) -> Estimate:
        guess = centre + ndtri(p) * spread
        root, density = _mixture_root(likelihood, outputs, p, guess, rounding * (2 + 64 * p * (1 - p)))
        sigma = _influence_std(likelihood.cdf(root[None], outputs), group) / math.sqrt(draws)
        below, above = jnp.maximum(p - sigma, 0.25 * p), jnp.minimum(p + sigma, 1 - 0.25 * (1 - p))
        loose = 0.05 * sigma + 4 * rounding
        lower, _ = _mixture_root(likelihood, outputs, below, root - (p - below) / density, loose)
        upper, _ = _mixture_root(likelihood, outputs, above, root + (above - p) / density, loose)
        error = sigma * (upper - lower) / (above - below)
        return root, error if draws > 1 else jnp.full_like(error, jnp.inf)

    return [estimate(jnp.full(means.shape[1:], p, means.dtype)) for p in ps]


def _mixture_root(
    likelihood: Any, outputs: Any, p: jax.Array, guess: jax.Array, tolerance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Solve mean_s cdf(root | draw s) = p for each row, up to `tolerance` in p; give the root and the density there.

    The root lies between the least and the greatest of the components' own quantiles; Newton steps that leave the
    bracket become bisections.
    """
    components = likelihood.quantile(p[None], outputs)
    low, high = jnp.min(components, axis=0), jnp.max(components, axis=0)

    def newton(carry: Any) -> Any:
        low, high, root, _, _, step = carry
        excess = _mean(likelihood.cdf(root[None], outputs)) - p
        density = _mean(likelihood.density(root[None], outputs))
        low, high = jnp.where(excess < 0, root, low), jnp.where(excess < 0, high, root)
        proposal = root - excess / density
        inside = (proposal >= low) & (proposal <= high)  # false also where the density underflowed
        solved = jnp.abs(excess) <= tolerance
        moved = jnp.where(solved, root, jnp.where(inside, proposal, low + 0.5 * (high - low)))
        return low, high, moved, density, jnp.all(solved), step + 1

    inside = (guess >= low) & (guess <= high)
    start = (low, high, jnp.where(inside, guess, low + 0.5 * (high - low)), jnp.ones_like(low), False, 0)
    _, _, root, density, _, _ = lax.while_loop(lambda c: ~c[4] & (c[5] < NEWTON_STEPS), newton, start)
    return root, density
