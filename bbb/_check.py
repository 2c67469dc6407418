"""Checks of arguments: each error says what was expected, what was given, and what to do."""

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb._fork import is_crippled
from bbb._shapes import from_shapes
from bbb._tree import Tree, is_floating, is_none, map_present, names

# Errors


class BBBError(Exception):
    """The base class of every error that this library raises on purpose."""


class InputError(BBBError, ValueError):
    """An argument has an invalid value."""


class ShapeError(InputError):
    """An array, or a tree of arrays, has a shape or a structure that does not match."""


class UnknownPrimitiveError(InputError):
    """A network applies an operation to random values for which there is no closed-form rule."""


class KeyTypeError(BBBError, TypeError):
    """A key is not a single typed JAX key."""


class NonFiniteInputError(InputError):
    """The data contains NaN or infinity."""


class NonFiniteLossError(BBBError, ArithmeticError):
    """Training met, or produced, a number that is not finite.

    Attributes:
        step: index of the first such step, counted from 0.
        model: the last model whose loss was finite, or the initial model if no loss was.
        history: the history of the steps before that one.
    """

    def __init__(self, message: str, *, step: int, model: Any, history: object) -> None:
        super().__init__(message)
        self.step = step
        self.model = model
        self.history = history


class NonFiniteOutputError(BBBError, ArithmeticError):
    """The outputs of a network, or a statistic of its draws, are NaN or infinite at some row."""


class QuantileError(InputError):
    """A quantile was requested that was not computed, and whose draws were not kept."""


class HostError(BBBError, RuntimeError):
    """Another of several cooperating processes was lost or cannot continue."""


class ForkError(BBBError, RuntimeError):
    """The process was forked after JAX had started, so that any computation in it would hang."""


class ModelFileError(BBBError, ValueError):
    """A model file is missing or damaged, or describes a different network."""


class TableError(InputError):
    """A CSV file cannot be read as the requested table of numbers."""


class WriteError(BBBError, OSError):
    """A file or folder cannot be written.

    Attributes:
        model: if `fit` could not write a checkpoint, the model as trained so far: the best one, if validation has
            scored any. After training on a mesh its arrays are NumPy arrays. None for any other file.
        history: if `fit` could not write a checkpoint, the history of the completed steps. None for any other file.
    """

    model: Any = None
    history: Any = None


def fail(error: type[BBBError], expected: str, got: str, do: str) -> NoReturn:
    """Raise `error` with a message in the form that all messages of this library share."""
    raise error(f"Expected {expected}, got {got}. {do}")


def short_repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # such as that of a deleted array
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."


def typed_repr(value: object) -> str:
    return (
        f"the class {value.__name__} itself"
        if isinstance(value, type)
        else f"{type(value).__name__} {short_repr(value)}"
    )


# Where a function is called


def process() -> None:
    """Check that this process was not forked after JAX had started: it would wait forever for the lost threads.

    Raises:
        ForkError: if it was.
    """
    if is_crippled():
        got = "one forked from a process in which JAX had started: it lacks JAX's threads and would hang"
        do = "Start processes by multiprocessing.get_context('spawn'), or fork before the first use of JAX."
        fail(ForkError, "a process of its own", got, do)


def alive(name: str, tree: Tree) -> None:
    """Check that no array of a tree has been deleted, as JAX deletes arrays that are donated to a program.

    Raises:
        InputError: if one has been deleted.
    """
    try:
        leaves = jax.tree.leaves(tree)
    except (TypeError, ValueError):  # a dictionary with unsortable keys, which other checks report
        return
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
            got = f"one of shape {leaf.shape} that was deleted, as jax.jit deletes arguments that are donated to it"
            do = "Pass a copy made before that, such as jnp.array(array, copy=True), or do not use donate_argnums."
            fail(InputError, f"{name} to consist of arrays that still hold their values", got, do)


