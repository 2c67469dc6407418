"""Whether predicted intervals cover what they promise."""

import jax
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.errors import InputError, fail
from bbb.metrics.inputs import as_alike, as_draws, check_ends, mean_over_rows, rising_levels, unit_interval


def interval_score(y: ArrayLike, lower: ArrayLike, upper: ArrayLike, level: float) -> np.ndarray:
    """Return the interval score of central intervals of nominal coverage `level`, in units of y.

    The width, plus 2/(1 − level) times the distance by which an observation lies outside.

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, a lower end above its
            upper one, or a level outside (0, 1).

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 43.

    Example:
        >>> import bbb
        >>> bbb.metrics.interval_score([0.0, 3.0], [-1.0, -1.0], [1.0, 1.0], 0.9).round(1)
        array([ 2., 42.])
    """
    level = checks.probability("level", level)
    y, lower, upper = as_alike(y=y, lower=lower, upper=upper)
    check_ends(lower, upper)
    outside = np.maximum(lower - y, 0) + np.maximum(y - upper, 0)
    return upper - lower + 2 / (1 - level) * outside


def coverage(y: ArrayLike, lower: ArrayLike, upper: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the share of observations inside their intervals, ends included: 0 to 1.

    Args:
        y: (rows, ...).
        lower: likewise, the lower ends.
        upper: likewise, the upper ends.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, a lower end above its
            upper one, or weights that are not at least 0, or all 0.

    Example:
        >>> import bbb
        >>> round(float(bbb.metrics.coverage([0.0, 1.0, 5.0], [-1.0, 0.0, 0.0], [1.0, 2.0, 2.0])), 3)
        0.667
    """
    y, lower, upper = as_alike(y=y, lower=lower, upper=upper)
    check_ends(lower, upper)
    return float(np.mean(mean_over_rows((lower <= y) & (y <= upper), sample_weight)))


def interval_width(lower: ArrayLike, upper: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean width of intervals, in units of y.

    Args:
        lower: (rows, ...), the lower ends.
        upper: likewise, the upper ends.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: as `coverage`.

    Example:
        >>> import bbb
        >>> float(bbb.metrics.interval_width([0.0, 1.0], [2.0, 5.0]))
        3.0
    """
    lower, upper = as_alike(lower=lower, upper=upper)
    check_ends(lower, upper)
    return float(np.mean(mean_over_rows(upper - lower, sample_weight)))


def pit(key: jax.Array, below: ArrayLike, upto: ArrayLike) -> np.ndarray:
    """Return the randomised probability integral transform of observations of a discrete distribution: y's shape.

    P(Y < y) + v·P(Y = y), with v uniform: uniform on (0, 1) if the predictive is right. For a continuous
    distribution the transform is simply its cdf at y.

    Args:
        key: one typed JAX key, for v.
        below: P(Y < y) at each observation.
        upto: P(Y ≤ y).

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
        ShapeError, InputError: for arrays of different shapes, or numbers that are not such probabilities.

    Source: Czado et al. 2009, Biometrics 65, 1254, §2.1 (randomised PIT).

    Example:
        >>> import bbb, jax
        >>> bbb.metrics.pit(
        ...     jax.random.key(0), [0.25], [0.25]
        ... )  # of numbers that are not discrete both are the CDF
        array([0.25])
    """
    checks.outside("pit", key=key, below=below, upto=upto)
    checks.key(key)
    below, upto = as_alike(below=unit_interval("below", below), upto=unit_interval("upto", upto))
    if (below > upto).any():
        at = np.argwhere(below > upto)[0]
        got = f"{below[tuple(at)]:g} above {upto[tuple(at)]:g} at index {tuple(map(int, at))}"
        fail(InputError, "below to be at most upto", got, "Pass P(Y < y) first, P(Y ≤ y) second.")
    return below + _uniforms(key, below.shape) * (upto - below)


def pit_draws(key: jax.Array, y: ArrayLike, draws: ArrayLike) -> np.ndarray:
    """Return the probability integral transform of observations among draws of them: y's shape.

    (#{draws < y} + v·(1 + #{draws = y}))/(draws + 1), with v uniform: exactly uniform on (0, 1), for any number of
    draws, if observation and draws come from one distribution, which may be discrete.

    Args:
        key: one typed JAX key, for v.
        y: (rows, ...).
        draws: (draws, rows, ...), of new observations y, not of the function.

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
        ShapeError, InputError: for shapes that do not fit, or numbers that are not finite.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> import jax
        >>> draws = np.linspace(-1, 1, 9)[:, None]
        >>> bool(bbb.metrics.pit_draws(jax.random.key(0), [0.1], draws)[0] > 0.5)
        True
    """
    checks.outside("pit_draws", key=key, y=y, draws=draws)
    checks.key(key)
    y, draws = as_draws(y, draws)
    below, equal = np.sum(draws < y, axis=0), np.sum(draws == y, axis=0)
    return (below + _uniforms(key, y.shape) * (1 + equal)) / (len(draws) + 1)


def observed_coverage(pit: ArrayLike, levels: ArrayLike, *, sample_weight: ArrayLike | None = None) -> np.ndarray:
    """Return the share of observations inside central intervals of each nominal level: (levels,), 0 to 1.

    y is inside the central interval of level c where its transform u has `|2u − 1| ≤ c`.

    Args:
        pit: the probability integral transform of each observation, of any shape.
        levels: nominal coverages, rising, inside (0, 1).
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: for transforms outside [0, 1], levels outside (0, 1) or out of order, or weights that
            are not at least 0, or all 0.

    Example:
        >>> import bbb
        >>> bbb.metrics.observed_coverage([0.1, 0.4, 0.5, 0.9], [0.5, 0.9])
        array([0.5, 1. ])
    """
    values, nominal = unit_interval("pit", pit), rising_levels("levels", levels)
    inside = np.abs(2 * values.reshape(len(values), -1, 1) - 1) <= nominal
    return mean_over_rows(np.mean(inside, axis=1), sample_weight)


def _uniforms(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(jax.random.uniform(key, shape, "float64"))
