"""The forward that an argument stands for."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.forwards.linearization import linearized
from bbb.forwards.mean import at_mean
from bbb.forwards.rowwise import flipout, local_reparam
from bbb.forwards.sampling import weight_sampling
from bbb.posteriors.protocol import Posterior


@runtime_checkable
class Forward(Protocol):
    """A network with random weights, its chance apart from its arithmetic."""

    def noise(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        """Draw all the random numbers of one call."""

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Compute the outputs, given those random numbers."""

    def __call__(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Compute the outputs of one random draw."""


@dataclasses.dataclass(frozen=True)
class _Opaque:
    """A plain function `(key, posterior, x) -> outputs`, whose noise is its key."""

    function: Callable[[jax.Array, Posterior, Any], jax.Array]

    def noise(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        del posterior, x
        return key

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        return self.function(noise, posterior, x)

    def __call__(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> jax.Array:
        return self.function(key, posterior, x)


def as_forward(forward: Any) -> Forward:
    """Return a forward as it is, or a plain function `(key, posterior, x) -> outputs` wrapped as one.

    Raises:
        InputError: for what is not a function, and for one that makes a forward.
    """
    if forward in (weight_sampling, local_reparam, flipout, linearized, at_mean):
        name = f"bbb.forwards.{forward.__name__}"
        fail(InputError, "a forward of a network", f"{name} itself", f"Pass {name}(model.apply).")
    if not callable(forward):
        do = "Pass bbb.forwards.local_reparam(model.apply), or a function (key, posterior, x) -> outputs."
        fail(InputError, "a forward, a function", repr(forward), do)
    return forward if isinstance(forward, Forward) else _Opaque(forward)
