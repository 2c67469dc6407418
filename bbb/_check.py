"""What a user may get wrong, in one place: each error says what was expected, what came, what to do."""

import itertools
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb._fork import is_crippled
from bbb._shapes import from_shapes
from bbb._tree import Tree, is_floating, is_none, map_present, names


class BBBError(Exception):
    """The base of every error this library raises on purpose."""


class InputError(BBBError, ValueError):
    """An argument has a value that has no meaning here."""


class ShapeError(InputError):
    """An array, or a tree of arrays, has a shape or a structure that does not fit."""


class UnknownPrimitiveError(InputError):
    """A network does something to random values that a closed form does not know."""


class KeyTypeError(BBBError, TypeError):
    """Something other than one typed JAX key was given as a key."""


class NonFiniteInputError(InputError):
    """The data holds NaN or infinity."""


class NonFiniteLossError(BBBError, ArithmeticError):
    """Training met, or made, a number that is not finite.

    Attributes:
        step: index of the first step that did, from 0.
        model: the last model whose loss was finite; the model training began with, if there was none.
        history: the history up to, and without, the bad step.
    """

    def __init__(self, message: str, *, step: int, model: Any, history: Any) -> None:
        super().__init__(message)
        self.step = step
        self.model = model
        self.history = history


class NonFiniteOutputError(BBBError, ArithmeticError):
    """A network, or what is made of its draws, is NaN or infinite at some row."""


class QuantileError(InputError):
    """A quantile was asked for that was not computed, and whose draws were not kept."""


class HostError(BBBError, RuntimeError):
    """Another process, of several that work together, was lost or cannot go on."""


class ForkError(BBBError, RuntimeError):
    """Nothing can be computed in a process that was forked from one in which JAX had started."""


class ModelFileError(BBBError, ValueError):
    """A model file is missing, damaged, or describes another network."""


class TableError(InputError):
    """A CSV file cannot be read as the table of numbers that was asked for."""


class WriteError(BBBError, OSError):
    """A file or folder cannot be written.

    Attributes:
        model: if `fit` could not write a checkpoint, the model as far as it was trained: the best so far, where
            validation had scored one. Of a mesh, its arrays are NumPy's. None for any other file.
        history: the history of the steps done, likewise.
    """

    model: Any = None
    history: Any = None


def fail(error: type[BBBError], expected: str, got: str, do: str) -> NoReturn:
    """Raise `error` with the one form every message of this library has."""
    raise error(f"Expected {expected}, got {got}. {do}")


def alive(name: str, tree: Tree) -> None:
    """Refuse a tree of arrays of which one was deleted, as JAX does to an array that is donated to a program."""
    try:
        leaves = jax.tree.leaves(tree)
    except (TypeError, ValueError):  # a dictionary whose keys have no order, which other checks name
        return
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
            got = f"one of shape {leaf.shape} that was deleted, as jax.jit does to what is donated to it"
            do = "Pass a copy made before that, such as jnp.array(array, copy=True), or leave out donate_argnums."
            fail(InputError, f"{name} to be of arrays that hold their numbers", got, do)


def process() -> None:
    """Refuse a process whose threads were lost in a fork: what it computes would wait for them for ever.

    Raises:
        ForkError: if it is one.
    """
    if is_crippled():
        got = "one forked from a process in which JAX had started, whose threads it lacks: it would hang"
        do = "Start processes by multiprocessing.get_context('spawn'), or fork before the first use of JAX."
        fail(ForkError, "a process of its own", got, do)


def outside(verb: str, instead: str = "", **given: Any) -> None:
    """Refuse to work within `jax.jit`, `jax.vmap` or `jax.grad`, where numbers cannot be looked at.

    Args:
        verb: what was called.
        instead: what serves inside them, if anything does.
        given: the arguments that must be numbers, by their names; anything, trees of arrays too.

    Raises:
        InputError: if one holds a tracer, or all is called within `jax.jit`, which makes tracers of other numbers too.
    """
    untraced(verb, instead, **given)
    if isinstance(jax.device_put(np.int32(0)), jax.core.Tracer):
        _traced(f"{verb} to be called with numbers", verb, instead)


