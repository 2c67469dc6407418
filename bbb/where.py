"""Leaves selected by patterns, a function or a tree of bools."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

from bbb import checks
from bbb.core.tree import Tree, broadcast_prefix, names
from bbb.errors import InputError, ShapeError, fail

Where = Callable[[str, Any], bool] | str | Iterable[str] | Tree
"""Which leaves become Bayesian: see `bayesianize`."""


def leaves_where(where: Where | None, params: Tree, state: Tree) -> Tree:
    """Return which leaves become Bayesian: a tree of bools like `params`."""
    leaves, structure = jax.tree.flatten(params)
    paths, fixed = names(params), jax.tree.leaves(state)
    free = [path for path, is_state in zip(paths, fixed, strict=True) if not is_state]
    if where is None:
        picked = [True] * len(leaves)
    elif callable(where):
        picked = [path in free and bool(where(path, leaf)) for path, leaf in zip(paths, leaves, strict=True)]
    elif _is_patterns(where):
        patterns = [where] if isinstance(where, str) else list(where)
        for pattern in patterns:
            if not any(_matches(path, pattern) for path in free):
                checks.picks_nothing(f"the pattern '{pattern}' of where", free)
        picked = [any(_matches(path, pattern) for pattern in patterns) for path in paths]
    else:
        picked = _bools(where, params)
    chosen = [pick and not is_state for pick, is_state in zip(picked, fixed, strict=True)]
    if not any(chosen):
        checks.picks_nothing("where", free)
    return jax.tree.unflatten(structure, chosen)


def _is_patterns(where: Any) -> bool:
    several = isinstance(where, list | tuple | set | frozenset) and len(where) > 0
    return isinstance(where, str) or (several and all(isinstance(pattern, str) for pattern in where))


def _matches(path: str, pattern: str) -> bool:
    """Return whether a glob pattern, whose * stands for any characters, matches a path from a part of it to its end."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")


def _bools(where: Tree, params: Tree) -> list[bool]:
    try:
        full = jax.tree.leaves(broadcast_prefix(where, params))
    except (ValueError, TypeError) as error:
        raise ShapeError(
            "Expected where to be a pattern, a function of a path and a leaf, or a tree of bools that is a prefix of "
            f"the parameters', got {jax.tree.structure(where)} for {jax.tree.structure(params)}. "
            'Pass for example where="*/kernel".'
        ) from error
    for leaf in full:
        if not isinstance(leaf, bool | np.bool_):
            fail(
                InputError,
                "every leaf of where to be a bool",
                f"a {type(leaf).__name__}",
                'Pass True or False for each, or a pattern such as "*/kernel".',
            )
    return [bool(leaf) for leaf in full]
