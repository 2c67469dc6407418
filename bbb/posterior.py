"""Posteriors over the weights of a network: an independent Gaussian for each of them, or a mixture of posteriors.

    MeanField(mean, log_std)       a Gaussian for every weight, all independent
    Ensemble(members)              several posteriors in equal parts

What all of them can do is stated in `bbb._posterior_protocol`. `sample` and `log_prob` are the verbs.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from bbb import _check, _display
from bbb._noise import standard_normal
from bbb._posterior_protocol import Posterior
from bbb._tree import Tree, broadcast_prefix, is_floating, is_none, map_present, names, noun, sum_leaves


class GaussianPosterior(Posterior):
    """A posterior that is one Gaussian over all weights: see the head of `bbb._posterior_protocol`."""

    factorises: ClassVar[bool] = False

    @abc.abstractmethod
    def marginals(self) -> "MeanField":
        """Return the distribution of each weight alone."""

    @abc.abstractmethod
    def total_correlation(self) -> jax.Array | float:
        """Return Σ H(qᵢ) − H(q), in nats: a scalar; 0 where all weights are independent."""

    @abc.abstractmethod
    def entropy(self) -> jax.Array:
        """Return H(q), in nats: a scalar, over the leaves that are random."""

    @abc.abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the Gaussian of the same means whose deviations from them are `factor` times as large."""

    @abc.abstractmethod
    def pruned(self, mask: Tree) -> Self:
        """Return a posterior in which weights are 0: those where `mask`, a tree of bools like the random leaves, is.

        They keep the least std that a posterior may have (`least_log_std`); all others have the distribution they had.
        """


@noun(data=("mean", "log_std"), saved=True)
class MeanField(_display.Displayed, GaussianPosterior):
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
        _check.fits("log_std", filled, "mean", self.mean)
        _check.floating("log_std", self.log_std)

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

    def _table_shown(self) -> _display.Table:
        return _display.Table(f"MeanField of {_sizes(self)}", _leaf_rows(self))


def least_log_std(dtype: Any) -> float:
    """Return the logarithm of the least standard deviation whose square a dtype holds."""
    return math.log(jnp.finfo(dtype).tiny) / 2


