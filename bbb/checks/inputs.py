"""Checks of keys, arrays, rows and trees."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb.checks.context import alive
from bbb.checks.numbers import finite, real
from bbb.core.process import process
from bbb.core.rows import count_rows
from bbb.core.tree import Tree, is_floating, names
from bbb.errors import InputError, KeyTypeError, NonFiniteInputError, ShapeError, fail, short_repr, typed_repr


def key(value: object) -> None:
    """Check that `value` is a single typed JAX key.

    Raises:
        KeyTypeError: if it is not.
    """
    process()
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape == ():
            alive("the key", value)
            return
        got = f"an array of {value.shape} keys"
    elif isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32:
        got = f"an old-style uint32 key of shape {value.shape}"
    else:
        got = f"{type(value).__name__} {short_repr(value)}"
    fail(
        KeyTypeError,
        "one typed JAX key",
        got,
        "Make one with jax.random.key(0), or wrap an old one with jax.random.wrap_key_data.",
    )


def rows(name: str, value: object) -> np.ndarray | jax.Array:
    """Check that `value` is a finite numeric array with at least one row, and return it as an array.

    Returns:
        The same array if it is a JAX array, else a NumPy array, (rows, ...).

    Raises:
        InputError: if it does not consist of real numbers, or was deleted.
        ShapeError: if it has no row axis, or no rows.
        NonFiniteInputError: if a number is NaN or infinite.
    """
    alive(name, value)
    array = value if isinstance(value, jax.Array) else real(name, value)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        fail(InputError, f"{name} to be real numbers in an array", f"dtype {array.dtype}", f"Convert {name} to floats.")
    if array.ndim == 0 or array.shape[0] == 0:
        fail(
            ShapeError,
            f"{name} to have a leading row axis with at least one row",
            f"shape {array.shape}",
            "Pass one row per observation, for example an array of shape (rows, features).",
        )
    if isinstance(array, jax.core.Tracer):
        return array
    if jnp.issubdtype(array.dtype, jnp.inexact):
        good = np.isfinite(np.asarray(array))
        if not good.all():
            where = np.argwhere(~good)
            fail(
                NonFiniteInputError,
                f"{name} to hold finite numbers only",
                f"{len(where)} that are NaN or infinite, the first at index {tuple(map(int, where[0]))}",
                f"Drop those rows of {name}, or fill them in.",
            )
    return array


def arrays(name: str, tree: Tree, also: type | tuple[type, ...] = ()) -> None:
    """Check that a tree consists of arrays of numbers with a row axis; tracers and instances of `also` pass.

    Raises:
        InputError: if there is no array, or a leaf is not an array of numbers.
        ShapeError: if a leaf is a scalar.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        fail(InputError, f"{name} to be an array of numbers, or a tree of them", short_repr(tree), "Pass rows of data.")
    for leaf in leaves:
        if not isinstance(leaf, jax.Array) and not isinstance(leaf, also):
            if not hasattr(leaf, "dtype") and np.ndim(leaf):
                do = f"Pass np.asarray({name}, float)."
                fail(InputError, f"{name} to be an array of numbers", typed_repr(leaf), do)
            real(name, leaf)
        if not np.shape(leaf):
            fail(
                ShapeError, f"{name} to have a leading row axis", "shape ()", "Pass an array of shape (rows, features)."
            )


def same_rows(x: Tree, y: Tree) -> None:
    """Check that x and y have the same number of rows.

    Raises:
        ShapeError: if they do not.
    """
    if count_rows(x) != count_rows(y):
        fail(
            ShapeError,
            f"y to have the {count_rows(x)} rows of x",
            f"{count_rows(y)} rows",
            "Pass one y for each row of x.",
        )


