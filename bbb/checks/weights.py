"""Checks of the weights of rows, which scikit-learn calls `sample_weight`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb.checks.context import alive
from bbb.checks.numbers import real
from bbb.errors import InputError, ShapeError, fail

NAME = "sample_weight"


def row_weights(value: Any, rows: int, dtype: Any = np.float64, of_batch: bool = False) -> np.ndarray | jax.Array:
    """Check that `value` has a finite weight of at least 0 for each row, not all 0, and return it in a dtype.

    Of tracers only the shape is checked. Of a batch, whose rows may all count for nothing, all may be 0.

    Raises:
        InputError: for what are not such numbers, also once they are in the dtype, which may hold less.
        ShapeError: if there is not one weight for each row.
    """
    alive(NAME, value)
    traced = isinstance(value, jax.core.Tracer)
    array: Any = value if traced else np.asarray(real(NAME, value))
    if array.shape != (rows,):
        do = f"Pass one number for each row: {NAME}[:, 0]." if array.shape == (rows, 1) else "Pass a number a row."
        fail(ShapeError, f"{NAME} of shape ({rows},)", f"{array.shape}", do)
    if traced:
        return array.astype(dtype)
    with np.errstate(over="ignore"):  # what overflows is refused below
        weights = array.astype(dtype)
    good = np.isfinite(weights) & (weights >= 0)
    if not good.all():
        at = int(np.argmin(good))
        do = "Pass how often each row counts; 0 leaves it out."
        fail(InputError, f"{NAME} in {jnp.dtype(dtype)} to be finite and at least 0", f"{array[at]} at row {at}", do)
    if not of_batch and not weights.any():
        fail(InputError, f"{NAME} above 0 for at least one row", "0 for all", "Pass how often each row counts.")
    return weights
