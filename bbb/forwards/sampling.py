"""Weight sampling: one draw of the weights for all rows."""

import dataclasses

import jax

from bbb.core.tree import Tree
from bbb.forwards.calls import NetworkForward
from bbb.posteriors.protocol import Posterior
from bbb.tracing.network import Apply


@dataclasses.dataclass(frozen=True)
class WeightSampling(NetworkForward):
    """One draw of the weights, shared by all rows: see `weight_sampling`."""

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Run the network with the weights that the noise makes."""
        return self.apply(posterior.weights(noise), x)

    def at(self, params: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Run the network with given weights."""
        del posterior
        return self.apply(params, x)


def weight_sampling(apply: Apply) -> WeightSampling:
    """Return the network with random weights: each call draws them once, for all rows.

    `weight_sampling(apply)(key, posterior, x)` equals `apply(sample(key, posterior), x)`.

    Source: Blundell et al. 2015, arXiv 1505.05424, §3.2.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> forward = bbb.forwards.weight_sampling(model.apply)
        >>> forward(jax.random.key(1), model.posterior, task.x).shape
        (20, 1)
    """
    return WeightSampling(apply)
