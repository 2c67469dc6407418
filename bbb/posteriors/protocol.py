"""The contract of a posterior: a distribution over the parameters of a network.

    params                        the tree that a draw is like; its leaves that are not random are those of every draw
    noise(key) -> noise           all the chance that one draw needs
    weights(noise) -> params      a draw, without chance, and differentiable in the posterior
    log_prob(params) -> () nats   log q, summed over the leaves that are random
    random_leaves(params)         what of a tree like `params` is random; None in the place of the rest
    is_point                      whether nothing is
    with_params(params)           the same distribution, moved to other parameters
    is_trainable                  whether `fit` may train it; True unless it says otherwise

What `noise` returns is standard normal or otherwise symmetric around 0, so that its mirror image is as likely, and
depends on the key and on the posterior's shapes alone, so that posteriors of one shape can share it.

A mixture of components in equal parts, such as `Ensemble`, says so:

    is_mixture                    whether its arrays have a leading axis of components
    components                    how many there are; 1 unless it is a mixture
    component(k) -> Posterior     one of them: draw i is of component i % components
    holds_draws                   whether each component is a point: there are as many draws as components
    each(function, *arrays)       a function of each component, stacked; of one posterior, its value itself

A Gaussian family (`GaussianPosterior`) adds

    marginals() -> MeanField            its weights without what they have in common
    conditionals() -> MeanField         each weight given all others: of the inverse of the precision's diagonal
    precision_times(moved) -> Tree      the precision times a tree like the random leaves
    total_correlation() -> () nats      Σ H(qᵢ) − H(q): 0 where all weights are independent
    entropy() -> () nats                H(q)
    factorises                          whether it is its marginals, as what takes weights one by one needs it to be
    scaled(factor), pruned(mask)        with wider deviations; with some weights 0

so that for a prior that factorises KL(q ‖ p) = p.kl(q.marginals()) + q.total_correlation(): no prior needs to know of a
posterior. Whatever takes a posterior uses these names and no others.

A posterior of one's own is a frozen dataclass that inherits from one of the two classes and is registered with JAX;
`@pytree_dataclass(..., saved=True)` does both and lets model files hold it.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax

from bbb.core.tree import Tree


class Posterior(abc.ABC):
    """A distribution over a tree of parameters: see the head of this module."""

    is_mixture: ClassVar[bool] = False
    is_trainable: ClassVar[bool] = True
    """Whether gradients may train each of its arrays: not where one follows from the others."""
    logarithms: tuple[str, ...] = ()
    """The fields that hold logarithms of standard deviations, whose range is narrower than that of other numbers."""

    @property
    @abc.abstractmethod
    def params(self) -> Tree:
        """The tree that a draw is like; leaves that are not random are those of every draw."""

    @abc.abstractmethod
    def noise(self, key: jax.Array) -> Tree:
        """Draw all the random numbers that one draw of the weights needs."""

    @abc.abstractmethod
    def weights(self, noise: Tree) -> Tree:
        """Return the draw that `noise` makes, a tree like `params`."""

    @abc.abstractmethod
    def log_prob(self, params: Tree) -> jax.Array:
        """Return log q(params), in nats: a scalar, summed over the leaves that are random."""

    @abc.abstractmethod
    def random_leaves(self, params: Tree) -> Tree:
        """Return what of `params`, a tree like the posterior's, is random, with None in the place of the rest."""

    @abc.abstractmethod
    def with_params(self, params: Tree) -> Self:
        """Return the same distribution moved to `params`, a tree like the posterior's."""

    @property
    def is_point(self) -> bool:
        """Whether nothing is random."""
        return not jax.tree.leaves(self.random_leaves(self.params))

    @property
    def components(self) -> int:
        """How many components it mixes: 1 unless it is a mixture."""
        return 1

    @property
    def holds_draws(self) -> bool:
        """Whether it is a mixture of points, which were drawn before: each is evaluated once, and there are no more."""
        return False

    def component(self, k: Any) -> "Posterior":
        """Return component k, which may be traced: of one posterior, itself."""
        del k
        return self

    def each(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """Return `function(component, *arrays)` of each component, stacked; of one posterior, its value itself."""
        return function(self, *arrays)

    def validate(self) -> None:
        """Raise what the constructor raises of parts that do not fit each other, as those of a file may not."""
        dataclasses.replace(self)  # type: ignore[type-var]
