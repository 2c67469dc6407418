"""The two objectives of the demo: what each trains, how, and what it says of the noise."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from bbb import tasks
from bbb.forwards import local_reparam
from bbb.likelihoods.gaussian import Gaussian
from bbb.model import BNN, bayesianize
from bbb.networks import nn
from bbb.priors.normal import Normal
from bbb.torchbnn.cost import mse_cost
from bbb.torchbnn.kl_weight import implied_noise_std
from bbb.train.options import Objective


class Recipe(NamedTuple):
    """What belongs to one objective.

    Attributes:
        words: its name in words.
        settings: those with which the bound converges, or those that torchbnn published.
        model: makes the model, of a key, the settings and the number of rows.
        objective: makes what is minimised, of the model and the settings.
        learning_rate: makes the rate, of the settings.
        implied_noise: returns the noise that the objective assumes, of the settings and the number of rows; None where
            the model learns it.
    """

    words: str
    settings: tasks.Settings
    model: Callable[[jax.Array, tasks.Settings, int], BNN]
    objective: Callable[[BNN, tasks.Settings], Objective]
    learning_rate: Callable[[tasks.Settings], float | optax.Schedule]
    implied_noise: Callable[[tasks.Settings, int], float | None]


def _small_model(key: jax.Array, settings: tasks.Settings, rows: int) -> BNN:
    """Return a model that learns its noise."""
    del rows
    network = nn.sequential(nn.linear(1, settings.hidden), nn.tanh, nn.linear(settings.hidden, 1))
    prior, likelihood = Normal(0.0, settings.prior_std), Gaussian(0.5, learn=True)
    return bayesianize(network.apply, network.init(key), prior=prior, likelihood=likelihood)


def _bound(model: BNN, settings: tasks.Settings) -> Objective:
    """Return the bound with little noise in its gradient."""
    del settings
    return Objective(forward=local_reparam(model.apply))


def _falling_rate(settings: tasks.Settings) -> optax.Schedule:
    """Return a rate that falls to 0, with which training comes to rest."""
    return optax.cosine_decay_schedule(settings.learning_rate, settings.steps)


def _none(settings: tasks.Settings, rows: int) -> None:
    """Return that no noise is assumed."""
    del settings, rows


def _published_model(key: jax.Array, settings: tasks.Settings, rows: int) -> BNN:
    """Return torchbnn's model, as wide as its prior and with the noise of its cost."""
    layers = nn.linear(1, settings.hidden, init="torchbnn"), nn.relu, nn.linear(settings.hidden, 1, init="torchbnn")
    network, std = nn.sequential(*layers), settings.prior_std
    prior, likelihood = Normal(0.0, std), Gaussian(_implied(settings, rows))
    return bayesianize(network.apply, network.init(key), prior=prior, likelihood=likelihood, std=std)


def _published_cost(model: BNN, settings: tasks.Settings) -> Objective:
    """Return torchbnn's cost."""
    del model
    return Objective(mse_cost, kl_weight=settings.kl_weight)


def _implied(settings: tasks.Settings, rows: int) -> float:
    """Return the noise that torchbnn's cost assumes."""
    return implied_noise_std(settings.kl_weight, rows, 1, 3 * settings.hidden + 1)


RECIPES = {
    "elbo": Recipe(
        words="evidence lower bound",
        settings=dataclasses.replace(tasks.Settings(), hidden=20, prior_std=3.0, learning_rate=0.05, steps=4_000),
        model=_small_model,
        objective=_bound,
        learning_rate=_falling_rate,
        implied_noise=_none,
    ),
    "torchbnn": Recipe(
        words="torchbnn's objective",
        settings=tasks.Settings(),
        model=_published_model,
        objective=_published_cost,
        learning_rate=lambda settings: settings.learning_rate,
        implied_noise=_implied,
    ),
}
"""The objectives of the demo, by their words on the command line."""
