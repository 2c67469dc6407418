"""Likelihoods: the distribution of an observation y, given the outputs of the network.

Outputs and y have a leading row axis, followed by one axis or more of outputs: those of one row are independent given
the outputs. All methods but `log_prob` work element by element, under any leading axes, such as draws. Nats are units
of natural logarithms.

    Gaussian(std)                  y real        outputs: the mean
    HeteroscedasticGaussian()      y real        outputs: the means, then the logarithms of the standard deviations
    StudentT(scale, df)            y real        outputs: the location
    Poisson()                      y counts      outputs: the logarithm of the rate
    NegativeBinomial(dispersion)   y counts      outputs: the logarithm of the mean
    Bernoulli()                    y 0 or 1      outputs: the logit of 1
    Categorical()                  y a class     outputs: a logit for each class

Each has its methods in one order: the constructor and the parameters; `as_target`, `check_training`; `log_density`,
`log_prob`, `expected_log_prob`; `function`, `mean`, `variance`, `observed`, `components`, `probabilities`; `cdf`,
`density`, `quantile`, `sample`. `bbb.mixture` applies them to many draws of the outputs at once.
"""

import math
from collections.abc import Callable
from typing import Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc, gammaln, log_ndtr, ndtr, ndtri

from bbb import _check, _display
from bbb._ability import implements, missing_members
from bbb._elementwise import (
    ElementwiseLikelihood,
    FixedLikelihood,
    as_row_parameter,
    first_invalid,
    natural_log,
)
from bbb._noise import at_least_float32
from bbb._special import eased, log_gamma_ratio, log_student_t, negative_binomial_cdf, student_t_cdf, student_t_tail
from bbb._tree import Tree, noun


class Likelihood(Protocol):
    """What training needs of a likelihood; every other ability is a protocol of its own, and optional.

    | verb                                                     | needs                                              |
    |----------------------------------------------------------|----------------------------------------------------|
    | `bayesianize`, `fit`, `negative_elbo`                    | `Likelihood`: `learn`, `as_target`, `log_prob`     |
    | `predict`, `export`                                      | `SupportsFunction`: `function`; and                |
    |                                                          | `SupportsMoments`: `mean`, `variance`; or          |
    |                                                          | `SupportsClasses`: `probabilities`                 |
    | quantiles and intervals of y, `diagnose`                 | `SupportsQuantiles`: `cdf`, `density`, `discrete`, |
    |                                                          | besides `mean` and `variance`                      |
    | `to_datatree`, `mixture.sample_y`                        | `SupportsSampling`: `sample`                       |
    | `predict` without draws, or with those of all layers     | `SupportsGaussianNoise`: `observed`                |
    | but the last                                             |                                                    |
    | `exact_elbo_cost`                                        | `SupportsExpectedLogProb`: `expected_log_prob`     |
    | `draws`, `prune`, `save`, and `load(path, like=model)`   | nothing more                                       |

    All methods but `log_prob` work elementwise, under any leading axes, such as draws. A likelihood that has
    `probabilities`, over a last axis of classes, is summarised by them. If `discrete` is True, y is a whole number from
    0, and `density` is the probability of y.

    A likelihood of your own is a frozen dataclass that is registered with JAX, so that compiled programs take its
    numbers; an option that is not a number, such as `learn`, is static:

        @jax.tree_util.register_dataclass
        @dataclasses.dataclass(frozen=True)
        class LaplaceNoise:
            scale: float = 1.0
            learn: bool = dataclasses.field(default=False, metadata={"static": True})

            def as_target(self, y, outputs):
                return y.astype(outputs.dtype)

            def log_prob(self, y, outputs):
                nats = -jnp.abs(y - outputs) / self.scale - jnp.log(2 * self.scale)
                return nats.sum(axis=tuple(range(1, nats.ndim)))

            def function(self, outputs):
                return outputs

            def mean(self, outputs):
                return outputs

            def variance(self, outputs):
                return jnp.full_like(outputs, 2 * self.scale**2)

        model = bbb.bayesianize(apply, params, prior=bbb.prior.Normal(0.0, 1.0), likelihood=LaplaceNoise(0.5))
    """

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the parameters of the likelihood itself."""

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype that `log_prob` takes; raise if it is not an observation of such outputs."""

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | outputs) in nats, of each row: (rows,)."""


class SupportsFunction(Protocol):
    """A likelihood that knows which of the outputs are the function."""

    def function(self, outputs: jax.Array) -> jax.Array:
        """Return the part of the outputs that is the function itself, which `Predictive.f` describes."""


class SupportsMoments(Protocol):
    """A likelihood of numbers that have a mean and a variance."""

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs]."""

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs], the aleatoric variance."""


class NumericLikelihood(SupportsFunction, SupportsMoments, Protocol):
    """A likelihood of numbers whose predictive distribution has moments."""


class SupportsQuantiles(SupportsMoments, Protocol):
    """A likelihood of numbers whose mixture over draws has quantiles, which are searched for by its cdf."""

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return the density of y, the derivative of `cdf`; or, of a discrete y, its probability."""

    @property
    def discrete(self) -> bool:
        """Whether y is a whole number from 0."""