def untraced(verb: str, instead: str = "", **given: Any) -> None:
    """Refuse tracers among the arguments of what works in NumPy alone; see `outside`."""
    traced = [name for name, value in given.items() if is_traced(value)]
    if traced:
        _traced(f"{' and '.join(traced)} of numbers", verb, instead)


def _traced(expected: str, verb: str, instead: str) -> NoReturn:
    advice = f": inside, use {instead}" if instead else ""
    fail(InputError, expected, "a tracer", f"Call {verb} outside of jax.jit, jax.vmap and jax.grad{advice}.")


def is_traced(value: Any) -> bool:
    """Return whether anything in a tree, or in lists of numbers, is a tracer."""
    try:
        leaves = jax.tree.leaves(value)
    except (TypeError, ValueError):  # a dictionary whose keys have no order
        return False
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def key(value: Any) -> None:
    """Refuse what is not one typed JAX key."""
    process()
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape == ():
            alive("the key", value)
            return
        got = f"an array of {value.shape} keys"
    elif isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32:
        got = f"an old-style uint32 key of shape {value.shape}"
    else:
        got = f"{type(value).__name__} {_short(value)}"
    fail(
        KeyTypeError,
        "one typed JAX key",
        got,
        "Make one with jax.random.key(0), or wrap an old one with jax.random.wrap_key_data.",
    )


def positive_integer(name: str, value: Any, most: int | None = None) -> int:
    """Refuse what is not a whole number of at least 1, and of at most `most`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    untraced("bbb", **{name: value})
    if not whole or value < 1:
        fail(InputError, f"{name} to be a whole number of at least 1", _short(value), f"Pass {name}=1 or more.")
    if most is not None and value > most:
        fail(InputError, f"{name} to be at most {most:,}", f"{value:,}", f"Pass a smaller {name}.")
    return int(value)


def positive(name: str, value: Any) -> None:
    """Refuse a number, or an array of numbers, that is not finite and above 0; tracers pass."""
    if isinstance(value, jax.core.Tracer):
        return
    array = real(name, value)
    if not (np.isfinite(array).all() and (array > 0).all()):
        bad = array[~(np.isfinite(array) & (array > 0))].flat[0]
        fail(InputError, f"{name} to be finite and above 0", f"{bad}", f"Pass a positive {name}.")


def finite(name: str, value: Any) -> None:
    """Refuse a number, or an array of numbers, that is NaN or infinite; tracers pass."""
    if isinstance(value, jax.core.Tracer):
        return
    array = real(name, value)
    if not np.isfinite(array).all():
        fail(InputError, f"{name} to be finite", f"{array[~np.isfinite(array)].flat[0]}", f"Pass a finite {name}.")


def not_negative(name: str, value: Any) -> None:
    """Refuse a number that is not finite and at least 0; tracers pass."""
    if isinstance(value, jax.core.Tracer):
        return
    array = real(name, value)
    if array.ndim or not (math.isfinite(array) and array >= 0):
        fail(InputError, f"{name} to be one finite number of at least 0", _short(value), f"Pass {name}=0 or more.")


def probability(name: str, value: Any, example: float = 0.95) -> float:
    """Refuse a number outside the open interval (0, 1)."""
    array = real(name, value)
    if array.ndim or not 0.0 < float(array) < 1.0:
        fail(InputError, f"{name} to be one number inside (0, 1)", _short(value), f"Pass for example {name}={example}.")
    return float(array)


def rows(name: str, value: Any) -> np.ndarray | jax.Array:
    """Refuse what is no finite numeric array with at least one row; return it as an array."""
    alive(name, value)
    array = value if isinstance(value, jax.Array) else real(name, value)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        fail(InputError, f"{name} to be real numbers in an array", f"dtype {array.dtype}", f"Convert {name} to floats.")
    if array.ndim == 0 or array.shape[0] == 0:
        fail(
            ShapeError,
            f"{name} to have a leading row axis with at least one row",
            f"shape {array.shape}",
            "Pass one row per observation, for example an array of shape (rows, features).",
        )
    if isinstance(array, jax.core.Tracer):
        return array
    if jnp.issubdtype(array.dtype, jnp.inexact):
        good = np.isfinite(np.asarray(array))
        if not good.all():
            where = np.argwhere(~good)
            fail(
                NonFiniteInputError,
                f"{name} to hold finite numbers only",
                f"{len(where)} that are NaN or infinite, the first at index {tuple(map(int, where[0]))}",
                f"Drop those rows of {name}, or fill them in.",
            )
    return array


def arrays(name: str, tree: Tree, also: type | tuple[type, ...] = ()) -> None:
    """Refuse a tree without arrays, or with a leaf that is none of numbers; tracers pass, and what is of `also`."""
    leaves = jax.tree.leaves(tree)
    if not leaves:
        fail(InputError, f"{name} to be an array of numbers, or a tree of such", _short(tree), "Pass rows of data.")
    for leaf in leaves:
        if not isinstance(leaf, jax.Array) and not isinstance(leaf, also):
            if not hasattr(leaf, "dtype") and np.ndim(leaf):
                do = f"Pass np.asarray({name}, float)."
                fail(InputError, f"{name} to be an array of numbers", _typed(leaf), do)
            real(name, leaf)
        if not np.shape(leaf):
            fail(
                ShapeError, f"{name} to have a leading row axis", "shape ()", "Pass an array of shape (rows, features)."
            )


def same_rows(x: Any, y: Any) -> None:
    """Refuse x and y of different numbers of rows."""
    if x.shape[0] != y.shape[0]:
        fail(
            ShapeError,
            f"y to have the {x.shape[0]} rows of x",
            f"{y.shape[0]} rows",
            "Pass one y for each row of x.",
        )


def parameters(name: str, tree: Tree, state: Tree = None) -> None:
    """Refuse a parameter tree that is empty, or has a leaf that is no finite floating-point array.

    Where `state`, a tree of bools like it, is True, the leaf may be of any other numbers.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        fail(ShapeError, f"{name} to hold at least one array", "an empty tree", "Pass the network's parameters.")
    fixed = [False] * len(leaves) if state is None else jax.tree.leaves(state)
    for path, leaf, is_state in zip(names(tree), leaves, fixed, strict=True):
        where = f"{name} leaf '{path}'"
        if not (is_floating(leaf) or (is_state and hasattr(leaf, "dtype"))):
            fail(
                InputError,
                f"{where} to be a floating-point array",
                f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"a {type(leaf).__name__}",
                "Only floating-point arrays can be trained or become Gaussian: keep others out of the parameters.",
            )
        wide_range(where, leaf)
        finite(where, leaf)


