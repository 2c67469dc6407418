"""Networks with the weights integrated out: `moments(apply)(posterior, x) -> (mean, variance)`, without a draw.

The network is traced, and run again with values that are known by their first two moments. There are two kinds:

    Random        a mean and a variance for each element: a weight, a pre-activation, an activation
    Elementwise   g(z) for a Random z: kept as a function, so that z·sigmoid(z) is seen as one function of one z,
                  until something other than an elementwise function reads it

Products and sums of values that are independent have exact moments, and so has g(z) for a Gaussian z. Where a network
needs more than that, independence or a Gaussian is assumed, and the value carries an `Assumption` that says so.
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

# What it gives


class Closed(NamedTuple):
    """The first two moments of the outputs over the posterior, each of the outputs' shape."""

    mean: jax.Array
    variance: jax.Array


class Assumption(NamedTuple):
    """What a closed form assumed, of which primitive, and where the user's code asked for it."""

    what: str
    primitive: str
    where: str


class Exactness(NamedTuple):
    """Whether moments are exact (up to rounding and quadrature), and if not, what was assumed on the way."""

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
        """Refuse what is no network."""
        _check.network(self.apply)

    def __call__(self, posterior: Posterior, x: Any) -> Closed:
        """Give the mean and the variance of the outputs at x.

        Raises:
            UnknownPrimitiveError: if a random value meets an operation that has no rule here.
            NonFiniteOutputError: if they are not finite, as of a network that divides by 0.
            InputError: if x is no array of numbers, or tree of such.
        """
        _check.arrays("x", x)
        found = self.unchecked(posterior, x)
        _refuse_what_is_not_finite(found)
        return found

    def unchecked(self, posterior: Posterior, x: Any) -> Closed:
        """Compute the same without looking whether it is finite, for a caller who looks and can say more."""
        posterior = independent(posterior, "moments")
        _check.alive("x", x)
        return _closed(posterior, None, x, apply=self.apply, leaves=None, large=_is_large(posterior, x))

    def exactness(self, posterior: Posterior, x: Any) -> Exactness:
        """Say whether the moments are exact, and where they are not; nothing is computed."""
        posterior = independent(posterior, "moments")
        _check.arrays("x", x, also=jax.ShapeDtypeStruct)
        assumed = _abstractly(_Rules(), self.apply, posterior, x, None).assumed
        return Exactness(not assumed, assumed)


def _refuse_what_is_not_finite(found: Closed) -> None:
    """Name the first row whose moments are NaN or infinite; tracers pass."""
    if isinstance(found.mean, jax.core.Tracer) or isinstance(found.variance, jax.core.Tracer):
        return
    right = np.isfinite(np.asarray(found.mean)) & np.isfinite(np.asarray(found.variance))
    if not right.all():
        row = int(np.argwhere(~right)[0][0]) if right.ndim else 0
        do = "Look there for a division by 0, a logarithm of 0, or an overflow of the dtype."
        got = f"NaN or infinity at row {row}: what the network computes is not finite there"
        _check.fail(_check.NonFiniteOutputError, "finite moments of the outputs", got, do)


def moments(apply: Apply) -> ClosedForm:
    """Integrate the weights of a network out: `moments(apply)(posterior, x) -> (mean, variance)`.

    For networks of products, convolutions, sums and means (average pooling too), moves of elements, and functions
    element by element. Layer normalisation, maxima over several values (max-pooling, softmax, so attention), sorting,
    rounding, divisions by what may be negative, and scans of random values are refused by name: draw those.

    Exact for a linear network of up to two layers, and for one hidden layer: piecewise linear functions in closed form,
    others by quadrature. Behind that, elements of one layer are taken as independent, and sums of products of random
    values as Gaussian. `moments(apply).exactness(posterior, x)` says which, and where.

    Raises (when called):
        UnknownPrimitiveError: if a random value meets an operation that has no rule here.
        InputError, ShapeError: if the network cannot be traced, or does not return one array.

    Source: for one hidden layer, the moments of a rectified Gaussian (Frey & Hinton 1999, Neural Comput. 11, 193) and
    of a product of independent variables; for deeper ones moment matching, as in Wu et al. 2019, arXiv 1810.03958,
    §3, with independent elements.
    """
    return ClosedForm(apply)


