"""The last layer integrated out, given the layers before it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn

from bbb.core.tree import Tree, names
from bbb.errors import InputError, UnknownPrimitiveError, fail
from bbb.forwards.rowwise import leaf_pairs
from bbb.moments.rules import AffineRules
from bbb.moments.run import integrated_moments, is_large, output_facts
from bbb.moments.values import MeanVariance
from bbb.posteriors.mean_field import MeanField
from bbb.tracing.interpreter import Lazy, run
from bbb.tracing.network import Apply, traced


@dataclasses.dataclass(frozen=True)
class Conditional:
    """A network with some leaves integrated out, given the other leaves: see `conditional_moments`."""

    apply: Apply
    leaves: tuple[str, ...]

    def __call__(self, params: Tree, posterior: MeanField, x: jax.Array) -> MeanVariance:
        """Return the mean and the variance of the outputs at x, given the values of all other leaves in `params`.

        Raises:
            InputError: if a leaf is not one of the posterior's.
        """
        paths = names(posterior.mean)
        for name in self.leaves:
            if name not in paths:
                do = "Pass the result of last_layer."
                fail(InputError, f"leaves among {', '.join(paths)}", name, do)
        leaves = tuple(map(paths.index, self.leaves))
        return integrated_moments(posterior, params, x, apply=self.apply, leaves=leaves, large=is_large(posterior, x))


def conditional_moments(apply: Apply, leaves: Sequence[str]) -> Conditional:
    """Integrate out `leaves` only: `conditional_moments(apply, leaves)(params, posterior, x) -> (mean, variance)`.

    For the leaves of `last_layer`, the result is exact for each draw `params` of the other leaves, and its mean over
    draws has a smaller error than the mean over draws of all leaves (Rao–Blackwell). The leaves of `params` that are
    integrated out are not read.
    """
    return Conditional(apply, tuple(leaves))


def last_layer(apply: Apply, posterior: MeanField, x: Tree) -> tuple[str, ...]:
    """Return the names of the leaves of the last layer: those given which all others make the outputs Gaussian.

    For a dense network these are the weight and the bias of its last layer. They are found from the trace: leaves are
    tried in the reverse order of their first use.

    Raises:
        InputError: if there is no such leaf, as when the outputs pass through a nonlinear function.
    """
    found: tuple[int, ...] = ()
    for leaf in reversed(_by_first_use(apply, posterior, x)):
        if _makes_gaussian(apply, posterior, x, (*found, leaf)):
            found = (*found, leaf)
    if not found:
        fail(
            InputError,
            "a network whose last layer is linear in its weights",
            "one whose outputs are not linear in any of its random leaves",
            'Use draws instead (method="draws"), or move the function of the outputs into the likelihood.',
        )
    paths = names(posterior.mean)
    return tuple(paths[leaf] for leaf in sorted(found))


def _makes_gaussian(apply: Apply, posterior: MeanField, x: Tree, leaves: Sequence[int]) -> bool:
    """Return whether the outputs are exactly Gaussian if only `leaves` are random."""
    try:
        about = output_facts(AffineRules(), apply, posterior, x, leaves)
    except UnknownPrimitiveError:
        return False
    return about.affine and not about.assumed


def _by_first_use(apply: Apply, posterior: MeanField, x: Tree) -> list[int]:
    """Return the indices of the leaves that have a Gaussian, in the order of their first use in the network."""
    network, rules = traced(apply, posterior.mean, x), _FirstUseRules()

    def follow(params: Tree, x: jax.Array) -> None:
        leaves = [_Leaf(leaf, i) for i, leaf in enumerate(jax.tree.leaves(params))]
        run(network, [*leaves, *jax.tree.leaves(x)], rules)

    jax.eval_shape(follow, posterior.mean, x)
    pairs = leaf_pairs(posterior)
    return [leaf for leaf in rules.order if pairs[leaf][1] is not None]


@dataclasses.dataclass(frozen=True, eq=False)
class _Leaf(Lazy):
    """A leaf of the parameters whose first use is to be found."""

    array: jax.Array
    index: int


class _FirstUseRules:
    """Rules that record leaves in the order of their first use, and evaluate the network on arrays."""

    def __init__(self) -> None:
        self.order: list[int] = []

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> None:
        """Return None, so that leaves are settled."""

    def share(self, value: Lazy) -> Lazy:
        """Return the leaf, which may be read many times."""
        return value

    def settle(self, value: Any, equation: JaxprEqn | None) -> jax.Array:
        """Record the use of a leaf, and return its array."""
        del equation
        if value.index not in self.order:
            self.order.append(value.index)
        return value.array
