"""Training of the means in a round: to the maximum a posteriori under the scales, which stay."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from bbb.core.jit import jit
from bbb.core.tree import Tree, is_none, map_present
from bbb.curvature.evidence import log_likelihood
from bbb.curvature.problem import Problem, filled
from bbb.model import BNN
from bbb.networks.protocol import state_of
from bbb.objectives import optimizers
from bbb.tracing.convolutions import channels_last
from bbb.tuning.ascent import Members
from bbb.tuning.scales import Groups, Scales, full_std, with_std


class Training(NamedTuple):
    """How the means are trained; hashable, as a program is compiled for it.

    Attributes:
        steps: of the optimiser, which begins anew in each round.
        optimizer: of `optax`.
        batch: rows a step, and of how many; None for all of them.
    """

    steps: int
    optimizer: optax.GradientTransformation
    batch: tuple[int, int] | None


def training_of(steps: int, optimizer: optax.GradientTransformation, batch_size: int | None, rows: int) -> Training:
    """Return the settings for data of so many rows, which do not name that number where no batches are drawn."""
    return Training(steps, optimizer, None if batch_size is None or batch_size >= rows else (batch_size, rows))


class Leaves(NamedTuple):
    """Which leaves of the parameters are trained, and which have a prior, in the order of `jax.tree.leaves`."""

    trained: tuple[bool, ...]
    random: tuple[bool, ...]

    def some(self, which: tuple[bool, ...], params: Tree) -> Tree:
        """Return the leaves of one kind, with None in the place of the rest."""
        leaves, structure = jax.tree.flatten(params)
        return jax.tree.unflatten(
            structure, [leaf if is_one else None for leaf, is_one in zip(leaves, which, strict=True)]
        )


def leaves_of(model: BNN) -> Leaves:
    """Return the kinds of a model's leaves: all numbers are trained but the network's state, as in predictions."""
    params = model.posterior.params
    flat = jax.tree.leaves(params)
    state = jax.tree.leaves(state_of(model.apply, params))
    random = jax.tree.leaves(model.posterior.random_leaves(params), is_leaf=is_none)
    trained = (not fixed and jnp.issubdtype(leaf.dtype, jnp.floating) for fixed, leaf in zip(state, flat, strict=True))
    return Leaves(tuple(trained), tuple(leaf is not None for leaf in random))


@partial(jit, static_argnames=("groups", "training", "leaves"))
@channels_last
def descend(
    key: tuple[jax.Array, Any],
    problem: Problem,
    members: Members,
    std: Tree,
    scales: Scales,
    *,
    groups: Groups,
    training: Training,
    leaves: Leaves,
) -> Members:
    """Return the members after the steps of a training by −log p(y | x, w) − log p(w), under scales that stay.

    Args:
        key: of the minibatches of all rounds, and the number of this one.
        problem: with the prior of all leaves, and the data.
        members: of which parameters and random leaves change.
        std: what the scales are factors of.
        scales: of the prior, and the likelihoods if they are learned.
        groups: of weights that share a factor.
        training: the settings.
        leaves: which of them are trained, and which have a prior.
    """
    stds = groups.scaled(std, scales.log_factors, problem.random)
    under = dataclasses.replace(problem, prior=with_std(problem.prior, full_std(problem.prior, problem.random, stds)))
    likelihoods = members.likelihood if scales.likelihoods is None else scales.likelihoods
    keys = jax.random.split(jax.random.fold_in(*key), jax.tree.leaves(members.params)[0].shape[0])

    def of_member(key: jax.Array, params: Tree, likelihood: Any) -> Tree:
        return _descended(key, dataclasses.replace(under, params=params, likelihood=likelihood), training, leaves)

    params = jax.vmap(of_member)(keys, members.params, likelihoods)
    return members._replace(params=params, random=map_present(lambda _, leaf: leaf, problem.random, params))


def _descended(key: jax.Array, problem: Problem, training: Training, leaves: Leaves) -> Tree:
    def loss(moved: Tree, seen: Problem) -> jax.Array:
        params = filled(moved, problem.params)
        random = leaves.some(leaves.random, params)
        nats = log_likelihood(dataclasses.replace(seen, params=params, random=random))
        return -(nats + seen.prior.log_prob(random).astype(nats.dtype))

    def step(i: jax.Array, state: tuple[Tree, Any]) -> tuple[Tree, Any]:
        moved, of_optimizer = state
        seen = _batch(jax.random.fold_in(key, i), problem, training)
        of_rows = partial(loss, seen=seen)
        slope = optimizers.Slope(*jax.value_and_grad(of_rows)(moved), of_rows)
        return optimizers.update(training.optimizer, slope, of_optimizer, moved)

    moved = leaves.some(leaves.trained, problem.params)
    start = moved, optimizers.init(training.optimizer, moved)
    return filled(lax.fori_loop(0, training.steps, step, start)[0], problem.params)


def _batch(key: jax.Array, problem: Problem, training: Training) -> Problem:
    """Return the problem of a minibatch, each of whose rows counts for several more; or of all rows."""
    if training.batch is None:
        return problem
    size, rows = training.batch
    chosen = jax.random.choice(key, rows, (size,), replace=False)

    def some(array: jax.Array) -> jax.Array:
        return jnp.reshape(array, (-1, *array.shape[2:]))[chosen][None]

    x, y, real = jax.tree.map(some, (problem.x, problem.y, problem.real))
    return dataclasses.replace(problem, x=x, y=y, real=rows / size * real)
