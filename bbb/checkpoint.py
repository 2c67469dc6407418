"""Models in files: the arrays, and JSON for the rest. No pickle and no code is ever read."""

import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bbb import _arrays, _check, _file, nn
from bbb._arrays import refuse
from bbb._members import PerMember
from bbb._posterior_protocol import Posterior
from bbb._tree import SAVED, Tree, names
from bbb.model import BNN, by_value, check_model, check_numbers
from bbb.posterior import check_posterior, check_random
from bbb.prior import check_fits

KIND = _arrays.Kind("bbb model", "1", what="model file", writer="bbb.save", again="save the model again")


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
        InputError: if `metadata` is not JSON, two leaves have one name, a number of the model leads to infinities, so
            that `load` would refuse it, or for what is not a path or not a model.
        WriteError: if the file cannot be written.
    """
    check_model(model)
    _check.outside("save", model=model, metadata=metadata)
    check_numbers(model)
    given: Any = {} if metadata is None else metadata
    if not isinstance(given, Mapping):
        do = "Pass for example {'columns': ['a', 'b']}."
        _check.fail(_check.InputError, "metadata to be a dictionary", f"a {type(given).__name__}", do)
    _file.write(_check.file_path(path), _pack(model, dict(given)))


def load(path: str | os.PathLike[str], like: BNN | None = None) -> BNN:
    """Read a model that `save` wrote; it predicts bit for bit what the saved one did.

    Args:
        path: the file.
        like: a model of the same network; needed if the network is not one of `bbb.nn`.

    Raises:
        ModelFileError: if the file is missing, damaged, or of another network.
    """
    return load_with_metadata(path, like)[0]


def load_with_metadata(path: str | os.PathLike[str], like: BNN | None = None) -> tuple[BNN, dict[str, Any]]:
    """Read a model, and what `save` was given as `metadata`, from one opening: both are of the same file.

    Raises:
        ModelFileError: as `load` does.
    """
    path = _check.file_path(path)
    if like is not None:
        check_model(like)
    arrays, header = _unpack(path)
    return _made(path, header["model"], arrays, like), header["metadata"]


def _made(path: Path, description: Any, arrays: Mapping[str, np.ndarray], like: BNN | None) -> BNN:
    if like is not None:
        do = "Pass a model of the network that was saved."
        found = _arrays.filled(path, "the parameters of the model given as like", like, arrays, do)
        model: BNN = jax.device_put(found)
        try:
            check_numbers(model)
        except _check.InputError as error:
            raise _undescribed(path, error) from error
        return model
    if description is None:
        refuse(path, "a network of bbb.nn", "the arrays of another library's", "Pass load(path, like=model).")
    try:
        return _described(description, arrays)
    except Exception as error:  # a stranger's description may make JAX say anything
        raise _undescribed(path, error) from error


def _described(description: Any, arrays: Mapping[str, np.ndarray]) -> BNN:
    """Build what a file describes from its arrays; raise for what `bayesianize` would raise for."""
    _refuse_giants(description)
    network = nn.build(description["network"])
    posterior, prior, likelihood = (
        _decode(description[part], arrays, part) for part in ("posterior", "prior", "likelihood")
    )
    model = BNN(by_value(network.apply), posterior, prior, likelihood)
    if extra := sorted(set(arrays) - set(names(model))):
        raise ValueError(f"an array '{extra[0]}' that is not part of it")
    _check.floating("model", model)
    check_posterior(posterior)
    posterior.validate()
    member = posterior.component(0)
    check_random(member, "a model")
    _check.fits("posterior", member.params, "network", jax.eval_shape(network.init, jax.random.key(0)))
    _check.has("a prior", prior, ("kl",), "bbb.prior.Normal(0.0, 1.0)")
    check_fits(prior, member)
    _check_likelihood(likelihood, posterior)
    check_numbers(model)
    return model


def _check_likelihood(likelihood: Any, posterior: Any) -> None:
    """Raise for what is not a likelihood, or one for each of other members than the posterior's."""
    if isinstance(likelihood, PerMember):
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(likelihood)}
        if not posterior.is_mixture or sizes != {(posterior.components,)}:
            raise ValueError("likelihoods of other members than the posterior's")
        likelihood = likelihood.of_member(0)
    _check.has("a likelihood", likelihood, ("as_target", "log_prob", "sample"), "bbb.likelihood.Gaussian(0.5)")


MOST_NODES = 100_000
"""Layers, containers and arrays that a file may describe: more would take minutes to make, of a few megabytes."""

DEEPEST = 200
"""How many brackets of the description may lie in each other."""


MOST_LAYERS = 1_000
"""Layers that a network of a file may have: of 2,000, compiling never ends."""

MOST_PADDING = 4_096
"""Places that a layer of a file may add at an end of an axis: each costs memory, and none of the file."""


def _refuse_giants(description: Any) -> None:
    """Raise for a description so large, or so deep, that making or running it would hang; without recursion."""
    level: list[Any] = [description]
    nodes = layers = 0
    for _ in range(DEEPEST):
        nodes += sum(isinstance(node, dict) for node in level)
        if nodes > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} layers, containers and arrays")
        layers += sum(isinstance(node, dict) and "kind" in node for node in level)
        if layers > MOST_LAYERS:
            raise ValueError(f"more than {MOST_LAYERS:,} layers")
        if any(_most(node.get("padding")) > MOST_PADDING for node in level if isinstance(node, dict)):
            raise ValueError(f"a padding of more than {MOST_PADDING:,}")
        parts = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for inner in parts for part in inner if isinstance(part, dict | list)]
        if not level:
            return
    raise ValueError(f"layers or containers of more than {DEEPEST} brackets in each other")


