"""Functions g(z) of one number z: their pieces, found from the primitives they are composed of, and their moments.

    Pieces                                    g, linear between its breaks; or a curve with known breaks only
    compose(equation, arguments) -> Pieces    a primitive of functions of z, for the names in `COMPOSED`
    integrate(g, pieces, m, v) -> (E, Var)    the moments of g(z) for z ~ N(m, v): in closed form, or by quadrature

Breaks and lines are Python floats if they are known when the network is traced, and arrays otherwise.
"""

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.typing import DTypeLike

from bbb.errors import UnknownPrimitiveError, fail
from bbb.tracing.interpreter import source_line

Number = float | jax.Array
"""A number that is known when the network is traced, or an array that broadcasts to the shape of the random value."""


Line = tuple[Number, Number]
"""A slope and an intercept."""


class Pieces(NamedTuple):
    """A function of one number z, linear between its breaks: `lines` has one element more than `breaks`.

    If `lines` is None, the function is arbitrary, and the breaks are its kinks, or where it is most curved.
    """

    breaks: tuple[Number, ...]
    lines: tuple[Line, ...] | None

    def line_at(self, z: Number) -> Line:
        """Return the line of the piece that contains z."""
        assert self.lines is not None
        found = self.lines[0]
        for at, following in zip(self.breaks, self.lines[1:], strict=True):
            found = _pick(z > at, following, found)
        return found

    def value_at(self, z: Number) -> Number:
        """Return the value at z, which must not be a break."""
        slope, intercept = self.line_at(z)
        return slope * z + intercept

    @property
    def is_affine(self) -> bool:
        """Whether it is a·z + b for all z."""
        return self.lines is not None and len(self.lines) == 1

    @property
    def is_kink(self) -> bool:
        """Whether it is known to be two lines that meet, as in relu, leaky_relu and abs."""
        numbers = [*self.breaks, *itertools.chain(*(self.lines or ()))]
        if len(self.breaks) != 1 or len(numbers) != 5 or not all(isinstance(number, float) for number in numbers):
            return False
        at, a0, c0, a1, c1 = numbers
        return math.isclose(a0 * at + c0, a1 * at + c1, rel_tol=1e-12, abs_tol=1e-12)

    def constants(self) -> list[Number] | None:
        """Return the values of a function that is constant between breaks, or None for another function."""
        if self.lines is None or not all(_is_zero(slope) for slope, _ in self.lines):
            return None
        return [intercept for _, intercept in self.lines]


def constant(value: Any, dtype: DTypeLike) -> Pieces:
    """Return the constant function `value`."""
    known = not isinstance(value, jax.core.Tracer) and jnp.ndim(value) == 0
    return line(0.0, float(value) if known else jnp.asarray(value, dtype))


def line(slope: Number, intercept: Number) -> Pieces:
    """Return the function slope·z + intercept."""
    return Pieces((), ((slope, intercept),))


IDENTITY = line(1.0, 0.0)


def after_line(pieces: Pieces, slope: Number, intercept: Number) -> Pieces:
    """Return g(slope·z + intercept) as a curve, for the g with the given pieces."""
    safe = jnp.where(jnp.equal(slope, 0.0), 1.0, slope)
    return Pieces(_sorted([(at - intercept) / safe for at in pieces.breaks]), None)


def compose(equation: JaxprEqn, arguments: list[Pieces]) -> Pieces:
    """Return the pieces of a primitive of functions of z.

    Raises:
        UnknownPrimitiveError: if the result has no moments, or is rounded.
    """
    return _RULES[equation.primitive.name](equation, arguments)


def has_hidden_kink(equation: JaxprEqn, arguments: list[Pieces]) -> bool:
    """Return whether an equation has a kink or a jump at an unknown place."""
    return equation.primitive.name in _KINKED and any(argument.lines is None for argument in arguments)


def refuse(equation: JaxprEqn, why: str = "") -> NoReturn:
    """Raise the UnknownPrimitiveError of an equation without a closed-form rule, with the line of the user's code."""
    fail(
        UnknownPrimitiveError,
        "a network of operations that have a closed form",
        f"`{equation.primitive.name}` of random values at {source_line(equation)}{why}",
        'Use draws instead: predict(key, model, x, draws=10_000), or method="last_layer".',
    )


def _is_zero(value: Number) -> bool:
    return isinstance(value, float) and value == 0.0


def _pick(condition: Any, line: Line, other: Line) -> Line:
    if isinstance(condition, bool):
        return line if condition else other
    return (jnp.where(condition, line[0], other[0]), jnp.where(condition, line[1], other[1]))


