"""Functions g(z) of one number z: their pieces, found from the primitives they are composed of, and their moments.

    Pieces                                    g, linear between its breaks; or a curve with known breaks only
    compose(equation, arguments) -> Pieces    a primitive of functions of z, for the names in `COMPOSED`
    integrate(g, pieces, m, v) -> (E, Var)    the moments of g(z) for z ~ N(m, v): in closed form, or by quadrature

Breaks and lines are Python floats if they are known when the network is traced, and arrays otherwise.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn
from jax.typing import DTypeLike

from bbb import _check
from bbb._trace import source_line

# Piecewise functions


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
    _check.fail(
        _check.UnknownPrimitiveError,
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


# Moments of piecewise linear functions of a Gaussian


FAR = 40.0
"""Breaks are clipped to this many standard deviations from the mean, beyond which no dtype has any mass."""


def piecewise_linear_moments(
    function: Callable[[jax.Array], jax.Array], pieces: Pieces, m: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Integrate a piecewise linear function as the line at the mean plus a correction, so that no digits are lost."""
    slope, intercept = pieces.line_at(m)
    if pieces.is_affine:
        return slope * m + intercept, jnp.square(slope) * v
    s, lost = safe_std(v)
    shift, variance = (_with_a_kink if pieces.is_kink else _with_any_lines)(pieces, m, s)
    mean = jnp.where(lost, function(m).astype(m.dtype), slope * m + intercept + shift)
    return mean, jnp.where(lost, jnp.square(slope) * v, jnp.maximum(variance, 0.0))


