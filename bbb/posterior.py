"""The posterior: an independent Gaussian for every weight of a network (mean field), or several such posteriors."""

import itertools
import math
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from bbb import _check, _display
from bbb._noise import normals
from bbb._tree import Tree, broadcast_prefix, is_floating, is_none, map_present, names, noun, sum_leaves


@noun(data=("mean", "log_std"))
class MeanField(_display.Displayed):
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
    """

    mean: Tree
    log_std: Tree

    def __post_init__(self) -> None:
        """Refuse two trees that do not fit each other."""
        try:
            filled = jax.tree.map(lambda s, m: m if s is None else s, self.log_std, self.mean, is_leaf=is_none)
        except (ValueError, TypeError):  # of another structure, which is refused here
            filled = self.log_std
        _check.fits("log_std", filled, "mean", self.mean)
        _check.floating("log_std", self.log_std)

    @classmethod
    def around(cls, params: Tree, std: Tree, where: Tree = True) -> "MeanField":
        """Centre a posterior on `params`.

        Args:
            params: the means, any tree of arrays.
            std: the standard deviations, a number or a tree that is a prefix of `params`.
            where: which leaves get a Gaussian, a bool or a tree of bools that is a prefix of `params`.

        Raises:
            InputError: if a leaf with a Gaussian is not floating point or not finite, or a std not positive.
            ShapeError: if `std` or `where` is not a prefix of `params`.
        """
        gaussian = jax.tree.map(lambda chosen, leaf: leaf if chosen else None, _chosen(where, params), params)
        _check.parameters("params", gaussian)
        for leaf in jax.tree.leaves(std):
            _check.positive("std", leaf)
        with np.errstate(over="ignore"):  # what overflows is refused below, by name
            stds = per_leaf("std", std, gaussian)
        for path, leaf in zip(names(stds), jax.tree.leaves(stds), strict=True):
            _check.positive(f"std of '{path}' in {leaf.dtype}", leaf)  # 1e39 is finite in float64, not in float32
        log_std = jax.tree.map(lambda s, leaf: jnp.broadcast_to(jnp.log(s), leaf.shape), stds, gaussian)
        return cls(jax.tree.map(_own, params), log_std)

    @property
    def std(self) -> Tree:
        """The standard deviations, a tree like `log_std`."""
        return jax.tree.map(jnp.exp, self.log_std)

    def gaussian(self, params: Tree) -> Tree:
        """Keep the leaves of `params`, a tree like `mean`, that have a Gaussian; the others become None."""
        return map_present(lambda _, leaf: leaf, self.log_std, params)

    def _table_shown(self) -> _display.Table:
        return _display.Table(f"MeanField of {_sizes(self)}", _leaf_rows(self))


@noun(data=("members",))
class Ensemble(_display.Displayed):
    """A mixture of several mean-field posteriors with equal weights, such as `fit(..., restarts=K)` learns.

    What needs one Gaussian for each weight refuses it by name: take `ensemble[k]`, or `model.member(k)`.

    Attributes:
        members: a `MeanField` whose leaves have a leading axis of members.
    """

    members: MeanField

    def __len__(self) -> int:
        """Count the members."""
        return int(jax.tree.leaves(self.members)[0].shape[0])

    def __getitem__(self, k: Any) -> MeanField:
        """Give member k, which may be traced.

        Raises:
            IndexError: if there is no such member, for a k that is not traced.
        """
        if not isinstance(k, jax.core.Tracer) and not -len(self) <= k < len(self):
            raise IndexError(f"Expected a member of {len(self)}, got {k}.")
        return _member(self, k)

    @property
    def mean(self) -> NoReturn:
        """Refuse: there is one for each member."""
        _several(self, "means")

    @property
    def log_std(self) -> NoReturn:
        """Refuse: there is one for each member."""
        _several(self, "standard deviations")

    @property
    def std(self) -> NoReturn:
        """Refuse: there is one for each member."""
        _several(self, "standard deviations")

    def gaussian(self, params: Tree) -> NoReturn:
        """Refuse: there is one for each member."""
        del params
        _several(self, "Gaussians")

    def _table_shown(self) -> _display.Table:
        title = f"Ensemble of {_display.counted(_length(self), 'member')}, each MeanField of {_sizes(self.members, 1)}"
        return _display.Table(title, _leaf_rows(self.members, 1))


def _length(ensemble: Ensemble) -> int:
    return next((leaf.shape[0] for leaf in jax.tree.leaves(ensemble) if getattr(leaf, "shape", ())), 0)


def _sizes(posterior: MeanField, axes: int = 0) -> str:
    """Say how many weights have a Gaussian, in how many leaves, and how wide they are; of leaves with leading axes."""
    gaussians = jax.tree.leaves(posterior.log_std)
    every = [_display.size(leaf, axes) for leaf in jax.tree.leaves(posterior.mean)]
    random = [_display.size(leaf, axes) for leaf in gaussians]
    dtypes = ", ".join(dict.fromkeys(str(leaf.dtype) for leaf in gaussians if hasattr(leaf, "dtype")))
    weights, leaves = _display.counted(sum(random), "weight"), _display.counted(len(random), "leaf", "leaves")
    fixed = f", and {_display.counted(sum(every) - sum(random), 'point estimate')}" if len(every) > len(random) else ""
    kind = f" ({dtypes})" if dtypes else ""
    return f"{weights} in {leaves}{kind}{fixed}{_display.labelled_span('std', gaussians, _display.exp)}"


def _leaf_rows(posterior: MeanField, axes: int = 0) -> list[tuple[str, str]]:
    """Say of the first few leaves what shape they have, and how their Gaussians lie."""
    stds: list[Any] = jax.tree.leaves(posterior.log_std, is_leaf=is_none)
    leaves = list(zip(names(posterior.mean), jax.tree.leaves(posterior.mean), stds, strict=False))

    def row(mean: Any, log_std: Any) -> str:
        spread = ", a point estimate" if log_std is None else _display.labelled_span("std", log_std, _display.exp)
        return f"{tuple(getattr(mean, 'shape', ()))[axes:]}{_display.labelled_span('mean', mean)}{spread}"

    return _display.first_rows(leaves, lambda leaf: (leaf[0], row(*leaf[1:])))


def _member(ensemble: Ensemble, k: Any) -> MeanField:
    return jax.tree.map(lambda leaf: leaf[k], ensemble.members)


def _several(ensemble: Ensemble, what: str) -> NoReturn:
    got, do = f"an ensemble of {len(ensemble)}, each with its own", "Take one of them, such as model.member(0)."
    _check.fail(_check.InputError, f"one posterior, to ask for its {what}", got, do)


def _own(leaf: Any) -> jax.Array:
    """Return a leaf as an array of JAX: of one of NumPy a copy, whose memory JAX may go on reading."""
    return leaf if isinstance(leaf, jax.Array) else jnp.array(leaf, copy=True)


def check_posterior(posterior: Any) -> None:
    """Refuse what is neither a `MeanField` nor an `Ensemble`."""
    _check.process()
    _check.is_a("posterior", posterior, (MeanField, Ensemble), "Pass for example model.posterior.")
    _check.alive("posterior", posterior)


def check_random(posterior: Any, verb: str) -> None:
    """Refuse what is no posterior, or one without a single Gaussian, in which nothing is random."""
    check_posterior(posterior)
    gaussians = posterior.members.log_std if isinstance(posterior, Ensemble) else posterior.log_std
    if not jax.tree.leaves(gaussians):
        got = "point estimates alone, in which nothing is random"
        do = "Give its weights Gaussians: bbb.bayesianize(apply, posterior.mean, prior=..., likelihood=...)."
        _check.fail(_check.InputError, f"a posterior with at least one Gaussian, for {verb}", got, do)


def _chosen(where: Tree, params: Tree) -> Tree:
    """Spread a prefix tree of bools over the leaves of `params`."""
    try:
        full = broadcast_prefix(where, params)
    except (ValueError, TypeError) as error:
        raise _check.ShapeError(
            "Expected where to be a bool or a tree of bools that is a prefix of the parameters', "
            f"got {jax.tree.structure(where)} for {jax.tree.structure(params)}. Pass where=True for all."
        ) from error
    for leaf in jax.tree.leaves(full):
        if not isinstance(leaf, bool | np.bool_):
            do = "Pass True or False for each."
            _check.fail(_check.InputError, "every leaf of where to be a bool", f"a {type(leaf).__name__}", do)
    return full


def first_member(posterior: "MeanField | Ensemble") -> MeanField:
    """Give a posterior itself, or the first member of several: all have its shapes and dtypes."""
    return posterior[0] if isinstance(posterior, Ensemble) else posterior


def relative_std(params: Tree, delta: float = 0.1, least: float = 1e-4) -> Tree:
    """Give standard deviations in proportion to the weights, delta·|w|, and at least `least`: a tree like `params`.

    For `bayesianize(..., std=relative_std(params))`, with `prior=Normal.around(params)`: both start from pretrained
    weights (MOPED). The paper has no `least`; without it a weight of exactly 0 could never become uncertain.

    Raises:
        InputError: if `delta` or `least` is not positive and finite.

    Source: Krishnan et al. 2020, arXiv 1906.05323, which sets ρ = log(exp(delta·|w|) − 1) for σ = log(1 + exp(ρ)).
    """
    _check.outside("relative_std", params=params, delta=delta, least=least)
    _check.positive("delta", delta)
    _check.positive("least", least)
    _check.alive("params", params)

    def leaf(w: Any) -> Any:
        return np.maximum(delta * np.abs(np.asarray(w)), least).astype(w.dtype) if is_floating(w) else 1.0

    return jax.tree.map(leaf, params)


def per_leaf(name: str, prefix: Tree, params: Tree) -> Tree:
    """Spread numbers, or a prefix tree of numbers, over the leaves of `params`, each in its leaf's dtype.

    Raises:
        ShapeError: if `prefix` is not a prefix of `params`, or a leaf does not broadcast to its weights.
    """
    try:
        full = broadcast_prefix(prefix, params)
    except (ValueError, TypeError) as error:
        raise _check.ShapeError(
            f"Expected {name} to be a number or a tree that is a prefix of the parameters', "
            f"got {jax.tree.structure(prefix)} for {jax.tree.structure(params)}. "
            f"Pass one {name} for all weights, for each layer, or for each leaf."
        ) from error

    def fit(value: Tree, leaf: jax.Array) -> jax.Array:
        value = jnp.asarray(value, leaf.dtype)
        if value.ndim > leaf.ndim or jnp.broadcast_shapes(value.shape, (1,) * leaf.ndim) != tuple(
            n if n == 1 else m for n, m in zip((1,) * (leaf.ndim - value.ndim) + value.shape, leaf.shape, strict=True)
        ):
            _check.fail(
                _check.ShapeError,
                f"every {name} to broadcast to the {leaf.shape} weights below it",
                f"shape {value.shape}",
                "Pass a number or an array of the weights' shape.",
            )
        return value.reshape((1,) * (leaf.ndim - value.ndim) + value.shape)

    return jax.tree.map(fit, full, params)


SMALL = 2**16
"""Leaves of up to so many weights share one random draw, which compiles and runs faster than one for each of them; a
larger leaf has a draw of its own, so that it can be spread over devices."""


def standard_normal(key: jax.Array, posterior: MeanField) -> Tree:
    """Draw ε ~ N(0, 1) for every Gaussian weight: a tree like `posterior.log_std`, each leaf in its own dtype."""
    leaves, structure = jax.tree.flatten(posterior.log_std)
    groups: dict[Any, list[int]] = {}  # leaves that share a draw: the small ones of a dtype, or a large one alone
    for i, leaf in enumerate(leaves):
        groups.setdefault((leaf.dtype, None if leaf.size <= SMALL else i), []).append(i)
    keys = jax.random.split(key, len(groups)) if len(groups) > 1 else [key] * len(groups)
    noise: list[Any] = [None] * len(leaves)
    for k, ((dtype, _), members) in zip(keys, groups.items(), strict=True):
        flat = normals(k, sum(leaves[i].size for i in members), dtype)
        ends = list(itertools.accumulate(leaves[i].size for i in members))
        for i, end in zip(members, ends, strict=True):
            noise[i] = flat[end - leaves[i].size : end].reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, noise)


def reparameterize(posterior: MeanField, noise: Tree) -> Tree:
    """Turn standard normal noise into weights, w = mean + exp(log_std)·ε: a tree like `posterior.mean`.

    A point estimate is its mean.
    """

    def leaf(s: jax.Array | None, m: jax.Array, e: jax.Array) -> jax.Array:
        return m if s is None else m + jnp.exp(s) * e

    return jax.tree.map(leaf, posterior.log_std, posterior.mean, noise, is_leaf=is_none)


def sample(key: jax.Array, posterior: MeanField | Ensemble) -> Tree:
    """Draw one set of weights, a tree like `posterior.mean`; of an ensemble, those of a member chosen at random.

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
        InputError: if `posterior` is none.
    """
    _check.key(key)
    check_posterior(posterior)
    if isinstance(posterior, Ensemble):
        choice, key = jax.random.split(key)
        posterior = _member(posterior, jax.random.randint(choice, (), 0, len(posterior)))
    return reparameterize(posterior, standard_normal(key, posterior))


def log_prob(posterior: MeanField | Ensemble, params: Tree) -> jax.Array:
    """Give log q(params), in nats: a scalar, summed over every weight that has a Gaussian.

    Raises:
        InputError: if `posterior` is none.
        ShapeError: if `params` differs from the posterior in structure or in a shape.
    """
    check_posterior(posterior)
    _check.fits("params", params, "posterior", first_member(posterior).mean)
    if isinstance(posterior, Ensemble):
        each = jax.vmap(lambda member: _log_prob(member, params))(posterior.members)
        return logsumexp(each) - math.log(len(posterior))
    return _log_prob(posterior, params)


def _log_prob(posterior: MeanField, params: Tree) -> jax.Array:
    def leaf(s: jax.Array, m: jax.Array, w: jax.Array) -> jax.Array:
        return -0.5 * jnp.square((w - m) * jnp.exp(-s)) - s - 0.5 * math.log(2 * math.pi)

    return sum_leaves(map_present(leaf, posterior.log_std, posterior.mean, params))
