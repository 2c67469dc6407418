"""A stream on a mesh: which process reads which share of each batch, and what all have to agree on."""

import zlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bbb.core.rows import apart
from bbb.devices import hosts
from bbb.errors import InputError, fail
from bbb.train.data.stream import Stream


def share_of(mesh: Mesh | None) -> tuple[int, int]:
    """Return which share of each batch this process reads, and how many there are: of rows in the order of the mesh.

    Args:
        mesh: of an axis "batch"; None for the default device.

    Raises:
        InputError: if the processes of several do not each hold a part of the axis "batch" to itself, all of one size.
    """
    if mesh is None:
        return 0, 1
    along = np.moveaxis(mesh.devices, mesh.axis_names.index("batch"), 0).reshape(mesh.shape["batch"], -1)
    owners = [{device.process_index for device in column} for column in along]
    processes = hosts.processes(mesh)
    even, rest = divmod(len(owners), len(processes))
    if rest or owners != [{process} for process in processes for _ in range(even)]:
        got = f"processes {', '.join('+'.join(map(str, sorted(each))) for each in owners)} along it"
        do = 'Pass for example jax.sharding.Mesh(jax.devices(), ("batch",)), or x and y.'
        fail(InputError, 'each process to hold a part of axis "batch" to itself, for data, all of one size', got, do)
    return processes.index(jax.process_index()), len(processes)


def check_alike(stream: Stream, steps: int | None, mesh: Mesh | None) -> None:
    """Raise an error in every process if their streams differ in more than their rows.

    Raises:
        InputError: naming what differs.
    """
    rows, shared = apart(stream.first)
    facts: dict[str, Any] = {
        "num_data": stream.num_data,
        "rows of the first batch": stream.size,
        "steps": "the default" if steps is None else steps,
        "structure, shapes and dtypes of batches": _like(rows),
        "arrays that rows share": [(leaf.shape, zlib.crc32(leaf.tobytes())) for leaf in _arrays(shared)],
    }
    digests = [zlib.crc32(repr(fact).encode()) >> 1 for fact in facts.values()]
    each = hosts.all_gather_numbers(digests, mesh)
    for (name, own), column in zip(facts.items(), each.T, strict=True):
        if (column != column[0]).any():
            of = hosts.processes(mesh)
            first, other = of[0], of[int(np.argmax(column != column[0]))]
            got = f"others in process {other} than in process {first}"
            got += f", here {own}" if isinstance(own, int | str) else ""
            do = "Give each process its share of every batch, of as many rows, and else the same arguments."
            fail(InputError, f"the same {name} in every process, for data", got, do)


def _like(rows: Any) -> str:
    leaves, structure = jax.tree.flatten(rows)
    return f"{structure} {[(leaf.shape[1:], str(leaf.dtype)) for leaf in leaves]}"


def _arrays(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
