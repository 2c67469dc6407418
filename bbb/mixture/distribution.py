"""The predictive distribution of y: the mixture (1/S)·Σ_s p(y | draw s) of the likelihoods of S draws, exact.

    log_score(likelihood, outputs, y)          log p(y) of each row, in nats
    cdf(likelihood, outputs, y)                P(Y ≤ y) of each element
    quantile(likelihood, outputs, p)           the least y with P(Y ≤ y) ≥ p
    sample_y(key, likelihood, outputs)         one y for each draw

`outputs` are draws of a network, (draws, rows, ...), as `bbb.draws` returns them. All are pure functions that can be
compiled; each evaluation takes memory for all draws and rows at once, so pass many rows in parts.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp, ndtr, ndtri
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.ability import implements
from bbb.core.jit import jit
from bbb.core.tree import Tree
from bbb.errors import InputError, ShapeError, fail
from bbb.likelihoods.protocol import (
    Likelihood,
    SupportsClasses,
    SupportsGaussianComponents,
    SupportsMoments,
    SupportsQuantiles,
    SupportsSampling,
    SupportsTabulatedCDF,
    check_quantiles,
    check_samples,
    log_prob_of_draws,
)

MAX_STEPS = 60
"""Bound on the steps of a search for a quantile; it usually takes four."""


PILOT_DRAWS = 512
"""Number of draws that the first guess of a quantile is computed from, where there are several times as many."""


def log_score(likelihood: Likelihood, outputs: ArrayLike, y: ArrayLike) -> jax.Array:
    """Return log (1/S)·Σ_s p(y | draw s) of each row, in nats: (rows,).

    The outputs of a row are scored jointly: they are independent given the draw, and dependent over the draws.

    Args:
        likelihood: such as `model.likelihood`.
        outputs: (draws, rows, ...).
        y: (rows, ...), as `fit` takes it.

    Raises:
        ShapeError, InputError: if y is not an observation of such outputs.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> outputs = np.array([[[-1.0]], [[1.0]]])  # two draws of one row
        >>> bbb.mixture.log_score(bbb.likelihoods.Gaussian(1.0), outputs, np.array([[0.0]])).round(3)
        Array([-1.419], dtype=float32)
    """
    outputs = _check_draws(outputs)
    return _log_score(likelihood, outputs, _target(likelihood, outputs, y))


@jit
def _log_score(likelihood: Likelihood, outputs: jax.Array, y: jax.Array) -> jax.Array:
    return logsumexp(log_prob_of_draws(likelihood, y, outputs), axis=0) - math.log(outputs.shape[0])


def cdf(likelihood: Likelihood, outputs: ArrayLike, y: ArrayLike) -> jax.Array:
    """Return P(Y ≤ y) of each element of y: (rows, ...). For a count, P(Y < y) is P(Y ≤ y − 1).

    Args:
        likelihood: a likelihood of numbers, not of classes.
        outputs: (draws, rows, ...).
        y: (rows, ...), any real numbers.

    Raises:
        ShapeError, InputError: if y does not have the shape of an observation, or the likelihood is of classes.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> outputs = np.array([[[-1.0]], [[1.0]]])  # two draws of one row
        >>> bbb.mixture.cdf(bbb.likelihoods.Gaussian(1.0), outputs, np.array([[0.0]])).round(3)
        Array([[0.5]], dtype=float32)
    """
    outputs = _check_draws(outputs)
    shape = jax.eval_shape(_of_numbers(likelihood).mean, outputs).shape[1:]
    y = jnp.asarray(checks.rows("y", y))
    if y.shape != shape:
        do = "Pass one y for each element of the mean."
        fail(ShapeError, f"y of shape {shape}", f"shape {y.shape}", do)
    return _cdf(likelihood, outputs, y.astype(outputs.dtype))


@jit
def _cdf(likelihood: SupportsQuantiles, outputs: jax.Array, y: jax.Array) -> jax.Array:
    return mean_of_draws(likelihood.cdf(y[None], outputs))


def quantile(likelihood: Likelihood, outputs: ArrayLike, p: float) -> jax.Array:
    """Return the least y with P(Y ≤ y) ≥ p, for each element: (rows, ...). For counts it is a whole number.

    Args:
        likelihood: a likelihood of numbers, not of classes.
        outputs: (draws, rows, ...).
        p: inside (0, 1).

    Raises:
        ShapeError, InputError: if p is not inside (0, 1), or the likelihood is of classes.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> outputs = np.array([[[-1.0]], [[1.0]]])  # two draws of one row
        >>> abs(bbb.mixture.quantile(bbb.likelihoods.Gaussian(1.0), outputs, 0.5)).round(3)
        Array([[0.]], dtype=float32)
    """
    outputs = _check_draws(outputs)
    _of_numbers(likelihood)
    return _quantile(likelihood, outputs, jnp.asarray(checks.probability("p", p), outputs.dtype))


@jit
def _quantile(likelihood: SupportsQuantiles, outputs: jax.Array, p: jax.Array) -> jax.Array:
    mixture = Mixture.of(likelihood, outputs)
    return solve(mixture, jnp.broadcast_to(p, mixture.mean.shape)).root.reshape(mixture.shape)


def sample_y(key: jax.Array, likelihood: Likelihood, outputs: ArrayLike) -> jax.Array:
    """Draw one y for each draw: (draws, rows, ...). The numbers of a row depend on its place, not on other rows.

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
        ShapeError: if the outputs have no axis of draws.
        InputError: if the likelihood cannot draw observations.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> import jax
        >>> outputs = np.zeros((5, 2, 1))  # five draws of two rows
        >>> bbb.mixture.sample_y(jax.random.key(0), bbb.likelihoods.Gaussian(1.0), outputs).shape
        (5, 2, 1)
    """
    checks.key(key)
    if isinstance(likelihood, type) or not hasattr(likelihood, "as_target"):
        checks.has("a likelihood", likelihood, ("sample",), "model.likelihood")
    check_samples(likelihood, "sample_y")
    outputs = _check_draws(outputs)
    return _sample_y(key, likelihood, outputs)


@jit
def _sample_y(key: jax.Array, likelihood: SupportsSampling, outputs: jax.Array) -> jax.Array:
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(outputs.shape[1], dtype=jnp.uint32))
    # likelihoods take arrays of rows: each row is passed as an array of one
    rows = jax.vmap(lambda k, row: likelihood.sample(k, row[:, None])[:, 0], in_axes=(0, 1), out_axes=1)
    return rows(keys, outputs)


def mean_of_draws(values: jax.Array) -> jax.Array:
    """Return the mean over draws, with all else on one axis: XLA's loop over a last axis of length 1 takes 40 times."""
    return jnp.mean(values.reshape(values.shape[0], -1), axis=0).reshape(values.shape[1:])