class SupportsClasses(Protocol):
    """A likelihood of classes."""

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Return the probability of each class, over a last axis of classes."""


class SupportsSampling(Protocol):
    """A likelihood that can draw observations."""

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""


class SupportsGaussianNoise(Protocol):
    """A likelihood that adds Gaussian noise to the outputs, so that Gaussian outputs have a Gaussian y."""

    def observed(self, mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the variance of y, where the outputs are N(mean, variance)."""


class SupportsExpectedLogProb(Protocol):
    """A likelihood whose expected log-probability depends on the mean and the variance of the outputs alone."""

    def expected_log_prob(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Return E[log p(y | f)] of each row in nats, (rows,), for outputs f of such means and variances."""


class SupportsTrainingCheck(Protocol):
    """A likelihood that some observations cannot be learned from."""

    def check_training(self, y: jax.Array) -> None:
        """Raise if nothing can be learned from y, such as from labels of one class."""


class SupportsTabulatedCDF(Protocol):
    """A likelihood whose cdf is slow, and may be read off a table instead."""

    def tabulated_cdf(self, outputs: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Return a function like `cdf` for very many elements."""


class SupportsGaussianComponents(Protocol):
    """A likelihood that is Gaussian given the outputs, so that a mixture of draws may keep means and variances."""

    def components(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the variance of y given each element of the outputs."""


class SupportsDraws(Protocol):
    """A likelihood of draws that do not share their parameters, such as those of an ensemble."""

    def log_prob_of_draws(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | draw) in nats of each draw and row, (draws, rows), for y (rows, ...)."""


def check_likelihood(likelihood: Likelihood) -> None:
    """Raise if an object is not a likelihood: if it lacks what training needs, or is not registered with JAX.

    Raises:
        InputError: naming what it lacks.
    """
    example = "bbb.likelihood.Gaussian(0.5, learn=True)"
    methods = ("log_prob", "as_target")
    if isinstance(likelihood, type) or not any(hasattr(likelihood, name) for name in methods):
        _check.has("a likelihood", likelihood, methods, example)
    _needs(likelihood, "fit", Likelihood)
    _check.has("a likelihood", likelihood, methods, example)
    _check.registered("a likelihood", likelihood)
    _check.boolean("learn of a likelihood", likelihood.learn)


def check_predicts(likelihood: object, verb: str, quantiles: bool) -> None:
    """Raise if a likelihood lacks what a summary of y needs, or its quantiles.

    Raises:
        InputError: naming what it lacks.
    """
    if implements(likelihood, SupportsClasses):
        _needs(likelihood, verb, SupportsFunction)
        return
    _needs(likelihood, verb, SupportsFunction, SupportsMoments)
    if quantiles:
        check_quantiles(likelihood, f"{verb} with quantiles or intervals of y")


def check_quantiles(likelihood: object, verb: str) -> SupportsQuantiles:
    """Return a likelihood that has what a search for quantiles of y needs.

    Raises:
        InputError: naming what it lacks.
    """
    _needs(likelihood, verb, SupportsQuantiles)
    return cast(SupportsQuantiles, likelihood)


def check_samples(likelihood: object, verb: str) -> SupportsSampling:
    """Return a likelihood that can draw observations.

    Raises:
        InputError: naming what it lacks.
    """
    _needs(likelihood, verb, SupportsSampling)
    return cast(SupportsSampling, likelihood)


def _needs(likelihood: object, verb: str, *abilities: type) -> None:
    missing = [f"`{name}`" for name in missing_members(likelihood, *abilities)]
    if missing:
        expected = f"a likelihood with {' and '.join(missing)}, which {verb} needs"
        do = "Add what is missing, as bbb.likelihood.Likelihood describes it."
        _check.fail(_check.InputError, expected, f"a {type(likelihood).__name__} without", do)


def observed(likelihood: Likelihood, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
    """Return y as `likelihood.log_prob` takes it, after a check that this returns one number for each row.

    Raises:
        ShapeError, InputError: as `as_target` of the likelihood, or for a `log_prob` that is not (rows,).
    """
    target = likelihood.as_target(y, outputs)
    if type(likelihood).__module__.startswith("bbb."):  # whose `log_prob` need not be traced once more
        return target
    if not hasattr(target, "dtype") or jnp.shape(target)[:1] != y.shape[:1]:
        got = f"shape {target.shape}" if hasattr(target, "shape") else f"a {type(target).__name__}"
        _check.fail(_check.ShapeError, "as_target to return the rows of y", got, "Return y in the dtype of log_prob's.")
    nats = jax.eval_shape(likelihood.log_prob, target, outputs)
    shape = getattr(nats, "shape", type(nats).__name__)
    if shape != y.shape[:1]:
        do = "Sum over the outputs of a row: nats.sum(axis=tuple(range(1, nats.ndim)))."
        _check.fail(_check.ShapeError, f"log_prob of shape {y.shape[:1]}, a number for each row", f"{shape}", do)
    return target


def log_prob_of_draws(likelihood: Likelihood, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return log p(y | draw) in nats of each draw and row, (draws, rows), for outputs (draws, rows, ...)."""
    if implements(likelihood, SupportsDraws):
        return likelihood.log_prob_of_draws(y, outputs)
    return jax.vmap(likelihood.log_prob, in_axes=(None, 0))(y, outputs)


def is_discrete(likelihood: object) -> bool:
    """Return whether y is a count, or 0 or 1: False where the likelihood does not say."""
    return bool(getattr(likelihood, "discrete", False))


def noise_std(likelihood: object) -> jax.Array | None:
    """Return the standard deviation of the noise; None if there is none, or it depends on the outputs."""
    std = getattr(likelihood, "std", None)
    return None if callable(std) else std


class CountLikelihood(ElementwiseLikelihood):
    """The base of likelihoods of counts: y is a whole number from 0, of an integer or a floating-point dtype."""

    discrete = True

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype of the outputs.

        Raises:
            ShapeError: if y does not have the shape of the outputs.
            InputError: if y holds a negative number or one that is not whole.
        """
        _check.target(y, outputs)
        if (bad := first_invalid(y, lambda array: (array < 0) | (array != np.floor(array)))) is not None:
            do = "Pass counts, or take a likelihood of real numbers, such as Gaussian."
            _check.fail(_check.InputError, "counts in y, whole numbers of at least 0", bad, do)
        return y.astype(outputs.dtype)


@noun(data=("log_std",), static=("learn",), saved=True)
class Gaussian(ElementwiseLikelihood):
    """y = outputs + N(0, std²): additive Gaussian noise of one standard deviation.

    Args:
        std: a number, or an array that broadcasts against one row of outputs (one noise per output), in y's units.
        learn: whether `fit` learns it, starting from this value.

    Attributes:
        log_std: the natural logarithm of std, which is the parameter that `fit` trains.

    Raises:
        InputError: if std is not positive and finite, or learn is not a bool.
    """

    log_std: Tree
    learn: bool

    def __init__(self, std: Tree = 1.0, learn: bool = False) -> None:
        _check.positive("noise std", std)
        object.__setattr__(self, "log_std", natural_log(std))
        object.__setattr__(self, "learn", _check.boolean("learn", learn))

    def __repr__(self) -> str:
        return _display.call(self, std=_display.from_logarithm(self.log_std), learn=self.learn)

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
        lost = variance * jnp.exp(-2 * self._log_std(mean)) / 2
        return self.log_prob(y, mean) - jnp.sum(lost, axis=tuple(range(1, lost.ndim)))

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

    def _log_std(self, outputs: jax.Array) -> jax.Array:
        return as_row_parameter(self.log_std, outputs, "noise std")

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-self._log_std(outputs))


@noun(data=(), saved=True)
class HeteroscedasticGaussian(FixedLikelihood, ElementwiseLikelihood):
    """y ~ N(mean, std²), where the network predicts both: d means, followed by d logarithms of standard deviations.

    Outputs are (rows, 2·d), y is (rows, d), and `Predictive.f` describes the means. The standard deviation is e^s, with
    s the last d outputs, in y's units, for s from −20 to 20; beyond, it continues as e^±20·(1 + |s| − 20)^±1, so that
    it is neither 0 nor infinite for any output of a network.

    Source: Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution, ICNN.
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
            _check.fail(_check.ShapeError, expected, f"shape {y.shape}", do)
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

    def _log_std(self, outputs: jax.Array) -> jax.Array:
        _check_pairs(outputs.shape)
        return -eased(-eased(outputs[..., outputs.shape[-1] // 2 :]))

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - self.mean(outputs)) * jnp.exp(-self._log_std(outputs))


@noun(data=("log_scale", "log_df_above_2"), static=("learn", "learn_df"), saved=True)
class StudentT(ElementwiseLikelihood):
    """y = outputs + scale·T, with T of Student's t distribution: noise with heavier tails than a Gaussian's.

    Args:
        scale: a number, or an array that broadcasts against one row of outputs, in y's units. It is less than the
            standard deviation of the noise, which is scale·√(df/(df − 2)).
        df: degrees of freedom, one number above 2, where y has a variance; the larger, the closer to a Gaussian.
        learn: whether `fit` learns the scale, starting from this value.
        learn_df: whether it learns the degrees of freedom too; they stay above 2.

    Attributes:
        log_scale, log_df_above_2: the natural logarithms of scale and of df − 2, the parameters that `fit` trains.

    Raises:
        InputError: if scale is not positive and finite, df not one finite number above 2, or only df is learned.

    Source: Lange et al. 1989, Robust statistical modeling using the t distribution, J. Am. Stat. Assoc. 84, 881.
    """

    log_scale: Tree
    log_df_above_2: Tree
    learn: bool
    learn_df: bool

    def __init__(self, scale: Tree = 1.0, df: Tree = 4.0, learn: bool = False, learn_df: bool = False) -> None:
        _check.positive("scale", scale)
        _check_df(df)
        if learn_df and not learn:
            got = "learn=False, learn_df=True"
            _check.fail(_check.InputError, "a scale that is learned where df is", got, "Pass learn=True.")
        object.__setattr__(self, "log_scale", natural_log(scale))
        object.__setattr__(self, "log_df_above_2", natural_log(df - 2.0))
        object.__setattr__(self, "learn", _check.boolean("learn", learn))
        object.__setattr__(self, "learn_df", _check.boolean("learn_df", learn_df))

    def __repr__(self) -> str:
        scale, df = _display.from_logarithm(self.log_scale), _display.from_logarithm(self.log_df_above_2, offset=2.0)
        return _display.call(self, scale=scale, df=df, learn=self.learn, learn_df=self.learn_df)

    @property
    def scale(self) -> jax.Array:
        """The factor of T, in y's units."""
        return jnp.exp(self.log_scale)

    @property
    def df(self) -> jax.Array:
        """The degrees of freedom, above 2."""
        return 2 + jnp.exp(self.log_df_above_2)

    @property
    def std(self) -> jax.Array:
        """The noise's standard deviation, scale·√(df/(df − 2)), in y's units."""
        excess = jnp.asarray(self.log_df_above_2)
        log_inflation = 0.5 * jnp.log1p(2 * jnp.exp(-excess))
        return jnp.exp(self.log_scale + log_inflation)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return the log density of y in nats, of each element."""
        return log_student_t(self._z(y, outputs), self._df(outputs)) - self._log_scale(outputs)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs], with the shape of the outputs."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs] = scale²·df/(df − 2), with the shape of the outputs."""
        inflation = 1 + 2 * jnp.exp(-jnp.asarray(self.log_df_above_2, outputs.dtype))
        return jnp.broadcast_to(jnp.exp(2 * self._log_scale(outputs)) * inflation, outputs.shape)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""
        return student_t_cdf(self._z(y, outputs), self._df(outputs))

    def tabulated_cdf(self, outputs: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Return `cdf` for very many elements: interpolated in a table, accurate to 1e-12 or to rounding."""
        tail = student_t_tail(self._df(outputs).reshape(()))

        def cdf(y: jax.Array, outputs: jax.Array) -> jax.Array:
            z = self._z(y, outputs)
            beyond = tail(jnp.arcsinh(jnp.abs(z)))
            return jnp.where(z < 0, beyond, 1 - beyond)

        return cdf

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""
        wide = at_least_float32(outputs.dtype)
        noise = jax.random.t(key, self._df(outputs).astype(wide), outputs.shape, wide)
        return outputs + jnp.exp(self._log_scale(outputs)) * noise.astype(outputs.dtype)

    def _log_scale(self, outputs: jax.Array) -> jax.Array:
        return as_row_parameter(self.log_scale, outputs, "scale")

    def _df(self, outputs: jax.Array) -> jax.Array:
        excess = self.log_df_above_2 if self.learn_df else jax.lax.stop_gradient(self.log_df_above_2)
        return 2 + jnp.exp(as_row_parameter(excess, outputs, "df"))

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-self._log_scale(outputs))


FAR = 1e4
"""Standard deviations above the mean beyond which a count has a probability below 1e-8 (Cantelli's inequality)."""


@noun(data=(), saved=True)
class Poisson(FixedLikelihood, CountLikelihood):
    """y ~ Poisson(rate), a count: rate = e^f up to f = 20, and e^20·(1 + f − 20) above, which cannot overflow."""

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log P(Y = y) in nats, of each element."""
        return y * eased(outputs) - self.mean(outputs) - gammaln(y + 1)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs], the rate."""
        return jnp.exp(eased(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs], which equals the rate."""
        return self.mean(outputs)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""
        k, rate = jnp.broadcast_arrays(jnp.floor(y), self.mean(outputs))
        beyond = k > rate + FAR * jnp.sqrt(rate)  # where the incomplete gamma function may be NaN
        there = gammaincc(jnp.where(beyond, rate, jnp.maximum(k, 0)) + 1, rate)
        return jnp.where(k < 0, 0, jnp.where(beyond, 1, there))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element: a whole number, in the dtype of the outputs."""
        return jax.random.poisson(key, self.mean(outputs)).astype(outputs.dtype)


@noun(data=("log_dispersion",), static=("learn",), saved=True)
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
    """

    log_dispersion: Tree
    learn: bool

    def __init__(self, dispersion: Tree = 1.0, learn: bool = False) -> None:
        _check.positive("dispersion", dispersion)
        object.__setattr__(self, "log_dispersion", natural_log(dispersion))
        object.__setattr__(self, "learn", _check.boolean("learn", learn))

    def __repr__(self) -> str:
        return _display.call(self, dispersion=_display.from_logarithm(self.log_dispersion), learn=self.learn)

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

    def _log_dispersion(self, outputs: jax.Array) -> jax.Array:
        return as_row_parameter(self.log_dispersion, outputs, "dispersion")

    def _n(self, outputs: jax.Array) -> jax.Array:
        return jnp.exp(-self._log_dispersion(outputs))

    def _log_odds(self, outputs: jax.Array) -> jax.Array:
        """Return log(μ/n)."""
        return eased(outputs) + self._log_dispersion(outputs)


@noun(data=(), saved=True)
class Bernoulli(FixedLikelihood, ElementwiseLikelihood):
    """y is 0 or 1: P(y = 1) = 1/(1 + e^−f), with f the output; several outputs are independent given the weights.

    y has the shape of the outputs, and any dtype, bool included. `predict(...).y` has the probabilities of 0 and of 1
    on a last axis that y does not have.
    """

    discrete = True

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype of the outputs.

        Raises:
            ShapeError: if y does not have the shape of the outputs.
            InputError: if y holds a number other than 0 and 1.
        """
        _check.target(y, outputs)
        if (bad := first_invalid(y, lambda array: (array != 0) & (array != 1))) is not None:
            _check.fail(_check.InputError, "0 and 1 alone in y", bad, "Pass y == positive_class, or take Categorical.")
        return y.astype(outputs.dtype)

    def check_training(self, y: jax.Array) -> None:
        """Raise if the labels of an output are all the same, so that nothing can be learned from them.

        Raises:
            InputError: if y holds only one class for an output.
        """
        _check_classes(y)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log P(Y = y) in nats, of each element."""
        nats = -jax.nn.softplus((1 - 2 * y) * outputs)
        return jnp.where((y == 0) | (y == 1), nats, -jnp.inf)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs] = P(Y = 1)."""
        return jax.nn.sigmoid(outputs)

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs] = P(Y = 1)·P(Y = 0)."""
        return jax.nn.sigmoid(outputs) * jax.nn.sigmoid(-outputs)

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Return the probabilities of 0 and of 1 on a new last axis: (..., 2)."""
        return jnp.stack([jax.nn.sigmoid(-outputs), jax.nn.sigmoid(outputs)], axis=-1)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""
        return jnp.where(y < 0, 0, jnp.where(y < 1, jax.nn.sigmoid(-outputs), 1))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element: 0 or 1, in the dtype of the outputs."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs)).astype(outputs.dtype)


@noun(data=(), saved=True)
class Categorical(FixedLikelihood):
    """y is one of several classes: y ~ Categorical(softmax(outputs)).

    y holds whole numbers from 0, shape (rows,); outputs are logits, (rows, classes). A class has neither a mean nor
    quantiles, but `probabilities`.
    """

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y unchanged, one class for each row of logits.

        Raises:
            ShapeError: if the outputs are not (rows, classes) of two classes or more, or y is not (rows,).
            InputError: if y does not hold whole numbers from 0 to classes − 1, of an integer dtype.
        """
        if len(outputs.shape) != 2 or outputs.shape[1] < 2:
            _check.fail(
                _check.ShapeError,
                "outputs of shape (rows, classes), a logit for each of two classes or more",
                f"shape {outputs.shape}",
                "Give the network one output for each class.",
            )
        rows, classes = outputs.shape
        if y.shape != (rows,):
            hint = "y.argmax(axis=1)" if y.shape == outputs.shape else "y of whole numbers"
            hint = "y[:, 0]" if y.shape == (rows, 1) else hint
            _check.fail(
                _check.ShapeError, f"y of shape ({rows},), the class of each row", f"{y.shape}", f"Pass {hint}."
            )
        if not jnp.issubdtype(y.dtype, jnp.integer):
            _check.fail(_check.InputError, "y of an integer dtype", f"{y.dtype}", "Pass y.astype(int).")
        classes_of_rows = np.zeros(0) if isinstance(y, jax.core.Tracer) else np.asarray(y)
        wrong = classes_of_rows[(classes_of_rows < 0) | (classes_of_rows >= classes)]
        if len(wrong):
            do = "Number the classes from 0, and give the network one output for each."
            _check.fail(_check.InputError, f"classes from 0 to {classes - 1} in y", f"{wrong[0]}", do)
        return y

    def check_training(self, y: jax.Array) -> None:
        """Raise if the labels are all the same, so that nothing can be learned from them.

        Raises:
            InputError: if y holds only one class.
        """
        _check_classes(y)

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log softmax(outputs)[y] in nats, shape (rows,), for y of shape (rows,) and outputs (rows, classes).

        Raises:
            ShapeError, InputError: as `as_target`.
        """
        y = self.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape, outputs.dtype))
        return jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], axis=1)[:, 0]

    def function(self, outputs: jax.Array) -> jax.Array:
        """Return the logits unchanged."""
        return outputs

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Return the probability of each class, softmax(outputs), over the last axis: (..., classes)."""
        return jax.nn.softmax(outputs)

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one class for each row, a whole number: shape (...) for outputs (..., classes)."""
        return jax.random.categorical(key, outputs)


def _log_normal(z: jax.Array, log_std: jax.Array) -> jax.Array:
    return -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2 * math.pi)