def target(y: np.ndarray | jax.Array, outputs: jax.ShapeDtypeStruct) -> None:
    """Check that y has the shape of the network's outputs.

    Raises:
        ShapeError: if it does not.
    """
    if y.shape != outputs.shape:
        hint = "y.reshape(-1, 1)" if y.ndim == 1 and outputs.shape[1:] == (1,) else f"y of shape {outputs.shape}"
        fail(
            ShapeError,
            f"y to have the shape {outputs.shape} of the network's outputs",
            f"shape {y.shape}",
            f"Pass {hint}: arrays of different shapes would be broadcast against each other.",
        )


def parameters(name: str, tree: Tree, state: Tree = None) -> None:
    """Check that a parameter tree is not empty and that every leaf is a finite floating-point array.

    Args:
        name: the name of the argument.
        tree: the parameters.
        state: a tree of bools of the same structure; where it is True, the leaf may have any numeric dtype.

    Raises:
        ShapeError: if the tree is empty.
        InputError: if a leaf is not such an array.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        fail(ShapeError, f"{name} to hold at least one array", "an empty tree", "Pass the network's parameters.")
    fixed = [False] * len(leaves) if state is None else jax.tree.leaves(state)
    for path, leaf, is_state in zip(names(tree), leaves, fixed, strict=True):
        where = f"{name} leaf '{path}'"
        if not (is_floating(leaf) or (is_state and hasattr(leaf, "dtype"))):
            fail(
                InputError,
                f"{where} to be a floating-point array",
                f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"a {type(leaf).__name__}",
                "Only floating-point arrays can be trained or become Gaussian: remove others from the parameters.",
            )
        wide_range(where, leaf)
        finite(where, leaf)


def floating(name: str, tree: Tree) -> None:
    """Check that every leaf of a tree is a floating-point array, or a stand-in for one, of a wide enough dtype.

    Raises:
        InputError: if one is not.
    """
    for path, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
        if not is_floating(leaf):
            got = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"a {type(leaf).__name__}"
            fail(InputError, f"{name} leaf '{path}' to be a floating-point array", got, "Convert it to floats.")
        wide_range(f"{name} leaf '{path}'", leaf)


def wide_range(name: str, leaf: Tree) -> None:
    """Check that an array is not float16, in which sums over rows overflow (at 65,504) and squares of stds underflow.

    Raises:
        InputError: if it is.
    """
    if getattr(leaf, "dtype", None) == np.float16:
        do = "Convert it with .astype(jnp.float32), or jnp.bfloat16, which has the range of float32."
        got = "dtype float16, whose range is 6e-8 to 65,504: a loss overflows it, and the square of a small std is 0"
        fail(InputError, f"{name} to be float32, float64 or bfloat16", got, do)


def fits(name: str, tree: Tree, like_name: str, like: Tree) -> None:
    """Check that a tree has the structure of another, and that its leaves have the same shapes.

    Raises:
        ShapeError: if it does not.
        InputError: if one of its arrays was deleted.
    """
    got: Any = jax.tree.structure(tree)
    expected: Any = jax.tree.structure(like)
    if got != expected:
        fail(ShapeError, f"{name} to have the structure of {like_name}, {expected}", f"{got}", f"Rebuild {name}.")
    for path, leaf, other in zip(names(like), jax.tree.leaves(tree), jax.tree.leaves(like), strict=True):
        if jnp.shape(leaf) != jnp.shape(other):
            fail(
                ShapeError,
                f"{name} leaf '{path}' to have the shape {jnp.shape(other)} of {like_name}'s",
                f"shape {jnp.shape(leaf)}",
                f"Rebuild {name}.",
            )
    alive(name, tree)


def picks_nothing(what: str, paths: list[str]) -> NoReturn:
    """Raise the InputError of a selection of leaves that is empty; `paths` are the leaves there are."""
    listed = ", ".join(paths[:20]) + (f" and {len(paths) - 20} more" if len(paths) > 20 else "")
    fail(InputError, f"{what} to pick at least one leaf", "none", f"The leaves are: {listed}.")
