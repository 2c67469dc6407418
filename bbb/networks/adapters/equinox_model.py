"""Networks of equinox."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from bbb.core.rows import apart, count_rows, put_back
from bbb.core.tree import Tree, is_floating
from bbb.networks.adapters.common import Network, Options, mode_options, parameters_of, root_name


class Static(NamedTuple):
    """The part of a tree that is not arrays: its other leaves, and its structure."""

    leaves: tuple[Any, ...]  # None for an array
    structure: Any


@dataclasses.dataclass(frozen=True, repr=False)
class Equinox:
    """An equinox model as a function of its arrays, and of its state if it has one; mapped over rows."""

    static: Static
    inferring: Static  # with the flags of evaluation mode, and of training mode
    trained: Static
    stateful: bool
    takes_key: bool
    axis_name: str
    training: Options
    evaluation: Options

    def __call__(self, params: Tree, x: jax.Array) -> jax.Array:
        """Return the outputs, with running statistics and without dropout."""
        return self._run(self.inferring, params, x, None, self.evaluation)[0]

    def __repr__(self) -> str:
        return f"Equinox({root_name(self.static.structure)})"

    def train(self, params: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Return the outputs in training mode, with a different key for each row, and the new state."""
        outputs, new = self._run(self.trained, params, x, key, self.training)
        nothing = jax.tree.map(lambda _: None, params)
        return outputs, (nothing[0], new) if self.stateful else nothing

    def state(self, params: Tree) -> Tree:
        """Return a tree of bools: True for the state, and for arrays that are not floating-point."""
        mask = jax.tree.map(lambda leaf: not is_floating(leaf), params)
        return (mask[0], jax.tree.map(lambda _: True, params[1])) if self.stateful else mask

    def restore(self, params: Tree) -> Any:
        """Return a new model, or a new (model, state)."""
        return (_join(self.static, params[0]), params[1]) if self.stateful else _join(self.static, params)

    def _run(self, static: Static, params: Tree, x: Any, key: jax.Array | None, options: Options) -> tuple[Any, Tree]:
        model = _join(static, params[0] if self.stateful else params)
        # a copy, because equinox invalidates a state when it is read
        state = jax.tree.map(lambda leaf: leaf, params[1]) if self.stateful else None
        keys = None if key is None or not self.takes_key else jax.random.split(key, count_rows(x))
        named = dict(options)

        def one(row: Any, k: Any) -> tuple[Any, Tree]:
            if self.takes_key:
                named["key"] = k
            row = put_back(row, shared)
            return model(row, state, **named) if self.stateful else (model(row, **named), None)

        rows = 0 if keys is not None else None
        each, shared = apart(x)
        return jax.vmap(one, (0, rows), (0, None), axis_name=self.axis_name)(each, keys)


def equinox(
    model: Any,
    state: Any = None,
    *,
    axis_name: str = "batch",
    training: Mapping[str, object] | None = None,
    evaluation: Mapping[str, object] | None = None,
) -> Network:
    """Adapt an equinox model, and its state from `equinox.nn.make_with_state`, if it has one.

    An equinox network takes one row: it is mapped over rows by `jax.vmap`, whose axis is named `axis_name`, which must
    be the `axis_name` of its `BatchNorm` too. It is called as `model(row)` or `model(row, state)`, in training with
    `key=` if it takes a key. Arrays that are not floating-point are constant state.
    """
    import equinox as eqx  # noqa: PLC0415

    params, static = _split(model)
    inferring = _split(eqx.nn.inference_mode(model))[1]
    trained = _split(eqx.nn.inference_mode(model, value=False))[1]
    takes_key = "key" in parameters_of(type(model).__call__)
    options = mode_options(type(model).__call__, training, evaluation)
    apply = Equinox(static, inferring, trained, state is not None, takes_key, axis_name, *options)
    return Network(apply, params if state is None else (params, state))


def _split(model: Any) -> tuple[Tree, Static]:
    """Split a tree into its arrays, with None in place of other leaves, and the rest."""
    leaves, structure = jax.tree.flatten(model)
    rest = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    return jax.tree.unflatten(structure, [leaf if _is_array(leaf) else None for leaf in leaves]), Static(
        rest, structure
    )


def _join(static: Static, arrays: Tree) -> Any:
    """Return the tree that `_split` split."""
    found = static.structure.flatten_up_to(arrays)
    leaves = [rest if array is None else array for rest, array in zip(static.leaves, found, strict=True)]
    return jax.tree.unflatten(static.structure, leaves)


def _is_array(leaf: Tree) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def is_equinox_state(params: Any) -> bool:
    """Return whether `params` can be the state of an equinox model, which may be None."""
    return params is None or type(params).__module__.startswith("equinox.")
