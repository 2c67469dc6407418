"""A likelihood with noise on what it says of the outputs, as a member of an anchored ensemble is trained with it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bbb.core.ability import implements
from bbb.core.tree import pytree_dataclass
from bbb.likelihoods.protocol import SupportsGaussianNoise, allows_missing, fisher_root_of


@pytree_dataclass(data=("likelihood", "unit"))
class Perturbed:
    """A likelihood whose score, ∂ log p(y | f)/∂f at outputs f, has noise of its own size; a likelihood to any cost.

    With the Fisher information A·Aᵀ of y in the outputs, and ε the standard normals of a row,

        log p̃(y | f) = log p(y | f) + (A·ε)ᵀ·(f − c)

    where A is taken as a constant. So is c, which no gradient sees: y itself for Gaussian noise, else 0. For Gaussian
    noise A = 1/std, and this is log N(y + std·ε; f, std²) + ½·ε²: targets with noise like their own once more. The
    likelihood's own parameters are learned from the targets as they are: from the others, a learned std would meet
    itself again, and grow without bound.

    Attributes:
        likelihood: one with `fisher_root`.
        unit: ε, (rows, k), k numbers of outputs a row.

    Sources: Bardsley et al. 2014, SIAM J. Sci. Comput. 36(4), randomize-then-optimize, for Gaussian noise; Janz et al.
    2024, arXiv 2311.07565, for other likelihoods, where noise on the targets may mislead and a linear term does not.
    """

    likelihood: Any
    unit: jax.Array

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p̃(y | outputs) in nats, of each row: (rows,)."""
        known, seen = lax.stop_gradient((self.likelihood, outputs))
        push = jnp.sum(fisher_root_of(known, y, seen) * self.unit[:, None, :], axis=-1)  # (rows, k)
        centre = known.complete(y) if allows_missing(known) else y
        from_centre = outputs - centre if implements(known, SupportsGaussianNoise) else outputs
        linear = jnp.sum(push * from_centre.reshape(push.shape), axis=-1)
        return self.likelihood.log_prob(y, outputs) + linear
