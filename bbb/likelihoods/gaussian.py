"""Gaussian noise, of one standard deviation or one for each row."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr, ndtri

from bbb import checks, display
from bbb.core.noise import at_least_float32
from bbb.core.special import LINEAR_FROM, eased, eased_slope
from bbb.core.tree import Tree, pytree_dataclass
from bbb.errors import ShapeError, fail
from bbb.likelihoods.elementwise import (
    ElementwiseLikelihood,
    FixedLikelihood,
    as_row_parameter,
    natural_log,
    root_of_diagonal,
)


@pytree_dataclass(data=("log_std",), static=("learn",), saved=True)
class Gaussian(ElementwiseLikelihood):
    """y = outputs + N(0, std²): additive Gaussian noise of one standard deviation.

    Args:
        std: a number, or an array that broadcasts against one row of outputs (one noise per output), in y's units.
        learn: whether `fit` learns it, starting from this value.

    Attributes:
        log_std: the natural logarithm of std, which is the parameter that `fit` trains.

    Raises:
        InputError: if std is not positive and finite, or learn is not a bool.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> noise = bbb.likelihoods.Gaussian(std=0.5, learn=True)
        >>> noise
        Gaussian(std=0.5, learn=True)
        >>> outputs = jnp.array([[0.0], [1.0]])
        >>> noise.variance(outputs).tolist()
        [[0.25], [0.25]]
    """

    log_std: Tree
    learn: bool

    def __init__(self, std: Tree = 1.0, learn: bool = False) -> None:
        checks.positive("noise std", std)
        object.__setattr__(self, "log_std", natural_log(std))
        object.__setattr__(self, "learn", checks.boolean("learn", learn))

    def __repr__(self) -> str:
        return display.call(self, std=display.from_logarithm(self.log_std), learn=self.learn)

    @property
    def std(self) -> jax.Array:
        """The noise's standard deviation, in y's units."""
        return jnp.exp(self.log_std)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log N(y; outputs, std²) in nats, of each element."""
        return _log_normal(self._z(y, outputs), self._log_std(outputs))

    def expected_log_prob(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Return E[log p(y | f)] of each row in nats, (rows,), for outputs f of such means and variances.

        Exact for any distribution of f, since the log density is quadratic in f:
        E[log N(y; f, std²)] = log N(y; E f, std²) − Var f / (2·std²).

        Args:
            y: (rows, ...).
            mean: of the outputs, with the shape of y.
            variance: likewise.

        Raises:
            ShapeError: as `log_prob`.
        """
        lost = self._lost(mean, variance)
        return self.log_prob(y, mean) - jnp.sum(lost, axis=tuple(range(1, lost.ndim)))

    def expected_log_density(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Return E[log p(y | f)] in nats, of each element: what `expected_log_prob` sums."""
        return self.log_density(y, mean) - self._lost(mean, variance)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs], with the shape of the outputs."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs] = std², with the shape of the outputs."""
        return jnp.broadcast_to(jnp.exp(2 * self._log_std(outputs)), outputs.shape)

    def observed(self, mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the variance of y, which is Gaussian too, where the outputs are N(mean, variance)."""
        return mean, variance + self.variance(mean)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return Φ((y − outputs)/std)."""
        return ndtr(self._z(y, outputs))

    def log_cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log Φ((y − outputs)/std), in nats."""
        return log_ndtr(self._z(y, outputs))

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return φ((y − outputs)/std)/std, per unit of y."""
        return _normal(self._z(y, outputs), self._log_std(outputs))

    def quantile(self, p: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return outputs + std·Φ⁻¹(p)."""
        return outputs + jnp.exp(self._log_std(outputs)) * ndtri(p)

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""
        return outputs + jnp.exp(self._log_std(outputs)) * _normal_noise(key, outputs)

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return the diagonal 1/std: the square root of the information 1/std² of y about each output."""
        return root_of_diagonal(jnp.broadcast_to(jnp.exp(-self._log_std(outputs)), outputs.shape))

    def _lost(self, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Return by how much the spread of each output lowers the expected log density, in nats."""
        return variance * jnp.exp(-2 * self._log_std(mean)) / 2

    def _log_std(self, outputs: jax.Array) -> jax.Array:
        return as_row_parameter(self.log_std, outputs, "noise std")

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-self._log_std(outputs))


@pytree_dataclass(data=(), saved=True)
class HeteroscedasticGaussian(FixedLikelihood, ElementwiseLikelihood):
    """y ~ N(mean, std²), where the network predicts both: d means, followed by d logarithms of standard deviations.

    Outputs are (rows, 2·d), y is (rows, d), and `Predictive.f` describes the means. The standard deviation is e^s, with
    s the last d outputs, in y's units, for s from −20 to 20; beyond, it continues as `e^±20·(1 + |s| − 20)^±1`, so that
    it is neither 0 nor infinite for any output of a network.

    Source: Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution, ICNN.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> noise = bbb.likelihoods.HeteroscedasticGaussian()
        >>> outputs = jnp.array([[2.0, 0.0]])  # a mean, and the logarithm of its standard deviation
        >>> noise.mean(outputs).tolist(), noise.std(outputs).tolist()
        ([[2.0]], [[1.0]])
    """

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype of the outputs.

        Raises:
            ShapeError: if the outputs are not (rows, 2·d), or y is not (rows, d).
        """
        _check_pairs(outputs.shape)
        rows, width = (*outputs.shape[:-1], outputs.shape[-1] // 2), outputs.shape[-1]
        if y.shape != rows:
            do = f"Give the network {2 * y.shape[-1]} outputs, or pass y of shape {rows}."
            if y.shape == rows[:-1] and rows[-1] == 1:
                do = "Pass y.reshape(-1, 1)."
            expected = f"y of shape {rows}, for {width} outputs a row: means, then logarithms of standard deviations"
            fail(ShapeError, expected, f"shape {y.shape}", do)
        return y.astype(outputs.dtype)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log N(y; mean, std²) in nats, of each element of y."""
        return _log_normal(self._z(y, outputs), self._log_std(outputs))

    def function(self, outputs: jax.Array) -> jax.Array:
        """Return the means, (..., d) of outputs (..., 2·d)."""
        return self.mean(outputs)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs], (..., d) of outputs (..., 2·d)."""
        _check_pairs(outputs.shape)
        return outputs[..., : outputs.shape[-1] // 2]

    def std(self, outputs: jax.Array) -> jax.Array:
        """Return the standard deviation of the noise, (..., d) of outputs (..., 2·d), in y's units."""
        return jnp.exp(self._log_std(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs], (..., d) of outputs (..., 2·d)."""
        return jnp.exp(2 * self._log_std(outputs))

    def components(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the variance of y, each (..., d) of outputs (..., 2·d)."""
        return self.mean(outputs), self.variance(outputs)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return Φ((y − mean)/std)."""
        return ndtr(self._z(y, outputs))

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return φ((y − mean)/std)/std, per unit of y."""
        return _normal(self._z(y, outputs), self._log_std(outputs))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each mean, (..., d) of outputs (..., 2·d)."""
        mean = self.mean(outputs)
        return mean + self.std(outputs) * _normal_noise(key, mean)

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return the diagonal of 1/std and of √2·∂(log std)/∂s: square roots of the information about mean and s.

        y says nothing of one about the other: the matrix is diagonal, 1/std² and 2·(∂(log std)/∂s)². The Hessian of
        log p itself, of which it is minus the expectation, is not negative definite where y is close to its mean.

        Source: Lehmann & Casella 1998, Theory of Point Estimation, chapter 2: the information of location and scale.
        """
        slope = self._slope(outputs)
        return root_of_diagonal(jnp.concatenate([jnp.exp(-self._log_std(outputs)), math.sqrt(2) * slope], axis=-1))

    def _log_std(self, outputs: jax.Array) -> jax.Array:
        return _eased_both_ways(_second_half(outputs))

    def _slope(self, outputs: jax.Array) -> jax.Array:
        """Return ∂(log std)/∂s."""
        return _eased_both_ways_slope(_second_half(outputs))

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - self.mean(outputs)) * jnp.exp(-self._log_std(outputs))


@pytree_dataclass(data=("log_center", "reach"), saved=True)
class BoundedHeteroscedasticGaussian(HeteroscedasticGaussian):
    """A `HeteroscedasticGaussian` whose noise hardly leaves a factor e^reach of a standard deviation that is given.

    Far from the data, a network's log std goes on in a straight line, to noise that nobody has seen. Here log std = s
    while the distance a of s from the logarithm of the center is at most `reach`; beyond, the distance of log std is
    reach + (reach/20)·log(1 + 20·(a − reach)/reach), to the same side.

    Args:
        center: a standard deviation, or one for each of the d means, in y's units.
        reach: how far log std goes freely to either side, in nats.

    Attributes:
        log_center: the natural logarithm of the center.

    Raises:
        InputError: if a center, or the reach, is not positive and finite.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> noise = bbb.likelihoods.BoundedHeteroscedasticGaussian(center=0.5)
        >>> noise.std(jnp.array([[2.0, 0.0]])).tolist()
        [[1.0]]
    """

    log_center: Tree
    reach: Tree

    def __init__(self, center: Tree = 1.0, reach: float = 4.0) -> None:
        checks.positive("noise center", center)
        object.__setattr__(self, "log_center", natural_log(center))
        object.__setattr__(self, "reach", checks.one_number("reach", reach))

    def __repr__(self) -> str:
        return display.call(self, center=display.from_logarithm(self.log_center), reach=self.reach)

    def _log_std(self, outputs: jax.Array) -> jax.Array:
        center, unit, z = self._in_reach(outputs)
        return center + unit * _eased_both_ways(z)

    def _slope(self, outputs: jax.Array) -> jax.Array:
        return _eased_both_ways_slope(self._in_reach(outputs)[2])

    def _in_reach(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the center, the unit in which the reach is 20, and the distance of s from the center in it."""
        s = _second_half(outputs)
        center = as_row_parameter(self.log_center, s, "noise center")
        unit = as_row_parameter(self.reach, s, "reach") / LINEAR_FROM
        return center, unit, (s - center) / unit


def _second_half(outputs: jax.Array) -> jax.Array:
    """Return s, (..., d) of outputs (..., 2·d)."""
    _check_pairs(outputs.shape)
    return outputs[..., outputs.shape[-1] // 2 :]


def _eased_both_ways(s: jax.Array) -> jax.Array:
    """Return s from −20 to 20; beyond, ±(20 + log(1 + |s| − 20))."""
    return -eased(-eased(s))


def _eased_both_ways_slope(s: jax.Array) -> jax.Array:
    return eased_slope(-eased(s)) * eased_slope(s)


def _log_normal(z: jax.Array, log_std: jax.Array) -> jax.Array:
    return -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2 * math.pi)


def _normal(z: jax.Array, log_std: jax.Array) -> jax.Array:
    """Return φ(z)/std by a product: `exp(_log_normal)` would magnify the rounding of a sum."""
    return jnp.exp(-0.5 * jnp.square(z)) * jnp.exp(-log_std) / math.sqrt(2 * math.pi)


def _normal_noise(key: jax.Array, like: jax.Array) -> jax.Array:
    """Draw one standard normal for each element."""
    return jax.random.normal(key, like.shape, at_least_float32(like.dtype)).astype(like.dtype)


def _check_pairs(shape: tuple[int, ...]) -> None:
    if len(shape) < 2 or shape[-1] < 2 or shape[-1] % 2:
        expected = "outputs of shape (rows, 2·d), a mean and a logarithm of a standard deviation for each output"
        fail(ShapeError, expected, f"shape {shape}", "Give the network twice as many outputs as y has.")
