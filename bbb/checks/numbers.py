"""Checks of numbers and of unmasked arrays of real numbers."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb.checks.context import alive, untraced
from bbb.errors import InputError, fail, short_repr


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
