"""Priors over the weights, and the divergence of a posterior from them.

    Normal(mean, std)                    KL in closed form
    Laplace(mean, scale)                 KL in closed form
    EmpiricalNormal(mean, per)           KL in closed form; its standard deviations are learned
    ScaleMixture(weight, std1, std2)     KL by an estimate, which needs a key

Scales and means are a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf). Nats
are units of natural logarithms, summed over every weight that has a Gaussian, never averaged.

Each prior has its methods in one order: the constructor; `fitted`; `kl`, `kl_of_weights`; `log_density`, `log_prob`.
"""

import math
from typing import Any, NoReturn, Protocol, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from bbb import _check
from bbb._ability import implements
from bbb._posterior_protocol import Posterior
from bbb._tree import Tree, names, noun, sum_leaves
from bbb.posterior import GaussianPosterior, MeanField, check_posterior, per_leaf


class Prior(Protocol):
    """What every verb needs of a prior: a KL divergence in closed form, or else a density to estimate it from.

    | verb                                                 | needs                                                  |
    |------------------------------------------------------|--------------------------------------------------------|
    | `bayesianize`, `fit`, `negative_elbo`, `kl`          | `Prior`: `kl`; or `SupportsLogDensity`: `log_density`  |
    | `plot.weight_density`                                | `SupportsLogProb`: `log_prob`; or `SupportsFitting`    |

    A prior of your own is a frozen dataclass that is registered with JAX, so that compiled programs take its numbers;
    an option that is not a number is `dataclasses.field(metadata={"static": True})`. The KL divergence from this one
    has no closed form:

        @jax.tree_util.register_dataclass
        @dataclasses.dataclass(frozen=True)
        class Cauchy:
            scale: float = 1.0

            def log_density(self, params):
                return jax.tree.map(lambda w: -jnp.log(jnp.pi * self.scale * (1 + (w / self.scale) ** 2)), params)

        model = bbb.bayesianize(apply, params, prior=Cauchy(0.5), likelihood=bbb.likelihood.Gaussian(0.5))

    `save` writes a prior that does not belong to this library as arrays, which `load(path, like=model)` reads.
    """

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ self) in nats, summed over every weight."""


class SupportsLogDensity(Protocol):
    """A prior whose KL divergence is estimated from draws of the weights, by the density of each."""

    def log_density(self, params: Tree) -> Tree:
        """Return log p of each weight, in nats: a tree like `params`."""


class SupportsLogProb(Protocol):
    """A prior with a density of all weights together."""

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params) in nats, a scalar; leaves that are None are left out."""


class SupportsFitting(Protocol):
    """A prior whose scales follow from the posterior, as in empirical Bayes."""

    def fitted(self, posterior: MeanField) -> Prior:
        """Return the prior of the scales that are best for a posterior."""


AnyPrior = Prior | SupportsLogDensity
"""A prior that `bayesianize` takes: with a KL divergence in closed form, or one that is estimated."""


def check_prior(prior: AnyPrior) -> None:
    """Raise if an object is not a prior: without a KL, closed or estimated, or not registered with JAX.

    Raises:
        InputError: naming what it lacks.
    """
    _check.has("a prior", prior, ("log_density" if needs_estimate(prior) else "kl",), "bbb.prior.Normal(0.0, 1.0)")
    _check.registered("a prior", prior)


def needs_estimate(prior: object) -> TypeGuard[SupportsLogDensity]:
    """Return whether a prior has a density to estimate its KL from; a likelihood, which has one too, is not a prior."""
    return implements(prior, SupportsLogDensity) and not hasattr(prior, "as_target")


def raise_without_key() -> NoReturn:
    """Raise because a KL without a closed form needs a key.

    Raises:
        InputError: always.
    """
    do = "Pass bbb.kl(posterior, prior, key=jax.random.key(0), draws=1000)."
    _check.fail(_check.InputError, "a key, to estimate a KL that has no closed form", "none", do)


