"""Networks of flax.linen."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from bbb import display
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.networks.adapters.common import Network, Options, mode_options, state_only


@dataclasses.dataclass(frozen=True, repr=False)
class Linen:
    """A flax.linen module as a function of its variables."""

    module: Any
    training: Options
    evaluation: Options

    def __call__(self, variables: Tree, x: jax.Array) -> jax.Array:
        """Return the outputs, with running statistics and without dropout."""
        return self.module.apply(variables, x, **dict(self.evaluation))

    def __repr__(self) -> str:
        return f"Linen({display.layer(self.module)})"

    def train(self, variables: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Return the outputs in training mode, and the new state."""
        collections = [name for name in variables if name != "params"]
        options = dict(self.training)
        outputs, new = self.module.apply(variables, x, rngs=key, mutable=collections, **options)
        return outputs, state_only(
            self.state(variables), {name: new.get(name, part) for name, part in variables.items()}
        )

    def state(self, variables: Tree) -> Tree:
        """Return a tree of bools: True for all collections except "params"."""
        return {name: jax.tree.map(lambda _, n=name: n != "params", part) for name, part in variables.items()}


def linen(
    module: Any,
    variables: Tree,
    *,
    training: Mapping[str, object] | None = None,
    evaluation: Mapping[str, object] | None = None,
) -> Network:
    """Adapt a flax.linen module and the variables of `module.init`; all collections except "params" are state.

    Raises:
        InputError: if the variables have no collection "params".
    """
    if hasattr(variables, "unfreeze"):
        variables = variables.unfreeze()
    if not (isinstance(variables, Mapping) and "params" in variables):
        got = f"collections {list(variables)}" if isinstance(variables, Mapping) else f"a {type(variables).__name__}"
        fail(InputError, 'variables with a collection "params"', got, "Pass the result of module.init(key, x).")
    return Network(Linen(_hashable(module), *mode_options(type(module).__call__, training, evaluation)), variables)


def _hashable(value: Any) -> Any:
    """Return a linen module with tuples in place of lists, as in `Sequential([...])`, which is equivalent for flax."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(map(_hashable, value))
    if not (dataclasses.is_dataclass(value) and hasattr(value, "clone")):
        return value
    options = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    changed = {name: _hashable(option) for name, option in options.items() if name not in ("parent", "name")}
    changed = {name: option for name, option in changed.items() if option is not options[name]}
    return value.clone(**changed) if changed else value
