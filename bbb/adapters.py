"""Networks of other libraries, as they are: flax.linen, flax.nnx, equinox and haiku.

Each adapter takes the user's own object, and gives a pair for `bayesianize(*pair, ...)`:

    apply     a function of (params, x), hashable, and equal to another made of an equal network, so that nothing
              compiles twice; with the training mode and the state that `bbb.model` tells of
    params    all the network's arrays: parameters, and state such as running statistics

`bayesianize` calls the right one by itself; call it for its options. `restore` puts parameters, such as
`posterior.mean` or `sample(key, posterior)`, back into the user's own kind of object.

In training mode the network gets a key for its dropout, and its state moves on; otherwise neither happens. A network
that is told its mode by an argument of its own is given it, if the argument has one of the usual names: `train`,
`training`, `is_training`, `deterministic`, `inference`, `use_running_average`. Any other arguments go by the options
`training` and `evaluation`, dictionaries of keyword arguments for each mode.

No library is imported but by its own adapter.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check, _display
from bbb._tree import Tree, is_floating

MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "inference": False,
    "use_running_average": False,
}
"""Arguments that tell a network its mode, and what each is in training."""

Options = tuple[tuple[str, Any], ...]
"""Keyword arguments that have a hash."""


class Network(NamedTuple):
    """What `bayesianize` takes: a network and its parameters."""

    apply: Any
    params: Tree


def network(model: Any, params: Tree = None) -> Network | None:
    """Adapt another library's object, by the library that its type comes from; None for any other function."""
    library = library_of(model)
    if library == "linen":
        return linen(model, params)
    if library == "nnx" and params is None:
        return nnx(model)
    if library == "equinox" and _is_equinox_state(params):
        return equinox(model, params)
    if library == "haiku" and params is not None:
        return haiku(model, *(params if isinstance(params, tuple) else (params,)))
    return None


def library_of(model: Any) -> str | None:
    """Return whose object it is, "linen", "nnx", "equinox" or "haiku", by the home of its type; None for any other."""
    homes = {cls.__module__.partition("._")[0] for cls in type(model).__mro__}
    for library, home in (("linen", "flax.linen"), ("nnx", "flax.nnx"), ("equinox", "equinox")):
        if any(name.startswith(home) for name in homes):
            return library
    return "haiku" if "haiku" in homes else None


def restore(model: Any, params: Tree) -> Any:
    """Put parameters back into the user's own kind of object; nothing is changed in place.

    Args:
        model: what `bayesianize` returned.
        params: a tree like `model.posterior.mean`: that mean, or `sample(key, model.posterior)`, one frozen draw.

    Returns:
        For linen the variables; for nnx and equinox a new model, (model, state) if equinox has one; for haiku params or
        (params, state); for a plain function the tree itself.

    Raises:
        ShapeError: if `params` differs from the model's parameters in structure or in a shape.
    """
    _check.has("a model", getattr(model, "posterior", model), ("gaussian",), "bbb.bayesianize(...)")
    _check.fits("params", params, "the model", model.posterior.mean)
    put_back = getattr(model.apply, "restore", None)
    return params if put_back is None else put_back(params)


