"""Models in files: the arrays, and JSON for the rest. No pickle and no code is ever read."""

import dataclasses
import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bbb import checks
from bbb.core.tree import names
from bbb.errors import InputError, fail
from bbb.io.description import describe, made, undescribed
from bbb.io.limits import refuse_giants
from bbb.model import BNN, check_model, check_numbers
from bbb.networks.nn import kinds
from bbb.storage import arrays as arrays_module
from bbb.storage import files
from bbb.storage.arrays import refuse

KIND = arrays_module.Kind("bbb model", "1", what="model file", writer="bbb.save", again="save the model again")

BESIDE = "beside/"
"""How the names of arrays begin that are kept with a model and are no part of it: no leaf of a model is called so."""


def save(path: str | os.PathLike[str], model: BNN, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model to one safetensors file, whole or not at all.

    Args:
        path: the file; an old one is replaced once the new one is safe on the disk.
        model: a network of `bbb.nn` is described in the file, and comes back whole; any other is saved as its
            arrays, and needs `load(path, like=model)`.
        metadata: JSON values to keep with the model, such as column names.

    Raises:
        InputError: if `metadata` is not JSON, two leaves have one name, a number of the model leads to infinities, so
            that `load` would refuse it, or for what is not a path or not a model.
        WriteError: if the file cannot be written.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bbb.save(os.path.join(folder, "model.safetensors"), model)
        ...     os.listdir(folder)
        ['model.safetensors']
    """
    save_with_arrays(path, model, metadata, {})


def save_with_arrays(
    path: str | os.PathLike[str], model: BNN, metadata: Mapping[str, Any] | None, beside: Mapping[str, np.ndarray]
) -> None:
    """Write a model as `save` does, and arrays of finite numbers to keep with it, by name.

    Raises:
        InputError: if `metadata` is not JSON, two leaves have one name, a number of the model leads to infinities, so
            that `load` would refuse it, or for what is not a path or not a model.
        WriteError: if the file cannot be written.
    """
    check_model(model)
    checks.outside("save", model=model, metadata=metadata)
    check_numbers(model)
    given: Any = {} if metadata is None else metadata
    if not isinstance(given, Mapping):
        do = "Pass for example {'columns': ['a', 'b']}."
        fail(InputError, "metadata to be a dictionary", f"a {type(given).__name__}", do)
    files.write(checks.file_path(path), _pack(model, dict(given), beside))


def load(path: str | os.PathLike[str], like: BNN | None = None) -> BNN:
    """Read a model that `save` wrote; it predicts bit for bit what the saved one did.

    Args:
        path: the file.
        like: a model of the same network; needed if the network is not one of `bbb.nn`. Whether predictions are of the
            linearised network is read from the file.

    Raises:
        ModelFileError: if the file is missing, damaged, or of another network.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     bbb.save(path, model)
        ...     bbb.load(path).likelihood
        Gaussian(std=0.5, learn=False)
    """
    return load_with_metadata(path, like)[0]


def load_with_metadata(path: str | os.PathLike[str], like: BNN | None = None) -> tuple[BNN, dict[str, Any]]:
    """Read a model, and what `save` was given as `metadata`, from one opening: both are of the same file.

    Raises:
        ModelFileError: as `load` does.
    """
    return load_with_arrays(path, like)[:2]


def load_with_arrays(
    path: str | os.PathLike[str], like: BNN | None = None
) -> tuple[BNN, dict[str, Any], dict[str, np.ndarray]]:
    """Read what `save_with_arrays` wrote: a model, the metadata, and the arrays beside it.

    Raises:
        ModelFileError: as `load` does.
    """
    path = checks.file_path(path)
    if like is not None:
        check_model(like)
    arrays, header = _unpack(path)
    beside = {name.removeprefix(BESIDE): arrays.pop(name) for name in list(arrays) if name.startswith(BESIDE)}
    model = made(path, header["model"], arrays, like)
    return dataclasses.replace(model, linearized=header.get("linearized", False)), header["metadata"], beside


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save` was given as `metadata`.

    Raises:
        ModelFileError: if the file is missing or damaged.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     bbb.save(path, model, {"by": "me"})
        ...     bbb.io.read_metadata(path)
        {'by': 'me'}
    """
    return _unpack(checks.file_path(path))[1]["metadata"]


def _pack(model: BNN, metadata: dict[str, Any], beside: Mapping[str, np.ndarray] | None = None) -> bytes:
    leaf_names = names(model)
    if len(set(leaf_names)) != len(leaf_names):
        twice = next(name for name in leaf_names if leaf_names.count(name) > 1)
        fail(InputError, "a name for every parameter", f"'{twice}' twice", "Rename one of them.")
    try:
        header: dict[str, Any] = {"model": describe(model), "metadata": metadata}
        header |= {"linearized": True} if model.linearized else {}  # all other files stay what they were
        kept = {f"{BESIDE}{name}": array for name, array in (beside or {}).items()}
        return arrays_module.pack(KIND, header, arrays_module.named(model) | kept)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Expected metadata of JSON values, got one that is not: {error}. Pass numbers, strings, lists and dicts."
        ) from error


def _unpack(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, header = arrays_module.unpack(path, KIND, partial(_look, path))
    for name, array in arrays.items():
        if not arrays_module.all_finite(array):
            refuse(path, "finite numbers", f"NaN or infinity in '{name}'", "Train the model again.")
        if not name.startswith(BESIDE) and jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            do = 'Call jax.config.update("jax_enable_x64", True) first.'
            refuse(path, "arrays of the dtypes JAX is set to", f"{array.dtype} in '{name}'", do)
    return arrays, header


def _look(path: Path, header: Any, specs: arrays_module.Specs) -> None:
    """Raise for what is not a description, or describes more numbers than the file has, before any is read."""
    whole = isinstance(header, dict) and header.keys() >= {"model", "metadata"}
    if not whole or not isinstance(header["metadata"], dict) or header.get("linearized", True) is not True:
        refuse(path, "a model's description", "something else", "Save the model again.")
    if header["model"] is None:
        return
    try:
        refuse_giants(header["model"])
        network = kinds.build(header["model"]["network"])
        one = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0))))
    except Exception as error:  # a stranger's description may make JAX say anything
        raise undescribed(path, error) from error
    held = sum(math.prod(spec.shape) for name, spec in specs.items() if name.startswith("posterior/"))
    if held < one:
        refuse(path, f"a network's {one:,} numbers", f"{held:,}", "Save the model again.")
