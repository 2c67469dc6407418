"""Networks with the weights integrated out: `moments(apply)(posterior, x) -> (mean, variance)`, without draws.

The network is traced, and evaluated on values that are known by their first two moments, of two kinds:

    Random        a mean and a variance for each element: a weight, a pre-activation, an activation
    Elementwise   g(z) for a Random z: kept as a function, so that z·sigmoid(z) is one function of one z, until an
                  operation that is not elementwise reads it

The moments of products and sums of independent values are exact, and so are those of g(z) for a Gaussian z. Where a
network needs more than that, values are assumed to be independent or Gaussian, and carry an `Assumption` that says so.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from bbb import _check
from bbb._compile import jit
from bbb._noise import SMALL
from bbb._pieces import (
    COMPOSED,
    IDENTITY,
    Line,
    Pieces,
    after_line,
    compose,
    constant,
    has_hidden_kink,
    integrate,
    line,
    refuse,
)
from bbb._posterior_protocol import Posterior
from bbb._trace import Lazy, called, carry_out, run, source_line
from bbb._tree import Tree, count, names
from bbb.forward import Apply, leaf_pairs, traced
from bbb.posterior import MeanField, independent

# Random values


class Closed(NamedTuple):
    """The first two moments of the outputs over the posterior, each of the outputs' shape."""

    mean: jax.Array
    variance: jax.Array


class Assumption(NamedTuple):
    """An assumption of a closed form: what it is, for which primitive, and for which line of the user's code."""

    what: str
    primitive: str
    where: str


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


def from_two(equation: JaxprEqn, a: Any, b: Any, pair: Closed, axes: Iterable[int], affine: bool) -> Random:
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


# Products, sums, and operations that move elements


Axes = tuple[list[tuple[Any, int]], list[int]]
"""The summed axes, as pairs of an input and its axis, and the independent axes of the output."""