def last_layer(apply: Apply, posterior: MeanField, x: Any) -> tuple[str, ...]:
    """Name the leaves of the last layer: those that, given all others, make the outputs exactly Gaussian.

    For a dense network these are the weight and the bias of its last layer. They are found by the trace: candidates
    are tried from the last that the network uses to the first.

    Raises:
        InputError: if there is no such leaf, as where the outputs pass through a nonlinear function.
    """
    found: tuple[int, ...] = ()
    for leaf in reversed(_by_first_use(apply, posterior, x)):
        if _makes_gaussian(apply, posterior, x, (*found, leaf)):
            found = (*found, leaf)
    if not found:
        _check.fail(
            _check.InputError,
            "a network whose last layer is linear in its weights",
            "one whose outputs are linear in none of its random leaves",
            'Use draws instead (method="draws"), or move a function of the outputs into the likelihood.',
        )
    paths = names(posterior.mean)
    return tuple(paths[leaf] for leaf in sorted(found))


@dataclasses.dataclass(frozen=True)
class Conditional:
    """A network with some leaves integrated out, given the others: see `conditional_moments`."""

    apply: Apply
    leaves: tuple[str, ...]

    def __call__(self, params: Tree, posterior: MeanField, x: Any) -> Closed:
        """Give the mean and the variance of the outputs at x, given `params` for all leaves but those."""
        paths = names(posterior.mean)
        for name in self.leaves:
            if name not in paths:
                _check.fail(_check.InputError, f"leaves among {', '.join(paths)}", name, "Pass what last_layer gives.")
        leaves = tuple(map(paths.index, self.leaves))
        return _closed(posterior, params, x, apply=self.apply, leaves=leaves, large=_is_large(posterior, x))


def conditional_moments(apply: Apply, leaves: Sequence[str]) -> Conditional:
    """Integrate only `leaves` out: `conditional_moments(apply, leaves)(params, posterior, x) -> (mean, variance)`.

    With the names that `last_layer` gives, the result is exact for each draw `params` of the other leaves, and its
    mean over draws has a smaller error than that of draws of all leaves (Rao–Blackwell). The leaves of `params` that
    are integrated out are not read.
    """
    return Conditional(apply, tuple(leaves))


# How it is run


def _is_large(posterior: MeanField, x: Any) -> bool:
    """Tell whether activations, at most a product for each row and weight, may outgrow the caches."""
    return count(posterior.mean) * max((jnp.shape(leaf)[0] for leaf in jax.tree.leaves(x)), default=1) > SMALL


@partial(jit, static_argnames=("apply", "leaves"))
def _closed(
    posterior: MeanField, params: Tree | None, x: Any, *, apply: Apply, leaves: tuple[int, ...] | None
) -> Closed:
    found = _run(_Rules(), apply, posterior, params, x, leaves)
    return Closed(found.mean, found.variance)


def _run(
    rules: "_Rules", apply: Apply, posterior: MeanField, params: Tree | None, x: Any, leaves: Sequence[int] | None
) -> "Random":
    """Run the network, with `leaves` (all, by default) random and the others from `params` (by default, the means)."""
    network = traced(apply, posterior.mean, x)
    plain = jax.tree.leaves(posterior.mean if params is None else params)
    values = [
        value if log_std is None or (leaves is not None and i not in leaves) else _weight(mean, log_std, i)
        for i, ((mean, log_std), value) in enumerate(zip(leaf_pairs(posterior), plain, strict=True))
    ]
    outputs = run(network, [*values, *jax.tree.leaves(x)], rules)
    if len(jax.tree.leaves(network.outputs)) != 1:
        got = f"a {type(outputs).__name__}"
        _check.fail(_check.ShapeError, "the network to return one array", got, "Pick one of its outputs in apply.")
    return _random(jax.tree.leaves(outputs, is_leaf=lambda v: isinstance(v, Lazy))[0])


class _About(NamedTuple):
    """What is known of the outputs without computing them."""

    affine: bool
    assumed: tuple[Assumption, ...]


