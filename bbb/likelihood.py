"""Likelihoods: what an observation y looks like, given the network's outputs."""

import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr, ndtri

from bbb import _check
from bbb._tree import Tree, noun


class Likelihood(Protocol):
    """What the objective and the predictive need of a likelihood.

    The objective needs `learn`, `as_target` and `log_prob`, which `Categorical` has; the predictive needs the rest,
    which makes sense for numbers alone, and works elementwise.
    """

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the likelihood's own parameters."""

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that is no observation of a network with such outputs; give it in the dtype of `log_prob`'s."""

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log p(y | outputs) in nats for each row."""

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs]."""

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs], the aleatoric variance."""

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give P(Y ≤ y | outputs)."""

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give the density of y, the derivative of `cdf`."""

    def quantile(self, p: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give the y at which `cdf` is p."""


@noun(data=("log_std",), static=("learn",))
class Gaussian:
    """y = outputs + N(0, std²): additive noise of one standard deviation.

    Args:
        std: a number, or an array that broadcasts against one row of outputs (one noise per output), in y's units.
        learn: whether `fit` learns it, from this start.

    Attributes:
        log_std: the natural logarithm of std, which is what `fit` moves.

    Raises:
        InputError: if std is not positive and finite.
    """

    log_std: Tree
    learn: bool

    def __init__(self, std: Tree = 1.0, learn: bool = False) -> None:
        _check.positive("noise std", std)
        object.__setattr__(self, "log_std", jnp.log(std) if isinstance(std, jax.Array) else np.log(std))
        object.__setattr__(self, "learn", bool(learn))

    @property
    def std(self) -> jax.Array:
        """The noise's standard deviation, in y's units."""
        return jnp.exp(self.log_std)

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that has not the shape of the network's outputs; give it in their dtype."""
        _check.target(y, outputs)
        return y.astype(outputs.dtype)

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log N(y; outputs, std²) in nats, shape (rows,): summed over the outputs of a row."""
        log_std = _like(self.log_std, outputs)
        z = (y - outputs) * jnp.exp(-log_std)
        nats = -0.5 * jnp.square(z) - log_std - 0.5 * math.log(2 * math.pi)
        return jnp.sum(nats, axis=tuple(range(1, nats.ndim)))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Give E[y | outputs], of the outputs' shape."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Give Var[y | outputs] = std², of the outputs' shape."""
        return jnp.broadcast_to(jnp.exp(2 * _like(self.log_std, outputs)), outputs.shape)

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
        scale = jnp.exp(-_like(self.log_std, outputs))
        return jnp.exp(-0.5 * jnp.square(self._z(y, outputs))) * scale / math.sqrt(2 * math.pi)

    def quantile(self, p: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give outputs + std·Φ⁻¹(p)."""
        return outputs + jnp.exp(_like(self.log_std, outputs)) * ndtri(p)

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-_like(self.log_std, outputs))


@noun(data=())
class Categorical:
    """y is one of several classes: y ~ Categorical(softmax(outputs)).

    y holds whole numbers from 0, shape (rows,); outputs are logits, (rows, classes). A class has no mean and no
    quantile: ask for `probabilities`.
    """

    @property
    def learn(self) -> bool:
        """It has no parameters of its own."""
        return False

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
        """Give log softmax(outputs)[y] in nats, shape (rows,), for y of shape (rows,) and outputs (rows, classes)."""
        return jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], axis=1)[:, 0]

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Give the probability of each class, softmax(outputs), over the last axis: any (..., classes)."""
        return jax.nn.softmax(outputs)


def _like(value: Tree, outputs: jax.Array) -> jax.Array:
    """Give `value` in the dtype of the outputs and, under strict promotion, their rank."""
    array = jnp.asarray(value, outputs.dtype)
    row = outputs.shape[max(outputs.ndim - array.ndim, 0) :]
    if array.ndim > outputs.ndim or any(n not in (1, m) for n, m in zip(array.shape, row, strict=True)):
        _check.fail(
            _check.ShapeError,
            f"noise std to broadcast against outputs of shape (..., {', '.join(map(str, row))})",
            f"shape {array.shape}",
            "Pass one number, or one for each output of a row.",
        )
    return array.reshape((1,) * (outputs.ndim - array.ndim) + array.shape)
