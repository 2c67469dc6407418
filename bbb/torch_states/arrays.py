"""Arrays and torch tensors of a state dict, checked and copied; the state dict of a file."""

import os
from typing import Any

import jax
import numpy as np

from bbb import checks
from bbb.errors import InputError, ModelFileError, ShapeError, fail
from bbb.storage import arrays as arrays_module


def read_array(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Check the shape, dtype and values of an array or torch tensor, and return a copy.

    Raises:
        InputError, ShapeError: naming the array.
    """
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
    return np.array(array, order="C")  # a copy: the tensor may be trained on


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


def read_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file.

    Raises:
        ModelFileError: if it cannot be read.
    """
    try:
        return arrays_module.read(path)
    except arrays_module.UNREADABLE as error:
        got = getattr(error, "strerror", None) or error
        raise ModelFileError(
            f"Expected {path} to be a safetensors file of a state dict, got: {got}. "
            "A file of torch.save can be read by torch alone: torch.load it, and pass the dict."
        ) from error
