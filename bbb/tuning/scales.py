"""The scales that the evidence is raised in: factors on groups of a prior's standard deviations, and the noise."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.tree import Tree, from_vector, is_none, names, per_leaf, to_vector
from bbb.errors import InputError, fail
from bbb.likelihoods.per_member import PerMember
from bbb.model import BNN
from bbb.priors.empirical import PER, group_of
from bbb.priors.normal import Normal
from bbb.train.steps.state import stacked


class Scales(NamedTuple):
    """What the evidence depends on besides data and means, as one tree.

    Attributes:
        log_factors: of each group of weights, (groups,): the logarithm of what its prior's std is multiplied by.
        likelihoods: of all members, whose leaves have a leading axis of members; None if they are not learned.
    """

    log_factors: jax.Array
    likelihoods: Tree


@dataclasses.dataclass(frozen=True)
class Groups:
    """Which leaves of the random weights share a factor: hashable, so that programs are compiled for it.

    Attributes:
        of_leaf: the index of the group of each random leaf, in the order of `jax.tree.leaves`.
        names: of the groups.
    """

    of_leaf: tuple[int, ...]
    names: tuple[str, ...]

    def scaled(self, std: Tree, log_factors: jax.Array) -> Tree:
        """Return a tree of stds like the random leaves, each multiplied by the factor of its group."""
        leaves, structure = jax.tree.flatten(std)
        factors = jnp.exp(log_factors)
        scaled = [leaf * factors[i].astype(leaf.dtype) for i, leaf in zip(self.of_leaf, leaves, strict=True)]
        return jax.tree.unflatten(structure, scaled)

    def weights(self, random: Tree) -> jax.Array:
        """Return how many weights each group has, (groups,)."""
        sizes = [0] * len(self.names)
        for i, leaf in zip(self.of_leaf, jax.tree.leaves(random), strict=True):
            sizes[i] += leaf.size
        return jnp.asarray(sizes)

    def root_mean_squares(self, std: Tree, random: Tree, dtype: Any) -> jax.Array:
        """Return the root mean square of the prior's stds over the weights of each group, (groups,)."""
        total = [jnp.zeros((), dtype)] * len(self.names)
        for i, s, w in zip(self.of_leaf, jax.tree.leaves(std), jax.tree.leaves(random), strict=True):
            total[i] += jnp.sum(jnp.square(jnp.broadcast_to(s, w.shape)).astype(dtype))
        return jnp.sqrt(jnp.stack(total) / self.weights(random).astype(dtype))


def groups_of(random: Tree, per: str) -> Groups:
    """Return the groups of weights that share a factor: of one leaf, of one layer, or of the network.

    Raises:
        InputError: if `per` is another word.
    """
    if not checks.is_word(per, PER):
        fail(InputError, 'per to be "leaf", "layer" or "network"', repr(per), 'Pass per="layer".')
    of_leaf = [group_of(path, per) for path in names(random)]
    found = list(dict.fromkeys(of_leaf))
    return Groups(tuple(map(found.index, of_leaf)), tuple(name or "all" for name in found))


def check_tunable(model: BNN) -> None:
    """Raise for a prior without standard deviations to find.

    Raises:
        InputError: naming it.
    """
    if not isinstance(model.prior, Normal):
        do = "Pass prior=bbb.priors.Normal(0.0, 1.0), whose standard deviations are then found."
        fail(InputError, "a prior of class Normal, for tune", f"a {type(model.prior).__name__}", do)


def with_std_per_leaf(model: BNN) -> BNN:
    """Return the model with its prior's std written out for each leaf, so that its structure stays what it is."""
    prior: Any = model.prior
    params = model.posterior.params

    def short(value: jax.Array) -> jax.Array:
        return value.reshape(()) if value.size == 1 else value

    std = jax.tree.map(short, per_leaf("prior std", prior.std, params))
    return dataclasses.replace(model, prior=dataclasses.replace(prior, std=std))


def stds_of(model: BNN, random: Tree) -> Tree:
    """Return the prior's stds of the random leaves: a tree like `random`, whose leaves broadcast to its."""
    prior: Any = model.prior
    return per_leaf("prior std", prior.std, random)


def with_std(prior: Any, std: Tree) -> Any:
    """Return a prior with other stds, which may be traced, and are what they should be: nothing is checked."""
    new = object.__new__(type(prior))
    object.__setattr__(new, "mean", prior.mean)
    object.__setattr__(new, "std", std)
    return new


def with_stds(model: BNN, random: Tree, std: Tree) -> BNN:
    """Return the model whose prior has these stds at the random leaves, and those it had elsewhere."""
    prior: Any = model.prior

    def leaf(w: Any, old: Any, new: Any) -> Any:
        return old if w is None else jnp.asarray(new, old.dtype).reshape(old.shape)

    full = jax.tree.map(leaf, random, prior.std, std, is_leaf=is_none)
    return dataclasses.replace(model, prior=dataclasses.replace(prior, std=full))


def start_of(members: Sequence[BNN], groups: Groups, dtype: Any) -> Scales:
    """Return the scales of the members as they are: factors of 1, and the likelihoods that are to be learned."""
    learned = stacked([member.likelihood for member in members]) if members[0].likelihood.learn else None
    return Scales(jnp.zeros(len(groups.names), dtype), learned)


def with_likelihoods(model: BNN, learned: Tree) -> BNN:
    """Return the model, of one posterior or several, with the likelihoods that were found; None changes nothing."""
    if learned is None:
        return model
    likelihood: Any = PerMember(learned) if model.posterior.is_mixture else jax.tree.map(lambda leaf: leaf[0], learned)
    return dataclasses.replace(model, likelihood=likelihood)


def flat(scales: Scales) -> jax.Array:
    """Return the scales as one vector, in the dtype of the factors."""
    return to_vector(scales, scales.log_factors.dtype)


def unflat(vector: jax.Array, like: Scales) -> Scales:
    """Return a vector as scales: undoes `flat`."""
    return from_vector(vector, like)