def outside(verb: str, instead: str = "", **given: Any) -> None:
    """Check that a function is called outside of `jax.jit`, `jax.vmap` and `jax.grad`, which hide concrete values.

    Args:
        verb: the name of the function.
        instead: what to use inside them, if anything.
        given: the arguments that must be concrete, by name; arbitrary objects, including trees of arrays.

    Raises:
        InputError: if an argument contains a tracer, or if the call is made within `jax.jit`, where new arrays are
            tracers too.
    """
    untraced(verb, instead, **given)
    if isinstance(jax.device_put(np.int32(0)), jax.core.Tracer):
        _traced(f"{verb} to be called with numbers", verb, instead)


def untraced(verb: str, instead: str = "", **given: Any) -> None:
    """Check that arguments contain no tracers, for a function that uses NumPy only; see `outside`.

    Raises:
        InputError: if one does.
    """
    traced = [name for name, value in given.items() if is_traced(value)]
    if traced:
        _traced(f"{' and '.join(traced)} of numbers", verb, instead)


def _traced(expected: str, verb: str, instead: str) -> NoReturn:
    advice = f": inside, use {instead}" if instead else ""
    fail(InputError, expected, "a tracer", f"Call {verb} outside of jax.jit, jax.vmap and jax.grad{advice}.")


def is_traced(value: object) -> bool:
    """Return whether any leaf of a tree, such as a list of numbers, is a tracer."""
    try:
        leaves = jax.tree.leaves(value)
    except (TypeError, ValueError):  # a dictionary with unsortable keys
        return False
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


# Numbers


def positive_integer(name: str, value: Any, maximum: int | None = None) -> int:
    """Check that `value` is a whole number between 1 and `maximum`, and return it as an int.

    Raises:
        InputError: if it is not.
    """
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    untraced("bbb", **{name: value})
    if not is_integer or value < 1:
        fail(InputError, f"{name} to be a whole number of at least 1", short_repr(value), f"Pass {name}=1 or more.")
    if maximum is not None and value > maximum:
        fail(InputError, f"{name} to be at most {maximum:,}", f"{value:,}", f"Pass a smaller {name}.")
    return int(value)


def positive(name: str, value: object) -> None:
    """Check that a number, or every number of an array, is finite and above 0; tracers pass.

    Raises:
        InputError: if one is not.
    """
    if isinstance(value, jax.core.Tracer):
        return
    array = real(name, value)
    if not (np.isfinite(array).all() and (array > 0).all()):
        bad = array[~(np.isfinite(array) & (array > 0))].flat[0]
        fail(InputError, f"{name} to be finite and above 0", f"{bad}", f"Pass a positive {name}.")


def not_negative(name: str, value: object) -> None:
    """Check that `value` is one finite number of at least 0; tracers pass.

    Raises:
        InputError: if it is not.
    """
    if isinstance(value, jax.core.Tracer):
        return
    array = real(name, value)
    if array.ndim or not (math.isfinite(array) and array >= 0):
        fail(InputError, f"{name} to be one finite number of at least 0", short_repr(value), f"Pass {name}=0 or more.")


def one_number(name: str, value: Any) -> float:
    """Check that `value` is one finite number above 0, and return it as a float.

    Raises:
        InputError: if it is not.
    """
    real(name, value)
    positive(name, value)
    if np.ndim(value):
        fail(InputError, f"{name} to be one number", short_repr(value), f"Pass a single {name}.")
    return float(value)


def finite(name: str, value: object) -> None:
    """Check that a number, or every number of an array, is finite; tracers pass.

    Raises:
        InputError: if one is NaN or infinite.
    """
    if isinstance(value, jax.core.Tracer):
        return
    array = real(name, value)
    if not np.isfinite(array).all():
        fail(InputError, f"{name} to be finite", f"{array[~np.isfinite(array)].flat[0]}", f"Pass a finite {name}.")


def probability(name: str, value: object, example: float = 0.95) -> float:
    """Check that `value` is one number in the open interval (0, 1), and return it as a float.

    Raises:
        InputError: if it is not; the message suggests `example`.
    """
    array = real(name, value)
    if array.ndim or not 0.0 < float(array) < 1.0:
        fail(
            InputError,
            f"{name} to be one number inside (0, 1)",
            short_repr(value),
            f"Pass for example {name}={example}.",
        )
    return float(array)


