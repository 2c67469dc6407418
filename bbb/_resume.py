"""Checkpoints of a training: where it stands, in a file that a run of the same arguments goes on from, bit for bit."""

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _arrays, _check, _file
from bbb._train import Problem, Recipe, State
from bbb._tree import Tree
from bbb._validation import Best, HeldOut

KIND = _arrays.Kind(
    "bbb checkpoint", "1", what="checkpoint", writer="bbb.fit(checkpoint=...)", again="go on from an older one"
)
KEPT = 2
"""How many checkpoints of a run are kept."""

NAME = re.compile(r"step-(\d{12})\.safetensors")


class Stand(NamedTuple):
    """Where a training stands: `record` holds the parts of the cost of all steps done, None before the first."""

    state: State
    best: Best
    record: Tree


class Checkpoints(NamedTuple):
    """The folder where a run keeps its checkpoints, and what tells this run from others."""

    folder: Path
    run: dict[str, str]

    def newest(self, like: Stand) -> Stand | None:
        """Read the newest checkpoint that is whole, or None where there is none.

        Args:
            like: of the shapes and dtypes to expect; the record's and the scores' first axis may differ.

        Raises:
            InputError: if it is one of another run.
            ModelFileError: if there are checkpoints, and none is whole.
        """
        damaged: list[_check.ModelFileError] = []
        for path in reversed(_checkpoints(self.folder)):
            try:
                arrays, header = _arrays.unpack(path, KIND)
            except _check.ModelFileError as error:
                damaged.append(error)
                continue
            self._refuse_another_run(path, header)
            for passed in damaged:
                warnings.warn(f"A damaged checkpoint was passed over: {passed}", RuntimeWarning, stacklevel=2)
            return _stand(path, like, arrays)
        if damaged:
            raise damaged[0]
        return None

    def save(self, stand: Stand) -> None:
        """Write a checkpoint, and remove those that are no longer kept.

        Raises:
            WriteError: if it cannot be written. The older ones stay.
        """
        path = self.folder / f"step-{int(stand.state.step):012}.safetensors"
        _file.write(path, _arrays.pack(KIND, {"run": self.run}, _arrays.named(_with_arrays(stand))))
        kept = [saved for saved in _checkpoints(self.folder) if saved <= path][-KEPT:]
        for other in _checkpoints(self.folder):  # the oldest, and any beyond this step: it was damaged, and passed over
            if other not in kept:
                with contextlib.suppress(OSError):  # to keep one more harms nobody
                    other.unlink()

    def _refuse_another_run(self, path: Path, header: Any) -> None:
        run = header.get("run") if isinstance(header, dict) else None
        if run == self.run:
            return
        named = run if isinstance(run, dict) else {}
        other = sorted(part for part in {*self.run, *named} if self.run.get(part) != named.get(part))
        do = "Pass what that run was given, or another folder."
        _check.fail(_check.InputError, f"{path.parent} to hold checkpoints of this run", f"another {other[0]}", do)


def checkpoints(
    folder: str | os.PathLike[str], problem: Problem, recipe: Recipe, held_out: HeldOut | None, *, resume: bool
) -> Checkpoints:
    """Make the folder ready, and clean it of what a killed run left half-written.

    Raises:
        InputError: if it holds checkpoints that would be overwritten.
        WriteError: if it cannot be written.
    """
    path = _file.folder(folder)
    found = _checkpoints(path)
    if found and not resume:
        got = f"{len(found)}, the last {found[-1].name}"
        do = "Pass resume=True, or --resume, to go on; or another folder."
        _check.fail(_check.InputError, f"no checkpoints in {path}", got, do)
    if jax.process_index() == 0:
        _file.clean_folder(path, NAME)
    return Checkpoints(path, _run(problem, recipe, held_out))


