"""Parameter trees: registered nouns, sums over leaves, prefixes and names."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, keystr, register_pytree_with_keys

from bbb import _display

Tree = Any
"""Any JAX pytree of arrays."""

Noun = TypeVar("Noun")


@dataclass_transform(frozen_default=True, eq_default=False)
def noun(*, data: tuple[str, ...], static: tuple[str, ...] = ()) -> Callable[[type[Noun]], type[Noun]]:
    """Make a class a frozen dataclass and a pytree with children `data` and hashable `static`.

    JAX rebuilds pytrees from tracers and placeholders, so rebuilding bypasses `__init__`: a
    constructor may therefore check what a user passes. Without a `__repr__` of its own, it
    shows the call that makes it.
    """

    def register(cls: type[Noun]) -> type[Noun]:
        if cls.__repr__ is object.__repr__:
            cls.__repr__ = _display.repr_of_fields  # type: ignore[method-assign]
        cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)

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
    """Sum every element of every leaf, as a scalar of the widest dtype among the leaves."""
    sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)]
    widest = widest_dtype(sums) if sums else jnp.zeros(()).dtype
    return sum((value.astype(widest) for value in sums), jnp.zeros((), widest))


def widest_dtype(tree: Tree) -> Any:
    """Give the dtype that all floating-point leaves fit in, whatever promotion the user allows elsewhere."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*filter(is_floating, jax.tree.leaves(tree)))


def is_floating(leaf: Any) -> bool:
    """Tell whether a leaf is an array of floating-point numbers."""
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def count(tree: Tree) -> int:
    """Count the elements of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def names(tree: Tree) -> list[str]:
    """Name every leaf by its path, such as `0/weight`, in the order of `jax.tree.leaves`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [keystr(path, simple=True, separator="/") for path, _ in paths]


def broadcast_prefix(prefix: Tree, tree: Tree) -> Tree:
    """Repeat each leaf of `prefix` over the part of `tree` below it; ValueError if it is none."""
    return jax.tree.map(lambda leaf, part: jax.tree.map(lambda _: leaf, part), prefix, tree)


def map_present(function: Callable[..., Any], first: Tree, *rest: Tree) -> Tree:
    """Map over the leaves of `first` and what `rest` has in their places; None, where `first` has it, stays None."""

    def leaf(value: Any, *others: Any) -> Any:
        return None if value is None else function(value, *others)

    return jax.tree.map(leaf, first, *rest, is_leaf=is_none)


def is_none(value: Any) -> bool:
    """Tell None, which to JAX is an empty tree, from the rest; for `is_leaf`."""
    return value is None


def all_finite(tree: Tree) -> bool:
    """Tell whether every floating-point element is finite; by NumPy, which has nothing to compile."""
    leaves = filter(is_floating, jax.tree.leaves(tree))
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in leaves)
