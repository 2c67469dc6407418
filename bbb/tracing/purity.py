"""A network as it is traced: the shape of its outputs, and whether it is the same function at every call."""

import itertools
import re
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb.checks.inputs import fits
from bbb.core.rows import count_rows, with_rows
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree, is_none, map_present, names
from bbb.errors import InputError, ShapeError, fail


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
    _check_output(out, x)
    return out


def output_shapes(apply: Callable[..., Tree], params: Tree, x: Tree) -> Tree:
    """Return the shapes and dtypes of the outputs of a network that returns a tree of arrays, as `output_shape` does.

    Raises:
        ShapeError, InputError: as `output_shape`.
    """
    out = pure(apply, params, x)
    for leaf in jax.tree.leaves(out):
        _check_output(leaf, x)
    return out


def _check_output(out: jax.ShapeDtypeStruct, x: Tree) -> None:
    if out.ndim == 0 or out.shape[0] != count_rows(x):
        _no_rows(x, f"shape {out.shape}")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        do = "Return means or logits, before any rounding, comparison or argmax, and the parts of complex numbers."
        fail(InputError, "the network to return real floating-point numbers", f"dtype {out.dtype}", do)


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


def training(train: Callable[..., Tree], params: Tree, state: Tree, x: Tree, shape: Tree) -> None:
    """Check that a training mode runs, gives outputs of `shape`, and updates only the state.

    Args:
        train: `train(params, x, key) -> (outputs, updates)`.
        params: the parameters.
        state: a tree of bools like `params`, True where a leaf is state.
        x: a batch; only its shape and dtype matter.
        shape: of the outputs outside of training; of a tree of outputs, a tree of shapes.

    Raises:
        ShapeError: if it fails, or the outputs or updates have other shapes.
        InputError: if it is not pure, or updates a leaf that is not state.
    """
    batch = with_rows(x, count_rows(x))
    try:
        out, updates = jax.eval_shape(train, params, batch, jax.random.key(0))
    except _TRACER_ERRORS as error:
        _not_pure(f"{type(error).__name__} when it was traced in training mode", error)
    except Exception as error:
        refused(error, batch, " in training mode")
    if jax.tree.map(jnp.shape, out) != shape:
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
    rows = count_rows(x)
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
