"""The program of an exported predictive, as it is read: one that is not what its file describes is refused."""

import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from bbb.errors import ModelFileError
from bbb.metrics.classification import Entropy
from bbb.predictive.estimates import Moments, Summary
from bbb.serving.about import AGAIN, KIND, About
from bbb.serving.rows import Leaf
from bbb.storage import arrays as arrays_module


class Program(NamedTuple):
    """What a file of an exported predictive holds.

    Attributes:
        about: its description.
        weights: the leaves of the posterior and the likelihood.
        exported: the program.
        leaves: the arrays of x that it takes.
    """

    about: About
    weights: tuple[np.ndarray, ...]
    exported: jax_export.Exported
    leaves: tuple[Leaf, ...]


def read(path: str | os.PathLike[str]) -> Program:
    """Read a file, and check that its program takes and gives what it describes.

    Raises:
        ModelFileError: if it does not, or the file is missing, damaged or of another kind.
    """
    arrays, header = arrays_module.unpack(path, KIND)
    about = About.of(Path(path), header)
    for name, array in arrays.items():
        if not arrays_module.all_finite(array):
            arrays_module.refuse(path, "finite numbers", f"NaN or infinity in '{name}'", AGAIN)
    exported = _program(Path(path), about, arrays.pop("program", np.zeros(0, np.uint8)))
    weights = tuple(arrays.get(f"weights/{i}", np.zeros(0)) for i in range(len(arrays)))
    _refuse_other_arrays(path, exported, about, weights)
    _refuse_another_setting(path, exported)
    _refuse_another_key(path, exported, about.key)
    _refuse_another_program(path, exported, about)
    return Program(about, weights, exported, _leaves(exported, about))


def _leaves(program: jax_export.Exported, about: About) -> tuple[Leaf, ...]:
    """Return the arrays of x that a program takes."""
    avals = program.in_avals[-len(about.x) :]
    parts = zip(about.x, about.shared, avals, strict=True)
    return tuple(Leaf(path, shared, tuple(a.shape[not shared :]), np.dtype(a.dtype)) for path, shared, a in parts)


def _program(path: Path, about: About, content: np.ndarray) -> jax_export.Exported:
    """Read a program.

    Raises:
        ModelFileError: if this version of JAX cannot.
    """
    try:
        return jax_export.deserialize(bytearray(content.tobytes()))
    except Exception as error:  # JAX promises no kind of error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(
            f"Expected {path} to hold a program that JAX {jax.__version__} can read, got one of JAX {about.jax}: "
            f"{reason} Export the model again, or use a JAX of about the same age."
        ) from error


def _refuse_other_arrays(
    path: str | os.PathLike[str], program: jax_export.Exported, about: About, weights: tuple[np.ndarray, ...]
) -> None:
    """Raise for a program of other weights, of another number of leaves of x, or of other results."""
    if about.classes and len(program.out_avals) == about.leaves - len(Entropy._fields):
        got = f"an older one, of bbb {about.bbb}"
        arrays_module.refuse(path, "a predictive of classes with errors of its entropies", got, AGAIN)
    expected = [(spec.shape, spec.dtype) for spec in program.in_avals[1 : -len(about.x)]]
    fits = expected == [(array.shape, array.dtype) for array in weights]
    given = 1 + len(weights) + len(about.x)
    if not fits or len(program.in_avals) != given or len(program.out_avals) != about.leaves:
        arrays_module.refuse(path, "arrays that fit its program", "others", AGAIN)


def _refuse_another_setting(path: str | os.PathLike[str], program: jax_export.Exported) -> None:
    """Raise for a program that cannot run in this process."""
    for spec in program.in_avals:
        if jax.dtypes.canonicalize_dtype(spec.dtype) != spec.dtype:
            do = 'Call jax.config.update("jax_enable_x64", True) first.'
            arrays_module.refuse(path, "arrays of the dtypes JAX is set to", f"{spec.dtype}", do)
    if (here := jax_export.default_export_platform()) not in program.platforms:
        do = f"Export the model again with platforms=({here!r},) or more."
        arrays_module.refuse(path, f"a program for {here}", f"one for {', '.join(program.platforms)}", do)


def _refuse_another_key(path: str | os.PathLike[str], program: jax_export.Exported, name: str) -> None:
    """Raise for a kind of keys that JAX does not know, or that the program does not take."""
    try:
        key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=name)))
    except Exception as error:  # JAX promises no kind of error
        raise ModelFileError(
            f"Expected {path} to hold a predictive of keys that JAX knows, got {name!r}. Export the model again."
        ) from error
    if (key.shape, key.dtype) != (program.in_avals[0].shape, program.in_avals[0].dtype):
        arrays_module.refuse(path, f"a program of {name} keys", "one of others", AGAIN)


def _refuse_another_program(path: str | os.PathLike[str], program: jax_export.Exported, about: About) -> None:
    """Raise for a program that does not run, for any number of rows, or gives something else than a summary of each.

    Tracing finds shapes that do not fit, and lowering what of a program changed since cannot be read. Compiling it as
    well would cost seconds, for a number of rows that may never be asked for.
    """
    specs = [jax.ShapeDtypeStruct(spec.shape, spec.dtype) for spec in program.in_avals[: -len(about.x)]]
    try:
        for size in about.sizes:
            rows = about.argument([_sized(leaf, size) for leaf in _leaves(program, about)])
            found = jax.tree.unflatten(about.structure, jax.eval_shape(program.call, specs[0], tuple(specs[1:]), rows))
            if not _is_summary(found, size):
                arrays_module.refuse(path, "a program that gives what it describes", "another", AGAIN)
        rows = about.argument([_sized(leaf, about.sizes[0]) for leaf in _leaves(program, about)])
        jax.jit(program.call).lower(specs[0], tuple(specs[1:]), rows)
    except ModelFileError:
        raise
    except Exception as error:  # JAX promises no kind of error
        raise ModelFileError(
            f"Expected {path} to hold a program that runs for any number of rows, got {reason_of(error)}. "
            "It was changed after it was written: export the model again."
        ) from error


def _sized(leaf: Leaf, rows: int) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a leaf with so many rows."""
    return jax.ShapeDtypeStruct(leaf.shape if leaf.shared else (rows, *leaf.shape), leaf.dtype)


def _is_summary(found: Summary, rows: int) -> bool:
    """Return whether shapes are those of moments and quantiles of so many rows, or of the probabilities of classes."""
    f, y = jax.tree.leaves((found.f, found.f_quantiles)), jax.tree.leaves((found.y, found.y_quantiles))
    shapes = {leaf.shape for leaf in f}, {leaf.shape for leaf in y}
    alike = len(shapes[0]) == 1 and shapes[1] <= {y[0].shape, y[0].shape[:-1]}
    numbers = isinstance(found.y, Moments)
    real = all(jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.shape[:1] == (rows,) for leaf in (*f, *y))
    return real and alike and (len(shapes[1]) == 1 or not numbers)


def reason_of(error: Exception) -> str:
    """Return the kind of an error, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