def _abstractly(rules: "_Rules", apply: Apply, posterior: MeanField, x: Any, leaves: Sequence[int] | None) -> _About:
    about: list[_About] = []

    def note(posterior: MeanField, x: Any) -> None:
        found = _run(rules, apply, posterior, None, x, leaves)
        about.append(_About(found.affine, found.assumed))

    jax.eval_shape(note, posterior, x)
    return about[0]


def _makes_gaussian(apply: Apply, posterior: MeanField, x: Any, leaves: Sequence[int]) -> bool:
    """Tell whether the outputs are exactly Gaussian if `leaves` alone are."""
    try:
        about = _abstractly(_AffineRules(), apply, posterior, x, leaves)
    except _check.UnknownPrimitiveError:
        return False
    return about.affine and not about.assumed


def _by_first_use(apply: Apply, posterior: MeanField, x: Any) -> list[int]:
    """Give the leaves that have a Gaussian, in the order in which the network first uses them."""
    network, rules = traced(apply, posterior.mean, x), _UseRules()

    def follow(params: Tree, x: Any) -> None:
        leaves = [_Leaf(leaf, i) for i, leaf in enumerate(jax.tree.leaves(params))]
        run(network, [*leaves, *jax.tree.leaves(x)], rules)

    jax.eval_shape(follow, posterior.mean, x)
    pairs = leaf_pairs(posterior)
    return [leaf for leaf in rules.order if pairs[leaf][1] is not None]


# Random values


@dataclasses.dataclass(frozen=True, eq=False)
class Random(Lazy):
    """Elements that are known by their means and variances.

    Attributes:
        mean, variance: arrays of one shape.
        sources: the leaves it depends on; values without a common source are independent.
        independent: the axes along which elements at different indices are independent.
        affine: whether it is an affine function of the weights, and so Gaussian, jointly with all others that are.
        assumed: what its moments rest on, in the order it was assumed.
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
        """Give another Random that shares what is not changed."""
        return dataclasses.replace(self, line_of=None, **changes)

    def through(self, equation: JaxprEqn, others: Sequence[Any], axes: Iterable[int]) -> list["Random"]:
        """Do what an equation says to mean and variance, as where it moves or adds elements; `axes` are independent."""
        means = carry_out(equation, [self.mean, *others])
        variances = carry_out(equation, [self.variance, *others])
        return [
            self.remade(mean=mean, variance=variance, independent=frozenset(axes))
            for mean, variance in zip(means, variances, strict=True)
        ]


def _weight(mean: jax.Array, log_std: jax.Array, leaf: int) -> Random:
    return Random(mean, jnp.exp(2 * log_std), frozenset({leaf}), frozenset(range(mean.ndim)))


def _random(value: Any) -> Random:
    """Give a value as a Random; an array has no variance."""
    if isinstance(value, Elementwise):
        return value.resolved
    if isinstance(value, Random):
        return value
    return Random(value, jnp.zeros_like(value), independent=frozenset(range(jnp.ndim(value))))


def _settled(value: Any) -> Any:
    """Give a value as a Random or an array."""
    return value.resolved if isinstance(value, Elementwise) else value


def _is_independent(value: Any, axis: int) -> bool:
    return not isinstance(value, Random) or axis in value.independent or value.mean.shape[axis] == 1


def _assume(what: str, equation: JaxprEqn) -> Assumption:
    return Assumption(what, equation.primitive.name, source_line(equation))


def _joined(*lists: tuple[Assumption, ...]) -> tuple[Assumption, ...]:
    """Join lists in order; of several that say the same of one line of code, keep the first."""
    found: dict[Any, Assumption] = {}
    for assumption in (assumption for assumptions in lists for assumption in assumptions):
        found.setdefault((assumption.what, assumption.where), assumption)
    return tuple(found.values())


UNCORRELATED = "elements that depend on the same weights are added as if they were uncorrelated"
INDEPENDENT = "values that depend on the same weights are combined as if they were independent"
GAUSSIAN = "a value that is not Gaussian goes through a nonlinear function as if it were"
UNSPLIT = "a kink at an unknown place is integrated over by quadrature"


def _from_two(equation: JaxprEqn, a: Any, b: Any, moments: Closed, axes: Iterable[int], affine: bool) -> Random:
    """Give the value made of two, each a Random or an array, that are taken as independent."""
    a, b = _random(a), _random(b)
    shared = a.sources & b.sources
    assumed = (_assume(INDEPENDENT, equation),) if shared else ()
    return Random(
        moments.mean,
        moments.variance,
        a.sources | b.sources,
        frozenset() if shared else frozenset(axes),
        affine,
        _joined(a.assumed, b.assumed, assumed),
    )


def _both_independent(a: Any, b: Any, ndim: int) -> list[int]:
    return [axis for axis in range(ndim) if _is_independent(a, axis) and _is_independent(b, axis)]


# Rules


class _Rules:
    """What becomes of an equation that meets random values: see `_trace.Rules`."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Look the primitive up; a call is looked into."""
        if called(equation) is not None:
            return None
        rule = _RULES.get(equation.primitive.name)
        return refuse(equation) if rule is None else rule(equation, inputs)

    def share(self, value: Lazy) -> Lazy:
        """Let moments be read many times."""
        return value

    def settle(self, value: Lazy, equation: JaxprEqn | None) -> Any:
        """Refuse: a random value is never made an array."""
        del value
        assert equation is not None, "outputs stay lazy"
        refuse(equation)


