"""What a network may have besides its call: a state and a training mode."""

import dataclasses
from collections.abc import Callable
from types import MethodType
from typing import Any

import jax

from bbb import checks, display
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.tracing.network import Apply


@dataclasses.dataclass(frozen=True, repr=False)
class Method:
    """A bound method that compares by the value of its object.

    Python compares bound methods by the identity of their objects, so that two equal networks would compile twice.
    """

    owner: Any
    function: Callable[..., jax.Array]

    def __call__(self, params: Tree, x: jax.Array) -> jax.Array:
        """Return the network's outputs."""
        return self.function(self.owner, params, x)

    def __repr__(self) -> str:
        return display.network(self.owner)

    @property
    def train(self) -> Any:
        """The network in training mode, if its object has one: see the head of this module."""
        return self._of_network("train")

    @property
    def state(self) -> Any:
        """What says which leaves are state, likewise."""
        return self._of_network("state")

    def _of_network(self, name: str) -> Any:
        if not (callable(getattr(self.owner, "train", None)) and callable(getattr(self.owner, "state", None))):
            raise AttributeError(f"{type(self.owner).__name__} has no training mode")
        return getattr(self.owner, name)


def by_value(apply: Apply) -> Apply:
    """Return a bound method of an object that compares by value as one that does too; other networks as they are."""
    if not isinstance(apply, MethodType) or type(apply.__self__).__hash__ in (None, object.__hash__):
        return apply
    try:
        hash(apply.__self__)
    except TypeError:  # it holds something that has no hash, such as an array
        return apply
    return Method(apply.__self__, apply.__func__)


def state_of(apply: Any, params: Tree) -> Tree:
    """Return which leaves of `params` are the network's state: a tree of bools like it."""
    nothing = jax.tree.map(lambda _: False, params)
    if not hasattr(apply, "state"):
        return nothing
    state = apply.state(params)
    checks.fits("state(params)", state, "params", nothing)
    return state


def refuse_hidden_state(apply: Any, params: Tree) -> None:
    """Raise for a wrapped network whose state the wrapper hides: it would be taken for weights."""
    inner: Any = by_value(getattr(apply, "__wrapped__", apply))
    if not hasattr(apply, "state") and hasattr(inner, "state") and any(jax.tree.leaves(state_of(inner, params))):
        fail(
            InputError,
            "a network whose state and training mode can be seen",
            "one inside a wrapper such as jax.jit, which hides them",
            "Pass the network's own apply: `fit` and `predict` compile it themselves.",
        )
