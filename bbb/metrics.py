"""Measures of a predictive distribution: proper scores of each row, coverage, calibration, and entropy.

Scores are computed on the host in float64, whatever the settings of JAX, and are returned as NumPy: arrays with one
score for each observation, lower is better, or a float for a measure of all observations together. `y` is any array of
observations (rows, ...), and predictions of it have that shape too; draws and the components of a mixture have a
leading axis, (draws, rows, ...). Only `predictive_entropy` is a JAX function, which can be compiled.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import entr, ndtr, rel_entr
from numpy.typing import ArrayLike

from bbb import _check
from bbb._metric_inputs import as_alike, as_draws, check_ends


class Entropy(NamedTuple):
    """The uncertainty of a classifier about each row, in nats, and its two parts: arrays of shape (rows,).

    Attributes:
        total: the entropy of the averaged probabilities; total = aleatoric + epistemic.
        aleatoric: the mean entropy of single draws, which more data would not lower.
        epistemic: the mutual information of the class and the weights: the disagreement of the draws.
    """

    total: jax.Array
    aleatoric: jax.Array
    epistemic: jax.Array


class Reliability(NamedTuple):
    """The accuracy of a classifier by its confidence: arrays of shape (bins,), of equally wide bins of (0, 1].

    Attributes:
        edges: (bins + 1,), from 0 to 1; a bin includes its upper edge.
        counts: the number of rows whose most probable class has a probability in the bin.
        confidence: the mean of those probabilities; NaN in an empty bin.
        accuracy: the share of those rows whose class is the most probable one; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def rmse(y: ArrayLike, mean: ArrayLike) -> float:
    """Return the root mean squared error over all observations, in units of y.

    Raises:
        ShapeError, InputError: for arrays of different shapes, or numbers that are not finite.
    """
    y, mean = as_alike(y=y, mean=mean)
    return float(np.sqrt(np.mean(np.square(y - mean))))


def crps_normal(y: ArrayLike, mean: ArrayLike, std: ArrayLike) -> np.ndarray:
    """Return the continuous ranked probability score of N(mean, std²) at each y, in units of y.

    With z = (y − mean)/std, it is std·(z·(2Φ(z) − 1) + 2φ(z) − 1/√π).

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, or a std that is not
            positive; a std may also be one number.

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 21.
    """
    _check.outside("crps_normal", y=y, mean=mean, std=std)
    y, mean = as_alike(y=y, mean=mean)
    std = _stds(std, mean)
    with jax.enable_x64(True):
        return np.asarray(_absolute_normal(y - mean, std)) - std / math.sqrt(math.pi)


def crps_draws(y: ArrayLike, draws: ArrayLike) -> np.ndarray:
    """Return the continuous ranked probability score of the empirical distribution of draws at each y, in units of y.

    CRPS = E|X − y| − ½E|X − X′|, with X and X′ independent picks among the S draws, which may be the same one. Sorted,
    the second term is Σ (2i − S − 1)·x_(i) / S²: S·log S operations.

    Args:
        y: (rows, ...).
        draws: (draws, rows, ...), of new observations y, not of the function.

    Raises:
        ShapeError, InputError: for shapes that do not fit, or numbers that are not finite.

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 21 and the text below it.
    """
    y, draws = as_draws(y, draws)
    count = len(draws)
    ordered = np.sort(draws - y, axis=0)  # errors: small numbers, whose differences keep their digits
    weights = (2 * np.arange(1, count + 1) - count - 1) / count**2
    return np.mean(np.abs(ordered), axis=0) - np.tensordot(weights, ordered, axes=1)


def crps_normal_mixture(y: ArrayLike, means: ArrayLike, stds: ArrayLike) -> np.ndarray:
    """Return the continuous ranked probability score of an equally weighted mixture of Gaussians, in units of y.

    With A(d, s) = E|N(d, s²)| = d·(2Φ(d/s) − 1) + 2s·φ(d/s), for S components,

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
    """
    _check.outside("crps_normal_mixture", y=y, means=means, stds=stds)
    y, means = as_draws(y, means)
    stds = _stds(stds, means)
    components = (part.reshape(len(means), -1).T for part in (means - y, stds))
    with jax.enable_x64(True):
        scores = [_crps_of_mixture(m, s) for m, s in zip(*components, strict=True)]
    return np.asarray(scores).reshape(y.shape)


def interval_score(y: ArrayLike, lower: ArrayLike, upper: ArrayLike, level: float) -> np.ndarray:
    """Return the interval score of central intervals of nominal coverage `level`, in units of y.

    The width, plus 2/(1 − level) times the distance by which an observation lies outside.

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, a lower end above its
            upper one, or a level outside (0, 1).

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 43.
    """
    level = _check.probability("level", level)
    y, lower, upper = as_alike(y=y, lower=lower, upper=upper)
    check_ends(lower, upper)
    outside = np.maximum(lower - y, 0) + np.maximum(y - upper, 0)
    return upper - lower + 2 / (1 - level) * outside


