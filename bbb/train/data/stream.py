"""Batches from a stream: what a loader, a generator or any other iterable gives, each checked against the first."""

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np

from bbb import checks
from bbb.core.rows import count_rows, map_rows
from bbb.core.tree import names
from bbb.data import pair_for, target_for, weights_for
from bbb.errors import BBBError, InputError, ShapeError, fail
from bbb.model import BNN
from bbb.tracing.rows import refuse_mixed_rows
from bbb.train.data.passes import Passes
from bbb.train.data.rows import Data, check_trainable
from bbb.train.data.states import Place
from bbb.train.plan import DEFAULT_STEPS

EXAMPLE = "data=[(x, y)], a DataLoader, or a function that returns an iterator of pairs (x, y) for a pass"


class Stream:
    """A stream of batches to train a model on, or one process's share of them.

    Attributes:
        num_data: rows of the whole data set.
        processes: how many have a share of each batch.
        size: the most rows that a batch has here: those of the first.
        first: the batch that was read first, as the model takes it.
        begun: its number; above 0 where the stream went on from a checkpoint by its own state.
    """

    def __init__(
        self,
        model: BNN,
        data: Any,
        num_data: Any,
        steps: int | None = None,
        epochs: int | None = None,
        place: Place | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if num_data is None:
            do = "Pass num_data=, the rows of the whole data set, which the bound is for."
            fail(InputError, "num_data with data", "none", do)
        self.num_data = checks.positive_integer("num_data", num_data)
        if isinstance(data, str | bytes | dict) or not (callable(data) or isinstance(data, Iterable)):
            fail(InputError, "data to be an iterable of batches (x, y)", f"a {type(data).__name__}", f"Pass {EXAMPLE}.")
        check_trainable(model)
        self._model, self._data = model, data
        self._given = Passes(data)
        process, self.processes = share
        self.begun = 0
        if place is not None:
            self.size = place.size
            count = self.steps(steps, epochs)
            count = DEFAULT_STEPS if count is None else checks.positive_integer("steps", count)
            if place.step < count:  # else no more is read than the first, for shapes
                self.begun = self._go_to(place, process)
        self._raw = self._next(self.begun)
        self.first = self._checked(self._raw, self.begun)
        if not self.begun:
            self.size = count_rows(self.first.y)
        do = "Train on all rows at once: pass x and y."
        refuse_mixed_rows(model.apply, model.posterior.params, self.first.x, "batches hold some rows only", do)

    @property
    def whole(self) -> Data:
        """A batch of all processes: the first one read; or if that is a part, as many of its first row, for shapes."""
        rows = self.size * self.processes
        if count_rows(self.first.y) == rows:
            return self.first
        return map_rows(lambda leaf: np.broadcast_to(np.asarray(leaf)[:1], (rows, *leaf.shape[1:])), self.first)

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
        of_pass = len(self._data) if known else math.ceil(self.num_data / (self.size * self.processes))
        return checks.positive_integer("epochs", epochs) * of_pass

    def batches(self, skipped: int) -> Iterator[Data]:
        """Yield batches without end, after so many that are passed over.

        Raises:
            BBBError: at a batch that does not fit the first, or where there is none.
        """
        for number in itertools.count(self.begun):
            raw = self._next(number) if number > self.begun else self._raw
            if number >= skipped:
                yield self._checked(raw, number) if number > self.begun else self.first

    def place(self) -> str | None:
        """Return where the stream stands after the last batch, as JSON; None if it has no state of its own.

        Raises:
            InputError: if its state cannot be written, or it does not return it.
        """
        try:
            place = self._given.place()
        except BBBError:
            raise
        except Exception as error:
            do = "Look at the code that returns its state."
            raise InputError(f"Expected data to say where it stands, got {described(error)}. {do}") from error
        return None if place is None else json.dumps(place)

    def _go_to(self, place: Place, process: int) -> int:
        """Go to where a checkpoint stands, and return its step; or 0 if the stream has no state of its own.

        Raises:
            InputError: if the checkpoint is of another number of processes, or its state not one of this stream's.
        """
        if len(place.streams) != self.processes:
            got = f"those of {len(place.streams)}"
            do = "Start as many processes as that run had, or name another folder of checkpoints."
            fail(InputError, f"checkpoints of the streams of {self.processes} processes", got, do)
        own = place.streams[process]
        if own is None:
            return 0
        try:
            return place.step if self._given.go_to(own) else 0
        except Exception as error:
            raise InputError(
                f"Expected data to go on from the state in the checkpoint, got {described(error)}. "
                "Pass the data of that run, or name another folder of checkpoints."
            ) from error

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
            got = described(error, " from where it comes")
            do = "Look at the code that makes the batches."
            raise InputError(f"Expected batch {number:,} of data, got {got}. {do}") from error

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
        if number == self.begun:
            self._like = given
        if number:
            _check_like(self._like, given, number, self.size)
        return Data(x, target_for(self._model, x, y), weights)


def is_stream(x: Any, y: Any, data: Any, num_data: Any, **arrays_only: Any) -> bool:
    """Return whether `data` is given, and not x and y.

    Args:
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
        return False
    if x is not None or y is not None:
        fail(InputError, "x and y, or data", "both", "Pass one of them.")
    for name, given in arrays_only.items():
        if given is not None:
            fail(InputError, f"no {name} with data", repr(given)[:60], _INSTEAD[name])
    return True


_INSTEAD = {
    "sample_weight": "Make batches of three, (x, y, sample_weight).",
    "batch_size": "Leave it out: the batches of data are those of the training.",
    "validation": "Pass rows to score, validation=(x, y): a stream is not known before it is read.",
    "anchored": "Pass x and y: the noise of an anchored member is that of each row, which a stream does not number.",
}


def described(error: Exception, where: str = "") -> str:
    """Return the type of an error, and the first line of its message."""
    reason = (str(error).strip().splitlines() or ["without a message"])[0].rstrip(".")
    return f"{type(error).__name__}{where}: {reason}"


def _as_tuples(value: Any) -> Any:
    """Return lists of arrays, which loaders make of tuples, as tuples: a list of numbers is an array."""
    if isinstance(value, list) and value and all(getattr(part, "shape", ()) for part in value):
        return tuple(value)
    return value


def _check_like(first: Data, batch: Data, number: int, most: int) -> None:
    """Check that a batch is like the first, of at most so many rows.

    Raises:
        ShapeError, InputError: naming the batch and the leaf.
    """
    for part in ("x", "sample_weight"):
        like, own = (str(jax.tree.structure(getattr(one, part))) for one in (first, batch))
        if like != own:
            _differs(number, part, f"the structure of the first, {like}", own)
    rows, of_first = count_rows(batch.y), count_rows(first.y)
    if rows > most:
        _differs(number, "", f"at most the {most:,} rows of the first", f"{rows:,}")
    pairs = zip(names(batch), jax.tree.leaves(batch), jax.tree.leaves(first), strict=True)
    for path, leaf, like in pairs:
        shape, expected = _of_row(leaf, rows), _of_row(like, of_first)
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
