"""Likelihoods: what an observation y looks like, given the network's outputs.

Outputs and y have a row axis in front, and then as many outputs as there are: those of one row are independent given
the outputs. All but `log_prob` work element by element, under any leading axes, such as draws. Nats are natural logs.

    Gaussian(std)                  y real        outputs: the mean
    HeteroscedasticGaussian()      y real        outputs: the means, then the logarithms of the standard deviations
    StudentT(scale, df)            y real        outputs: the location
    Poisson()                      y counts      outputs: the logarithm of the rate
    NegativeBinomial(dispersion)   y counts      outputs: the logarithm of the mean
    Bernoulli()                    y 0 or 1      outputs: the logit of 1
    Categorical()                  y a class     outputs: a logit for each class

`bbb.mixture` asks them about many draws of the outputs at once.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc, gammaln, log_ndtr, ndtr, ndtri

from bbb import _check, _display
from bbb._noise import at_least_float32
from bbb._special import eased, log_gamma_ratio, log_student_t, negative_binomial_cdf, student_t_cdf, student_t_tail
from bbb._tree import Tree, noun


class Likelihood(Protocol):
    """What the objective and the predictive need of a likelihood.

    | verb                                                     | needs                                            |
    |----------------------------------------------------------|--------------------------------------------------|
    | `bayesianize`, `fit`, `negative_elbo`                    | `learn`, `as_target`, `log_prob`                 |
    | `predict`, `export`                                      | `function`, `mean`, `variance`; or, of classes,  |
    |                                                          | `function`, `probabilities`                      |
    | quantiles and intervals of y, `diagnose`                 | `cdf`, `density`, `discrete` besides             |
    | `to_datatree`, `mixture.sample_y`                        | `sample`                                         |
    | `draws`, `prune`, `save`, and `load(path, like=model)`   | nothing more                                     |

    All but `log_prob` works elementwise, under any leading axes, such as draws. One that has `probabilities`, over a
    last axis of classes, is summarised by them. One whose `discrete` is True has whole numbers from 0 for y, and
    `density` is the probability of y.

    One of your own is a frozen dataclass that is registered with JAX, so that compiled programs take its numbers; an
    option that is no number, such as `learn`, is static:

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

    discrete: bool

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the likelihood's own parameters."""

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that is no observation of a network with such outputs; give it in the dtype of `log_prob`'s."""

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log p(y | outputs) in nats for each row."""

    def function(self, outputs: jax.Array) -> jax.Array:
        """Give the part of the outputs that is the function itself, which `Predictive.f` describes."""

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs]."""

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs], the aleatoric variance."""

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give P(Y ≤ y | outputs)."""

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give the density of y, the derivative of `cdf`; or its probability."""

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""


def check_likelihood(likelihood: Any) -> None:
    """Refuse what is no likelihood: without what training needs, or not registered with JAX.

    Raises:
        InputError: saying what it lacks.
    """
    example = "bbb.likelihood.Gaussian(0.5, learn=True)"
    if not any(hasattr(likelihood, name) for name in ("log_prob", "as_target")) or isinstance(likelihood, type):
        _check.has("a likelihood", likelihood, ("log_prob", "as_target"), example)
    _needs(likelihood, "fit", "learn", "as_target", "log_prob")
    _check.has("a likelihood", likelihood, ("log_prob", "as_target"), example)
    _check.registered("a likelihood", likelihood)
    _check.boolean("learn of a likelihood", likelihood.learn)


def check_predicts(likelihood: Any, verb: str, quantiles: bool) -> None:
    """Refuse a likelihood without what a summary of y needs, or its quantiles.

    Raises:
        InputError: saying what it lacks.
    """
    if hasattr(likelihood, "probabilities"):
        _needs(likelihood, verb, "function")
        return
    _needs(likelihood, verb, "function", "mean", "variance")
    if quantiles:
        check_quantiles(likelihood, f"{verb} with quantiles or intervals of y")


def check_quantiles(likelihood: Any, verb: str) -> None:
    """Refuse a likelihood without what a search for quantiles of y needs.

    Raises:
        InputError: saying what it lacks.
    """
    _needs(likelihood, verb, "mean", "variance", "cdf", "density", "discrete")


def check_samples(likelihood: Any, verb: str) -> None:
    """Refuse a likelihood that cannot draw a y.

    Raises:
        InputError: saying what it lacks.
    """
    _needs(likelihood, verb, "sample")


def _needs(likelihood: Any, verb: str, *names: str) -> None:
    missing = [f"`{name}`" for name in names if not hasattr(likelihood, name)]
    if missing:
        expected = f"a likelihood with {' and '.join(missing)}, which {verb} needs"
        do = "Add what is missing, as bbb.likelihood.Likelihood describes it."
        _check.fail(_check.InputError, expected, f"a {type(likelihood).__name__} without", do)


def observed(likelihood: Any, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
    """Return y as `likelihood.log_prob` takes it, once that is known to say one number of each row.

    Raises:
        ShapeError, InputError: as `as_target` of the likelihood, or for a `log_prob` that is not (rows,).
    """
    target = likelihood.as_target(y, outputs)
    if type(likelihood).__module__ == __name__:  # ours does, which need not be traced again
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


class _Fixed:
    """What the likelihoods without parameters share."""

    @property
    def learn(self) -> bool:
        """It has no parameters of its own."""
        return False


class _Outputs:
    """What the likelihoods of numbers share: independent outputs, and a function that is the outputs themselves."""

    discrete = False

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that has not the shape of the network's outputs; give it in their dtype.

        Raises:
            ShapeError: if y has another shape than the outputs.
        """
        _check.target(y, outputs)
        return y.astype(outputs.dtype)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log p(y | outputs) in nats, of each element."""
        raise NotImplementedError

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log p(y | outputs) in nats, shape (rows,): summed over the outputs of a row.

        Raises:
            ShapeError, InputError: as `as_target`.
        """
        y = self.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape, outputs.dtype))
        nats = self.log_density(y, outputs)
        return jnp.sum(nats, axis=tuple(range(1, nats.ndim)))

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give p(y | outputs), per unit of y."""
        return jnp.exp(self.log_density(y, outputs))

    def function(self, outputs: jax.Array) -> jax.Array:
        """Give the outputs, as they are."""
        return outputs


class _Counts(_Outputs):
    """What the likelihoods of counts share: y is a whole number from 0, of an integer or a floating-point dtype."""

    discrete = True

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that holds no counts, or has not the shape of the outputs; give it in their dtype.

        Raises:
            ShapeError: if y has another shape than the outputs.
            InputError: if y holds a negative number or one that is not whole.
        """
        _check.target(y, outputs)
        if (bad := _first(y, lambda array: (array < 0) | (array != np.floor(array)))) is not None:
            do = "Pass counts, or take a likelihood of real numbers, such as Gaussian."
            _check.fail(_check.InputError, "counts in y, whole numbers of at least 0", bad, do)
        return y.astype(outputs.dtype)


