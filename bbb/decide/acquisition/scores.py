"""Acquisition scores: one number for each row, of which the largest is the row to ask for next.

They look at what is expected of y at a draw w of the weights, m(x, w) = E[y | x, w]: the network's output where noise
is added to it, the rate of a count, the probabilities of classes. Its spread over the draws is what more data lower.
"""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.ability import implements
from bbb.decide.acquisition.information import check_informs, gaussian_information
from bbb.decide.acquisition.options import Options, checked, refuse_columns
from bbb.decide.acquisition.pool import Pool, by_row, centred, expected
from bbb.errors import InputError, fail, short_repr
from bbb.likelihoods.protocol import SupportsClasses
from bbb.model import BNN
from bbb.predictive.api import predict
from bbb.predictive.summary import Marginal


def variance(key: jax.Array, model: BNN, x: Any, **options: Unpack[Options]) -> np.ndarray:
    """Return the epistemic variance of each row, Var_w E[y | x, w], summed over the outputs: (rows,), units of y².

    Of classes, the variances of the probabilities are summed. With the noise, E_w Var[y | x, w], it makes Var[y | x].

    Args:
        key: one typed JAX key.
        model: the Bayesian network, of one output: of several, `model.head(path)`.
        x: (rows, ...), the rows that could be asked for, as `predict` takes them.
        options: see `Options`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a score is NaN or infinite.

    Source: MacKay 1992, "Information-based objective functions for active data selection", Neural Computation 4, 590.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> bbb.decide.variance(jax.random.key(1), model, task.x, draws=100).shape
        (20,)
    """
    given = checked("variance", key, model, x, options)
    closed = _closed_form(key, model, x, given)
    if closed is not None:
        return np.square(closed.std).reshape(len(closed.std), -1).sum(axis=1)
    return Pool.of(key, model, x, given).reduced(_variance)


def bald(key: jax.Array, model: BNN, x: Any, **options: Unpack[Options]) -> np.ndarray:
    """Return how much the observation of each row would say about the weights, in nats: (rows,).

    It is the mutual information I(y; w | x) = H[y | x] − E_w H[y | x, w].

    - Of classes it is the epistemic part of the entropy, as `predict(...).y.entropy.epistemic` has it, without the bias
      of few draws.
    - Of Gaussian noise it is ½·log det Cov[y | x] − ½·E_w log det Cov[y | x, w]: exact where y given x is Gaussian, as
      of a linearised model with constant noise, and otherwise an upper bound, since of all densities of a covariance
      the Gaussian has the largest entropy. Of one output and constant noise it is ½·log(1 + Var f/noise²).

    Args:
        key: one typed JAX key.
        model: the Bayesian network, of one output, whose likelihood is of classes or of Gaussian noise.
        x: (rows, ...).
        options: see `Options`. The closed form is of one number a row; of several, draws are taken.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a score is NaN or infinite.

    Source: Houlsby et al. 2011, arXiv 1112.5745, eq. 2; MacKay 1992, Neural Computation 4, 590, for Gaussian noise.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> bbb.decide.bald(jax.random.key(1), model, task.x, draws=100).shape
        (20,)
    """
    given = checked("bald", key, model, x, options)
    check_informs("bald", model)
    if implements(model.likelihood, SupportsClasses):
        return _disagreement(key, model, x, given)
    closed = _closed_form(key, model, x, given)
    if closed is not None and closed.std[:1].size == 1:
        f = np.square(closed.std)
        noise = np.asarray(model.likelihood.observed(jnp.zeros_like(f), jnp.zeros_like(f))[1])  # type: ignore[attr-defined]
        return (0.5 * np.log1p(f / noise)).reshape(-1)
    return Pool.of(key, model, x, given).reduced(gaussian_information)


def expected_improvement(
    key: jax.Array, model: BNN, x: Any, best: float, *, maximize: bool = True, **options: Unpack[Options]
) -> np.ndarray:
    """Return by how much each row is expected to beat the best so far, E_w max(m(x, w) − best, 0): (rows,), units of y.

    Of the closed form it is s·(φ(z) + z·Φ(z)) with z = (mean − best)/s, and exact where m is Gaussian, as of a
    linearised model. Otherwise it is the mean over the draws, which assumes no shape.

    Args:
        key: one typed JAX key.
        model: the Bayesian network, of one number a row.
        x: (rows, ...).
        best: the best value so far, in units of y.
        maximize: whether y should be large; if not, the improvement is max(best − m(x, w), 0).
        options: see `Options`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a score is NaN or infinite.

    Source: Jones et al. 1998, J. Global Optimization 13, 455, eq. 15.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> best = float(task.y.max())
        >>> bbb.decide.expected_improvement(jax.random.key(1), model, task.x, best, draws=100).shape
        (20,)
    """
    given = checked("expected_improvement", key, model, x, options)
    best, sign = _one_finite("best", best), _sign(maximize)
    closed = _closed_form(key, model, x, given)
    if closed is not None:
        mean, std = _columns("expected_improvement", closed)
        return _gaussian_improvement(sign * (mean - best), std)
    pool = _single("expected_improvement", Pool.of(key, model, x, given))
    return pool.reduced(_improvement, pool.dtype.type(best), pool.dtype.type(sign))


