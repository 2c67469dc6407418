"""What Gaussians share whose covariance or precision is a diagonal and something more."""

import abc
from typing import Any

from bbb.core.tree import Tree, from_vector, map_present, to_vector
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField


class DiagonalAndMore(GaussianPosterior):
    """A Gaussian with `mean` and `log_diagonal`, a tree like it with None in the place of a point estimate."""

    logarithms = ("log_diagonal",)

    mean: Tree
    log_diagonal: Tree

    @property
    @abc.abstractmethod
    def _dtype(self) -> Any:
        """The dtype of what all weights have in common."""

    @property
    def params(self) -> Tree:
        """The means: the tree that a draw is like."""
        return self.mean

    @property
    def diagonal_alone(self) -> MeanField:
        """The same means with the diagonal alone: what the weights would be without what they have in common."""
        return MeanField(self.mean, self.log_diagonal)

    def random_leaves(self, params: Tree) -> Tree:
        """Return the leaves of `params`, a tree like `mean`, that have a Gaussian, with None in the others' place."""
        return map_present(lambda _, leaf: leaf, self.log_diagonal, params)

    def _flat(self, tree: Tree) -> Any:
        """Return the leaves of a tree like `log_diagonal` as one vector, (d,)."""
        return to_vector(tree, self._dtype)

    def _tree(self, flat: Any) -> Tree:
        """Return a vector, (d,), as a tree like `log_diagonal`, each leaf in its own dtype."""
        return from_vector(flat, self.log_diagonal)