def coverage(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Return the share of observations inside their intervals, ends included: 0 to 1.

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, or a lower end above its
            upper one.
    """
    y, lower, upper = as_alike(y=y, lower=lower, upper=upper)
    check_ends(lower, upper)
    return float(np.mean((lower <= y) & (y <= upper)))


def interval_width(lower: ArrayLike, upper: ArrayLike) -> float:
    """Return the mean width of intervals, in units of y.

    Raises:
        ShapeError, InputError: as `coverage`.
    """
    lower, upper = as_alike(lower=lower, upper=upper)
    check_ends(lower, upper)
    return float(np.mean(upper - lower))


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
    """
    _check.outside("pit", key=key, below=below, upto=upto)
    _check.key(key)
    below, upto = as_alike(below=unit("below", below), upto=unit("upto", upto))
    if (below > upto).any():
        at = np.argwhere(below > upto)[0]
        got = f"{below[tuple(at)]:g} above {upto[tuple(at)]:g} at index {tuple(map(int, at))}"
        _check.fail(_check.InputError, "below to be at most upto", got, "Pass P(Y < y) first, P(Y ≤ y) second.")
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
    """
    _check.outside("pit_draws", key=key, y=y, draws=draws)
    _check.key(key)
    y, draws = as_draws(y, draws)
    below, equal = np.sum(draws < y, axis=0), np.sum(draws == y, axis=0)
    return (below + _uniforms(key, y.shape) * (1 + equal)) / (len(draws) + 1)


def observed_coverage(pit: ArrayLike, levels: ArrayLike) -> np.ndarray:
    """Return the share of observations inside central intervals of each nominal level: (levels,), 0 to 1.

    y is inside the central interval of level c where its transform u has |2u − 1| ≤ c.

    Args:
        pit: the probability integral transform of each observation, of any shape.
        levels: nominal coverages, rising, inside (0, 1).

    Raises:
        InputError: for transforms outside [0, 1], or levels outside (0, 1) or out of order.
    """
    values, nominal = unit("pit", pit), rising("levels", levels)
    return np.mean(np.abs(2 * values.reshape(-1, 1) - 1) <= nominal, axis=0)


def accuracy(y: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the share of rows whose class is the most probable one: 0 to 1.

    Args:
        y: (rows,), whole numbers from 0.
        probabilities: (rows, classes), such as `bbb.predict(key, model, x).y.probabilities`.

    Raises:
        ShapeError, InputError: for shapes that do not fit, labels out of range, or numbers that are not probabilities.
    """
    labels, p = _labelled(y, probabilities)
    return float(np.mean(p.argmax(axis=1) == labels))


def brier(y: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Return the Brier score of each row, the sum over the classes of (p_k − 1[y = k])²: (rows,), from 0 to 2.

    For two classes it is twice the score (p − y)² of the probability of one of them.

    Raises:
        ShapeError, InputError: as `accuracy`, which has the same arguments.

    Source: Brier 1950, Mon. Weather Rev. 78, 1, eq. 2.
    """
    labels, p = _labelled(y, probabilities)
    return np.sum(np.square(p - np.eye(p.shape[1])[labels]), axis=1)


def reliability(y: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> Reliability:
    """Return the accuracy of a classifier in bins of its confidence, the probability of the most probable class.

    Raises:
        ShapeError, InputError: as `accuracy`; or if `bins` is not a whole number of at least 1.

    Source: Guo et al. 2017, arXiv 1706.04599, eqs. 2 and 3.
    """
    bins = _check.positive_integer("bins", bins)
    labels, p = _labelled(y, probabilities)
    sure, right = p.max(axis=1), p.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    counts, sums, hits = (np.bincount(where, weights, bins) for weights in (None, sure, right))
    full = counts > 0
    confidence, share = (np.divide(part, counts, np.full(bins, np.nan), where=full) for part in (sums, hits))
    return Reliability(edges, counts, confidence, share)


def expected_calibration_error(y: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy, over the rows in their bins of confidence: 0 to 1.

    It is biased upwards for few rows, and depends on the number of bins: compare it at equal numbers of both.

    Raises:
        ShapeError, InputError: as `reliability`.

    Source: Guo et al. 2017, arXiv 1706.04599, eq. 3.
    """
    found = reliability(y, probabilities, bins)
    gaps = found.counts * np.abs(found.confidence - found.accuracy)
    return float(np.nansum(gaps) / np.sum(found.counts))


def predictive_entropy(probabilities: jax.Array) -> Entropy:
    """Return the entropy of the predictions of a classifier, and its aleatoric and epistemic parts.

    With p_d the probabilities of draw d and p̄ their mean over the draws,

        total      H[p̄]         = −Σ p̄·log p̄
        aleatoric  E H[p_d]     = −E Σ p_d·log p_d
        epistemic  E KL(p_d ‖ p̄) = E Σ p_d·log(p_d/p̄)

    the last being the difference of the others, as a sum that is never negative and accurate near 0.

    Args:
        probabilities: (draws, rows, classes), such as `likelihood.probabilities(bbb.draws(key, model, x))`; each row
            sums to 1.

    Raises:
        ShapeError: for an array of another number of axes, or without draws or classes.
        InputError: for numbers that are not probabilities, or rows that do not sum to 1.

    Source: Houlsby et al. 2011, arXiv 1112.5745, eq. 2; Depeweg et al. 2018, arXiv 1710.07283 (by entropy).
    """
    _check_probabilities(probabilities, ("draws", "rows", "classes"), "Pass those of every draw, not their mean.")
    p = jnp.asarray(probabilities)
    mean = jnp.mean(p, axis=0)
    return Entropy(
        total=jnp.sum(entr(mean), axis=-1),
        aleatoric=jnp.mean(jnp.sum(entr(p), axis=-1), axis=0),
        epistemic=jnp.mean(jnp.sum(rel_entr(p, mean[None]), axis=-1), axis=0),
    )


def unit(name: str, values: ArrayLike) -> np.ndarray:
    """Return numbers inside [0, 1] as an array of float64.

    Raises:
        InputError: if one is outside.
    """
    (array,) = as_alike(**{name: values})
    wrong = array[(array < 0) | (array > 1)]
    if len(wrong):
        _check.fail(_check.InputError, f"{name} inside [0, 1]", f"{wrong[0]:g}", "Pass probabilities, not logits.")
    return array


def rising(name: str, levels: ArrayLike) -> np.ndarray:
    """Return levels inside (0, 1), one or more in rising order, as an array.

    Raises:
        InputError: if they are not.
    """
    array = np.array(_check.levels(name, levels), np.float64)
    if array.size == 0 or (np.diff(array) <= 0).any():
        do = "Pass for example (0.5, 0.9, 0.95)."
        _check.fail(_check.InputError, f"{name} in rising order, at least one", f"{array.tolist()}", do)
    return array


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


def _uniforms(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(jax.random.uniform(key, shape, "float64"))


def _stds(std: ArrayLike, mean: np.ndarray) -> np.ndarray:
    _check.positive("std", std)
    std = np.asarray(std, np.float64)
    try:
        return np.broadcast_to(std, mean.shape)
    except ValueError:
        do = "Pass one number, or a std for each mean."
        _check.fail(_check.ShapeError, f"a std that broadcasts to the means' {mean.shape}", f"{std.shape}", do)


def _labelled(y: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as whole numbers, and probabilities in float64; raise for labels that are not among the classes."""
    _check.outside("bbb.metrics", y=y, probabilities=probabilities)
    single = np.asarray(_check.rows("probabilities", probabilities), np.float32)  # the dtype in which most are computed
    _check_probabilities(single, ("rows", "classes"), "Pass the probability of every class, for each row.")
    labels, p = np.asarray(_check.rows("y", y)), np.asarray(probabilities, np.float64)
    if labels.shape != p.shape[:1]:
        do = "Pass y[:, 0]." if labels.shape == (len(p), 1) else "Pass the class of each row, a whole number."
        _check.fail(_check.ShapeError, f"y of shape ({len(p)},), as probabilities are {p.shape}", f"{labels.shape}", do)
    wrong = labels[(labels < 0) | (labels >= p.shape[1]) | (labels != np.round(labels))]
    if len(wrong):
        do = "Number the classes from 0, as the columns of the probabilities."
        _check.fail(_check.InputError, f"classes from 0 to {p.shape[1] - 1} in y", f"{wrong[0]}", do)
    return labels.astype(int), p


def _check_probabilities(probabilities: ArrayLike, axes: tuple[str, ...], do: str) -> None:
    """Check an array of probabilities with these axes, which sum to 1 over the last one; there may be no rows."""
    if not isinstance(probabilities, jax.Array):
        probabilities = _check.real("probabilities", probabilities)
    shape = probabilities.shape
    if len(shape) != len(axes) or 0 in (shape[0], shape[-1]):
        _check.fail(_check.ShapeError, f"probabilities of shape ({', '.join(axes)})", f"{shape}", do)
    if isinstance(probabilities, jax.core.Tracer):
        return
    p = jnp.asarray(probabilities)
    slack = 100 * float(jnp.finfo(p.dtype).eps) if jnp.issubdtype(p.dtype, jnp.floating) else 0.0
    off = jnp.max(jnp.abs(jnp.sum(p, axis=-1) - 1), initial=0)
    if not (bool((p >= 0).all()) and float(off) <= max(slack, shape[-1] * slack / 100)):
        do = "Pass softmax(logits), such as likelihood.probabilities(outputs)."
        _check.fail(
            _check.InputError, "probabilities of at least 0 that sum to 1 over the last axis", f"a sum off by {off}", do
        )
