"""Likelihoods of counts."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc, gammaln

from bbb import checks, display
from bbb.core.noise import at_least_float32
from bbb.core.special import eased, eased_slope, log_gamma_ratio, negative_binomial_cdf
from bbb.core.tree import Tree, pytree_dataclass
from bbb.errors import InputError, fail
from bbb.likelihoods.elementwise import (
    ElementwiseLikelihood,
    FixedLikelihood,
    as_row_parameter,
    first_invalid,
    natural_log,
    root_of_diagonal,
)

if TYPE_CHECKING:
    pass


class CountLikelihood(ElementwiseLikelihood):
    """The base of likelihoods of counts: y is a whole number from 0, of an integer or a floating-point dtype."""

    discrete = True

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype of the outputs.

        Raises:
            ShapeError: if y does not have the shape of the outputs.
            InputError: if y holds a negative number or one that is not whole.
        """
        checks.target(y, outputs)
        if (bad := first_invalid(y, lambda array: (array < 0) | (array != np.floor(array)))) is not None:
            do = "Pass counts, or take a likelihood of real numbers, such as Gaussian."
            fail(InputError, "counts in y, whole numbers of at least 0", bad, do)
        return y.astype(outputs.dtype)


FAR = 1e4
"""Standard deviations above the mean beyond which a count has a probability below 1e-8 (Cantelli's inequality)."""


@pytree_dataclass(data=(), saved=True)
class Poisson(FixedLikelihood, CountLikelihood):
    """y ~ Poisson(rate), a count: rate = e^f up to f = 20, and e^20·(1 + f − 20) above, which cannot overflow.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> counts = bbb.likelihoods.Poisson()
        >>> counts.mean(jnp.zeros((1, 1))).tolist()  # e^0
        [[1.0]]
    """

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log P(Y = y) in nats, of each element."""
        return y * eased(outputs) - self.mean(outputs) - gammaln(y + 1)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs], the rate."""
        return jnp.exp(eased(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs], which equals the rate."""
        return self.mean(outputs)

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return the diagonal `|∂rate/∂f|/√rate`: the square root of the information of y about each output f.

        It is √rate up to f = 20, where f is the natural parameter and the information minus the Hessian of log P.
        """
        return root_of_diagonal(jnp.exp(eased(outputs) / 2) * eased_slope(outputs))

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""
        k, rate = jnp.broadcast_arrays(jnp.floor(y), self.mean(outputs))
        beyond = k > rate + FAR * jnp.sqrt(rate)  # where the incomplete gamma function may be NaN
        there = gammaincc(jnp.where(beyond, rate, jnp.maximum(k, 0)) + 1, rate)
        return jnp.where(k < 0, 0, jnp.where(beyond, 1, there))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element: a whole number, in the dtype of the outputs."""
        return jax.random.poisson(key, self.mean(outputs)).astype(outputs.dtype)


@pytree_dataclass(data=("log_dispersion",), static=("learn",), saved=True)
class NegativeBinomial(CountLikelihood):
    """y is a count of mean μ = e^f and variance μ + dispersion·μ²: a Poisson whose rate varies.

    Above f = 20 the mean continues as e^20·(1 + f − 20), which cannot overflow.

    Args:
        dispersion: a number, or an array that broadcasts against one row of outputs; 1/n in the form with n failures.
            As it tends to 0, the distribution becomes a Poisson.
        learn: whether `fit` learns it, starting from this value.

    Attributes:
        log_dispersion: the natural logarithm of dispersion, which is the parameter that `fit` trains.

    Raises:
        InputError: if dispersion is not positive and finite.

    Source: Hilbe 2011, Negative Binomial Regression, the form called NB2.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> counts = bbb.likelihoods.NegativeBinomial(dispersion=0.5)
        >>> counts.variance(jnp.zeros((1, 1))).round(2).tolist()  # μ + dispersion·μ², with μ = 1
        [[1.5]]
    """

    log_dispersion: Tree
    learn: bool

    def __init__(self, dispersion: Tree = 1.0, learn: bool = False) -> None:
        checks.positive("dispersion", dispersion)
        object.__setattr__(self, "log_dispersion", natural_log(dispersion))
        object.__setattr__(self, "learn", checks.boolean("learn", learn))

    def __repr__(self) -> str:
        return display.call(self, dispersion=display.from_logarithm(self.log_dispersion), learn=self.learn)

    @property
    def dispersion(self) -> jax.Array:
        """The excess of the variance over the mean, in units of the squared mean."""
        return jnp.exp(self.log_dispersion)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log P(Y = y) in nats, of each element.

        With n = 1/dispersion and r = log Γ(n + y) − log Γ(n) − y·log n, which is 0 for a Poisson,
        log P = r + y·log μ − log y! − (n + y)·log(1 + μ/n).
        """
        n = self._n(outputs)
        poisson = y * eased(outputs) - gammaln(y + 1)
        return log_gamma_ratio(n, y) + poisson - (n + y) * jax.nn.softplus(self._log_odds(outputs))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs]."""
        return jnp.exp(eased(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs] = μ + dispersion·μ²."""
        mean = self.mean(outputs)
        return mean * (1 + mean * jnp.exp(self._log_dispersion(outputs)))

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""
        k = jnp.floor(y)
        mean = self.mean(outputs)
        beyond = k > mean + FAR * jnp.sqrt(self.variance(outputs))  # where the incomplete beta function may be NaN
        inside = jnp.where(beyond, mean, jnp.maximum(k, 0))
        there = negative_binomial_cdf(inside, self._n(outputs), self._log_odds(outputs))
        return jnp.where(k < 0, 0, jnp.where(beyond, 1, there))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element, a Poisson of a gamma's rate: a whole number, in the dtype of the outputs."""
        of_rate, of_count = jax.random.split(key)
        n = jnp.broadcast_to(self._n(outputs), outputs.shape)
        wide = at_least_float32(outputs.dtype)
        log_gamma = jax.random.loggamma(of_rate, n.astype(wide), outputs.shape, wide).astype(outputs.dtype)
        log_rate = log_gamma + self._log_odds(outputs)
        return jax.random.poisson(of_count, jnp.exp(eased(log_rate))).astype(outputs.dtype)

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return the diagonal `|∂μ/∂f|/√(μ + dispersion·μ²)`: the square root of the information about each output f.

        Of a family that is exponential for a known dispersion, the information about the mean is 1/variance. The
        Hessian of log P itself, of which it is minus the expectation, depends on y.

        Source: Hilbe 2011, Negative Binomial Regression: the expected information of NB2.
        """
        log_n_over_sum = -jax.nn.softplus(self._log_odds(outputs))
        return root_of_diagonal(jnp.exp((eased(outputs) + log_n_over_sum) / 2) * eased_slope(outputs))

    def _log_dispersion(self, outputs: jax.Array) -> jax.Array:
        return as_row_parameter(self.log_dispersion, outputs, "dispersion")

    def _n(self, outputs: jax.Array) -> jax.Array:
        return jnp.exp(-self._log_dispersion(outputs))

    def _log_odds(self, outputs: jax.Array) -> jax.Array:
        """Return log(μ/n)."""
        return eased(outputs) + self._log_dispersion(outputs)
