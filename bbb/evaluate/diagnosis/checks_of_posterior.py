"""The checks of `bbb.diagnose` that look at the posterior."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.jit import jit
from bbb.core.tree import Tree, count
from bbb.evaluate.diagnosis.case import Case, Finding
from bbb.model import BNN
from bbb.objectives.objective import draw_keys, elbo_cost, evaluate_draws, with_kl_noise
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.priors.divergence import kl
from bbb.priors.normal import Normal

NARROW = 0.5
"""How many times √(2/fan-in) a prior's standard deviation is where it counts as narrow."""


FAN_IN = "prior=bbb.priors.fan_in(params), which keeps the scale of a layer's outputs whatever its width"


def stds_at_their_start(case: Case) -> Finding | None:
    """Return a finding for standard deviations still alike, as they start, in every leaf of more than one weight."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(case.posterior.log_std)]
    spreads = [float(np.std(leaf)) for leaf in leaves if leaf.size > 1]
    if not spreads or max(spreads) > 0.01 or at_the_prior(case) is not None:
        return None
    seen = f"within each leaf, the standard deviations differ by {max(spreads):.1%} at most"
    advice = "Train longer or with a larger learning rate; a forward without noise cannot teach them."
    return Finding("standard deviations still at their start", seen, advice)


WIDER, GAIN = 100.0, 1.0
"""By what all standard deviations are multiplied, to see whether the bound rises; and by how many nats a weight then.
Where they are right, s²·(curvature + 1/prior std²) = 1 and the bound would fall by some 5,000 nats a weight, or, seen
by a hundredth of the rows that it was trained on, by 50."""


LOOKS, FEWEST_ROWS, MAX_ROWS = 8, 20, 1_000
"""Draws, and rows, that this is seen by: of too small a share of those trained on, the data seem to say too little."""


def stds_far_too_small(case: Case) -> Finding | None:
    """Return a finding if the bound of these rows would rise with standard deviations a hundred times larger."""
    if case.count < FEWEST_ROWS:
        return None
    member = case.model.member(0)
    posterior = cast(GaussianPosterior, member.posterior)
    wider = dataclasses.replace(member, posterior=posterior.scaled(WIDER))
    x, *observed = case.some_rows(MAX_ROWS)
    y, weights = (None if part is None else jnp.asarray(part) for part in observed)
    wide, own = (float(_bound(case.key, model, x, y, weights)) for model in (wider, member))
    gain = (wide - own) / count(case.posterior.log_std)
    if not gain > GAIN:
        return None
    seen = f"with all standard deviations {WIDER:g} times as large, the bound is {gain:.2g} nats a weight higher"
    advice = "Bands are far too narrow. Start from larger ones, bayesianize(std=0.02), and train until they rest."
    return Finding("standard deviations far too small", seen, advice)


@jit
def _bound(key: jax.Array, model: BNN, x: Tree, y: Any, weights: jax.Array | None) -> jax.Array:
    """Estimate the evidence lower bound of some rows from the same noise for any posterior: nats."""
    forward = model.forward
    noise = jax.vmap(lambda k: forward.noise(k, model.posterior, x))(draw_keys(key, LOOKS))
    outputs = evaluate_draws(forward, noise, model, x, LOOKS)
    model = with_kl_noise(key, model, LOOKS)
    if weights is None:
        return -elbo_cost(model, outputs, y, jnp.ones(len(y), outputs.dtype), len(y), 1.0).total
    weights = weights.astype(outputs.dtype)
    return -elbo_cost(model, outputs, y, weights, jnp.sum(weights), 1.0).total


def at_the_prior(case: Case) -> Finding | None:
    """Return a finding for a posterior that has learned next to nothing from the data."""
    if not isinstance(case.model.prior, Normal) or case.has_learned_prior:
        return None
    nats = float(kl(case.model.member(0).posterior, case.model.prior)) / count(case.posterior.log_std)
    if nats >= 0.05 or case.explained >= 0.1:
        return None
    seen = f"{nats:.2g} nats a weight, and the mean explains {max(case.explained, 0):.0%} of the variance of y"
    return Finding("collapsed onto the prior", seen, _advice_for_a_collapse(case))


def _advice_for_a_collapse(case: Case) -> str:
    """Return what lets the data be heard: of a KL counted as it should be, that depends on how wide the prior is."""
    width = case.width_of_prior
    if case.trained_badly("KL outweighs data term"):
        return "The KL divergence was counted too often: use kl_weight=1."
    if width is not None and width < NARROW:
        return f"The prior is too narrow for the data to be fitted: use {FAN_IN}, or a wider one."
    if case.has_wide_prior:
        return f"The prior is too wide for so many units, whose noise drowns the data: use {FAN_IN}, or fewer units."
    return "The KL divergence of so many weights outweighs what the rows say: use fewer units, or more rows."


IDLE, IDLE_NATS, FEW_UNITS = 0.9, 0.1, 8


def collapsed_units(case: Case) -> Finding | None:
    """Return a finding for a layer of which nearly all units are at the prior: of a wide network, little is used."""
    posterior: Any = case.model.posterior.component(0)
    if not isinstance(case.model.prior, Normal) or case.has_learned_prior:
        return None
    if not getattr(posterior, "factorises", False):  # what it has learned may lie in the correlations
        return None
    leaves = jax.tree.leaves(case.model.prior.kl_of_weights(case.posterior))
    idle = max((_idle_share(np.asarray(nats)) for nats in leaves), default=0.0)
    if idle < IDLE:
        return None
    seen = f"{idle:.1%} of the units of a layer carry less than {IDLE_NATS} nats a weight"
    if case.has_wide_prior:
        advice = f"Units at so wide a prior add noise that hides the data: use {FAN_IN}; or fewer units."
    else:
        advice = "Use fewer units or layers: what is at the prior adds noise and holds nothing."
    return Finding("units collapsed onto the prior", seen, advice)


def _idle_share(nats: np.ndarray) -> float:
    """Return the largest share of slices along an axis, such as rows of a matrix, whose weights are at the prior."""
    axes = [axis for axis, units in enumerate(nats.shape) if nats.ndim > 1 and units >= FEW_UNITS]
    slices = (np.moveaxis(nats, axis, 0).reshape(nats.shape[axis], -1) for axis in axes)
    return max((float(np.mean(units.mean(axis=1) < IDLE_NATS)) for units in slices), default=0.0)
