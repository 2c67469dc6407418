"""Checkpoints of a training: snapshots in files, from which a run of the same arguments goes on, bit for bit."""

import contextlib
import itertools
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.tree import Tree, all_finite, names
from bbb.errors import InputError, ModelFileError, fail
from bbb.storage import arrays as arrays_module
from bbb.storage import files
from bbb.train.checkpoints.fingerprint import fingerprint
from bbb.train.data.states import Place
from bbb.train.options import Checkpointing
from bbb.train.steps.state import Recipe, TrainInputs, TrainState
from bbb.train.validation import Best, ValidationSet

KIND = arrays_module.Kind(
    "bbb checkpoint", "1", what="checkpoint", writer="bbb.fit(checkpoints=...)", again="go on from an older one"
)


KEPT = 2
"""How many checkpoints of a run are kept."""


HEALTHY = "state/healthy"
"""The name, in a checkpoint, of what says that all was finite: no other is saved."""


PLACE = "stream"
"""The name, in a checkpoint, of where a stream stands that has a state of its own."""


NAME = re.compile(r"step-(\d{12})\.safetensors")


class TrainingSnapshot(NamedTuple):
    """Where a training stands.

    Attributes:
        state: the state.
        best: the best that validation saw.
        record: the parts of the cost of all steps done; None before the first.
        place: where a stream stands that has a state of its own, in bytes; None without.
    """

    state: TrainState
    best: Best
    record: Tree
    place: np.ndarray | None = None


class Checkpoints(NamedTuple):
    """The folder where a run keeps its checkpoints, and what tells this run from others."""

    folder: Path
    run: dict[str, str]

    def newest(self, like: TrainingSnapshot) -> TrainingSnapshot | None:
        """Read the newest checkpoint that is whole, or None where there is none.

        Args:
            like: of the shapes and dtypes to expect; the record's and the scores' first axis may differ.

        Raises:
            InputError: if it is one of another run.
            ModelFileError: if there are checkpoints, and none is whole.
        """
        damaged: list[ModelFileError] = []
        for path in reversed(_checkpoints(self.folder)):
            try:
                arrays, header = arrays_module.unpack(path, KIND)
            except ModelFileError as error:
                damaged.append(error)
                continue
            self._refuse_another_run(path, header)
            arrays.pop(PLACE, None)  # from which the stream went on, before
            snapshot = _snapshot(path, like, arrays)
            try:
                _check_snapshot(path, snapshot)
            except ModelFileError as error:
                damaged.append(error)
                continue
            for passed in damaged:
                warnings.warn(f"A damaged checkpoint was passed over: {passed}", RuntimeWarning, stacklevel=2)
            return snapshot
        if damaged:
            raise damaged[0]
        return None

    def save(self, snapshot: TrainingSnapshot) -> None:
        """Write a checkpoint, and remove those that are no longer kept.

        Raises:
            WriteError: if it cannot be written. The older ones stay.
        """
        path = self.folder / f"step-{int(snapshot.state.step):012}.safetensors"
        arrays = arrays_module.named(_with_arrays(snapshot))
        if snapshot.place is not None:
            arrays[PLACE] = snapshot.place
        files.write(path, arrays_module.pack(KIND, {"run": self.run}, arrays))
        older = [saved for saved in reversed(_checkpoints(self.folder)) if saved < path]
        whole = itertools.islice(filter(self._is_ours, older), KEPT - 1)  # one that is damaged takes no place
        kept = [path, *whole]
        for other in _checkpoints(self.folder):  # the oldest, and any beyond this step: it was damaged, and passed over
            if other not in kept:
                with contextlib.suppress(OSError):  # to keep one more harms nobody
                    other.unlink()

    def _is_ours(self, path: Path) -> bool:
        """Return whether a checkpoint is whole, and of this run."""
        try:
            arrays, header = arrays_module.unpack(path, KIND)
        except ModelFileError:
            return False
        return isinstance(header, dict) and header.get("run") == self.run and bool(np.all(arrays.get(HEALTHY, False)))

    def _refuse_another_run(self, path: Path, header: Any) -> None:
        """Raise an error for a checkpoint of another run, which names the first part that differs."""
        run = header.get("run") if isinstance(header, dict) else None
        if run == self.run:
            return
        named = run if isinstance(run, dict) else {}
        other = sorted(part for part in {*self.run, *named} if self.run.get(part) != named.get(part))
        do = "Pass what that run was given, or another folder."
        fail(InputError, f"{path.parent} to hold checkpoints of this run", f"another {other[0]}", do)


