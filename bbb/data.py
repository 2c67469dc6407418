"""The one place that checks x and y: arrays of rows, or trees of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.rows import is_shared
from bbb.core.tree import Tree, widest_dtype
from bbb.errors import InputError, ShapeError, fail
from bbb.likelihoods.protocol import allows_missing, observed
from bbb.model import BNN, check_model
from bbb.tracing import purity


def rows_for(model: BNN, name: str, value: Any) -> Tree:
    """Check a model and rows of data, and bring floating-point ones to the dtype of the model's weights.

    Args:
        model: the model.
        name: of the argument, for messages.
        value: an array, or what NumPy makes one of, such as a list: (rows, ...). Or a tree of them: a dict, a tuple
            that holds arrays, or a class that is registered with JAX; each leaf with the same rows, or `Shared`, and
            None where there is nothing.

    Raises:
        InputError, ShapeError, NonFiniteInputError: naming the leaf.
    """
    check_model(model)
    return rows_in(widest_dtype(model.posterior.params), name, value)


def rows_in(dtype: Any, name: str, value: Any) -> Tree:
    """Check rows of data as `rows_for` does, and bring floating-point ones to a dtype.

    Raises:
        InputError, ShapeError, NonFiniteInputError: naming the leaf.
    """
    if not is_tree(value):
        return _array_for(dtype, name, value)
    given, structure = leaves(name, value)
    found = [_leaf_for(dtype, f"{name} leaf '{path}'", leaf) for path, leaf in given]
    check_one_count(name, {path: leaf for (path, _), leaf in zip(given, found, strict=True) if leaf is not None})
    return jax.tree.unflatten(structure, found)


def is_tree(value: Any) -> bool:
    """Return whether rows come as a tree of arrays: lists, and tuples of numbers, are one array, as for NumPy."""
    if isinstance(value, tuple):
        return any(part is None or is_tree(part) or bool(getattr(part, "shape", ())) for part in value)
    return not (value is None or isinstance(value, list) or jax.tree_util.all_leaves([value]))


def leaves(name: str, value: Tree) -> tuple[list[tuple[str, Any]], Any]:
    """Return the leaves of a tree of rows, `Shared` and None among them, with their paths, and its structure.

    Raises:
        InputError: if JAX cannot flatten it.
    """
    try:
        found, structure = jax.tree_util.tree_flatten_with_path(value, lambda v: is_shared(v) or not is_tree(v))
    except (TypeError, ValueError) as error:
        do = "Use keys of one type, such as strings."
        raise InputError(f"Expected {name} to be a tree that JAX can flatten, got one that it cannot. {do}") from error
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in found], structure


def _leaf_for(dtype: Any, name: str, leaf: Any) -> Any:
    if leaf is None:
        return None
    if not is_shared(leaf):
        return _array_for(dtype, name, leaf)

    def constant(value: Any) -> jax.Array:
        array = checks.rows(name, np.asarray(checks.real(name, value))[None])
        return _array_for(dtype, name, array)[0]

    return jax.tree.map(constant, leaf)


def check_one_count(name: str, leaves: dict[str, Any]) -> None:
    """Check that the leaves of a tree have the same number of rows, and that there is one that has rows.

    Raises:
        ShapeError: naming the first leaf that differs.
    """
    counts = {path: len(leaf) for path, leaf in leaves.items() if not is_shared(leaf)}
    if not counts:
        do = "Pass an array of shape (rows, ...) among them."
        fail(ShapeError, f"{name} to hold at least one array with rows", "none", do)
    first, rows = next(iter(counts.items()))
    for path, others in counts.items():
        if others != rows:
            do = "Pass a row of each for every observation, and what all rows share as bbb.networks.Shared(array)."
            fail(ShapeError, f"{name} leaf '{path}' to have the {rows} rows of '{first}'", f"{others} rows", do)


def _array_for(dtype: Any, name: str, value: Any) -> jax.Array:
    array = checks.rows(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return jax.device_put(on_host(name, array))
    with np.errstate(over="ignore"):  # what overflows is refused below, by name
        cast = array.astype(dtype)  # by NumPy where it can: JAX would compile a program for every number of rows
    checks.rows(f"{name} in {dtype}", cast)  # a number may be finite in float64 and infinite in float32
    return jax.device_put(cast)  # unlike jnp.asarray, compiles nothing


def on_host(name: str, array: Any) -> Any:
    """Raise for whole numbers that the dtype JAX would bring them to cannot hold."""
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    limits = jnp.iinfo(dtype)
    wrong = array[(array < limits.min) | (array > limits.max)]
    if len(wrong):
        do = f"Pass {name}.astype(float), or call jax.config.update('jax_enable_x64', True) first."
        fail(InputError, f"{name} in {dtype} to hold whole numbers from {limits.min}", f"{wrong[0]}", do)
    return array.astype(dtype)


def targets_for(model: BNN, name: str, y: Any) -> Any:
    """Check y as `rows_for` does; NaN stays, and is no fault, if the model's likelihood is one of missing targets."""
    check_model(model)
    if model.joint is not None:
        parts = zip(model.joint.paths, model.joint.like(name, y), strict=True)
        found = {path: targets_for(model.head(path), f"{name} leaf '{path}'", part) for path, part in parts}
        check_one_count(name, found)
        return jax.tree.unflatten(model.joint.structure, list(found.values()))
    if not allows_missing(model.likelihood) or isinstance(y, jax.core.Tracer):
        return rows_for(model, name, y)
    given = np.asarray(checks.real(name, y))
    missing = np.isnan(given)
    if not missing.any():
        return rows_for(model, name, y)
    filled = np.asarray(rows_for(model, name, np.where(missing, 0, given).astype(given.dtype)))
    return jax.device_put(np.where(missing, np.nan, filled).astype(filled.dtype))