def _most(padding: Any) -> float:
    """Return the largest number of a padding; 0 for what is not a number, which the layer raises for by name."""
    flat = (
        [part for pair in padding for part in (pair if isinstance(pair, list) else [pair])]
        if isinstance(padding, list)
        else [padding]
    )
    return max((part for part in flat if isinstance(part, int | float)), default=0)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save` was given as `metadata`.

    Raises:
        ModelFileError: if the file is missing or damaged.
    """
    return _unpack(_check.file_path(path))[1]["metadata"]


def _pack(model: BNN, metadata: dict[str, Any]) -> bytes:
    leaf_names = names(model)
    if len(set(leaf_names)) != len(leaf_names):
        twice = next(name for name in leaf_names if leaf_names.count(name) > 1)
        _check.fail(_check.InputError, "a name for every parameter", f"'{twice}' twice", "Rename one of them.")
    try:
        return _arrays.pack(KIND, {"model": _describe(model), "metadata": metadata}, _arrays.named(model))
    except (TypeError, ValueError) as error:
        raise _check.InputError(
            f"Expected metadata of JSON values, got one that is not: {error}. Pass numbers, strings, lists and dicts."
        ) from error


def _unpack(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, header = _arrays.unpack(path, KIND, partial(_look, path))
    for name, array in arrays.items():
        if not _arrays.all_finite(array):
            refuse(path, "finite numbers", f"NaN or infinity in '{name}'", "Train the model again.")
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            do = 'Call jax.config.update("jax_enable_x64", True) first.'
            refuse(path, "arrays of the dtypes JAX is set to", f"{array.dtype} in '{name}'", do)
    return arrays, header


def _look(path: Path, header: Any, specs: _arrays.Specs) -> None:
    """Raise for what is not a description, or describes more numbers than the file has, before any is read."""
    whole = isinstance(header, dict) and header.keys() >= {"model", "metadata"}
    if not whole or not isinstance(header["metadata"], dict):
        refuse(path, "a model's description", "something else", "Save the model again.")
    if header["model"] is None:
        return
    try:
        _refuse_giants(header["model"])
        network = nn.build(header["model"]["network"])
        one = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0))))
    except Exception as error:  # a stranger's description may make JAX say anything
        raise _undescribed(path, error) from error
    held = sum(math.prod(spec.shape) for name, spec in specs.items() if name.startswith("posterior/"))
    if held < one:
        refuse(path, f"a network's {one:,} numbers", f"{held:,}", "Save the model again.")


def _undescribed(path: Path, error: Exception) -> _check.ModelFileError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return _check.ModelFileError(
        f"Expected {path} to describe a model of this version of bbb, got: {reason}. "
        "Update bbb, or save the model again."
    )


def _describe(model: BNN) -> dict[str, Any] | None:
    """Return a description of a model in JSON; None for what only the user's code can make."""
    network = getattr(model.apply, "owner", None)
    if not isinstance(network, nn.Layer):
        return None
    try:
        parts = {part: _encode(getattr(model, part), part) for part in ("posterior", "prior", "likelihood")}
    except _NotPlainError:
        return None
    description = {"network": network.describe(), **parts}
    try:
        _refuse_giants(description)
    except ValueError as error:
        raise _check.InputError(
            f"Expected a network that can be described in a file, got one of {error}. Save its parts."
        ) from error
    return description


def _encode(node: Tree, path: str) -> dict[str, Any]:
    name = type(node).__name__
    if name in SAVED and type(node) is SAVED[name].cls:
        children = {child: _encode(getattr(node, child), f"{path}/{child}") for child in SAVED[name].data}
        return {"noun": name, "data": children, "static": {field: getattr(node, field) for field in SAVED[name].static}}
    if type(node) in (tuple, list):
        return {type(node).__name__: [_encode(child, f"{path}/{i}") for i, child in enumerate(node)]}
    if type(node) is dict and all(isinstance(name, str) for name in node):
        return {"dict": {name: _encode(child, f"{path}/{name}") for name, child in node.items()}}
    if isinstance(node, jax.Array | np.ndarray):
        return {"array": path}
    if node is None:  # in the place of a standard deviation: a point estimate
        return {"none": path}
    raise _NotPlainError


def _decode_noun(node: Any, arrays: Mapping[str, np.ndarray], path: str) -> Any:
    """Build an object of its children and its plain values, if files may hold such; nothing else is ever built."""
    cls, data, static = SAVED[node["noun"]]
    built: Any = object.__new__(cls)
    for field in data:
        object.__setattr__(built, field, _decode(node["data"][field], arrays, f"{path}/{field}"))
    for field, choices in static.items():
        value = node["static"][field]
        if not any(type(value) is type(known) and value == known for known in choices):
            raise ValueError(f"{field} of {value!r}")
        object.__setattr__(built, field, value)
    if hasattr(built, "__post_init__") and not isinstance(built, Posterior):  # a posterior may be a stack of several
        built.__post_init__()
    return built


def _decode(node: Any, arrays: Mapping[str, np.ndarray], path: str) -> Tree:
    """Build a part of a model, whose place in it is `path`: an array can be that of its own place alone."""
    ((kind, content),) = ((k, v) for k, v in node.items() if k not in ("data", "static"))
    if kind == "noun":
        return _decode_noun(node, arrays, path)
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](
            _decode(child, arrays, f"{path}/{i}") for i, child in enumerate(content)
        )
    if kind == "dict":
        return {name: _decode(child, arrays, f"{path}/{name}") for name, child in content.items()}
    if kind in ("array", "none") and content != path:
        raise ValueError(f"'{content}' in the place of '{path}'")
    if kind == "array":
        return jax.device_put(arrays[content])  # on a CPU without a copy: see `_arrays.ALIGNMENT`
    if kind == "none":
        return None
    raise ValueError(f"a node of kind {kind!r}")
