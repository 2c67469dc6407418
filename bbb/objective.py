"""The objective: what training minimises.

A cost is a function of the network's outputs, so that the same training loop serves every cost and every forward:

    cost(model, outputs, y, row_weights, num_data, kl_weight) -> Cost

with outputs of shape (draws, rows, ...), y of shape (rows, ...), and row_weights of shape (rows,), in the dtype of the
outputs, 0 for padding.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check
from bbb.forward import Forward, as_forward, weight_sampling
from bbb.likelihood import observed
from bbb.model import BNN, check_model, rows_for
from bbb.prior import KL_DRAWS, WithNoise, kl, with_noise


class Cost(NamedTuple):
    """A cost and its parts, all scalars.

    `total` is what is minimised; `data_term` its first part, in the units of the cost; `kl` is KL(posterior ‖ prior)
    itself, in nats, unweighted; `kl_std_error` its Monte Carlo standard error, None where it has a closed form. A cost
    function leaves that to who called it.
    """

    total: jax.Array
    data_term: jax.Array
    kl: jax.Array
    kl_std_error: jax.Array | None = None


CostFunction = Callable[..., Cost]
"""`cost(model, outputs, y, row_weights, num_data, kl_weight) -> Cost`."""


def elbo_cost(
    model: BNN,
    outputs: jax.Array,
    y: jax.Array,
    row_weights: jax.Array,
    num_data: int,
    kl_weight: Any,
) -> Cost:
    """Give the negative evidence lower bound, in nats over the whole data set.

    −ELBO = −(num_data / rows)·E_q[Σ log p(y | x, w)] + kl_weight·KL(q ‖ p), the expectation a mean over draws.

    Source: Blundell et al. 2015, arXiv 1505.05424, eq. 1 and 2.
    """
    log_probs = jax.vmap(model.likelihood.log_prob, in_axes=(None, 0))(y, outputs)  # (draws, rows)
    per_row = jnp.mean(log_probs, axis=0)
    data_term = -jnp.dot(per_row, row_weights) * (num_data / jnp.sum(row_weights))
    divergence = kl(model.posterior, model.prior)
    return Cost(data_term + kl_weight * divergence, data_term, divergence)


def negative_elbo(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: Any,
    num_data: int | None = None,
    *,
    kl_weight: float = 1.0,
    draws: int = 1,
    forward: Callable[..., jax.Array] | None = None,
) -> tuple[jax.Array, Cost]:
    """Estimate the negative evidence lower bound from `draws` draws: nats, over the whole data set.

    Args:
        key: one typed JAX key.
        model: the Bayesian network.
        x: (rows, ...), all the data or a batch of it.
        y: the shape of the network's outputs, (rows, ...).
        num_data: rows of the whole data set, where x is a batch of it; by default the rows of x.
        kl_weight: 1 for the bound itself; less tempers the prior.
        draws: how many draws of the weights the data term is averaged over.
        forward: how the network is made random; by default `weight_sampling(model.apply)`.

    Returns:
        The scalar to minimise, and its parts.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit.
    """
    _check.key(key)
    _check.not_negative("kl_weight", kl_weight)
    draws = _check.positive_integer("draws", draws)
    x, y = data_for(model, x, y)
    num_data = x.shape[0] if num_data is None else _check.positive_integer("num_data", num_data)
    random = as_forward(weight_sampling(model.apply) if forward is None else forward)
    noise = jax.vmap(lambda k: random.noise(k, model.posterior, x))(draw_keys(key, draws))
    outputs = evaluate_draws(random, noise, model, x, draws)
    model = with_kl_noise(jax.random.fold_in(key, np.uint32(KL_KEY)), model, draws)
    cost = with_std_error(elbo_cost(model, outputs, y, jnp.ones(x.shape[0], outputs.dtype), num_data, kl_weight), model)
    return cost.total, cost


KL_KEY = 2**32 - 2
"""The key of the noise that a KL without a closed form is estimated from."""


def with_kl_noise(key: jax.Array, model: BNN, draws: int) -> BNN:
    """Give a prior whose KL is estimated the noise to do so, so that any cost can ask for it."""
    return dataclasses.replace(model, prior=with_noise(key, model.prior, model.posterior, max(draws, KL_DRAWS)))


def with_std_error(cost: Cost, model: BNN) -> Cost:
    """Add the standard error of the KL, if that was estimated."""
    if not isinstance(model.prior, WithNoise):
        return cost
    return cost._replace(kl_std_error=model.prior.kl_std_error(jax.lax.stop_gradient(model.posterior)))


def data_for(model: BNN, x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    """Check x and y against the model and against each other; return them in the model's dtype."""
    check_model(model)
    if model.members > 1:
        do = "Take one, model.member(k); to train several, use bbb.fit_each."
        _check.fail(_check.InputError, "a model of one posterior", f"one of {model.members} members", do)
    x, y = rows_for(model, "x", x), rows_for(model, "y", y)
    _check.same_rows(x, y)
    outputs = _check.output_shape(model.apply, model.posterior.mean, x)
    return x, observed(model.likelihood, y, outputs)


def draw_keys(key: jax.Array, draws: int) -> jax.Array:
    """Give every draw a key that depends on its index alone."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(draws))


def evaluate_draws(forward: Forward, noise: Any, model: BNN, x: jax.Array, draws: int) -> jax.Array:
    """Run the network once for each of the draws of `noise`, which may be empty: outputs (draws, rows, ...)."""
    if draws == 1:  # a batch of one costs a batched product, and buys nothing
        return forward.evaluate(jax.tree.map(lambda leaf: leaf[0], noise), model.posterior, x)[None]
    return jax.vmap(lambda e: forward.evaluate(e, model.posterior, x), axis_size=draws)(noise)