def linen(
    module: Any,
    variables: Tree,
    *,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> Network:
    """Adapt a flax.linen module and its variables, as `module.init` gave them; collections but "params" are state.

    Raises:
        InputError: if the variables have no collection "params".
    """
    if hasattr(variables, "unfreeze"):
        variables = variables.unfreeze()
    if not (isinstance(variables, Mapping) and "params" in variables):
        got = f"collections {list(variables)}" if isinstance(variables, Mapping) else f"a {type(variables).__name__}"
        _check.fail(
            _check.InputError, 'variables with a collection "params"', got, "Pass what module.init(key, x) returned."
        )
    return Network(Linen(_hashable(module), *_options(type(module).__call__, training, evaluation)), variables)


def _hashable(value: Any) -> Any:
    """Turn the lists of a linen module, such as `Sequential([...])`, into tuples, which flax takes for the same."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(map(_hashable, value))
    if not (dataclasses.is_dataclass(value) and hasattr(value, "clone")):
        return value
    options = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    changed = {name: _hashable(option) for name, option in options.items() if name not in ("parent", "name")}
    changed = {name: option for name, option in changed.items() if option is not options[name]}
    return value.clone(**changed) if changed else value


def nnx(
    model: Any, *, training: Mapping[str, Any] | None = None, evaluation: Mapping[str, Any] | None = None
) -> Network:
    """Adapt a flax.nnx model; variables but `nnx.Param` are state.

    The modes are those of `model.train()` and `model.eval()`. Its random streams are no parameters: in training their
    keys come from `fit`'s, and what `restore` gives has those of `model`.
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
        *_options(type(model).__call__, training, evaluation),
        streams,
    )
    return Network(apply, nnx.to_pure_dict(variables))


