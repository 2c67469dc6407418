"""torchbnn's world in bbb's terms, without importing torch: its cost, and what its `kl_weight` means.

Facts are of torchbnn 1.2: `BKLLoss(reduction="mean")` is the KL summed and divided by P, the number of Gaussian
weights.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from bbb import _check
from bbb._tree import count
from bbb.model import BNN
from bbb.objective import Cost
from bbb.prior import kl


def mse_cost(
    model: BNN, outputs: jax.Array, y: jax.Array, row_weights: jax.Array, num_data: int, kl_weight: Any
) -> Cost:
    """Give torchbnn's regression cost, MSE + kl_weight·KL/P, for `fit(..., objective=mse_cost, kl_weight=...)`.

    The mean squared error is over draws, rows and outputs, in squared units of y. The likelihood plays no part. Per
    row it is, up to a factor and a constant, a negative ELBO whose noise is `implied_noise_std`.
    """
    del num_data
    squares = jnp.mean(jnp.square(outputs - y[None]), axis=(0, *range(2, outputs.ndim)))  # (rows,)
    mse = jnp.dot(squares, row_weights) / jnp.sum(row_weights)
    divergence = kl(model.posterior, model.prior)
    return Cost(mse + kl_weight * divergence / count(model.posterior.mean), mse, divergence)


def implied_noise_std(kl_weight: float, num_data: int, outputs: int, weights: int) -> float:
    """Give the noise that MSE + kl_weight·KL/P assumes, in units of y: √(kl_weight·N·D/(2P)).

    A negative ELBO with Gaussian noise of variance v is N·D·MSE/(2v) + KL + constant. Multiplied by kl_weight/P, its
    MSE has the factor 1 where v = kl_weight·N·D/(2P): N rows, D outputs a row, P Gaussian weights.

    Raises:
        InputError: for a kl_weight that is not positive, or counts below 1.
    """
    _check.positive("kl_weight", kl_weight)
    for name, value in (("num_data", num_data), ("outputs", outputs), ("weights", weights)):
        _check.positive_integer(name, value)
    return math.sqrt(kl_weight * num_data * outputs / (2 * weights))