def _with_a_kink(pieces: Pieces, m: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the correction of the mean, and the variance, of two lines with a kink at b, where the slope grows by δ.

    With a₁ the slope above b, r = |m − b|/s, Q = 1 − Φ(r), the mass beyond the kink, H = φ(r) − r·Q, and a the slope at
    the mean m:

        E g − (a·m + c) = δ·s·H            Var g = s²·(a² ± 2·a·δ·Q + δ²·(Q − r·H − H²))     − if a is a₁

    These are the sums of `_with_any_lines` with fewer terms: a wide layer takes two thirds of the time.

    Source: the moments of a rectified Gaussian (Frey & Hinton 1999, Neural Comput. 11, 193), where for relu(z) a is 0
    or 1, and δ = 1.
    """
    assert pieces.lines is not None
    (a0, _), (a1, _) = pieces.lines
    t = standardized_break(pieces.breaks[0], m, s)
    r, change = jnp.abs(t), a1 - a0
    beyond = normal_tail(r)
    h = normal_density(r) - r * beyond
    own = jnp.where(t < 0, a1 * a1 - 2 * a1 * change * beyond, a0 * a0 + 2 * a0 * change * beyond)
    return change * s * h, jnp.square(s) * (own + change * change * (beyond - r * h - jnp.square(h)))


def _with_any_lines(pieces: Pieces, m: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the correction of the mean, and the variance, of any lines: sums over pieces.

    With z = m + s·t, line i, aᵢ·z + cᵢ, for t between αᵢ and βᵢ, and line r the one at m:

        E g − (aᵣ·m + cᵣ) = Σ gᵢ·M0ᵢ + aᵢ·s·M1ᵢ                   gᵢ = (aᵢ − aᵣ)·m + cᵢ − cᵣ
        Var g             = Σ (aᵢ·s)²·M2ᵢ + 2·aᵢ·s·dᵢ·M1ᵢ + dᵢ²·M0ᵢ     dᵢ = gᵢ − (E g − aᵣ·m − cᵣ)

    M0 = Φ(β) − Φ(α), M1 = φ(α) − φ(β), M2 = M0 + α·φ(α) − β·φ(β): the moments of truncated Gaussians.
    """
    assert pieces.lines is not None
    slope, intercept = pieces.line_at(m)
    masses = _masses([standardized_break(at, m, s) for at in pieces.breaks])
    steps = [(a - slope) * m + (c - intercept) for a, c in pieces.lines]
    spreads = [a * s for a, _ in pieces.lines]
    shift = sum(g * m0 + b * m1 for g, b, (m0, m1, _) in zip(steps, spreads, masses, strict=True))
    variance = sum(
        jnp.square(b) * m2 + 2 * b * (g - shift) * m1 + jnp.square(g - shift) * m0
        for g, b, (m0, m1, m2) in zip(steps, spreads, masses, strict=True)
    )
    return jnp.asarray(shift), jnp.asarray(variance)


def _masses(breaks: Sequence[jax.Array]) -> list[tuple[Any, Any, Any]]:
    """Compute ∫ tᵏ·φ(t) dt for k = 0, 1, 2 between neighbouring breaks, the first from −∞ and the last to ∞.

    Φ is represented by Φ(t) for t < 0 and by Φ(t) − 1 for t ≥ 0, so that neither tail loses digits.
    """
    below: list[Any] = [True, *(t < 0 for t in breaks), False]
    tails = [normal_tail(jnp.abs(t)) for t in breaks]
    kept: list[Any] = [0.0, *(jnp.where(t < 0, tail, -tail) for t, tail in zip(breaks, tails, strict=True)), 0.0]
    density: list[Any] = [0.0, *map(normal_density, breaks), 0.0]
    moment: list[Any] = [0.0, *(t * d for t, d in zip(breaks, density[1:], strict=False)), 0.0]

    def mass(low: int, high: int) -> tuple[Any, Any, Any]:
        m0 = kept[high] - kept[low] + jnp.where(below[low] & ~jnp.asarray(below[high]), 1.0, 0.0)
        return m0, density[low] - density[high], m0 + moment[low] - moment[high]

    return list(itertools.starmap(mass, itertools.pairwise(range(len(density)))))


def safe_std(variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the standard deviation, and where it is so small that its square underflows, and is set to 1."""
    lost = variance <= float(jnp.finfo(variance.dtype).tiny) ** 0.75
    return jnp.sqrt(jnp.where(lost, 1.0, variance)), lost


def standardized_break(at: Number, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Compute (at − mean)/std, clipped to ±FAR, with a finite gradient."""
    return jnp.clip(at - mean, -FAR * std, FAR * std) / std


def normal_density(t: jax.Array) -> jax.Array:
    return jnp.exp(-0.5 * jnp.square(t)) / math.sqrt(2 * math.pi)


_MILLS = (
    *(1.15679879, -0.137387192, -0.103618968, 0.136619832, -0.0600747943, 0.00145197013),
    *(0.00800424727, -0.000755410994, -0.00127246807, 0.0000707980478, 0.000163218122),
)
"""(t + √(2/π))·(1 − Φ(t))/φ(t) as a polynomial in (t − 3)/(t + 3), from 11 Chebyshev nodes: its error is below 3.1e-8
for all t ≥ 0."""


@jax.custom_jvp
def normal_tail(t: jax.Array) -> jax.Array:
    """Compute 1 − Φ(t) for t ≥ 0 with a small relative error for all t.

    In float32 it is φ(t), which the moments need anyway, times a polynomial: a wide layer takes half the time of one
    with erfc, of which both branches are always computed. The relative error is below 3e-7, plus that of rounding t²/2.

    Source: the form of Shepherd and Laframboise 1981, Mathematics of Computation 36(153).
    """
    if t.dtype != jnp.float32:
        return 0.5 * lax.erfc(t / math.sqrt(2))
    ratio = functools.reduce(lambda total, c: total * ((t - 3) / (t + 3)) + c, reversed(_MILLS), jnp.zeros_like(t))
    return normal_density(t) * ratio / (t + math.sqrt(2 / math.pi))


@normal_tail.defjvp
def _normal_tail_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (t,), (tangent,) = primals, tangents
    return normal_tail(t), -normal_density(t) * tangent


# Quadrature


NODES, CLUSTERING, REACH, CUT = 36, 3.5, 9.0, 5.5
"""Quadrature: the number of nodes on each side of a break, their concentration near it, and, in standard deviations,
the ends of the range and the distance up to which breaks are used. Chosen so that the errors of mean and variance of
tanh, softplus, gelu and others are below 1e-7 for means up to 10 and standard deviations up to 5, and 1e-6 up to 50."""


def integrate(
    function: Callable[[jax.Array], jax.Array], pieces: Pieces, mean: jax.Array, variance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Compute E g(z) and Var g(z) for z ~ N(mean, variance), element by element, each of the mean's shape and dtype.

    In closed form, exact up to rounding, if g is piecewise linear; else by quadrature.
    """
    return (_by_quadrature if pieces.lines is None else piecewise_linear_moments)(function, pieces, mean, variance)


def _by_quadrature(
    function: Callable[[jax.Array], jax.Array], pieces: Pieces, m: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Integrate an arbitrary function, separately on each side of each break.

    A single Gauss-Hermite rule would need hundreds of nodes for tanh(5·t), which has poles close to the real line, and
    would not converge at a kink. Both moments are of g(z) − g(m), so that no digits are lost for small s.
    """
    s, lost = safe_std(v)

    def g(z: jax.Array) -> jax.Array:
        return function(z).astype(m.dtype)

    anchors = _anchors(pieces, m, s)
    between = [(low + high) / 2 for low, high in itertools.pairwise(anchors)]
    ends: list[Any] = [-REACH, *between, REACH]
    sides = [(t, end - t) for t, *around in zip(anchors, ends, ends[1:], strict=False) for end in around]
    plain, slope = jax.jvp(g, (m,), (jnp.ones_like(m),))

    def add(totals: tuple[jax.Array, jax.Array], node: Any) -> tuple[Any, None]:
        first, second = totals
        for start, length in sides:
            t = start + length * node[0]
            mass = jnp.abs(length) * node[1] * normal_density(t)
            change = g(m + s * t) - plain
            first, second = first + mass * change, second + mass * jnp.square(change)
        return (first, second), None

    nodes = tuple(jnp.asarray(part, m.dtype) for part in _nodes())
    (first, second), _ = lax.scan(add, (jnp.zeros_like(m), jnp.zeros_like(m)), nodes)
    variance = jnp.maximum(second - jnp.square(first), 0.0)
    return (jnp.where(lost, plain, plain + first), jnp.where(lost, jnp.square(slope) * v, variance))


@functools.cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss-Legendre nodes and weights on (0, 1), concentrated near 0 by u → sinh(c·u)/sinh(c)."""
    u, weights = np.polynomial.legendre.leggauss(NODES)
    u, scale = CLUSTERING * (u + 1) / 2, math.sinh(CLUSTERING)
    return np.sinh(u) / scale, weights / 2 * CLUSTERING * np.cosh(u) / scale


def _anchors(pieces: Pieces, mean: jax.Array, std: jax.Array) -> list[jax.Array]:
    """Return the standardised breaks in order; one that is too far out is replaced by the mean, where there is mass."""
    found = [standardized_break(at, mean, std) for at in pieces.breaks or (0.0,)]
    found = [jnp.where(jnp.abs(t) < CUT, t, 0.0) for t in found]
    return list(jnp.sort(jnp.stack(found), axis=0)) if len(found) > 1 else found