def levels(name: str, values: Any) -> tuple[float, ...]:
    """Check that one or several numbers lie in the open interval (0, 1), and return them as a tuple.

    Raises:
        InputError: if one does not.
    """
    many: Iterable[Any] = values if isinstance(values, Iterable) and not isinstance(values, str) else (values,)
    return tuple(probability(name, value) for value in many)


def boolean(name: str, value: object) -> bool:
    """Check that `value` is True or False, and return it as a bool.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(value, bool | np.bool_):
        fail(InputError, f"{name} to be a bool", short_repr(value), f"Pass {name}=True or {name}=False.")
    return bool(value)


def memory(value: object) -> int:
    """Return a size in bytes, from a positive whole number or a string such as "512MB" or "2GiB".

    Raises:
        InputError: if it is not one of these.
    """
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
            short_repr(value),
            'Pass memory="512MB".',
        )
    return int(size)


def real(name: str, value: Any) -> np.ndarray:
    """Check that `value` is an unmasked array of real numbers, and return it as a NumPy array.

    Raises:
        InputError: if it is not.
    """
    untraced("bbb", **{name: value})
    alive(name, value)
    unmasked(name, value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # RuntimeError: a torch tensor that requires a gradient
        array = np.asarray(None)
    if not array.dtype.isnative:  # JAX supports the native byte order only
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind not in "fiub" and not jnp.issubdtype(array.dtype, jnp.floating):
        fail(InputError, f"{name} to be real numbers in an array", short_repr(value), _as_numbers(name, array))
    return array


def unmasked(name: str, value: object) -> None:
    """Check that an array, or a list of arrays, has no masked numbers, whose values `np.asarray` would expose.

    Raises:
        InputError: if it has.
    """
    if _is_masked(value):
        do = f"Drop those rows of {name}, or fill them in."
        fail(InputError, f"{name} to be real numbers in an array without a mask", short_repr(value), do)


def _is_masked(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(_is_masked(part) for part in value)
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


def _as_numbers(name: str, array: np.ndarray) -> str:
    """Return advice on how to convert an array that is not numeric: numbers as text, other text, or anything else."""
    is_object = array.dtype.kind == "O" and any(isinstance(value, str) for value in array.flat)
    words = array.ndim > 0 and (array.dtype.kind in "US" or is_object)
    if not words:
        return f"Convert {name} to floats."
    try:
        array.astype(float)
    except (TypeError, ValueError):
        return (
            f"Encode words as numbers: K classes as whole numbers from 0 to K - 1, such as "
            f"np.unique({name}, return_inverse=True)[1]."
        )
    return f"Convert {name} to floats: np.asarray({name}, float)."


# Arrays and trees


def key(value: object) -> None:
    """Check that `value` is a single typed JAX key.

    Raises:
        KeyTypeError: if it is not.
    """
    process()
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape == ():
            alive("the key", value)
            return
        got = f"an array of {value.shape} keys"
    elif isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32:
        got = f"an old-style uint32 key of shape {value.shape}"
    else:
        got = f"{type(value).__name__} {short_repr(value)}"
    fail(
        KeyTypeError,
        "one typed JAX key",
        got,
        "Make one with jax.random.key(0), or wrap an old one with jax.random.wrap_key_data.",
    )


def rows(name: str, value: object) -> np.ndarray | jax.Array:
    """Check that `value` is a finite numeric array with at least one row, and return it as an array.

    Returns:
        The same array if it is a JAX array, else a NumPy array, (rows, ...).

    Raises:
        InputError: if it does not consist of real numbers, or was deleted.
        ShapeError: if it has no row axis, or no rows.
        NonFiniteInputError: if a number is NaN or infinite.
    """
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
    """Check that a tree consists of arrays of numbers with a row axis; tracers and instances of `also` pass.

    Raises:
        InputError: if there is no array, or a leaf is not an array of numbers.
        ShapeError: if a leaf is a scalar.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        fail(InputError, f"{name} to be an array of numbers, or a tree of them", short_repr(tree), "Pass rows of data.")
    for leaf in leaves:
        if not isinstance(leaf, jax.Array) and not isinstance(leaf, also):
            if not hasattr(leaf, "dtype") and np.ndim(leaf):
                do = f"Pass np.asarray({name}, float)."
                fail(InputError, f"{name} to be an array of numbers", typed_repr(leaf), do)
            real(name, leaf)
        if not np.shape(leaf):
            fail(
                ShapeError, f"{name} to have a leading row axis", "shape ()", "Pass an array of shape (rows, features)."
            )


