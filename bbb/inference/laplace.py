"""A Laplace posterior around the means of a model that was trained by the evidence lower bound.

Where nobody chose the prior and the noise, both are found by the evidence, with the means. Otherwise the means are
those of the bound: at the maximum a posteriori in weights and noise, where there are more weights than rows, the noise
is next to 0, whatever that of the data (`tests/inference`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bbb.core.jit import jit
from bbb.core.tree import stacked
from bbb.curvature.api import laplace
from bbb.curvature.choice import check_parts, structure_for
from bbb.data import data_for, weights_for
from bbb.forwards.linearization import linearized
from bbb.inference.evidence import by_evidence
from bbb.inference.method import Learned
from bbb.likelihoods.gaussian import Gaussian
from bbb.likelihoods.per_member import PerMember
from bbb.model import BNN

STEPS_AFTER = 4_000
"""Steps of training by the evidence after a training by the bound."""


UPDATES, LEAST = 10, 0.1
"""How often the noise and the posterior are computed in turn, and the share of the noise in training that is its
lower bound, for data without noise."""


def check(model: BNN) -> None:
    """Raise for a likelihood or a prior without curvature.

    Raises:
        InputError: naming what it lacks.
    """
    check_parts(model, "a Laplace posterior")


def finished(key: jax.Array, model: BNN, x: Any, y: Any, free: bool, sample_weight: Any = None) -> Learned:
    """Return the model with a Laplace posterior, "full" where it fits in memory, and noise to go with it.

    Raises:
        InputError, NonFiniteOutputError: as `laplace`, and `bbb.tune` if the prior and the noise are free.
    """
    structure = structure_for(model, x)
    found = by_evidence(key, model, x, y, structure, STEPS_AFTER, sample_weight) if free else None
    how: Any = {"structure": structure, "sample_weight": sample_weight}
    if found is not None:
        return Learned(laplace(key, found.model, x, y, **how), structure)
    likelihood: Any = model.likelihood
    if isinstance(likelihood, PerMember):
        each = [_noise(key, model.member(k), x, y, **how) for k in range(model.members)]
        likelihood = PerMember(stacked(each))
    else:
        likelihood = _noise(key, model, x, y, **how)
    model = dataclasses.replace(model, likelihood=likelihood)
    return Learned(laplace(key, model, x, y, **how), structure)


def learned(
    key: jax.Array, starts: Sequence[BNN], x: Any, y: Any, steps: int, sample_weight: Any = None
) -> Learned | None:
    """Return the model trained by the evidence, from the start of the largest, with a Laplace posterior.

    None if that takes too long.

    Raises:
        InputError, NonFiniteOutputError, NonFiniteLossError: as `laplace` and `bbb.tune`.
    """
    structure = structure_for(starts[0], x)
    each = (by_evidence(key, start, x, y, structure, steps, sample_weight) for start in starts)
    every = [found for found in each if found is not None]
    if not every:
        return None
    found = min(every, key=lambda one: one.loss.min())
    independent = laplace(key, found.model, x, y, structure="diag", sample_weight=sample_weight)
    wide = laplace(key, found.model, x, y, structure=structure, sample_weight=sample_weight)
    return Learned(wide, structure, independent=independent, loss=found.loss)


def _noise(key: jax.Array, model: BNN, x: Any, y: Any, structure: str, sample_weight: Any) -> Any:
    """Return the likelihood with the noise that the data have under a Laplace posterior at the means.

    The noise of the bound is that of a posterior with a larger spread at the data: it has to be found anew. Its
    variance is E(y - f)², a step of expectation maximisation for the linearised network, in turn with the posterior. Of
    other likelihoods than a `Gaussian` that learns, parameters stay what they are.

    Source: Dempster et al. 1977, J. R. Stat. Soc. B 39, 1; for linear models Bishop 2006, Pattern Recognition and
    Machine Learning, §9.3.4.
    """
    noise: Any = model.likelihood
    if not (isinstance(noise, Gaussian) and noise.learn):
        return noise
    lowest = noise.log_std + math.log(LEAST)
    rows, observed = data_for(model, x, y)
    weights = weights_for(model, sample_weight, len(rows))
    how: Any = {"structure": structure, "sample_weight": sample_weight}
    for _ in range(UPDATES):
        wide: Any = laplace(key, dataclasses.replace(model, likelihood=noise), x, y, **how)
        mean, variance = linearized(model.apply).moments(wide.posterior, rows)
        expected = _expected(noise, observed, mean, variance, weights)
        noise = jax.tree.map(lambda new: jnp.maximum(new, lowest), expected)
    return noise


@jit
def _expected(
    noise: Gaussian, y: jax.Array, mean: jax.Array, variance: jax.Array, weights: jax.Array | None
) -> Gaussian:
    """Return the noise of variance E(y - f)², averaged over what shares a standard deviation, and over the rows."""
    squares = jnp.average(jnp.square(y - mean) + variance, axis=0, weights=weights)
    of_row = jnp.ndim(noise.log_std) - squares.ndim
    shared = tuple(i for i in range(squares.ndim) if i + of_row < 0 or jnp.shape(noise.log_std)[i + of_row] == 1)
    log_std = 0.5 * jnp.log(jnp.mean(squares, axis=shared, keepdims=True)).reshape(jnp.shape(noise.log_std))
    return jax.tree.map(lambda _: log_std.astype(noise.log_std.dtype), noise)
