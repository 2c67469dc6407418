"""The network at the posterior's mean: a forward without noise."""

import dataclasses

import jax

from bbb.core.tree import Tree
from bbb.forwards.calls import NetworkForward
from bbb.posteriors.protocol import Posterior
from bbb.tracing.network import Apply


@dataclasses.dataclass(frozen=True)
class AtMean(NetworkForward):
    """The network with the posterior's mean as its weights: see `at_mean`."""

    def noise(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        """Return nothing: no random numbers are needed."""
        del key, posterior, x
        return ()

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> Tree:
        """Run the network with the mean."""
        del noise
        return self.apply(posterior.params, x)


def at_mean(apply: Apply) -> AtMean:
    """Return the network at the posterior's mean: `at_mean(apply)(key, posterior, x)` is `apply(posterior.params, x)`.

    Trained with it, the data term depends on the means alone, and the negative ELBO with a `bbb.priors.Normal` is the
    negative log posterior density of the means plus a part that the standard deviations alone have, which is least at
    those of the prior: `fit(..., objective=bbb.train.Objective(forward=at_mean(model.apply)))` trains the means to the
    maximum a posteriori, as `bbb.laplace` expects them.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> forward = bbb.forwards.at_mean(model.apply)
        >>> forward(jax.random.key(1), model.posterior, task.x).shape
        (20, 1)
    """
    return AtMean(apply)
