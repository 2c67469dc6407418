"""Whether the rows of a network meet: whether what it gives for one row depends on what another row holds.

`predict` cuts x into tiles, and training into batches, which is right only where each row is answered by itself. A
network whose operations all plainly keep rows apart is known by its trace. Any other is tried: two rows are changed,
and if the bits of a row between them change too, rows meet. A network whose trace holds other numbers for twice as many
rows, such as one that divides by `x.shape[0]`, is tried with both. What cannot be decided is accepted.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check
from bbb._rowpaths import Rows, Walk, follow, literals
from bbb._shapes import from_shapes
from bbb._tree import Tree

TRIED = 8
"""Rows that a network is traced and tried with: a tile of the smallest size."""


def refuse_meeting(apply: Callable[..., Any], params: Tree, x: Any, what: str, do: str) -> None:
    """Refuse a network whose rows meet, for `what` cuts them apart.

    Raises:
        InputError: if a row's outputs change when other rows do, or with how many there are.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, x))):
        return
    few, more = (jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype) for rows in (TRIED, 2 * TRIED))
    if not from_shapes(_apart, apply, params, few) and _met(apply, params, x):
        _refuse(what, "when other rows do", do)
    counted = from_shapes(_numbers, apply, params, few) != from_shapes(_numbers, apply, params, more)
    if counted and _changes_with_count(apply, params, x):
        _refuse(what, "with how many rows there are", do)


def _refuse(what: str, change: str, do: str) -> NoReturn:
    expected = f"a network that answers each row of x by itself, for {what}"
    _check.fail(_check.InputError, expected, f"one whose outputs for a row change {change}", do)


def _apart(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Tell whether each operation keeps rows apart, as far as rules are known."""
    try:
        closed = jax.make_jaxpr(lambda *args: apply(*args))(params, x)  # noqa: PLW0108 - see `_trace.trace`
        inputs = [None] * (len(closed.jaxpr.invars) - 1) + [Rows(0)]
        return all(found in (Rows(0), None) for found in follow(closed, inputs, Walk(TRIED, strict=False)))
    except Exception:  # a network of a fixed number of rows fails here: it is tried, and fails there
        return False


def _met(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Change the first or the last of a few rows, and tell whether the bits of the others change."""
    rows = np.asarray(x)[np.arange(TRIED) % len(x)]

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


def _numbers(apply: Callable[..., Any], params: Tree, x: Any) -> tuple[str, ...]:
    """Return the numbers that stand in the trace itself; none where there is no trace."""
    try:
        closed = jax.make_jaxpr(lambda *args: apply(*args))(params, x)  # noqa: PLW0108 - see `_trace.trace`
    except Exception:  # a network of a fixed number of rows
        return ()
    return tuple(literals(closed.jaxpr))


def _changes_with_count(apply: Callable[..., Any], params: Tree, x: Any) -> bool:
    """Return whether the same rows have other outputs beside more of them, by more than rounding."""
    rows = np.asarray(x)[np.arange(2 * TRIED) % len(x)]
    try:
        run = jax.jit(apply)
        few, more = (np.asarray(run(params, jnp.asarray(tried))) for tried in (rows[:TRIED], rows))
    except Exception:  # who asks has other checks, which name it
        return False
    scale = float(np.max(np.abs(few[np.isfinite(few)]), initial=0.0))
    return not np.allclose(few, more[:TRIED], rtol=1e-2, atol=1e-3 * scale, equal_nan=True)
