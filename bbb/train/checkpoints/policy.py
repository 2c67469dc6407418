"""When a training is saved, from where it goes on, and what a signal to leave does meanwhile."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from bbb.core.tree import Tree
from bbb.devices import hosts, layout
from bbb.devices import mesh as mesh_module
from bbb.errors import HostError, InputError, WriteError, fail
from bbb.model import BNN
from bbb.storage import signals as signals_module
from bbb.train.checkpoints.snapshot import Checkpoints, TrainingSnapshot, open_checkpoints
from bbb.train.history import history_of
from bbb.train.options import Checkpointing
from bbb.train.steps.state import Recipe, TrainInputs, with_trainable
from bbb.train.validation import ValidationSet

SAVE_SECONDS = (5.0, 60.0)
"""Least and most time between two checkpoints, unless their distance in steps is given."""


SAVE_SHARE = 0.02
"""The share of the time that saving may take between those two: a small model is saved often, so that a job that is
killed every minute gets on."""


class CheckpointPolicy(NamedTuple):
    """Where checkpoints are kept, how many steps lie between two (None: by time), and whether to go on from one."""

    checkpoints: Checkpoints
    every: int | None
    resume: bool

    def is_due(self, now: int, steps: int, save_at: float) -> bool:
        """Return whether to save: when training ends, and every so often before."""
        due = time.monotonic() > save_at if self.every is None else now % self.every == 0
        return now == steps or due

    def newest(self, like: TrainingSnapshot, steps: int, mesh: Mesh | None) -> TrainingSnapshot | None:
        """Return where the newest checkpoint stands, if there is one; in all processes the same.

        Raises:
            InputError, ModelFileError: if it is of another run, or of more steps, or there are damaged ones alone.
        """
        with hosts.together(mesh):
            found = self.checkpoints.newest(like)
            if found is not None and int(found.state.step) > steps:
                got, do = f"{int(found.state.step):,} of {steps:,}", "Pass more steps, or another folder."
                expected = f"no more steps done in {self.checkpoints.folder} than asked for"
                fail(InputError, expected, got, do)
        self._check_alike(found, mesh)
        return found

    def save(self, snapshot: TrainingSnapshot, recipe: Recipe, given: BNN) -> None:
        """Write a checkpoint; on several hosts, in the first process alone, once all have handed over their parts.

        Raises:
            WriteError: if it cannot be written; it holds what was trained, which would be lost with the checkpoint.
            HostError: if another process cannot write it.
        """
        mesh = recipe.mesh
        if mesh is not None:
            snapshot = snapshot._replace(state=layout.to_host(snapshot.state, mesh))
        with hosts.together(mesh):
            if mesh is None or mesh_module.is_local(mesh) or jax.process_index() == 0:
                try:
                    self.checkpoints.save(snapshot)
                except WriteError as error:
                    raise _with_what_was_trained(error, snapshot, recipe, given) from error

    def _check_alike(self, found: TrainingSnapshot | None, mesh: Mesh | None) -> None:
        """Raise an error in processes that would go on from different steps."""
        at = hosts.all_gather_numbers([0 if found is None else int(found.state.step)], mesh)[:, 0]
        other = next((step for step in at if step != at[0]), at[0])
        if other != at[0]:
            got, do = f"step {at[0]} and step {other}", "Name a folder of a file system that all hosts share."
            expected = f"every process to find the same newest checkpoint in {self.checkpoints.folder}"
            fail(InputError, expected, got, do)


def checkpoint_policy(
    asked: Checkpointing | None,
    inputs: TrainInputs,
    recipe: Recipe,
    validation: ValidationSet | None,
    mesh: Mesh | None,
) -> CheckpointPolicy | None:
    """Make the folder ready in every process; None if no checkpoints are asked for.

    Raises:
        InputError: if it holds checkpoints that would be overwritten.
        WriteError: if it cannot be written.
        HostError: if it cannot in another process.
    """
    with hosts.together(mesh):
        if asked is None:
            return None
        return CheckpointPolicy(open_checkpoints(asked, inputs, recipe, validation), asked.every, asked.resume)


def resumed(
    policy: CheckpointPolicy | None,
    start: TrainingSnapshot,
    record_of: Callable[[], Tree],
    steps: int,
    mesh: Mesh | None,
) -> TrainingSnapshot:
    """Return where the newest checkpoint stands, or the start if there is none to go on from.

    Args:
        policy: of the checkpoints, None without any.
        start: where training starts.
        record_of: returns the shapes of a record, for the checkpoint's.
        steps: how many there will be.
        mesh: of the processes, which all have to find the same.

    Raises:
        InputError, ModelFileError: from checkpoints.
    """
    if policy is None or not policy.resume:
        return start
    return policy.newest(start._replace(record=record_of()), steps, mesh) or start


def first_save() -> float:
    """Return when to save first, in seconds of `time.monotonic`."""
    return time.monotonic() + SAVE_SECONDS[0]


def next_save(began: float, ended: float) -> float:
    """Return when to save next, in seconds of the same clock, from when the last saving began and ended."""
    least, most = SAVE_SECONDS
    return ended + min(max(least, (ended - began) / SAVE_SHARE), most)


def agreed(seconds: float, due: bool, leaving: bool, mesh: Mesh | None) -> tuple[float, bool, bool]:
    """Return the first process's clock and whether it is time to save, and whether any got a signal to leave."""
    if mesh is None or mesh_module.is_local(mesh):
        return seconds, due, leaving
    each = hosts.all_gather_numbers([int(1000 * seconds), due, leaving], mesh)
    return float(each[0, 0]) / 1000, bool(each[0, 1]), bool(each[:, 2].any())


def leave(signals: signals_module.DeferredSignals, now: int) -> None:
    """Do what a signal asks that came here, or stop because one came in another process.

    On several hosts the process that it came to leaves in order: JAX takes leave of the others at the end of Python,
    without which these, on their way out, would wait for it until they miss its heartbeat, and then abort.

    Raises:
        HostError: if it came in another.
        SystemExit: at SIGTERM, on several hosts.
    """
    if signals.came:
        signals.deliver(in_order=jax.process_count() > 1)
    else:
        got, do = f"a signal to leave in another, saved at step {now}", "Start all of them again, with resume=True."
        fail(HostError, "every process to train on", got, do)


def _with_what_was_trained(error: WriteError, snapshot: TrainingSnapshot, recipe: Recipe, given: BNN) -> WriteError:
    """Return an error that holds what was trained, which would be lost with the checkpoint."""
    trained: Any = snapshot.best if snapshot.best.steps else snapshot.state.member
    full = WriteError(
        f"{error} What was trained so far is this error's .model and .history; "
        "resume=True, or --resume, goes on from the checkpoint before, if that is still there."
    )
    full.model = with_trainable(given, trained.trainable, trained.running)
    full.history = history_of([snapshot.record], recipe, snapshot.best, int(snapshot.state.step))
    return full