def without_lone_axis(outputs: Tree) -> Tree:
    """Return a tree without the last axes of length 1: see `mean_of_draws`."""
    return jax.tree.map(lambda leaf: leaf[..., 0] if leaf.ndim > 2 and leaf.shape[-1] == 1 else leaf, outputs)


def group_means(influences: jax.Array, group: int) -> jax.Array:
    """Return the means of groups of draws that depend on each other, so that the means are independent."""
    if group == 1:
        return influences
    return jnp.mean(influences.reshape(-1, group, *influences.shape[1:]), axis=1)


class Pairs(NamedTuple):
    """Means and variances of Gaussians, one for each draw and element; `bbb.moments.MeanVariance` is another."""

    mean: jax.Array
    variance: jax.Array


class Normals:
    """The likelihood of components N(mean, variance), whose `outputs` are a pair of arrays."""

    discrete = False

    @staticmethod
    def mean(outputs: Pairs) -> jax.Array:
        """Return the means of the components."""
        return outputs.mean

    @staticmethod
    def variance(outputs: Pairs) -> jax.Array:
        """Return the variances of the components."""
        return outputs.variance

    @staticmethod
    def cdf(y: jax.Array, outputs: Pairs) -> jax.Array:
        """Return Φ((y − mean)/std) of each component."""
        return ndtr((y - outputs.mean) / _std(outputs))

    @staticmethod
    def density(y: jax.Array, outputs: Pairs) -> jax.Array:
        """Return the density of each component at y."""
        std = _std(outputs)
        return jnp.exp(-0.5 * jnp.square((y - outputs.mean) / std)) / (std * math.sqrt(2 * math.pi))


