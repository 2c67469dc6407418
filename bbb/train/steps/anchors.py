"""Anchored members: each a point that is trained to a maximum a posteriori of its own.

A member's prior is centred at a draw from the prior, and what each row says of the outputs has noise of its own size.
For a network that is linear in its weights, with a Gaussian prior and Gaussian noise, its maximum a posteriori is then
a draw from the posterior.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.noise import normals
from bbb.core.tree import is_none
from bbb.likelihoods.perturbed import Perturbed
from bbb.model import BNN
from bbb.posteriors.mean_field import MeanField
from bbb.priors.anchored import anchored

ANCHOR_KEY, ROW_KEY = 2**32 - 5, 2**32 - 6
"""The keys of a member's anchor, and of the noise of its rows."""


def as_point(model: BNN) -> BNN:
    """Return a model of the same network, likelihood and prior, of which every weight is a point estimate."""
    params = model.posterior.params
    return dataclasses.replace(model, posterior=MeanField(params, jax.tree.map(lambda _: None, params)))


def with_anchor(key: jax.Array, model: BNN) -> BNN:
    """Return a member: a point that starts at a draw from the prior, which is its prior's centre.

    Leaves that are point estimates in `model` have no prior, and start as they are.
    """
    params = model.posterior.params
    random = model.posterior.random_leaves(params)
    prior = anchored(_threefry(jax.random.fold_in(key, np.uint32(ANCHOR_KEY))), model.prior, random)
    start = jax.tree.map(lambda a, w: w if a is None else a, prior.anchor, params, is_leaf=is_none)
    point = as_point(model)
    return dataclasses.replace(point, posterior=point.posterior.with_params(start), prior=prior)


def with_row_noise(
    key: jax.Array, model: BNN, rows: jax.Array, outputs: jax.Array, weights: jax.Array | None = None
) -> BNN:
    """Return a member whose likelihood is perturbed: that of each row by its index in the data, and the key, alone.

    The noise of a row of weight w is divided by √w: times w, as a cost takes it, it is that of w rows together.

    Args:
        key: the member's.
        model: the member.
        rows: the indices of the rows of a batch, (rows,).
        outputs: (draws, rows, ...), of which the shape and the dtype are used.
        weights: (rows,), how often each counts; None for once.
    """
    key, numbers = _threefry(jax.random.fold_in(key, np.uint32(ROW_KEY))), math.prod(outputs.shape[2:])

    def of_row(row: jax.Array) -> jax.Array:
        return normals(jax.random.fold_in(key, row), numbers, outputs.dtype)

    unit = jax.vmap(of_row)(rows)
    if weights is not None:
        spread = jnp.sqrt(jnp.where(weights > 0, weights, 1))  # a row of weight 0 has no noise that counts
        unit = unit / spread.astype(unit.dtype)[:, None]
    likelihood: Any = Perturbed(model.likelihood, unit)
    return dataclasses.replace(model, likelihood=likelihood)


def _threefry(key: jax.Array) -> jax.Array:
    """Return a key of JAX's default generator: with others, numbers that are drawn side by side hang on their place."""
    return jax.random.wrap_key_data(jax.random.key_data(key)[..., :2], impl="threefry2x32")
