"""Whether the rows of a network meet: whether what it gives for one row depends on other rows, or on its place.

`predict` cuts x into tiles, and training into batches, which is right only where each row is answered by itself. A
network whose operations all plainly keep rows apart, and do the same to each, is known by its trace. Any other is
tried: with two rows changed, where the bits of the rows between them must stay; with twice as many rows, which one that
divides by `x.shape[0]` answers otherwise; and with the rows turned, which finds one that adds `arange(x.shape[0])`.
What cannot be decided is accepted.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check
from bbb._rowpaths import alone
from bbb._shapes import from_shapes
from bbb._tree import Tree, is_floating

TRIED = 8
"""Rows that a network is tried with: a tile of the smallest size."""


def refuse_meeting(apply: Callable[..., Any], params: Tree, x: Any, what: str, do: str) -> None:
    """Refuse a network whose rows meet, for `what` cuts them apart.

    Raises:
        InputError: if a row's outputs change when other rows do, with how many there are, or with its place.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, x))):
        return
    if from_shapes(_answers_alike, apply, params, jax.ShapeDtypeStruct((TRIED, *x.shape[1:]), x.dtype)):
        return
    params = jax.tree.map(_without_zeros, params)
    for changes, change in (
        (_changes_with_others, "when other rows do"),
        (_changes_with_count, "with how many rows there are"),
        (_changes_with_place, "with its place among the rows"),
    ):
        if changes(apply, params, x):
            expected = f"a network that answers each row of x by itself, for {what}"
            _check.fail(_check.InputError, expected, f"one whose outputs for a row change {change}", do)


def _answers_alike(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Tell whether the trace says that each row is answered by itself, and all of them alike."""
    return alone(apply, params, x) is not None


def _changes_with_others(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Change the first or the last of a few rows, and tell whether the bits of the others change."""
    rows = _some(x, TRIED)

    def changed(row: int) -> np.ndarray:
        other = rows.copy()
        floating = jnp.issubdtype(rows.dtype, jnp.floating)
        other[row] = rows[row] + 1 if floating else np.where(rows[row] > 0, 0, 1).astype(rows.dtype)
        return other

    try:
        run = jax.jit(apply)
        plain, *others = (np.asarray(run(params, jnp.asarray(tried))) for tried in (rows, changed(0), changed(-1)))
    except Exception:  # who asks has other checks, which name it
        return False
    kept = slice(1, None), slice(None, -1)
    return not all(
        np.array_equal(plain[rest], other[rest], equal_nan=True) for rest, other in zip(kept, others, strict=True)
    )


def _changes_with_count(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Return whether the same rows have other outputs beside more of them, by more than rounding."""
    rows = _some(x, 2 * TRIED)
    try:
        run = jax.jit(apply)
        few, more = (np.asarray(run(params, jnp.asarray(tried))) for tried in (rows[:TRIED], rows))
    except Exception:  # who asks has other checks, which name it
        return False
    return not _close(few, more[:TRIED])


def _changes_with_place(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Return whether rows that have changed places have other outputs, by more than rounding."""
    rows = _some(x, TRIED)
    try:
        run = jax.jit(apply)
        plain, turned = (np.asarray(run(params, jnp.asarray(tried))) for tried in (rows, np.roll(rows, 1, axis=0)))
    except Exception:  # who asks has other checks, which name it
        return False
    return not _close(np.roll(plain, 1, axis=0), turned)


def _without_zeros(leaf: Any) -> Any:
    """Return other numbers for a leaf of zeros, as a last layer may start with: it would hide what comes before."""
    if not is_floating(leaf) or not getattr(leaf, "is_fully_addressable", True):
        return leaf
    array = np.asarray(leaf)
    if array.any():
        return leaf
    return jnp.asarray(0.1 * np.cos(np.arange(array.size)).reshape(array.shape), leaf.dtype)


def _some(x: Any, count: int) -> np.ndarray:
    """Return so many rows: the first, over and over if there are fewer."""
    rows = np.asarray(x[:count])
    return rows[np.arange(count) % len(rows)]


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    scale = float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))
    return np.allclose(a, b, rtol=1e-2, atol=1e-3 * scale, equal_nan=True)
