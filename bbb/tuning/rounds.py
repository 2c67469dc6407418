"""The two halves of a round: means trained under given scales, and scales raised at given means."""

import copy
import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from bbb import forwards
from bbb.core.jit import jit
from bbb.core.tree import Tree, is_none
from bbb.curvature import rows
from bbb.curvature.problem import Problem, Size
from bbb.likelihoods.protocol import noise_std
from bbb.model import BNN
from bbb.posteriors.ensemble import Ensemble
from bbb.train.api import fit
from bbb.train.options import Objective
from bbb.train.steps.state import stacked
from bbb.train.vectorized import fit_each
from bbb.tuning.ascent import Members, ascend
from bbb.tuning.record import Tuning
from bbb.tuning.scales import Groups, Scales, start_of, stds_of, unflat, with_likelihoods, with_stds


def trained(key: jax.Array, model: BNN, x: ArrayLike, y: ArrayLike, **options: Any) -> BNN:
    """Return the model at the maximum a posteriori under its prior and its noise, which stay; each member at its own.

    Raises:
        InputError, ShapeError, NonFiniteInputError, NonFiniteLossError: as `fit`.
    """
    at_mean = Objective(forward=forwards.at_mean(model.apply))
    members = [_with_noise_fixed(model.member(k)) for k in range(model.members)]
    if not model.posterior.is_mixture:
        found, _ = fit(key, members[0], x, y, objective=at_mean, **options)
        return dataclasses.replace(model, posterior=found.posterior)
    keys, each = jax.random.split(key, len(members)), len(members)
    several, _ = fit_each(keys, members, [x] * each, [y] * each, objective=at_mean, **options)
    posterior: Any = Ensemble(stacked([found.posterior for found in several]))
    return dataclasses.replace(model, posterior=posterior)


def _with_noise_fixed(model: BNN) -> BNN:
    """Return the model whose likelihood is not trained by `fit`: the maximum a posteriori has too small a noise."""
    if not model.likelihood.learn:
        return model
    likelihood: Any = copy.copy(model.likelihood)
    object.__setattr__(likelihood, "learn", False)
    return dataclasses.replace(model, likelihood=likelihood)


def raised(
    model: BNN, problem: Problem, groups: Groups, *, size: Size, structure: str, updates: int
) -> tuple[BNN, Tuning]:
    """Return the model with the scales that raise the evidence at its means, and the updates.

    Args:
        model: of one posterior or several, whose prior has a std for each leaf.
        problem: of its first member, at any means, of which the data count.
        groups: of weights that share a factor.
        size: of the problem.
        structure: of the evidence.
        updates: at most so many.

    Raises:
        NonFiniteOutputError: if the evidence is not finite to begin with.
    """
    members = [model.member(k) for k in range(model.members)]
    start, std = start_of(members, groups, problem.real.dtype), stds_of(model, problem.random)
    arrays = _members(members, problem.random)
    options: Any = {"groups": groups, "size": size, "structure": structure, "steps": updates}
    path = ascend(dataclasses.replace(problem, prior=model.prior), arrays, std, start, **options, large=True)
    rows.check_finite(path.fine[np.argmin(np.asarray(path.fine).all(axis=(1, 2)))], path.nats[0])
    last = int(path.updates)
    scales = unflat(path.scales[last], start)
    found = with_stds(model, problem.random, groups.scaled(std, scales.log_factors))
    stds, noise = _described(path.scales, start, std, problem.random, groups=groups)
    if noise is not None and not model.posterior.is_mixture:
        noise = noise[:, 0]
    record = Tuning(
        evidence=np.asarray(path.nats)[: last + 1],
        round=np.zeros(last + 1, int),
        prior_std={name: np.asarray(stds)[: last + 1, i] for i, name in enumerate(groups.names)},
        noise_std=None if noise is None else np.asarray(noise)[: last + 1],
        best=last,
    )
    return with_likelihoods(found, scales.likelihoods), record


def _members(members: list[BNN], random: Tree) -> Members:
    """Return what differs between the members, stacked; of their random leaves those that `random` has."""
    params = stacked([member.posterior.params for member in members])
    kept = jax.tree.map(lambda w, leaf: None if w is None else leaf, random, params, is_leaf=is_none)
    return Members(params, kept, stacked([member.likelihood for member in members]))


@partial(jit, static_argnames=("groups",))
def _described(path: jax.Array, start: Scales, std: Tree, random: Tree, *, groups: Groups) -> tuple[Any, Any]:
    """Return each group's std at every update, (updates, groups), and the members' noise, or None if it has none."""

    def of_update(vector: jax.Array) -> tuple[Any, Any]:
        scales = unflat(vector, start)
        stds = groups.root_mean_squares(groups.scaled(std, scales.log_factors), random, path.dtype)
        return stds, None if scales.likelihoods is None else jax.vmap(noise_std)(scales.likelihoods)

    return jax.vmap(of_update)(path)
