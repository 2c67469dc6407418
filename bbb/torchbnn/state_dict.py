"""Reading torch's state dicts, without importing torch."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, ModelFileError, ShapeError, fail
from bbb.networks import nn
from bbb.storage import arrays as arrays_module
from bbb.torchbnn.slots import Slot, nested, prefix_of, slots

StateDict = Mapping[str, Any] | str | os.PathLike[str]
"""A mapping of names to NumPy arrays, JAX arrays or torch tensors, or the path of a safetensors file of them."""


_PARTS = ("_mu", "_log_sigma", "_eps")
"""The suffixes that torchbnn appends to the name of an array."""


_ALIKE = "Build the network of one layer for each module, of the same kind and options."


def read(network: Any, state_dict: StateDict, names: Sequence[str] | None = None) -> tuple[Tree, Tree, Tree]:
    """Read means, log sigmas and ε as trees like the network's parameters, with None where an array is absent.

    Raises:
        InputError, ShapeError: if they do not fit the network. If they would under other names, the error gives them.
        ModelFileError: if the file cannot be read.
    """
    if not isinstance(network, nn.Layer):
        got = f"a {type(network).__name__}"
        fail(InputError, "a network of bbb.nn", got, "Pass, for example, bbb.nn.sequential(...).")
    if hasattr(state_dict, "state_dict"):
        got = f"a {type(state_dict).__name__}"
        fail(InputError, "a state dict, or the path of a file", got, "Pass model.state_dict().")
    arrays = dict(state_dict) if isinstance(state_dict, Mapping) else _read_file(state_dict)
    if not all(isinstance(name, str) for name in arrays):
        do = "Pass model.state_dict()."
        fail(InputError, "a state dict of arrays by their names", f"{list(arrays)[:3]}", do)
    places = slots(network, names)
    keys = [{name: _keys(slot, name, places, arrays) for name in slot.shapes} for slot in places]
    taken = {key for of_layer in keys for three in of_layer.values() for key in three} & set(arrays)
    extra = sorted(set(arrays) - taken)
    if extra:
        expected = f"a state dict of this network, with {_listed(sorted(taken))}"
        _misfit(expected, f"{_listed(extra)} besides", places, arrays)
    parts = [_read_layer(slot, of_layer, arrays) for slot, of_layer in zip(places, keys, strict=True)]
    mean, log_std, noise = (nested(network, iter(tree)) for tree in zip(*parts, strict=True))
    return mean, log_std, noise


def _keys(slot: Slot, name: str, places: list[Slot], arrays: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the keys of an array's mean, log sigma and ε (which may be absent); a plain array has only the first."""
    plain = slot.prefix + name
    if plain in arrays:
        return plain, "", ""
    mean, log_sigma, eps = (plain + part for part in _PARTS)
    random = name in ("weight", "bias")
    if not random or mean not in arrays or log_sigma not in arrays:
        near = [key for key in arrays if key.startswith(slot.prefix)] or list(arrays)
        wanted = f"'{plain}' or '{mean}' and '{log_sigma}'" if random else f"'{plain}'"
        _misfit(f"{wanted} in the state dict", _listed(near) if near else "an empty one", places, arrays)
    return mean, log_sigma, eps


def _read_layer(
    slot: Slot, keys: Mapping[str, tuple[str, str, str]], arrays: Mapping[str, Any]
) -> tuple[Tree, Tree, Tree]:
    """Read the means, log sigmas and ε of one layer."""
    trees: tuple[dict[str, Any], ...] = ({}, {}, {})
    for name, shape in slot.shapes.items():
        for tree, key in zip(trees, keys[name], strict=True):
            tree[name] = _read_array(key, arrays[key], shape) if key in arrays else None
    return trees if slot.shapes else ((), (), ())  # type: ignore[return-value]


