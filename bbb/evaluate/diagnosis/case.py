"""What the checks of `bbb.diagnose` look at, and what their advice depends on: a model, its rows, its predictions."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.rows import some_rows
from bbb.core.tree import Tree, per_leaf
from bbb.likelihoods.gaussian import HeteroscedasticGaussian
from bbb.likelihoods.per_member import PerMember
from bbb.likelihoods.protocol import Likelihood, is_discrete
from bbb.metrics.inputs import median_of
from bbb.model import BNN
from bbb.networks.nn import Affine
from bbb.networks.standardized import Standardized
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.verbs import marginals
from bbb.predictive.summary import ClassMarginal, Predictive
from bbb.priors.multivariate_normal import MultivariateNormal
from bbb.priors.normal import Normal


class Finding(NamedTuple):
    """Something that looks wrong.

    Attributes:
        name: what it is called, such as "not converged".
        seen: the figures that it was seen by.
        advice: what to try.
    """

    name: str
    seen: str
    advice: str


class Skipped(NamedTuple):
    """A check that could not be made.

    Attributes:
        name: that of the finding that it looks for.
        reason: why not.
    """

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Case:
    """What a check is given.

    Attributes:
        training: what was found in the history, so that advice for what follows from it says the same.
        rows: as `predict` takes it.
        weights: (rows,), how often each row counts; None for once.
    """

    key: jax.Array
    model: BNN
    training: tuple[Finding, ...]
    x: Tree
    y: np.ndarray
    predictive: Predictive
    draws: int
    rows: str = "apart"
    weights: np.ndarray | None = None

    @property
    def posterior(self) -> MeanField:
        """The Gaussian of each weight alone: of the posterior, or of the first of several, which speaks for all."""
        return marginals(self.model.posterior.component(0), "diagnose")

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood itself, also where each member of an ensemble has learned its own."""
        given = self.model.likelihood
        return given.likelihood if isinstance(given, PerMember) else given

    @property
    def is_discrete(self) -> bool:
        """Whether y is a count or a class."""
        return isinstance(self.predictive.y, ClassMarginal) or is_discrete(self.likelihood)

    @property
    def is_classes(self) -> bool:
        """Whether y is a class."""
        return isinstance(self.predictive.y, ClassMarginal)

    @property
    def learns_noise(self) -> bool:
        """Whether training learned the noise: as a parameter of the likelihood, or as an output of the network."""
        return self.likelihood.learn or self.has_noise_of_rows

    @property
    def has_noise_of_rows(self) -> bool:
        """Whether each row has noise of its own, as an output of the network."""
        return isinstance(self.likelihood, HeteroscedasticGaussian)

    def trained_badly(self, name: str) -> bool:
        """Return whether the history has shown a fault of this name."""
        return any(finding.name == name for finding in self.training)

    def some_rows(self, most: int) -> tuple[Tree, np.ndarray, np.ndarray | None]:
        """Return the first so many rows, their observations and weights; all of them where rows meet."""
        some = slice(None if self.rows == "together" else most)
        return some_rows(self.x, some), self.y[some], None if self.weights is None else self.weights[some]

    @property
    def count(self) -> float:
        """How many rows there are, by their weights."""
        return len(self.y) if self.weights is None else float(self.weights.sum())

    @property
    def size(self) -> float:
        """How many numbers y has, by the weights of its rows."""
        return self.y.size / len(self.y) * self.count

    def mean(self, values: np.ndarray) -> float:
        """Return the mean of values, (rows, ...), of rows by their weights."""
        if self.weights is None:
            return float(np.mean(values))
        return float(np.mean(np.average(values, axis=0, weights=self.weights)))

    def median(self, values: np.ndarray) -> float:
        """Return the median of values, (rows, ...), of rows by their weights."""
        counts = None if self.weights is None else np.repeat(self.weights, values[0].size)
        return median_of(np.ravel(values), counts)

    def variance(self, values: np.ndarray) -> float:
        """Return the variance of values, (rows, ...), over rows by their weights: its mean over the columns."""
        return self.mean(np.square(values - np.average(values, axis=0, weights=self.weights)))

    @property
    def columns(self) -> jax.Array | None:
        """The x of a network of columns of floating-point numbers, (rows, columns); None for any other."""
        is_matrix = isinstance(self.x, jax.Array) and self.x.ndim == 2
        return self.x if is_matrix and jnp.issubdtype(self.x.dtype, jnp.floating) else None

    @property
    def residuals(self) -> np.ndarray:
        """The observations less their predicted means, in float64: squares in float32 would overflow."""
        return np.asarray(self.y, float) - self.predictive.y.mean

    @functools.cached_property
    def explained(self) -> float:
        """The share of the variance of y that the mean explains; of classes, of being right rather than common."""
        y, made = self.y, self.predictive.y
        if isinstance(made, ClassMarginal):
            common = float(np.max(np.bincount(y.astype(int).ravel(), self.weights))) / self.size
            right = self.mean(made.classes == y.ravel())
            return (right - common) / max(1 - common, 1 / self.size)
        spread = max(self.variance(np.asarray(y, float)), float(np.finfo(float).tiny))
        return 1 - self.mean(np.square(self.residuals)) / spread

    @functools.cached_property
    def off_scale(self) -> str | None:
        """Which of x and y is far from mean 0 and standard deviation 1; None if neither, or the network does it."""
        if _standardises(self.model.apply) or self.is_discrete or self.columns is None:
            return None
        for name, values in (("y", self.y), ("x", np.asarray(self.columns, float))):
            for column in np.asarray(values, float).reshape(len(values), -1).T:
                mean, std = self.mean(column), math.sqrt(self.variance(column))
                if std > 0 and (not 1 / OFF <= std <= OFF or abs(mean) > OFF * max(std, 1)):
                    return f"a column of {name} has mean {mean:.3g} and standard deviation {std:.3g}"
        return None

    @functools.cached_property
    def width_of_prior(self) -> float | None:
        """The standard deviation of the prior over √(2/fan-in), of the weights for which it is largest; None if none.

        The axis of a weight that counts its outputs is the first or the last, for all weights alike: the one by which
        the prior looks narrower.
        """
        prior, one = self.model.prior, self.model.posterior.component(0)
        if not isinstance(prior, Normal):
            return None
        centres = one.random_leaves(one.params)
        stds = jax.tree.leaves(per_leaf("prior std", prior.std, centres))
        pairs = [pair for pair in zip(jax.tree.leaves(centres), stds, strict=True) if pair[0].ndim >= 2]
        if not pairs:
            return None

        def widest(axis: int) -> float:
            return max(float(np.max(s)) / math.sqrt(2 * w.shape[axis] / w.size) for w, s in pairs)

        return min(widest(0), widest(-1))

    @property
    def has_learned_prior(self) -> bool:
        """Whether the prior is what was learned from earlier data: a mean and a standard deviation of each weight."""
        prior, one = self.model.prior, self.model.posterior.component(0)
        if not isinstance(prior, Normal):
            return isinstance(prior, MultivariateNormal)
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(one.random_leaves(one.params))]
        return all([np.shape(leaf) for leaf in jax.tree.leaves(tree)] == shapes for tree in (prior.mean, prior.std))

    @property
    def has_wide_prior(self) -> bool:
        """Whether the prior is far wider than one scaled by fan-in."""
        return self.width_of_prior is not None and self.width_of_prior > WIDE


WIDE = 2.0
"""How many times √(2/fan-in) a prior's standard deviation is where it counts as wide."""


OFF = 10.0
"""How many times a column may be wider or narrower than 1, or further from 0, before it counts as off scale."""


def _standardises(apply: Any) -> bool:
    """Return whether a network scales its columns itself: wrapped, or by its first layer, as those of tables do."""
    layers = getattr(getattr(apply, "owner", None), "layers", ())
    return isinstance(apply, Standardized) or isinstance(next(iter(layers), None), Affine)
