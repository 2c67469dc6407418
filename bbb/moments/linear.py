"""Linear operations on random arrays."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from bbb.moments.piecewise import refuse
from bbb.moments.values import (
    UNCORRELATED,
    MeanVariance,
    Random,
    as_random,
    from_two,
    is_independent,
    join_assumptions,
    mean_of,
    resolve,
    with_assumption,
)
from bbb.tracing.interpreter import carry_out

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
    found = from_two(equation, a, b, MeanVariance(mean, variance), axes, affine)
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
