"""Scores of predicted classes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, rel_entr
from numpy.typing import ArrayLike

from bbb import checks
from bbb.errors import InputError, ShapeError, fail
from bbb.metrics.inputs import as_weights, mean_over_rows


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
        counts: the number of rows whose most probable class has a probability in the bin, or the sum of their weights.
        confidence: the mean of those probabilities; NaN in an empty bin.
        accuracy: the share of those rows whose class is the most probable one; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def accuracy(y: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the share of rows whose class is the most probable one: 0 to 1.

    Args:
        y: (rows,), whole numbers from 0.
        probabilities: (rows, classes), such as `bbb.predict(key, model, x).y.probabilities`.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: for shapes that do not fit, labels out of range, numbers that are not probabilities, or
            weights that are not at least 0, or all 0.

    Example:
        >>> import bbb
        >>> float(bbb.metrics.accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]]))
        0.5
    """
    labels, p = _labelled(y, probabilities)
    return float(mean_over_rows(p.argmax(axis=1) == labels, sample_weight))


def brier(y: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Return the Brier score of each row, the sum over the classes of (p_k − 1[y = k])²: (rows,), from 0 to 2.

    For two classes it is twice the score (p − y)² of the probability of one of them.

    Raises:
        ShapeError, InputError: as `accuracy`, which has the same y and probabilities.

    Source: Brier 1950, Mon. Weather Rev. 78, 1, eq. 2.

    Example:
        >>> import bbb
        >>> bbb.metrics.brier([0, 1], [[0.9, 0.1], [0.8, 0.2]]).round(2)
        array([0.02, 1.28])
    """
    labels, p = _labelled(y, probabilities)
    return np.sum(np.square(p - np.eye(p.shape[1])[labels]), axis=1)


def reliability(
    y: ArrayLike, probabilities: ArrayLike, bins: int = 15, *, sample_weight: ArrayLike | None = None
) -> Reliability:
    """Return the accuracy of a classifier in bins of its confidence, the probability of the most probable class.

    Args:
        y: (rows,), whole numbers from 0.
        probabilities: (rows, classes).
        bins: how many.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: as `accuracy`; or if `bins` is not a whole number of at least 1.

    Source: Guo et al. 2017, arXiv 1706.04599, eqs. 2 and 3.

    Example:
        >>> import bbb
        >>> found = bbb.metrics.reliability([0, 1], [[0.9, 0.1], [0.8, 0.2]], bins=2)
        >>> found.counts, found.accuracy
        (array([0, 2]), array([nan, 0.5]))
    """
    bins = checks.positive_integer("bins", bins)
    labels, p = _labelled(y, probabilities)
    sure, right = p.max(axis=1), p.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    times = None if sample_weight is None else as_weights(sample_weight, len(labels))
    summed = (None, sure, right) if times is None else (times, times * sure, times * right)
    counts, sums, hits = (np.bincount(where, each, bins) for each in summed)
    full = counts > 0
    confidence, share = (np.divide(part, counts, np.full(bins, np.nan), where=full) for part in (sums, hits))
    return Reliability(edges, counts, confidence, share)


def expected_calibration_error(
    y: ArrayLike, probabilities: ArrayLike, bins: int = 15, *, sample_weight: ArrayLike | None = None
) -> float:
    """Return the mean gap between confidence and accuracy, over the rows in their bins of confidence: 0 to 1.

    It is biased upwards for few rows, and depends on the number of bins: compare it at equal numbers of both.

    Args:
        y: (rows,), whole numbers from 0.
        probabilities: (rows, classes).
        bins: how many.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: as `reliability`.

    Source: Guo et al. 2017, arXiv 1706.04599, eq. 3.

    Example:
        >>> import bbb
        >>> round(float(bbb.metrics.expected_calibration_error([0, 1], [[0.9, 0.1], [0.8, 0.2]])), 2)
        0.45
    """
    found = reliability(y, probabilities, bins, sample_weight=sample_weight)
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

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> probabilities = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # two draws that disagree about one row
        >>> found = bbb.metrics.predictive_entropy(probabilities)
        >>> found.total.round(3), found.epistemic.round(3)
        (Array([0.693], dtype=float32), Array([0.693], dtype=float32))
    """
    _check_probabilities(probabilities, ("draws", "rows", "classes"), "Pass those of every draw, not their mean.")
    p = jnp.asarray(probabilities)
    mean = jnp.mean(p, axis=0)
    return Entropy(
        total=jnp.sum(entr(mean), axis=-1),
        aleatoric=jnp.mean(jnp.sum(entr(p), axis=-1), axis=0),
        epistemic=jnp.mean(jnp.sum(rel_entr(p, mean[None]), axis=-1), axis=0),
    )


def _labelled(y: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as whole numbers, and probabilities in float64; raise for labels that are not among the classes."""
    checks.outside("bbb.metrics", y=y, probabilities=probabilities)
    single = np.asarray(checks.rows("probabilities", probabilities), np.float32)  # the dtype in which most are computed
    _check_probabilities(single, ("rows", "classes"), "Pass the probability of every class, for each row.")
    labels, p = np.asarray(checks.rows("y", y)), np.asarray(probabilities, np.float64)
    if labels.shape != p.shape[:1]:
        do = "Pass y[:, 0]." if labels.shape == (len(p), 1) else "Pass the class of each row, a whole number."
        fail(ShapeError, f"y of shape ({len(p)},), as probabilities are {p.shape}", f"{labels.shape}", do)
    wrong = labels[(labels < 0) | (labels >= p.shape[1]) | (labels != np.round(labels))]
    if len(wrong):
        do = "Number the classes from 0, as the columns of the probabilities."
        fail(InputError, f"classes from 0 to {p.shape[1] - 1} in y", f"{wrong[0]}", do)
    return labels.astype(int), p


def _check_probabilities(probabilities: ArrayLike, axes: tuple[str, ...], do: str) -> None:
    """Check an array of probabilities with these axes, which sum to 1 over the last one; there may be no rows."""
    if not isinstance(probabilities, jax.Array):
        probabilities = checks.real("probabilities", probabilities)
    shape = probabilities.shape
    if len(shape) != len(axes) or 0 in (shape[0], shape[-1]):
        fail(ShapeError, f"probabilities of shape ({', '.join(axes)})", f"{shape}", do)
    if isinstance(probabilities, jax.core.Tracer):
        return
    p = jnp.asarray(probabilities)
    slack = 100 * float(jnp.finfo(p.dtype).eps) if jnp.issubdtype(p.dtype, jnp.floating) else 0.0
    off = jnp.max(jnp.abs(jnp.sum(p, axis=-1) - 1), initial=0)
    if not (bool((p >= 0).all()) and float(off) <= max(slack, shape[-1] * slack / 100)):
        do = "Pass softmax(logits), such as likelihood.probabilities(outputs)."
        fail(InputError, "probabilities of at least 0 that sum to 1 over the last axis", f"a sum off by {off}", do)
