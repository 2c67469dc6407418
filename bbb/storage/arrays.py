"""Named arrays in one safetensors file, with JSON and a checksum in its header. Pickle and code are never read."""

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from bbb import checks
from bbb.core.tree import Tree, names
from bbb.errors import ModelFileError

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(jnp.bfloat16),
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},  # state may be integers
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype("bool"),
}


_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


HEADER_BYTES = 2**23
"""The length of the longest header that is written or read: that of some 40,000 arrays."""


ALIGNMENT = 64
"""The alignment of arrays in memory, in bytes, with which `jax.device_put` needs no copy on a CPU."""


AT_ONCE = 2**20
"""The number of elements that are checked at a time, so that the check takes little memory."""


UNREADABLE = (
    *(safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError),
    *(RecursionError, OverflowError, MemoryError),
)
"""The exceptions that reading a file that is not a safetensors file may raise, whatever its content."""


MAX_AXES = 64
"""NumPy's limit."""


Specs = dict[str, jax.ShapeDtypeStruct]
"""The shape and dtype of each array of a file, by its name."""


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        format: the name of the format, which is written to the file.
        version: the version of the format.
        what: the name of such a file in messages, as in "a complete model file".
        writer: the function that writes such a file.
        again: what to do about a damaged file.
    """

    format: str
    version: str
    what: str
    writer: str
    again: str


def pack(kind: Kind, header: Any, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a file.

    Raises:
        TypeError, ValueError: if the header is not JSON.
    """
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    # C-contiguous, like the file; np.asarray keeps a scalar's shape, ascontiguousarray does not
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    about = {"format": kind.format, "version": kind.version, "header": text, "sha256": _digest(text, arrays)}
    # safetensors orders the metadata at random: with the header written here, equal contents are equal bytes
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # each is aligned to its dtype
    table: dict[str, Any] = {"__metadata__": about}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        entry = {"dtype": _NAMES[arrays[name].dtype], "shape": arrays[name].shape, "data_offsets": [begin, end]}
        table[name] = entry
    head = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > HEADER_BYTES:
        raise ValueError(f"names and metadata of {len(head):,} bytes, more than {HEADER_BYTES:,}")
    return b"".join([len(head).to_bytes(8, "little"), head, *(_bytes(arrays[name]) for name in order)])