def _read_array(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """Check the shape, dtype and values of an array or torch tensor, and return a copy."""
    array = _as_numpy(name, value)
    if array.shape != shape:
        do = "Check the sizes and options of the network's layers."
        fail(ShapeError, f"'{name}' of shape {shape}", f"{array.shape}", do)
    if name.endswith("num_batches_tracked"):
        array = array.astype(jax.dtypes.canonicalize_dtype(float))
    if not np.issubdtype(array.dtype, np.floating):
        fail(InputError, f"'{name}' of floating-point numbers", f"{array.dtype}", "Convert it.")
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        do = 'Call jax.config.update("jax_enable_x64", True) first, or convert it to float32.'
        fail(InputError, f"'{name}' of a dtype JAX is set to", f"{array.dtype}", do)
    checks.finite(f"'{name}'", array)
    return jnp.asarray(np.array(array, order="C"))  # a copy: the tensor may be trained on


def _as_numpy(name: str, value: Any) -> np.ndarray:
    """Convert an array, or a torch tensor on any device, to NumPy, in this machine's byte order.

    Raises:
        InputError: if NumPy cannot read it, if it is masked, or if it holds no numbers, as torch's meta tensors do not.
    """
    if getattr(value, "is_meta", False):
        do = "Load the numbers first, by torch.load(path) and model.load_state_dict(..., assign=True)."
        fail(InputError, f"'{name}' to be an array of numbers", "a tensor on torch's device 'meta'", do)
    try:
        for method in ("detach", "cpu"):
            value = getattr(value, method)() if hasattr(value, method) else value
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"Expected '{name}' to be an array, got one that NumPy cannot read: {reason}. Convert it to float32."
        ) from error
    return checks.real(f"'{name}'", value) if np.ma.is_masked(value) or not array.dtype.isnative else array


def _read_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        return arrays_module.read(path)
    except arrays_module.UNREADABLE as error:
        got = getattr(error, "strerror", None) or error
        raise ModelFileError(
            f"Expected {path} to be a safetensors file of a state dict, got: {got}. "
            "A file of torch.save can be read by torch alone: torch.load it, and pass the dict."
        ) from error


def _misfit(expected: str, got: str, places: list[Slot], arrays: Mapping[str, Any]) -> NoReturn:
    """Raise an InputError that names the modules under which the state dict would fit, if there are any."""
    layers, modules = [slot for slot in places if slot.shapes], _modules(arrays)
    fitting = _fitting(layers, modules)
    if fitting is not None and [prefix_of(name) for name in fitting] != [slot.prefix for slot in layers]:
        pairs = ", ".join(f"{slot} = '{name}'" for slot, name in zip(layers, fitting, strict=True))
        do = f"Its modules fit the layers as {pairs}. If they are used in this order, pass names={tuple(fitting)}."
    elif not modules or any(prefix_of(name) == slot.prefix for slot in layers for name in modules):
        do = _ALIKE
    else:
        theirs = "; ".join(f"'{name}': {_of_shapes(shapes)}" for name, shapes in modules.items())
        ours = "; ".join(f"{slot}: {_of_shapes(slot.shapes)}" for slot in layers)
        do = f"Its modules are {theirs}. The network's layers with arrays are {ours}. {_ALIKE}"
    fail(InputError, expected, got, do)


def _modules(arrays: Mapping[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the modules of a state dict in order, each with the shapes of its arrays."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, value in arrays.items():
        module, _, name = key.rpartition(".")
        for part in _PARTS:
            name = name.removesuffix(part)
        found.setdefault(module, {})[name] = tuple(getattr(value, "shape", ()))
    return found


def _fitting(layers: list[Slot], modules: Mapping[str, dict[str, tuple[int, ...]]]) -> list[str] | None:
    """Pair each layer with the first unused module of its shapes; return None unless all modules are used."""
    left = dict(modules)
    found = []
    for slot in layers:
        name = next((name for name, shapes in left.items() if shapes == slot.shapes), None)
        if name is None:
            return None
        found.append(name)
        del left[name]
    return None if left else found


def _of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(f"'{name}'" for name in names[:6]) + more
