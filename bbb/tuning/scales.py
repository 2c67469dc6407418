"""The scales that the evidence is raised in: factors on groups of a prior's standard deviations, and the noise."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import Tree, as_shape, from_vector, is_none, member_of, names, per_leaf, stacked, to_vector
from bbb.curvature.problem import filled
from bbb.errors import InputError, fail
from bbb.likelihoods.per_member import PerMember
from bbb.model import BNN
from bbb.priors.empirical import PER as PER_LEAVES
from bbb.priors.empirical import group_of
from bbb.priors.normal import Normal
from bbb.tuning.columns import column_axes

PER = (*PER_LEAVES, "column")
"""The groups of weights that may share a factor: those of an empirical prior, and those of a column of x."""


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
    """Which of the random weights share a factor: hashable, so that programs are compiled for it.

    Attributes:
        first: the index of the group of each random leaf, in the order of `jax.tree.leaves`; of a leaf with a group for
            each index along an axis, that of the first of them.
        axes: that axis for each leaf, or None where the whole leaf is of one group.
        names: of the groups.
    """

    first: tuple[int, ...]
    axes: tuple[int | None, ...]
    names: tuple[str, ...]

    def scaled(self, std: Tree, log_factors: jax.Array, random: Tree) -> Tree:
        """Return a tree of stds like the random leaves, each multiplied by the factors of its groups."""
        leaves, structure = jax.tree.flatten(std)
        factors = jnp.exp(log_factors)
        every = zip(leaves, self._indices(random), strict=True)
        return jax.tree.unflatten(structure, [leaf * factors[at].astype(leaf.dtype) for leaf, at in every])

    def weights(self, random: Tree) -> jax.Array:
        """Return how many weights each group has, (groups,)."""
        return jnp.asarray(np.bincount(*self._flat(random), minlength=len(self.names)))

    def root_mean_squares(self, std: Tree, random: Tree, dtype: Any) -> jax.Array:
        """Return the root mean square of the prior's stds over the weights of each group, (groups,)."""
        total = jnp.zeros(len(self.names), dtype)
        every = zip(self._indices(random), jax.tree.leaves(std), jax.tree.leaves(random), strict=True)
        for at, s, w in every:
            squares = jnp.square(jnp.broadcast_to(s, w.shape)).astype(dtype)
            total = total.at[jnp.broadcast_to(at, w.shape)].add(squares)
        return jnp.sqrt(total / self.weights(random).astype(dtype))

    def _indices(self, random: Tree) -> list[np.ndarray]:
        """Return the index of the group of each weight of a leaf, as an array that broadcasts to the leaf."""
        found = []
        for first, axis, leaf in zip(self.first, self.axes, jax.tree.leaves(random), strict=True):
            at = np.asarray(first)
            if axis is not None:
                at = first + np.arange(leaf.shape[axis]).reshape([-1 if i == axis else 1 for i in range(leaf.ndim)])
            found.append(at)
        return found

    def _flat(self, random: Tree) -> tuple[np.ndarray]:
        every = zip(self._indices(random), jax.tree.leaves(random), strict=True)
        return (np.concatenate([np.broadcast_to(at, leaf.shape).ravel() for at, leaf in every]),)


def groups_of(model: BNN, random: Tree, x: Any, per: str) -> Groups:
    """Return the groups of weights that share a factor: of one leaf, of one layer, of the network, or of a column of x.

    Args:
        model: of one posterior, whose network is traced for "column".
        random: the leaves of its means that are random, None in the place of the rest.
        x: the data.
        per: one of `PER`.

    Raises:
        InputError: if `per` is another word.
    """
    if not checks.is_word(per, PER):
        known = ", ".join(f'"{word}"' for word in PER)
        fail(InputError, f"per to be one of {known}", repr(per), 'Pass per="layer".')
    leaves, paths = jax.tree.leaves(random), names(random)
    axes: tuple[int | None, ...] = (None,) * len(leaves)
    if per == "column":
        row = jax.ShapeDtypeStruct((1, *jnp.shape(x)[1:]), jnp.result_type(x))
        axes = column_axes(lambda some, x: model.apply(filled(some, model.posterior.params), x), random, row)
    first: list[int] = []
    found: list[str] = []
    for path, leaf, axis in zip(paths, leaves, axes, strict=True):
        name = group_of(path, "leaf" if per == "column" else per) or "all"
        if axis is not None:
            first.append(len(found))
            found += [f"{name}[{i}]" for i in range(leaf.shape[axis])]
            continue
        if name not in found:
            found.append(name)
        first.append(found.index(name))
    return Groups(tuple(first), axes, tuple(found))


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
        return as_shape(value, ()) if value.size == 1 else value

    std = jax.tree.map(short, per_leaf("prior std", prior.std, params))
    return dataclasses.replace(model, prior=dataclasses.replace(prior, std=std))


def with_std_per_group(model: BNN, groups: Groups, random: Tree) -> BNN:
    """Return the model with a std for each leaf, and one for each index along the axis of a leaf of several groups."""
    model = with_std_per_leaf(model)
    prior: Any = model.prior
    each = iter(zip(groups.axes, jax.tree.leaves(random), strict=True))

    def leaf(std: Any, w: Any) -> Any:
        axis, w = (None, None) if w is None else next(each)
        if axis is None:
            return std
        shape = jnp.broadcast_shapes(std.shape, [n if i == axis else 1 for i, n in enumerate(w.shape)])
        return jax.device_put(np.broadcast_to(np.asarray(std), shape))  # by NumPy, which has nothing to compile

    std = jax.tree.map(leaf, prior.std, random, is_leaf=is_none)
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
    return dataclasses.replace(model, prior=dataclasses.replace(prior, std=full_std(prior, random, std)))


def full_std(prior: Any, random: Tree, std: Tree) -> Tree:
    """Return these stds at the random leaves, and those of the prior elsewhere."""

    def leaf(w: Any, old: Any, new: Any) -> Any:
        return old if w is None else as_shape(jnp.asarray(new, old.dtype), old.shape)

    return jax.tree.map(leaf, random, prior.std, std, is_leaf=is_none)


def start_of(members: Sequence[BNN], groups: Groups, dtype: Any) -> Scales:
    """Return the scales of the members as they are: factors of 1, and the likelihoods that are to be learned."""
    learned = stacked([member.likelihood for member in members]) if members[0].likelihood.learn else None
    return Scales(jax.device_put(np.zeros(len(groups.names), dtype)), learned)


def with_likelihoods(model: BNN, learned: Tree) -> BNN:
    """Return the model, of one posterior or several, with the likelihoods that were found; None changes nothing."""
    if learned is None:
        return model
    likelihood: Any = PerMember(learned) if model.posterior.is_mixture else member_of(learned, 0)
    return dataclasses.replace(model, likelihood=likelihood)


def flat(scales: Scales) -> jax.Array:
    """Return the scales as one vector, in the dtype of the factors."""
    return to_vector(scales, scales.log_factors.dtype)


def unflat(vector: jax.Array, like: Scales) -> Scales:
    """Return a vector as scales: undoes `flat`."""
    return from_vector(vector, like)
