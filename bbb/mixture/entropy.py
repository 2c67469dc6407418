"""The entropies of a class from few draws: without the bias of the plug-in estimate, and with Monte Carlo errors.

The entropy of a mean of S draws is too low, since entropy is concave: by ½·Σ_k Var(p_k)/(S·p̄_k), to first order, all of
it in the epistemic part. The jackknife removes this bias (Quenouille 1956, Biometrika 43, 353). With p̄ the mean and
p̄₋ᵢ the mean without draw i, its correction is

    (S − 1)·(H[p̄] − mean_i H[p̄₋ᵢ]) = (S − 1)·mean_i KL(p̄₋ᵢ ‖ p̄)

since the linear terms of H cancel: a sum that is never negative, and accurate for any number of draws.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import entr, rel_entr, xlog1py

from bbb.metrics.classification import Entropy, predictive_entropy
from bbb.mixture.distribution import group_means, mean_of_draws
from bbb.mixture.quantile_error import NINETY_FIVE, student

MAX_STEPS = 3.0
"""Bound on the correction of an error on the scale of logarithms: it is at most 6.4 times the jackknife's error."""


def entropies(probabilities: jax.Array, group: int) -> tuple[Entropy, Entropy]:
    """Return the entropies of each row, in nats, and the Monte Carlo standard error of each: leaves (rows,).

    The parts add up to the total, which is at most log K. For a single draw, or a single group of draws that depend on
    each other, the disagreement cannot be estimated: the entropies are those of these draws, and the errors infinite.
    For two, the error of the epistemic part is infinite.

    Args:
        probabilities: (draws, rows, classes), independent in groups of `group` neighbours.
        group: 1; or 2 for antithetic pairs, K for the members of an ensemble.

    Source: Houlsby et al. 2011, arXiv 1112.5745, eq. 2, for the split; Efron & Stein 1981, Annals of Statistics 9, 586,
    for the variance of a jackknife.
    """
    plain = predictive_entropy(probabilities)
    groups = probabilities.shape[0] // group
    if groups < 2:
        return plain, Entropy(*(jnp.full_like(part, jnp.inf) for part in plain))
    second = _second_order(group_means(probabilities, group), mean_of_draws(probabilities))
    room = jnp.maximum(math.log(probabilities.shape[-1]) - plain.aleatoric, 0)
    epistemic = jnp.minimum(plain.epistemic + mean_of_draws(second), room)
    found = Entropy(plain.aleatoric + epistemic, plain.aleatoric, epistemic)
    influences = _influences(probabilities, group)
    disagreement = _error(influences.epistemic + second, found.epistemic)
    errors = Entropy(
        total=_error(influences.total + second, found.total),
        aleatoric=_error(influences.aleatoric, found.aleatoric),
        # two values have the same distance to their mean
        epistemic=disagreement if groups > 2 else jnp.full_like(disagreement, jnp.inf),
    )
    return found, errors


def _second_order(groups: jax.Array, mean: jax.Array) -> jax.Array:
    """Return (n − 1)·KL(p̄₋ᵢ ‖ p̄) for the mean of all n groups (n, rows, classes) but one: (n, rows)."""
    n = groups.shape[0]
    present = mean > 0
    change = (mean[None] - groups) / ((n - 1) * jnp.where(present, mean, 1))[None]
    change = jnp.maximum(change, -1)
    # (1 + d)·log(1 + d) − d, which for small d is a difference of equals
    series = jnp.square(change) * (1 / 2 - change * (1 / 6 - change * (1 / 12 - change / 20)))
    whole = xlog1py(1 + change, change) - change
    near = jnp.abs(change) < 0.01 if groups.dtype == jnp.float64 else jnp.abs(change) < 0.1
    return (n - 1) * jnp.sum(mean[None] * jnp.where(near, series, whole), axis=-1)


def _influences(probabilities: jax.Array, group: int) -> Entropy:
    """Return the contribution of each group to each entropy, to first order: −Σ p·log p̄, −Σ p·log p, Σ p·log(p/p̄)."""
    own = group_means(jnp.sum(entr(probabilities), axis=-1), group)
    epistemic = group_means(jnp.sum(rel_entr(probabilities, mean_of_draws(probabilities)[None]), axis=-1), group)
    return Entropy(own + epistemic, own, epistemic)


def _error(values: jax.Array, found: jax.Array) -> jax.Array:
    """Return the error of the mean of n jackknife pseudo-values (n, rows), of an estimate that is never negative.

    The entropy of a few draws is skewed, and is small when its standard error s is: a band of 1.96 s misses truths
    above it. On the scale of logarithms it is nearly symmetric: the error is such that 1.96 of it reach as far up as
    there, to e^(1.96 s/H) times H. It equals s where s is small.
    """
    n = values.shape[0]
    variance = mean_of_draws(jnp.square(values - mean_of_draws(values)[None])) / (n - 1)
    error = jnp.sqrt(variance) * student(n)
    steps = jnp.minimum(NINETY_FIVE * error / jnp.maximum(found, jnp.finfo(found.dtype).tiny), MAX_STEPS)
    safe = jnp.maximum(steps, 1e-3)
    return error * jnp.where(steps > 1e-3, jnp.expm1(safe) / safe, 1 + 0.5 * steps)