def floating(name: str, tree: Tree) -> None:
    """Refuse a tree with a leaf that is no floating-point array, or something of its dtype."""
    for path, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
        if not is_floating(leaf):
            got = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"a {type(leaf).__name__}"
            fail(InputError, f"{name} leaf '{path}' to be a floating-point array", got, "Convert it to floats.")
        wide_range(f"{name} leaf '{path}'", leaf)


def wide_range(name: str, leaf: Any) -> None:
    """Refuse float16, whose largest number is 65,504: sums over rows, and squares of small stds, would be lost."""
    if getattr(leaf, "dtype", None) == np.float16:
        do = "Convert it by .astype(jnp.float32), or jnp.bfloat16, which has the range of float32."
        got = "dtype float16, which ends at 65,504 and 6e-8: a loss overflows it, and the square of a small std is 0"
        fail(InputError, f"{name} to be of float32, float64 or bfloat16", got, do)


def picks_nothing(what: str, paths: list[str]) -> NoReturn:
    """Refuse a choice of leaves that is empty."""
    listed = ", ".join(paths[:20]) + (f" and {len(paths) - 20} more" if len(paths) > 20 else "")
    fail(InputError, f"{what} to pick at least one leaf", "none", f"The leaves are: {listed}.")


def fits(name: str, tree: Tree, like_name: str, like: Tree) -> None:
    """Refuse a tree that differs from another in structure or in the shape of a leaf."""
    got: Any = jax.tree.structure(tree)
    expected: Any = jax.tree.structure(like)
    if got != expected:
        fail(ShapeError, f"{name} to have the structure of {like_name}, {expected}", f"{got}", f"Rebuild {name}.")
    for path, leaf, other in zip(names(like), jax.tree.leaves(tree), jax.tree.leaves(like), strict=True):
        if jnp.shape(leaf) != jnp.shape(other):
            fail(
                ShapeError,
                f"{name} leaf '{path}' to have the shape {jnp.shape(other)} of {like_name}'s",
                f"shape {jnp.shape(leaf)}",
                f"Rebuild {name}.",
            )
    alive(name, tree)