@noun(data=("mean", "std"), saved=True)
class Normal:
    """Independent Gaussians N(mean, std²).

    Attributes:
        mean: a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf).
        std: likewise, above 0.

    Raises:
        InputError: if a mean is not finite, or a std not positive and finite.
    """

    mean: Tree = 0.0
    std: Tree = 1.0

    def __post_init__(self) -> None:
        """Check that the means are finite, and the standard deviations positive and finite."""
        for leaf in jax.tree.leaves(self.mean):
            _check.finite("prior mean", leaf)
        for leaf in jax.tree.leaves(self.std):
            _check.positive("prior std", leaf)

    @classmethod
    def around(cls, params: Tree, std: Tree = 1.0) -> "Normal":
        """Return a prior centred on `params`, such as pretrained weights; with `posterior.relative_std` this is MOPED.

        Raises:
            InputError: if a parameter is not finite, or a std not positive and finite.

        Source: Krishnan et al. 2020, arXiv 1906.05323: a prior N(w, 1) around the maximum-likelihood weights w.
        """
        for leaf in jax.tree.leaves(params):
            _check.finite("params", leaf)
        return cls(jax.tree.map(jnp.asarray, params), std)

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ self) in closed form: nats, a scalar, summed over every weight that has a Gaussian."""
        return sum_leaves(self.kl_of_weights(posterior))

    def kl_of_weights(self, posterior: MeanField) -> Tree:
        """Return the KL of each weight, in nats: a tree like `posterior.log_std`.

        With r = log s − log s0:  ½·expm1(2r) − r + ½·((m − m0)/s0)², which is exactly 0 where the two are equal, and
        accurate near there.
        """
        centres = posterior.random_leaves(posterior.mean)
        means = per_leaf("prior mean", self.mean, centres)
        stds = per_leaf("prior std", self.std, centres)

        def leaf(m: jax.Array, log_s: jax.Array, m0: jax.Array, s0: jax.Array) -> jax.Array:
            r = log_s - jnp.log(s0)
            return 0.5 * jnp.expm1(2 * r) - r + 0.5 * jnp.square((m - m0) / s0)

        return jax.tree.map(leaf, centres, posterior.log_std, means, stds)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params), in nats: a scalar, summed over every weight.

        Leaves that are None are left out: `posterior.random_leaves(params)` leaves out the point estimates.
        """
        means = per_leaf("prior mean", self.mean, params)
        stds = per_leaf("prior std", self.std, params)

        def leaf(w: jax.Array, m0: jax.Array, s0: jax.Array) -> jax.Array:
            return -0.5 * jnp.square((w - m0) / s0) - jnp.log(s0) - 0.5 * math.log(2 * math.pi)

        return sum_leaves(jax.tree.map(leaf, params, means, stds))


def fan_in(params: Tree, gain: float = 2.0, output_axis: int = 0) -> Normal:
    """Return the prior N(0, gain/fan-in) on every weight of two axes or more, and N(0, 1) on everything else.

    A network of rectified units with weights of variance 2/fan-in keeps the variance of its inputs from layer to layer.

    Args:
        params: the parameters, of which only the shapes are used.
        gain: the variance of a weight times its fan-in, the number of inputs that one output sees.
        output_axis: the axis of outputs: 0 as in `bbb.nn`, whose weights are (out, in, ...); −1 as in flax and haiku.

    Raises:
        InputError: if `gain` is not positive and finite, or a weight has no such axis.

    Source: He et al. 2015, arXiv 1502.01852, eq. 10, for weights at the start of training.
    """
    gain = _check.one_number("gain", gain)

    def std(leaf: jax.Array) -> float:
        shape: tuple[int, ...] = jnp.shape(leaf)
        if len(shape) < 2 or not math.prod(shape):
            return 1.0
        if not (isinstance(output_axis, int) and -len(shape) <= output_axis < len(shape)):
            do = "Pass 0 for bbb.nn, -1 for flax and haiku."
            _check.fail(
                _check.InputError, f"output_axis to be an axis of a weight of shape {shape}", f"{output_axis!r}", do
            )
        return math.sqrt(gain * shape[output_axis] / math.prod(shape))

    return Normal(0.0, jax.tree.map(std, params))