def _std(outputs: Pairs) -> jax.Array:
    return jnp.sqrt(jnp.maximum(outputs.variance, jnp.finfo(outputs.variance.dtype).tiny))


class Mixture(NamedTuple):
    """A mixture of draws, as a search for its quantiles needs it.

    Attributes:
        likelihood: of the components.
        outputs: (draws, rows, ...) each, without a last axis of length 1.
        cdf: of the components.
        mean: of the mixture, (rows, ...).
        std: likewise.
        between: the share of the variance that is between the means of the components: their correlation.
        group: the number of neighbouring draws that depend on each other.
        shape: of the results, with a last axis of length 1.
    """

    likelihood: SupportsQuantiles | type[Normals]
    outputs: Tree
    cdf: Callable[..., jax.Array]
    mean: jax.Array
    std: jax.Array
    between: jax.Array
    group: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, likelihood: SupportsQuantiles | type[Normals], outputs: Tree, group: int = 1) -> "Mixture":
        """Return the mixture of draws that are independent in groups of `group` neighbours."""
        if implements(likelihood, SupportsGaussianComponents):
            return cls.of(Normals, Pairs(*likelihood.components(outputs)), group)
        shape = jax.eval_shape(likelihood.mean, outputs).shape[1:]
        outputs = without_lone_axis(outputs)
        means = likelihood.mean(outputs)
        centre = mean_of_draws(means)
        between = mean_of_draws(jnp.square(means - centre[None]))
        variance = mean_of_draws(jnp.square(means - centre[None]) + likelihood.variance(outputs))
        share = jnp.where(variance > 0, between / jnp.where(variance > 0, variance, 1), 0)
        component_cdf: Callable[..., jax.Array] = likelihood.cdf
        if implements(likelihood, SupportsTabulatedCDF):
            component_cdf = likelihood.tabulated_cdf(outputs)
        return cls(likelihood, outputs, component_cdf, centre, jnp.sqrt(variance), share, group, shape)

    def pilot(self) -> "Mixture | None":
        """Return the mixture of a few of the draws, if it is much cheaper; else None."""
        draws = jax.tree.leaves(self.outputs)[0].shape[0]
        stride = draws // PILOT_DRAWS
        if stride < 8:
            return None

        def some(leaf: jax.Array) -> jax.Array:  # whole groups, so that all members of an ensemble count alike
            return leaf.reshape(-1, self.group, *leaf.shape[1:])[::stride].reshape(-1, *leaf.shape[1:])

        return self._replace(outputs=jax.tree.map(some, self.outputs))

    def bracket(self, p: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return bounds of the quantile by Cantelli's inequality, with a margin for rounding."""
        slack = 8 * jnp.finfo(self.mean.dtype).eps * jnp.abs(self.mean) + 0.01 * self.std
        return (
            self.mean - self.std * jnp.sqrt((1 - p) / p) - slack,
            self.mean + self.std * jnp.sqrt(p / (1 - p)) + slack,
        )

    def at(self, y: jax.Array, p: jax.Array) -> "MixtureAt":
        """Evaluate the mixture at y, in one pass over the draws."""
        above = self.cdf(y[None], self.outputs) - p[None]
        excess = mean_of_draws(above)

        def spread(group: int) -> jax.Array:
            means = group_means(above, group)
            scale = group * means.shape[0] / max(means.shape[0] - 1, 1)
            # around p, which nearly is the mean, so that no digits cancel
            return jnp.sqrt(jnp.maximum(mean_of_draws(jnp.square(means)) - jnp.square(excess), 0) * scale)

        alone = spread(1)
        return MixtureAt(excess, *self._density(y), alone if self.group == 1 else spread(self.group), alone)

    def _density(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the density and its slope; of a discrete y, the probability and 0."""

        def of_draws(y: jax.Array) -> jax.Array:
            return self.likelihood.density(y[None], self.outputs)

        if self.likelihood.discrete:
            density = mean_of_draws(of_draws(y))
            return density, jnp.zeros_like(density)
        density, slope = jax.jvp(of_draws, (y,), (jnp.ones_like(y),))
        return mean_of_draws(density), mean_of_draws(slope)


class MixtureAt(NamedTuple):
    """A mixture at some y.

    Attributes:
        excess: cdf − p.
        density: of the mixture.
        slope: the derivative of the density.
        spread: the standard deviation of the components' cdfs over the draws, which the error of p follows from.
        alone: likewise, if all draws were independent.
    """

    excess: jax.Array
    density: jax.Array
    slope: jax.Array
    spread: jax.Array
    alone: jax.Array

    def step(self, change: jax.Array) -> jax.Array:
        """Return the step in y that changes the cdf by so much: Newton's, corrected by the slope (Halley's)."""
        newton = change / self.density
        return newton / jnp.clip(1 + 0.5 * newton * self.slope / self.density, 0.5, 2.0)


class Root(NamedTuple):
    """A quantile, and the last evaluation of the mixture.

    Attributes:
        root: the quantile.
        tried: where the mixture was last evaluated: there, or a last small step before.
        at: the mixture there.
    """

    root: jax.Array
    tried: jax.Array
    at: MixtureAt


def solve(mixture: Mixture, p: jax.Array) -> Root:
    """Return the quantile of each element: exact for counts, otherwise up to rounding in p."""
    guess = mixture.mean + ndtri(p) * mixture.std
    low, high = mixture.bracket(p)
    pilot = mixture.pilot()
    if mixture.likelihood.discrete:
        if pilot is not None:
            guess = _least_whole(pilot, p, guess, low, high).root
        return _least_whole(mixture, p, guess, low, high)
    if pilot is not None:
        guess = solve_near(pilot, p, guess, low, high, 1e-3 * p * (1 - p)).root
    tolerance = float(jnp.finfo(p.dtype).eps) * (2 + 64 * p * (1 - p))
    return solve_near(mixture, p, guess, low, high, tolerance)


Carry = tuple[Tree, ...]
"""What a loop carries from step to step."""


def solve_near(
    mixture: Mixture,
    p: jax.Array,
    guess: jax.Array,
    low: jax.Array,
    high: jax.Array,
    tolerance: jax.Array,
    *,
    last_step: bool = True,
) -> Root:
    """Solve cdf(y) = p between low and high, up to `tolerance` in p; steps that leave the bracket become bisections.

    With `last_step`, a step whose second-order term is within the tolerance ends the search: the error of Halley's step
    is of third order and far smaller, so that another evaluation of the mixture would only confirm it.
    """

    def step(carry: Carry) -> Carry:
        low, high, root, *_, over, count = carry
        at = mixture.at(root, p)
        low, high = jnp.where(at.excess < 0, root, low), jnp.where(at.excess < 0, high, root)
        proposal = root + at.step(-at.excess)
        inside = (proposal >= low) & (proposal <= high)  # also False where the density underflowed
        solved = done = jnp.abs(at.excess) <= tolerance
        if last_step:
            second = 0.5 * jnp.abs(at.slope) * jnp.square(at.excess / at.density)
            small = jnp.square(at.excess) <= tolerance * jnp.minimum(p, 1 - p)
            done = solved | (inside & small & (second <= tolerance))
        moved = jnp.where(solved, root, jnp.where(inside, proposal, low + 0.5 * (high - low)))
        return *_frozen(over, carry[:5], (low, high, moved, root, at)), over | done, count + 1

    inside = (guess >= low) & (guess <= high)
    start = jnp.where(inside, guess, low + 0.5 * (high - low))
    nothing = MixtureAt(*(jnp.zeros_like(start) for _ in MixtureAt._fields))
    first = (low, high, start, start, nothing, jnp.zeros_like(start, bool), 0)
    _, _, root, tried, at, _, _ = lax.while_loop(_goes_on, step, first)
    return Root(root, tried, at)


def _goes_on(carry: Carry) -> jax.Array:
    return ~jnp.all(carry[-2]) & (carry[-1] < MAX_STEPS)


def _frozen(over: jax.Array, old: tuple[Tree, ...], new: tuple[Tree, ...]) -> tuple[Tree, ...]:
    """Return the old values where the search is over, so that a row does not depend on how long its neighbours take."""
    return jax.tree.map(lambda was, now: jnp.where(over, was, now), old, new)


def _least_whole(mixture: Mixture, p: jax.Array, guess: jax.Array, low: jax.Array, high: jax.Array) -> Root:
    """Return the least whole k with cdf(k) ≥ p: by Newton's steps on the cdf's staircase, every third a bisection.

    cdf(k) and the probability of k give cdf(k − 1) too. cdf(low) is below p, cdf(high) is not.
    """

    def step(carry: Carry) -> Carry:
        low, high, k, *_, over, count = carry
        at = mixture.at(k, p)
        short, too_far = at.excess < 0, at.excess - at.density >= 0
        found = ~short & ~too_far
        low = jnp.where(short, k, low)
        high = jnp.where(short, high, jnp.where(too_far, k - 1, k))
        rise = jnp.where(short, jnp.ceil(-at.excess / at.density), -jnp.floor(at.excess / at.density))
        proposal = k + rise
        inside = (proposal > low) & (proposal <= high) & (count % 3 != 2)
        middle = jnp.maximum(jnp.floor(low + 0.5 * (high - low)), low + 1)
        done = found | (high <= low)  # the second only by rounding
        moved = jnp.where(done, k, jnp.where(inside, proposal, middle))
        return *_frozen(over, carry[:5], (low, high, moved, k, at)), over | done, count + 1

    low, high = jnp.maximum(jnp.floor(low) - 1, -1), jnp.maximum(jnp.ceil(high), 0)
    start = jnp.clip(jnp.round(guess), low + 1, high)
    nothing = MixtureAt(*(jnp.zeros_like(start) for _ in MixtureAt._fields))
    first = (low, high, start, start, nothing, jnp.zeros_like(start, bool), 0)
    _, _, _, k, at, _, _ = lax.while_loop(_goes_on, step, first)
    return Root(k, k, at)


def _target(likelihood: Likelihood, outputs: jax.Array, y: ArrayLike) -> jax.Array:
    checks.has("a likelihood", likelihood, ("as_target",), "model.likelihood")
    y = checks.rows("y", y)
    return likelihood.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape[1:], outputs.dtype))


def _check_draws(outputs: ArrayLike) -> jax.Array:
    """Return draws as an array; raise if they are not finite, or have no axes of draws and rows."""
    outputs = outputs if isinstance(outputs, jax.Array) else checks.real("outputs", outputs)
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        do = "Pass outputs.astype(float)."
        fail(InputError, "outputs of floating-point numbers", f"dtype {outputs.dtype}", do)
    if outputs.ndim < 2 or 0 in outputs.shape[:2]:
        do = "Pass what bbb.draws gives, or outputs[None] for one draw."
        fail(ShapeError, "outputs of shape (draws, rows, ...)", f"shape {outputs.shape}", do)
    return jnp.asarray(checks.rows("outputs", outputs))


def _of_numbers(likelihood: Likelihood) -> SupportsQuantiles:
    """Return a likelihood of numbers, whose quantiles can be searched for; raise otherwise."""
    if implements(likelihood, SupportsClasses) and not implements(likelihood, SupportsMoments):
        do = "Ask likelihood.probabilities(outputs).mean(axis=0)."
        fail(InputError, "a likelihood of numbers, which are ordered", type(likelihood).__name__, do)
    checks.has("a likelihood", likelihood, ("mean",), "model.likelihood")
    return check_quantiles(likelihood, "bbb.mixture")
