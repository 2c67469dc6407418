"""What every adapter returns and shares."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from bbb.core.tree import Tree

MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "inference": False,
    "use_running_average": False,
}
"""The usual names of arguments that set the mode of a network, and their values in training."""


Options = tuple[tuple[str, Any], ...]
"""Keyword arguments as a hashable tuple."""


class Network(NamedTuple):
    """A network and its parameters, which `bayesianize` takes."""

    apply: Any
    params: Tree


def mode_options(
    call: Callable[..., Any], training: Mapping[str, object] | None, evaluation: Mapping[str, object] | None
) -> tuple[Options, Options]:
    """Return the keyword arguments of training and evaluation: those with usual names, and those of the user."""
    usual = {name: value for name, value in MODES.items() if name in parameters_of(call)}
    opposite = {name: not value for name, value in usual.items()}
    return _items({**usual, **(training or {})}), _items({**opposite, **(evaluation or {})})


def _items(options: Mapping[str, object]) -> Options:
    return tuple(sorted(options.items()))


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters in the signature of a function."""
    return inspect.signature(function).parameters


def state_only(state: Tree, new: Tree) -> Tree:
    """Return the leaves of `new` that are state, and None in place of the others."""
    return jax.tree.map(lambda is_state, leaf: leaf if is_state else None, state, new)


def root_name(structure: Any) -> str:
    """Return the name of the class that a structure of equinox or nnx is of."""
    if hasattr(structure, "node_data"):
        kind = (structure.node_data() or (None,))[0]
    else:
        kind = getattr(next(iter(getattr(structure, "nodes", ())), None), "type", None)
    return getattr(kind, "__name__", "a network")