@noun(data=("mean", "scale"), saved=True)
class Laplace:
    """Independent Laplace distributions, of density exp(−|w − mean|/scale)/(2·scale).

    Attributes:
        mean: a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf).
        scale: likewise, above 0; the standard deviation is √2·scale.

    Raises:
        InputError: if a mean is not finite, or a scale not positive and finite.
    """

    mean: Tree = 0.0
    scale: Tree = 1.0

    def __post_init__(self) -> None:
        """Check that the means are finite, and the scales positive and finite."""
        for leaf in jax.tree.leaves(self.mean):
            _check.finite("prior mean", leaf)
        for leaf in jax.tree.leaves(self.scale):
            _check.positive("prior scale", leaf)

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ self) in closed form: nats, a scalar."""
        return sum_leaves(self.kl_of_weights(posterior))

    def kl_of_weights(self, posterior: MeanField) -> Tree:
        """Return the KL of each weight, in nats: a tree like `posterior.log_std`.

        With d = m − mean, the mean of |w − mean| is s·√(2/π)·exp(−d²/(2s²)) + d·erf(d/(s·√2)), and
        KL = E|w − mean|/scale + log(2·scale) − log s − ½·log(2πe), at least 0.048 nats for each weight.
        """
        centres = posterior.random_leaves(posterior.mean)
        means = per_leaf("prior mean", self.mean, centres)
        scales = per_leaf("prior scale", self.scale, centres)

        def leaf(m: jax.Array, log_s: jax.Array, m0: jax.Array, b: jax.Array) -> jax.Array:
            d, s = m - m0, jnp.exp(log_s)
            z = d / (s * math.sqrt(2))
            distance = s * math.sqrt(2 / math.pi) * jnp.exp(-jnp.square(z)) + d * erf(z)
            return distance / b + jnp.log(2 * b) - log_s - 0.5 * math.log(2 * math.pi * math.e)

        return jax.tree.map(leaf, centres, posterior.log_std, means, scales)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params), in nats: a scalar, summed over every weight; leaves that are None are left out."""
        means = per_leaf("prior mean", self.mean, params)
        scales = per_leaf("prior scale", self.scale, params)
        return sum_leaves(jax.tree.map(lambda w, m, b: -jnp.abs(w - m) / b - jnp.log(2 * b), params, means, scales))


PER = ("leaf", "layer", "network")
"""The groups of weights that may share a standard deviation of `EmpiricalNormal`."""


