"""Models in files: safetensors for the arrays, JSON in its header for the rest. No pickle and no code is ever read."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from bbb import _check, _file, nn
from bbb._members import PerMember
from bbb._tree import Tree, names
from bbb.likelihood import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from bbb.model import BNN, by_value
from bbb.posterior import Ensemble, MeanField, first_member
from bbb.prior import PER, EmpiricalNormal, Laplace, Normal, ScaleMixture

FORMAT, VERSION = "bbb model", "1"

_NOUNS: dict[str, tuple[type, tuple[str, ...], tuple[str, ...]]] = {
    "MeanField": (MeanField, ("mean", "log_std"), ()),
    "Ensemble": (Ensemble, ("members",), ()),
    "Normal": (Normal, ("mean", "std"), ()),
    "Laplace": (Laplace, ("mean", "scale"), ()),
    "EmpiricalNormal": (EmpiricalNormal, ("mean",), ("per",)),
    "ScaleMixture": (ScaleMixture, ("weight", "std1", "std2"), ()),
    "PerMember": (PerMember, ("likelihood",), ()),
    "Gaussian": (Gaussian, ("log_std",), ("learn",)),
    "HeteroscedasticGaussian": (HeteroscedasticGaussian, (), ()),
    "StudentT": (StudentT, ("log_scale", "log_df_above_2"), ("learn", "learn_df")),
    "Poisson": (Poisson, (), ()),
    "NegativeBinomial": (NegativeBinomial, ("log_dispersion",), ("learn",)),
    "Bernoulli": (Bernoulli, (), ()),
    "Categorical": (Categorical, (), ()),
}
"""What a file may hold besides containers and arrays: class, children, plain values. Nothing else is ever built."""

_STATIC: dict[str, tuple[Any, ...]] = {"per": PER} | dict.fromkeys(("learn", "learn_df"), (False, True))
"""The plain values that nouns may hold."""


_DTYPES = {"F64": np.dtype("float64"), "F32": np.dtype("float32"), "F16": np.dtype("float16"), "BF16": jnp.bfloat16}
_DTYPES |= {f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)}  # state may be integers
_DTYPES |= {f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)} | {"BOOL": np.dtype("bool")}


class _NotPlainError(Exception):
    """A tree has a node that JSON cannot describe."""


def save(path: str | os.PathLike[str], model: BNN, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model to one safetensors file, whole or not at all.

    Args:
        path: the file; an old one is replaced once the new one is safe on the disk.
        model: a network of `bbb.nn` is described in the file, and comes back whole; any other is saved as its
            arrays, and needs `load(path, like=model)`.
        metadata: JSON values to keep with the model, such as column names.

    Raises:
        InputError: if `metadata` is not JSON, or two leaves have one name.
        WriteError: if the file cannot be written.
    """
    _file.write(path, _pack(model, dict(metadata or {})))


