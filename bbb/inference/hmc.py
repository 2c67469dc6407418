"""Draws of Hamiltonian Monte Carlo, of chains that start at a model that was trained by the evidence lower bound."""

from typing import Any

import jax

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


def finished(key: jax.Array, model: BNN, x: Any, y: Any) -> Learned:
    """Return the model of the draws, with the noise that was trained, and what is wrong with its chains.

    Raises:
        InputError, NonFiniteOutputError: as `bbb.mcmc.hmc`.
    """
    sampled, report = hmc(key, model, x, y)
    return Learned(sampled, problems=report.problems)
