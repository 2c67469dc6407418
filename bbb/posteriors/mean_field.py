"""Posteriors over the weights of a network: an independent Gaussian for each of them, or a mixture of posteriors.

    MeanField(mean, log_std)       a Gaussian for every weight, all independent
    Ensemble(members)              several posteriors in equal parts

What all of them can do is stated in `bbb.posteriors`. `sample` and `log_prob` are the verbs.
"""

import math
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks, display
from bbb.core.jit import jit
from bbb.core.noise import standard_normal
from bbb.core.tree import (
    Tree,
    broadcast_prefix,
    is_floating,
    is_none,
    map_present,
    names,
    per_leaf,
    pytree_dataclass,
    sum_leaves,
)
from bbb.errors import InputError, ShapeError, fail
from bbb.posteriors.gaussian import GaussianPosterior


@pytree_dataclass(data=("mean", "log_std"), saved=True)
class MeanField(display.Displayed, GaussianPosterior):
    """A Gaussian N(mean, exp(log_std)²) for every weight, all independent.

    Without a single Gaussian it is a point, which functions of a posterior alone take as such: its sample is its mean,
    its `log_prob` and its KL are 0. A model has to have one, and so has what is pruned.

    Attributes:
        mean: tree of arrays, the parameters' own structure and shapes.
        log_std: tree of the same structure and shapes, the natural logarithm of the standard deviations; or None in
            the place of a leaf that is a point estimate, which has no Gaussian and is always its mean.

    Raises:
        ShapeError: if the two trees differ in structure or in a shape.

    Source: Blundell et al. 2015, arXiv 1505.05424, §3.2, with σ = exp(log_std) for softplus(ρ).

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.MeanField.around(params, std=0.1)
        >>> posterior.mean["weight"].shape
        (2, 3)
        >>> drawn = bbb.posteriors.sample(jax.random.key(0), posterior)
        >>> jax.tree.map(jax.numpy.shape, drawn)
        {'bias': (2,), 'weight': (2, 3)}
    """

    factorises: ClassVar[bool] = True
    logarithms = ("log_std",)

    mean: Tree
    log_std: Tree

    def __post_init__(self) -> None:
        """Raise for two trees that do not fit each other."""
        try:
            filled = jax.tree.map(lambda s, m: m if s is None else s, self.log_std, self.mean, is_leaf=is_none)
        except (ValueError, TypeError):  # of another structure, which is refused here
            filled = self.log_std
        checks.fits("log_std", filled, "mean", self.mean)
        checks.floating("log_std", self.log_std)

    @classmethod
    def around(cls, params: Tree, std: Tree, where: Tree = True) -> "MeanField":
        """Return a posterior centred on `params`.

        Args:
            params: the means, any tree of arrays.
            std: the standard deviations, a number or a tree that is a prefix of `params`.
            where: which leaves get a Gaussian, a bool or a tree of bools that is a prefix of `params`.

        Raises:
            InputError: if a leaf with a Gaussian is not floating point or not finite, or a std not positive.
            ShapeError: if `std` or `where` is not a prefix of `params`.
        """
        gaussian = jax.tree.map(lambda chosen, leaf: leaf if chosen else None, leaves_chosen(where, params), params)
        checks.parameters("params", gaussian)
        for leaf in jax.tree.leaves(std):
            checks.positive("std", leaf)
        with np.errstate(over="ignore"):  # what overflows is refused below, by name
            stds = per_leaf("std", std, gaussian)
        for path, leaf in zip(names(stds), jax.tree.leaves(stds), strict=True):
            checks.positive(f"std of '{path}' in {leaf.dtype}", leaf)  # 1e39 is finite in float64, not in float32
        shapes = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(gaussian))
        return cls(jax.tree.map(own_leaves, params), _spread_logarithms(stds, shapes=shapes))

    @property
    def std(self) -> Tree:
        """The standard deviations, a tree like `log_std`."""
        return jax.tree.map(jnp.exp, self.log_std)

    @property
    def params(self) -> Tree:
        """The means: the tree that a draw is like."""
        return self.mean

    def noise(self, key: jax.Array) -> Tree:
        """Draw ε ~ N(0, 1) for every Gaussian weight: a tree like `log_std`, each leaf in its own dtype."""
        return standard_normal(key, self.log_std)

    def weights(self, noise: Tree) -> Tree:
        """Return the weights mean + exp(log_std)·ε, a tree like `mean`; a point estimate is its mean."""

        def leaf(s: jax.Array | None, m: jax.Array, e: jax.Array) -> jax.Array:
            return m if s is None else m + jnp.exp(s) * e

        return jax.tree.map(leaf, self.log_std, self.mean, noise, is_leaf=is_none)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log q(params), in nats: a scalar, summed over every weight that has a Gaussian."""

        def leaf(s: jax.Array, m: jax.Array, w: jax.Array) -> jax.Array:
            return -0.5 * jnp.square((w - m) * jnp.exp(-s)) - s - 0.5 * math.log(2 * math.pi)

        return sum_leaves(map_present(leaf, self.log_std, self.mean, params))

    def random_leaves(self, params: Tree) -> Tree:
        """Return the leaves of `params`, a tree like `mean`, that have a Gaussian, with None in the others' place."""
        return map_present(lambda _, leaf: leaf, self.log_std, params)

    def with_params(self, params: Tree) -> "MeanField":
        """Return the posterior of the means `params` and of these standard deviations."""
        return MeanField(params, self.log_std)

    def marginals(self) -> "MeanField":
        """Return itself: all weights are independent."""
        return self

    def conditionals(self) -> "MeanField":
        """Return itself: all weights are independent."""
        return self

    def total_correlation(self) -> float:
        """Return 0: all weights are independent."""
        return 0.0

    def entropy(self) -> jax.Array:
        """Return Σ log_std + ½·log(2πe), in nats: a scalar, over every weight that has a Gaussian."""
        return sum_leaves(map_present(lambda s: s + 0.5 * math.log(2 * math.pi * math.e), self.log_std))

    def scaled(self, factor: float) -> "MeanField":
        """Return the posterior of the same means, whose standard deviations are `factor` times as large."""
        return MeanField(self.mean, jax.tree.map(lambda s: s + math.log(factor), self.log_std))

    def pruned(self, mask: Tree) -> "MeanField":
        """Return a posterior in which the weights where `mask`, a tree of bools like `log_std`, is true are 0."""

        def mean(mask: Any, m: Any) -> Tree:
            return m if mask is None else jnp.where(mask, 0, m)

        means = jax.tree.map(mean, mask, self.mean, is_leaf=is_none)
        stds = map_present(lambda mask, s: jnp.where(mask, least_log_std(s.dtype), s), mask, self.log_std)
        return MeanField(means, stds)

    def _table_shown(self) -> display.Table:
        return display.Table(f"MeanField of {sizes_shown(self)}", leaves_shown(self))


