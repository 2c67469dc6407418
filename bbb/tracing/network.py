"""A network, and its trace."""

from collections.abc import Callable
from typing import Any

import jax

from bbb.core.tree import Tree
from bbb.errors import InputError
from bbb.tracing import interpreter

Apply = Callable[[Tree, Any], jax.Array]
"""A network: `apply(params, x) -> outputs`, x and outputs with one leading row axis. `local_reparam` and `flipout` also
take trees of arrays for both; among x there may be typed keys, such as dropout's."""


def traced(apply: Apply, params: Tree, x: Tree) -> interpreter.Traced:
    """Trace the network, or say why it cannot be."""
    try:
        found = interpreter.trace(apply, params, x)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(_UNTRACEABLE.format(reason)) from error
    if not found.jaxpr.out_avals:
        raise InputError(_UNTRACEABLE.format("nothing returned."))
    return found


_UNTRACEABLE = (
    "Expected apply(params, x) to be a pure function of these parameters and this x, returning an array or a tree of "
    "arrays, got: {} Write it in jax.numpy, with jax.lax.cond for branches on values, and check the shapes of params "
    "and x."
)