def same_rows(x: np.ndarray | jax.Array, y: np.ndarray | jax.Array) -> None:
    """Check that x and y have the same number of rows.

    Raises:
        ShapeError: if they do not.
    """
    if x.shape[0] != y.shape[0]:
        fail(
            ShapeError,
            f"y to have the {x.shape[0]} rows of x",
            f"{y.shape[0]} rows",
            "Pass one y for each row of x.",
        )


def target(y: np.ndarray | jax.Array, outputs: jax.ShapeDtypeStruct) -> None:
    """Check that y has the shape of the network's outputs.

    Raises:
        ShapeError: if it does not.
    """
    if y.shape != outputs.shape:
        hint = "y.reshape(-1, 1)" if y.ndim == 1 and outputs.shape[1:] == (1,) else f"y of shape {outputs.shape}"
        fail(
            ShapeError,
            f"y to have the shape {outputs.shape} of the network's outputs",
            f"shape {y.shape}",
            f"Pass {hint}: arrays of different shapes would be broadcast against each other.",
        )


def parameters(name: str, tree: Tree, state: Tree = None) -> None:
    """Check that a parameter tree is not empty and that every leaf is a finite floating-point array.

    Args:
        name: the name of the argument.
        tree: the parameters.
        state: a tree of bools of the same structure; where it is True, the leaf may have any numeric dtype.

    Raises:
        ShapeError: if the tree is empty.
        InputError: if a leaf is not such an array.
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
                "Only floating-point arrays can be trained or become Gaussian: remove others from the parameters.",
            )
        wide_range(where, leaf)
        finite(where, leaf)


def floating(name: str, tree: Tree) -> None:
    """Check that every leaf of a tree is a floating-point array, or a stand-in for one, of a wide enough dtype.

    Raises:
        InputError: if one is not.
    """
    for path, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
        if not is_floating(leaf):
            got = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"a {type(leaf).__name__}"
            fail(InputError, f"{name} leaf '{path}' to be a floating-point array", got, "Convert it to floats.")
        wide_range(f"{name} leaf '{path}'", leaf)


def wide_range(name: str, leaf: Tree) -> None:
    """Check that an array is not float16, in which sums over rows overflow (at 65,504) and squares of stds underflow.

    Raises:
        InputError: if it is.
    """
    if getattr(leaf, "dtype", None) == np.float16:
        do = "Convert it with .astype(jnp.float32), or jnp.bfloat16, which has the range of float32."
        got = "dtype float16, whose range is 6e-8 to 65,504: a loss overflows it, and the square of a small std is 0"
        fail(InputError, f"{name} to be float32, float64 or bfloat16", got, do)


def fits(name: str, tree: Tree, like_name: str, like: Tree) -> None:
    """Check that a tree has the structure of another, and that its leaves have the same shapes.

    Raises:
        ShapeError: if it does not.
        InputError: if one of its arrays was deleted.
    """
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


def picks_nothing(what: str, paths: list[str]) -> NoReturn:
    """Raise the InputError of a selection of leaves that is empty; `paths` are the leaves there are."""
    listed = ", ".join(paths[:20]) + (f" and {len(paths) - 20} more" if len(paths) > 20 else "")
    fail(InputError, f"{what} to pick at least one leaf", "none", f"The leaves are: {listed}.")


# Objects


def is_word(value: object, words: Iterable[str]) -> bool:
    """Return whether a value is one of some words; False for anything that is not a string."""
    return isinstance(value, str) and value in words


def has(name: str, value: object, methods: tuple[str, ...], example: str) -> None:
    """Check that an argument is an object with the given methods.

    Raises:
        InputError: if it is a class or lacks one of them; the message suggests `example`.
    """
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        kind = example.split("(", maxsplit=1)[0]
        fail(
            InputError,
            f"{name} such as {kind}",
            typed_repr(value),
            f"Pass for example {example}.",
        )


def is_a(name: str, value: object, kinds: type | tuple[type, ...], do: str) -> None:
    """Check that an argument is an instance of one of the given classes.

    Raises:
        InputError: if it is not; `do` is the advice.
    """
    if not isinstance(value, kinds):
        kind = kinds if isinstance(kinds, type) else kinds[0]
        fail(InputError, f"{name} to be a {kind.__name__}", typed_repr(value), do)


def function(name: str, value: object, do: str) -> None:
    """Check that `value` is callable.

    Raises:
        InputError: if it is not; `do` is the advice.
    """
    if not callable(value):
        fail(InputError, f"{name} to be a function", f"a {type(value).__name__}", do)


def network(apply: Any) -> None:
    """Check that `apply` can be a network.

    Raises:
        InputError: if it is not callable.
    """
    if not callable(apply):
        got, do = f"a {type(apply).__name__}", "Pass for example network.apply."
        fail(InputError, "apply to be a function apply(params, x)", got, do)


def hashable(name: str, value: object) -> None:
    """Check that a value is hashable, because JAX looks up compiled programs by the hash.

    Raises:
        InputError: if it is not.
    """
    try:
        hash(value)
    except TypeError as error:
        raise InputError(
            f"Expected {name} to be hashable, got a {type(value).__name__} that is not: {error}. "
            "Use tuples for its lists and keep arrays in the parameters, or pass a function apply(params, x)."
        ) from error


def registered(name: str, value: object) -> None:
    """Check that an object is a registered pytree of numbers, which can be passed to a compiled program.

    Raises:
        InputError: if it is not.
    """
    kind = type(value).__name__
    if jax.tree_util.all_leaves([value]):
        raise InputError(
            f"Expected {name} to be registered with JAX as a pytree of numbers, got a {kind}, which is not. "
            "It must be a frozen dataclass registered with jax.tree_util.register_dataclass: write above the class\n"
            "    @jax.tree_util.register_dataclass\n"
            "    @dataclasses.dataclass(frozen=True)\n"
            "and declare fields that are not numbers, such as options, with "
            "dataclasses.field(metadata={'static': True})."
        )
    for path, leaf in zip(names(value), jax.tree.leaves(value), strict=True):
        if not (isinstance(leaf, int | float) or (hasattr(leaf, "dtype") and hasattr(leaf, "shape"))):
            do = "Declare a field that is not a number with dataclasses.field(metadata={'static': True})."
            fail(InputError, f"leaf '{path}' of {name} to be a number or an array", f"a {type(leaf).__name__}", do)
    try:
        jax.eval_shape(lambda tree: tree, value)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"Expected {name} to be a pytree that JAX can flatten and unflatten, got a {kind} that fails: {reason} "
            "Its __post_init__ must accept any object in place of numbers, because JAX puts tracers there."
        ) from error


def file_path(value: object) -> Path:
    """Check that `value` is a path that a file can have, and return it as a Path.

    Raises:
        InputError: if it is not.
    """
    process()
    if not isinstance(value, str | os.PathLike):
        fail(InputError, "a path", typed_repr(value), 'Pass for example "model.safetensors".')
    path = Path(value)
    if not path.name or "\0" in str(path):
        fail(InputError, "a path that ends in a file name", repr(str(value)), 'Pass for example "model.safetensors".')
    return path


# Networks, by tracing them


class _NoArrayError(Exception):
    """A network returned something other than arrays; the message is its type."""


class _ImpureError(Exception):
    """A network produced two different programs for the same shapes; the message says where they first differ."""


_TRACER_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)


def output_shape(apply: Callable[..., Tree], params: Tree, x: Tree) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a network's outputs, from two traces of it; nothing is computed.

    Raises:
        ShapeError: if the parameters or x do not fit the network, or it does not return one array with the rows of x.
        InputError: if it is not a pure function, or its outputs are not real floating-point numbers.
    """
    out = pure(apply, params, x)
    if not isinstance(out, jax.ShapeDtypeStruct):
        _no_rows(x, f"a {type(out).__name__}")
    if out.ndim == 0 or out.shape[0] != x.shape[0]:
        _no_rows(x, f"shape {out.shape}")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        do = "Return means or logits, before any rounding, comparison or argmax, and the parts of complex numbers."
        fail(InputError, "the network to return real floating-point numbers", f"dtype {out.dtype}", do)
    return out