@noun(data=("log_std",), static=("learn",))
class Gaussian(_Outputs):
    """y = outputs + N(0, std²): additive noise of one standard deviation.

    Args:
        std: a number, or an array that broadcasts against one row of outputs (one noise per output), in y's units.
        learn: whether `fit` learns it, from this start.

    Attributes:
        log_std: the natural logarithm of std, which is what `fit` moves.

    Raises:
        InputError: if std is not positive and finite, or learn is no bool.
    """

    log_std: Tree
    learn: bool

    def __init__(self, std: Tree = 1.0, learn: bool = False) -> None:
        _check.positive("noise std", std)
        object.__setattr__(self, "log_std", _log(std))
        object.__setattr__(self, "learn", _check.boolean("learn", learn))

    def __repr__(self) -> str:
        return _display.call(self, std=_display.from_logarithm(self.log_std), learn=self.learn)

    @property
    def std(self) -> jax.Array:
        """The noise's standard deviation, in y's units."""
        return jnp.exp(self.log_std)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log N(y; outputs, std²) in nats, of each element."""
        return _log_normal(self._z(y, outputs), self._log_std(outputs))

    def expected_log_prob(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Return E[log p(y | f)] of each row in nats, (rows,), for outputs f of such means and variances.

        Exact whatever else f's distribution is, as the log density is a parabola in f:
        E[log N(y; f, std²)] = log N(y; E f, std²) − Var f / (2·std²).

        Args:
            y: (rows, ...).
            mean: of the outputs, of y's shape.
            variance: likewise.

        Raises:
            ShapeError: as `log_prob`.
        """
        lost = variance * jnp.exp(-2 * self._log_std(mean)) / 2
        return self.log_prob(y, mean) - jnp.sum(lost, axis=tuple(range(1, lost.ndim)))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs], of the outputs' shape."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs] = std², of the outputs' shape."""
        return jnp.broadcast_to(jnp.exp(2 * self._log_std(outputs)), outputs.shape)

    def observed(self, mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give the mean and the variance of y, itself Gaussian, where the outputs are N(mean, variance)."""
        return mean, variance + self.variance(mean)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give Φ((y − outputs)/std)."""
        return ndtr(self._z(y, outputs))

    def log_cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log Φ((y − outputs)/std), in nats."""
        return log_ndtr(self._z(y, outputs))

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give φ((y − outputs)/std)/std, per unit of y."""
        return _normal(self._z(y, outputs), self._log_std(outputs))

    def quantile(self, p: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give outputs + std·Φ⁻¹(p)."""
        return outputs + jnp.exp(self._log_std(outputs)) * ndtri(p)

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""
        return outputs + jnp.exp(self._log_std(outputs)) * _normal_noise(key, outputs)

    def _log_std(self, outputs: jax.Array) -> jax.Array:
        return _like(self.log_std, outputs, "noise std")

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-self._log_std(outputs))


