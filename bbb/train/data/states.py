"""Where a stream stands, as text for a checkpoint: what loaders call their state, without code in it.

A state is made of None, numbers, strings, bytes, NumPy arrays and PyTorch tensors, in lists, tuples and dicts. What
JSON has no word for is a dict of one entry, whose name says what it is.
"""

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bbb.errors import InputError, fail


class Place(NamedTuple):
    """Where a checkpoint stands in the stream of each process.

    Attributes:
        step: how many batches are behind it.
        size: the most rows that a batch has in one process.
        streams: of each process, where its stream stands; None if it has no state of its own.
    """

    step: int
    size: int
    streams: list[Any]

    def written(self) -> np.ndarray:
        """Return the place as bytes for a checkpoint, which knows its step."""
        return np.frombuffer(json.dumps({"size": self.size, "streams": self.streams}).encode(), np.uint8)

    @classmethod
    def read(cls, step: int, written: np.ndarray) -> "Place":
        """Return the place that was written.

        Raises:
            ValueError, KeyError, TypeError, RecursionError: if it is none.
        """
        found = json.loads(written.tobytes())
        return cls(step, int(found["size"]), list(found["streams"]))


def encoded(state: Any) -> Any:
    """Return a state as JSON can hold it.

    Raises:
        InputError: for a part of another type, or a number that is not finite.
    """
    if state is None or isinstance(state, bool | int | str) or (isinstance(state, float) and np.isfinite(state)):
        return state
    if isinstance(state, list):
        return [encoded(part) for part in state]
    found: dict[str, Any] = {}
    if type(state) is tuple:  # a named one would come back without its names
        found = {"tuple": [encoded(part) for part in state]}
    elif isinstance(state, dict):
        found = {"dict": [[encoded(key), encoded(value)] for key, value in state.items()]}
    elif isinstance(state, bytes):
        found = {"bytes": base64.b64encode(state).decode()}
    elif isinstance(state, np.ndarray | np.generic) and state.dtype.kind in "biuf":
        found = {"array": _array(np.asarray(state))}
    elif type(state).__module__.split(".", maxsplit=1)[0] == "torch" and hasattr(state, "numpy"):
        found = {"tensor": _array(state.numpy(force=True))}
    if found:
        return found
    do = "Leave checkpoints out, or give data no state: then a training that goes on reads past the batches before."
    expected = "the state of data to hold numbers, strings, bytes and arrays, in lists and dicts"
    return fail(InputError, expected, f"a {type(state).__name__}", do)


def decoded(text: Any) -> Any:
    """Return the state of which `encoded` made JSON.

    Raises:
        ValueError, KeyError, TypeError: if it did not.
    """
    if isinstance(text, list):
        return [decoded(part) for part in text]
    if not isinstance(text, dict):
        return text
    ((kind, content),) = text.items()
    return _DECODERS[kind](content)


def _array(array: np.ndarray) -> list[Any]:
    return [array.dtype.str, list(array.shape), base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()]


def _as_array(content: Any) -> np.ndarray:
    dtype, shape, numbers = content
    return np.frombuffer(base64.b64decode(numbers), np.dtype(dtype)).reshape(shape).copy()


def _as_tensor(content: Any) -> Any:
    import torch  # noqa: PLC0415  # of which the loader is that wrote it

    return torch.from_numpy(_as_array(content))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda content: tuple(decoded(content)),
    "dict": lambda content: {decoded(key): decoded(value) for key, value in content},
    "bytes": base64.b64decode,
    "array": _as_array,
    "tensor": _as_tensor,
}