def open_checkpoints(
    asked: Checkpointing, inputs: TrainInputs, recipe: Recipe, validation: ValidationSet | None
) -> Checkpoints:
    """Make the folder ready, and clean it of what a killed run left half-written.

    Raises:
        InputError: if it holds checkpoints that would be overwritten.
        WriteError: if it cannot be written.
    """
    path = files.folder(asked.folder)
    found = _checkpoints(path)
    if found and not asked.resume:
        got = f"{len(found)}, the last {found[-1].name}"
        do = "Pass resume=True, or --resume, to go on; or another folder."
        fail(InputError, f"no checkpoints in {path}", got, do)
    if jax.process_index() == 0:
        files.clean_folder(path, NAME)
    return Checkpoints(path, fingerprint(inputs, recipe, validation))


def stream_place(asked: Checkpointing | None) -> Place | None:
    """Return where the newest whole checkpoint to go on from stands in the streams; None if there is none, or no place.

    Raises:
        WriteError: if the folder cannot be listed.
        ModelFileError: if it holds another text in that place.
    """
    if asked is None or not asked.resume or not Path(asked.folder).is_dir():
        return None
    for path in reversed(_checkpoints(Path(asked.folder))):
        with contextlib.suppress(ModelFileError):  # of one that is damaged, which is passed over
            arrays, _ = arrays_module.unpack(path, KIND)
            break
    else:
        return None
    if PLACE not in arrays:
        return None
    try:
        return Place.read(int(path.stem.removeprefix("step-")), arrays[PLACE])
    except arrays_module.UNREADABLE:
        return arrays_module.refuse(path, "the place of a stream", "another text", "Go on from an older one.")


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the oldest first.

    Raises:
        WriteError: if it cannot be listed.
    """
    return sorted(entry for entry in files.entries(folder) if NAME.fullmatch(entry.name))


def _with_arrays(snapshot: TrainingSnapshot) -> Any:
    """Return all that a checkpoint holds as one tree of arrays."""
    best = snapshot.best
    nothing = np.zeros((0, *np.shape(best.score)), jnp.result_type(float))
    scores = np.stack(best.scores) if best.scores else nothing
    return {
        "state": snapshot.state,
        "best": best._replace(scores=scores, steps=np.array(best.steps, np.int64)),  # type: ignore[arg-type]
        "record": snapshot.record,
    }


def _snapshot(path: Path, like: TrainingSnapshot, arrays: dict[str, np.ndarray]) -> TrainingSnapshot:
    """Return the snapshot that the arrays of a checkpoint make."""
    done, scored = (len(arrays.get(name, ())) for name in ("record/0/total", "best/steps"))
    expected = _with_arrays(like)
    best = expected["best"]
    long = {name: _of_length(scored, getattr(best, name)) for name in ("scores", "steps")}
    record = jax.tree.map(lambda leaf: _of_length(done, leaf), expected["record"])
    do = "Pass what that run was given, or another folder."
    expected |= {"best": best._replace(**long), "record": record}
    found = arrays_module.filled(path, "the state of this run", expected, arrays, do)
    best, state = found["best"], jax.device_put(found["state"])
    trained = {name: jax.device_put(getattr(best, name)) for name in ("trainable", "running")}
    best = best._replace(scores=tuple(best.scores), steps=tuple(map(int, best.steps)), **trained)
    return TrainingSnapshot(state, best, found["record"])


def _check_snapshot(path: Path, snapshot: TrainingSnapshot) -> None:
    """Check numbers that no training saves: it stops before it could.

    Raises:
        ModelFileError: naming the first.
    """
    state, do = snapshot.state, "Go on from an older one."
    done, step = len(jax.tree.leaves(snapshot.record)[0]), int(state.step)
    if not bool(state.healthy):
        arrays_module.refuse(path, "a healthy training", "healthy=False", do)
    if step != done:
        arrays_module.refuse(path, f"the {step:,} steps that it is of", f"a history of {done:,}", do)
    kept = {"trainable": state.member.trainable, "running": state.member.running}
    for place, tree in (("state", kept), ("best", {name: getattr(snapshot.best, name) for name in kept})):
        for name, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
            if not all_finite(leaf):
                arrays_module.refuse(path, "finite parameters", f"NaN or infinity in {place}/{name}", do)
    order = np.asarray(state.member.order)
    if not (np.sort(order, axis=-1) == np.arange(order.shape[-1])).all():  # read without a check of bounds
        arrays_module.refuse(path, f"an order of {order.shape[-1]:,} rows", "one that is not a permutation of them", do)


def _of_length(length: int, leaf: Tree) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((length, *leaf.shape[1:]), leaf.dtype)
