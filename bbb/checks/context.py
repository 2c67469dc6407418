"""Where a call stands: outside of tracing, with arrays that are alive."""

from typing import Any, NoReturn

import jax
import numpy as np

from bbb.core.tree import Tree
from bbb.errors import InputError, fail


def alive(name: str, tree: Tree) -> None:
    """Check that no array of a tree has been deleted, as JAX deletes arrays that are donated to a program.

    Raises:
        InputError: if one has been deleted.
    """
    try:
        leaves = jax.tree.leaves(tree)
    except (TypeError, ValueError):  # a dictionary with unsortable keys, which other checks report
        return
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
            got = f"one of shape {leaf.shape} that was deleted, as jax.jit deletes arguments that are donated to it"
            do = "Pass a copy made before that, such as jnp.array(array, copy=True), or do not use donate_argnums."
            fail(InputError, f"{name} to consist of arrays that still hold their values", got, do)


def outside(verb: str, instead: str = "", **given: Any) -> None:
    """Check that a function is called outside of `jax.jit`, `jax.vmap` and `jax.grad`, which hide concrete values.

    Args:
        verb: the name of the function.
        instead: what to use inside them, if anything.
        given: the arguments that must be concrete, by name; arbitrary objects, including trees of arrays.

    Raises:
        InputError: if an argument contains a tracer, or if the call is made within `jax.jit`, where new arrays are
            tracers too.
    """
    untraced(verb, instead, **given)
    if isinstance(jax.device_put(np.int32(0)), jax.core.Tracer):
        _traced(f"{verb} to be called with numbers", verb, instead)


def untraced(verb: str, instead: str = "", **given: Any) -> None:
    """Check that arguments contain no tracers, for a function that uses NumPy only; see `outside`.

    Raises:
        InputError: if one does.
    """
    traced = [name for name, value in given.items() if is_traced(value)]
    if traced:
        _traced(f"{' and '.join(traced)} of numbers", verb, instead)


def _traced(expected: str, verb: str, instead: str) -> NoReturn:
    advice = f": inside, use {instead}" if instead else ""
    fail(InputError, expected, "a tracer", f"Call {verb} outside of jax.jit, jax.vmap and jax.grad{advice}.")


def is_traced(value: object) -> bool:
    """Return whether any leaf of a tree, such as a list of numbers, is a tracer."""
    try:
        leaves = jax.tree.leaves(value)
    except (TypeError, ValueError):  # a dictionary with unsortable keys
        return False
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
