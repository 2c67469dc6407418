"""Functions of single numbers applied to random arrays."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from bbb.moments.piecewise import (
    COMPOSED,
    IDENTITY,
    Pieces,
    after_line,
    compose,
    constant,
    has_hidden_kink,
    line,
    refuse,
)
from bbb.moments.values import (
    GAUSSIAN,
    UNSPLIT,
    Elementwise,
    MeanVariance,
    Random,
    as_random,
    both_independent,
    from_two,
    join_assumptions,
    make_assumption,
    resolve,
)
from bbb.tracing.interpreter import Lazy, carry_out


def _elementwise(equation: JaxprEqn, inputs: list[Any]) -> list[Lazy]:
    """Compose functions if all random inputs are functions of the same Random; else combine two random values."""
    shape = equation.outvars[0].aval.shape  # type: ignore[attr-defined]
    inputs = [_spread(value, shape) if isinstance(value, Lazy) else value for value in inputs]
    bases = {id(base): base for base in map(_base, inputs) if base is not None}
    if len(bases) > 1 and len({id(_root(base)) for base in bases.values()}) == 1:
        inputs = [_lifted(value) if isinstance(value, Lazy) else value for value in inputs]
        bases = {0: _root(next(iter(bases.values())))}
    if len(bases) == 1:
        return [_composed(equation, inputs, *bases.values())]
    combine = _OF_TWO.get(equation.primitive.name)
    if combine is None:
        refuse(equation, ", of two that differ")
    return [combine(equation, *map(resolve, inputs))]


def _spread(value: Lazy, shape: tuple[int, ...]) -> Lazy:
    """Broadcast a random scalar, or axes of size 1, which an equation may combine with an array implicitly."""
    random = as_random(value)
    if random.mean.shape == shape:
        return value
    mean, variance = (jnp.broadcast_to(v, shape) for v in (random.mean, random.variance))
    whole = frozenset(axis for axis, size in enumerate(random.mean.shape) if size == shape[axis])
    return random.remade(mean=mean, variance=variance, independent=random.independent & whole)


def _base(value: Any) -> Random | None:
    return value.base if isinstance(value, Elementwise) else value if isinstance(value, Random) else None


def _root(base: Random) -> Random:
    return base if base.line_of is None else base.line_of[0]


def _lifted(value: Any) -> Lazy:
    """Return a function of y = a·z + b as a function of z."""
    base = value.base if isinstance(value, Elementwise) else value
    if base.line_of is None:
        return value
    root, (slope, intercept) = base.line_of
    function, pieces = _function(value), line(slope, intercept)
    if isinstance(value, Elementwise):
        pieces = after_line(value.pieces, slope, intercept)
    return Elementwise(root, lambda z: function(slope * z + intercept), pieces, base.mean.dtype, value.assumed)


def _composed(equation: JaxprEqn, inputs: list[Any], base: Random) -> Lazy:
    functions = [_function(value) for value in inputs]
    known = [_pieces(value, base) for value in inputs]
    pieces = compose(equation, known)
    assumed = join_assumptions(base.assumed, *(value.assumed for value in inputs if isinstance(value, Elementwise)))
    if not (pieces.is_affine or base.affine):
        assumed = join_assumptions(assumed, (make_assumption(GAUSSIAN, equation),))
    if has_hidden_kink(equation, known):
        assumed = join_assumptions(assumed, (make_assumption(UNSPLIT, equation),))
    dtype = equation.outvars[0].aval.dtype  # type: ignore[attr-defined]
    return _based(
        Elementwise(base, lambda z: carry_out(equation, [f(z) for f in functions])[0], pieces, dtype, assumed)
    )


def _based(value: Elementwise) -> Lazy:
    """Make a·z + b with arrays a and b a base of its own, so that the kinks of its functions are at known numbers.

    Such lines come from normalisation, or from a bias that is not random. In a function of both z and a·z + b, such as
    z·sigmoid(b·z), both become functions of z again: see `_lifted`.
    """
    if value.pieces.lines is None or not value.pieces.is_affine:
        return value
    slope, intercept = value.pieces.lines[0]
    if isinstance(slope, float) and isinstance(intercept, float):
        return value
    if value.base.line_of is None:
        return dataclasses.replace(value.resolved, line_of=(value.base, (slope, intercept)))
    root, (a, b) = value.base.line_of
    return dataclasses.replace(value.resolved, line_of=(root, (slope * a, slope * b + intercept)))


def _function(value: Any) -> Callable[[Any], Any]:
    if isinstance(value, Elementwise):
        return value.function
    return (lambda z: z) if isinstance(value, Random) else (lambda _: value)


def _pieces(value: Any, base: Random) -> Pieces:
    """Return the pieces of a value as a function of the base; an array is a constant."""
    if isinstance(value, Elementwise):
        return value.pieces
    if isinstance(value, Random):
        return IDENTITY
    return constant(value, base.mean.dtype)


def _added(equation: JaxprEqn, a: Any, b: Any) -> Random:
    a, b = as_random(a), as_random(b)
    mean = carry_out(equation, [a.mean, b.mean])[0]
    axes = both_independent(a, b, mean.ndim)
    return from_two(equation, a, b, MeanVariance(mean, a.variance + b.variance), axes, a.affine and b.affine)


def _multiplied(equation: JaxprEqn, a: Any, b: Any) -> Random:
    a, b = as_random(a), as_random(b)
    variance = a.variance * (b.variance + jnp.square(b.mean)) + jnp.square(a.mean) * b.variance
    axes = both_independent(a, b, variance.ndim)
    return from_two(equation, a, b, MeanVariance(a.mean * b.mean, variance), axes, False)


def _selected(equation: JaxprEqn, which: Any, *cases: Any) -> Random:
    if isinstance(which, Random):
        refuse(equation, ", which here chooses at random")
    values = [as_random(case) for case in cases]
    mean, variance = (carry_out(equation, [which, *(getattr(v, k) for v in values)])[0] for k in ("mean", "variance"))
    found = values[0]
    for value in values[1:]:
        axes, affine = both_independent(found, value, mean.ndim), found.affine and value.affine
        shared = found.sources & value.sources
        assumed = join_assumptions(found.assumed, value.assumed)
        found = Random(
            mean, variance, found.sources | value.sources, frozenset(() if shared else axes), affine, assumed
        )
    return found


_OF_TWO: dict[str, Callable[..., Random]] = {
    "add": _added,
    "add_any": _added,
    "sub": _added,
    "mul": _multiplied,
    "select_n": _selected,
}


ELEMENTWISE_RULES: dict[str, Callable[[JaxprEqn, list[Any]], Sequence[Any]]] = dict.fromkeys(COMPOSED, _elementwise)
"""Rules of primitives that act element by element, by their names."""
