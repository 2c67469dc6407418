"""Rounds, each of which trains the means under the scales so far, and then raises the scales at these means."""

import dataclasses
import sys
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from bbb.core.jit import jit
from bbb.core.tree import Tree, all_finite, is_none
from bbb.curvature import rows
from bbb.curvature.problem import Problem, Size
from bbb.errors import NonFiniteLossError
from bbb.likelihoods.protocol import noise_std
from bbb.model import BNN
from bbb.tuning.ascent import Members, Path, ascend
from bbb.tuning.descent import Training, descend, leaves_of
from bbb.tuning.record import Tuning, joined
from bbb.tuning.scales import (
    Groups,
    Scales,
    full_std,
    stacked,
    start_of,
    stds_of,
    unflat,
    with_likelihoods,
    with_std,
    with_stds,
)


class Raising(NamedTuple):
    """How the scales are raised in a round.

    Attributes:
        groups: of weights that share a factor.
        size: of the problem.
        structure: of the evidence.
        updates: at most so many.
    """

    groups: Groups
    size: Size
    structure: str
    updates: int


class _Found(NamedTuple):
    """What a round ends with: the evidence, in nats, and where it is had."""

    nats: float
    members: Members
    scales: Scales


def alternated(
    key: jax.Array,
    model: BNN,
    problem: Problem,
    raising: Raising,
    training: Training,
    rounds: int | None = None,
    progress: bool | None = None,
) -> tuple[BNN, Tuning]:
    """Return the model of the round of the largest evidence, and the updates of all rounds.

    Args:
        key: of the minibatches.
        model: of one posterior or several, whose prior has a std for each group.
        problem: of its first member, at any means, of which the data count.
        raising: of the scales.
        training: of the means.
        rounds: how many; None raises the scales once, at the means as they are.
        progress: show a bar on stderr; by default if stderr is a terminal.

    Raises:
        NonFiniteOutputError: if the evidence is not finite at the start of an ascent.
        NonFiniteLossError: if the means are not finite after training.
    """
    members = [model.member(k) for k in range(model.members)]
    start, std = start_of(members, raising.groups, problem.real.dtype), stds_of(model, problem.random)
    problem = dataclasses.replace(problem, prior=model.prior)
    at, scales, paths = _members(members, problem.random), start, []
    best: _Found | None = None
    shown = rounds is not None and (sys.stderr.isatty() if progress is None else progress)
    for i in tqdm(range(rounds or 1), desc="tune", unit="round", disable=not shown):
        if rounds is not None:
            at = _trained(jax.random.fold_in(key, i), model, problem, at, scales, raising.groups, training, i)
        path = _raised(problem, at, std, scales, raising)
        scales = unflat(jnp.asarray(path.scales[path.updates]), start)
        nats = float(path.nats[path.updates])
        if best is None or nats > best.nats:
            best = _Found(nats, at, scales)
        paths.append(path)
    assert best is not None  # there is a round
    tuned = model if rounds is None else _with_params(model, best.members.params)
    found = raising.groups.scaled(std, best.scales.log_factors, problem.random)
    tuned = with_likelihoods(with_stds(tuned, problem.random, found), best.scales.likelihoods)
    record = partial(_record, start=start, std=std, random=problem.random, groups=raising.groups)
    records = [record(path, mixture=model.posterior.is_mixture) for path in paths]
    chosen = int(np.argmax([record.evidence[-1] for record in records]))
    return tuned, joined(records, chosen, first=0 if rounds is None else 1)


def _trained(
    key: jax.Array,
    model: BNN,
    problem: Problem,
    members: Members,
    scales: Scales,
    groups: Groups,
    training: Training,
    i: int,
) -> Members:
    """Return the members with means that are closer to the maximum a posteriori under the scales.

    Raises:
        NonFiniteLossError: if they are not finite.
    """
    std = groups.scaled(stds_of(model, problem.random), scales.log_factors, problem.random)
    prior = with_std(problem.prior, full_std(problem.prior, problem.random, std))
    likelihoods = members.likelihood if scales.likelihoods is None else scales.likelihoods
    under = dataclasses.replace(problem, prior=prior)
    params = descend(
        key, under, members.params, likelihoods, training=training, leaves=leaves_of(model.member(0)), large=True
    )
    if not all_finite(params):
        raise NonFiniteLossError(
            f"Expected finite means after round {i + 1} of tune, got NaN or infinity in them. "
            "Pass an optimizer of a lower learning rate, such as optax.adam(1e-3).",
            step=i * training.steps,
            model=_with_params(model, members.params),
            history=None,
        )
    return members._replace(params=params, random=_random(problem.random, params))


def _raised(problem: Problem, members: Members, std: Tree, scales: Scales, raising: Raising) -> Path:
    """Return the path of the scales at given means, in the memory of the host.

    Raises:
        NonFiniteOutputError: if the evidence is not finite at its start.
    """
    path = ascend(
        problem,
        members,
        std,
        scales,
        groups=raising.groups,
        size=raising.size,
        structure=raising.structure,
        steps=raising.updates,
        large=True,
    )
    path = jax.device_get(path)
    rows.check_finite(path.fine[np.argmin(path.fine.all(axis=(1, 2)))], path.nats[0])
    return path


def _members(members: list[BNN], random: Tree) -> Members:
    """Return what differs between the members, stacked; of their random leaves those that `random` has."""
    params = stacked([member.posterior.params for member in members])
    return Members(params, _random(random, params), stacked([member.likelihood for member in members]))


def _random(like: Tree, params: Tree) -> Tree:
    return jax.tree.map(lambda w, leaf: None if w is None else leaf, like, params, is_leaf=is_none)


def _with_params(model: BNN, params: Tree) -> BNN:
    """Return the model moved to new means: (members, ...), of each member where there are several."""
    posterior: Any = model.posterior
    if posterior.is_mixture:
        moved = jax.vmap(lambda member, params: member.with_params(params))(posterior.members, params)
        return dataclasses.replace(model, posterior=dataclasses.replace(posterior, members=moved))
    return dataclasses.replace(model, posterior=posterior.with_params(jax.tree.map(lambda leaf: leaf[0], params)))


def _record(path: Path, mixture: bool, **of: Any) -> Tuning:
    """Return the updates of one ascent, as of round 0."""
    stds, noise = jax.device_get(_described(path.scales, **of))
    if noise is not None and not mixture:
        noise = noise[:, 0]
    last = int(path.updates)
    return Tuning(
        evidence=np.asarray(path.nats)[: last + 1],
        round=np.zeros(last + 1, int),
        prior_std={name: stds[: last + 1, i] for i, name in enumerate(of["groups"].names)},
        noise_std=None if noise is None else noise[: last + 1],
        best=last,
    )


@partial(jit, static_argnames=("groups",))
def _described(path: jax.Array, *, start: Scales, std: Tree, random: Tree, groups: Groups) -> tuple[Any, Any]:
    """Return each group's std at every update, (updates, groups), and the members' noise, or None if it has none."""

    def of_update(vector: jax.Array) -> tuple[Any, Any]:
        scales = unflat(vector, start)
        stds = groups.root_mean_squares(groups.scaled(std, scales.log_factors, random), random, path.dtype)
        return stds, None if scales.likelihoods is None else jax.vmap(noise_std)(scales.likelihoods)

    return jax.vmap(of_update)(path)
