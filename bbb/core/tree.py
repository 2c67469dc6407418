"""Parameter trees: dataclasses registered as pytrees, sums over leaves, prefixes and names."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import GetAttrKey, keystr, register_pytree_with_keys

from bbb import display
from bbb.errors import ShapeError, fail

Tree = Any
"""Any JAX pytree of arrays."""


LARGE = 2**16
"""Elements from which a leaf is summed by a product."""


FEW = 1_000
"""The most numbers that are cast by NumPy."""


Noun = TypeVar("Noun")


class Saved(NamedTuple):
    """How a class is described in a file: its children by name, and for each plain field the values it may have."""

    cls: type
    data: tuple[str, ...]
    static: dict[str, tuple[Any, ...]]


SAVED: dict[str, Saved] = {}
"""The classes that files may hold, by name: those that `pytree_dataclass(..., saved=True)` made."""


@dataclass_transform(frozen_default=True, eq_default=False)
def pytree_dataclass(
    *,
    data: tuple[str, ...],
    static: tuple[str, ...] = (),
    saved: bool = False,
    choices: Mapping[str, tuple[Any, ...]] = MappingProxyType({}),
) -> Callable[[type[Noun]], type[Noun]]:
    """Return a decorator that makes a class a frozen dataclass and a pytree.

    JAX rebuilds pytrees from tracers and placeholders. Rebuilding bypasses `__init__`, so that a constructor may check
    its arguments. Without a `__repr__` of its own, the class shows the call that makes it.

    Args:
        data: the fields that are children of the pytree.
        static: the fields that are hashable and part of its structure.
        saved: whether model files may hold such objects, under the name of the class.
        choices: the values that a static field may have in a file; by default False and True.
    """

    def register(cls: type[Noun]) -> type[Noun]:
        if cls.__repr__ is object.__repr__:
            cls.__repr__ = display.repr_of_fields  # type: ignore[method-assign]
        cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        if saved:
            SAVED[cls.__name__] = Saved(cls, data, {name: choices.get(name, (False, True)) for name in static})

        def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            children = tuple(getattr(node, name) for name in data)
            return children, tuple(getattr(node, name) for name in static)

        def flatten_with_keys(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            children, aux = flatten(node)
            return tuple(zip(map(GetAttrKey, data), children, strict=True)), aux

        def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
            node: Any = object.__new__(cls)
            for name, value in zip(data + static, (*children, *aux), strict=True):
                object.__setattr__(node, name, value)
            return node

        register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return register


def sum_leaves(tree: Tree) -> jax.Array:
    """Compute the sum of all elements of all leaves, a scalar of the widest dtype among the leaves."""
    sums = [_total(leaf) for leaf in jax.tree.leaves(tree)]
    widest = widest_dtype(sums) if sums else jnp.zeros(()).dtype
    return sum((value.astype(widest) for value in sums), jnp.zeros((), widest))


def _total(leaf: jax.Array) -> jax.Array:
    """Return the sum of a leaf; of a large one along its first axis by a product with ones.

    XLA on a CPU passes every term of a sum of many through memory on its way to a reduction, but one array on its way
    to a product: the KL of a network of 500,000 weights takes half the time.
    """
    if leaf.ndim > 1 and leaf.size > LARGE and leaf.dtype in (jnp.float32, jnp.float64):
        ones = jnp.ones(leaf.shape[0], leaf.dtype)
        leaf = lax.dot_general(ones, leaf, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
    return jnp.sum(leaf)


def widest_dtype(tree: Tree) -> Any:
    """Return the dtype that all floating-point leaves promote to, whatever promotion the user allows elsewhere."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*filter(is_floating, jax.tree.leaves(tree)))


def is_floating(leaf: Tree) -> bool:
    """Return whether a leaf is an array of floating-point numbers."""
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def count(tree: Tree) -> int:
    """Return the number of elements of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def names(tree: Tree) -> list[str]:
    """Return the path of every leaf, such as `0/weight`, in the order of `jax.tree.leaves`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [keystr(path, simple=True, separator="/") for path, _ in paths]