@noun(data=("members",), saved=True)
class Ensemble(_display.Displayed, Posterior):
    """A mixture of several posteriors of one kind in equal parts, such as `fit(..., restarts=K)` learns.

    What needs one Gaussian for each weight refuses it by name: take `ensemble[k]`, or `model.member(k)`.

    Attributes:
        members: a posterior, such as a `MeanField`, whose leaves have a leading axis of members.
    """

    is_mixture: ClassVar[bool] = True

    members: Posterior

    def __len__(self) -> int:
        """Return the number of members."""
        return int(jax.tree.leaves(self.members)[0].shape[0])

    def __getitem__(self, k: Any) -> Any:
        """Return member k, which may be traced.

        Raises:
            IndexError: if there is no such member, for a k that is not traced.
        """
        if not isinstance(k, jax.core.Tracer) and not -len(self) <= k < len(self):
            raise IndexError(f"Expected a member of {len(self)}, got {k}.")
        return jax.tree.map(lambda leaf: leaf[k], self.members)

    @property
    def logarithms(self) -> tuple[str, ...]:  # type: ignore[override]
        """The fields of a member that hold logarithms."""
        return self.members.logarithms

    @property
    def components(self) -> int:
        """The number of members."""
        return len(self)

    def component(self, k: Any) -> Posterior:
        """Return member k, which may be traced."""
        return self[k]

    def each(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """Return `function(member, *arrays)` of all members at once, stacked along a leading axis."""
        return jax.vmap(function)(self.members, *arrays)

    @property
    def params(self) -> Tree:
        """The parameters of the first member, whose shapes and dtypes are those of all."""
        return self[0].params

    def noise(self, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Draw which member to ask, and the noise of its draw."""
        choice, key = jax.random.split(key)
        return jax.random.randint(choice, (), 0, len(self)), self[0].noise(key)

    def weights(self, noise: tuple[jax.Array, Tree]) -> Tree:
        """Return the draw of the member that was chosen."""
        k, inner = noise
        return self[k].weights(inner)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return the logarithm of the mean of the members' densities at `params`, in nats: a scalar."""
        each = self.each(lambda member: member.log_prob(params))
        return logsumexp(each) - math.log(len(self))

    def random_leaves(self, params: Tree) -> Tree:
        """Return the leaves of `params`, those of one member, that are random, with None in the others' place."""
        return self.members.random_leaves(params)

    @property
    def is_point(self) -> bool:
        """Whether nothing is random in any member."""
        return self.members.is_point

    def with_params(self, params: Tree) -> NoReturn:
        """Raise: each member has parameters of its own."""
        del params
        _several(self, "means")

    def pruned(self, mask: Tree) -> "Ensemble":
        """Return the ensemble of the pruned members; the leaves of `mask` have a leading axis of members."""
        return Ensemble(self.each(lambda member, of_member: member.pruned(of_member), mask))

    def validate(self) -> None:
        """Raise if members are not of one number, or their parts do not fit each other."""
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(self)}
        one_kind = isinstance(self.members, GaussianPosterior)
        if not one_kind or len(sizes) != 1 or not all(n for size in sizes for n in size):
            raise ValueError("an ensemble without members, or of several numbers of them")
        self[0].validate()

    @property
    def mean(self) -> NoReturn:
        """Raise: there is one for each member."""
        _several(self, "means")

    @property
    def log_std(self) -> NoReturn:
        """Raise: there is one for each member."""
        _several(self, "standard deviations")

    @property
    def std(self) -> NoReturn:
        """Raise: there is one for each member."""
        _several(self, "standard deviations")

    def _table_shown(self) -> _display.Table:
        title = f"Ensemble of {_display.counted(_length(self), 'member')}, each {type(self.members).__name__}"
        if not isinstance(self.members, MeanField):
            return _display.Table(title, [])
        return _display.Table(f"{title} of {_sizes(self.members, 1)}", _leaf_rows(self.members, 1))


def _length(ensemble: "Ensemble") -> int:
    return next((leaf.shape[0] for leaf in jax.tree.leaves(ensemble) if getattr(leaf, "shape", ())), 0)


def _sizes(posterior: MeanField, axes: int = 0) -> str:
    """Return how many weights have a Gaussian, in how many leaves, and their stds; of leaves with leading axes."""
    gaussians = jax.tree.leaves(posterior.log_std)
    every = [_display.size(leaf, axes) for leaf in jax.tree.leaves(posterior.mean)]
    random = [_display.size(leaf, axes) for leaf in gaussians]
    dtypes = ", ".join(dict.fromkeys(str(leaf.dtype) for leaf in gaussians if hasattr(leaf, "dtype")))
    weights, leaves = _display.counted(sum(random), "weight"), _display.counted(len(random), "leaf", "leaves")
    fixed = f", and {_display.counted(sum(every) - sum(random), 'point estimate')}" if len(every) > len(random) else ""
    kind = f" ({dtypes})" if dtypes else ""
    return f"{weights} in {leaves}{kind}{fixed}{_display.labelled_span('std', gaussians, _display.exp)}"


def _leaf_rows(posterior: MeanField, axes: int = 0) -> list[tuple[str, str]]:
    """Return the shape of the first few leaves, and where their Gaussians lie."""
    stds: list[Any] = jax.tree.leaves(posterior.log_std, is_leaf=is_none)
    leaves = list(zip(names(posterior.mean), jax.tree.leaves(posterior.mean), stds, strict=False))

    def row(mean: Tree, log_std: Tree) -> str:
        spread = ", a point estimate" if log_std is None else _display.labelled_span("std", log_std, _display.exp)
        return f"{tuple(getattr(mean, 'shape', ()))[axes:]}{_display.labelled_span('mean', mean)}{spread}"

    return _display.first_rows(leaves, lambda leaf: (leaf[0], row(*leaf[1:])))


def _several(ensemble: Ensemble, what: str) -> NoReturn:
    got, do = f"an ensemble of {len(ensemble)}, each with its own", "Take one of them, such as model.member(0)."
    _check.fail(_check.InputError, f"one posterior, to ask for its {what}", got, do)


def _own(leaf: Tree) -> jax.Array:
    """Return a leaf as an array of JAX: of one of NumPy a copy, whose memory JAX may go on reading."""
    return leaf if isinstance(leaf, jax.Array) else jnp.array(leaf, copy=True)


def check_posterior(posterior: Any) -> None:
    """Raise for what is not a posterior.

    Raises:
        InputError: saying what came.
    """
    _check.process()
    _check.is_a("posterior", posterior, (MeanField, Posterior), "Pass for example model.posterior.")
    _check.alive("posterior", posterior)


def check_random(posterior: Any, verb: str) -> None:
    """Raise for what is not a posterior, or one without a random leaf.

    Raises:
        InputError: naming the verb that needs one.
    """
    check_posterior(posterior)
    if posterior.is_point:
        got = "point estimates alone, in which nothing is random"
        do = "Give its weights Gaussians: bbb.bayesianize(apply, posterior.mean, prior=..., likelihood=...)."
        _check.fail(_check.InputError, f"a posterior with at least one Gaussian, for {verb}", got, do)


def independent(posterior: Any, verb: str) -> "MeanField":
    """Return a posterior as independent Gaussians, which it has to be.

    Raises:
        InputError: for what is not a posterior, a mixture, or one whose weights depend on each other.
    """
    check_posterior(posterior)
    if posterior.is_mixture:
        _several(posterior, "means")
    if not getattr(posterior, "factorises", False):
        do = "Use draws of the weights, such as bbb.weight_sampling(model.apply)."
        got = f"a {type(posterior).__name__}, whose weights depend on each other"
        _check.fail(_check.InputError, f"a posterior of independent weights, such as a MeanField, for {verb}", got, do)
    return posterior.marginals()


def marginals(posterior: Any, verb: str) -> "MeanField":
    """Return the Gaussian of each weight alone; those of a mixture have a leading axis of components.

    Raises:
        InputError: for what is not a Gaussian posterior, or a mixture of such.
    """
    check_posterior(posterior)
    if not isinstance(posterior.component(0), GaussianPosterior):
        got, do = f"a {type(posterior).__name__}", "Pass a MeanField, or another posterior that has marginals()."
        _check.fail(_check.InputError, f"a Gaussian posterior, for {verb}", got, do)
    return posterior.each(lambda component: component.marginals())


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


def relative_std(params: Tree, delta: float = 0.1, least: float = 1e-4) -> Tree:
    """Return standard deviations in proportion to the weights, delta·|w|, and at least `least`: a tree like `params`.

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

    def leaf(w: Tree) -> Tree:
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


def sample(key: jax.Array, posterior: Posterior) -> Tree:
    """Draw one set of weights, a tree like `posterior.params`; of an ensemble, those of a member chosen at random.

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
        InputError: if `posterior` is not a posterior.
    """
    _check.key(key)
    check_posterior(posterior)
    return posterior.weights(posterior.noise(key))


def log_prob(posterior: Posterior, params: Tree) -> jax.Array:
    """Return log q(params), in nats: a scalar, summed over every weight that is random.

    Raises:
        InputError: if `posterior` is not a posterior.
        ShapeError: if `params` differs from the posterior in structure or in a shape.
    """
    check_posterior(posterior)
    _check.fits("params", params, "posterior", posterior.params)
    return posterior.log_prob(params)
