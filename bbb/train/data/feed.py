"""Buffers of a stream's batches for the compiled steps, on one device or over a mesh.

A thread fills the next buffer while the device computes with this one. A batch of fewer rows than the first, such as
the last of a pass, is filled up with copies of its last row, which count for nothing. On several hosts each process
reads its own share of every batch, and they agree on each buffer, and on where the first of their streams ends.
"""

import itertools
import queue
import threading
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from bbb.core.rows import count_rows, map_rows
from bbb.devices import hosts
from bbb.devices import layout as layout_module
from bbb.errors import BBBError, StreamError
from bbb.train.data.rows import Data
from bbb.train.data.stream import Stream

BUFFER_BYTES = 2**25
"""Most bytes of a buffer, unless one batch is more; two of them are held at once."""


MOST_BATCHES = 64
"""Most batches of a buffer."""


MODEL_KEPT = "What was trained before it is this error's .model, and its .history is that of those steps."


class Buffer(NamedTuple):
    """Some batches of a stream.

    Attributes:
        data: each leaf (size, rows, ...).
        counts: (size, rows), False for what fills a batch up.
        batches: how many there are; the rest of the buffer repeats the last.
        places: where the stream stands after each, if that is kept and known.
    """

    data: Data
    counts: jax.Array
    batches: int
    places: list[str | None]


class Feed:
    """Buffers of a stream, one ahead of what is asked for.

    Args:
        stream: the stream, or this process's share of it.
        steps: how many batches will be asked for, from the first.
        mesh: devices to spread the rows of each batch over, along its axis "batch"; None for the default device.
        keeps_places: whether checkpoints will ask where the stream stands.
    """

    def __init__(self, stream: Stream, steps: int, mesh: Mesh | None = None, keeps_places: bool = False) -> None:
        self.stream, self._steps, self._mesh, self._keeps_places = stream, steps, mesh, keeps_places
        each = sum(leaf.nbytes for leaf in jax.tree.leaves(stream.whole)) // stream.processes
        self.size = max(1, min(MOST_BATCHES, steps, BUFFER_BYTES // max(1, each)))
        self._made: queue.Queue[Buffer | BaseException] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        self._given = 0  # batches that were handed out
        self._is_cut = False  # whether another process has none for the last ones here

    def template(self) -> Buffer:
        """Return a buffer of the first batch alone, for shapes."""
        data, counts = jax.device_put(_stacked([self.stream.first], self.size, self.stream.size))
        return Buffer(data, counts, 1, [None])

    def start(self, done: int) -> None:
        """Begin to fill buffers with the batch after so many."""
        self._given = done
        wide = jax.dtypes.canonicalize_dtype(float) == np.float64  # which a context may set, for its own thread alone
        threading.Thread(target=self._fill, args=(done, wide), daemon=True, name="bbb batches").start()

    def buffer(self) -> Buffer:
        """Return the next buffer, of as many batches in every process.

        Raises:
            StreamError: at the batch that does not fit, or is not there, here or in another process.
            HostError: if another process meets another error.
        """
        made, error = None, None
        with hosts.together(self._mesh):
            try:
                made = None if self._is_cut else self._own()
            except StreamError as found:
                error = found
        here = 0 if made is None else made.batches
        each = hosts.all_gather_numbers([here, int(error is not None)], self._mesh)
        if error is not None:
            raise error
        if made is None or each[:, 1].any():
            process = hosts.processes(self._mesh)[int(np.argmax(each[:, 1]))]
            raise StreamError(
                f"Expected batch {self._given:,} of data in every process, got an error in process {process}. "
                f"See the error message of that process. {MODEL_KEPT}"
            )
        common = int(each[:, 0].min())
        self._is_cut = common < here
        self._given += common
        return made._replace(batches=common)

    def close(self) -> None:
        """Let the thread end after the batch that it waits for."""
        self._closed.set()

    def _own(self) -> Buffer:
        """Return the next buffer of this process.

        Raises:
            StreamError: at the batch that does not fit, or is not there.
        """
        made = self._made.get()
        if isinstance(made, Buffer):
            return made
        if isinstance(made, BBBError):
            raise StreamError(f"{made} {MODEL_KEPT}") from made
        raise made

    def _fill(self, done: int, wide: bool) -> None:
        try:
            with jax.enable_x64(wide):
                self._fill_from(done)
        except BaseException as error:  # which the thread that waits has to know of
            self._put(error)

    def _fill_from(self, done: int) -> None:
        """Fill buffers; those before a batch that does not fit are trained on.

        Raises:
            BBBError: at that batch.
        """
        batches, left = self.stream.batches(done), self._steps - done
        while left and not self._closed.is_set():
            some: list[Data] = []
            places: list[str | None] = []
            try:
                for batch in itertools.islice(batches, min(self.size, left)):
                    places.append(self.stream.place() if self._keeps_places else None)
                    some.append(batch)
            finally:
                if some:
                    data, counts = _stacked(some, self.size, self.stream.size)
                    data, on_device = self._laid_out(data, counts)
                    self._put(Buffer(data, on_device, len(some), places))
            left -= len(some)

    def _laid_out(self, data: Data, counts: np.ndarray) -> tuple[Data, jax.Array]:
        """Put a buffer on the device; on a mesh, the rows of each batch over the devices of "batch"."""
        if self._mesh is None:
            return jax.device_put((data, counts))
        return layout_module.put_shares(self._mesh, (data, counts), P(None, "batch"))

    def _put(self, made: Buffer | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._made.put(made, timeout=0.1)
            except queue.Full:
                continue
            return


def _stacked(batches: list[Data], size: int, rows: int) -> tuple[Data, np.ndarray]:
    """Return batches as leaves (size, rows, ...), and which rows count."""
    given = np.asarray([count_rows(batch.y) for batch in batches])
    filled = [map_rows(partial(_filled, rows=rows), batch) for batch in batches]
    filled += filled[-1:] * (size - len(batches))
    data = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
    return data, np.arange(rows) < np.resize(given, size)[:, None]


def _filled(leaf: Any, rows: int) -> np.ndarray:
    array = np.asarray(leaf)
    missing = rows - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
