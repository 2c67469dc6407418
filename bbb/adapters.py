"""Networks of other libraries, used as they are: flax.linen, flax.nnx, equinox and haiku.

Each adapter takes the user's own object, and returns a pair for `bayesianize(*pair, ...)`:

    apply     a function of (params, x) that is hashable and compared by value, so that equal networks compile once;
              with the training mode and the state that `bbb.model` describes
    params    all arrays of the network: parameters, and state such as running statistics

`bayesianize` selects the adapter by itself; call an adapter directly to pass options. `restore` puts parameters, such
as `posterior.params` or `sample(key, posterior)`, back into the user's own kind of object.

In training mode the network gets a key for its dropout, and its state is updated; otherwise neither happens. A network
that takes its mode as an argument gets it, if the argument has one of the usual names: `train`, `training`,
`is_training`, `deterministic`, `inference`, `use_running_average`. Other arguments are passed by the options `training`
and `evaluation`, dictionaries of keyword arguments for each mode.

Each library is imported only by its own adapter.
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

# What adapters share


MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "inference": False,
    "use_running_average": False,
}
"""The usual names of arguments that set the mode of a network, and their values in training."""


Options = tuple[tuple[str, Any], ...]
"""Keyword arguments as a hashable tuple."""


class Network(NamedTuple):
    """A network and its parameters, which `bayesianize` takes."""

    apply: Any
    params: Tree


def mode_options(
    call: Callable[..., Any], training: Mapping[str, object] | None, evaluation: Mapping[str, object] | None
) -> tuple[Options, Options]:
    """Return the keyword arguments of training and evaluation: those with usual names, and those of the user."""
    usual = {name: value for name, value in MODES.items() if name in parameters_of(call)}
    opposite = {name: not value for name, value in usual.items()}
    return _items({**usual, **(training or {})}), _items({**opposite, **(evaluation or {})})


def _items(options: Mapping[str, object]) -> Options:
    return tuple(sorted(options.items()))


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters in the signature of a function."""
    return inspect.signature(function).parameters


def state_only(state: Tree, new: Tree) -> Tree:
    """Return the leaves of `new` that are state, and None in place of the others."""
    return jax.tree.map(lambda is_state, leaf: leaf if is_state else None, state, new)


def root_name(structure: Any) -> str:
    """Return the name of the class that a structure of equinox or nnx is of."""
    if hasattr(structure, "node_data"):
        kind = (structure.node_data() or (None,))[0]
    else:
        kind = getattr(next(iter(getattr(structure, "nodes", ())), None), "type", None)
    return getattr(kind, "__name__", "a network")


# flax.linen


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
        return f"Linen({_display.layer(self.module)})"

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
        _check.fail(
            _check.InputError, 'variables with a collection "params"', got, "Pass the result of module.init(key, x)."
        )
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


# flax.nnx


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


# equinox


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
        keys = None if key is None or not self.takes_key else jax.random.split(key, x.shape[0])
        named = dict(options)

        def one(row: Any, k: Any) -> tuple[Any, Tree]:
            if self.takes_key:
                named["key"] = k
            return model(row, state, **named) if self.stateful else (model(row, **named), None)

        rows = 0 if keys is not None else None
        return jax.vmap(one, (0, rows), (0, None), axis_name=self.axis_name)(x, keys)


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


# haiku


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
    _check.has("a transform", transformed, ("init", "apply"), "haiku.transform(f)")
    options = mode_options(transformed.apply, training, evaluation)
    takes = parameters_of(transformed.apply)
    stateful = type(transformed).__name__ == "TransformedWithState"
    apply = Haiku(transformed, stateful, list(takes)[1 + stateful : 2 + stateful] == ["rng"], *options)
    return Network(apply, (params, state) if apply.stateful else params)


# Any library


def network(model: Any, params: Tree = None) -> Network | None:
    """Return the adapted network of another library's object, or None for any other object."""
    library = library_of(model)
    if library == "linen":
        return linen(model, params)
    if library == "nnx" and params is None:
        return nnx(model)
    if library == "equinox" and is_equinox_state(params):
        return equinox(model, params)
    if library == "haiku" and params is not None:
        return haiku(model, *(params if isinstance(params, tuple) else (params,)))
    return None


def library_of(model: Any) -> str | None:
    """Return the library of an object, "linen", "nnx", "equinox" or "haiku", by the module of its type; else None."""
    modules = {cls.__module__.partition("._")[0] for cls in type(model).__mro__}
    for library, package in (("linen", "flax.linen"), ("nnx", "flax.nnx"), ("equinox", "equinox")):
        if any(name.startswith(package) for name in modules):
            return library
    return "haiku" if "haiku" in modules else None


def restore(model: Any, params: Tree) -> Any:
    """Return parameters in the user's own kind of object; nothing is changed in place.

    Args:
        model: a model that `bayesianize` returned.
        params: a tree like `model.posterior.params`: these themselves, or one draw, `sample(key, model.posterior)`.

    Returns:
        For linen the variables; for nnx a new model; for equinox a new model, or (model, state) if it has a state; for
        haiku params, or (params, state); for a plain function the tree itself.

    Raises:
        ShapeError: if `params` differs from the model's parameters in structure or in a shape.
    """
    _check.has("a model", getattr(model, "posterior", model), ("random_leaves",), "bbb.bayesianize(...)")
    _check.fits("params", params, "the model", model.posterior.params)
    put_back = getattr(model.apply, "restore", None)
    return params if put_back is None else put_back(params)