@noun(data=())
class HeteroscedasticGaussian(_Fixed, _Outputs):
    """y ~ N(mean, std²), where the network gives both: for d outputs of y, d means and then d logarithms of stds.

    Outputs are (rows, 2·d), y is (rows, d), and `Predictive.f` is of the means. The standard deviation is e^s, with s
    the last d outputs, in y's units, for s from −20 to 20; beyond, it goes on as e^±20·(1 + |s| − 20)^±1, so that no
    output of a network makes it 0 or infinite.

    Source: Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution, ICNN.
    """

    is_normal = True  # so that a mixture may keep means and variances, instead of this

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that is not half as wide as the network's outputs; give it in their dtype.

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
        """Give log N(y; mean, std²) in nats, of each element of y."""
        return _log_normal(self._z(y, outputs), self._log_std(outputs))

    def function(self, outputs: jax.Array) -> jax.Array:
        """Give the means, (..., d) of outputs (..., 2·d)."""
        return self.mean(outputs)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs], (..., d) of outputs (..., 2·d)."""
        _check_pairs(outputs.shape)
        return outputs[..., : outputs.shape[-1] // 2]

    def std(self, outputs: jax.Array) -> jax.Array:
        """Give the noise's standard deviation, (..., d) of outputs (..., 2·d), in y's units."""
        return jnp.exp(self._log_std(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs], (..., d) of outputs (..., 2·d)."""
        return jnp.exp(2 * self._log_std(outputs))

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give Φ((y − mean)/std)."""
        return ndtr(self._z(y, outputs))

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give φ((y − mean)/std)/std, per unit of y."""
        return _normal(self._z(y, outputs), self._log_std(outputs))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each mean."""
        mean = self.mean(outputs)
        return mean + self.std(outputs) * _normal_noise(key, mean)

    def _log_std(self, outputs: jax.Array) -> jax.Array:
        _check_pairs(outputs.shape)
        return -eased(-eased(outputs[..., outputs.shape[-1] // 2 :]))

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - self.mean(outputs)) * jnp.exp(-self._log_std(outputs))


@noun(data=("log_scale", "log_df_above_2"), static=("learn", "learn_df"))
class StudentT(_Outputs):
    """y = outputs + scale·T, with T of Student's t distribution: Gaussian noise, but for outliers.

    Args:
        scale: a number, or an array that broadcasts against one row of outputs, in y's units. Less than the standard
            deviation of the noise, which is scale·√(df/(df − 2)).
        df: degrees of freedom, one number above 2, where y has a variance; the larger, the closer to a Gaussian.
        learn: whether `fit` learns the scale, from this start.
        learn_df: whether it learns the degrees of freedom too; they stay above 2.

    Attributes:
        log_scale, log_df_above_2: the natural logarithms of scale and of df − 2, which is what `fit` moves.

    Raises:
        InputError: if scale is not positive and finite, df not one finite number above 2, or only df is learned.

    Source: Lange et al. 1989, Robust statistical modeling using the t distribution, J. Am. Stat. Assoc. 84, 881.
    """

    log_scale: Tree
    log_df_above_2: Tree
    learn: bool
    learn_df: bool

    def __init__(self, scale: Tree = 1.0, df: Any = 4.0, learn: bool = False, learn_df: bool = False) -> None:
        _check.positive("scale", scale)
        _check_df(df)
        if learn_df and not learn:
            got = "learn=False, learn_df=True"
            _check.fail(_check.InputError, "a scale that is learned where df is", got, "Pass learn=True.")
        object.__setattr__(self, "log_scale", _log(scale))
        object.__setattr__(self, "log_df_above_2", _log(df - 2.0))
        object.__setattr__(self, "learn", _check.boolean("learn", learn))
        object.__setattr__(self, "learn_df", _check.boolean("learn_df", learn_df))

    def __repr__(self) -> str:
        scale, df = _display.from_logarithm(self.log_scale), _display.from_logarithm(self.log_df_above_2, offset=2.0)
        return _display.call(self, scale=scale, df=df, learn=self.learn, learn_df=self.learn_df)

    @property
    def scale(self) -> jax.Array:
        """What T is multiplied by, in y's units."""
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
        """Give the log density of y in nats, of each element."""
        return log_student_t(self._z(y, outputs), self._df(outputs)) - self._log_scale(outputs)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs], of the outputs' shape."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs] = scale²·df/(df − 2), of the outputs' shape."""
        inflation = 1 + 2 * jnp.exp(-jnp.asarray(self.log_df_above_2, outputs.dtype))
        return jnp.broadcast_to(jnp.exp(2 * self._log_scale(outputs)) * inflation, outputs.shape)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give P(Y ≤ y | outputs)."""
        return student_t_cdf(self._z(y, outputs), self._df(outputs))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""
        wide = at_least_float32(outputs.dtype)
        noise = jax.random.t(key, self._df(outputs).astype(wide), outputs.shape, wide)
        return outputs + jnp.exp(self._log_scale(outputs)) * noise.astype(outputs.dtype)

    def tabulated_cdf(self, outputs: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Give `cdf` for very many elements: read off a table, right to 1e-12 or to rounding."""
        tail = student_t_tail(self._df(outputs).reshape(()))

        def cdf(y: jax.Array, outputs: jax.Array) -> jax.Array:
            z = self._z(y, outputs)
            beyond = tail(jnp.arcsinh(jnp.abs(z)))
            return jnp.where(z < 0, beyond, 1 - beyond)

        return cdf

    def _log_scale(self, outputs: jax.Array) -> jax.Array:
        return _like(self.log_scale, outputs, "scale")

    def _df(self, outputs: jax.Array) -> jax.Array:
        excess = self.log_df_above_2 if self.learn_df else jax.lax.stop_gradient(self.log_df_above_2)
        return 2 + jnp.exp(_like(excess, outputs, "df"))

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-self._log_scale(outputs))


FAR = 1e4
"""How many standard deviations above the mean a count has less than 1e-8 left, by Cantelli's inequality."""


@noun(data=())
class Poisson(_Fixed, _Counts):
    """y ~ Poisson(rate), a count: rate = e^f up to f = 20, then e^20·(1 + f − 20), which cannot overflow."""

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log P(Y = y) in nats, of each element."""
        return y * eased(outputs) - self.mean(outputs) - gammaln(y + 1)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs], the rate."""
        return jnp.exp(eased(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs], which is the rate too."""
        return self.mean(outputs)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give P(Y ≤ y | outputs)."""
        k, rate = jnp.broadcast_arrays(jnp.floor(y), self.mean(outputs))
        beyond = k > rate + FAR * jnp.sqrt(rate)  # where the incomplete gamma function may be NaN
        there = gammaincc(jnp.where(beyond, rate, jnp.maximum(k, 0)) + 1, rate)
        return jnp.where(k < 0, 0, jnp.where(beyond, 1, there))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element; a whole number, in the outputs' dtype."""
        return jax.random.poisson(key, self.mean(outputs)).astype(outputs.dtype)


@noun(data=("log_dispersion",), static=("learn",))
class NegativeBinomial(_Counts):
    """y is a count of mean μ = e^f and variance μ + dispersion·μ²: a Poisson whose rate varies.

    Args:
        dispersion: a number, or an array that broadcasts against one row of outputs; 1/n in the form with n failures.
            As it falls, the distribution becomes a Poisson.
        learn: whether `fit` learns it, from this start.

    Attributes:
        log_dispersion: the natural logarithm of dispersion, which is what `fit` moves.

    Above f = 20 the mean goes on as e^20·(1 + f − 20), which cannot overflow.

    Raises:
        InputError: if dispersion is not positive and finite.

    Source: Hilbe 2011, Negative Binomial Regression, the form called NB2.
    """

    log_dispersion: Tree
    learn: bool

    def __init__(self, dispersion: Tree = 1.0, learn: bool = False) -> None:
        _check.positive("dispersion", dispersion)
        object.__setattr__(self, "log_dispersion", _log(dispersion))
        object.__setattr__(self, "learn", _check.boolean("learn", learn))

    def __repr__(self) -> str:
        return _display.call(self, dispersion=_display.from_logarithm(self.log_dispersion), learn=self.learn)

    @property
    def dispersion(self) -> jax.Array:
        """How much the variance exceeds the mean, in units of the squared mean."""
        return jnp.exp(self.log_dispersion)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log P(Y = y) in nats, of each element.

        With n = 1/dispersion and r = log Γ(n + y) − log Γ(n) − y·log n, which is 0 for a Poisson,
        log P = r + y·log μ − log y! − (n + y)·log(1 + μ/n).
        """
        n = self._n(outputs)
        poisson = y * eased(outputs) - gammaln(y + 1)
        return log_gamma_ratio(n, y) + poisson - (n + y) * jax.nn.softplus(self._log_odds(outputs))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs]."""
        return jnp.exp(eased(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs] = μ + dispersion·μ²."""
        mean = self.mean(outputs)
        return mean * (1 + mean * jnp.exp(self._log_dispersion(outputs)))

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give P(Y ≤ y | outputs)."""
        k = jnp.floor(y)
        mean = self.mean(outputs)
        beyond = k > mean + FAR * jnp.sqrt(self.variance(outputs))  # where the incomplete beta function may be NaN
        inside = jnp.where(beyond, mean, jnp.maximum(k, 0))
        there = negative_binomial_cdf(inside, self._n(outputs), self._log_odds(outputs))
        return jnp.where(k < 0, 0, jnp.where(beyond, 1, there))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element, by a Poisson of a gamma's rate; a whole number, in the outputs' dtype."""
        of_rate, of_count = jax.random.split(key)
        n = jnp.broadcast_to(self._n(outputs), outputs.shape)
        wide = at_least_float32(outputs.dtype)
        log_gamma = jax.random.loggamma(of_rate, n.astype(wide), outputs.shape, wide).astype(outputs.dtype)
        log_rate = log_gamma + self._log_odds(outputs)
        return jax.random.poisson(of_count, jnp.exp(eased(log_rate))).astype(outputs.dtype)

    def _log_dispersion(self, outputs: jax.Array) -> jax.Array:
        return _like(self.log_dispersion, outputs, "dispersion")

    def _n(self, outputs: jax.Array) -> jax.Array:
        return jnp.exp(-self._log_dispersion(outputs))

    def _log_odds(self, outputs: jax.Array) -> jax.Array:
        """Give log(μ/n)."""
        return eased(outputs) + self._log_dispersion(outputs)


@noun(data=())
class Bernoulli(_Fixed, _Outputs):
    """y is 0 or 1: P(y = 1) = 1/(1 + e^−f), with f the output; each of several outputs is a question of its own.

    y has the shape of the outputs, of any dtype, bool too. `predict(...).y` has probabilities of 0 and of 1 on a last
    axis that y has not.
    """

    discrete = True

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that holds anything but 0 and 1, or has not the shape of the outputs; give it in their dtype.

        Raises:
            ShapeError: if y has another shape than the outputs.
            InputError: if y holds another number.
        """
        _check.target(y, outputs)
        if (bad := _first(y, lambda array: (array != 0) & (array != 1))) is not None:
            _check.fail(_check.InputError, "0 and 1 alone in y", bad, "Pass y == positive_class, or take Categorical.")
        return y.astype(outputs.dtype)

    def check_training(self, y: jax.Array) -> None:
        """Refuse to learn from labels that are all the same, in some output.

        Raises:
            InputError: if an output's y holds one class only.
        """
        _check_classes(y)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log P(Y = y) in nats, of each element."""
        nats = -jax.nn.softplus((1 - 2 * y) * outputs)
        return jnp.where((y == 0) | (y == 1), nats, -jnp.inf)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs] = P(Y = 1)."""
        return jax.nn.sigmoid(outputs)

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs] = P(Y = 1)·P(Y = 0)."""
        return jax.nn.sigmoid(outputs) * jax.nn.sigmoid(-outputs)

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Give the probabilities of 0 and of 1 on a new last axis: (..., 2)."""
        return jnp.stack([jax.nn.sigmoid(-outputs), jax.nn.sigmoid(outputs)], axis=-1)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give P(Y ≤ y | outputs)."""
        return jnp.where(y < 0, 0, jnp.where(y < 1, jax.nn.sigmoid(-outputs), 1))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element: 0 or 1, in the outputs' dtype."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs)).astype(outputs.dtype)


@noun(data=())
class Categorical(_Fixed):
    """y is one of several classes: y ~ Categorical(softmax(outputs)).

    y holds whole numbers from 0, shape (rows,); outputs are logits, (rows, classes). A class has no mean and no
    quantile: ask for `probabilities`.
    """

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that is not one class for each row of logits; give it as it is.

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

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log softmax(outputs)[y] in nats, shape (rows,), for y of shape (rows,) and outputs (rows, classes).

        Raises:
            ShapeError, InputError: as `as_target`.
        """
        y = self.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape, outputs.dtype))
        return jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], axis=1)[:, 0]

    def check_training(self, y: jax.Array) -> None:
        """Refuse to learn from labels that are all the same.

        Raises:
            InputError: if y holds one class only.
        """
        _check_classes(y)

    def function(self, outputs: jax.Array) -> jax.Array:
        """Give the logits, as they are."""
        return outputs

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Give the probability of each class, softmax(outputs), over the last axis: any (..., classes)."""
        return jax.nn.softmax(outputs)

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one class for each row, a whole number: (...) of outputs (..., classes)."""
        return jax.random.categorical(key, outputs)


