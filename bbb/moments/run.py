"""A traced network run on means and variances."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from bbb.core.jit import jit
from bbb.core.noise import SMALL
from bbb.core.rows import row_leaves
from bbb.core.tree import Tree, count
from bbb.errors import ShapeError, fail
from bbb.forwards.rowwise import leaf_pairs
from bbb.moments.rules import MomentRules
from bbb.moments.values import Assumption, MeanVariance, as_random, random_weight
from bbb.posteriors.mean_field import MeanField
from bbb.tracing.interpreter import Lazy, run
from bbb.tracing.network import Apply, traced

if TYPE_CHECKING:
    from bbb.moments.values import Random


class OutputFacts(NamedTuple):
    """What is known about the outputs without computing them."""

    affine: bool
    assumed: tuple[Assumption, ...]


def is_large(posterior: MeanField, x: Any) -> bool:
    """Return whether activations, at most one product for each row and weight, may be larger than the caches."""
    return count(posterior.mean) * max((jnp.shape(leaf)[0] for leaf in row_leaves(x)), default=1) > SMALL


@partial(jit, static_argnames=("apply", "leaves"))
def integrated_moments(
    posterior: MeanField, params: Tree | None, x: Any, *, apply: Apply, leaves: tuple[int, ...] | None
) -> MeanVariance:
    """Compute the moments of the outputs at x, with the leaves of `random_outputs`."""
    found = random_outputs(MomentRules(), apply, posterior, params, x, leaves)
    return MeanVariance(found.mean, found.variance)


def random_outputs(
    rules: "MomentRules", apply: Apply, posterior: MeanField, params: Tree | None, x: Any, leaves: Sequence[int] | None
) -> "Random":
    """Run the network with random `leaves` (all if None); the others are from `params` (the means if None)."""
    network = traced(apply, posterior.mean, x)
    plain = jax.tree.leaves(posterior.mean if params is None else params)
    values = [
        value if log_std is None or (leaves is not None and i not in leaves) else random_weight(mean, log_std, i)
        for i, ((mean, log_std), value) in enumerate(zip(leaf_pairs(posterior), plain, strict=True))
    ]
    outputs = run(network, [*values, *jax.tree.leaves(x)], rules)
    if len(jax.tree.leaves(network.outputs)) != 1:
        got = f"a {type(outputs).__name__}"
        fail(ShapeError, "the network to return one array", got, "Select one of its outputs in apply.")
    return as_random(jax.tree.leaves(outputs, is_leaf=lambda v: isinstance(v, Lazy))[0])


def output_facts(
    rules: "MomentRules", apply: Apply, posterior: MeanField, x: Any, leaves: Sequence[int] | None
) -> OutputFacts:
    """Return what is known about the outputs, from shapes only."""
    about: list[OutputFacts] = []

    def note(posterior: MeanField, x: jax.Array) -> None:
        found = random_outputs(rules, apply, posterior, None, x, leaves)
        about.append(OutputFacts(found.affine, found.assumed))

    jax.eval_shape(note, posterior, x)
    return about[0]
