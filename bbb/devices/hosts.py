"""Processes on several hosts: what they agree on, and how they wait for each other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bbb.devices.layout import to_host
from bbb.devices.mesh import in_line, is_local
from bbb.errors import HostError, fail


def all_gather_numbers(numbers: Sequence[int], mesh: Mesh | None) -> np.ndarray:
    """Exchange whole numbers between processes, and return those of each, (processes, numbers), in mesh order.

    With a single process there is no communication.
    """
    own = np.array([numbers], np.int32)
    if mesh is None or is_local(mesh):
        return own
    line = in_line(mesh, "all")
    shape, spread_out = (line.size, own.shape[1]), NamedSharding(line, P("all"))
    each = to_host(jax.make_array_from_callback(shape, spread_out, lambda _: own), line)
    return each[[i for i, _ in _first_devices(mesh)]]


def all_gather_bytes(own: bytes, mesh: Mesh | None) -> list[bytes]:
    """Exchange bytes between processes, and return those of each, in mesh order."""
    lengths = all_gather_numbers([len(own)], mesh)[:, 0]
    words = -(-int(lengths.max()) // 4)
    padded = own.ljust(4 * words, b"\0")
    each = all_gather_numbers(np.frombuffer(padded, np.int32).tolist(), mesh)
    return [row.tobytes()[:length] for row, length in zip(each, lengths, strict=True)]


def processes(mesh: Mesh | None) -> list[int]:
    """Return the processes whose devices a mesh has, in mesh order; without a mesh, this one."""
    return [jax.process_index()] if mesh is None else [process for _, process in _first_devices(mesh)]


def _first_devices(mesh: Mesh) -> list[tuple[int, int]]:
    """Return the position of the first device of each process in the mesh, and the process."""
    processes = [device.process_index for device in mesh.devices.flat]
    return [(processes.index(process), process) for process in dict.fromkeys(processes)]


@contextmanager
def together(mesh: Mesh | None) -> Iterator[None]:
    """Run a block that may fail in one process, and stop the others if it does: they would wait for it forever.

    Raises:
        HostError: in the processes in which it did not fail.
    """
    try:
        yield
    except Exception:
        all_gather_numbers([1], mesh)
        raise
    failed = all_gather_numbers([0], mesh)[:, 0] > 0
    if failed.any():
        _, process = _first_devices(mesh)[int(np.argmax(failed))]  # type: ignore[arg-type]
        do = "See the error message of that process."
        fail(HostError, "every process to continue", f"an error in process {process}", do)


@contextmanager
def joined(mesh: Mesh | None) -> Iterator[None]:
    """Turn the error that JAX raises when another process is lost into one that says what to do.

    Raises:
        HostError: in place of JAX's error, if the mesh has devices of several processes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if mesh is None or is_local(mesh):
            raise
        first = str(error).strip().split("\n", maxsplit=1)[0]
        raise HostError(
            f"Expected all {len(_first_devices(mesh))} processes to run to the end, got from JAX: {first}. "
            "If one was lost, start all of them again; training continues from its checkpoints with resume=True."
        ) from error
