"""Rounds, each of which trains the means under the scales so far, and then raises the scales at these means."""

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from bbb.core.jit import jit
from bbb.core.tree import Tree, all_finite, map_present, member_of, stacked
from bbb.curvature import rows
from bbb.curvature.problem import Form, Problem
from bbb.errors import NonFiniteLossError
from bbb.likelihoods.protocol import noise_std
from bbb.model import BNN
from bbb.tuning.ascent import Members, Path, ascend
from bbb.tuning.descent import Training, descend, leaves_of
from bbb.tuning.record import Tuning, joined
from bbb.tuning.scales import Groups, Scales, start_of, stds_of, unflat, with_likelihoods, with_stds


class Raising(NamedTuple):
    """How the scales are raised in a round.

    Attributes:
        groups: of weights that share a factor.
        form: of the problem.
        structure: of the evidence.
        updates: at most so many.
    """

    groups: Groups
    form: Form
    structure: str
    updates: int

    @property
    def settings(self) -> dict[str, Any]:
        """The keywords of `ascend`."""
        named = {"groups": self.groups, "form": self.form, "structure": self.structure}
        return named | {"steps": self.updates, "large": True}


class _Best(NamedTuple):
    """The round of the largest evidence so far: which, how many nats, and where it is had."""

    round: int
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
    groups, leaves = raising.groups, leaves_of(members[0])
    start, std = start_of(members, groups, problem.real.dtype), stds_of(model, problem.random)
    problem = dataclasses.replace(problem, prior=model.prior)
    at, scales, paths = _members(members, problem.random), start, []
    if rounds is not None:  # while the first training is compiled, and runs
        ascend.ahead(problem, at, std, scales, **raising.settings)
    best: _Best | None = None
    shown = rounds is not None and (sys.stderr.isatty() if progress is None else progress)
    for i in tqdm(range(rounds or 1), desc="tune", unit="round", disable=not shown):
        if rounds is not None:
            before, use = at, (key, np.uint32(i))
            settings: Any = {"groups": groups, "training": training, "leaves": leaves}
            at = descend(use, problem, at, std, scales, **settings, large=True)
            _check_trained(model, before, at, i, training.steps)
        path = _raised(problem, at, std, scales, raising)
        scales, nats = unflat(path.scales[path.updates], start), float(path.nats[path.updates])
        if best is None or nats > best.nats:
            best = _Best(i, nats, at, scales)
        paths.append(path)
    assert best is not None  # there is a round
    tuned = model if rounds is None else _with_params(model, best.members.params)
    found, every = jax.device_put(best.scales), np.stack([path.scales for path in paths])
    settings = {"start": start, "std": std, "random": problem.random, "groups": groups}
    scaled, stds, noise = _described(every, found.log_factors, **settings)
    tuned = with_stds(tuned, problem.random, scaled)
    stds, noise = jax.device_get((stds, noise))
    records = _records(paths, groups.names, stds, noise, mixture=model.posterior.is_mixture)
    return with_likelihoods(tuned, found.likelihoods), joined(records, best.round, first=0 if rounds is None else 1)


def _check_trained(model: BNN, before: Members, after: Members, i: int, steps: int) -> None:
    """Raise if a round of training, i, ended at means that are not finite.

    Raises:
        NonFiniteLossError: with the model of the means before it.
    """
    if all_finite(after.params):
        return
    raise NonFiniteLossError(
        f"Expected finite means after round {i + 1} of tune, got NaN or infinity in them. "
        "Pass an optimizer of a lower learning rate, such as optax.adam(1e-3).",
        step=i * steps,
        model=_with_params(model, before.params),
        history=None,
    )


def _raised(problem: Problem, members: Members, std: Tree, scales: Scales, raising: Raising) -> Path:
    """Return the path of the scales at given means, in the memory of the host.

    Raises:
        NonFiniteOutputError: if the evidence is not finite at its start.
    """
    path = jax.device_get(ascend(problem, members, std, scales, **raising.settings))
    rows.check_finite(path.fine[np.argmin(path.fine.all(axis=(1, 2)))], path.nats[0])
    return path


def _members(members: list[BNN], random: Tree) -> Members:
    """Return what differs between the members, stacked; of their random leaves those that `random` has."""
    params = stacked([member.posterior.params for member in members])
    kept = map_present(lambda _, leaf: leaf, random, params)
    return Members(params, kept, stacked([member.likelihood for member in members]))


def _with_params(model: BNN, params: Tree) -> BNN:
    """Return the model moved to new means: (members, ...), of each member where there are several."""
    posterior: Any = model.posterior
    if posterior.is_mixture:
        moved = jax.vmap(lambda member, params: member.with_params(params))(posterior.members, params)
        return dataclasses.replace(model, posterior=dataclasses.replace(posterior, members=moved))
    return dataclasses.replace(model, posterior=posterior.with_params(member_of(params, 0)))


def _records(
    paths: Sequence[Path], names: Sequence[str], stds: np.ndarray, noise: np.ndarray | None, mixture: bool
) -> list[Tuning]:
    """Return the updates of each ascent, each as of round 0."""
    if noise is not None and not mixture:
        noise = noise[:, :, 0]
    return [
        Tuning(
            evidence=np.asarray(path.nats)[: path.updates + 1],
            round=np.zeros(path.updates + 1, int),
            prior_std={name: stds[i, : path.updates + 1, j] for j, name in enumerate(names)},
            noise_std=None if noise is None else noise[i, : path.updates + 1],
            best=int(path.updates),
        )
        for i, path in enumerate(paths)
    ]


@partial(jit, static_argnames=("groups",))
def _described(
    every: jax.Array, best: jax.Array, *, start: Scales, std: Tree, random: Tree, groups: Groups
) -> tuple[Tree, jax.Array, jax.Array | None]:
    """Return the stds of the best factors; and each group's at every update, with the members' noise, or None.

    It is one program, where outside of one it would be fifteen. Those of updates are (rounds, updates, ...).
    """

    def of_update(vector: jax.Array) -> tuple[Any, Any]:
        scales = unflat(vector, start)
        stds = groups.root_mean_squares(groups.scaled(std, scales.log_factors, random), random, every.dtype)
        return stds, None if scales.likelihoods is None else jax.vmap(noise_std)(scales.likelihoods)

    return groups.scaled(std, best, random), *jax.vmap(jax.vmap(of_update))(every)
