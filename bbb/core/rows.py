"""Rows of data: arrays, or trees of arrays, that share a leading axis of rows; and `Shared`, which all rows share.

map_rows(function, x)    the same tree with `function` of each leaf that has rows
row_count(x)             how many there are
apart(x), put_back(...)  what has rows, and what is shared, for `vmap` and `lax.map` over rows
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bbb.core.tree import Tree, pytree_dataclass


@pytree_dataclass(data=("value",))
class Shared:
    """Data that all rows share, such as the edges of one graph: an array, or a tree of them, without a row axis.

    It stands in the tree of x in the place of an array, and the network reads its `value`::

        x = {"nodes": features, "edges": bbb.networks.Shared(edges)}

        def apply(params, x):
            senders, receivers = x["edges"].value
            ...

    Batches, tiles and devices of a mesh cut the rows, and have all of it. A network in which rows meet, as over the
    edges of a graph, is trained on all rows at once, and predicts with `rows="together"`.

    Attributes:
        value: the arrays.
    """

    value: Tree


def is_shared(value: object) -> bool:
    """Return whether a value is `Shared`; for `is_leaf`."""
    return isinstance(value, Shared)


def map_rows(function: Callable[..., Any], x: Tree, *rest: Tree) -> Tree:
    """Return a tree with `function` of each leaf of x that has rows, and of those in its place in `rest`."""

    def leaf(value: Any, *others: Any) -> Any:
        return value if is_shared(value) else function(value, *others)

    return jax.tree.map(leaf, x, *rest, is_leaf=is_shared)


def row_leaves(x: Tree) -> list[Any]:
    """Return the leaves of x that have rows."""
    return jax.tree.leaves(apart(x)[0])


def rows_mask(x: Tree) -> list[bool]:
    """Return which leaves of x, in the order of `jax.tree.leaves`, have rows: none that are shared, and no scalars."""

    def leaf(value: Any) -> Any:
        if is_shared(value):
            return jax.tree.map(lambda _: False, value)
        return jnp.ndim(value) > 0

    return jax.tree.leaves(jax.tree.map(leaf, x, is_leaf=is_shared))


def row_count(x: Tree) -> int | None:
    """Return the number of rows of x, or None if its leaves differ in it or have no row axis."""
    sizes = {jnp.shape(leaf)[0] for leaf in row_leaves(x) if jnp.ndim(leaf)}
    return sizes.pop() if len(sizes) == 1 else None


def count_rows(x: Tree) -> int:
    """Return the number of rows of x that was checked."""
    return int(jnp.shape(row_leaves(x)[0])[0])


def with_rows(x: Tree, rows: int) -> Tree:
    """Return the shapes and dtypes of x with another number of rows; scalars, such as keys, have no rows."""

    def leaf(value: Any) -> Tree:
        shape = jnp.shape(value)
        return jax.ShapeDtypeStruct((rows, *shape[1:]), value.dtype) if shape else value

    return map_rows(leaf, x)


def one_row(x: Tree) -> Tree:
    """Return the shapes and dtypes of x with one row."""
    return with_rows(x, 1)


def some_rows(x: Tree, which: Any) -> Tree:
    """Return the rows of a slice, or of an array of indices."""
    return map_rows(lambda leaf: leaf[which], x)


def as_row(row: Tree) -> Tree:
    """Return one row, without the axis of rows, as rows of which there is one."""
    return map_rows(lambda leaf: leaf[None], row)


def apart(x: Tree) -> tuple[Tree, Tree]:
    """Return what has rows, with None in the place of what is shared; and the other way round."""
    rows = jax.tree.map(lambda leaf: None if is_shared(leaf) else leaf, x, is_leaf=is_shared)
    shared = jax.tree.map(lambda leaf: leaf if is_shared(leaf) else None, x, is_leaf=is_shared)
    return rows, shared


def put_back(rows: Tree, shared: Tree) -> Tree:
    """Return the tree of which `apart` made two."""

    def leaf(value: Any, other: Any) -> Any:
        return other if value is None else value

    return jax.tree.map(leaf, rows, shared, is_leaf=_is_place)


def _is_place(value: object) -> bool:
    return value is None or is_shared(value)
