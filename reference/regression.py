"""torchbnn on the regression task: make the network, train it, draw from it, and summarise the draws.

Sizes: N training rows, M test rows, S draws, P Gaussian weights (3,001 in the demo). Everything except the summaries is
float32.
"""

import dataclasses
import math

import numpy as np
import torch
import torchbnn

from bbb.tasks import Settings


@dataclasses.dataclass(frozen=True)
class History:
    """The cost and its parts at each step, before its update: arrays of shape (steps,).

    Attributes:
        loss: data_term + kl_weight·KL/P, the minimised cost.
        data_term: the mean squared error, in squared units of y.
        kl: KL(posterior ‖ prior) in nats, summed over the P weights, unweighted.
    """

    loss: np.ndarray
    data_term: np.ndarray
    kl: np.ndarray


@dataclasses.dataclass(frozen=True)
class Band:
    """The band mean ± sigmas·std of the draws of f at each test row: float64 arrays of shape (M,), in units of y.

    Every `mcse_…` is the Monte Carlo standard error of the number it names: the standard deviation over the draws of
    that number's influence function, divided by √S. With ψ = (f − f̄)², the influence function is f for the mean,
    ψ/(2 std) for the std, and f ± sigmas·ψ/(2 std) for the ends. No Gaussian shape is assumed.
    """

    mean: np.ndarray
    std: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    mcse_mean: np.ndarray
    mcse_std: np.ndarray
    mcse_lower: np.ndarray
    mcse_upper: np.ndarray


def network(settings: Settings) -> torch.nn.Sequential:
    """Return the 1-hidden-1 ReLU network with Gaussian weights, initialised by torch's global generator."""
    return torch.nn.Sequential(
        torchbnn.BayesLinear(prior_mu=0.0, prior_sigma=settings.prior_std, in_features=1, out_features=settings.hidden),
        torch.nn.ReLU(),
        torchbnn.BayesLinear(prior_mu=0.0, prior_sigma=settings.prior_std, in_features=settings.hidden, out_features=1),
    )


def count_weights(model: torch.nn.Module) -> int:
    """Return P, the number of Gaussian weights, each with a mean and a log sigma."""
    return sum(parameter.numel() for parameter in model.parameters()) // 2


def train(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, settings: Settings) -> History:
    """Minimise MSE + kl_weight·KL/P by Adam, in place, on all rows at each step.

    Args:
        model: the result of `network`.
        x: (N, 1).
        y: (N, 1).
        settings: the weight of the KL, the learning rate and the number of steps.
    """
    mean_squared_error = torch.nn.MSELoss()
    kl_per_weight = torchbnn.BKLLoss(reduction="mean")
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    steps = []
    for _ in range(settings.steps):
        data_term = mean_squared_error(model(x), y)
        kl = kl_per_weight(model)
        loss = data_term + settings.kl_weight * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.append((loss.item(), data_term.item(), kl.item()))
    loss_, data_term_, kl_ = np.array(steps).T
    return History(loss_, data_term_, kl_ * count_weights(model))


def draw(model: torch.nn.Module, x: torch.Tensor, draws: int) -> np.ndarray:
    """Call the network once for each draw: x of shape (M, 1) gives (S, M), in units of y.

    Each call draws the weights once, for all rows.
    """
    with torch.no_grad():
        return torch.stack([model(x).squeeze(-1) for _ in range(draws)]).numpy()


def summarise(draws: np.ndarray, sigmas: float) -> Band:
    """Compute the band mean ± sigmas·std of draws (S, M), S ≥ 2, and its Monte Carlo standard errors."""
    f = draws.astype(np.float64)
    mean, std = f.mean(axis=0), f.std(axis=0, ddof=1)
    psi = (f - mean) ** 2 / (2 * std)  # the influence function of std, up to a constant

    def standard_error(influence: np.ndarray) -> np.ndarray:
        return influence.std(axis=0, ddof=1) / math.sqrt(len(influence))

    return Band(
        mean=mean,
        std=std,
        lower=mean - sigmas * std,
        upper=mean + sigmas * std,
        mcse_mean=standard_error(f),
        mcse_std=standard_error(psi),
        mcse_lower=standard_error(f - sigmas * psi),
        mcse_upper=standard_error(f + sigmas * psi),
    )


def implied_noise_std(kl_weight: float, rows: int, outputs: int, weights: int) -> float:
    """Compute the std of the noise that MSE + kl_weight·KL/P assumes, √(kl_weight·N·D/(2P)), in units of y.

    N·D·MSE/(2v) + KL is a negative ELBO with Gaussian noise of variance v, and kl_weight/P times it is that cost
    if v = kl_weight·N·D/(2P).
    """
    return math.sqrt(kl_weight * rows * outputs / (2 * weights))