def unpack(
    path: str | os.PathLike[str], kind: Kind, look: Callable[[Any, Specs], None] | None = None
) -> tuple[dict[str, np.ndarray], Any]:
    """Read a file, and check that every byte is as it was written.

    Args:
        path: the file, which is opened once.
        kind: the expected kind of file.
        look: called with the header and with the shapes and dtypes of the arrays, before any of them is read; it may
            raise a ModelFileError.

    Returns:
        The arrays by name, which are read-only, and the header.

    Raises:
        ModelFileError: if it is missing, damaged, or of another kind.
    """
    path = checks.file_path(path)
    try:
        with _opened(path) as (file, described):
            about = described.get("__metadata__", {})
            if about.get("format") != kind.format:
                do = f"Pass a file written by {kind.writer}."
                refuse(path, "a file that bbb wrote", "another safetensors file", do)
            if about.get("version") != kind.version:
                refuse(path, f"version {kind.version} of the format", f"{about.get('version')!r}", "Update bbb.")
            header = json.loads(about["header"])
            if look is not None:
                look(header, _specs(described))
            arrays = _arrays(file, described)
            intact = about["sha256"] == _digest(about["header"], arrays)
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(
            f"Expected a {kind.what} at {path}, got: {error.strerror or error}. Check the path."
        ) from error
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise ModelFileError(
            f"Expected {path} to be a complete {kind.what}, got one that cannot be read: {reason}. "
            f"It was truncated, or is not a {kind.what}: {kind.again}."
        ) from error
    if not intact:
        do = f"{kind.again[0].upper()}{kind.again[1:]}."
        refuse(path, "the content that was saved", "different content (the checksum differs)", do)
    return arrays, header


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of any safetensors file, by name.

    Raises:
        Exception: one of `UNREADABLE`, if it is not a valid file.
    """
    with _opened(Path(path)) as (file, described):
        return _arrays(file, described)


def all_finite(array: np.ndarray) -> bool:
    """Return whether all elements are finite, checking a part at a time."""
    flat = array.reshape(-1)
    return all(bool(np.isfinite(flat[i : i + AT_ONCE]).all()) for i in range(0, flat.size, AT_ONCE))


def named(tree: Tree) -> dict[str, np.ndarray]:
    """Return every leaf as a NumPy array, by its name; typed keys as their key data."""
    return dict(zip(names(tree), map(_plain, jax.tree.leaves(tree)), strict=True))


def filled(path: str | os.PathLike[str], what: str, like: Tree, arrays: Mapping[str, np.ndarray], do: str) -> Tree:
    """Return a tree like `like` with the arrays of a file, as NumPy arrays, except keys.

    Raises:
        ModelFileError: if the names, shapes or dtypes of the arrays differ; `what` and `do` are parts of the message.
    """
    leaf_names, leaves = names(like), jax.tree.leaves(like)
    if set(leaf_names) != set(arrays):
        missing, extra = sorted(set(leaf_names) - set(arrays)), sorted(set(arrays) - set(leaf_names))
        parts = (f"without {missing[:3]}" if missing else "", f"with {extra[:3]} besides" if extra else "")
        refuse(path, what, f"a file {'; '.join(filter(None, parts))}", do)
    for name, leaf in zip(leaf_names, leaves, strict=True):
        array, kept = arrays[name], jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        if (kept.shape, kept.dtype) != (array.shape, array.dtype):
            expected = f"'{name}' of shape {kept.shape} and dtype {kept.dtype}"
            refuse(path, expected, f"{array.shape} and {array.dtype}", do)
    again = [_like(leaf, arrays[name]) for name, leaf in zip(leaf_names, leaves, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), again)


def refuse(path: str | os.PathLike[str], expected: str, got: str, do: str) -> NoReturn:
    """Raise the ModelFileError of a file with other content than expected."""
    raise ModelFileError(f"Expected {path} to hold {expected}, got {got}. {do}")


def _is_key(leaf: Tree) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _plain(leaf: Tree) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(leaf: Tree, array: np.ndarray) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
    """Open a regular file, check its size against its header, and yield it, at its first array, with the header."""
    # opened before it is examined, so that it cannot be replaced in between; and without blocking on a pipe
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        with open(handle, "rb", closefd=False) as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > status.st_size - 8:
                raise ValueError("its header is longer than the file")
            if length > HEADER_BYTES:
                raise ValueError(f"its header has {length:,} bytes, more than the {HEADER_BYTES:,} that are allowed")
            described = _json(file.read(length))
            end, there = _end_of_all(_entries(described).values()), status.st_size - 8 - length
            if end != there:
                raise ValueError(f"its header describes {end:,} bytes of arrays, and the file has {there:,}")
            yield file, described
    finally:
        os.close(handle)


def _entries(described: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in described.items() if name != "__metadata__"}


def _end_of_all(entries: Iterable[dict[str, Any]]) -> int:
    """Return the end of the last array, after checking that the arrays are contiguous."""
    places = sorted((entry["data_offsets"][0], _end(entry)) for entry in entries)
    reached = 0
    for begin, end in places:
        if begin != reached:
            raise ValueError(f"its header has an array at {begin:,}, but those before it end at {reached:,}")
        reached = end
    return reached


def _end(entry: dict[str, Any]) -> int:
    """Return the end of an array, after checking that its number of bytes is that of its shape."""
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if len(shape) > MAX_AXES or not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end)):
        raise ValueError("its header has an array whose shape or position is not a list of whole numbers")
    size = _DTYPES[entry["dtype"]].itemsize * math.prod(shape)
    if end - begin != size:
        raise ValueError(f"its header has an array of {size:,} bytes in {end - begin:,}")
    return end


def _json(head: bytes) -> dict[str, Any]:
    """Parse a header.

    Raises:
        ValueError: if a key is repeated, or it is not a table of arrays.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("its header has a duplicate key")
        return dict(pairs)

    header = json.loads(head.decode(), object_pairs_hook=unique)  # json would guess the encoding of bytes
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ValueError("its header is not a table of arrays")
    return header


def _specs(described: dict[str, Any]) -> Specs:
    return {
        name: jax.ShapeDtypeStruct(tuple(entry["shape"]), _DTYPES[entry["dtype"]])
        for name, entry in _entries(described).items()
    }


def _arrays(file: BinaryIO, described: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read each array into aligned memory; safetensors' NumPy reader does not support bfloat16, and copies twice."""
    arrays = {}
    for name, entry in sorted(_entries(described).items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        room = np.empty(end - begin + ALIGNMENT, np.uint8)
        first = -room.ctypes.data % ALIGNMENT
        place = room[first : first + end - begin]
        if file.readinto(place) != end - begin:  # type: ignore[attr-defined]
            raise ValueError("it was truncated while it was read")
        array = place.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        array.flags.writeable = False
        arrays[name] = array
    return arrays


def _bytes(array: np.ndarray) -> memoryview:
    """Return the bytes of a C-contiguous array without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()
