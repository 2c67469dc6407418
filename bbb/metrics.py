"""Measures of a predictive distribution: proper scores of each row, coverage, calibration, and entropy.

Scores are computed on the host in float64, whatever JAX is set to, and come back as NumPy: arrays of one score for
each observation, lower is better, or a float where the measure is of all observations together. Of shapes, `y` stands
for any array of observations (rows, ...), and what is said of it has that shape too; draws and the components of a
mixture have an axis in front, (draws, rows, ...). `predictive_entropy` alone is a JAX function, and can be compiled.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import entr, ndtr, rel_entr

from bbb import _check


class Entropy(NamedTuple):
    """How unsure a classifier is of each row, in nats, and of which kind that is: arrays of shape (rows,).

    Attributes:
        total: of the averaged probabilities; total = aleatoric + epistemic.
        aleatoric: the mean entropy of single draws, which more data would not lower.
        epistemic: the mutual information of the class and the weights, by how much the draws disagree.
    """

    total: jax.Array
    aleatoric: jax.Array
    epistemic: jax.Array


class Reliability(NamedTuple):
    """How often a classifier is right where it is so sure: arrays of shape (bins,), of equally wide bins of (0, 1].

    Attributes:
        edges: (bins + 1,), from 0 to 1; a bin holds its upper edge.
        counts: how many rows have the probability of their most probable class in the bin.
        confidence: the mean of those probabilities; NaN in an empty bin.
        accuracy: the share of those rows whose class is the most probable one; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def rmse(y: Any, mean: Any) -> float:
    """Give the root of the mean squared error of all observations, in units of y.

    Raises:
        ShapeError, InputError: for arrays of different shapes, or numbers that are not finite.
    """
    y, mean = _alike(y=y, mean=mean)
    return float(np.sqrt(np.mean(np.square(y - mean))))


def crps_normal(y: Any, mean: Any, std: Any) -> np.ndarray:
    """Give the continuous ranked probability score of N(mean, std²) at each y, in units of y.

    With z = (y − mean)/std, it is std·(z·(2Φ(z) − 1) + 2φ(z) − 1/√π).

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, or a std that is not
            positive; a std may also be one number.

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 21.
    """
    _check.outside("crps_normal", y=y, mean=mean, std=std)
    y, mean = _alike(y=y, mean=mean)
    std = _stds(std, mean)
    with jax.enable_x64(True):
        return np.asarray(_absolute_normal(y - mean, std)) - std / math.sqrt(math.pi)


def crps_draws(y: Any, draws: Any) -> np.ndarray:
    """Give the continuous ranked probability score of the draws' own distribution at each y, in units of y.

    CRPS = E|X − y| − ½E|X − X′|, with X and X′ independent picks among the S draws, which may be the same one. Sorted,
    the second term is Σ (2i − S − 1)·x_(i) / S²: S·log S operations.

    Args:
        y: (rows, ...).
        draws: (draws, rows, ...), of new observations y, not of the function.

    Raises:
        ShapeError, InputError: for shapes that do not fit, or numbers that are not finite.

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 21 and the text below it.
    """
    y, draws = _draws(y, draws)
    count = len(draws)
    ordered = np.sort(draws - y, axis=0)  # errors: small numbers, whose differences keep their digits
    weights = (2 * np.arange(1, count + 1) - count - 1) / count**2
    return np.mean(np.abs(ordered), axis=0) - np.tensordot(weights, ordered, axes=1)