class _AffineRules(_Rules):
    """The same, for values that must stay affine in the weights."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Look the primitive up, and refuse what it gives if it is not affine."""
        outputs = super().apply(equation, inputs)
        if not all(map(_is_affine, outputs or ())):
            refuse(equation)
        return outputs


def _is_affine(value: Any) -> bool:
    if isinstance(value, Elementwise):
        return value.base.affine and value.pieces.is_affine
    return value.affine


@dataclasses.dataclass(frozen=True, eq=False)
class _Leaf(Lazy):
    """An array whose first use is looked for."""

    array: jax.Array
    index: int


class _UseRules:
    """Rules that note leaves in the order of their first use, and otherwise carry the network out."""

    def __init__(self) -> None:
        self.order: list[int] = []

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> None:
        """Have nothing to say, so that leaves are settled."""

    def share(self, value: Lazy) -> Lazy:
        """Let a leaf be read many times."""
        return value

    def settle(self, value: Any, equation: JaxprEqn | None) -> jax.Array:
        """Note the use of a leaf."""
        del equation
        if value.index not in self.order:
            self.order.append(value.index)
        return value.array


def _contract(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    """Multiply and add: `dot_general` or a convolution of values a and b, of which at least one is random.

    With independent terms, E = Σ ā·b̄ and Var = Σ var a·(var b + b̄²) + ā²·var b.
    """
    a, b = map(_settled, inputs)

    def product(left: Any, right: Any) -> jax.Array:
        return carry_out(equation, [left, right])[0]

    summed, axes = _AXES[equation.primitive.name](equation, a, b)
    mean = product(_mean(a), _mean(b))
    if not isinstance(a, Random):
        variance = product(jnp.square(a), b.variance)
    elif not isinstance(b, Random):
        variance = product(a.variance, jnp.square(b))
    else:
        variance = product(a.variance, b.variance + jnp.square(b.mean)) + product(jnp.square(a.mean), b.variance)
    both = isinstance(a, Random) and isinstance(b, Random)
    affine = not both and _random(a).affine and _random(b).affine
    found = _from_two(equation, a, b, Closed(mean, variance), axes, affine)
    correlated = not all(_is_independent(value, axis) for value, axis in summed)
    return [_noting(found, correlated, UNCORRELATED, equation)]


def _mean(value: Any) -> Any:
    return value.mean if isinstance(value, Random) else value


def _noting(value: Random, condition: bool, what: str, equation: JaxprEqn) -> Random:
    if not condition:
        return value
    return value.remade(assumed=_joined(value.assumed, (_assume(what, equation),)))


Axes = tuple[list[tuple[Any, int]], list[int]]
"""Which axes of which inputs are summed over, and which axes of the output are independent."""


def _dot_axes(equation: JaxprEqn, a: Any, b: Any) -> Axes:
    (summed_a, summed_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    free_a = [i for i in range(jnp.ndim(_mean(a))) if i not in (*summed_a, *batch_a)]
    free_b = [i for i in range(jnp.ndim(_mean(b))) if i not in (*summed_b, *batch_b)]
    batch = [
        _is_independent(a, i) and _is_independent(b, j) and (isinstance(a, Random) or isinstance(b, Random))
        for i, j in zip(batch_a, batch_b, strict=True)
    ]
    # An output (i, j) shares b's column j with (i', j): a's free axes are independent only if b is an array.
    rows = [_is_independent(a, i) and not isinstance(b, Random) for i in free_a]
    columns = [_is_independent(b, j) and not isinstance(a, Random) for j in free_b]
    summed = [(a, i) for i in summed_a] + [(b, i) for i in summed_b]
    return summed, [axis for axis, independent in enumerate((*batch, *rows, *columns)) if independent]


def _conv_axes(equation: JaxprEqn, a: Any, b: Any) -> Axes:
    numbers = equation.params["dimension_numbers"]
    (rows, *inside), (channels, *window) = numbers.lhs_spec, numbers.rhs_spec
    axes = []
    if not isinstance(b, Random) and _is_independent(a, rows):
        axes.append(numbers.out_spec[0])
    if not isinstance(a, Random) and _is_independent(b, channels):
        axes.append(numbers.out_spec[1])
    wide = [i == 0 or _mean(b).shape[axis] > 1 for i, axis in enumerate(window)]  # a window of 1 adds no places
    summed = [(a, axis) for axis, is_wide in zip(inside, wide, strict=True) if is_wide]
    return summed + [(b, axis) for axis in window], axes


_AXES: dict[str, Callable[[JaxprEqn, Any, Any], Axes]] = {
    "dot_general": _dot_axes,
    "conv_general_dilated": _conv_axes,
}


# Rules that move elements, or add them


def _moved(axes: Callable[[JaxprEqn, Random], Iterable[int]]) -> Callable[[JaxprEqn, list[Any]], list[Random]]:
    """Make the rule of an equation that moves the elements of its first input; `axes` stay independent."""

    def rule(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
        value, *others = map(_settled, inputs)
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
    """Pair groups of old axes with groups of new ones: (2, 6) to (2, 3, 2) pairs 0 with 0, and 1 with 1 and 2."""
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
    value = _settled(inputs[0])
    gone = equation.params["axes"]
    kept = [axis for axis in range(value.mean.ndim) if axis not in gone]
    correlated = not all(_is_independent(value, axis) for axis in gone)
    value = _noting(value, correlated, UNCORRELATED, equation)
    axes = [new for new, old in enumerate(kept) if old in value.independent]
    return value.through(equation, (), axes)


def _window_summed(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    value, window = _settled(inputs[0]), equation.params["window_dimensions"]
    correlated = not all(_is_independent(value, axis) for axis, size in enumerate(window) if size > 1)
    value = _noting(value, correlated, UNCORRELATED, equation)
    axes = [axis for axis in value.independent if window[axis] == 1]
    return value.through(equation, (), axes)


def _padded(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    value, filler = map(_settled, inputs)
    if isinstance(filler, Random):
        refuse(equation, ", which here pads with random values")
    variance = carry_out(equation, [value.variance, jnp.zeros_like(filler)])[0]
    return [value.through(equation, [filler], value.independent)[0].remade(variance=variance)]


def _concatenated(equation: JaxprEqn, inputs: list[Any]) -> list[Random]:
    values = [_random(value) for value in inputs]
    many = [leaf for value in values for leaf in value.sources]
    axes = frozenset.intersection(*(value.independent for value in values))
    if len(set(many)) < len(many):  # an element of one may depend on any of another
        axes = frozenset()
    mean, variance = (carry_out(equation, [getattr(v, name) for v in values])[0] for name in ("mean", "variance"))
    assumed = _joined(*(value.assumed for value in values))
    return [Random(mean, variance, frozenset(many), axes, all(value.affine for value in values), assumed)]


# Functions of one random value, element by element


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise(Lazy):
    """g(z) for the elements z of one Random, not yet integrated.

    Attributes:
        base: z.
        function: g, from an array of the base's shape to one of it.
        pieces: what is known of g.
        dtype: what g gives.
        assumed: what the moments of g(z) will rest on, and those of z do.
    """

    base: Random
    function: Callable[[Any], Any]
    pieces: Pieces
    dtype: Any
    assumed: tuple[Assumption, ...]

    @functools.cached_property
    def resolved(self) -> Random:
        """Integrate: E g(z) and Var g(z), for z ~ N(mean, variance)."""
        mean, variance = integrate(self.function, self.pieces, self.base.mean, self.base.variance)
        if jnp.issubdtype(self.dtype, jnp.floating):
            mean, variance = mean.astype(self.dtype), variance.astype(self.dtype)
        return self.base.remade(
            mean=mean,
            variance=variance,
            affine=self.base.affine and self.pieces.is_affine,
            assumed=self.assumed,
        )


def _elementwise(equation: JaxprEqn, inputs: list[Any]) -> list[Lazy]:
    """Compose with the function so far, if all random inputs are functions of one; else combine two of them."""
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
    return [combine(equation, *map(_settled, inputs))]


def _spread(value: Lazy, shape: tuple[int, ...]) -> Lazy:
    """Repeat a random scalar, or axes of size 1, which an equation may combine with an array as they are."""
    random = _random(value)
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
    """Give a function of y = a·z + b as one of z."""
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
    assumed = _joined(base.assumed, *(value.assumed for value in inputs if isinstance(value, Elementwise)))
    if not (pieces.is_affine or base.affine):
        assumed = _joined(assumed, (_assume(GAUSSIAN, equation),))
    if has_hidden_kink(equation, known):
        assumed = _joined(assumed, (_assume(UNSPLIT, equation),))
    dtype = equation.outvars[0].aval.dtype  # type: ignore[attr-defined]
    return _based(
        Elementwise(base, lambda z: carry_out(equation, [f(z) for f in functions])[0], pieces, dtype, assumed)
    )


def _based(value: Elementwise) -> Lazy:
    """Let a line whose numbers are arrays, as of normalisation or a plain bias, be a base: its kinks are known numbers.

    Where z and a·z + b meet in one function, as in z·sigmoid(b·z), they are brought back to z.
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
    """Give what is known of a value as a function of the base: a constant, if it is an array."""
    if isinstance(value, Elementwise):
        return value.pieces
    if isinstance(value, Random):
        return IDENTITY
    return constant(value, base.mean.dtype)


# Two random values, element by element


def _added(equation: JaxprEqn, a: Any, b: Any) -> Random:
    a, b = _random(a), _random(b)
    mean = carry_out(equation, [a.mean, b.mean])[0]
    axes = _both_independent(a, b, mean.ndim)
    return _from_two(equation, a, b, Closed(mean, a.variance + b.variance), axes, a.affine and b.affine)


def _multiplied(equation: JaxprEqn, a: Any, b: Any) -> Random:
    a, b = _random(a), _random(b)
    variance = a.variance * (b.variance + jnp.square(b.mean)) + jnp.square(a.mean) * b.variance
    axes = _both_independent(a, b, variance.ndim)
    return _from_two(equation, a, b, Closed(a.mean * b.mean, variance), axes, False)


def _selected(equation: JaxprEqn, which: Any, *cases: Any) -> Random:
    if isinstance(which, Random):
        refuse(equation, ", which here chooses at random")
    values = [_random(case) for case in cases]
    mean, variance = (carry_out(equation, [which, *(getattr(v, k) for v in values)])[0] for k in ("mean", "variance"))
    found = values[0]
    for value in values[1:]:
        axes, affine = _both_independent(found, value, mean.ndim), found.affine and value.affine
        shared = found.sources & value.sources
        assumed = _joined(found.assumed, value.assumed)
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


# The table of rules, by the names of primitives


_RULES: dict[str, Callable[[JaxprEqn, list[Any]], Sequence[Any]]] = {
    **dict.fromkeys(COMPOSED, _elementwise),
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
