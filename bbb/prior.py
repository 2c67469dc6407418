"""Priors over the weights, and the divergence of a posterior from them."""

import math
from typing import Protocol

import jax
import jax.numpy as jnp

from bbb import _check
from bbb._tree import Tree, noun, sum_leaves
from bbb.posterior import MeanField, per_leaf


class Prior(Protocol):
    """What the objective needs of a prior."""

    def kl(self, posterior: MeanField) -> jax.Array:
        """Give KL(posterior ‖ self) in nats, summed over every weight."""


@noun(data=("mean", "std"))
class Normal:
    """Independent Gaussians N(mean, std²).

    Attributes:
        mean: a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf).
        std: likewise, above 0.

    Raises:
        InputError: if a mean is not finite, or a std not positive and finite.
    """

    mean: Tree = 0.0
    std: Tree = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that are no mean and no standard deviation."""
        for leaf in jax.tree.leaves(self.mean):
            _check.finite("prior mean", leaf)
        for leaf in jax.tree.leaves(self.std):
            _check.positive("prior std", leaf)

    @classmethod
    def around(cls, params: Tree, std: Tree = 1.0) -> "Normal":
        """Centre a prior on `params`, such as pretrained weights; with `posterior.relative_std`, this is MOPED.

        Raises:
            InputError: if a parameter is not finite, or a std not positive and finite.

        Source: Krishnan et al. 2020, arXiv 1906.05323: a prior N(w, 1) around the maximum-likelihood weights w.
        """
        return cls(jax.tree.map(jnp.asarray, params), std)

    def kl(self, posterior: MeanField) -> jax.Array:
        """Give KL(posterior ‖ self) in closed form: nats, a scalar, summed over every weight that has a Gaussian.

        With r = log s − log s0:  ½·expm1(2r) − r + ½·((m − m0)/s0)², which is exactly 0 where the
        two are equal, and keeps its digits near there.
        """
        centres = posterior.gaussian(posterior.mean)
        means = per_leaf("prior mean", self.mean, centres)
        stds = per_leaf("prior std", self.std, centres)

        def leaf(m: jax.Array, log_s: jax.Array, m0: jax.Array, s0: jax.Array) -> jax.Array:
            r = log_s - jnp.log(s0)
            return 0.5 * jnp.expm1(2 * r) - r + 0.5 * jnp.square((m - m0) / s0)

        return sum_leaves(jax.tree.map(leaf, centres, posterior.log_std, means, stds))

    def log_prob(self, params: Tree) -> jax.Array:
        """Give log p(params), in nats: a scalar, summed over every weight.

        Leaves that are None are left out: `posterior.gaussian(params)` leaves out the point estimates.
        """
        means = per_leaf("prior mean", self.mean, params)
        stds = per_leaf("prior std", self.std, params)

        def leaf(w: jax.Array, m0: jax.Array, s0: jax.Array) -> jax.Array:
            return -0.5 * jnp.square((w - m0) / s0) - jnp.log(s0) - 0.5 * math.log(2 * math.pi)

        return sum_leaves(jax.tree.map(leaf, params, means, stds))


def kl(posterior: MeanField, prior: Prior) -> jax.Array:
    """Give the Kullback-Leibler divergence KL(posterior ‖ prior): nats, a scalar, summed, never averaged.

    It is not symmetric, and grows without bound as the prior's std goes to 0.

    Raises:
        ShapeError: if the prior's trees are no prefix of the posterior's.
    """
    return prior.kl(posterior)
