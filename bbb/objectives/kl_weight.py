"""Checks of a schedule of the KL's weight before training: it returns one number of at least 0 for each step."""

from collections.abc import Callable
from functools import partial
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.jit import jit
from bbb.errors import InputError
from bbb.objectives.schedules import MinibatchWeights, WarmUp

AT_ONCE, MAX_CHECKED = 2**10, 2**18
"""How many steps a schedule is asked about at once, and in all: every step, or of more as many, spaced evenly."""


ROUNDING = 1e-6
"""How far below 0 a weight may be, as that of a schedule which falls to 0 may round."""


def check_schedule(schedule: Callable[[jax.Array], jax.Array], steps: int) -> None:
    """Check that a schedule returns a weight of at least 0 at each of so many steps, and that JAX can trace it.

    Raises:
        InputError: naming what it returns, or the first step at which it is negative, NaN or infinite.
    """
    if isinstance(schedule, WarmUp | MinibatchWeights):  # which are above 0 by their formulas: nothing is compiled
        return
    checks.hashable("kl_weight", schedule)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # it may be optax's
        try:
            weight = jax.eval_shape(lambda step: jnp.asarray(schedule(step)), jax.ShapeDtypeStruct((), jnp.int32))
        except jax.errors.ConcretizationTypeError as error:
            do = "Use jnp.where or jax.lax.cond instead of if, or one of optax's schedules."
            _refuse("one that decides by the value of the step, which is traced", do, error)
        except Exception as error:  # of the user's own function
            got = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:200]}"
            _refuse(got, "Pass a number, or a function of the step alone.", error)
        if weight.shape or not any(jnp.issubdtype(weight.dtype, kind) for kind in (jnp.floating, jnp.integer)):
            got = f"one that returns an array of shape {weight.shape} and dtype {weight.dtype}"
            _refuse(got, "Make it return a scalar.")
        count = min(steps, MAX_CHECKED)
        for first in range(0, count, AT_ONCE):
            index = np.minimum(np.arange(first, first + AT_ONCE), count - 1)
            asked = (index * (steps - 1) // max(1, count - 1)).astype(np.int32)
            weights = np.asarray(_weights(asked, schedule=schedule))
            bad = ~(np.isfinite(weights) & (weights >= -ROUNDING))
            if bad.any():
                where = int(np.argmax(bad))
                _refuse(f"{weights[where]} at step {asked[where]}", "Make it return 0 or more at every step.")


@partial(jit, static_argnames=("schedule",))
def _weights(steps: jax.Array, *, schedule: Callable[[jax.Array], jax.Array]) -> jax.Array:
    return jax.vmap(lambda step: jnp.asarray(schedule(step)))(steps)


def _refuse(got: str, do: str, error: Exception | None = None) -> NoReturn:
    raise InputError(
        f"Expected kl_weight to be a schedule from the step to one finite number of at least 0, got {got}. {do}"
    ) from error