def pure(apply: Callable[..., Tree], params: Tree, x: Tree) -> Tree:
    """Return the shapes of a network's outputs after checking that a second trace gives the same function.

    Raises:
        ShapeError: if the network fails on these parameters and this x, or returns something other than arrays.
        InputError: if it is not a pure function that JAX can trace.
    """
    try:
        return from_shapes(_traced_twice, apply, params, x)
    except _NoArrayError as error:
        _no_rows(x, f"a {error}")
    except _ImpureError as error:
        _not_pure(f"a different function at the second call than at the first, from {error} on")
    except _TRACER_ERRORS as error:
        _not_pure(f"{type(error).__name__} when it was traced", error)
    except Exception as error:
        refused(error, x)


def training(train: Callable[..., Tree], params: Tree, state: Tree, x: Tree, shape: tuple[int, ...]) -> None:
    """Check that a training mode runs, gives outputs of `shape`, and updates only the state.

    Args:
        train: `train(params, x, key) -> (outputs, updates)`.
        params: the parameters.
        state: a tree of bools like `params`, True where a leaf is state.
        x: a batch; only its shape and dtype matter.
        shape: of the outputs outside of training.

    Raises:
        ShapeError: if it fails, or the outputs or updates have other shapes.
        InputError: if it is not pure, or updates a leaf that is not state.
    """
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
    except (ValueError, TypeError):  # a different structure, which `fits` reports
        updated, stray = updates, None
    fits("updates", updated, "params", params)
    for path in names(stray):
        fail(InputError, "updates of the network's state only", f"one of '{path}'", "Mark it in state(params).")


