"""Posteriors that are one Gaussian over all weights."""

import abc
from typing import TYPE_CHECKING, ClassVar, Self

import jax

from bbb.core.tree import Tree
from bbb.posteriors.protocol import Posterior

if TYPE_CHECKING:
    from bbb.posteriors.mean_field import MeanField


class GaussianPosterior(Posterior):
    """A posterior that is one Gaussian over all weights: see the head of `bbb.posteriors`."""

    factorises: ClassVar[bool] = False

    @abc.abstractmethod
    def marginals(self) -> "MeanField":
        """Return the distribution of each weight alone."""

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
