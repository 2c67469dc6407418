"""Reading the state dict of a torch model into trees like the parameters of a network of `bbb.nn`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.networks import nn
from bbb.torch_states.arrays import read_array, read_file
from bbb.torch_states.formats import Arrays, Format, Keys
from bbb.torch_states.misfit import listed, misfit
from bbb.torch_states.slots import Slot, nested, slots

StateDict = Mapping[str, Any] | str | os.PathLike[str]
"""A mapping of names to NumPy arrays, JAX arrays or torch tensors, or the path of a safetensors file of them."""


class Read(NamedTuple):
    """What a state dict holds: trees like the network's parameters, with None where an array is absent.

    Attributes:
        mean: the means, and the arrays of plain layers.
        log_std: log σ.
        noise: the ε of a frozen model.
        prior_mean: the means of the prior, as NumPy arrays.
        prior_std: its standard deviations, likewise.
    """

    mean: Tree
    log_std: Tree
    noise: Tree
    prior_mean: Tree
    prior_std: Tree


def read(form: Format, network: Any, state_dict: StateDict, names: Sequence[str] | None = None) -> Read:
    """Read the arrays of a state dict, which must be those of the network, no more and no fewer.

    Raises:
        InputError, ShapeError: if they do not fit the network. If they would under other names, the error gives them.
        ModelFileError: if the file cannot be read.
    """
    if not isinstance(network, nn.Layer):
        got = f"a {type(network).__name__}"
        fail(InputError, "a network of bbb.nn", got, "Pass, for example, bbb.nn.sequential(...).")
    arrays, places = _given(state_dict), slots(network, names)
    arrays = form.tidied(arrays, places)
    keys = [{name: _keys(form, slot, name, places, arrays) for name in slot.shapes} for slot in places]
    taken = {key for of_layer in keys for of_array in of_layer.values() for key in of_array} & set(arrays)
    extra = sorted(set(arrays) - taken)
    if extra:
        expected = f"a state dict of this network, with {listed(sorted(taken))}"
        misfit(expected, f"{listed(extra)} besides", places, arrays, form)
    parts = [_read_layer(form, slot, of_layer, arrays) for slot, of_layer in zip(places, keys, strict=True)]
    return Read(*(nested(network, iter(tree)) for tree in zip(*parts, strict=True)))


def _given(state_dict: Any) -> Arrays:
    """Return the arrays of a state dict or of a file by their names."""
    if hasattr(state_dict, "state_dict"):
        got = f"a {type(state_dict).__name__}"
        fail(InputError, "a state dict, or the path of a file", got, "Pass model.state_dict().")
    arrays = dict(state_dict) if isinstance(state_dict, Mapping) else read_file(state_dict)
    if not all(isinstance(name, str) for name in arrays):
        do = "Pass model.state_dict()."
        fail(InputError, "a state dict of arrays by their names", f"{list(arrays)[:3]}", do)
    return arrays


def _keys(form: Format, slot: Slot, name: str, places: Sequence[Slot], arrays: Mapping[str, Any]) -> Keys:
    """Return the keys of an array, of which a plain one has only that of the mean; those after the scale may lack."""
    plain, keys = slot.prefix + name, form.keys(slot.layer, name)
    if plain in arrays:
        return Keys(plain, "")
    full = Keys(*(slot.prefix + key if key else "" for key in keys)) if keys else None
    if full is None or full.mean not in arrays or full.scale not in arrays:
        near = [key for key in arrays if key.startswith(slot.prefix)] or list(arrays)
        wanted = f"'{plain}' or '{full.mean}' and '{full.scale}'" if full else f"'{plain}'"
        misfit(f"{wanted} in the state dict", listed(near) if near else "an empty one", places, arrays, form)
    return full


def _read_layer(form: Format, slot: Slot, keys: Mapping[str, Keys], arrays: Mapping[str, Any]) -> tuple[Tree, ...]:
    """Read one layer: the parts of a `Read`."""
    if not slot.shapes:
        return ((),) * len(Read._fields)
    found = [
        {name: _read_part(form, part, getattr(keys[name], part), shape, arrays) for name, shape in slot.shapes.items()}
        for part in Keys._fields
    ]
    return tuple(found)


def _read_part(form: Format, part: str, key: str, shape: tuple[int, ...], arrays: Mapping[str, Any]) -> Any:
    """Read one array of a `Read`, None where it is absent; a prior stays with NumPy."""
    if key not in arrays:
        return None
    array = read_array(key, arrays[key], shape)
    if part == "scale":
        array = form.log_std(array)
    return array if part.startswith("prior") else jnp.asarray(array)
