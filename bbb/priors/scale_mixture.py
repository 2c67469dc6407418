"""A mixture of two Gaussians as a prior (Blundell et al. 2015, arXiv 1505.05424, eq. 7)."""

import math
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.noise import at_least_float32, standard_normal
from bbb.core.tree import Tree, per_leaf, pytree_dataclass, sum_leaves
from bbb.errors import InputError, fail
from bbb.posteriors.mean_field import MeanField
from bbb.priors.protocol import raise_without_key


@pytree_dataclass(data=("weight", "std1", "std2"), saved=True)
class ScaleMixture:
    """Independent mixtures of two Gaussians, weight·N(0, std1²) + (1 − weight)·N(0, std2²).

    The wide component allows a few weights to be large, and the narrow one shrinks the others to 0. The KL of a
    Gaussian from it has no closed form: `fit` and `negative_elbo` estimate it from a few draws, and `bbb.priors.kl`
    needs a key.

    Attributes:
        weight: of the first component, inside (0, 1): a number for all weights, or a tree that is a prefix of the
            parameters' (per layer, per leaf).
        std1: likewise, the first standard deviation, above 0.
        std2: likewise, the second.

    Raises:
        InputError: if a weight is not inside (0, 1), or a std not positive and finite.

    Source: Blundell et al. 2015, arXiv 1505.05424, eq. 7, where −log std1 is 0, 1 or 2 and −log std2 is 6, 7 or 8.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> prior = bbb.priors.ScaleMixture(weight=0.5, std1=1.0, std2=0.1)
        >>> [leaf.shape for leaf in jax.tree.leaves(prior.log_density(params))]
        [(2,), (2, 3)]
    """

    weight: Tree = 0.5
    std1: Tree = 1.0
    std2: Tree = math.exp(-6)

    def __post_init__(self) -> None:
        """Check that the weights are inside (0, 1), and the standard deviations positive and finite."""
        for leaf in jax.tree.leaves(self.weight):
            checks.positive("prior weight", leaf)
            if not isinstance(leaf, jax.core.Tracer) and (np.asarray(leaf) >= 1).any():
                do = "Pass the weight of the first component; the second has the rest."
                fail(InputError, "prior weight to be inside (0, 1)", f"{np.max(leaf)}", do)
        for leaf in jax.tree.leaves((self.std1, self.std2)):
            checks.positive("prior std", leaf)

    def kl(self, posterior: MeanField) -> NoReturn:
        """Raise: it has no closed form.

        Raises:
            InputError: always.
        """
        del posterior
        raise_without_key()

    def log_density(self, params: Tree) -> Tree:
        """Return log p of each weight, in nats: a tree like `params`."""
        given = {"weight": self.weight, "std1": self.std1, "std2": self.std2}
        parts = [per_leaf(f"prior {name}", value, params) for name, value in given.items()]

        def leaf(w: jax.Array, pi: jax.Array, s1: jax.Array, s2: jax.Array) -> jax.Array:
            one = jnp.log(pi) - jnp.log(s1) - 0.5 * jnp.square(w / s1)
            two = jnp.log1p(-pi) - jnp.log(s2) - 0.5 * jnp.square(w / s2)
            return jnp.logaddexp(one, two) - 0.5 * math.log(2 * math.pi)

        return jax.tree.map(leaf, params, *parts)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params), in nats: a scalar, summed over every weight; leaves that are None are left out."""
        return sum_leaves(self.log_density(params))

    def scales(self, params: Tree) -> Tree:
        """Return the standard deviation of each weight: a tree like `params`; leaves that are None are left out."""
        given = {"weight": self.weight, "std1": self.std1, "std2": self.std2}
        parts = [per_leaf(f"prior {name}", value, params) for name, value in given.items()]

        def leaf(w: jax.Array, pi: jax.Array, s1: jax.Array, s2: jax.Array) -> jax.Array:
            return jnp.broadcast_to(jnp.sqrt(pi * jnp.square(s1) + (1 - pi) * jnp.square(s2)), w.shape)

        return jax.tree.map(leaf, params, *parts)

    def sample_params(self, key: jax.Array, params: Tree) -> Tree:
        """Draw weights: a tree like `params`, of which the shapes and dtypes are used; leaves that are None stay so."""
        given = {"weight": self.weight, "std1": self.std1, "std2": self.std2}
        parts = [per_leaf(f"prior {name}", value, params) for name, value in given.items()]
        choice, noise = jax.random.split(key)
        leaves, structure = jax.tree.flatten(params)
        keys = jax.tree.unflatten(structure, list(jax.random.split(choice, len(leaves))))

        def leaf(e: jax.Array, k: jax.Array, pi: jax.Array, s1: jax.Array, s2: jax.Array) -> jax.Array:
            dtype = at_least_float32(e.dtype)
            is_first = jax.random.uniform(k, e.shape, dtype) < pi.astype(dtype)
            return jnp.where(is_first, s1, s2) * e

        return jax.tree.map(leaf, standard_normal(noise, params), keys, *parts)
