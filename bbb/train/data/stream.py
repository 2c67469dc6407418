"""Batches from a stream: what a loader, a generator or any other iterable gives, in buffers for the compiled steps.

A pass over the stream follows the one before. A thread fills the next buffer while the device computes with this one.
Every batch is checked against the first, whose shapes the program is compiled for; one of fewer rows, such as the last
of a pass, is filled up with copies of its last row, which count for nothing.
"""

import itertools
import math
import queue
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from bbb import checks
from bbb.core.rows import count_rows, map_rows
from bbb.core.tree import names
from bbb.data import pair_for, target_for, weights_for
from bbb.errors import BBBError, InputError, ShapeError, StreamError, fail
from bbb.model import BNN
from bbb.tracing.rows import refuse_mixed_rows
from bbb.train.data.rows import Data, check_trainable

BUFFER_BYTES = 2**25
"""Most bytes of a buffer, unless one batch is more; two of them are held at once."""


MOST_BATCHES = 64
"""Most batches of a buffer."""


EXAMPLE = "data=[(x, y)], a DataLoader, or a function that returns an iterator of pairs (x, y) for a pass"

MODEL_KEPT = "What was trained before it is this error's .model, and its .history is that of those steps."


class Buffer(NamedTuple):
    """Some batches of a stream.

    Attributes:
        data: each leaf (size, rows, ...).
        counts: (size, rows), False for what fills a batch up.
        batches: how many there are; the rest of the buffer repeats the last.
    """

    data: Data
    counts: jax.Array
    batches: int


class Stream:
    """A stream of batches to train a model on.

    Attributes:
        num_data: rows of the whole data set.
        first: the first batch, as the model takes it.
    """

    def __init__(self, model: BNN, data: Any, num_data: Any) -> None:
        if num_data is None:
            do = "Pass num_data=, the rows of the whole data set, which the bound is for."
            fail(InputError, "num_data with data", "none", do)
        self.num_data = checks.positive_integer("num_data", num_data)
        if isinstance(data, str | bytes | dict) or not (callable(data) or isinstance(data, Iterable)):
            fail(InputError, "data to be an iterable of batches (x, y)", f"a {type(data).__name__}", f"Pass {EXAMPLE}.")
        check_trainable(model)
        self._model, self._data = model, data
        self._given = _passes(data)
        self._raw = self._next(0)
        self.first = self._checked(self._raw, 0)
        do = "Train on all rows at once: pass x and y."
        refuse_mixed_rows(model.apply, model.posterior.params, self.first.x, "batches hold some rows only", do)

    def steps(self, steps: int | None, epochs: Any) -> int | None:
        """Return the steps of so many passes, each of len(data) batches, or as many as hold all rows; or the steps.

        Raises:
            InputError: for both, or a number below 1.
        """
        if epochs is None:
            return steps
        if steps is not None:
            fail(InputError, "steps or epochs", "both", "Pass one of them.")
        known = hasattr(self._data, "__len__")
        of_pass = len(self._data) if known else math.ceil(self.num_data / count_rows(self.first.y))
        return checks.positive_integer("epochs", epochs) * of_pass

    def batches(self, skipped: int) -> Iterator[Data]:
        """Yield batches without end, after so many that are passed over.

        Raises:
            BBBError: at a batch that does not fit the first, or where there is none.
        """
        for number in itertools.count():
            raw = self._next(number) if number else self._raw
            if number >= skipped:
                yield self._checked(raw, number) if number else self.first

    def _next(self, number: int) -> Any:
        try:
            return next(self._given)
        except StopIteration:
            do = "Pass a list, a loader, or a function that returns a new iterator for each pass; or fewer steps."
            if not number:
                fail(InputError, "data to hold at least one batch (x, y)", "none", do)
            fail(InputError, "batches for every step", f"an end after {number:,}", do)
        except BBBError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["without a message"])[0].rstrip(".")
            raise InputError(
                f"Expected batch {number:,} of data, got {type(error).__name__} from where it comes: {reason}. "
                "Look at the code that makes the batches."
            ) from error

    def _checked(self, raw: Any, number: int) -> Data:
        """Return a batch in the model's dtype.

        Raises:
            InputError, ShapeError, NonFiniteInputError: naming the batch.
        """
        where = f" of batch {number:,}"
        if not isinstance(raw, tuple | list) or len(raw) not in (2, 3):
            got = f"{len(raw)} parts" if isinstance(raw, tuple | list) else f"a {type(raw).__name__}"
            do = "Make pairs of them: ((batch['x'], batch['y']) for batch in data)."
            fail(InputError, f"batch {number:,} of data to be (x, y) or (x, y, sample_weight)", got, do)
        x, y = pair_for(self._model, _as_tuples(raw[0]), raw[1], where)
        weights = weights_for(self._model, raw[2] if len(raw) == 3 else None, count_rows(y), of_batch=True)
        given = Data(x, y, weights)
        if not number:
            self._like = given
        _check_like(self._like, given, number)
        return Data(x, target_for(self._model, x, y), weights)