def _checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, the oldest first.

    Raises:
        WriteError: if it cannot be listed.
    """
    return sorted(entry for entry in _file.entries(folder) if NAME.fullmatch(entry.name))


def _run(problem: Problem, recipe: Recipe, held_out: HeldOut | None) -> dict[str, str]:
    """Tell a run from others, part by part; functions by their names."""
    model = problem.model
    watch = None if held_out is None else (_digest(held_out.x, held_out.y), held_out.every, held_out.patience)
    described: dict[str, Any] = {
        "key": (str(jax.random.key_impl(problem.key)), _digest(problem.key)),
        "x": _digest(problem.x),
        "y": _digest(problem.y),
        "network": _program(problem, recipe),
        "posterior to begin with": _digest(model.posterior),
        "prior": (str(jax.tree.structure(model.prior)), _digest(model.prior)),
        "likelihood": (str(jax.tree.structure(model.likelihood)), _digest(model.likelihood)),
        "forward": _name(recipe.forward),
        "objective": _name(recipe.cost),
        "kl_weight": _digest(_weights(problem, recipe)),
        "batch_size, draws or on_nonfinite": (recipe.batch_size, recipe.draws, recipe.skips),
        "validation": watch,
    }
    return {part: repr(value) for part, value in described.items()}


PROBES = (0, *(first * 10**power for power in range(7) for first in (1, 2, 5)))
"""The steps by whose weights of the KL a schedule is known."""


def _weights(problem: Problem, recipe: Recipe) -> list[np.ndarray]:
    """Give the weights of the KL at a few steps."""
    schedule = recipe.kl_schedule
    if schedule is None:
        return [np.asarray(problem.kl_weight)]
    with jax.numpy_dtype_promotion("standard"):
        return [np.asarray(schedule(jnp.asarray(step, jnp.int32)), np.float64) for step in PROBES]


def _program(problem: Problem, recipe: Recipe) -> str:
    """Tell a network from others by what it computes: two of one class and one shape may differ in a function."""
    mean = problem.model.posterior.mean
    params = jax.tree.map(lambda leaf: leaf[0], mean) if recipe.members else mean
    row = jax.ShapeDtypeStruct((1, *problem.x.shape[1:]), problem.x.dtype)
    traced = jax.make_jaxpr(problem.model.apply)(params, row)
    return hashlib.sha256(_check.program_text(traced).encode()).hexdigest() + _digest(traced.consts)


def _name(function: Callable[..., Any]) -> str:
    """Name a function, or the class of an object that is called; its address would differ from run to run."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def _digest(*trees: Tree) -> str:
    digest = hashlib.sha256()
    for name, array in _arrays.named(trees).items():
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _with_arrays(stand: Stand) -> Any:
    """Give all that a checkpoint holds as one tree of arrays."""
    best = stand.best
    nothing = np.zeros((0, *np.shape(best.score)), jnp.result_type(float))
    scores = np.stack(best.scores) if best.scores else nothing
    return {
        "state": stand.state,
        "best": best._replace(scores=scores, steps=np.array(best.steps, np.int64)),  # type: ignore[arg-type]
        "record": stand.record,
    }


def _stand(path: Path, like: Stand, arrays: dict[str, np.ndarray]) -> Stand:
    """Put the arrays of a checkpoint in their places."""
    done, scored = (len(arrays.get(name, ())) for name in ("record/0/total", "best/steps"))
    expected = _with_arrays(like)
    best = expected["best"]
    long = {name: _of_length(scored, getattr(best, name)) for name in ("scores", "steps")}
    record = jax.tree.map(lambda leaf: _of_length(done, leaf), expected["record"])
    do = "Pass what that run was given, or another folder."
    expected |= {"best": best._replace(**long), "record": record}
    found = _arrays.filled(path, "the state of this run", expected, arrays, do)
    best, state = found["best"], jax.device_put(found["state"])
    trained = {name: jax.device_put(getattr(best, name)) for name in ("trainable", "running")}
    best = best._replace(scores=tuple(best.scores), steps=tuple(map(int, best.steps)), **trained)
    return Stand(state, best, found["record"])


def _of_length(length: int, leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((length, *leaf.shape[1:]), leaf.dtype)