def _contract(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    """Compute the moments of a `dot_general` or a convolution of values a and b, of which at least one is random.

    With independent terms, E = Σ ā·b̄ and Var = Σ var a·(var b + b̄²) + ā²·var b.
    """
    a, b = map(resolve, inputs)

    def product(left: Any, right: Any) -> jax.Array:
        return carry_out(equation, [left, right])[0]

    summed, axes = _AXES[equation.primitive.name](equation, a, b)
    mean = product(mean_of(a), mean_of(b))
    if not isinstance(a, Random):
        variance = product(jnp.square(a), b.variance)
    elif not isinstance(b, Random):
        variance = product(a.variance, jnp.square(b))
    else:
        variance = product(a.variance, b.variance + jnp.square(b.mean)) + product(jnp.square(a.mean), b.variance)
    both = isinstance(a, Random) and isinstance(b, Random)
    affine = not both and as_random(a).affine and as_random(b).affine
    found = from_two(equation, a, b, Closed(mean, variance), axes, affine)
    correlated = not all(is_independent(value, axis) for value, axis in summed)
    return [with_assumption(found, correlated, UNCORRELATED, equation)]


def _dot_axes(equation: JaxprEqn, a: Any, b: Any) -> Axes:
    (summed_a, summed_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    free_a = [i for i in range(jnp.ndim(mean_of(a))) if i not in (*summed_a, *batch_a)]
    free_b = [i for i in range(jnp.ndim(mean_of(b))) if i not in (*summed_b, *batch_b)]
    batch = [
        is_independent(a, i) and is_independent(b, j) and (isinstance(a, Random) or isinstance(b, Random))
        for i, j in zip(batch_a, batch_b, strict=True)
    ]
    # An output (i, j) shares b's column j with (i', j): a's free axes are independent only if b is an array.
    rows = [is_independent(a, i) and not isinstance(b, Random) for i in free_a]
    columns = [is_independent(b, j) and not isinstance(a, Random) for j in free_b]
    summed = [(a, i) for i in summed_a] + [(b, i) for i in summed_b]
    return summed, [axis for axis, independent in enumerate((*batch, *rows, *columns)) if independent]


def _conv_axes(equation: JaxprEqn, a: Any, b: Any) -> Axes:
    numbers = equation.params["dimension_numbers"]
    (rows, *inside), (channels, *window) = numbers.lhs_spec, numbers.rhs_spec
    axes = []
    if not isinstance(b, Random) and is_independent(a, rows):
        axes.append(numbers.out_spec[0])
    if not isinstance(a, Random) and is_independent(b, channels):
        axes.append(numbers.out_spec[1])
    wide = [i == 0 or mean_of(b).shape[axis] > 1 for i, axis in enumerate(window)]  # a window of 1 adds no places
    summed = [(a, axis) for axis, is_wide in zip(inside, wide, strict=True) if is_wide]
    return summed + [(b, axis) for axis in window], axes


_AXES: dict[str, Callable[[JaxprEqn, Any, Any], Axes]] = {
    "dot_general": _dot_axes,
    "conv_general_dilated": _conv_axes,
}


def _moved(axes: Callable[[JaxprEqn, Random], Iterable[int]]) -> Callable[[JaxprEqn, list[Any]], list[Random]]:
    """Return the rule of an equation that moves the elements of its first input; `axes` returns independent axes."""

    def rule(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
        value, *others = map(resolve, inputs)
        if not isinstance(value, Random) or any(isinstance(other, Random) for other in others):
            refuse(equation, ", which here chooses places at random")
        return value.through(equation, others, axes(equation, value))

    return rule


def _same_axes(equation: JaxprEqn, value: Random) -> Iterable[int]:
    del equation
    return value.independent


def _transposed_axes(equation: JaxprEqn, value: Random) -> Iterable[int]:
    return [new for new, old in enumerate(equation.params["permutation"]) if old in value.independent]


def _squeezed_axes(equation: JaxprEqn, value: Random) -> Iterable[int]:
    kept = [axis for axis in range(value.mean.ndim) if axis not in equation.params["dimensions"]]
    return [new for new, old in enumerate(kept) if old in value.independent]


def _broadcast_axes(equation: JaxprEqn, value: Random) -> Iterable[int]:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    kept = enumerate(places)
    return [new for old, new in kept if old in value.independent and value.mean.shape[old] == shape[new]]


def _reshaped_axes(equation: JaxprEqn, value: Random) -> Iterable[int]:
    """Match groups of old axes with groups of new axes: (2, 6) to (2, 3, 2) matches 0 with 0, and 1 with 1 and 2."""
    if equation.params["dimensions"] is not None:
        return ()
    old, new = value.mean.shape, equation.params["new_sizes"]
    ends_old, ends_new = np.cumprod(old).tolist(), np.cumprod(new).tolist()
    shared = sorted(set(ends_old) & set(ends_new)) if value.mean.size else []
    axes: list[int] = []
    for start, end in zip([1, *shared], shared, strict=False):
        group = [axis for axis, stop in enumerate(ends_old) if start < stop <= end and old[axis] > 1]
        if all(axis in value.independent for axis in group):
            axes += [axis for axis, stop in enumerate(ends_new) if start < stop <= end and new[axis] > 1]
    return axes


def _gathered_axes(equation: JaxprEqn, value: Random) -> Iterable[int]:
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [axis for axis in range(value.mean.ndim) if axis not in gone]
    whole = [axis in value.independent and sizes[axis] == value.mean.shape[axis] for axis in kept]
    return [new for new, independent in zip(numbers.offset_dims, whole, strict=True) if independent]


def _summed(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    value = resolve(inputs[0])
    gone = equation.params["axes"]
    kept = [axis for axis in range(value.mean.ndim) if axis not in gone]
    correlated = not all(is_independent(value, axis) for axis in gone)
    value = with_assumption(value, correlated, UNCORRELATED, equation)
    axes = [new for new, old in enumerate(kept) if old in value.independent]
    return value.through(equation, (), axes)


def _window_summed(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    value, window = resolve(inputs[0]), equation.params["window_dimensions"]
    correlated = not all(is_independent(value, axis) for axis, size in enumerate(window) if size > 1)
    value = with_assumption(value, correlated, UNCORRELATED, equation)
    axes = [axis for axis in value.independent if window[axis] == 1]
    return value.through(equation, (), axes)


def _padded(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    value, filler = map(resolve, inputs)
    if isinstance(filler, Random):
        refuse(equation, ", which here pads with random values")
    variance = carry_out(equation, [value.variance, jnp.zeros_like(filler)])[0]
    return [value.through(equation, [filler], value.independent)[0].remade(variance=variance)]


def _concatenated(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    values = [as_random(value) for value in inputs]
    many = [leaf for value in values for leaf in value.sources]
    axes = frozenset.intersection(*(value.independent for value in values))
    if len(set(many)) < len(many):  # an element of one may depend on any element of another
        axes = frozenset()
    mean, variance = (carry_out(equation, [getattr(v, name) for v in values])[0] for name in ("mean", "variance"))
    assumed = join_assumptions(*(value.assumed for value in values))
    return [Random(mean, variance, frozenset(many), axes, all(value.affine for value in values), assumed)]


LINEAR_RULES: dict[str, Callable[[JaxprEqn, list[Any]], Sequence[Any]]] = {
    **dict.fromkeys(_AXES, _contract),
    **dict.fromkeys(("rev", "slice", "dynamic_slice", "split"), _moved(_same_axes)),
    "transpose": _moved(_transposed_axes),
    "squeeze": _moved(_squeezed_axes),
    "broadcast_in_dim": _moved(_broadcast_axes),
    "reshape": _moved(_reshaped_axes),
    "gather": _moved(_gathered_axes),
    "pad": _padded,
    "concatenate": _concatenated,
    "reduce_sum": _summed,
    "reduce_window_sum": _window_summed,
}
"""Rules of primitives that multiply, add or move elements, by their names."""


# Elementwise functions of one random value, or of two


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
    return from_two(equation, a, b, Closed(mean, a.variance + b.variance), axes, a.affine and b.affine)


def _multiplied(equation: JaxprEqn, a: Any, b: Any) -> Random:
    a, b = as_random(a), as_random(b)
    variance = a.variance * (b.variance + jnp.square(b.mean)) + jnp.square(a.mean) * b.variance
    axes = both_independent(a, b, variance.ndim)
    return from_two(equation, a, b, Closed(a.mean * b.mean, variance), axes, False)


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


# Rules


RULES = LINEAR_RULES | ELEMENTWISE_RULES
"""The rule of each primitive, by its name."""


class MomentRules:
    """Rules for equations with random inputs: see `_trace.Rules`."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Apply the rule of a primitive; a call has none, so that it is entered."""
        if called(equation) is not None:
            return None
        rule = RULES.get(equation.primitive.name)
        return refuse(equation) if rule is None else rule(equation, inputs)

    def share(self, value: Lazy) -> Lazy:
        """Return the value: moments may be read many times."""
        return value

    def settle(self, value: Lazy, equation: JaxprEqn | None) -> Any:
        """Raise UnknownPrimitiveError, because a random value has no array."""
        del value
        assert equation is not None, "outputs stay lazy"
        refuse(equation)


class AffineRules(MomentRules):
    """The same rules, for values that must stay affine in the weights."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Apply the rule of a primitive, and raise UnknownPrimitiveError if its outputs are not affine."""
        outputs = super().apply(equation, inputs)
        if not all(map(_is_affine, outputs or ())):
            refuse(equation)
        return outputs


def _is_affine(value: Any) -> bool:
    if isinstance(value, Elementwise):
        return value.base.affine and value.pieces.is_affine
    return value.affine


# Running a network


class OutputFacts(NamedTuple):
    """What is known about the outputs without computing them."""

    affine: bool
    assumed: tuple[Assumption, ...]


def is_large(posterior: MeanField, x: Any) -> bool:
    """Return whether activations, at most one product for each row and weight, may be larger than the caches."""
    return count(posterior.mean) * max((jnp.shape(leaf)[0] for leaf in jax.tree.leaves(x)), default=1) > SMALL


@partial(jit, static_argnames=("apply", "leaves"))
def integrated_moments(
    posterior: MeanField, params: Tree | None, x: Any, *, apply: Apply, leaves: tuple[int, ...] | None
) -> Closed:
    """Compute the moments of the outputs at x, with the leaves of `random_outputs`."""
    found = random_outputs(MomentRules(), apply, posterior, params, x, leaves)
    return Closed(found.mean, found.variance)


def random_outputs(
    rules: "MomentRules", apply: Apply, posterior: MeanField, params: Tree | None, x: Any, leaves: Sequence[int] | None
) -> "Random":
    """Run the network with random `leaves` (all if None); the others are from `params` (the means if None)."""
    network = traced(apply, posterior.mean, x)
    plain = jax.tree.leaves(posterior.mean if params is None else params)
    values = [
        value if log_std is None or (leaves is not None and i not in leaves) else random_weight(mean, log_std, i)
        for i, ((mean, log_std), value) in enumerate(zip(leaf_pairs(posterior), plain, strict=True))
    ]
    outputs = run(network, [*values, *jax.tree.leaves(x)], rules)
    if len(jax.tree.leaves(network.outputs)) != 1:
        got = f"a {type(outputs).__name__}"
        _check.fail(_check.ShapeError, "the network to return one array", got, "Select one of its outputs in apply.")
    return as_random(jax.tree.leaves(outputs, is_leaf=lambda v: isinstance(v, Lazy))[0])


def output_facts(
    rules: "MomentRules", apply: Apply, posterior: MeanField, x: Any, leaves: Sequence[int] | None
) -> OutputFacts:
    """Return what is known about the outputs, from shapes only."""
    about: list[OutputFacts] = []

    def note(posterior: MeanField, x: jax.Array) -> None:
        found = random_outputs(rules, apply, posterior, None, x, leaves)
        about.append(OutputFacts(found.affine, found.assumed))

    jax.eval_shape(note, posterior, x)
    return about[0]


# All weights integrated out


class Exactness(NamedTuple):
    """Whether moments are exact (up to rounding and quadrature), and the assumptions if they are not."""

    exact: bool
    assumptions: tuple[Assumption, ...]

    def __str__(self) -> str:
        if self.exact:
            return "exact"
        lines = (f"{what} (`{primitive}` at {where})" for what, primitive, where in self.assumptions)
        return "\n".join(("approximate:", *(f"- {line}" for line in lines)))


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """A network with its weights integrated out: see `moments`."""

    apply: Apply

    def __post_init__(self) -> None:
        """Check that `apply` can be a network."""
        _check.network(self.apply)

    def __call__(self, posterior: Posterior, x: jax.Array) -> Closed:
        """Return the mean and the variance of the outputs at x, each of the outputs' shape.

        Raises:
            UnknownPrimitiveError: if a random value is the input of an operation without a rule.
            NonFiniteOutputError: if they are not finite, as for a network that divides by 0.
            InputError: if x is not an array of numbers, or a tree of them.
        """
        _check.arrays("x", x)
        found = self.unchecked(posterior, x)
        _check_finite(found)
        return found

    def unchecked(self, posterior: Posterior, x: Any) -> Closed:
        """Compute the same without checking that it is finite, for callers that check and report it themselves."""
        posterior = independent(posterior, "moments")
        _check.alive("x", x)
        return integrated_moments(posterior, None, x, apply=self.apply, leaves=None, large=is_large(posterior, x))

    def exactness(self, posterior: Posterior, x: Tree) -> Exactness:
        """Return whether the moments are exact, and where they are not; nothing is computed."""
        posterior = independent(posterior, "moments")
        _check.arrays("x", x, also=jax.ShapeDtypeStruct)
        assumed = output_facts(MomentRules(), self.apply, posterior, x, None).assumed
        return Exactness(not assumed, assumed)


def moments(apply: Apply) -> ClosedForm:
    """Integrate out the weights of a network: `moments(apply)(posterior, x) -> (mean, variance)`.

    For networks of products, convolutions, sums and means (including average pooling), operations that move elements,
    and elementwise functions. Layer normalisation, maxima over several values (max pooling, softmax, and so attention),
    sorting, rounding, division by values that may be negative, and scans over random values raise an error that names
    the operation: use draws for those.

    Exact for a linear network of up to two layers, and for one hidden layer: with piecewise linear activations in
    closed form, with others by quadrature. For deeper networks the elements of a layer are taken as independent, and
    sums of products of random values as Gaussian. `moments(apply).exactness(posterior, x)` says which, and where.

    Raises (when called):
        UnknownPrimitiveError: if a random value is the input of an operation without a rule.
        InputError, ShapeError: if the network cannot be traced, or does not return one array.

    Source: for one hidden layer, the moments of a rectified Gaussian (Frey & Hinton 1999, Neural Comput. 11, 193) and
    of a product of independent variables; for deeper ones moment matching, as in Wu et al. 2019, arXiv 1810.03958,
    §3, with independent elements.
    """
    return ClosedForm(apply)


def _check_finite(found: Closed) -> None:
    """Check that moments are finite; tracers pass.

    Raises:
        NonFiniteOutputError: with the first row whose moments are NaN or infinite.
    """
    if isinstance(found.mean, jax.core.Tracer) or isinstance(found.variance, jax.core.Tracer):
        return
    right = np.isfinite(np.asarray(found.mean)) & np.isfinite(np.asarray(found.variance))
    if not right.all():
        row = int(np.argwhere(~right)[0][0]) if right.ndim else 0
        do = "Look there for a division by 0, a logarithm of 0, or an overflow of the dtype."
        got = f"NaN or infinity at row {row}: the network is not finite there"
        _check.fail(_check.NonFiniteOutputError, "finite moments of the outputs", got, do)


# Some leaves integrated out, given the others


@dataclasses.dataclass(frozen=True)
class Conditional:
    """A network with some leaves integrated out, given the other leaves: see `conditional_moments`."""

    apply: Apply
    leaves: tuple[str, ...]

    def __call__(self, params: Tree, posterior: MeanField, x: jax.Array) -> Closed:
        """Return the mean and the variance of the outputs at x, given the values of all other leaves in `params`.

        Raises:
            InputError: if a leaf is not one of the posterior's.
        """
        paths = names(posterior.mean)
        for name in self.leaves:
            if name not in paths:
                do = "Pass the result of last_layer."
                _check.fail(_check.InputError, f"leaves among {', '.join(paths)}", name, do)
        leaves = tuple(map(paths.index, self.leaves))
        return integrated_moments(posterior, params, x, apply=self.apply, leaves=leaves, large=is_large(posterior, x))


def conditional_moments(apply: Apply, leaves: Sequence[str]) -> Conditional:
    """Integrate out `leaves` only: `conditional_moments(apply, leaves)(params, posterior, x) -> (mean, variance)`.

    For the leaves of `last_layer`, the result is exact for each draw `params` of the other leaves, and its mean over
    draws has a smaller error than the mean over draws of all leaves (Rao–Blackwell). The leaves of `params` that are
    integrated out are not read.
    """
    return Conditional(apply, tuple(leaves))


def last_layer(apply: Apply, posterior: MeanField, x: Tree) -> tuple[str, ...]:
    """Return the names of the leaves of the last layer: those given which all others make the outputs Gaussian.

    For a dense network these are the weight and the bias of its last layer. They are found from the trace: leaves are
    tried in the reverse order of their first use.

    Raises:
        InputError: if there is no such leaf, as when the outputs pass through a nonlinear function.
    """
    found: tuple[int, ...] = ()
    for leaf in reversed(_by_first_use(apply, posterior, x)):
        if _makes_gaussian(apply, posterior, x, (*found, leaf)):
            found = (*found, leaf)
    if not found:
        _check.fail(
            _check.InputError,
            "a network whose last layer is linear in its weights",
            "one whose outputs are not linear in any of its random leaves",
            'Use draws instead (method="draws"), or move the function of the outputs into the likelihood.',
        )
    paths = names(posterior.mean)
    return tuple(paths[leaf] for leaf in sorted(found))


def _makes_gaussian(apply: Apply, posterior: MeanField, x: Tree, leaves: Sequence[int]) -> bool:
    """Return whether the outputs are exactly Gaussian if only `leaves` are random."""
    try:
        about = output_facts(AffineRules(), apply, posterior, x, leaves)
    except _check.UnknownPrimitiveError:
        return False
    return about.affine and not about.assumed


def _by_first_use(apply: Apply, posterior: MeanField, x: Tree) -> list[int]:
    """Return the indices of the leaves that have a Gaussian, in the order of their first use in the network."""
    network, rules = traced(apply, posterior.mean, x), _FirstUseRules()

    def follow(params: Tree, x: jax.Array) -> None:
        leaves = [_Leaf(leaf, i) for i, leaf in enumerate(jax.tree.leaves(params))]
        run(network, [*leaves, *jax.tree.leaves(x)], rules)

    jax.eval_shape(follow, posterior.mean, x)
    pairs = leaf_pairs(posterior)
    return [leaf for leaf in rules.order if pairs[leaf][1] is not None]


@dataclasses.dataclass(frozen=True, eq=False)
class _Leaf(Lazy):
    """A leaf of the parameters whose first use is to be found."""

    array: jax.Array
    index: int


class _FirstUseRules:
    """Rules that record leaves in the order of their first use, and evaluate the network on arrays."""

    def __init__(self) -> None:
        self.order: list[int] = []

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> None:
        """Return None, so that leaves are settled."""

    def share(self, value: Lazy) -> Lazy:
        """Return the leaf, which may be read many times."""
        return value

    def settle(self, value: Any, equation: JaxprEqn | None) -> jax.Array:
        """Record the use of a leaf, and return its array."""
        del equation
        if value.index not in self.order:
            self.order.append(value.index)
        return value.array
