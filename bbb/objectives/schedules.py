"""Schedules of the KL's weight: functions of the step, from 0, for `Objective(kl_weight=…)`.

They compare by value, so that two equal ones share one compiled program; their numbers are part of it, and others
compile again. Any other function of the step will do, such as one of optax's schedules.
"""

import dataclasses

import jax
import jax.numpy as jnp

from bbb import checks


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """See `warm_up`."""

    steps: int

    def __post_init__(self) -> None:
        """Check that the number is a whole number of at least 1."""
        object.__setattr__(self, "steps", checks.positive_integer("steps", self.steps))

    def __call__(self, step: jax.Array) -> jax.Array:
        """Return the weight at a step."""
        return jnp.minimum(jnp.asarray(step).astype(jnp.result_type(float)) / self.steps, 1)


@dataclasses.dataclass(frozen=True)
class MinibatchWeights:
    """See `minibatch_weights`."""

    batches: int

    def __post_init__(self) -> None:
        """Check that the number is a whole number of at least 1."""
        object.__setattr__(self, "batches", checks.positive_integer("batches", self.batches))

    def __call__(self, step: jax.Array) -> jax.Array:
        """Return the weight at a step."""
        batch = jnp.asarray(step) % self.batches + 1
        return self.batches * jnp.ldexp(jnp.ones((), jnp.result_type(float)), -batch) / (1 - 2.0**-self.batches)


def warm_up(steps: int) -> WarmUp:
    """Return a schedule that raises the KL's weight linearly, from 0 at the first step to 1 after `steps` steps.

    Early on, the data alone decide; the bound itself is what is trained at the end.

    Raises:
        InputError: if `steps` is not a whole number of at least 1.

    Example:
        >>> import bbb
        >>> weight = bbb.objectives.warm_up(10)
        >>> [round(float(weight(step)), 1) for step in (0, 4, 9, 20)]
        [0.0, 0.4, 0.9, 1.0]
    """
    return WarmUp(steps)


def minibatch_weights(batches: int) -> MinibatchWeights:
    """Return a schedule that weighs the KL heavily in the first batches of an epoch, by M·2^(M − i)/(2^M − 1).

    i counts the batches of an epoch from 1 to M = `batches`, which is ⌈rows/batch size⌉. The paper's cost of a batch,
    π_i·KL − log p(batch | w) with π_i = 2^(M − i)/(2^M − 1), sums to the bound over an epoch. Every step of `fit`
    counts the whole data set instead, M times a batch, so that π_i is multiplied by M here: the weights of an epoch
    average to 1. The formula is evaluated as M·2^(−i)/(1 − 2^(−M)), which no number of batches overflows.

    Raises:
        InputError: if `batches` is not a whole number of at least 1.

    Source: Blundell et al. 2015, arXiv 1505.05424, eq. 9 and the text below it.

    Example:
        >>> import bbb
        >>> weight = bbb.objectives.minibatch_weights(3)
        >>> [round(float(weight(step)), 2) for step in range(3)]
        [1.71, 0.86, 0.43]
    """
    return MinibatchWeights(batches)