def broadcast_prefix(prefix: Tree, tree: Tree) -> Tree:
    """Return a tree like `tree`, with each leaf of `prefix` repeated over the subtree in its place.

    Raises:
        ValueError: if `prefix` is not a prefix of `tree`.
    """
    return jax.tree.map(lambda leaf, part: jax.tree.map(lambda _: leaf, part), prefix, tree)


def map_present(function: Callable[..., Any], first: Tree, *rest: Tree) -> Tree:
    """Map over the leaves of `first` and the subtrees of `rest` in their places; a None of `first` stays None."""

    def leaf(value: Tree, *others: Tree) -> Tree:
        return None if value is None else function(value, *others)

    return jax.tree.map(leaf, first, *rest, is_leaf=is_none)


def stacked(trees: list[Tree]) -> Tree:
    """Stack trees leaf by leaf, along a new leading axis of members; by NumPy, which has nothing to compile."""
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack([np.asarray(leaf) for leaf in leaves])), *trees)


def member_of(tree: Tree, k: int) -> Tree:
    """Return one member of what `stacked` made; by NumPy likewise."""
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[k]), tree)


def cast(value: Any, dtype: Any) -> jax.Array:
    """Return an array of a dtype; a few numbers are cast by NumPy, which has nothing to compile."""
    is_one = isinstance(value, jax.Array) and value.dtype == dtype and not value.weak_type
    if is_one or isinstance(value, jax.core.Tracer) or np.size(value) > FEW:
        return jnp.asarray(value, dtype)
    return jax.device_put(np.asarray(value, dtype))


def as_shape(value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return an array in another shape of as many elements; a single one by NumPy, which has nothing to compile."""
    if value.shape == shape:
        return value
    if isinstance(value, jax.core.Tracer) or value.size != 1:
        return value.reshape(shape)
    return jax.device_put(np.asarray(value).reshape(shape))


def to_vector(tree: Tree, dtype: Any) -> jax.Array:
    """Return the elements of all leaves as one vector of a dtype, (elements,), in the order of `jax.tree.leaves`."""
    return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)])


def from_vector(vector: jax.Array, like: Tree) -> Tree:
    """Return a vector, (elements,), as a tree like `like`, each leaf in its own dtype: undoes `to_vector`."""
    leaves, structure = jax.tree.flatten(like)
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    parts = [
        vector[end - leaf.size : end].reshape(leaf.shape).astype(leaf.dtype)
        for leaf, end in zip(leaves, ends, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def is_none(value: Tree) -> bool:
    """Return whether a value is None, which JAX takes for an empty tree; for `is_leaf`."""
    return value is None


def all_finite(tree: Tree) -> bool:
    """Return whether every floating-point element is finite, computed by NumPy, which compiles nothing."""
    leaves = filter(is_floating, jax.tree.leaves(tree))
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in leaves)


def per_leaf(name: str, prefix: Tree, params: Tree) -> Tree:
    """Spread numbers, or a prefix tree of numbers, over the leaves of `params`, each in its leaf's dtype.

    Raises:
        ShapeError: if `prefix` is not a prefix of `params`, or a leaf does not broadcast to its weights.
    """
    try:
        full = broadcast_prefix(prefix, params)
    except (ValueError, TypeError) as error:
        raise ShapeError(
            f"Expected {name} to be a number or a tree that is a prefix of the parameters', "
            f"got {jax.tree.structure(prefix)} for {jax.tree.structure(params)}. "
            f"Pass one {name} for all weights, for each layer, or for each leaf."
        ) from error

    def fit(value: Tree, leaf: jax.Array) -> jax.Array:
        value = cast(value, leaf.dtype)
        if value.ndim > leaf.ndim or jnp.broadcast_shapes(value.shape, (1,) * leaf.ndim) != tuple(
            n if n == 1 else m for n, m in zip((1,) * (leaf.ndim - value.ndim) + value.shape, leaf.shape, strict=True)
        ):
            fail(
                ShapeError,
                f"every {name} to broadcast to the {leaf.shape} weights below it",
                f"shape {value.shape}",
                "Pass a number or an array of the weights' shape.",
            )
        return as_shape(value, (1,) * (leaf.ndim - value.ndim) + value.shape)

    return jax.tree.map(fit, full, params)
