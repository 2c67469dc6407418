"""The one place that checks x and y."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.tree import widest_dtype
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import observed
from bbb.model import BNN, check_model
from bbb.tracing import purity


def rows_for(model: BNN, name: str, value: ArrayLike) -> jax.Array:
    """Check a model and rows of data, and bring floating-point ones to the dtype of the model's weights."""
    check_model(model)
    array = checks.rows(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return jax.device_put(on_host(name, array))
    dtype = widest_dtype(model.posterior.params)
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


def data_for(model: BNN, x: ArrayLike, y: ArrayLike, several: bool = False) -> tuple[jax.Array, jax.Array]:
    """Check x and y against the model, of one posterior unless `several`, and each other; return them in its dtype."""
    check_model(model)
    if model.members > 1 and not several:
        do = "Take one, model.member(k); to train several, use bbb.train.fit_each."
        fail(InputError, "a model of one posterior", f"one of {model.members} members", do)
    x, y = rows_for(model, "x", x), rows_for(model, "y", y)
    checks.same_rows(x, y)
    outputs = purity.output_shape(model.apply, model.posterior.params, x)
    return x, observed(model.likelihood, y, outputs)


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