def _sorted(breaks: Iterable[Number]) -> tuple[Number, ...]:
    """Return breaks in order; known numbers without duplicates, arrays possibly with equal elements."""
    floats = sorted({at for at in breaks if isinstance(at, float)})
    arrays = list({id(at): at for at in breaks if not isinstance(at, float)}.values())
    if len(floats) + len(arrays) <= 1 or not arrays:
        return (*floats, *arrays)
    shape = jnp.broadcast_shapes(*(at.shape for at in arrays))
    alike = [jnp.broadcast_to(jnp.asarray(at, arrays[0].dtype), shape) for at in (*floats, *arrays)]
    return tuple(jnp.sort(jnp.stack(alike), axis=0))


def _points(breaks: Sequence[Number]) -> list[Number]:
    """Return one point inside each piece."""
    if not breaks:
        return [0.0]
    between = [(low + high) / 2 for low, high in itertools.pairwise(breaks)]
    return [breaks[0] - 1.0, *between, breaks[-1] + 1.0]


def _merged(functions: Sequence[Pieces], extra: Iterable[Number] = ()) -> tuple[Number, ...]:
    return _sorted([*(at for function in functions for at in function.breaks), *extra])


def _linewise(make: Callable[..., Line]) -> Callable[[JaxprEqn, list[Pieces]], Pieces]:
    """Return the rule of a primitive that is linear in its arguments: `make(*lines)` is the line of the result."""

    def rule(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
        del equation
        breaks = _merged(inputs)
        if any(piece.lines is None for piece in inputs):
            return Pieces(breaks, None)
        return Pieces(breaks, tuple(make(*(f.line_at(z) for f in inputs)) for z in _points(breaks)))

    return rule


def _plus(f: Line, g: Line) -> Line:
    return f[0] + g[0], f[1] + g[1]


def _minus(f: Line, g: Line) -> Line:
    return f[0] - g[0], f[1] - g[1]


def _roots(f: Pieces) -> list[Number]:
    """Return the zeros of the lines inside their pieces."""
    assert f.lines is not None
    ends = (-math.inf, *f.breaks, math.inf)
    found: list[Number] = []
    for (slope, intercept), low, high in zip(f.lines, ends, ends[1:], strict=False):
        if not (isinstance(slope, float) and isinstance(intercept, float)):
            flat = jnp.equal(slope, 0.0)
            found.append(jnp.where(flat, 0.0, -intercept / jnp.where(flat, 1.0, slope)))
        elif slope != 0 and _may_be_inside(-intercept / slope, low, high):
            found.append(-intercept / slope)
    return found


def _may_be_inside(at: float, low: Number, high: Number) -> bool:
    """Return whether a point may be between two others; between arrays it may, and a surplus break does no harm."""
    return not (isinstance(low, float) and at <= low) and not (isinstance(high, float) and at >= high)


def _switching(make: Callable[..., Line]) -> Callable[[JaxprEqn, list[Pieces]], Pieces]:
    """Return the rule of a primitive that depends on which of two functions f and g is larger.

    `make(f's value, g's value, f's line, g's line)` is the line of the result.
    """

    def rule(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
        del equation
        f, g = inputs
        if f.lines is None or g.lines is None:
            return Pieces(_merged(inputs), None)
        breaks = _merged(inputs, _roots(_difference(f, g)))
        points = _points(breaks)
        return Pieces(breaks, tuple(make(f.value_at(z), g.value_at(z), f.line_at(z), g.line_at(z)) for z in points))

    return rule


def _difference(f: Pieces, g: Pieces) -> Pieces:
    breaks = _merged([f, g])
    return Pieces(breaks, tuple(_minus(f.line_at(z), g.line_at(z)) for z in _points(breaks)))


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[JaxprEqn, list[Pieces]], Pieces]:
    return _switching(lambda f, g, _, __: _pick(compare(f, g), (0.0, 1.0), (0.0, 0.0)))


_larger = _switching(lambda f, g, f_line, g_line: _pick(f > g, f_line, g_line))


_smaller = _switching(lambda f, g, f_line, g_line: _pick(f < g, f_line, g_line))


_sides = _switching(lambda f, g, _, __: _pick(f > g, (0.0, 1.0), (0.0, -1.0)))


def _sign(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    return _sides(equation, [inputs[0], line(0.0, 0.0)])


def _absolute(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    return _larger(equation, [inputs[0], _negated(equation, inputs)])


def _clamped(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    low, value, high = inputs
    return _smaller(equation, [_larger(equation, [low, value]), high])


_negated = _linewise(lambda f: (-f[0], -f[1]))


def _times(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    """Multiply two functions; the product has lines if at least one is constant between its breaks."""
    f, g = inputs
    if f.constants() is None and g.constants() is None:
        return Pieces(_merged(inputs), None)
    return _linewise(lambda f, g: (f[0] * g[1] if _is_zero(g[0]) else f[1] * g[0], f[1] * g[1]))(equation, inputs)


def _divided(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    constants = inputs[1].constants()
    if any(map(_is_zero, constants or ())):
        refuse(equation, ", which here divides by 0: it has no moments")
    if constants is None:
        return _where_positive(equation, [inputs[1]])._replace(breaks=_merged(inputs))
    return _linewise(lambda f, g: (f[0] / g[1], f[1] / g[1]))(equation, inputs)


def _chosen(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    which, *cases = inputs
    breaks = _merged(inputs)
    if len(cases) != 2:
        refuse(equation)
    if any(piece.lines is None for piece in inputs):
        return Pieces(breaks, None)
    points = _points(breaks)
    first, second = cases
    return Pieces(breaks, tuple(_pick(which.value_at(z) > 0.5, second.line_at(z), first.line_at(z)) for z in points))


def _same_pieces(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    to = equation.outvars[0].aval.dtype  # type: ignore[attr-defined]
    if jnp.issubdtype(to, jnp.integer) and inputs[0].constants() is None:
        refuse(equation, ", which here rounds")
    return inputs[0]


def _smooth(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    """Compose with a smooth function, which is most curved near the zeros of its arguments."""
    del equation
    zeros = [root for piece in inputs if piece.lines is not None for root in _roots(piece)]
    return Pieces(_merged(inputs, zeros), None)


def _where_positive(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    """Compose with a function of positive numbers only.

    Raises:
        UnknownPrimitiveError: if an argument is known to take negative values.
    """
    for piece in inputs:
        if piece.lines is not None and not _is_positive(piece):
            refuse(equation, ", which may be negative: it has no moments")
    return _smooth(equation, inputs)


def _is_positive(piece: Pieces) -> bool:
    """Return whether a piecewise linear function of known numbers is nowhere negative."""
    assert piece.lines is not None
    numbers = [*piece.breaks, *(number for line in piece.lines for number in line)]
    if not all(isinstance(number, float) for number in numbers):
        return piece.constants() is not None  # arrays of constants are not checked
    corners = [a * at + b for at in piece.breaks for a, b in (piece.line_at(at - 1e-9), piece.line_at(at + 1e-9))]
    rises = piece.lines[0][0] <= 0 <= piece.lines[-1][0]
    return bool(rises) and all(value >= 0 for value in corners or [piece.lines[0][1]])


def _power(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    _where_positive(equation, inputs[:1])
    return _smooth(equation, inputs)


def _integer_power(equation: JaxprEqn, inputs: list[Pieces]) -> Pieces:
    return (_where_positive if equation.params["y"] < 0 else _smooth)(equation, inputs)


_RULES: dict[str, Callable[[JaxprEqn, list[Pieces]], Pieces]] = {
    **dict.fromkeys(("add", "add_any"), _linewise(_plus)),
    "sub": _linewise(_minus),
    "neg": _negated,
    "mul": _times,
    "div": _divided,
    "max": _larger,
    "min": _smaller,
    "abs": _absolute,
    "clamp": _clamped,
    "sign": _sign,
    "select_n": _chosen,
    "and": _linewise(lambda f, g: (0.0, f[1] * g[1])),
    "or": _linewise(lambda f, g: (0.0, f[1] + g[1] - f[1] * g[1])),
    "not": _linewise(lambda f: (0.0, 1.0 - f[1])),
    **{name: _compared(getattr(operator, name)) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    **dict.fromkeys(("convert_element_type", "copy", "copy_p", "stop_gradient", "reduce_precision"), _same_pieces),
    **dict.fromkeys(("exp", "exp2", "expm1", "tanh", "logistic", "erf", "erfc", "square"), _smooth),
    **dict.fromkeys(("sin", "cos", "sinh", "cosh", "asinh", "atan"), _smooth),
    **dict.fromkeys(("log", "log1p", "sqrt", "rsqrt"), _where_positive),
    "pow": _power,
    "integer_pow": _integer_power,
}


_KINKED = {"max", "min", "abs", "clamp", "sign", "lt", "le", "gt", "ge"}
"""Functions with kinks or jumps, at places that are known only if what they compare is piecewise linear."""


COMPOSED = frozenset(_RULES)
"""The names of the primitives that `compose` knows: functions of numbers, element by element."""