def output_shape(apply: Any, params: Tree, x: Any) -> jax.ShapeDtypeStruct:
    """Trace the network without running it, and refuse parameters or an x that do not fit it, or one not pure."""
    out = pure(apply, params, x)
    if not isinstance(out, jax.ShapeDtypeStruct):
        _no_rows(x, f"a {type(out).__name__}")
    if out.ndim == 0 or out.shape[0] != x.shape[0]:
        _no_rows(x, f"shape {out.shape}")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        do = "Return means or logits, before any rounding, comparison or argmax; of complex numbers, their parts."
        fail(InputError, "the network to return real floating-point numbers", f"dtype {out.dtype}", do)
    return out


def pure(apply: Any, params: Tree, x: Any) -> Any:
    """Refuse a network that fails, or is not the same function when it is traced again; give its outputs' shapes."""
    try:
        return from_shapes(_traced_twice, apply, params, x)
    except _NoArrayError as error:
        _no_rows(x, f"a {error}")
    except _ImpureError as error:
        _not_pure(f"another function at the second call than at the first, from {error} on")
    except _TRACER_ERRORS as error:
        _not_pure(f"{type(error).__name__} when it was traced", error)
    except Exception as error:
        refused(error, x)


def _no_rows(x: Any, got: str) -> NoReturn:
    rows = jnp.shape(jax.tree.leaves(x)[0])[0]
    do = "Make apply(params, x) return an array whose leading axis is the row axis of x."
    fail(ShapeError, f"the network to return one array with the {rows} rows of x", got, do)


class _NoArrayError(Exception):
    """A network returned something other than arrays: the message is its type."""


class _ImpureError(Exception):
    """A network gave two different programs for the same shapes: the message says where they part."""


_TRACER_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)


def _traced_twice(apply: Any, params: Tree, x: Any) -> Any:
    def program() -> tuple[Any, Any]:
        def outputs(*args: Any) -> Any:  # a new function each time: JAX remembers what it traced
            out = apply(*args)
            for leaf in jax.tree.leaves(out):
                if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float):
                    raise _NoArrayError(type(leaf).__name__)
            return out

        return jax.make_jaxpr(outputs, return_shape=True)(params, x)

    (first, out), (second, _) = program(), program()
    for const in filter(lambda const: isinstance(const, jax.core.Tracer), second.consts):
        jnp.copy(const)  # a tracer that was kept from the first call is dead, which JAX says when it is used
    for line, other in itertools.zip_longest(
        *map(str.splitlines, map(program_text, (first, second))), fillvalue="its end"
    ):
        if line != other:
            raise _ImpureError(f"`{line.strip()}`")
    for const, other in zip(first.consts, second.consts, strict=True):
        if not _equal(const, other):
            raise _ImpureError(f"a constant of shape {jnp.shape(const)}")
    return out


def program_text(jaxpr: Any) -> str:
    """Write a traced program down, without the addresses of functions, which differ from run to run."""
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return a is b
    if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(np.asarray(a), np.asarray(b))


def _not_pure(got: str, error: Exception | None = None) -> NoReturn:
    raise InputError(
        f"Expected a network that is a pure function apply(params, x), got {got}. "
        "Let it change nothing outside itself, draw no random numbers, keep no values between calls, and decide by "
        "jnp.where or jax.lax.cond instead of if."
    ) from error


def refused(error: Exception, x: Any, how: str = "") -> NoReturn:
    """Say that the network failed on these parameters and this x, and how."""
    if isinstance(error, _TRACER_ERRORS):
        raise error
    inputs = f"x of shape {', '.join(str(np.shape(leaf)) for leaf in jax.tree.leaves(x))}{how}"
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise ShapeError(
        f"Expected parameters and an x that the network accepts, got {inputs} "
        f"and an error from the network: {reason[0]} "
        "Check the number of columns of x, and that the parameters are this network's."
    ) from error


