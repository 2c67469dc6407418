"""Measures of a predictive distribution: proper scores of each row, coverage, calibration, and entropy.

Scores are computed on the host in float64, whatever the settings of JAX, and are returned as NumPy: arrays with one
score for each observation, lower is better, or a float for a measure of all observations together. `y` is any array of
observations (rows, ...), and predictions of it have that shape too; draws and the components of a mixture have a
leading axis, (draws, rows, ...). Measures of all observations take `sample_weight`, (rows,), how often each row counts;
scores of each are averaged so by `np.average(scores, axis=0, weights=sample_weight)`. Only `predictive_entropy` is a
JAX function, which can be compiled.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr
from numpy.typing import ArrayLike

from bbb import checks
from bbb.errors import ShapeError, fail
from bbb.metrics.inputs import as_alike, as_draws, mean_over_rows


def rmse(y: ArrayLike, mean: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the root mean squared error over all observations, in units of y.

    Args:
        y: (rows, ...).
        mean: likewise, the predictions.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, or weights that are not at
            least 0, or all 0.

    Example:
        >>> import bbb
        >>> round(bbb.metrics.rmse([0.0, 1.0], [0.0, 3.0]), 3)
        1.414
    """
    y, mean = as_alike(y=y, mean=mean)
    return float(np.sqrt(np.mean(mean_over_rows(np.square(y - mean), sample_weight))))


def crps_normal(y: ArrayLike, mean: ArrayLike, std: ArrayLike) -> np.ndarray:
    """Return the continuous ranked probability score of N(mean, std²) at each y, in units of y.

    With z = (y − mean)/std, it is std·(z·(2Φ(z) − 1) + 2φ(z) − 1/√π).

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, or a std that is not
            positive; a std may also be one number.

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 21.

    Example:
        >>> import bbb
        >>> bbb.metrics.crps_normal([0.0, 2.0], [0.0, 0.0], [1.0, 1.0]).round(3)
        array([0.234, 1.453])
    """
    checks.outside("crps_normal", y=y, mean=mean, std=std)
    y, mean = as_alike(y=y, mean=mean)
    std = _stds(std, mean)
    with jax.enable_x64(True):
        return np.asarray(_absolute_normal(y - mean, std)) - std / math.sqrt(math.pi)


def crps_draws(y: ArrayLike, draws: ArrayLike) -> np.ndarray:
    """Return the continuous ranked probability score of the empirical distribution of draws at each y, in units of y.

    CRPS = `E|X − y| − ½E|X − X′|`, with X and X′ independent picks among the S draws, which may be the same one.
    Sorted, the second term is `Σ (2i − S − 1)·x_(i) / S²`: S·log S operations.

    Args:
        y: (rows, ...).
        draws: (draws, rows, ...), of new observations y, not of the function.

    Raises:
        ShapeError, InputError: for shapes that do not fit, or numbers that are not finite.

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 21 and the text below it.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> draws = np.random.default_rng(0).normal(size=(1000, 1))
        >>> bbb.metrics.crps_draws([0.0], draws).round(1)
        array([0.2])
    """
    y, draws = as_draws(y, draws)
    count = len(draws)
    ordered = np.sort(draws - y, axis=0)  # errors: small numbers, whose differences keep their digits
    weights = (2 * np.arange(1, count + 1) - count - 1) / count**2
    return np.mean(np.abs(ordered), axis=0) - np.tensordot(weights, ordered, axes=1)


