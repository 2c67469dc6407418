"""A Laplace prior."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

from bbb import checks
from bbb.core.noise import at_least_float32
from bbb.core.tree import Tree, per_leaf, pytree_dataclass, sum_leaves
from bbb.posteriors.mean_field import MeanField


@pytree_dataclass(data=("mean", "scale"), saved=True)
class Laplace:
    """Independent Laplace distributions, of density exp(−|w − mean|/scale)/(2·scale).

    Attributes:
        mean: a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf).
        scale: likewise, above 0; the standard deviation is √2·scale.

    Raises:
        InputError: if a mean is not finite, or a scale not positive and finite.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.MeanField.around(params, std=0.1)
        >>> round(float(bbb.priors.kl(posterior, bbb.priors.Laplace(scale=1.0))), 1)
        18.8
    """

    mean: Tree = 0.0
    scale: Tree = 1.0

    def __post_init__(self) -> None:
        """Check that the means are finite, and the scales positive and finite."""
        for leaf in jax.tree.leaves(self.mean):
            checks.finite("prior mean", leaf)
        for leaf in jax.tree.leaves(self.scale):
            checks.positive("prior scale", leaf)

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ self) in closed form: nats, a scalar."""
        return sum_leaves(self.kl_of_weights(posterior))

    def kl_of_weights(self, posterior: MeanField) -> Tree:
        """Return the KL of each weight, in nats: a tree like `posterior.log_std`.

        With d = m − mean, the mean of `|w − mean|` is s·√(2/π)·exp(−d²/(2s²)) + d·erf(d/(s·√2)), and
        `KL = E|w − mean|/scale + log(2·scale) − log s − ½·log(2πe)`, at least 0.048 nats for each weight.
        """
        centres = posterior.random_leaves(posterior.mean)
        means = per_leaf("prior mean", self.mean, centres)
        scales = per_leaf("prior scale", self.scale, centres)

        def leaf(m: jax.Array, log_s: jax.Array, m0: jax.Array, b: jax.Array) -> jax.Array:
            d, s = m - m0, jnp.exp(log_s)
            z = d / (s * math.sqrt(2))
            distance = s * math.sqrt(2 / math.pi) * jnp.exp(-jnp.square(z)) + d * erf(z)
            return distance / b + jnp.log(2 * b) - log_s - 0.5 * math.log(2 * math.pi * math.e)

        return jax.tree.map(leaf, centres, posterior.log_std, means, scales)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params), in nats: a scalar, summed over every weight; leaves that are None are left out."""
        means = per_leaf("prior mean", self.mean, params)
        scales = per_leaf("prior scale", self.scale, params)
        return sum_leaves(jax.tree.map(lambda w, m, b: -jnp.abs(w - m) / b - jnp.log(2 * b), params, means, scales))

    def scales(self, params: Tree) -> Tree:
        """Return the standard deviation of each weight: a tree like `params`; leaves that are None are left out."""
        scales = per_leaf("prior scale", self.scale, params)
        return jax.tree.map(lambda w, b: jnp.broadcast_to(math.sqrt(2) * b, w.shape), params, scales)

    def sample_params(self, key: jax.Array, params: Tree) -> Tree:
        """Draw weights: a tree like `params`; leaves that are None are left out."""
        means = per_leaf("prior mean", self.mean, params)
        scales = per_leaf("prior scale", self.scale, params)
        leaves, structure = jax.tree.flatten(params)
        keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

        def leaf(w: jax.Array, m: jax.Array, b: jax.Array, k: jax.Array) -> jax.Array:
            return m + b * jax.random.laplace(k, w.shape, at_least_float32(w.dtype)).astype(w.dtype)

        return jax.tree.map(leaf, params, means, scales, keys)

    def centred(self, params: Tree) -> "Laplace":
        """Return the prior of the same scales around `params`."""
        return Laplace(params, self.scale)
