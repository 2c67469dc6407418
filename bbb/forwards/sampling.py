"""Weight sampling: one draw of the weights for all rows."""

import dataclasses

import jax

from bbb import checks
from bbb.core.tree import Tree
from bbb.forwards.calls import called_with
from bbb.posteriors.protocol import Posterior
from bbb.tracing.network import Apply


@dataclasses.dataclass(frozen=True)
class WeightSampling:
    """One draw of the weights, shared by all rows: see `weight_sampling`."""

    apply: Apply

    def __post_init__(self) -> None:
        """Raise for what is not a network."""
        checks.network(self.apply)

    def noise(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        """Draw the noise of one draw of the weights."""
        del x
        return posterior.noise(key)

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Run the network with the weights that the noise makes."""
        return self.apply(posterior.weights(noise), x)

    def at(self, params: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Run the network with given weights."""
        del posterior
        return self.apply(params, x)

    def __call__(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Run the network with one draw of the weights.

        Raises:
            KeyTypeError, InputError, ShapeError: for a key, a posterior or an x that does not fit.
        """
        return called_with(self, key, posterior, x)


def weight_sampling(apply: Apply) -> WeightSampling:
    """Return the network with random weights: each call draws them once, for all rows.

    `weight_sampling(apply)(key, posterior, x)` equals `apply(sample(key, posterior), x)`.

    Source: Blundell et al. 2015, arXiv 1505.05424, §3.2.
    """
    return WeightSampling(apply)
