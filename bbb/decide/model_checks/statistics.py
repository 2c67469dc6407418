"""What observations are compared by: statistics of y, by name or a function of one's own.

A statistic is a function of a likelihood, of y, (rows, ...), and of the outputs of the network there, (rows, ...); it
returns one number. Those of this module are pure JAX, and of one value for all draws of a compiled program.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.ability import implements
from bbb.errors import InputError, ShapeError, fail
from bbb.likelihoods.per_member import PerMember
from bbb.likelihoods.protocol import SupportsClasses, SupportsMoments, is_discrete

Statistic = Callable[[Any, jax.Array, jax.Array], jax.Array]


def mean(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return the mean of y."""
    del likelihood
    return jnp.mean(y, dtype=outputs.dtype)


def std(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return the standard deviation of y."""
    del likelihood
    return jnp.std(y.astype(outputs.dtype))


def least(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return the least y."""
    del likelihood
    return jnp.min(y).astype(outputs.dtype)


def greatest(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return the greatest y."""
    del likelihood
    return jnp.max(y).astype(outputs.dtype)


def zeros(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return the share of y that is 0."""
    del likelihood
    return jnp.mean(y == 0, dtype=outputs.dtype)


def autocorrelation(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return the correlation of standardised residuals of neighbouring rows, as of a series in the order of rows."""
    mean, variance = likelihood.mean(outputs), likelihood.variance(outputs)
    residuals = (y.astype(outputs.dtype) - mean) / jnp.sqrt(variance)
    residuals = residuals - jnp.mean(residuals, axis=0, keepdims=True)
    square = jnp.maximum(jnp.sum(jnp.square(residuals)), jnp.finfo(outputs.dtype).tiny)
    return jnp.sum(residuals[1:] * residuals[:-1]) / square


def shares(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return how far the counts of classes are from what the outputs say: Σ (count − expected)²/expected."""
    probabilities = likelihood.probabilities(outputs)
    classes = probabilities.shape[-1]
    seen = jax.nn.one_hot(y.astype(jnp.int32), classes, dtype=outputs.dtype)
    counts, expected = (jnp.sum(part.reshape(-1, classes), axis=0) for part in (seen, probabilities))
    return jnp.sum(jnp.square(counts - expected) / jnp.maximum(expected, jnp.finfo(outputs.dtype).tiny))


def log_prob(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return Σ log p(y | outputs), in nats."""
    return jnp.sum(likelihood.log_prob(y, outputs))


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "std": std,
    "min": least,
    "max": greatest,
    "zeros": zeros,
    "autocorrelation": autocorrelation,
    "shares": shares,
    "log_prob": log_prob,
}


OF_NUMBERS, OF_COUNTS = ("mean", "std", "min", "max", "log_prob"), ("mean", "std", "zeros", "max", "log_prob")
OF_CLASSES = ("shares", "log_prob")
"""What is compared unless told, of measurements, of counts and of classes."""


@dataclasses.dataclass(frozen=True)
class Own:
    """A user's function of y and the outputs, as a statistic."""

    function: Callable[[jax.Array, jax.Array], jax.Array]

    def __call__(self, likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return its value."""
        del likelihood
        return jnp.asarray(self.function(y, outputs), outputs.dtype)


def one_likelihood(likelihood: Any) -> Any:
    """Return the likelihood of all draws: where each member has its own, with the mean of their parameters."""
    if isinstance(likelihood, PerMember):
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), likelihood.likelihood)
    return likelihood


def default_names(likelihood: Any) -> tuple[str, ...]:
    """Return the names of the statistics for a kind of observations."""
    if implements(likelihood, SupportsClasses):
        return OF_CLASSES
    return OF_COUNTS if is_discrete(likelihood) else OF_NUMBERS


def statistics_of(given: Any, likelihood: Any) -> dict[str, Statistic]:
    """Return statistics by their names: of names, of a function, of a list of both, or of a dictionary of functions.

    Raises:
        InputError: for a name that is none, or does not fit the likelihood, or for anything else.
    """
    if given is None:
        given = default_names(likelihood)
    if isinstance(given, dict):
        return {_text(name): _own(function) for name, function in given.items()}
    items: Sequence[Any] = given if isinstance(given, list | tuple) else (given,)
    if not items:
        fail(InputError, "at least one statistic", "none", "Pass statistics=None for those of the likelihood.")
    found = {}
    for item in items:
        if isinstance(item, str):
            found[item] = _named(item, likelihood)
        else:
            found[getattr(getattr(item, "func", item), "__name__", "statistic")] = _own(item)
    return found


def _text(name: Any) -> str:
    if not isinstance(name, str):
        do = 'Pass statistics={"range": lambda y, outputs: y.max() - y.min()}.'
        fail(InputError, "names of statistics to be words", f"{name!r}", do)
    return name


def _own(function: Any) -> Own:
    checks.function("a statistic", function, "Pass a function of y and the outputs, or the name of a statistic.")
    checks.hashable("a statistic", function)
    return Own(function)


def _named(name: str, likelihood: Any) -> Statistic:
    """Return the statistic of a name, if the likelihood has what it needs."""
    checks.word("a statistic", name, tuple(STATISTICS))
    needs = {"autocorrelation": SupportsMoments, "shares": SupportsClasses}.get(name)
    if needs is not None and not implements(likelihood, needs):
        do = f"Pass some of {', '.join(default_names(likelihood))}."
        fail(InputError, f"a likelihood for the statistic {name!r}", f"a {type(likelihood).__name__}", do)
    return STATISTICS[name]


def check_numbers(statistics: dict[str, Statistic], likelihood: Any, y: Any, outputs: Any) -> None:
    """Raise for a statistic that does not give one number of y and outputs; nothing is computed.

    Raises:
        ShapeError, InputError: naming it.
    """
    for name, statistic in statistics.items():
        try:
            found = jax.eval_shape(statistic, likelihood, y, outputs)
        except Exception as error:  # a user's function may raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            do = "Pass a function of y and the outputs, (rows, ...) each, by JAX, which returns one number."
            expected = "Expected a statistic that JAX can trace"
            raise InputError(f"{expected}, got '{name}', which fails: {reason} {do}") from error
        if found.shape:
            do = "Return one number, such as y.max()."
            fail(ShapeError, f"the statistic '{name}' to be one number", f"shape {found.shape}", do)
