"""Likelihoods: what an observation y looks like, given the network's outputs."""

import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr, ndtri

from bbb import _check
from bbb._tree import Tree, noun


class Likelihood(Protocol):
    """What the objective and the predictive need of a likelihood; all but `learn` work elementwise.

    `learn` says whether its parameters are trained with the posterior.
    """

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the likelihood's own parameters."""

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log p(y | outputs) in nats for each row."""

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs]."""

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs], the aleatoric variance."""

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give P(Y ≤ y | outputs)."""

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give the density of y, the derivative of `cdf`."""

    def quantile(self, p: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give the y at which `cdf` is p."""


@noun(data=("log_std",), static=("learn",))
class Gaussian:
    """y = outputs + N(0, std²): additive noise of one standard deviation.

    Args:
        std: a number, or an array that broadcasts against one row of outputs (one noise per output), in y's units.
        learn: whether `fit` learns it, from this start.

    Attributes:
        log_std: the natural logarithm of std, which is what `fit` moves.

    Raises:
        InputError: if std is not positive and finite.
    """

    log_std: Tree
    learn: bool

    def __init__(self, std: Tree = 1.0, learn: bool = False) -> None:
        _check.positive("noise std", std)
        object.__setattr__(self, "log_std", jnp.log(std) if isinstance(std, jax.Array) else np.log(std))
        object.__setattr__(self, "learn", bool(learn))

    @property
    def std(self) -> jax.Array:
        """The noise's standard deviation, in y's units."""
        return jnp.exp(self.log_std)

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log N(y; outputs, std²) in nats, shape (rows,): summed over the outputs of a row."""
        log_std = _like(self.log_std, outputs)
        z = (y - outputs) * jnp.exp(-log_std)
        nats = -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2 * math.pi)
        return jnp.sum(nats, axis=tuple(range(1, nats.ndim)))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs], of the outputs' shape."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs] = std², of the outputs' shape."""
        return jnp.broadcast_to(jnp.exp(2 * _like(self.log_std, outputs)), outputs.shape)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give Φ((y − outputs)/std)."""
        return ndtr(self._z(y, outputs))

    def log_cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log Φ((y − outputs)/std), in nats."""
        return log_ndtr(self._z(y, outputs))

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give φ((y − outputs)/std)/std, per unit of y."""
        scale = jnp.exp(-_like(self.log_std, outputs))
        return jnp.exp(-0.5 * jnp.square(self._z(y, outputs))) * scale / math.sqrt(2 * math.pi)

    def quantile(self, p: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give outputs + std·Φ⁻¹(p)."""
        return outputs + jnp.exp(_like(self.log_std, outputs)) * ndtri(p)

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-_like(self.log_std, outputs))


def _like(value: Tree, outputs: jax.Array) -> jax.Array:
    """Give `value` in the dtype of the outputs and, under strict promotion, their rank."""
    array = jnp.asarray(value, outputs.dtype)
    row = outputs.shape[max(outputs.ndim - array.ndim, 0) :]
    if array.ndim > outputs.ndim or any(n not in (1, m) for n, m in zip(array.shape, row, strict=True)):
        _check.fail(
            _check.ShapeError,
            f"noise std to broadcast against outputs of shape (..., {', '.join(map(str, row))})",
            f"shape {array.shape}",
            "Pass one number, or one for each output of a row.",
        )
    return array.reshape((1,) * (outputs.ndim - array.ndim) + array.shape)
