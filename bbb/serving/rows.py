"""The rows that an exported predictive takes: an array, or the leaves of a tree of them by their paths."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.rows import is_shared
from bbb.core.tree import Tree
from bbb.data import check_one_count, is_tree, leaves
from bbb.errors import InputError, ShapeError, fail


class Leaf(NamedTuple):
    """One array of x: where it stands, and what it holds.

    Attributes:
        path: the keys to it, such as "words/0"; "" if x is one array.
        shared: whether all rows share it (`bbb.networks.Shared`), so that it has no row axis.
        shape: of one row; of what is shared, of all of it.
        dtype: of its numbers.
    """

    path: str
    shared: bool
    shape: tuple[int, ...]
    dtype: Any


def leaves_by_path(x: Tree) -> list[tuple[str, Any, bool]]:
    """Return the path and the value of each array of x, in the order of `jax.tree.leaves`, and whether it is shared.

    Raises:
        InputError: if two arrays have the same path, as "a/b" and "b" in "a" have.
    """
    if not is_tree(x):
        return [("", x, False)]
    found: list[tuple[str, Any, bool]] = []
    for path, leaf in leaves("x", x)[0]:
        if is_shared(leaf):
            parts = jax.tree_util.tree_flatten_with_path(leaf.value)[0]
            found += [("/".join([path, *map(_key, keys)]), value, True) for keys, value in parts]
        elif leaf is not None:
            found.append((path, leaf, False))
    paths = [path for path, _, _ in found]
    if twice := [path for path in paths if paths.count(path) > 1]:
        do = "Name them without '/'."
        fail(InputError, "x to be a tree whose arrays have paths of their own", f"several at '{twice[0]}'", do)
    return found


def arrays_of(expected: Sequence[Leaf], x: Tree) -> list[np.ndarray]:
    """Check x against the leaves that a program takes, and return their arrays in its dtypes.

    Raises:
        InputError, ShapeError, NonFiniteInputError: naming the leaf.
    """
    one = [leaf.path for leaf in expected] == [""]
    given = {"": (x, False)} if one else _by_path(expected, x)
    found = []
    for leaf in expected:
        name, (value, shared) = "x" if one else f"x leaf '{leaf.path}'", given[leaf.path]
        if leaf.shared != shared:
            kinds = ("an array with rows", "bbb.networks.Shared, as all rows share it")
            do = "Pass x like the one it was exported for."
            fail(InputError, f"{name} to be {kinds[leaf.shared]}", kinds[shared].split(",")[0], do)
        found.append(_shared(leaf, name, value) if shared else _rows(leaf, name, value))
    check_one_count("x", {leaf.path: rows for leaf, rows in zip(expected, found, strict=True) if not leaf.shared})
    return found


def _by_path(expected: Sequence[Leaf], x: Tree) -> dict[str, tuple[Any, bool]]:
    """Return the value of each array of a tree, and whether it is shared; raise for other paths than expected."""
    given = {path: (value, shared) for path, value, shared in leaves_by_path(x)} if is_tree(x) else {}
    if given.keys() != {leaf.path for leaf in expected}:
        wanted = f"x to be a tree of the arrays {_listed([leaf.path for leaf in expected])}"
        got = _listed(list(given)) if given else f"a {type(x).__name__}"
        fail(InputError, wanted, got, "Pass x like the one it was exported for.")
    return given


def _rows(leaf: Leaf, name: str, value: Any) -> np.ndarray:
    array = np.asarray(checks.rows(name, value))
    if array.shape[1:] != leaf.shape:
        expected = f"{name} of shape ({', '.join(['rows', *map(str, leaf.shape)])})"
        fail(ShapeError, expected, f"shape {array.shape}", "Pass rows like those it was exported for.")
    return _cast(leaf, name, array)


def _shared(leaf: Leaf, name: str, value: Any) -> np.ndarray:
    array = np.asarray(checks.rows(name, np.asarray(checks.real(name, value))[None]))
    if array.shape[1:] != leaf.shape:
        do = "Pass what all rows share in the shape it was exported for."
        fail(ShapeError, f"{name} of shape {leaf.shape}", f"shape {array.shape[1:]}", do)
    return np.asarray(_cast(leaf, name, array)[0])


def _cast(leaf: Leaf, name: str, array: np.ndarray) -> np.ndarray:
    """Return an array in the dtype of a leaf."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused below, by name
        cast = array.astype(leaf.dtype)
    if not floating and not np.array_equal(cast, array):
        do = "Pass whole numbers in its range, or export for rows of another dtype."
        fail(InputError, f"{name} of {leaf.dtype}", f"{array.dtype}, with other numbers", do)
    checks.rows(f"{name} in {leaf.dtype}", cast)  # a number may be finite in float64 and infinite in float32
    return cast


def _key(key: Any) -> str:
    return jax.tree_util.keystr((key,), simple=True)


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(f"'{path}'" for path in paths)
