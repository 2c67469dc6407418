"""Checkpoints of a training: where it stands, in a file that a run of the same arguments goes on from, bit for bit."""

import contextlib
import hashlib
import itertools
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
from bbb._trace import trace
from bbb._train import Problem, Recipe, State, has_training
from bbb._tree import Tree, all_finite, names
from bbb._validation import Best, HeldOut
from bbb.model import BNN
from bbb.objective import with_kl_noise

KIND = _arrays.Kind(
    "bbb checkpoint", "1", what="checkpoint", writer="bbb.fit(checkpoint=...)", again="go on from an older one"
)
KEPT = 2
"""How many checkpoints of a run are kept."""

HEALTHY = "state/healthy"
"""The name, in a checkpoint, of what says that all was finite: no other is saved."""

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
            stand = _stand(path, like, arrays)
            try:
                _check_stand(path, stand)
            except _check.ModelFileError as error:
                damaged.append(error)
                continue
            for passed in damaged:
                warnings.warn(f"A damaged checkpoint was passed over: {passed}", RuntimeWarning, stacklevel=2)
            return stand
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
        older = [saved for saved in reversed(_checkpoints(self.folder)) if saved < path]
        whole = itertools.islice(filter(self._is_ours, older), KEPT - 1)  # one that is damaged takes no place
        kept = [path, *whole]
        for other in _checkpoints(self.folder):  # the oldest, and any beyond this step: it was damaged, and passed over
            if other not in kept:
                with contextlib.suppress(OSError):  # to keep one more harms nobody
                    other.unlink()

    def _is_ours(self, path: Path) -> bool:
        """Tell whether a checkpoint is whole, and of this run."""
        try:
            arrays, header = _arrays.unpack(path, KIND)
        except _check.ModelFileError:
            return False
        return isinstance(header, dict) and header.get("run") == self.run and bool(np.all(arrays.get(HEALTHY, False)))

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
    """Tell a run from others, part by part; functions by their names, and the user's by what they compute too."""
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
        "forward": _forward(problem, recipe),
        "objective": _objective(problem, recipe),
        "kl_weight": _digest(_weights(problem, recipe)),
        "batch_size, draws or on_nonfinite": (recipe.batch_size, recipe.draws, recipe.skips),
        "validation": watch,
    }
    if recipe.fixed:  # no part of other runs, so that folders of earlier versions are known again
        described["kind of optimizer: its steps share one noise"] = True
    return {part: repr(value) for part, value in described.items()}


PROBES = (0, *(first * 10**power for power in range(7) for first in (1, 2, 5)))
"""The steps by whose weights of the KL a schedule is known."""


def _weights(problem: Problem, recipe: Recipe) -> list[np.ndarray]:
    """Give the weights of the KL at a few steps."""
    schedule = recipe.kl_schedule
    if schedule is None:
        return [np.asarray(problem.kl_weight)]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # it may be optax's
        return [np.asarray(schedule(jnp.asarray(step, jnp.int32)), np.float64) for step in PROBES]


def _program(problem: Problem, recipe: Recipe) -> str:
    """Tell a network from others by what it computes: two of one class and one shape may differ in a function."""
    model, x, _ = _one_row(problem, recipe)
    return _traced(model.apply, model.posterior.params, x)


def _forward(problem: Problem, recipe: Recipe) -> str:
    forward = recipe.forward
    if _is_ours(forward):
        return _name(forward)
    model, x, _ = _one_row(problem, recipe)
    key = _first_key(problem, recipe)
    inputs: Any = (x, key) if has_training(forward) else x
    noise = jax.eval_shape(forward.noise, key, model.posterior, inputs)
    return _name(forward) + _traced(forward.evaluate, noise, model.posterior, inputs)


def _objective(problem: Problem, recipe: Recipe) -> str:
    if _is_ours(recipe.cost):
        return _name(recipe.cost)
    model, x, y = _one_row(problem, recipe)
    outputs = jax.eval_shape(jax.vmap(model.apply, in_axes=(None, 0)), model.posterior.params, x[None])

    def cost(key: jax.Array, model: BNN, outputs: jax.Array, y: jax.Array, weight: Any) -> jax.Array:
        model = with_kl_noise(key, model, recipe.draws)
        return recipe.cost(model, outputs, y, jnp.ones(1, outputs.dtype), problem.x.shape[0], weight).total

    key = _first_key(problem, recipe)
    return _name(recipe.cost) + _traced(cost, key, model, outputs, y, problem.kl_weight)


def _one_row(problem: Problem, recipe: Recipe) -> tuple[BNN, jax.Array, jax.Array]:
    """Give the model, or the first member, and a row of data: what shapes are taken from."""
    model = jax.tree.map(lambda leaf: leaf[0], problem.model) if recipe.members else problem.model
    return model, problem.x[:1], problem.y[:1]


def _first_key(problem: Problem, recipe: Recipe) -> jax.Array:
    return problem.key[0] if recipe.members else problem.key


def _traced(function: Callable[..., Any], *args: Any) -> str:
    """Tell a function from others by its program and the constants in it."""
    jaxpr = trace(function, *args).jaxpr
    return hashlib.sha256(_check.program_text(jaxpr).encode()).hexdigest() + _digest(jaxpr.consts)


def _is_ours(function: Any) -> bool:
    """Tell whether a function is this library's, whose name is enough: another version may compute it otherwise."""
    function = getattr(function, "function", function)  # a user's, that was wrapped as a forward
    return str(getattr(function, "__module__", "")).split(".", maxsplit=1)[0] == "bbb"


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


def _check_stand(path: Path, stand: Stand) -> None:
    """Refuse numbers that no training saves: it stops before it could.

    Raises:
        ModelFileError: naming the first.
    """
    state, do = stand.state, "Go on from an older one."
    done, step = len(jax.tree.leaves(stand.record)[0]), int(state.step)
    if not bool(state.healthy):
        _arrays.refuse(path, "a healthy training", "healthy=False", do)
    if step != done:
        _arrays.refuse(path, f"the {step:,} steps that it is of", f"a history of {done:,}", do)
    kept = {"trainable": state.member.trainable, "running": state.member.running}
    for place, tree in (("state", kept), ("best", {name: getattr(stand.best, name) for name in kept})):
        for name, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
            if not all_finite(leaf):
                _arrays.refuse(path, "finite parameters", f"NaN or infinity in {place}/{name}", do)
    order = np.asarray(state.member.order)
    if not (np.sort(order, axis=-1) == np.arange(order.shape[-1])).all():  # read without a check of bounds
        _arrays.refuse(path, f"an order of {order.shape[-1]:,} rows", "one that is no permutation of them", do)


def _of_length(length: int, leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((length, *leaf.shape[1:]), leaf.dtype)
