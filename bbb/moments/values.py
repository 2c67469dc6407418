"""A random array as its mean and variance, and what is assumed of it."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from bbb.moments.piecewise import Line, Pieces
from bbb.moments.quadrature import integrate
from bbb.tracing.interpreter import Lazy, carry_out, source_line


class MeanVariance(NamedTuple):
    """The first two moments of the outputs over the posterior, each of the outputs' shape."""

    mean: jax.Array
    variance: jax.Array


class Assumption(NamedTuple):
    """An assumption of a closed form: what it is, for which primitive, and for which line of the user's code."""

    what: str
    primitive: str
    where: str

    def __str__(self) -> str:
        """Return the assumption as a phrase, as `Exactness` and a prediction's `assumptions` list it."""
        return f"{self.what} (`{self.primitive}` at {self.where})"


UNCORRELATED = "elements that depend on the same weights are added as if they were uncorrelated"


INDEPENDENT = "values that depend on the same weights are combined as if they were independent"


GAUSSIAN = "a value that is not Gaussian goes through a nonlinear function as if it were"


UNSPLIT = "a kink at an unknown place is integrated over by quadrature"


@dataclasses.dataclass(frozen=True, eq=False)
class Random(Lazy):
    """Random elements that are known by their means and variances.

    Attributes:
        mean, variance: arrays of the same shape.
        sources: the leaves it depends on; values without a common source are independent.
        independent: the axes along which elements at different indices are independent.
        affine: whether it is an affine function of the weights, and so jointly Gaussian with all others that are.
        assumed: the assumptions of its moments, in the order in which they were made.
        line_of: another Random z and arrays a and b, if this one is a·z + b.
    """

    mean: jax.Array
    variance: jax.Array
    sources: frozenset[int] = frozenset()
    independent: frozenset[int] = frozenset()
    affine: bool = True
    assumed: tuple[Assumption, ...] = ()
    line_of: "tuple[Random, Line] | None" = None

    def remade(self, **changes: Any) -> "Random":
        """Return a copy with changes, which is no longer known as a line of another."""
        return dataclasses.replace(self, line_of=None, **changes)

    def through(self, equation: JaxprEqn, others: Sequence[Any], axes: Iterable[int]) -> list["Random"]:
        """Apply an equation that moves or adds elements to the mean and the variance; `axes` stay independent."""
        means = carry_out(equation, [self.mean, *others])
        variances = carry_out(equation, [self.variance, *others])
        return [
            self.remade(mean=mean, variance=variance, independent=frozenset(axes))
            for mean, variance in zip(means, variances, strict=True)
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise(Lazy):
    """g(z) for the elements z of a Random, not integrated yet.

    Attributes:
        base: z.
        function: g, from an array of the base's shape to one of it.
        pieces: the breaks and lines of g, as far as they are known.
        dtype: the dtype of g(z).
        assumed: the assumptions of the moments of z and of g(z).
    """

    base: Random
    function: Callable[[Any], Any]
    pieces: Pieces
    dtype: Any
    assumed: tuple[Assumption, ...]

    @functools.cached_property
    def resolved(self) -> Random:
        """The Random with E g(z) and Var g(z), for z ~ N(mean, variance)."""
        mean, variance = integrate(self.function, self.pieces, self.base.mean, self.base.variance)
        if jnp.issubdtype(self.dtype, jnp.floating):
            mean, variance = mean.astype(self.dtype), variance.astype(self.dtype)
        return self.base.remade(
            mean=mean,
            variance=variance,
            affine=self.base.affine and self.pieces.is_affine,
            assumed=self.assumed,
        )


def random_weight(mean: jax.Array, log_std: jax.Array, leaf: int) -> Random:
    """Return a Gaussian leaf of the parameters, by its index, as a Random."""
    return Random(mean, jnp.exp(2 * log_std), frozenset({leaf}), frozenset(range(mean.ndim)))


def as_random(value: Any) -> Random:
    """Return a value as a Random; an array has variance 0."""
    if isinstance(value, Elementwise):
        return value.resolved
    if isinstance(value, Random):
        return value
    return Random(value, jnp.zeros_like(value), independent=frozenset(range(jnp.ndim(value))))


def resolve(value: Any) -> Any:
    """Return a value as a Random or an array."""
    return value.resolved if isinstance(value, Elementwise) else value


def mean_of(value: Any) -> Any:
    """Return the mean of a Random, or an array itself."""
    return value.mean if isinstance(value, Random) else value


def is_independent(value: Any, axis: int) -> bool:
    """Return whether elements of a Random or an array at different indices of an axis are independent."""
    return not isinstance(value, Random) or axis in value.independent or value.mean.shape[axis] == 1


def both_independent(a: Any, b: Any, ndim: int) -> list[int]:
    """Return the axes along which both of two values are independent."""
    return [axis for axis in range(ndim) if is_independent(a, axis) and is_independent(b, axis)]


def make_assumption(what: str, equation: JaxprEqn) -> Assumption:
    """Return an assumption that is made at an equation."""
    return Assumption(what, equation.primitive.name, source_line(equation))


def join_assumptions(*lists: tuple[Assumption, ...]) -> tuple[Assumption, ...]:
    """Join lists of assumptions in order; of equal ones for the same line of code, keep the first."""
    found: dict[Any, Assumption] = {}
    for assumption in (assumption for assumptions in lists for assumption in assumptions):
        found.setdefault((assumption.what, assumption.where), assumption)
    return tuple(found.values())


def with_assumption(value: Random, condition: bool, what: str, equation: JaxprEqn) -> Random:
    """Return a value with one more assumption, if `condition` holds."""
    if not condition:
        return value
    return value.remade(assumed=join_assumptions(value.assumed, (make_assumption(what, equation),)))


def from_two(equation: JaxprEqn, a: Any, b: Any, pair: MeanVariance, axes: Iterable[int], affine: bool) -> Random:
    """Return the Random made of two values, each a Random or an array, that are taken as independent."""
    a, b = as_random(a), as_random(b)
    shared = a.sources & b.sources
    assumed = (make_assumption(INDEPENDENT, equation),) if shared else ()
    return Random(
        pair.mean,
        pair.variance,
        a.sources | b.sources,
        frozenset() if shared else frozenset(axes),
        affine,
        join_assumptions(a.assumed, b.assumed, assumed),
    )