def least_log_std(dtype: Any) -> float:
    """Return the logarithm of the least standard deviation whose square a dtype holds."""
    return math.log(jnp.finfo(dtype).tiny) / 2


def sizes_shown(posterior: MeanField, axes: int = 0) -> str:
    """Return how many weights have a Gaussian, in how many leaves, and their stds; of leaves with leading axes."""
    gaussians = jax.tree.leaves(posterior.log_std)
    every = [display.size(leaf, axes) for leaf in jax.tree.leaves(posterior.mean)]
    random = [display.size(leaf, axes) for leaf in gaussians]
    dtypes = ", ".join(dict.fromkeys(str(leaf.dtype) for leaf in gaussians if hasattr(leaf, "dtype")))
    weights, leaves = display.counted(sum(random), "weight"), display.counted(len(random), "leaf", "leaves")
    if not random:
        return display.counted(sum(every), "point estimate")
    fixed = f", and {display.counted(sum(every) - sum(random), 'point estimate')}" if len(every) > len(random) else ""
    kind = f" ({dtypes})" if dtypes else ""
    return f"{weights} in {leaves}{kind}{fixed}{display.labelled_span('std', gaussians, display.exp)}"


def leaves_shown(posterior: MeanField, axes: int = 0) -> list[tuple[str, str]]:
    """Return the shape of the first few leaves, and where their Gaussians lie."""
    stds: list[Any] = jax.tree.leaves(posterior.log_std, is_leaf=is_none)
    leaves = list(zip(names(posterior.mean), jax.tree.leaves(posterior.mean), stds, strict=False))

    def row(mean: Tree, log_std: Tree) -> str:
        spread = ", a point estimate" if log_std is None else display.labelled_span("std", log_std, display.exp)
        return f"{tuple(getattr(mean, 'shape', ()))[axes:]}{display.labelled_span('mean', mean)}{spread}"

    return display.first_rows(leaves, lambda leaf: (leaf[0], row(*leaf[1:])))


