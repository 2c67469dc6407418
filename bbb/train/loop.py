"""The part of training that is not compiled: chunk by chunk, so that it can report, save, be interrupted, and stop."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from bbb.core.noise import SMALL
from bbb.core.tree import Tree, count
from bbb.devices import hosts
from bbb.errors import ModelFileError, StreamError, fail
from bbb.model import BNN
from bbb.storage import signals as signals_module
from bbb.train.checkpoints.policy import CheckpointPolicy, agreed, first_save, leave, next_save, resumed
from bbb.train.checkpoints.snapshot import TrainingSnapshot
from bbb.train.data.feed import Buffer, Feed
from bbb.train.data.states import Place
from bbb.train.history import History, history_of, joined
from bbb.train.nonfinite import nonfinite_loss
from bbb.train.steps.sharding import MeshLayout, model_home, readable, sharded_inputs, sharded_recipe, sharded_state
from bbb.train.steps.state import (
    Recipe,
    Streamed,
    TrainInputs,
    TrainState,
    finite_leaves,
    initial_state,
    model_at,
    with_trainable,
)
from bbb.train.steps.step import run_chunk
from bbb.train.validation import Best, ValidationSet, is_over, observe, on_mesh

CHUNK_SECONDS = 0.5
"""What a chunk is sized to take, so that Ctrl-C, the bar and a bad loss are answered soon."""


MAX_GROWTH = 8
"""How many times the last chunk the next one may be: the time of a short one says little of a long one's."""


def train(
    inputs: TrainInputs,
    recipe: Recipe,
    steps: int,
    progress: bool | None,
    *,
    validation: ValidationSet | None = None,
    policy: CheckpointPolicy | None = None,
    layout: MeshLayout | None = None,
    feed: Feed | None = None,
) -> tuple[BNN, History]:
    """Train chunk by chunk; return the trained model (with validation, the best) and the history.

    On a mesh of several hosts each process does the same chunks, and the first one writes checkpoints.

    Raises:
        InputError, ModelFileError: from checkpoints.
        WriteError: if one cannot be written; it holds the model and the history as far as they came.
        HostError: if another process fails, gets a signal to leave, or is lost.
        NonFiniteLossError: at a loss, a parameter or an optimiser's state that is not finite.
        StreamError: at a batch that does not fit, or is not there; it holds the model and the history so far.
    """
    trainer = Trainer(inputs, recipe) if feed is None else StreamTrainer(inputs, recipe, feed)
    best = trainer.resume(policy, steps, layout)
    trainer.spread_over(layout)
    validation = on_mesh(validation, layout)
    save_at = first_save()
    with (
        contextlib.closing(trainer),
        _bar(steps, trainer.done, progress) as bar,
        signals_module.deferred(policy is not None) as signals,
    ):
        while trainer.done < steps and not is_over(best, validation):
            done = trainer.done
            until = min(steps, done + trainer.size, *_next_stops(done, validation, policy))
            with trainer.kept_in_errors(best):
                seconds = trainer.advance(until)
            due = policy is not None and policy.is_due(trainer.done, steps, save_at)
            seconds, due, leaving = agreed(seconds, due, bool(signals.came), trainer.recipe.mesh)
            bar.update(trainer.done - done)
            trainer.check_finite(best)
            if validation and trainer.done % validation.every == 0:
                best = trainer.scored(best, validation)
            trainer.resize(trainer.done - done, seconds)
            if policy and (due or leaving or is_over(best, validation)):
                saving = time.monotonic()
                policy.save(trainer.snapshot(best), trainer.recipe, inputs.model)
                save_at = next_save(saving, time.monotonic())
            if leaving:
                leave(signals, trainer.done)
    if not is_over(best, validation) and best.steps[-1:] != (trainer.done,):
        best = trainer.scored(best, validation)  # not in a checkpoint: more steps would not score here
    return trainer.model(best, validation), trainer.history(best, trainer.done)