@noun(data=("mean",), static=("per",), saved=True, choices={"per": PER})
class EmpiricalNormal:
    """Independent Gaussians N(mean, std²) whose standard deviations are learned: empirical Bayes.

    Each group of weights has the std that maximises the evidence lower bound, given the posterior. This has a closed
    form, std² = the average over the group of (m − mean)² + s², so that it holds exactly at every step of training,
    needs neither a starting value nor a learning rate, and is not stored: `fitted(posterior)` returns it. The KL is
    then Σ log(std/s), which does not pull a whole group towards `mean`: groups that are not needed do not vanish.

    Attributes:
        mean: a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf).
        per: the weights that share a standard deviation: "leaf", one array; "layer", the arrays of one parent in the
            tree, such as a weight and its bias; or "network", all.

    Raises:
        InputError: if a mean is not finite, or `per` is another word.

    Source: Wu et al. 2019, arXiv 1810.03958, §4, here without a hyperprior on the variance.
    """

    mean: Tree = 0.0
    per: str = "leaf"

    def __post_init__(self) -> None:
        """Check that the means are finite, and that the group is a known one."""
        for leaf in jax.tree.leaves(self.mean):
            _check.finite("prior mean", leaf)
        if not _check.is_word(self.per, PER):
            _check.fail(
                _check.InputError, 'per to be "leaf", "layer" or "network"', repr(self.per), 'Pass per="layer".'
            )

    def fitted(self, posterior: MeanField) -> Normal:
        """Return the prior `Normal(mean, std)` of the standard deviations that are best for a posterior."""
        centres = posterior.random_leaves(posterior.mean)
        means = per_leaf("prior mean", self.mean, centres)
        squares = jax.tree.map(
            lambda m, log_s, m0: jnp.square(m - m0) + jnp.exp(2 * log_s), centres, posterior.log_std, means
        )
        leaves, structure = jax.tree.flatten(squares)
        groups = [_group(path, self.per) for path in names(squares)]
        stds = {
            group: _root_mean([leaf for leaf, g in zip(leaves, groups, strict=True) if g == group])
            for group in dict.fromkeys(groups)
        }
        each = [stds[group].astype(leaf.dtype) for leaf, group in zip(leaves, groups, strict=True)]
        fitted: Normal = object.__new__(Normal)  # of arrays that may be traced, and are what they should be
        object.__setattr__(fitted, "mean", means)
        object.__setattr__(fitted, "std", jax.tree.unflatten(structure, each))
        return fitted

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ fitted(posterior)) in closed form: nats, a scalar, the least over all stds."""
        return self.fitted(posterior).kl(posterior)

    def kl_of_weights(self, posterior: MeanField) -> Tree:
        """Return the KL of each weight from `fitted(posterior)`, in nats: a tree like `posterior.log_std`."""
        return self.fitted(posterior).kl_of_weights(posterior)


def _group(path: str, per: str) -> str:
    return {"leaf": path, "layer": path.rpartition("/")[0], "network": ""}[per]


def _root_mean(squares: list[jax.Array]) -> jax.Array:
    return jnp.sqrt(sum_leaves(squares) / sum(leaf.size for leaf in squares))


@noun(data=("weight", "std1", "std2"), saved=True)
class ScaleMixture:
    """Independent mixtures of two Gaussians, weight·N(0, std1²) + (1 − weight)·N(0, std2²).

    The wide component allows a few weights to be large, and the narrow one shrinks the others to 0. The KL of a
    Gaussian from it has no closed form: `fit` and `negative_elbo` estimate it from a few draws, and `bbb.kl` needs a
    key.

    Attributes:
        weight: of the first component, inside (0, 1): a number for all weights, or a tree that is a prefix of the
            parameters' (per layer, per leaf).
        std1: likewise, the first standard deviation, above 0.
        std2: likewise, the second.

    Raises:
        InputError: if a weight is not inside (0, 1), or a std not positive and finite.

    Source: Blundell et al. 2015, arXiv 1505.05424, eq. 7, where −log std1 is 0, 1 or 2 and −log std2 is 6, 7 or 8.
    """

    weight: Tree = 0.5
    std1: Tree = 1.0
    std2: Tree = math.exp(-6)

    def __post_init__(self) -> None:
        """Check that the weights are inside (0, 1), and the standard deviations positive and finite."""
        for leaf in jax.tree.leaves(self.weight):
            _check.positive("prior weight", leaf)
            if not isinstance(leaf, jax.core.Tracer) and (np.asarray(leaf) >= 1).any():
                do = "Pass the weight of the first component; the second has the rest."
                _check.fail(_check.InputError, "prior weight to be inside (0, 1)", f"{np.max(leaf)}", do)
        for leaf in jax.tree.leaves((self.std1, self.std2)):
            _check.positive("prior std", leaf)

    def kl(self, posterior: MeanField) -> NoReturn:
        """Raise: it has no closed form.

        Raises:
            InputError: always.
        """
        del posterior
        raise_without_key()

    def log_density(self, params: Tree) -> Tree:
        """Return log p of each weight, in nats: a tree like `params`."""
        given = {"weight": self.weight, "std1": self.std1, "std2": self.std2}
        parts = [per_leaf(f"prior {name}", value, params) for name, value in given.items()]

        def leaf(w: jax.Array, pi: jax.Array, s1: jax.Array, s2: jax.Array) -> jax.Array:
            one = jnp.log(pi) - jnp.log(s1) - 0.5 * jnp.square(w / s1)
            two = jnp.log1p(-pi) - jnp.log(s2) - 0.5 * jnp.square(w / s2)
            return jnp.logaddexp(one, two) - 0.5 * math.log(2 * math.pi)

        return jax.tree.map(leaf, params, *parts)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params), in nats: a scalar, summed over every weight; leaves that are None are left out."""
        return sum_leaves(self.log_density(params))


# The divergence


KL_DRAWS = 2
"""Draws a step that a KL is estimated from, at least: with two, the standard error can be estimated as well."""