def training(train: Any, params: Tree, state: Tree, x: Any, shape: tuple[int, ...]) -> None:
    """Refuse a training mode that fails, whose outputs are not of `shape`, or whose updates are not of the state."""
    batch = jax.ShapeDtypeStruct(x.shape, x.dtype)
    try:
        out, updates = jax.eval_shape(train, params, batch, jax.random.key(0))
    except _TRACER_ERRORS as error:
        _not_pure(f"{type(error).__name__} when it was traced in training mode", error)
    except Exception as error:
        refused(error, batch, " in training mode")
    if getattr(out, "shape", None) != shape:
        fail(
            ShapeError,
            f"outputs of shape {shape} in training mode too",
            f"shape {out.shape}" if hasattr(out, "shape") else f"a {type(out).__name__}",
            "Make train(params, x, key) return (outputs, updates).",
        )
    try:
        updated = jax.tree.map(lambda new, old: old if new is None else new, updates, params, is_leaf=is_none)
        stray = map_present(lambda _, is_state: None if is_state else False, updates, state)
    except (ValueError, TypeError):  # of another structure, which is refused here
        updated, stray = updates, None
    fits("updates", updated, "params", params)
    for path in names(stray):
        fail(InputError, "updates of the network's state alone", f"one of '{path}'", "Name it in state(params).")


def target(y: Any, outputs: jax.ShapeDtypeStruct) -> None:
    """Refuse a y whose shape is not that of the network's outputs."""
    if y.shape != outputs.shape:
        hint = "y.reshape(-1, 1)" if y.ndim == 1 and outputs.shape[1:] == (1,) else f"y of shape {outputs.shape}"
        fail(
            ShapeError,
            f"y to have the shape {outputs.shape} of the network's outputs",
            f"shape {y.shape}",
            f"Pass {hint}: arrays of different shapes would be broadcast against each other, row by row.",
        )


def is_word(value: Any, words: Iterable[str]) -> bool:
    """Return whether a value is one of some words; False for arrays, lists and all else that is no word."""
    return isinstance(value, str) and value in words


