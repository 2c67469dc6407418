"""Draws of Hamiltonian Monte Carlo, of chains that start at a model that was trained by the evidence lower bound."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from bbb.curvature.choice import structure_for
from bbb.inference import laplace
from bbb.inference.evidence import by_evidence
from bbb.inference.laplace import STEPS_AFTER
from bbb.inference.method import Learned
from bbb.mcmc.api import hmc
from bbb.mcmc.chains import blackjax
from bbb.mcmc.target import check_density
from bbb.model import BNN


def check(model: BNN) -> None:
    """Raise for a prior without a density of its own, or where the package of the samplers is missing.

    Raises:
        InputError: naming what is lacking.
    """
    check_density(model.prior, "hmc")
    blackjax()


def finished(key: jax.Array, model: BNN, x: Any, y: Any, free: bool, sample_weight: Any = None) -> Learned:
    """Return the model of the draws, with the prior and the noise that were found, and what is wrong with its chains.

    Raises:
        InputError, NonFiniteOutputError: as `bbb.mcmc.hmc`, and `bbb.tune` if the prior and the noise are free.
    """
    found = by_evidence(key, model, x, y, structure_for(model, x), STEPS_AFTER, sample_weight) if free else None
    sampled, report = hmc(key, model if found is None else found.model, x, y, sample_weight=sample_weight)
    return Learned(sampled, problems=report.problems)


def learned(
    key: jax.Array, starts: Sequence[BNN], x: Any, y: Any, steps: int, sample_weight: Any = None
) -> Learned | None:
    """Return the model of draws that start where the evidence led; None where that takes too long.

    Raises:
        InputError, NonFiniteOutputError, NonFiniteLossError: as `bbb.mcmc.hmc` and `bbb.tune`.
    """
    begun = laplace.learned(key, starts, x, y, steps, sample_weight)
    if begun is None:
        return None
    start = dataclasses.replace(begun.model, linearized=False)
    sampled, report = hmc(key, start, x, y, sample_weight=sample_weight)
    return Learned(sampled, problems=report.problems, independent=begun.independent, loss=begun.loss)