def _normal(z: jax.Array, log_std: jax.Array) -> jax.Array:
    """Return φ(z)/std by a product: `exp(_log_normal)` would magnify the rounding of a sum."""
    return jnp.exp(-0.5 * jnp.square(z)) * jnp.exp(-log_std) / math.sqrt(2 * math.pi)


def _normal_noise(key: jax.Array, like: jax.Array) -> jax.Array:
    """Draw one standard normal for each element."""
    return jax.random.normal(key, like.shape, at_least_float32(like.dtype)).astype(like.dtype)


def _check_df(df: Tree) -> None:
    """Raise if y has no variance with these degrees of freedom; traced ones are not checked."""
    if isinstance(df, jax.core.Tracer):
        return
    _check.finite("df", df)
    if np.ndim(df) or not np.asarray(df) > 2:
        do = "Pass for example df=4: at 2 and below y has no variance."
        _check.fail(_check.InputError, "df to be one number above 2", f"{df}", do)


def _check_pairs(shape: tuple[int, ...]) -> None:
    if len(shape) < 2 or shape[-1] < 2 or shape[-1] % 2:
        expected = "outputs of shape (rows, 2·d), a mean and a logarithm of a standard deviation for each output"
        _check.fail(_check.ShapeError, expected, f"shape {shape}", "Give the network twice as many outputs as y has.")


def _check_classes(y: jax.Array) -> None:
    """Raise if the labels of an output are all the same; traced ones are not checked."""
    if isinstance(y, jax.core.Tracer):
        return
    columns = np.asarray(y).reshape(len(y), -1).T
    for i, column in enumerate(columns):
        if (column == column[0]).all():
            where = f" of output {i}" if len(columns) > 1 else ""
            got = f"{column[0]:g} in every one of {len(column)} rows"
            do = "Nothing can be learned from one class: pass rows of others too."
            _check.fail(_check.InputError, f"two classes or more in y{where}", got, do)