class Feed:
    """Buffers of a stream, one ahead of what is asked for."""

    def __init__(self, stream: Stream, steps: int) -> None:
        self._stream, self._steps = stream, steps
        each = sum(leaf.nbytes for leaf in jax.tree.leaves(stream.first))
        self.size = max(1, min(MOST_BATCHES, steps, BUFFER_BYTES // max(1, each)))
        self._made: queue.Queue[Buffer | BaseException] = queue.Queue(maxsize=1)
        self._closed = threading.Event()

    def template(self) -> Buffer:
        """Return a buffer of the first batch alone, for shapes."""
        return _buffer([self._stream.first], self.size, count_rows(self._stream.first.y))

    def start(self, done: int) -> None:
        """Begin to fill buffers with the batch after so many."""
        wide = jax.dtypes.canonicalize_dtype(float) == np.float64  # which a context may set, for its own thread alone
        threading.Thread(target=self._fill, args=(done, wide), daemon=True, name="bbb batches").start()

    def buffer(self) -> Buffer:
        """Return the next buffer.

        Raises:
            StreamError: at the batch that does not fit, or is not there.
        """
        made = self._made.get()
        if isinstance(made, Buffer):
            return made
        if isinstance(made, BBBError):
            raise StreamError(f"{made} {MODEL_KEPT}") from made
        raise made

    def close(self) -> None:
        """Let the thread end after the batch that it waits for."""
        self._closed.set()

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
        rows, batches, left = count_rows(self._stream.first.y), self._stream.batches(done), self._steps - done
        while left and not self._closed.is_set():
            some: list[Data] = []
            try:
                for batch in itertools.islice(batches, min(self.size, left)):
                    some.append(batch)
            finally:
                if some:
                    self._put(_buffer(some, self.size, rows))
            left -= len(some)

    def _put(self, made: Buffer | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._made.put(made, timeout=0.1)
            except queue.Full:
                continue
            return


def stream_of(model: BNN, x: Any, y: Any, data: Any, num_data: Any, **arrays_only: Any) -> Stream | None:
    """Return the stream of `data`, or None where x and y are given.

    Args:
        model: what is trained.
        x: as for `fit`.
        y: as for `fit`.
        data: as for `fit`.
        num_data: as for `fit`.
        arrays_only: options that need all rows, by name; None where one is not asked for.

    Raises:
        InputError: for neither or both, or an option that needs all rows.
    """
    if data is None:
        if num_data is not None:
            do = "Leave it out: the rows of x and y are counted."
            fail(InputError, "num_data with data alone", f"{num_data!r} with x and y", do)
        if x is None and y is None:
            fail(InputError, "x and y, or data", "none", f"Pass arrays of all rows; or {EXAMPLE}, and num_data.")
        return None
    if x is not None or y is not None:
        fail(InputError, "x and y, or data", "both", "Pass one of them.")
    for name, given in arrays_only.items():
        if given is not None:
            fail(InputError, f"no {name} with data", repr(given)[:60], _INSTEAD[name])
    return Stream(model, data, num_data)


_INSTEAD = {
    "sample_weight": "Make batches of three, (x, y, sample_weight).",
    "batch_size": "Leave it out: the batches of data are those of the training.",
    "placement": "Leave it out, or pass x and y.",
    "validation": "Pass rows to score, validation=(x, y): a stream is not known before it is read.",
    "anchored": "Pass x and y: the noise of an anchored member is that of each row, which a stream does not number.",
}


def _passes(data: Any) -> Iterator[Any]:
    """Yield the batches of pass after pass, until one has none."""
    for epoch in itertools.count():
        some = False
        for batch in data if isinstance(data, Iterable) else data(epoch):
            some = True
            yield batch
        if not some:
            return


def _as_tuples(value: Any) -> Any:
    """Return lists of arrays, which loaders make of tuples, as tuples: a list of numbers is an array."""
    if isinstance(value, list) and value and all(getattr(part, "shape", ()) for part in value):
        return tuple(value)
    return value


def _check_like(first: Data, batch: Data, number: int) -> None:
    """Check that a batch is like the first, of as many rows or fewer.

    Raises:
        ShapeError, InputError: naming the batch and the leaf.
    """
    for part in ("x", "sample_weight"):
        like, own = (str(jax.tree.structure(getattr(one, part))) for one in (first, batch))
        if like != own:
            _differs(number, part, f"the structure of the first, {like}", own)
    rows, most = count_rows(batch.y), count_rows(first.y)
    if rows > most:
        _differs(number, "", f"at most the {most:,} rows of the first", f"{rows:,}")
    pairs = zip(names(batch), jax.tree.leaves(batch), jax.tree.leaves(first), strict=True)
    for path, leaf, like in pairs:
        shape, expected = _of_row(leaf, rows), _of_row(like, most)
        if shape != expected:
            _differs(number, path, f"rows of the shape {expected} of the first", f"{shape}")
        if leaf.dtype != like.dtype:
            _differs(number, path, f"the dtype {like.dtype} of the first", f"{leaf.dtype}")


def _of_row(leaf: Any, rows: int) -> tuple[int, ...]:
    shape: tuple[int, ...] = leaf.shape
    return shape[1:] if shape and shape[0] == rows else shape


def _differs(number: int, path: str, expected: str, got: str) -> NoReturn:
    where = f"'{path}' of batch {number:,}" if path else f"batch {number:,}"
    do = "Make all batches alike; the first has the most rows, and the last of a pass may have fewer."
    fail(ShapeError, f"{where} to have {expected}", got, do)


def _buffer(batches: list[Data], size: int, rows: int) -> Buffer:
    """Return batches as one buffer on the device."""
    given = np.asarray([count_rows(batch.y) for batch in batches])
    filled = [map_rows(partial(_filled, rows=rows), batch) for batch in batches]
    filled += filled[-1:] * (size - len(batches))
    data = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
    counts = np.arange(rows) < np.resize(given, size)[:, None]
    data, counts = jax.device_put((data, counts))
    return Buffer(data, counts, len(batches))


def _filled(leaf: Any, rows: int) -> np.ndarray:
    array = np.asarray(leaf)
    missing = rows - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