def crps_normal_mixture(y: ArrayLike, means: ArrayLike, stds: ArrayLike) -> np.ndarray:
    """Return the continuous ranked probability score of an equally weighted mixture of Gaussians, in units of y.

    With `A(d, s) = E|N(d, s²)| = d·(2Φ(d/s) − 1) + 2s·φ(d/s)`, for S components,

        CRPS = 1/S·Σ_i A(y − m_i, s_i) − 1/(2S²)·Σ_ij A(m_i − m_j, √(s_i² + s_j²))

    The second sum, of S² terms, equals ∫ F·(1 − F) with F the cdf of the mixture: since F is analytic, the trapezoidal
    rule with a step of 0.6 of the least std is right to eleven digits, in S operations a step. For each row, the
    cheaper of the two is used.

    Args:
        y: (rows, ...).
        means: (draws, rows, ...), such as the draws of a network with a Gaussian likelihood.
        stds: the same shape, or one that broadcasts to it, such as the one number of a constant noise; above 0.

    Raises:
        ShapeError, InputError: for shapes that do not fit, numbers that are not finite, or a std that is not positive.

    Source: Grimit et al. 2006, Q. J. R. Meteorol. Soc. 132, 2925, eq. 5.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> means, stds = np.array([[-1.0], [1.0]]), np.ones((2, 1))
        >>> bbb.metrics.crps_normal_mixture([0.0], means, stds).round(3)
        array([0.359])
    """
    checks.outside("crps_normal_mixture", y=y, means=means, stds=stds)
    y, means = as_draws(y, means)
    stds = _stds(stds, means)
    components = (part.reshape(len(means), -1).T for part in (means - y, stds))
    with jax.enable_x64(True):
        scores = [_crps_of_mixture(m, s) for m, s in zip(*components, strict=True)]
    return np.asarray(scores).reshape(y.shape)


TAILS = 7.5
"""Standard deviations to which a Gaussian is integrated: 1e-13 of it is outside."""


STEP = 0.6
"""The step of the trapezoidal rule, in units of the least std s: its error is exp(−(π·s/step)²), 1e-12 here."""


@jax.jit
def _absolute_normal(mean: jax.Array, std: jax.Array) -> jax.Array:
    """Return E|N(mean, std²)|."""
    z = mean / std
    density = jnp.exp(-0.5 * jnp.square(z)) / math.sqrt(2 * math.pi)
    return mean * (2 * ndtr(z) - 1) + 2 * std * density


def _crps_of_mixture(means: np.ndarray, stds: np.ndarray) -> float:
    """Return the score of one mixture, (components,), at 0."""
    low, high, step = np.min(means - TAILS * stds), np.max(means + TAILS * stds), STEP * np.min(stds)
    steps = (high - low) / step
    if steps > len(means):
        return float(_crps_by_pairs(means, stds))
    # the number of steps is a power of two, so that few programs are compiled
    return float(_crps_by_steps(means, stds, low, high, steps=2 ** math.ceil(math.log2(steps))))


@jax.jit
def _crps_by_pairs(means: jax.Array, stds: jax.Array) -> jax.Array:
    def mean_distance(component: tuple[jax.Array, jax.Array]) -> jax.Array:
        m, s = component
        return jnp.mean(_absolute_normal(means - m, jnp.hypot(stds, s)))

    return jnp.mean(_absolute_normal(means, stds)) - 0.5 * jnp.mean(lax.map(mean_distance, (means, stds)))


@partial(jax.jit, static_argnames=("steps",))
def _crps_by_steps(means: jax.Array, stds: jax.Array, low: jax.Array, high: jax.Array, *, steps: int) -> jax.Array:
    step = (high - low) / steps

    def spread(i: jax.Array) -> jax.Array:
        cdf = jnp.mean(ndtr((low + step * i - means) / stds))
        return cdf * (1 - cdf)

    return jnp.mean(_absolute_normal(means, stds)) - step * jnp.sum(lax.map(spread, jnp.arange(1.0, steps)))


def _stds(std: ArrayLike, mean: np.ndarray) -> np.ndarray:
    checks.positive("std", std)
    std = np.asarray(std, np.float64)
    try:
        return np.broadcast_to(std, mean.shape)
    except ValueError:
        do = "Pass one number, or a std for each mean."
        fail(ShapeError, f"a std that broadcasts to the means' {mean.shape}", f"{std.shape}", do)