def _log_normal(z: jax.Array, log_std: jax.Array) -> jax.Array:
    return -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2 * math.pi)


def _normal(z: jax.Array, log_std: jax.Array) -> jax.Array:
    """Give φ(z)/std: with a product where `exp(_log_normal)` has a sum, which the exponential would magnify."""
    return jnp.exp(-0.5 * jnp.square(z)) * jnp.exp(-log_std) / math.sqrt(2 * math.pi)


def _normal_noise(key: jax.Array, like: jax.Array) -> jax.Array:
    """Draw one standard normal for each element."""
    return jax.random.normal(key, like.shape, at_least_float32(like.dtype)).astype(like.dtype)


def _log(value: Any) -> Any:
    """Give the logarithm by JAX of a JAX array, else by NumPy: what is a number does not wake a device."""
    return jnp.log(value) if isinstance(value, jax.Array) else np.log(value)


def _check_df(df: Any) -> None:
    """Refuse degrees of freedom for which y has no variance; tracers pass."""
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
    """Refuse an output whose labels are all the same; tracers pass."""
    if isinstance(y, jax.core.Tracer):
        return
    columns = np.asarray(y).reshape(len(y), -1).T
    for i, column in enumerate(columns):
        if (column == column[0]).all():
            where = f" of output {i}" if len(columns) > 1 else ""
            got = f"{column[0]:g} in every one of {len(column)} rows"
            do = "Nothing can be learned from one class: pass rows of others too."
            _check.fail(_check.InputError, f"two classes or more in y{where}", got, do)


def _first(y: jax.Array, wrong: Callable[[np.ndarray], np.ndarray]) -> str | None:
    """Say which number of y is the first that is wrong, and where; None for none, and for a tracer."""
    if isinstance(y, jax.core.Tracer):
        return None
    array = np.asarray(y)
    where = np.argwhere(wrong(array))
    return f"{array[tuple(where[0])]:g} at index {tuple(map(int, where[0]))}" if len(where) else None


def _like(value: Tree, outputs: jax.Array, name: str) -> jax.Array:
    """Give `value` in the dtype of the outputs and, under strict promotion, their rank."""
    array = jnp.asarray(value, outputs.dtype)
    row = outputs.shape[max(outputs.ndim - array.ndim, 0) :]
    if array.ndim > outputs.ndim or any(n not in (1, m) for n, m in zip(array.shape, row, strict=True)):
        _check.fail(
            _check.ShapeError,
            f"{name} to broadcast against outputs of shape (..., {', '.join(map(str, row))})",
            f"shape {array.shape}",
            "Pass one number, or one for each output of a row.",
        )
    return array.reshape((1,) * (outputs.ndim - array.ndim) + array.shape)