def refused(error: Exception, x: Tree, how: str = "") -> NoReturn:
    """Raise the ShapeError of a network that failed with `error` for its parameters and x; `how` is added to x."""
    if isinstance(error, _TRACER_ERRORS):
        raise error
    inputs = f"x of shape {', '.join(str(np.shape(leaf)) for leaf in jax.tree.leaves(x))}{how}"
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise ShapeError(
        f"Expected parameters and an x that the network accepts, got {inputs} "
        f"and an error from the network: {reason[0]} "
        "Check the number of columns of x, and that the parameters are this network's."
    ) from error


def _no_rows(x: Tree, got: str) -> NoReturn:
    rows = jnp.shape(jax.tree.leaves(x)[0])[0]
    do = "Make apply(params, x) return an array whose leading axis is the row axis of x."
    fail(ShapeError, f"the network to return one array with the {rows} rows of x", got, do)


def _traced_twice(apply: Callable[..., Tree], params: Tree, x: Tree) -> Tree:
    def program() -> tuple[Any, Any]:
        def outputs(*args: Any) -> Tree:  # a new function each time, because JAX caches traces
            out = apply(*args)
            for leaf in jax.tree.leaves(out):
                if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float):
                    raise _NoArrayError(type(leaf).__name__)
            return out

        return jax.make_jaxpr(outputs, return_shape=True)(params, x)

    (first, out), (second, _) = program(), program()
    for const in filter(lambda const: isinstance(const, jax.core.Tracer), second.consts):
        jnp.copy(const)  # raises JAX's own error for a tracer that leaked from the first call
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
    """Return a traced program as text, without the addresses of functions, which differ from run to run."""
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


def _equal(a: Tree, b: Tree) -> bool:
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return a is b
    if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(np.asarray(a), np.asarray(b))


def _not_pure(got: str, error: Exception | None = None) -> NoReturn:
    raise InputError(
        f"Expected a network that is a pure function apply(params, x), got {got}. "
        "It must change nothing outside itself, draw no random numbers and keep no values between calls; use "
        "jnp.where or jax.lax.cond instead of if."
    ) from error
