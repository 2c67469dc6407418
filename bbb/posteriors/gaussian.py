"""Posteriors that are one Gaussian over all weights."""

import abc
from typing import TYPE_CHECKING, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import lax

from bbb.core.tree import Tree, from_vector, map_present, to_vector, widest_dtype
from bbb.posteriors.protocol import Posterior

if TYPE_CHECKING:
    from bbb.posteriors.mean_field import MeanField


class GaussianPosterior(Posterior):
    """A posterior that is one Gaussian over all weights: see the head of `bbb.posteriors`."""

    factorises: ClassVar[bool] = False

    @abc.abstractmethod
    def marginals(self) -> "MeanField":
        """Return the distribution of each weight alone."""

    def conditionals(self) -> "MeanField":
        """Return the distribution of each weight given that all others are at their means.

        Its variances are 1/Λᵢᵢ, of the precision Λ: of all independent Gaussians these have the least KL to this one.
        """
        from bbb.posteriors.mean_field import MeanField  # noqa: PLC0415 - which is one of these

        random = self.random_leaves(self.params)
        units = jnp.eye(sum(leaf.size for leaf in jax.tree.leaves(random)), dtype=widest_dtype(random))

        def along(unit: jax.Array) -> jax.Array:
            return jnp.vdot(unit, to_vector(self.precision_times(from_vector(unit, random)), unit.dtype))

        found = lax.map(along, units)
        return MeanField(self.params, map_present(lambda p: -0.5 * jnp.log(p), from_vector(found, random)))

    def precision_times(self, moved: Tree) -> Tree:
        """Return the precision times `moved`, both trees like the random leaves: −∇ log q at the means plus it."""

        def log_prob(random: Tree) -> jax.Array:
            return self.log_prob(random)

        random = self.random_leaves(self.params)
        _, slope = jax.jvp(jax.grad(log_prob), (random,), (moved,))
        return jax.tree.map(jnp.negative, slope)

    @property
    def std(self) -> Tree:
        """The standard deviation of each weight alone, a tree like the parameters, None where nothing is random."""
        return self.marginals().std

    @abc.abstractmethod
    def total_correlation(self) -> jax.Array | float:
        """Return Σ H(qᵢ) − H(q), in nats: a scalar; 0 where all weights are independent."""

    @abc.abstractmethod
    def entropy(self) -> jax.Array:
        """Return H(q), in nats: a scalar, over the leaves that are random."""

    @abc.abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the Gaussian of the same means whose deviations from them are `factor` times as large."""

    @abc.abstractmethod
    def pruned(self, mask: Tree) -> Self:
        """Return a posterior in which weights are 0: those where `mask`, a tree of bools like the random leaves, is.

        They keep the least std that a posterior may have (`least_log_std`); all others have the distribution they had.
        """