def equinox(
    model: Any,
    state: Any = None,
    *,
    axis_name: str = "batch",
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> Network:
    """Adapt an equinox model, and the state that `equinox.nn.make_with_state` gave, if it has one.

    An equinox network takes one row: it is mapped over rows by `jax.vmap`, whose axis is called `axis_name` (which the
    `BatchNorm` of the model must be told). It is called as `model(row)`, `model(row, state)`, and in training with
    `key=` if it takes a key. Arrays that are not floating point are state that nothing changes.
    """
    import equinox as eqx  # noqa: PLC0415

    params, static = _split(model)
    inferring = _split(eqx.nn.inference_mode(model))[1]
    trained = _split(eqx.nn.inference_mode(model, value=False))[1]
    takes_key = "key" in _parameters(type(model).__call__)
    options = _options(type(model).__call__, training, evaluation)
    apply = Equinox(static, inferring, trained, state is not None, takes_key, axis_name, *options)
    return Network(apply, params if state is None else (params, state))


def haiku(
    transformed: Any,
    params: Tree,
    state: Tree = None,
    *,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> Network:
    """Adapt what `haiku.transform` or `haiku.transform_with_state` gave, with the params (and state) of its `init`."""
    _check.has("a transform", transformed, ("init", "apply"), "haiku.transform(f)")
    options = _options(transformed.apply, training, evaluation)
    takes = _parameters(transformed.apply)
    stateful = type(transformed).__name__ == "TransformedWithState"
    apply = Haiku(transformed, stateful, list(takes)[1 + stateful : 2 + stateful] == ["rng"], *options)
    return Network(apply, (params, state) if apply.stateful else params)


@dataclasses.dataclass(frozen=True, repr=False)
class Linen:
    """A flax.linen module as a function of its variables."""

    module: Any
    training: Options
    evaluation: Options

    def __call__(self, variables: Tree, x: Any) -> jax.Array:
        """Give the outputs, from running statistics and without dropout."""
        return self.module.apply(variables, x, **dict(self.evaluation))

    def __repr__(self) -> str:
        return f"Linen({_display.layer(self.module)})"

    def train(self, variables: Tree, x: Any, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Give the outputs in training mode, and the new state."""
        collections = [name for name in variables if name != "params"]
        options = dict(self.training)
        outputs, new = self.module.apply(variables, x, rngs=key, mutable=collections, **options)
        return outputs, _where(self.state(variables), {name: new.get(name, part) for name, part in variables.items()})

    def state(self, variables: Tree) -> Tree:
        """Say what is state: all collections but "params"."""
        return {name: jax.tree.map(lambda _, n=name: n != "params", part) for name, part in variables.items()}


@dataclasses.dataclass(frozen=True, repr=False)
class NNX:
    """A flax.nnx model as a function of its variables, nested dictionaries of arrays."""

    definition: Any
    evaluating: Any  # the definitions in the two modes
    trained: Any
    structure: Any
    is_state: tuple[bool, ...]
    training: Options
    evaluation: Options
    streams: Any = dataclasses.field(compare=False, repr=False)

    def __call__(self, params: Tree, x: Any) -> jax.Array:
        """Give the outputs, from running statistics and without dropout."""
        return self._merged(self.evaluating, self.streams, params)(x, **dict(self.evaluation))

    def __repr__(self) -> str:
        return f"NNX({_root(self.definition)})"

    def train(self, params: Tree, x: Any, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Give the outputs in training mode, and the new state."""
        from flax import nnx  # noqa: PLC0415

        model = self._merged(self.trained, self._with_key(key), params)
        outputs = model(x, **dict(self.training))
        return outputs, _where(self.state(params), nnx.to_pure_dict(_parts(model)[2]))

    def state(self, params: Tree) -> Tree:
        """Say what is state: all variables but `nnx.Param`."""
        return jax.tree.unflatten(jax.tree.structure(params), self.is_state)

    def restore(self, params: Tree) -> Any:
        """Give a new model."""
        return self._merged(self.definition, self.streams, params)

    def _merged(self, definition: Any, streams: Any, params: Tree) -> Any:
        from flax import nnx  # noqa: PLC0415

        streams = jax.tree.map(lambda leaf: leaf, streams)  # variables of its own, for a model moves its streams on
        return nnx.merge(definition, streams, jax.tree.unflatten(self.structure, jax.tree.leaves(params)))

    def _with_key(self, key: jax.Array) -> Any:
        """Give the random streams keys of their own, which all come from one."""
        leaves, structure = jax.tree.flatten(self.streams)
        keys = jax.random.split(key, max(len(leaves), 1))
        return jax.tree.unflatten(structure, [_rekeyed(leaf, k) for leaf, k in zip(leaves, keys, strict=False)])


def _parts(model: Any) -> tuple[Any, Any, Any]:
    """Part a flax.nnx model into its definition, its random streams and its variables."""
    from flax import nnx  # noqa: PLC0415

    definition, streams, *variables = nnx.split(model, nnx.RngState, ...)
    return definition, streams, variables[0]


def _rekeyed(leaf: Any, key: jax.Array) -> Any:
    """Replace a key by another of the same kind; a counter stays."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.random.split(key, leaf.shape) if leaf.shape else key


class Static(NamedTuple):
    """What is no array in a tree: the rest of its leaves, and its structure."""

    leaves: tuple[Any, ...]  # None for an array
    structure: Any


@dataclasses.dataclass(frozen=True, repr=False)
class Equinox:
    """An equinox model as a function of its arrays, and of its state if it has one; mapped over rows."""

    static: Static
    inferring: Static  # with the flags of the two modes
    trained: Static
    stateful: bool
    takes_key: bool
    axis_name: str
    training: Options
    evaluation: Options

    def __call__(self, params: Tree, x: Any) -> jax.Array:
        """Give the outputs, from running statistics and without dropout."""
        return self._run(self.inferring, params, x, None, self.evaluation)[0]

    def __repr__(self) -> str:
        return f"Equinox({_root(self.static.structure)})"

    def train(self, params: Tree, x: Any, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Give the outputs in training mode, each row with a key of its own, and the new state."""
        outputs, new = self._run(self.trained, params, x, key, self.training)
        nothing = jax.tree.map(lambda _: None, params)
        return outputs, (nothing[0], new) if self.stateful else nothing

    def state(self, params: Tree) -> Tree:
        """Say what is state: the state, and arrays that are not floating point."""
        mask = jax.tree.map(lambda leaf: not is_floating(leaf), params)
        return (mask[0], jax.tree.map(lambda _: True, params[1])) if self.stateful else mask

    def restore(self, params: Tree) -> Any:
        """Give a new model, or a new (model, state)."""
        return (_join(self.static, params[0]), params[1]) if self.stateful else _join(self.static, params)

    def _run(self, static: Static, params: Tree, x: Any, key: jax.Array | None, options: Options) -> tuple[Any, Tree]:
        model = _join(static, params[0] if self.stateful else params)
        state = jax.tree.map(lambda leaf: leaf, params[1]) if self.stateful else None  # equinox spoils one it has read
        keys = None if key is None or not self.takes_key else jax.random.split(key, x.shape[0])
        named = dict(options)

        def one(row: Any, k: Any) -> tuple[Any, Tree]:
            if self.takes_key:
                named["key"] = k
            return model(row, state, **named) if self.stateful else (model(row, **named), None)

        rows = 0 if keys is not None else None
        return jax.vmap(one, (0, rows), (0, None), axis_name=self.axis_name)(x, keys)


@dataclasses.dataclass(frozen=True, repr=False)
class Haiku:
    """A haiku transform as a function of its params, or of (params, state)."""

    transformed: Any
    stateful: bool
    takes_rng: bool
    training: Options
    evaluation: Options

    def __call__(self, params: Tree, x: Any) -> jax.Array:
        """Give the outputs, from running statistics and without dropout."""
        return self._run(params, x, None, self.evaluation)[0]

    def __repr__(self) -> str:
        return "Haiku"

    def train(self, params: Tree, x: Any, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Give the outputs in training mode, and the new state."""
        outputs, new = self._run(params, x, key, self.training)
        nothing = jax.tree.map(lambda _: None, params)
        return outputs, (nothing[0], new) if self.stateful else nothing

    def state(self, params: Tree) -> Tree:
        """Say what is state: the state."""
        mask = jax.tree.map(lambda _: False, params)
        return (mask[0], jax.tree.map(lambda _: True, params[1])) if self.stateful else mask

    def _run(self, params: Tree, x: Any, key: jax.Array | None, options: Options) -> tuple[Any, Tree]:
        rng = (key,) if self.takes_rng else ()
        trees = params if self.stateful else (params,)
        outputs = self.transformed.apply(*trees, *rng, x, **dict(options))
        return outputs if self.stateful else (outputs, None)


def _where(state: Tree, new: Tree) -> Tree:
    """Keep what is state, and None elsewhere."""
    return jax.tree.map(lambda is_state, leaf: leaf if is_state else None, state, new)


def _split(model: Any) -> tuple[Tree, Static]:
    """Part a tree into its arrays, with None for the rest, and the rest."""
    leaves, structure = jax.tree.flatten(model)
    rest = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    return jax.tree.unflatten(structure, [leaf if _is_array(leaf) else None for leaf in leaves]), Static(
        rest, structure
    )


def _join(static: Static, arrays: Tree) -> Any:
    """Put arrays among the rest of a tree."""
    found = static.structure.flatten_up_to(arrays)
    leaves = [rest if array is None else array for rest, array in zip(static.leaves, found, strict=True)]
    return jax.tree.unflatten(static.structure, leaves)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _is_equinox_state(params: Any) -> bool:
    return params is None or type(params).__module__.startswith("equinox.")


def _root(structure: Any) -> str:
    """Return the name of the class that a structure of equinox or nnx is of."""
    if hasattr(structure, "node_data"):
        kind = (structure.node_data() or (None,))[0]
    else:
        kind = getattr(next(iter(getattr(structure, "nodes", ())), None), "type", None)
    return getattr(kind, "__name__", "a network")


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _options(
    call: Callable[..., Any], training: Mapping[str, Any] | None, evaluation: Mapping[str, Any] | None
) -> tuple[Options, Options]:
    """Give the keyword arguments of both modes: those of the usual names, and what the user says."""
    usual = {name: value for name, value in MODES.items() if name in _parameters(call)}
    opposite = {name: not value for name, value in usual.items()}
    return _items({**usual, **(training or {})}), _items({**opposite, **(evaluation or {})})


def _items(options: Mapping[str, Any]) -> Options:
    return tuple(sorted(options.items()))