def load(path: str | os.PathLike[str], like: BNN | None = None) -> BNN:
    """Read a model that `save` wrote; it predicts bit for bit what the saved one did.

    Args:
        path: the file.
        like: a model of the same network; needed if the network is not one of `bbb.nn`.

    Raises:
        ModelFileError: if the file is missing, damaged, or of another network.
    """
    arrays, header = _unpack(Path(path))
    if like is not None:
        return _fill(Path(path), like, arrays)
    description = header["model"]
    if description is None:
        _refuse(path, "a network of bbb.nn", "the arrays of another library's", "Pass load(path, like=model).")
    try:
        network = nn.build(description["network"])
        posterior, prior, likelihood = (
            _decode(description[part], arrays) for part in ("posterior", "prior", "likelihood")
        )
        params = jax.eval_shape(network.init, jax.random.key(0))
        member = first_member(posterior)
        _check.fits("posterior", member.mean, "network", params)
        MeanField(member.mean, member.log_std)  # refuses two that do not fit each other
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _check.ModelFileError(
            f"Expected {path} to describe a model of this version of bbb, got: {error}. "
            "Update bbb, or save the model again."
        ) from error
    return BNN(by_value(network.apply), posterior, prior, likelihood)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save` was given as `metadata`.

    Raises:
        ModelFileError: if the file is missing or damaged.
    """
    return _unpack(Path(path))[1]["metadata"]


def _pack(model: BNN, metadata: dict[str, Any]) -> bytes:
    leaf_names = names(model)
    if len(set(leaf_names)) != len(leaf_names):
        twice = next(name for name in leaf_names if leaf_names.count(name) > 1)
        _check.fail(_check.InputError, "a name for every parameter", f"'{twice}' twice", "Rename one of them.")
    # safetensors corrupts arrays that are not C-contiguous; np.array keeps a scalar's shape, ascontiguousarray does not
    leaves = [np.array(leaf, order="C") for leaf in jax.tree.leaves(model)]
    arrays = dict(zip(leaf_names, leaves, strict=True))
    try:
        header = json.dumps({"model": _describe(model), "metadata": metadata}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _check.InputError(
            f"Expected metadata of JSON values, got one that is not: {error}. Pass numbers, strings, lists and dicts."
        ) from error
    about = {"format": FORMAT, "version": VERSION, "header": header, "sha256": _digest(header, arrays)}
    return safetensors.numpy.save(arrays, metadata=about)


def _unpack(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file, and refuse it unless every byte is as it was written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _check.ModelFileError(
            f"Expected a model file at {path}, got: {error.strerror or error}. Check the path."
        ) from error
    try:
        about = _about(content)
        if about.get("format") != FORMAT:
            _refuse(path, "a file that bbb wrote", "another safetensors file", "Pass a file written by bbb.save.")
        if about.get("version") != VERSION:
            _refuse(path, f"version {VERSION} of the format", f"{about.get('version')!r}", "Update bbb.")
        arrays = _arrays(content)
        intact = about["sha256"] == _digest(about["header"], arrays)
        header = json.loads(about["header"])
    except _check.ModelFileError:
        raise
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise _check.ModelFileError(
            f"Expected {path} to be a whole model file, got one that cannot be read: {error}. "
            "It was cut short, or is no model file: save the model again."
        ) from error
    if not intact:
        _refuse(path, "the content that was saved", "another (its checksum differs)", "Save the model again.")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            _refuse(path, "finite numbers", f"NaN or infinity in '{name}'", "Train the model again.")
        if jnp.asarray(array[..., :0] if array.ndim else array).dtype != array.dtype:
            _refuse(
                path,
                "arrays of the dtypes JAX is set to",
                f"{array.dtype} in '{name}'",
                'Call jax.config.update("jax_enable_x64", True) first.',
            )
    return arrays, header


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """Read the arrays; safetensors checks that they tile the file, but its NumPy reader knows no bfloat16."""
    return {
        name: np.frombuffer(array["data"], _DTYPES[array["dtype"]]).reshape(array["shape"])
        for name, array in safetensors.deserialize(content)
    }


def _about(content: bytes) -> dict[str, str]:
    """Read the safetensors header's own metadata, refusing repeated keys."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise ValueError("its header is longer than the file")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("its header has a key twice")
        return dict(pairs)

    header = json.loads(content[8 : 8 + size], object_pairs_hook=unique)
    return dict(header.get("__metadata__", {}))


def _digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _describe(model: BNN) -> dict[str, Any] | None:
    """Describe a model in JSON; None for a network, or a container, that only the user's code can make."""
    network = getattr(model.apply, "owner", None)
    if not isinstance(network, nn.Layer):
        return None
    try:
        parts = {part: _encode(getattr(model, part), part) for part in ("posterior", "prior", "likelihood")}
    except _NotPlainError:
        return None
    return {"network": network.describe(), **parts}


def _encode(node: Tree, path: str) -> dict[str, Any]:
    for name, (cls, data, static) in _NOUNS.items():
        if type(node) is cls:
            children = {child: _encode(getattr(node, child), f"{path}/{child}") for child in data}
            return {"noun": name, "data": children, "static": {field: getattr(node, field) for field in static}}
    if type(node) in (tuple, list):
        return {type(node).__name__: [_encode(child, f"{path}/{i}") for i, child in enumerate(node)]}
    if type(node) is dict and all(isinstance(name, str) for name in node):
        return {"dict": {name: _encode(child, f"{path}/{name}") for name, child in node.items()}}
    if isinstance(node, jax.Array | np.ndarray):
        return {"array": path}
    if node is None:  # in the place of a standard deviation: a point estimate
        return {"none": path}
    raise _NotPlainError


def _decode(node: Any, arrays: Mapping[str, np.ndarray]) -> Tree:
    ((kind, content),) = ((k, v) for k, v in node.items() if k not in ("data", "static"))
    if kind == "noun":
        cls, data, static = _NOUNS[content]
        built: Any = object.__new__(cls)
        for field in data:
            object.__setattr__(built, field, _decode(node["data"][field], arrays))
        for field in static:
            if (value := node["static"][field]) not in _STATIC[field]:
                raise ValueError(f"{field} of {value!r}")
            object.__setattr__(built, field, value)
        return built
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](_decode(child, arrays) for child in content)
    if kind == "dict":
        return {name: _decode(child, arrays) for name, child in content.items()}
    if kind == "array":
        return jnp.asarray(arrays[content])
    if kind == "none":
        return None
    raise ValueError(f"a node of kind {kind!r}")


def _fill(path: Path, like: BNN, arrays: Mapping[str, np.ndarray]) -> BNN:
    """Put the arrays of a file into a model of the same names, shapes and dtypes."""
    leaf_names, leaves = names(like), jax.tree.leaves(like)
    if set(leaf_names) != set(arrays):
        missing, extra = sorted(set(leaf_names) - set(arrays)), sorted(set(arrays) - set(leaf_names))
        got = "; ".join(
            part
            for part in (f"without {missing[:3]}" if missing else "", f"with {extra[:3]} besides" if extra else "")
            if part
        )
        _refuse(path, "the parameters of the model given as like", f"a file {got}", "Pass a model of that network.")
    for name, leaf in zip(leaf_names, leaves, strict=True):
        if (leaf.shape, leaf.dtype) != (arrays[name].shape, arrays[name].dtype):
            _refuse(
                path,
                f"'{name}' of shape {leaf.shape} and dtype {leaf.dtype}",
                f"{arrays[name].shape} and {arrays[name].dtype}",
                "Pass a model of the network that was saved.",
            )
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(arrays[name]) for name in leaf_names])


def _refuse(path: str | os.PathLike[str], expected: str, got: str, do: str) -> None:
    raise _check.ModelFileError(f"Expected {path} to hold {expected}, got {got}. {do}")