def has(name: str, value: Any, methods: tuple[str, ...], example: str) -> None:
    """Refuse an argument that lacks the methods its role needs."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        kind = example.split("(", maxsplit=1)[0]
        fail(
            InputError,
            f"{name} such as {kind}",
            _typed(value),
            f"Pass for example {example}.",
        )


def registered(name: str, value: Any) -> None:
    """Refuse an object that JAX does not know as a tree of numbers, and so cannot hand to a compiled program."""
    kind = type(value).__name__
    if jax.tree_util.all_leaves([value]):
        raise InputError(
            f"Expected {name} that JAX knows as a tree of numbers, got a {kind}, which is not registered with it. "
            "It must be a frozen dataclass registered with jax.tree_util.register_dataclass: write above the class\n"
            "    @jax.tree_util.register_dataclass\n"
            "    @dataclasses.dataclass(frozen=True)\n"
            "and give what is no number, such as an option, "
            "dataclasses.field(metadata={'static': True})."
        )
    for path, leaf in zip(names(value), jax.tree.leaves(value), strict=True):
        if not (isinstance(leaf, int | float) or (hasattr(leaf, "dtype") and hasattr(leaf, "shape"))):
            do = "Give a field that is no number dataclasses.field(metadata={'static': True})."
            fail(InputError, f"{name} whose leaf '{path}' is a number or an array", f"a {type(leaf).__name__}", do)
    try:
        jax.eval_shape(lambda tree: tree, value)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"Expected {name} that JAX can take apart and put together again, got a {kind} that fails: {reason} "
            "Let its __post_init__ take any object in place of numbers, as JAX puts tracers there."
        ) from error


def hashable(name: str, value: Any) -> None:
    """Refuse what has no hash, by which JAX knows what it has compiled."""
    try:
        hash(value)
    except TypeError as error:
        raise InputError(
            f"Expected {name} to have a hash, got a {type(value).__name__} without: {error}. "
            "Use tuples for its lists and keep arrays in the parameters, or pass a function apply(params, x)."
        ) from error


def memory(value: Any) -> int:
    """Read a size in bytes: a positive whole number, or a string such as "512MB" or "2GiB"."""
    units = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    if isinstance(value, str):
        text = value.strip().lower()
        digits = text.rstrip("bkmgi ")
        unit = text[len(digits) :].strip() or "b"
        try:
            size = float(digits) * units[unit]
        except (ValueError, KeyError):
            size = math.nan
    else:
        size = float(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(size) and size >= 1):
        fail(
            InputError,
            'memory to be a positive number of bytes, or a string such as "512MB" or "2GiB"',
            _short(value),
            'Pass memory="512MB".',
        )
    return int(size)


def levels(name: str, values: Any) -> tuple[float, ...]:
    """Refuse anything but numbers inside (0, 1); return them as a tuple."""
    many: Iterable[Any] = values if isinstance(values, Iterable) and not isinstance(values, str) else (values,)
    return tuple(probability(name, value) for value in many)


def one_number(name: str, value: Any) -> float:
    """Refuse what is not one finite number above 0."""
    real(name, value)
    positive(name, value)
    if np.ndim(value):
        fail(InputError, f"{name} to be one number", _short(value), f"Pass a single {name}.")
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """Refuse anything but True and False."""
    if not isinstance(value, bool | np.bool_):
        fail(InputError, f"{name} to be a bool", _short(value), f"Pass {name}=True or {name}=False.")
    return bool(value)


def is_a(name: str, value: Any, kinds: type | tuple[type, ...], do: str) -> None:
    """Refuse an argument that is none of the classes its role asks for."""
    if not isinstance(value, kinds):
        kind = kinds if isinstance(kinds, type) else kinds[0]
        fail(InputError, f"{name} to be a {kind.__name__}", _typed(value), do)


def function(name: str, value: Any, do: str) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        fail(InputError, f"{name} to be a function", f"a {type(value).__name__}", do)


def network(apply: Any) -> None:
    """Refuse what cannot be a network."""
    if not callable(apply):
        got, do = f"a {type(apply).__name__}", "Pass for example network.apply."
        fail(InputError, "apply to be a function apply(params, x)", got, do)


def file_path(value: Any) -> Path:
    """Refuse what is no path, or one that no file can have."""
    process()
    if not isinstance(value, str | os.PathLike):
        fail(InputError, "a path", _typed(value), 'Pass for example "model.safetensors".')
    path = Path(value)
    if not path.name or "\0" in str(path):
        fail(InputError, "a path that ends in a file's name", repr(str(value)), 'Pass for example "model.safetensors".')
    return path


def _typed(value: Any) -> str:
    return (
        f"the class {value.__name__} itself" if isinstance(value, type) else f"{type(value).__name__} {_short(value)}"
    )


def real(name: str, value: Any) -> np.ndarray:
    """Refuse what is no array of real numbers, or one with a mask; give it as NumPy's."""
    untraced("bbb", **{name: value})
    alive(name, value)
    unmasked(name, value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # the last of a tensor that is being trained
        array = np.asarray(None)
    if not array.dtype.isnative:  # of a machine of another byte order: JAX knows none
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind not in "fiub" and not jnp.issubdtype(array.dtype, jnp.floating):
        fail(InputError, f"{name} to be real numbers in an array", _short(value), _as_numbers(name, array))
    return array


def unmasked(name: str, value: Any) -> None:
    """Refuse an array, or a list of arrays, that hides numbers under a mask, which `np.asarray` would use."""
    if _is_masked(value):
        do = f"Drop those rows of {name}, or fill them in."
        fail(InputError, f"{name} to be real numbers in an array without a mask", _short(value), do)


def _is_masked(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_is_masked(part) for part in value)
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


def _as_numbers(name: str, array: np.ndarray) -> str:
    """Say how to make numbers of what is none: words that read as numbers, other words, or anything else."""
    is_object = array.dtype.kind == "O" and any(isinstance(value, str) for value in array.flat)
    words = array.ndim > 0 and (array.dtype.kind in "US" or is_object)
    if not words:
        return f"Convert {name} to floats."
    try:
        array.astype(float)
    except (TypeError, ValueError):
        return (
            f"Encode words as numbers: classes of K kinds as whole numbers from 0 to K - 1, such as "
            f"np.unique({name}, return_inverse=True)[1]."
        )
    return f"Convert {name} to floats: np.asarray({name}, float)."


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a deleted array has no numbers to show
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."
