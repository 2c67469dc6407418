"""The predictive without draws."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np
from jax.scipy.special import ndtri

from bbb.core.jit import jit
from bbb.core.rows import one_row
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree
from bbb.forwards.linearization import linearized, moments_bytes
from bbb.likelihoods.protocol import SupportsGaussianNoise
from bbb.model import BNN
from bbb.moments.api import Exactness, moments
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.protocol import Posterior
from bbb.predictive.estimates import Estimate, Moments
from bbb.predictive.evaluation import padded_tiles
from bbb.predictive.finite import check_finite
from bbb.predictive.summary import Marginal, Predictive, lone_column
from bbb.tracing.network import Apply

if TYPE_CHECKING:
    from bbb.predictive.plan import Plan


def closed_form(model: BNN, plan: "Plan", limit: int) -> Predictive:
    """Return the moments of tiles of rows, padded to a few sizes; quantiles are a Gaussian's.

    `limit` bounds the working memory, in bytes.
    """
    if model.members > 1:
        return _mixed([closed_form(model.member(k), plan, limit) for k in range(model.members)])
    likelihood = cast(SupportsGaussianNoise, model.likelihood)
    form, assumptions = form_of(model, plan.x, limit)
    parts = []
    for part, rows in padded_tiles(plan):
        f = form(part)
        parts.append([np.asarray(leaf)[:rows] for pair in (f, _observed(likelihood, f)) for leaf in pair])
    found = [np.concatenate(leaves) for leaves in zip(*parts, strict=True)]
    for what, values in zip(("mean of f", "variance of f", "mean of y", "variance of y"), found, strict=True):
        check_finite(model, f"the {what}", values)
    f_mean, f_variance, y_mean, y_variance = found
    return Predictive(
        f=_gaussian(f_mean, np.sqrt(f_variance)),
        y=_gaussian(y_mean, np.sqrt(y_variance)),
        draws=0,
        method="moments",
        assumptions=assumptions,
        x=lone_column(plan.x),
    )


@jit
def _observed(likelihood: SupportsGaussianNoise, f: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return likelihood.observed(*f)


def form_of(model: BNN, x: Tree, limit: int) -> tuple[Callable[[Any], tuple[jax.Array, jax.Array]], tuple[str, ...]]:
    """Return what gives rows their mean and variance, and what it assumes: of a linearised network, nothing."""
    if model.linearized:
        posterior = cast(GaussianPosterior, model.posterior)
        at_once = min(moments_bytes(posterior), limit // 4)
        return partial(linearized(model.apply).moments, posterior, at_once=at_once), ()
    exactness = from_shapes(_exactness, model.apply, model.posterior, one_row(x))
    form = partial(moments(model.apply).unchecked, model.posterior)
    return form, tuple(str(assumption) for assumption in exactness.assumptions)


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
