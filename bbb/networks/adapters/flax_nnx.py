"""Networks of flax.nnx."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bbb.core.tree import Tree
from bbb.networks.adapters.common import Network, Options, mode_options, root_name, state_only


@dataclasses.dataclass(frozen=True, repr=False)
class NNX:
    """A flax.nnx model as a function of its variables, nested dictionaries of arrays."""

    definition: Any
    evaluating: Any  # the definition in evaluation mode, and in training mode
    trained: Any
    structure: Any
    is_state: tuple[bool, ...]
    training: Options
    evaluation: Options
    streams: Any = dataclasses.field(compare=False, repr=False)

    def __call__(self, params: Tree, x: jax.Array) -> jax.Array:
        """Return the outputs, with running statistics and without dropout."""
        return self._merged(self.evaluating, self.streams, params)(x, **dict(self.evaluation))

    def __repr__(self) -> str:
        return f"NNX({root_name(self.definition)})"

    def train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Return the outputs in training mode, and the new state."""
        from flax import nnx  # noqa: PLC0415

        model = self._merged(self.trained, self._with_key(key), params)
        outputs = model(x, **dict(self.training))
        return outputs, state_only(self.state(params), nnx.to_pure_dict(_parts(model)[2]))

    def state(self, params: Tree) -> Tree:
        """Return a tree of bools: True for all variables except `nnx.Param`."""
        return jax.tree.unflatten(jax.tree.structure(params), self.is_state)

    def restore(self, params: Tree) -> Any:
        """Return a new model."""
        return self._merged(self.definition, self.streams, params)

    def _merged(self, definition: Any, streams: Any, params: Tree) -> Any:
        from flax import nnx  # noqa: PLC0415

        streams = jax.tree.map(lambda leaf: leaf, streams)  # new variables, because a model changes its streams
        return nnx.merge(definition, streams, jax.tree.unflatten(self.structure, jax.tree.leaves(params)))

    def _with_key(self, key: jax.Array) -> Any:
        """Return the random streams with new keys, which are all derived from one key."""
        leaves, structure = jax.tree.flatten(self.streams)
        keys = jax.random.split(key, max(len(leaves), 1))
        return jax.tree.unflatten(structure, [_rekeyed(leaf, k) for leaf, k in zip(leaves, keys, strict=False)])


def nnx(
    model: Any, *, training: Mapping[str, object] | None = None, evaluation: Mapping[str, object] | None = None
) -> Network:
    """Adapt a flax.nnx model; all variables except `nnx.Param` are state.

    The modes are those of `model.train()` and `model.eval()`. Random streams are not parameters: in training their
    keys are derived from that of `fit`, and the result of `restore` has the streams of `model`.
    """
    from flax import nnx  # noqa: PLC0415

    evaluating, trained = nnx.clone(model), nnx.clone(model)
    evaluating.eval()
    trained.train()
    definition, streams, variables = _parts(model)
    kinds = jax.tree.leaves(variables, is_leaf=lambda v: isinstance(v, nnx.Variable))
    apply = NNX(
        definition,
        _parts(evaluating)[0],
        _parts(trained)[0],
        jax.tree.structure(variables),
        tuple(not isinstance(kind, nnx.Param) for kind in kinds for _ in jax.tree.leaves(kind)),
        *mode_options(type(model).__call__, training, evaluation),
        streams,
    )
    return Network(apply, nnx.to_pure_dict(variables))


def _parts(model: Any) -> tuple[Any, Any, Any]:
    """Split a flax.nnx model into its definition, its random streams and its variables."""
    from flax import nnx  # noqa: PLC0415

    definition, streams, *variables = nnx.split(model, nnx.RngState, ...)
    return definition, streams, variables[0]


def _rekeyed(leaf: Tree, key: jax.Array) -> Any:
    """Return another key in place of a key; a counter stays."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.random.split(key, leaf.shape) if leaf.shape else key