class Trainer:
    """A training under way: its state, the record of its steps, and the program that takes it on by a chunk."""

    def __init__(self, inputs: TrainInputs, recipe: Recipe) -> None:
        self.inputs = inputs
        self.state = initial_state(inputs, recipe)
        self.recipe = recipe._replace(watched=finite_leaves(self.state.member.optimizer_state))
        self.records: list[Tree] = []
        self.done = 0
        self.size = recipe.block  # steps of the next chunk, at most
        self._large = count(inputs.model.posterior.params) > SMALL
        self._before = self._began = self.state  # where the chunk before this one began, and this one

    def resume(self, policy: CheckpointPolicy | None, steps: int, layout: MeshLayout | None) -> Best:
        """Go on from the newest checkpoint, if there is one; return the best that validation saw."""
        start = TrainingSnapshot(self.state, Best.none(self.state, self.inputs.key.shape), None)

        def record_of() -> Tree:
            return jax.eval_shape(lambda state: self.run(state, 0), self.state)[1]

        found = resumed(policy, start, record_of, steps, layout and layout.mesh)
        self.state, self.done = found.state, int(found.state.step)
        self.records = [] if found.record is None else [found.record]
        return found.best

    def spread_over(self, layout: MeshLayout | None) -> None:
        """Lay all that training needs out over a mesh, if there is one."""
        if layout is not None:
            self.state = sharded_state(layout, self.state, self.recipe)
            inputs, recipe = self.inputs, self.recipe
            self.inputs = sharded_inputs(layout, inputs, recipe)
            self.recipe = sharded_recipe(layout, inputs, recipe, self.state)
        self._before = self._began = self.state

    def close(self) -> None:
        """Let go of what training holds besides memory."""

    @contextlib.contextmanager
    def kept_in_errors(self, best: Best) -> Iterator[None]:
        """Within it, the error of a stream gets what was trained so far."""
        try:
            yield
        except StreamError as error:
            chosen = with_trainable(self.inputs.model, best.trainable, best.running)
            chosen = chosen if best.steps else model_at(self.inputs, self.state)
            error.model = model_home(chosen, self.recipe)
            error.history = self.history(best, self.done) if self.records else None
            raise

    def run(self, state: TrainState, until: int) -> tuple[TrainState, Any]:
        """Train from a state up to a step; return the state, and the record of each step done."""
        return run_chunk(state, self.inputs, np.int32(until), recipe=self.recipe, large=self._large)

    def advance(self, until: int) -> float:
        """Train up to a step, or to the first bad one; return the seconds that it took."""
        started, done = time.perf_counter(), self.done
        self._began = self.state
        self.state, record = self.run(self.state, until)
        self.done = int(self.state.step)  # waits for the device
        seconds = time.perf_counter() - started
        self.records.append(jax.tree.map(lambda leaf: np.asarray(leaf)[: self.done - done], record))
        return seconds

    def check_finite(self, best: Best) -> None:
        """Raise an error if the last chunk ended at numbers that are not finite.

        Raises:
            NonFiniteLossError: naming the step and the first such number.
        """
        if not bool(self.state.healthy):
            history = partial(self.history, best)
            raise nonfinite_loss(self.inputs, self.recipe, self.run, self._before, self.state, history)
        self._before = self._began

    def resize(self, steps: int, seconds: float) -> None:
        """Size the next chunk by the time that the last one took for so many steps."""
        if steps == self.size or seconds > CHUNK_SECONDS:  # else it was cut short, which says little of the time
            growth = MAX_GROWTH if MAX_GROWTH * seconds < CHUNK_SECONDS else CHUNK_SECONDS / seconds
            size = self.size * growth
            self.size = int(min(self.recipe.chunk, max(1, size)))

    def scored(self, best: Best, validation: ValidationSet | None) -> Best:
        """Return the best after the model as it stands was scored on a validation set, if there is one."""
        return observe(best, self.inputs, readable(self.state, self.recipe), validation, self.recipe)

    def snapshot(self, best: Best) -> TrainingSnapshot:
        """Return what a checkpoint holds."""
        return TrainingSnapshot(self.state, best, joined(self.records))

    def history(self, best: Best, steps: int) -> History:
        """Return the history of the first so many steps."""
        return history_of(self.records, self.recipe, best, steps)

    def model(self, best: Best, validation: ValidationSet | None) -> BNN:
        """Return the trained model on the first device; with validation, the best one."""
        if validation is None:
            return model_home(model_at(self.inputs, self.state), self.recipe)
        return model_home(with_trainable(self.inputs.model, best.trainable, best.running), self.recipe)


class StreamTrainer(Trainer):
    """A training on batches from a stream, of which a buffer is on the device."""

    def __init__(self, inputs: TrainInputs, recipe: Recipe, feed: Feed) -> None:
        super().__init__(inputs, recipe)
        self._feed = feed
        self._first = self._end = 0  # the steps of the buffer
        self._places: list[str | None] = []  # where the stream stands after each
        self._take(feed.template())

    def resume(self, policy: CheckpointPolicy | None, steps: int, layout: MeshLayout | None) -> Best:
        """Go on from the newest checkpoint, if there is one, and pass over the batches before it that are yet to come.

        Raises:
            InputError, ModelFileError: from checkpoints; or if the stream went on from one that cannot be read.
        """
        best = super().resume(policy, steps, layout)
        begun = self._feed.stream.begun
        if begun > self.done:
            got, do = f"damage in that of step {begun:,}", "Remove that file, to go on from the one before."
            fail(ModelFileError, "the newest checkpoint to be whole, from whose state the stream went on", got, do)
        self._first = self._end = self.done
        self._feed.start(self.done)
        return best

    def advance(self, until: int) -> float:
        """Train up to a step, or to the end of the buffer, or to the first bad step; return the seconds that it took.

        Raises:
            StreamError: if there is no next batch that fits.
        """
        if self.done == self._end:
            buffer = self._feed.buffer()
            self._take(buffer)
            self._first, self._end = self.done, self.done + buffer.batches
            self._places = buffer.places
        seconds = super().advance(min(until, self._end))
        self._before = self._began  # whose batches are still here; all was finite then
        return seconds

    def snapshot(self, best: Best) -> TrainingSnapshot:
        """Return what a checkpoint holds: where the stream of each process stands too, if one of them can say so."""
        own = self._places[self.done - self._first - 1] or "null"
        streams = [json.loads(text) for text in hosts.all_gather_bytes(own.encode(), self.recipe.mesh)]
        known = any(stream is not None for stream in streams)
        place = Place(self.done, self._feed.stream.size, streams).written() if known else None
        return super().snapshot(best)._replace(place=place)

    def close(self) -> None:
        """Let the thread that reads the stream end."""
        self._feed.close()

    def _take(self, buffer: Buffer) -> None:
        first = jnp.asarray(self.done, jnp.int32)
        x, y, weights = buffer.data
        stream = Streamed(first, buffer.counts)
        self.inputs = self.inputs._replace(x=x, y=y, sample_weight=weights, stream=stream)


def _bar(steps: int, done: int, progress: bool | None) -> Any:
    """Return a bar on stderr, hidden unless it is asked for or stderr is a terminal."""
    shown = sys.stderr.isatty() if progress is None else progress
    return tqdm(total=steps, initial=done, desc="fit", unit="step", disable=not shown)


def _next_stops(done: int, validation: ValidationSet | None, policy: CheckpointPolicy | None) -> Iterator[int]:
    """Yield the next steps at which something is scored or saved."""
    for every in (validation and validation.every, policy and policy.every):
        if every:
            yield (done // every + 1) * every
