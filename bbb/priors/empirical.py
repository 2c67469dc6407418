"""A Gaussian prior whose standard deviations follow from the posterior: empirical Bayes."""

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.tree import Tree, names, per_leaf, pytree_dataclass, sum_leaves
from bbb.errors import InputError, fail
from bbb.posteriors.mean_field import MeanField
from bbb.priors.normal import Normal

PER = ("leaf", "layer", "network")
"""The groups of weights that may share a standard deviation of `EmpiricalNormal`."""


@pytree_dataclass(data=("mean",), static=("per",), saved=True, choices={"per": PER})
class EmpiricalNormal:
    """Independent Gaussians N(mean, std²) whose standard deviations are learned: empirical Bayes.

    Each group of weights has the std that maximises the evidence lower bound, given the posterior. This has a closed
    form, std² = the average over the group of (m − mean)² + s², so that it holds exactly at every step of training,
    needs neither a starting value nor a learning rate, and is not stored: `fitted(posterior)` returns it. The KL is
    then Σ log(std/s), which does not pull a whole group towards `mean`: groups that are not needed do not vanish.

    Attributes:
        mean: a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf).
        per: the weights that share a standard deviation: "leaf", one array; "layer", the arrays of one parent in the
            tree, such as a weight and its bias; or "network", all.

    Raises:
        InputError: if a mean is not finite, or `per` is another word.

    Source: Wu et al. 2019, arXiv 1810.03958, §4, here without a hyperprior on the variance.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.MeanField.around(params, std=0.1)
        >>> round(float(bbb.priors.kl(posterior, bbb.priors.EmpiricalNormal())), 1)
        13.8
    """

    mean: Tree = 0.0
    per: str = "leaf"

    def __post_init__(self) -> None:
        """Check that the means are finite, and that the group is a known one."""
        for leaf in jax.tree.leaves(self.mean):
            checks.finite("prior mean", leaf)
        if not checks.is_word(self.per, PER):
            fail(InputError, 'per to be "leaf", "layer" or "network"', repr(self.per), 'Pass per="layer".')

    def fitted(self, posterior: MeanField) -> Normal:
        """Return the prior `Normal(mean, std)` of the standard deviations that are best for a posterior."""
        centres = posterior.random_leaves(posterior.mean)
        means = per_leaf("prior mean", self.mean, centres)
        squares = jax.tree.map(
            lambda m, log_s, m0: jnp.square(m - m0) + jnp.exp(2 * log_s), centres, posterior.log_std, means
        )
        leaves, structure = jax.tree.flatten(squares)
        groups = [group_of(path, self.per) for path in names(squares)]
        stds = {
            group: _root_mean([leaf for leaf, g in zip(leaves, groups, strict=True) if g == group])
            for group in dict.fromkeys(groups)
        }
        each = [stds[group].astype(leaf.dtype) for leaf, group in zip(leaves, groups, strict=True)]
        fitted: Normal = object.__new__(Normal)  # of arrays that may be traced, and are what they should be
        object.__setattr__(fitted, "mean", means)
        object.__setattr__(fitted, "std", jax.tree.unflatten(structure, each))
        return fitted

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ fitted(posterior)) in closed form: nats, a scalar, the least over all stds."""
        return self.fitted(posterior).kl(posterior)

    def kl_of_weights(self, posterior: MeanField) -> Tree:
        """Return the KL of each weight from `fitted(posterior)`, in nats: a tree like `posterior.log_std`."""
        return self.fitted(posterior).kl_of_weights(posterior)


def group_of(path: str, per: str) -> str:
    """Return the name of the group that a leaf of a path, such as "0/weight", belongs to: one of `PER` says which."""
    return {"leaf": path, "layer": path.rpartition("/")[0], "network": ""}[per]


def _root_mean(squares: list[jax.Array]) -> jax.Array:
    return jnp.sqrt(sum_leaves(squares) / sum(leaf.size for leaf in squares))
