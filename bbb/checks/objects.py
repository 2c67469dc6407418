"""Checks of functions, classes, options and paths."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

from bbb.core.process import process
from bbb.core.tree import names
from bbb.errors import InputError, fail, typed_repr


def is_word(value: object, words: Iterable[str]) -> bool:
    """Return whether a value is one of some words; False for anything that is not a string."""
    return isinstance(value, str) and value in words


def word(name: str, value: object, words: Sequence[str]) -> None:
    """Check that an argument is one of some words.

    Raises:
        InputError: naming them.
    """
    if not is_word(value, words):
        fail(InputError, f"{name} to be one of {', '.join(words)}", repr(value), "Pass one of them.")


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
