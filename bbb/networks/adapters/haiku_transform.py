"""Networks of haiku."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from bbb import checks
from bbb.core.tree import Tree
from bbb.networks.adapters.common import Network, Options, mode_options, parameters_of


@dataclasses.dataclass(frozen=True, repr=False)
class Haiku:
    """A haiku transform as a function of its params, or of (params, state)."""

    transformed: Any
    stateful: bool
    takes_rng: bool
    training: Options
    evaluation: Options

    def __call__(self, params: Tree, x: jax.Array) -> jax.Array:
        """Return the outputs, with running statistics and without dropout."""
        return self._run(params, x, None, self.evaluation)[0]

    def __repr__(self) -> str:
        return "Haiku"

    def train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Return the outputs in training mode, and the new state."""
        outputs, new = self._run(params, x, key, self.training)
        nothing = jax.tree.map(lambda _: None, params)
        return outputs, (nothing[0], new) if self.stateful else nothing

    def state(self, params: Tree) -> Tree:
        """Return a tree of bools: True for the state."""
        mask = jax.tree.map(lambda _: False, params)
        return (mask[0], jax.tree.map(lambda _: True, params[1])) if self.stateful else mask

    def _run(self, params: Tree, x: Any, key: jax.Array | None, options: Options) -> tuple[Any, Tree]:
        rng = (key,) if self.takes_rng else ()
        trees = params if self.stateful else (params,)
        outputs = self.transformed.apply(*trees, *rng, x, **dict(options))
        return outputs if self.stateful else (outputs, None)


def haiku(
    transformed: Any,
    params: Tree,
    state: Tree = None,
    *,
    training: Mapping[str, object] | None = None,
    evaluation: Mapping[str, object] | None = None,
) -> Network:
    """Adapt a `haiku.transform` or a `haiku.transform_with_state`, with the params (and state) of its `init`.

    Raises:
        InputError: if `transformed` is not a transform.
    """
    checks.has("a transform", transformed, ("init", "apply"), "haiku.transform(f)")
    options = mode_options(transformed.apply, training, evaluation)
    takes = parameters_of(transformed.apply)
    stateful = type(transformed).__name__ == "TransformedWithState"
    apply = Haiku(transformed, stateful, list(takes)[1 + stateful : 2 + stateful] == ["rng"], *options)
    return Network(apply, (params, state) if apply.stateful else params)
