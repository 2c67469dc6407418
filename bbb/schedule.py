"""Schedules of the KL's weight: functions of the step, from 0, for `fit(..., kl_weight=…)`.

They compare by value, so that two equal ones share one compiled program. Any other function of the step will do, such
as one of optax's schedules.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check
from bbb._compile import jit


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """See `warm_up`."""

    steps: int

    def __post_init__(self) -> None:
        """Refuse what is no whole number of at least 1."""
        object.__setattr__(self, "steps", _check.positive_integer("steps", self.steps))

    def __call__(self, step: jax.Array) -> jax.Array:
        """Give the weight at a step."""
        return jnp.minimum(jnp.asarray(step).astype(jnp.result_type(float)) / self.steps, 1)


@dataclasses.dataclass(frozen=True)
class MinibatchWeights:
    """See `minibatch_weights`."""

    batches: int

    def __post_init__(self) -> None:
        """Refuse what is no whole number of at least 1."""
        object.__setattr__(self, "batches", _check.positive_integer("batches", self.batches))

    def __call__(self, step: jax.Array) -> jax.Array:
        """Give the weight at a step."""
        batch = jnp.asarray(step) % self.batches + 1
        return self.batches * jnp.ldexp(jnp.ones((), jnp.result_type(float)), -batch) / (1 - 2.0**-self.batches)


def warm_up(steps: int) -> WarmUp:
    """Raise the KL's weight linearly from 0 at the first step to 1 after `steps` steps, where it stays.

    Early on, the data alone then decide; the bound itself is what is trained at the end.

    Raises:
        InputError: if `steps` is not a whole number of at least 1.
    """
    return WarmUp(steps)


def minibatch_weights(batches: int) -> MinibatchWeights:
    """Weigh the KL heavily in the first batches of each epoch, and hardly in the last: by M·2^(M − i)/(2^M − 1).

    i counts the batches of an epoch from 1 to M = `batches`, which is ⌈rows/batch size⌉. The paper's cost of a batch,
    π_i·KL − log p(batch | w) with π_i = 2^(M − i)/(2^M − 1), sums to the bound over an epoch. Every step of `fit`
    counts the whole data set instead, M times a batch, so that π_i is multiplied by M here: the weights of an epoch
    average to 1. The formula is evaluated as M·2^(−i)/(1 − 2^(−M)), which no number of batches overflows.

    Raises:
        InputError: if `batches` is not a whole number of at least 1.

    Source: Blundell et al. 2015, arXiv 1505.05424, eq. 9 and the text below it.
    """
    return MinibatchWeights(batches)


AT_ONCE, MOST_CHECKED = 2**10, 2**18
"""How many steps a schedule is asked about at once, and in all: every step, or of more as many, spaced evenly."""

ROUNDING = 1e-6
"""How far below 0 a weight may be, as that of a schedule which falls to 0 may round."""


def check(schedule: Callable[[jax.Array], Any], steps: int) -> None:
    """Refuse a schedule that is no weight of at least 0 at each of so many steps, or that JAX cannot trace.

    Raises:
        InputError: naming what it returns, or the first step at which it is negative, NaN or infinite.
    """
    _check.hashable("kl_weight", schedule)
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
        count = min(steps, MOST_CHECKED)
        for first in range(0, count, AT_ONCE):
            index = np.minimum(np.arange(first, first + AT_ONCE), count - 1)
            asked = (index * (steps - 1) // max(1, count - 1)).astype(np.int32)
            weights = np.asarray(_weights(asked, schedule=schedule))
            bad = ~(np.isfinite(weights) & (weights >= -ROUNDING))
            if bad.any():
                where = int(np.argmax(bad))
                _refuse(f"{weights[where]} at step {asked[where]}", "Make it return 0 or more at every step.")


@partial(jit, static_argnames=("schedule",))
def _weights(steps: jax.Array, *, schedule: Callable[[jax.Array], Any]) -> jax.Array:
    return jax.vmap(lambda step: jnp.asarray(schedule(step)))(steps)


def _refuse(got: str, do: str, error: Exception | None = None) -> NoReturn:
    raise _check.InputError(
        f"Expected kl_weight to be a schedule from the step to one finite number of at least 0, got {got}. {do}"
    ) from error