@noun(data=("prior", "noise"))
class WithNoise:
    """A prior whose KL is estimated, with the noise to estimate it from: to the objective, a prior like any other.

    Of KL = E[log q(w) − log p(w)], the first part is known; only the second is averaged over the draws, with the
    gradient of the weights w = m + s·ε. Independent weights are enough for it, since log p is a sum over weights.

    Attributes:
        prior: one that has `log_density`.
        noise: standard normal, a tree like the `log_std` of the posterior's marginals with a leading axis of draws.
    """

    prior: Any
    noise: Tree

    def kl(self, posterior: MeanField) -> jax.Array:
        """Estimate KL(posterior ‖ prior): nats, a scalar, without bias."""
        log_q = sum_leaves(jax.tree.map(lambda s: -s - 0.5 * math.log(2 * math.pi * math.e), posterior.log_std))
        return log_q - sum_leaves(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), self._log_densities(posterior)))

    def kl_std_error(self, posterior: MeanField) -> jax.Array:
        """Estimate the standard error of `kl`, in nats: weights are independent, so that their variances add."""
        draws = jax.tree.leaves(self.noise)[0].shape[0]
        variances = jax.tree.map(lambda leaf: jnp.var(leaf, axis=0, ddof=1), self._log_densities(posterior))
        return jnp.sqrt(sum_leaves(variances) / draws)

    def _log_densities(self, posterior: MeanField) -> Tree:
        return jax.vmap(lambda e: self.prior.log_density(posterior.random_leaves(posterior.weights(e))))(self.noise)


def with_noise(key: jax.Array, prior: Any, posterior: GaussianPosterior, draws: int) -> Any:
    """Return a prior whose KL is estimated with the noise to do so, and any other prior as it is."""
    if hasattr(prior, "log_density"):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(draws, dtype=jnp.uint32))
        return WithNoise(prior, jax.vmap(posterior.marginals().noise)(keys))
    return prior


def kl(posterior: Posterior, prior: Prior, *, key: jax.Array | None = None, draws: int = 1000) -> jax.Array:
    """Return the Kullback-Leibler divergence KL(posterior ‖ prior): nats, a scalar, summed, never averaged.

    It is not symmetric, and grows without bound as the prior's std goes to 0. Priors are independent for each weight,
    so that it is the divergence of the marginals from the prior, and the posterior's total correlation:
    KL(q ‖ p) = Σ KL(qᵢ ‖ pᵢ) + Σ H(qᵢ) − H(q).

    Args:
        posterior: a `MeanField` or another Gaussian posterior.
        prior: what it is compared with.
        key: one typed JAX key, for a prior whose KL has no closed form; others do not look at it.
        draws: how many draws such a KL is estimated from.

    Raises:
        ShapeError: if the prior's trees are not a prefix of the posterior's.
        InputError: if the prior's KL has no closed form, and there is no key; for an ensemble, or another posterior
            without marginals; or for what is not a posterior or not a prior.
    """
    check_posterior(posterior)
    is_estimated = key is not None and needs_estimate(prior)
    if key is None and needs_estimate(prior) and not hasattr(prior, "kl"):
        raise_without_key()
    _check.has("a prior", prior, ("log_density" if is_estimated else "kl",), "bbb.prior.Normal(0.0, 1.0)")
    if posterior.is_mixture:
        do = "Take that of a member, kl(model.member(0).posterior, prior): their mean is an upper bound."
        _check.fail(_check.InputError, "one mean-field posterior", f"an ensemble of {posterior.components}", do)
    if not isinstance(posterior, GaussianPosterior):
        do = "Pass a MeanField, or another posterior that has marginals() and total_correlation()."
        _check.fail(_check.InputError, "a Gaussian posterior, for its KL", f"a {type(posterior).__name__}", do)
    if key is not None:
        _check.key(key)
        prior = with_noise(key, prior, posterior, _check.positive_integer("draws", draws))
    return prior.kl(posterior.marginals()) + posterior.total_correlation()


def check_fits(prior: Any, posterior: GaussianPosterior) -> None:
    """Raise for a prior whose trees do not fit a posterior, or whose KL is not a number; nothing is computed.

    Raises:
        ShapeError: if they are not a prefix of the posterior's, or the KL has axes.
        InputError: if the KL is not of floating-point numbers.
    """
    nats = jax.eval_shape(lambda q: with_noise(jax.random.key(0), prior, q, 1).kl(q), posterior.marginals())
    if not (hasattr(nats, "shape") and jnp.issubdtype(nats.dtype, jnp.floating)):
        got = f"dtype {nats.dtype}" if hasattr(nats, "dtype") else f"a {type(nats).__name__}"
        do = "Let kl(posterior) return nats, summed over every weight."
        _check.fail(_check.InputError, "a prior whose KL is a floating-point number", got, do)
    if nats.shape:
        do = "Sum them over every weight."
        _check.fail(_check.ShapeError, "a prior whose KL is one number of nats", f"shape {nats.shape}", do)
