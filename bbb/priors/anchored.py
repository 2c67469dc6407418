"""A prior centred at a draw of its own, as a point of an anchored ensemble meets it."""

from typing import Any

import jax

from bbb.core.ability import missing_members
from bbb.core.tree import Tree, map_present, pytree_dataclass
from bbb.errors import InputError, fail
from bbb.posteriors.mean_field import MeanField
from bbb.priors.protocol import SupportsAnchoring


@pytree_dataclass(data=("prior", "anchor"))
class Anchored:
    """A prior with its mode at an anchor, for training a point: to the objective, a prior like any other.

    Attributes:
        prior: one of which `log_prob` is greatest at the anchor.
        anchor: a tree like the parameters, with None in the place of leaves that have no prior.
    """

    prior: Any
    anchor: Tree

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return log p(anchor) − log p(w) at the posterior's parameters w: nats, a scalar, 0 at the anchor.

        It stands where the KL of a posterior does, and is the penalty of the maximum a posteriori: of a Gaussian prior
        ½·Σ((w − anchor)/std)².
        """
        weights = map_present(lambda _, w: w, self.anchor, posterior.params)
        return self.prior.log_prob(self.anchor) - self.prior.log_prob(weights)


def anchored(key: jax.Array, prior: Any, params: Tree) -> Anchored:
    """Return a prior centred at a draw from it; `params`, with None in the place of what has no prior, gives shapes."""
    anchor = prior.sample_params(key, params)
    return Anchored(prior.centred(anchor), anchor)


def check_anchoring(prior: Any) -> None:
    """Raise for a prior that cannot be drawn from, or centred elsewhere.

    Raises:
        InputError: naming what it lacks.
    """
    missing = [f"`{name}`" for name in missing_members(prior, SupportsAnchoring)]
    if missing:
        do = "Take bbb.priors.Normal or bbb.priors.Laplace, or add what is missing, as bbb.priors.Prior describes it."
        expected = f"a prior with {' and '.join(missing)}, which anchored restarts need"
        fail(InputError, expected, f"a {type(prior).__name__} without", do)
