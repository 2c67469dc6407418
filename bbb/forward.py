"""Networks with random weights: `forward(key, posterior, x) -> outputs` from `apply(params, x) -> outputs`.

Every forward keeps chance apart from arithmetic, so that noise can be drawn for many calls at once:

    noise(key, posterior, x) -> noise             all the random numbers of one call
    evaluate(noise, posterior, x) -> outputs      no randomness
    forward(key, posterior, x) = evaluate(noise(key, posterior, x), posterior, x)
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from bbb._tree import Tree
from bbb.posterior import MeanField, reparameterize, standard_normal

Apply = Callable[[Tree, Any], jax.Array]
"""A network: `apply(params, x) -> outputs`, x and outputs with one leading row axis."""


@runtime_checkable
class Forward(Protocol):
    """A network with random weights, its chance apart from its arithmetic."""

    def noise(self, key: jax.Array, posterior: MeanField, x: jax.Array) -> Tree:
        """Draw all the random numbers of one call."""

    def evaluate(self, noise: Tree, posterior: MeanField, x: jax.Array) -> jax.Array:
        """Compute the outputs, given those random numbers."""

    def __call__(self, key: jax.Array, posterior: MeanField, x: jax.Array) -> jax.Array:
        """Compute the outputs of one random draw."""


@dataclasses.dataclass(frozen=True)
class WeightSampling:
    """One draw of the weights, shared by all rows: see `weight_sampling`."""

    apply: Apply

    def noise(self, key: jax.Array, posterior: MeanField, x: jax.Array) -> Tree:
        """Draw ε ~ N(0, 1) for every weight."""
        del x
        return standard_normal(key, posterior)

    def evaluate(self, noise: Tree, posterior: MeanField, x: jax.Array) -> jax.Array:
        """Run the network with the weights mean + std·ε."""
        return self.apply(reparameterize(posterior, noise), x)

    def __call__(self, key: jax.Array, posterior: MeanField, x: jax.Array) -> jax.Array:
        """Run the network with one draw of the weights."""
        return self.evaluate(self.noise(key, posterior, x), posterior, x)


@dataclasses.dataclass(frozen=True)
class _Opaque:
    """A plain function `(key, posterior, x) -> outputs`, whose noise is its key."""

    function: Callable[[jax.Array, MeanField, Any], jax.Array]

    def noise(self, key: jax.Array, posterior: MeanField, x: jax.Array) -> Tree:
        del posterior, x
        return key

    def evaluate(self, noise: Tree, posterior: MeanField, x: jax.Array) -> jax.Array:
        return self.function(noise, posterior, x)

    def __call__(self, key: jax.Array, posterior: MeanField, x: jax.Array) -> jax.Array:
        return self.function(key, posterior, x)


def weight_sampling(apply: Apply) -> WeightSampling:
    """Make the network random: each call draws its weights once, for all rows.

    `weight_sampling(apply)(key, posterior, x)` equals `apply(sample(key, posterior), x)`.

    Source: Blundell et al. 2015, arXiv 1505.05424, §3.2.
    """
    return WeightSampling(apply)


def as_forward(forward: Callable[..., jax.Array]) -> Forward:
    """Take a forward as it is, or wrap a plain function `(key, posterior, x) -> outputs`."""
    return forward if isinstance(forward, Forward) else _Opaque(forward)