def own_leaves(leaf: Tree) -> jax.Array:
    """Return a leaf as an array of JAX: of one of NumPy a copy, whose memory JAX may go on reading."""
    return leaf if isinstance(leaf, jax.Array) else jnp.array(leaf, copy=True)


def leaves_chosen(where: Tree, params: Tree) -> Tree:
    """Spread a prefix tree of bools over the leaves of `params`."""
    try:
        full = broadcast_prefix(where, params)
    except (ValueError, TypeError) as error:
        raise ShapeError(
            "Expected where to be a bool or a tree of bools that is a prefix of the parameters', "
            f"got {jax.tree.structure(where)} for {jax.tree.structure(params)}. Pass where=True for all."
        ) from error
    for leaf in jax.tree.leaves(full):
        if not isinstance(leaf, bool | np.bool_):
            do = "Pass True or False for each."
            fail(InputError, "every leaf of where to be a bool", f"a {type(leaf).__name__}", do)
    return full


def relative_std(params: Tree, delta: float = 0.1, least: float = 1e-4) -> Tree:
    """Return standard deviations in proportion to the weights, `delta·|w|`, and at least `least`: a tree like `params`.

    For `bayesianize(..., std=relative_std(params))`, with `prior=Normal.around(params)`: both start from pretrained
    weights (MOPED). The paper has no `least`; without it a weight of exactly 0 could never become uncertain.

    Raises:
        InputError: if `delta` or `least` is not positive and finite.

    Source: Krishnan et al. 2020, arXiv 1906.05323, which sets `ρ = log(exp(delta·|w|) − 1)` for σ = log(1 + exp(ρ)).

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> std = bbb.posteriors.relative_std(params, delta=0.1)
        >>> round(float(std["weight"].max()), 4), round(float(std["bias"].max()), 4)
        (0.1, 0.0001)
    """
    checks.outside("relative_std", params=params, delta=delta, least=least)
    checks.positive("delta", delta)
    checks.positive("least", least)
    checks.alive("params", params)

    def leaf(w: Tree) -> Tree:
        return np.maximum(delta * np.abs(np.asarray(w)), least).astype(w.dtype) if is_floating(w) else 1.0

    return jax.tree.map(leaf, params)


@partial(jit, static_argnames=("shapes",))
def _spread_logarithms(stds: Tree, *, shapes: tuple[tuple[int, ...], ...]) -> Tree:
    """Return log s for every weight of leaves of these shapes: one program, where each leaf would have two."""
    leaves, structure = jax.tree.flatten(stds)
    spread = [jnp.broadcast_to(jnp.log(s), shape) for s, shape in zip(leaves, shapes, strict=True)]
    return jax.tree.unflatten(structure, spread)