def upper_confidence_bound(
    key: jax.Array, model: BNN, x: Any, beta: float = 2.0, *, maximize: bool = True, **options: Unpack[Options]
) -> np.ndarray:
    """Return mean + beta·std of m(x, w) over the weights, for each row: (rows,), in units of y.

    Args:
        key: one typed JAX key.
        model: the Bayesian network, of one number a row.
        x: (rows, ...).
        beta: how many standard deviations; 0 is greedy.
        maximize: whether y should be large; if not, it is −mean + beta·std, so that the largest score is the row to ask
            for in either case.
        options: see `Options`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a score is NaN or infinite.

    Source: Srinivas et al. 2010, arXiv 0912.3995, eq. 6, with beta in the place of √β.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> bbb.decide.upper_confidence_bound(jax.random.key(1), model, task.x, draws=100).shape
        (20,)
    """
    given = checked("upper_confidence_bound", key, model, x, options)
    checks.not_negative("beta", beta)
    sign = _sign(maximize)
    closed = _closed_form(key, model, x, given)
    if closed is not None:
        mean, std = _columns("upper_confidence_bound", closed)
        return sign * mean + float(beta) * std
    pool = _single("upper_confidence_bound", Pool.of(key, model, x, given))
    return pool.reduced(_bound, pool.dtype.type(beta), pool.dtype.type(sign))


def _variance(given: Any, outputs: jax.Array) -> jax.Array:
    """Return the variance over the draws, summed over the numbers of a row."""
    (likelihood,) = given
    return jnp.sum(jnp.square(centred(by_row(expected(likelihood, outputs)))), axis=(0, 2))


def _improvement(given: Any, outputs: jax.Array) -> jax.Array:
    likelihood, best, sign = given
    return jnp.mean(jnp.maximum(sign * (by_row(expected(likelihood, outputs))[..., 0] - best), 0), axis=0)


def _bound(given: Any, outputs: jax.Array) -> jax.Array:
    likelihood, beta, sign = given
    values = by_row(expected(likelihood, outputs))[..., 0]
    return sign * jnp.mean(values, axis=0) + beta * jnp.sqrt(jnp.sum(jnp.square(centred(values)), axis=0))


def _gaussian_improvement(gain: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return E max(g, 0) of g ~ N(gain, std²), in the dtype of the gain.

    Where z = gain/std is far below 0, φ(z) and z·Φ(z) nearly cancel: there Φ(z) is φ(z)·√(π/2)·erfcx(−z/√2).
    """
    from scipy.special import erfcx, ndtr  # noqa: PLC0415 - half as long to import as the rest of bbb

    s, g = np.asarray(std, np.float64), np.asarray(gain, np.float64)
    z = np.divide(g, s, out=np.zeros_like(g), where=s > 0)
    density = np.exp(-0.5 * np.square(z)) / np.sqrt(2 * np.pi)
    low = density * np.maximum(1 + z * np.sqrt(np.pi / 2) * erfcx(-np.minimum(z, 0) / np.sqrt(2)), 0)
    found = np.where(s > 0, s * np.where(z < 0, low, density + z * ndtr(z)), np.maximum(g, 0))
    return found.astype(gain.dtype)


def _disagreement(key: jax.Array, model: BNN, x: Any, given: Options) -> np.ndarray:
    """Return the mutual information of the class and the weights."""
    nats = np.asarray(predict(key, model, x, **given).y.entropy.epistemic)
    columns = nats[:1].size
    return nats.reshape(-1) if columns == 1 else refuse_columns("bald of classes", columns)


def _closed_form(key: jax.Array, model: BNN, x: Any, given: Options) -> Marginal | None:
    """Return the marginal of f by its moments, if these are what is asked for."""
    return predict(key, model, x, **given).f if given["method"] == "moments" else None


def _columns(verb: str, closed: Marginal) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the std of one number a row, (rows,) each."""
    columns = closed.mean[:1].size
    return (closed.mean.reshape(-1), closed.std.reshape(-1)) if columns == 1 else refuse_columns(verb, columns)


def _single(verb: str, pool: Pool) -> Pool:
    return pool if pool.columns == 1 else refuse_columns(verb, pool.columns)


def _sign(maximize: Any) -> float:
    return 1.0 if checks.boolean("maximize", maximize) else -1.0


def _one_finite(name: str, value: ArrayLike) -> float:
    """Check that a value is one finite number, and return it."""
    checks.finite(name, value)
    if np.ndim(value):
        fail(InputError, f"{name} to be one number", short_repr(value), f"Pass a single {name}.")
    return float(value)  # type: ignore[arg-type]
