"""Measures of a predictive distribution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import entr, rel_entr

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
    _check_probabilities(probabilities)
    p = jnp.asarray(probabilities)
    mean = jnp.mean(p, axis=0)
    return Entropy(
        total=jnp.sum(entr(mean), axis=-1),
        aleatoric=jnp.mean(jnp.sum(entr(p), axis=-1), axis=0),
        epistemic=jnp.mean(jnp.sum(rel_entr(p, mean[None]), axis=-1), axis=0),
    )


def _check_probabilities(probabilities: jax.Array) -> None:
    shape = jnp.shape(probabilities)
    if len(shape) != 3 or 0 in (shape[0], shape[2]):
        do = "Pass the probabilities of every draw, not their mean."
        _check.fail(_check.ShapeError, "probabilities of shape (draws, rows, classes)", f"{shape}", do)
    if isinstance(probabilities, jax.core.Tracer):
        return
    p = jnp.asarray(probabilities)
    slack = 100 * float(jnp.finfo(p.dtype).eps) if jnp.issubdtype(p.dtype, jnp.floating) else 0.0
    off = jnp.max(jnp.abs(jnp.sum(p, axis=-1) - 1), initial=0)
    if not (bool((p >= 0).all()) and float(off) <= max(slack, shape[2] * slack / 100)):
        do = "Pass softmax(logits), such as likelihood.probabilities(outputs)."
        _check.fail(
            _check.InputError, "probabilities of at least 0 that sum to 1 over the last axis", f"a sum off by {off}", do
        )
