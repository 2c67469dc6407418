"""Priors over the weights, and the divergence of a posterior from them.

    Normal(mean, std)                    KL in closed form
    Laplace(mean, scale)                 KL in closed form
    EmpiricalNormal(mean, per)           KL in closed form; its standard deviations are learned
    ScaleMixture(weight, std1, std2)     KL by an estimate, which needs a key

Scales and means are a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf). Nats
are units of natural logarithms, summed over every weight that has a Gaussian, never averaged.

Each prior has its methods in one order: the constructor; `fitted`; `kl`, `kl_of_weights`; `log_density`, `log_prob`;
`curvature`; `sample_params`, `centred`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.noise import standard_normal
from bbb.core.tree import Tree, per_leaf, pytree_dataclass, sum_leaves
from bbb.errors import InputError, fail
from bbb.posteriors.mean_field import MeanField

NEAR = 0.5
"""Up to this distance of the logarithms of two standard deviations, the KL that comes of them is computed by a series;
that loses no digits to cancellation, and takes a third of the time of `expm1`, on a CPU 4 % of a training step."""


@pytree_dataclass(data=("mean", "std"), saved=True)
class Normal:
    """Independent Gaussians N(mean, std²).

    Attributes:
        mean: a number for all weights, or a tree that is a prefix of the parameters' (per layer, per leaf).
        std: likewise, above 0.

    Raises:
        InputError: if a mean is not finite, or a std not positive and finite.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> prior = bbb.priors.Normal(0.0, {"weight": 0.5, "bias": 1.0})
        >>> posterior = bbb.MeanField.around(params, std=0.1)
        >>> round(float(bbb.priors.kl(posterior, prior)), 1)
        22.4
    """

    mean: Tree = 0.0
    std: Tree = 1.0

    def __post_init__(self) -> None:
        """Check that the means are finite, and the standard deviations positive and finite."""
        for leaf in jax.tree.leaves(self.mean):
            checks.finite("prior mean", leaf)
        for leaf in jax.tree.leaves(self.std):
            checks.positive("prior std", leaf)

    @classmethod
    def around(cls, params: Tree, std: Tree = 1.0) -> "Normal":
        """Return a prior centred on `params`, such as pretrained weights; with `posterior.relative_std` this is MOPED.

        Raises:
            InputError: if a parameter is not finite, or a std not positive and finite.

        Source: Krishnan et al. 2020, arXiv 1906.05323: a prior N(w, 1) around the maximum-likelihood weights w.
        """
        for leaf in jax.tree.leaves(params):
            checks.finite("params", leaf)
        return cls(jax.tree.map(jnp.asarray, params), std)

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ self) in closed form: nats, a scalar, summed over every weight that has a Gaussian."""
        return sum_leaves(self.kl_of_weights(posterior))

    def kl_of_weights(self, posterior: MeanField) -> Tree:
        """Return the KL of each weight, in nats: a tree like `posterior.log_std`.

        With q = s/s0:  ½·(q² − 1) − log q + ½·((m − m0)/s0)², which is exactly 0 where the two are equal, and accurate
        near there.
        """
        centres = posterior.random_leaves(posterior.mean)
        means = per_leaf("prior mean", self.mean, centres)
        stds = per_leaf("prior std", self.std, centres)

        def leaf(m: jax.Array, log_s: jax.Array, m0: jax.Array, s0: jax.Array) -> jax.Array:
            return _kl_of_std(log_s, s0) + 0.5 * jnp.square((m - m0) / s0)

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

    def scales(self, params: Tree) -> Tree:
        """Return the standard deviation of each weight: a tree like `params`; leaves that are None are left out."""
        stds = per_leaf("prior std", self.std, params)
        return jax.tree.map(lambda w, s: jnp.broadcast_to(s, w.shape), params, stds)

    def curvature(self, params: Tree) -> Tree:
        """Return 1/std² for each weight: a tree like `params`; leaves that are None are left out."""
        stds = per_leaf("prior std", self.std, params)
        return jax.tree.map(lambda w, s: jnp.broadcast_to(1 / jnp.square(s), w.shape), params, stds)

    def sample_params(self, key: jax.Array, params: Tree) -> Tree:
        """Draw weights mean + std·ε: a tree like `params`; leaves that are None are left out."""
        means = per_leaf("prior mean", self.mean, params)
        stds = per_leaf("prior std", self.std, params)
        return jax.tree.map(lambda m, s, e: m + s * e, means, stds, standard_normal(key, params))

    def centred(self, params: Tree) -> "Normal":
        """Return the prior N(params, std²)."""
        return Normal(params, self.std)


@jax.custom_jvp
def _kl_of_std(log_s: jax.Array, s0: jax.Array) -> jax.Array:
    """Compute KL(N(0, s²) ‖ N(0, s0²)) in nats: ½·(q² − 1) − r for q = s/s0 and r = log q, which is Σ_k≥2 2ᵏ⁻¹·rᵏ/k!.

    Its derivative is q² − 1. XLA shares s with the draws of the weights, where automatic differentiation would ask for
    one more exponential of each weight.
    """
    r = log_s - jnp.log(s0)
    terms = 8 if jnp.finfo(r.dtype).bits <= 32 else 17
    series = jnp.zeros_like(r)
    for k in reversed(range(2, 2 + terms)):
        series = series * r + 2 ** (k - 1) / math.factorial(k)
    return jnp.where(jnp.abs(r) < NEAR, jnp.square(r) * series, 0.5 * _relative_excess(log_s, s0) - r)


@_kl_of_std.defjvp
def _kl_of_std_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
    (log_s, s0), (change, change0) = primals, tangents
    return _kl_of_std(log_s, s0), _relative_excess(log_s, s0) * (change - change0 / s0)


def _relative_excess(log_s: jax.Array, s0: jax.Array) -> jax.Array:
    """Compute s²/s0² − 1 as (s − s0)·(s + s0)/s0², which is exactly 0 where the two are equal."""
    s, s0 = jnp.exp(log_s), jnp.exp(jnp.log(s0))  # rounded alike
    return ((s - s0) * (1 / s0)) * ((s + s0) * (1 / s0))


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

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> prior = bbb.priors.fan_in(params)
        >>> jax.tree.map(lambda std: round(float(std), 2), prior.std)
        {'bias': 1.0, 'weight': 0.82}
    """
    gain = checks.one_number("gain", gain)

    def std(leaf: jax.Array) -> float:
        shape: tuple[int, ...] = jnp.shape(leaf)
        if len(shape) < 2 or not math.prod(shape):
            return 1.0
        if not (isinstance(output_axis, int) and -len(shape) <= output_axis < len(shape)):
            do = "Pass 0 for bbb.nn, -1 for flax and haiku."
            fail(InputError, f"output_axis to be an axis of a weight of shape {shape}", f"{output_axis!r}", do)
        return math.sqrt(gain * shape[output_axis] / math.prod(shape))

    return Normal(0.0, jax.tree.map(std, params))
