"""The predictive without draws."""

import dataclasses
from typing import TYPE_CHECKING, cast

import numpy as np
from jax.scipy.special import ndtri

from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree
from bbb.likelihoods.protocol import SupportsGaussianNoise
from bbb.model import BNN
from bbb.moments.api import Exactness, moments
from bbb.posteriors.protocol import Posterior
from bbb.predictive.estimates import Estimate, Moments
from bbb.predictive.evaluation import padded_tiles
from bbb.predictive.finite import check_finite
from bbb.predictive.plan import one_row
from bbb.predictive.summary import Marginal, Predictive, lone_column
from bbb.tracing.network import Apply

if TYPE_CHECKING:
    from bbb.predictive.plan import Plan


def closed_form(model: BNN, plan: "Plan") -> Predictive:
    """Return the moments of tiles of rows, padded to a few sizes; quantiles are a Gaussian's."""
    if model.members > 1:
        return _mixed([closed_form(model.member(k), plan) for k in range(model.members)])
    form, likelihood = moments(model.apply), cast(SupportsGaussianNoise, model.likelihood)
    exactness = from_shapes(_exactness, model.apply, model.posterior, one_row(plan.x))
    parts = []
    for part, rows in padded_tiles(plan):
        f = form.unchecked(model.posterior, part)
        parts.append([np.asarray(leaf)[:rows] for pair in (f, likelihood.observed(*f)) for leaf in pair])
    found = [np.concatenate(leaves) for leaves in zip(*parts, strict=True)]
    for what, values in zip(("mean of f", "variance of f", "mean of y", "variance of y"), found, strict=True):
        check_finite(model, f"the {what}", values)
    f_mean, f_variance, y_mean, y_variance = found
    return Predictive(
        f=_gaussian(f_mean, np.sqrt(f_variance)),
        y=_gaussian(y_mean, np.sqrt(y_variance)),
        draws=0,
        method="moments",
        assumptions=tuple(str(assumption) for assumption in exactness.assumptions),
        x=lone_column(plan.x),
    )


def _mixed(members: list[Predictive]) -> Predictive:
    """Return the moments of a mixture of closed forms in equal parts."""

    def moments_of(parts: list[Marginal]) -> Marginal:
        means = np.stack([part.mean for part in parts])
        variance = np.mean([np.square(part.std) for part in parts], axis=0) + np.var(means, axis=0)
        return _gaussian(np.mean(means, axis=0), np.sqrt(variance))

    f, y = (moments_of([getattr(member, name) for member in members]) for name in ("f", "y"))
    return dataclasses.replace(members[0], f=f, y=y)


def _exactness(apply: Apply, posterior: Posterior, x: Tree) -> Exactness:
    return moments(apply).exactness(posterior, x)


def _gaussian(mean: np.ndarray, std: np.ndarray) -> Marginal:
    def quantile(p: float) -> Estimate:
        return mean + std * np.asarray(ndtri(p), std.dtype), np.zeros_like(std)

    nothing = np.zeros_like(std)
    no_error = Moments(mean, std**2, nothing, nothing, nothing)
    return Marginal(mean=mean, std=std, draws=0, moments=no_error, _table={}, _later=quantile)