def crps_normal_mixture(y: Any, means: Any, stds: Any) -> np.ndarray:
    """Give the continuous ranked probability score of an equally weighted mixture of Gaussians, in units of y.

    With A(d, s) = E|N(d, s²)| = d·(2Φ(d/s) − 1) + 2s·φ(d/s), for S components,

        CRPS = 1/S·Σ_i A(y − m_i, s_i) − 1/(2S²)·Σ_ij A(m_i − m_j, √(s_i² + s_j²))

    The second sum, of S² terms, is also ∫ F·(1 − F) with F the mixture's cdf: the trapezoidal rule with a step of 0.6
    of the least std gives that to eleven digits, because F is analytic, in S operations a step. Row by row, the
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
    y, means = _draws(y, means)
    stds = _stds(stds, means)
    components = (part.reshape(len(means), -1).T for part in (means - y, stds))
    with jax.enable_x64(True):
        scores = [_crps_of_mixture(m, s) for m, s in zip(*components, strict=True)]
    return np.asarray(scores).reshape(y.shape)


def interval_score(y: Any, lower: Any, upper: Any, level: float) -> np.ndarray:
    """Give the score of central intervals that are said to hold a share `level` of observations, in units of y.

    The width, and 2/(1 − level) times the distance by which an observation lies outside.

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, a lower end above its
            upper one, or a level outside (0, 1).

    Source: Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, eq. 43.
    """
    level = _check.probability("level", level)
    y, lower, upper = _alike(y=y, lower=lower, upper=upper)
    _check_ends(lower, upper)
    outside = np.maximum(lower - y, 0) + np.maximum(y - upper, 0)
    return upper - lower + 2 / (1 - level) * outside


def coverage(y: Any, lower: Any, upper: Any) -> float:
    """Give the share of observations inside their intervals, ends included: 0 to 1.

    Raises:
        ShapeError, InputError: for arrays of different shapes, numbers that are not finite, or a lower end above its
            upper one.
    """
    y, lower, upper = _alike(y=y, lower=lower, upper=upper)
    _check_ends(lower, upper)
    return float(np.mean((lower <= y) & (y <= upper)))


def interval_width(lower: Any, upper: Any) -> float:
    """Give the mean width of intervals, in units of y.

    Raises:
        ShapeError, InputError: as `coverage`.
    """
    lower, upper = _alike(lower=lower, upper=upper)
    _check_ends(lower, upper)
    return float(np.mean(upper - lower))


def pit(key: jax.Array, below: Any, upto: Any) -> np.ndarray:
    """Give the randomised probability integral transform of observations of a discrete distribution: y's shape.

    P(Y < y) + v·P(Y = y), with v uniform: uniform on (0, 1) if the predictive is right. Of a continuous distribution
    the two are equal, and its cdf at y is the transform already.

    Args:
        key: one typed JAX key, for v.
        below: P(Y < y) at each observation.
        upto: P(Y ≤ y).

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
        ShapeError, InputError: for arrays of different shapes, or numbers that are no such probabilities.

    Source: Czado et al. 2009, Biometrics 65, 1254, §2.1 (randomised PIT).
    """
    _check.outside("pit", key=key, below=below, upto=upto)
    _check.key(key)
    below, upto = _alike(below=unit("below", below), upto=unit("upto", upto))
    if (below > upto).any():
        at = np.argwhere(below > upto)[0]
        got = f"{below[tuple(at)]:g} above {upto[tuple(at)]:g} at index {tuple(map(int, at))}"
        _check.fail(_check.InputError, "below to be at most upto", got, "Pass P(Y < y) first, P(Y ≤ y) second.")
    return below + _uniforms(key, below.shape) * (upto - below)


def pit_draws(key: jax.Array, y: Any, draws: Any) -> np.ndarray:
    """Give the probability integral transform of observations among draws of them: y's shape.

    (#{draws < y} + v·(1 + #{draws = y}))/(draws + 1), with v uniform: exactly uniform on (0, 1), for any number of
    draws, if observation and draws come from one distribution; which may be discrete.

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
    y, draws = _draws(y, draws)
    below, equal = np.sum(draws < y, axis=0), np.sum(draws == y, axis=0)
    return (below + _uniforms(key, y.shape) * (1 + equal)) / (len(draws) + 1)


def observed_coverage(pit: Any, levels: Any) -> np.ndarray:
    """Give the share of observations that central intervals of each nominal level hold: (levels,), 0 to 1.

    A central interval of level c holds y where the transform u of y has |2u − 1| ≤ c.

    Args:
        pit: the probability integral transform of each observation, of any shape.
        levels: nominal coverages, rising, inside (0, 1).

    Raises:
        InputError: for transforms outside [0, 1], or levels outside (0, 1) or out of order.
    """
    values, nominal = unit("pit", pit), rising("levels", levels)
    return np.mean(np.abs(2 * values.reshape(-1, 1) - 1) <= nominal, axis=0)


def accuracy(y: Any, probabilities: Any) -> float:
    """Give the share of rows whose class is the most probable one: 0 to 1.

    Args:
        y: (rows,), whole numbers from 0.
        probabilities: (rows, classes), such as `bbb.predict(key, model, x).y.probabilities`.

    Raises:
        ShapeError, InputError: for shapes that do not fit, labels out of range, or numbers that are no probabilities.
    """
    labels, p = _labelled(y, probabilities)
    return float(np.mean(p.argmax(axis=1) == labels))


def brier(y: Any, probabilities: Any) -> np.ndarray:
    """Give the Brier score of each row, the sum over the classes of (p_k − 1[y = k])²: (rows,), from 0 to 2.

    Of two classes it is twice the score (p − y)² of the probability of one of them.

    Raises:
        ShapeError, InputError: as `accuracy`, which has the same arguments.

    Source: Brier 1950, Mon. Weather Rev. 78, 1, eq. 2.
    """
    labels, p = _labelled(y, probabilities)
    return np.sum(np.square(p - np.eye(p.shape[1])[labels]), axis=1)


def reliability(y: Any, probabilities: Any, bins: int = 15) -> Reliability:
    """Sort rows by how sure the classifier is of its most probable class, and count how often it is right.

    Raises:
        ShapeError, InputError: as `accuracy`; or for `bins` that is no whole number of at least 1.

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


def expected_calibration_error(y: Any, probabilities: Any, bins: int = 15) -> float:
    """Give the mean gap between confidence and accuracy, over the rows in their bins of confidence: 0 to 1.

    It is biased upwards where rows are few, and depends on the number of bins: compare at equal both.

    Raises:
        ShapeError, InputError: as `reliability`.

    Source: Guo et al. 2017, arXiv 1706.04599, eq. 3.
    """
    found = reliability(y, probabilities, bins)
    gaps = found.counts * np.abs(found.confidence - found.accuracy)
    return float(np.nansum(gaps) / np.sum(found.counts))


def predictive_entropy(probabilities: jax.Array) -> Entropy:
    """Split the entropy of a classifier's predictions by what it comes from.

    With p_d the probabilities of draw d and p̄ their mean over the draws,

        total      H[p̄]         = −Σ p̄·log p̄
        aleatoric  E H[p_d]     = −E Σ p_d·log p_d
        epistemic  E KL(p_d ‖ p̄) = E Σ p_d·log(p_d/p̄)

    the last being the difference of the others, as a sum that is never negative and keeps its digits near 0.

    Args:
        probabilities: (draws, rows, classes), such as `likelihood.probabilities(bbb.draws(key, model, x))`; each row
            sums to 1.

    Raises:
        ShapeError: for an array of another number of axes, or without draws or classes.
        InputError: for numbers that are no probabilities, or rows that do not sum to 1.

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


def unit(name: str, values: Any) -> np.ndarray:
    """Give numbers inside [0, 1] as an array in float64.

    Raises:
        InputError: if one is outside.
    """
    (array,) = _alike(**{name: values})
    wrong = array[(array < 0) | (array > 1)]
    if len(wrong):
        _check.fail(_check.InputError, f"{name} inside [0, 1]", f"{wrong[0]:g}", "Pass probabilities, not logits.")
    return array


def rising(name: str, levels: Any) -> np.ndarray:
    """Give levels inside (0, 1), one or more in rising order, as an array.

    Raises:
        InputError: if they are not.
    """
    array = np.array(_check.levels(name, levels), np.float64)
    if array.size == 0 or (np.diff(array) <= 0).any():
        do = "Pass for example (0.5, 0.9, 0.95)."
        _check.fail(_check.InputError, f"{name} in rising order, at least one", f"{array.tolist()}", do)
    return array


TAILS = 7.5
"""How many of its stds a Gaussian is followed to: it leaves 1e-13 outside."""

STEP = 0.6
"""The trapezoidal rule's step, in the least std s: what it leaves out falls as exp(−(π·s/step)²), to 1e-12 here."""


@jax.jit
def _absolute_normal(mean: Any, std: Any) -> jax.Array:
    """Give E|N(mean, std²)|."""
    z = mean / std
    density = jnp.exp(-0.5 * jnp.square(z)) / math.sqrt(2 * math.pi)
    return mean * (2 * ndtr(z) - 1) + 2 * std * density


def _crps_of_mixture(means: np.ndarray, stds: np.ndarray) -> float:
    """Give the score of one mixture, (components,), at 0."""
    low, high, step = np.min(means - TAILS * stds), np.max(means + TAILS * stds), STEP * np.min(stds)
    steps = (high - low) / step
    if steps > len(means):
        return float(_crps_by_pairs(means, stds))
    # a power of two of steps, so that few programs serve all rows
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


def _alike(**arrays: Any) -> list[np.ndarray]:
    """Give arrays in float64, refusing those of another shape than the first, without rows, or not finite."""
    _check.untraced("bbb.metrics", **arrays)
    found = {name: np.asarray(_check.rows(name, value), np.float64) for name, value in arrays.items()}
    (first, like), *others = found.items()
    for name, array in others:
        if array.shape != like.shape:
            do = "Bring both to one shape: arrays would be broadcast against each other, row by row."
            _check.fail(_check.ShapeError, f"{name} of the shape {like.shape} of {first}", f"{array.shape}", do)
    return list(found.values())


def _draws(y: Any, draws: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give y and draws of it in float64, refusing draws that are not (draws, *y's shape)."""
    (y,), (draws,) = _alike(y=y), _alike(draws=draws)
    if draws.shape[1:] != y.shape:
        expected = f"draws of shape (draws, {', '.join(map(str, y.shape))}), for y of shape {y.shape}"
        _check.fail(_check.ShapeError, expected, f"{draws.shape}", "Pass draws of y, with the draws on the first axis.")
    return y, draws


def _stds(std: Any, mean: np.ndarray) -> np.ndarray:
    _check.positive("std", std)
    std = np.asarray(std, np.float64)
    try:
        return np.broadcast_to(std, mean.shape)
    except ValueError:
        do = "Pass one number, or a std for each mean."
        _check.fail(_check.ShapeError, f"a std that broadcasts to the means' {mean.shape}", f"{std.shape}", do)


def _check_ends(lower: np.ndarray, upper: np.ndarray) -> None:
    if (lower > upper).any():
        at = tuple(map(int, np.argwhere(lower > upper)[0]))
        got = f"{lower[at]:g} above {upper[at]:g} at index {at}"
        _check.fail(_check.InputError, "lower ends at most as high as upper ends", got, "Pass lower before upper.")


def _labelled(y: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give labels as whole numbers and probabilities in float64, refusing labels that are none of the classes."""
    _check.outside("bbb.metrics", y=y, probabilities=probabilities)
    single = np.asarray(_check.rows("probabilities", probabilities), np.float32)  # in which most are made, and rounded
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


def _check_probabilities(probabilities: Any, axes: tuple[str, ...], do: str) -> None:
    """Refuse what is no array of probabilities with these axes, the last of which sums to 1; the rows may be none."""
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
