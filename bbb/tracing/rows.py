"""Whether a network's outputs for a row depend on other rows, on the number of rows, or on the row's position.

`predict` divides x into tiles, and training into batches, which is correct only if each row is processed by itself. If
all operations of a network keep rows apart and treat them alike, its trace shows it. Any other network is evaluated on
a few rows: with one of them changed, after which the bits of the others must be the same; with twice as many rows,
which exposes a network that divides by `x.shape[0]`; and with the rows rolled, which exposes one that adds
`arange(x.shape[0])`. A network for which this cannot be decided is accepted.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.rows import count_rows, map_rows, some_rows, with_rows
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree, is_floating
from bbb.errors import InputError, fail
from bbb.tracing.row_paths import alone

TRIED = 8
"""The number of rows that a network is evaluated on: a tile of the smallest size."""


def refuse_mixed_rows(apply: Callable[..., Tree], params: Tree, x: Tree, what: str, do: str) -> None:
    """Check that a network processes each row by itself.

    Args:
        apply: the network.
        params: its parameters.
        x: at least one row, (rows, ...).
        what: what divides the rows, for the message.
        do: the advice, for the message.

    Raises:
        InputError: if the outputs for a row change with other rows, with the number of rows, or with its position.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, x))):
        return
    if from_shapes(_answers_alike, apply, params, with_rows(x, TRIED)):
        return
    params = jax.tree.map(_without_zeros, params)
    for changes, change in (
        (_changes_with_others, "when other rows do"),
        (_changes_with_count, "with the number of rows"),
        (_changes_with_place, "with its position among the rows"),
    ):
        if changes(apply, params, x):
            expected = f"a network that processes each row of x by itself, for {what}"
            fail(InputError, expected, f"one whose outputs for a row change {change}", do)


def _answers_alike(apply: Callable[..., Tree], params: Tree, x: Tree) -> bool:
    """Return whether the trace shows that rows are processed alike and independently."""
    return alone(apply, params, x) is not None


def _changes_with_others(apply: Callable[..., Tree], params: Tree, x: Tree) -> bool:
    """Return whether changing the first or the last of a few rows changes the bits of the outputs for the others."""
    rows = _some(x, TRIED)

    def changed(row: int) -> Tree:
        return map_rows(lambda leaf: _with_changed(leaf, row), rows)

    try:
        run = _runner(apply)
        plain, *others = (run(params, tried) for tried in (rows, changed(0), changed(-1)))
    except Exception:  # a network that fails is reported by other checks of the caller
        return False
    kept = slice(1, None), slice(None, -1)
    return not all(
        np.array_equal(plain[rest], other[rest], equal_nan=True) for rest, other in zip(kept, others, strict=True)
    )


def _changes_with_count(apply: Callable[..., Tree], params: Tree, x: Tree) -> bool:
    """Return whether the outputs for the same rows differ, by more than rounding, when there are twice as many rows."""
    rows = _some(x, 2 * TRIED)
    try:
        run = _runner(apply)
        few, more = (run(params, tried) for tried in (some_rows(rows, slice(TRIED)), rows))
    except Exception:  # a network that fails is reported by other checks of the caller
        return False
    return not _close(few, more[:TRIED])


def _changes_with_place(apply: Callable[..., Tree], params: Tree, x: Tree) -> bool:
    """Return whether the outputs for rows differ, by more than rounding, when the rows are rolled by one."""
    rows = _some(x, TRIED)
    try:
        run = _runner(apply)
        plain, turned = (run(params, tried) for tried in (rows, map_rows(lambda leaf: np.roll(leaf, 1, axis=0), rows)))
    except Exception:  # a network that fails is reported by other checks of the caller
        return False
    return not _close(np.roll(plain, 1, axis=0), turned)


def _without_zeros(leaf: Tree) -> Tree:
    """Return nonzero numbers for a leaf of zeros, such as an initial last layer, which would hide all layers before."""
    if not is_floating(leaf) or not getattr(leaf, "is_fully_addressable", True):
        return leaf
    array = np.asarray(leaf)
    if array.any():
        return leaf
    return jnp.asarray(0.1 * np.cos(np.arange(array.size)).reshape(array.shape), leaf.dtype)


def _some(x: Tree, count: int) -> Tree:
    """Return the first `count` rows of x in NumPy arrays, repeated if there are fewer."""
    index = np.arange(count) % min(count, count_rows(x))
    return map_rows(lambda leaf: np.asarray(leaf[:count])[index], x)


def _with_changed(leaf: np.ndarray, row: int) -> np.ndarray:
    """Return a copy with other numbers in one row."""
    other, old = leaf.copy(), leaf[row]
    other[row] = old + 1 if jnp.issubdtype(leaf.dtype, jnp.floating) else np.where(old > 0, 0, 1).astype(leaf.dtype)
    return other


def _runner(apply: Callable[..., Tree]) -> Callable[[Tree, Tree], np.ndarray]:
    """Return the compiled network, on JAX arrays, with its outputs side by side in one NumPy array."""
    run = jax.jit(apply)

    def outputs(params: Tree, x: Tree) -> np.ndarray:
        leaves = map(np.asarray, jax.tree.leaves(run(params, jax.tree.map(jnp.asarray, x))))
        return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)

    return outputs


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    scale = float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))
    return np.allclose(a, b, rtol=1e-2, atol=1e-3 * scale, equal_nan=True)