def data_for(model: BNN, x: Any, y: ArrayLike, several: bool = False) -> tuple[Tree, Any]:
    """Check x and y against the model, of one posterior unless `several`, and each other; return them in its dtype."""
    check_model(model)
    if model.members > 1 and not several:
        do = "Take one, model.member(k); to train several, use bbb.train.fit_each."
        fail(InputError, "a model of one posterior", f"one of {model.members} members", do)
    x, y = pair_for(model, x, y)
    return x, target_for(model, x, y)


def pair_for(model: BNN, x: Any, y: Any, where: str = "") -> tuple[Tree, Tree]:
    """Check x and y by themselves, and that both have the same rows; `where` is added to their names in messages.

    Raises:
        InputError, ShapeError, NonFiniteInputError: naming the leaf.
    """
    if is_tree(y) and model.joint is None:
        do = "Have apply return one array, with the outputs side by side, or give the model a tree of likelihoods."
        fail(InputError, f"y{where} to be one array", f"a {type(y).__name__}", do)
    x, y = rows_for(model, f"x{where}", x), targets_for(model, f"y{where}", y)
    checks.same_rows(x, y)
    return x, y


def target_for(model: BNN, x: Tree, y: Tree) -> Tree:
    """Return checked y as the likelihood takes it, for the outputs of the network at checked x.

    Raises:
        InputError, ShapeError: if they do not fit.
    """
    shape = purity.output_shape if model.joint is None else purity.output_shapes
    outputs = shape(model.apply, model.posterior.component(0).params, x)
    return observed(model.likelihood, y, outputs)


def weights_for(model: BNN, sample_weight: Any, rows: int, of_batch: bool = False) -> jax.Array | None:
    """Check the weights of so many rows, and return them, (rows,), in the dtype of the model's; None stays None.

    Raises:
        InputError, ShapeError: if they are not numbers of at least 0, one for each row and, unless of a batch, not all
            0.
    """
    if sample_weight is None:
        return None
    dtype = widest_dtype(model.posterior.params)
    return jax.device_put(checks.row_weights(sample_weight, rows, dtype, of_batch))
