"""Training: what a user asks for, checked and made into one compiled program."""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from bbb import _check, _mesh, _optimizer
from bbb._ability import implements
from bbb._activations import check_step
from bbb._kl_weight import check_schedule
from bbb._loop import Keeper, train
from bbb._members import PerMember
from bbb._resume import checkpoints
from bbb._rows import refuse_meeting
from bbb._train import (
    AXES,
    NOISE_KEYS,
    ORDER_KEYS,
    Over,
    Problem,
    Recipe,
    count_noise,
    has_training,
    in_training,
    member_of,
    stacked,
    trainable_of,
)
from bbb._tree import Tree, widest_dtype
from bbb._validation import CHECKS, HeldOut, hold_out
from bbb.forward import as_forward, warn_if_approximate, weight_sampling
from bbb.history import History
from bbb.likelihood import SupportsTrainingCheck
from bbb.model import BNN
from bbb.objective import CostFunction, data_for, elbo_cost
from bbb.posterior import Ensemble, MeanField

MAX_CHUNK = 1024
"""Most steps between two looks at the numbers."""

NOISE_ELEMENTS = 2**20
"""How many random numbers are drawn at once, for several steps: one large draw is far cheaper than many small ones."""


INSTEAD = "jax.grad of bbb.negative_elbo, and optax's own updates"
"""What trains within a compiled function of the user's."""


def fit(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    kl_weight: float | Callable[[jax.Array], Any] = 1.0,
    draws: int = 1,
    objective: CostFunction = elbo_cost,
    forward: Callable[..., jax.Array] | None = None,
    restarts: int = 1,
    init: Callable[[jax.Array], Tree] | None = None,
    validation: tuple[Any, Any] | float | None = None,
    validate_every: int | None = None,
    patience: int = 10,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    resume: bool = False,
    on_nonfinite: str = "raise",
    mesh: Mesh | None = None,
    partition: Tree = None,
    progress: bool | None = None,
) -> tuple[BNN, History]:
    """Train a Bayesian network.

    Args:
        key: one typed JAX key. Step t's noise and epoch e's order depend on it and on t or e alone.
        model: what `bayesianize` returned. It is not changed. Parameters in bfloat16 lose updates of less than a 512th
            of themselves: keep them in float32, and cast within `apply`.
        x: (rows, ...), finite.
        y: the shape of the network's outputs for x, finite.
        steps: how many updates; 2,000 unless `epochs` says how many passes over the data instead.
        epochs: passes over the data; each is one step for a full batch.
        optimizer: any optax optimiser that trains one tree of parameters by its gradient; by default
            `optax.adam(1e-2)`. Keep one object to train again without compiling again. One that asks for them, such as
            `optax.polyak_sgd`, gets the value, the gradient and the function of each step's rows and noise. One that
            learns the curvature from several steps, such as `optax.lbfgs`, has all rows and the noise of step 0 at
            every step: it is best with an objective without noise; else it needs 30 draws or more, and fits some of it.
        batch_size: rows a step; by default all. Rows are reshuffled every epoch, and its last short batch is used.
        kl_weight: a number, or a schedule from the step to a number (such as optax's), of at least 0.
        draws: draws of the weights a step.
        objective: the cost, by default the negative evidence lower bound; `bbb.torchbnn.mse_cost` is another, and
            `bbb.objective.exact_elbo_cost` is that bound without draws, for one hidden layer and Gaussian noise.
        forward: how the network is made random; by default what the objective asks for, or else
            `weight_sampling(model.apply)`. A network with a training mode (see `bbb.model`) is run in it, and its state
            is updated; the mean over draws, where there are several.
        restarts: how many posteriors to train, from as many starts, side by side in one program. Member k is what
            `fit(member_key, start)` would give, to rounding, with `member_key = bbb.member_keys(key, restarts)[k]`, and
            with `init(member_key)` for the means of the model's posterior.
        init: gives parameters for a key, such as `network.init`; needed with restarts.
        validation: rows to stop early by, a pair (x, y), or a share of the rows, such as 0.1, which are chosen by the
            key and not trained on. What is returned is the model of the best mean log score on them, over 100 draws
            whose noise is the same each time; of each member its own best.
        validate_every: steps between two scores; by default a hundredth of all. The last step is scored too.
        patience: how many scores in a row may be no better than the best before training stops.
        checkpoint: a folder to keep the last two checkpoints in. Ctrl-C and SIGTERM then save before they act.
        every: steps between two checkpoints; by default 5 to 60 seconds, so that saving takes up to 2 % of the
            time. There is one at the end too.
        resume: go on from the newest whole checkpoint, if there is one, as if training had never stopped, bit for bit.
            Everything but `steps`, `optimizer`, `every` and `progress` has to be what that run was given; the
            optimiser's state has to have the same structure.
        on_nonfinite: "raise" an error at a loss, gradient, parameter or optimiser's state that is not finite; or "skip"
            such a step, as if its update had been 0, and count it in the history; after 10 in a row, raise.
        mesh: devices to spread the rows of every batch over, along an axis "batch", and the members of `restarts`,
            along an axis "restarts"; either may be absent. Results are the same to rounding. One of several hosts is
            called alike in all their processes, each with all rows; the first process writes the checkpoints. Of a
            parameter of more than 65,536 numbers whose first axis the devices of "batch" divide, each device draws,
            keeps and updates a part, as it does of what the optimiser keeps of it.
        partition: for parameters too large for one device, a tree of `jax.sharding.PartitionSpec`s that is a prefix of
            the parameters; its names are further axes of the mesh. What the optimiser keeps of a parameter lies where
            that does, and so does the model that is returned. `P()` keeps a large one whole on every device.
        progress: show a bar on stderr; by default if stderr is a terminal.

    Returns:
        The trained model, and the history of the training. With restarts, the posterior is an `Ensemble`, the
        likelihood's learned noise is each member's own, and the arrays of the history are (steps, restarts, ...).

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before training.
        InputError, ShapeError: for a mesh of other axes, or of a size that does not divide the rows or the members; or
            a partition that does not fit.
        InputError: if the folder holds checkpoints and `resume` is not asked for, or checkpoints of another run.
        InputError: if the processes of several hosts find different checkpoints in the folder: they have to share it.
        ModelFileError: if there are checkpoints to resume from, and none of them is whole.
        HostError: if another process of several fails, is told to leave (all save first), or is lost, as far as JAX
            reports that; where it does not, it ends the others after `heartbeat_timeout_seconds`.
        WriteError: if a checkpoint cannot be written, before training or in it, where it holds what was trained so far
            as `.model` and `.history`; older checkpoints stay.
        NonFiniteLossError: if a number turns non-finite; it says which first, and holds the last finite model.
    """
    given = {"key": key, "model": model, "x": x, "y": y, "validation": validation, "kl_weight": kl_weight}
    _check.outside("fit", INSTEAD, **given)
    _check.key(key)
    for name, flag in (("resume", resume), ("progress", False if progress is None else progress)):
        _check.boolean(name, flag)
    x, y = _to_learn(model, x, y)
    held_out: list[Any] = []
    if validation is not None:
        x, y, *held_out = hold_out(key, model, x, y, validation)
    problem = Problem(key, model, x, y, None)
    if _check.positive_integer("restarts", restarts) > 1:
        keys = member_keys(key, restarts)
        problem = problem._replace(key=keys, model=stacked([_started(model, init, k) for k in keys]))
    recipe, steps, weight = _plan(
        key,
        model,
        x,
        members=restarts if restarts > 1 else None,
        steps=steps,
        epochs=epochs,
        optimizer=optimizer,
        batch_size=batch_size,
        kl_weight=kl_weight,
        draws=draws,
        objective=objective,
        forward=forward,
        on_nonfinite=on_nonfinite,
    )
    watch = _watch(held_out, steps, validate_every, patience) if held_out else None
    problem = problem._replace(kl_weight=weight)
    over = _over(mesh, partition, model, recipe, x.shape[0], restarts)
    with _mesh.joined(mesh):
        with _mesh.together(mesh):
            keeper = _keeper(checkpoint, every, resume, problem, recipe, watch)
        try:
            trained, history = train(problem, recipe, steps, progress, watch, keeper, over)
        except _check.WriteError as error:
            if restarts > 1 and error.model is not None:
                error.model = _ensemble(model, error.model)
            raise
    return (trained if restarts == 1 else _ensemble(model, trained)), history


def _watch(held_out: Sequence[Any], steps: int, every: int | None, patience: int) -> HeldOut:
    every = math.ceil(steps / CHECKS) if every is None else _check.positive_integer("validate_every", every)
    x, y = held_out
    return HeldOut(x, y, every, _check.positive_integer("patience", patience))


def _over(mesh: Any, partition: Tree, model: BNN, recipe: Recipe, rows: int, restarts: int) -> Over | None:
    """Check the mesh, and say where parameters lie on it."""
    if mesh is None:
        if partition is not None:
            do = 'Pass mesh=jax.make_mesh((2,), ("model",)).'
            _check.fail(_check.InputError, "a mesh with a partition", "none", do)
        return None
    mesh = _mesh.of_axes(mesh, AXES, partition)
    _mesh.divides("restarts", restarts, mesh, "restarts", "Train more members, or on a mesh without that axis.")
    if recipe.batch_size is None:
        _mesh.divides("the rows", rows, mesh, "batch", "Pass a batch_size that is, or leave out some rows.")
    else:
        _mesh.divides("batch_size", recipe.batch_size, mesh, "batch", "Pass one that is.")
    members = restarts if recipe.members else None
    return Over(mesh, _mesh.layout(partition, model.posterior.mean, mesh, AXES, members, spare="batch"))


def _keeper(
    folder: str | os.PathLike[str] | None,
    every: int | None,
    resume: bool,
    problem: Problem,
    recipe: Recipe,
    watch: HeldOut | None,
) -> Keeper | None:
    if folder is None:
        if every is not None or resume:
            got, do = "none", 'Pass checkpoint="DIR".'
            _check.fail(_check.InputError, "a folder of checkpoints with every or resume", got, do)
        return None
    every = None if every is None else _check.positive_integer("every", every)
    return Keeper(checkpoints(folder, problem, recipe, watch, resume=resume), every, resume)


RESTART_KEYS = ORDER_KEYS + 2**29
"""Where the keys of members begin, beyond those of epochs."""


def member_keys(key: jax.Array, restarts: int) -> jax.Array:
    """Give the key of each member of `fit(key, ..., restarts=...)`, which it is started and trained with: (restarts,).

    Raises:
        KeyTypeError, InputError: if `key` is not one typed JAX key, or `restarts` no whole number of at least 1.
    """
    _check.key(key)
    index = jnp.arange(_check.positive_integer("restarts", restarts, most=2**28), dtype=jnp.uint32)
    return jax.vmap(lambda k: jax.random.fold_in(key, np.uint32(RESTART_KEYS) + k))(index)


def _started(model: BNN, init: Callable[[jax.Array], Tree] | None, key: jax.Array) -> BNN:
    """Give the model another start: means of its own."""
    if init is None:
        do = "Pass init=network.init, a function of a key that gives parameters."
        _check.fail(_check.InputError, "init with restarts, to start each member elsewhere", "none", do)
    _check.function("init", init, "Pass init=network.init.")
    params, like = init(key), model.posterior.mean
    _check.fits("init(key)", params, "the model's parameters", like)
    mean = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), params, like)
    return dataclasses.replace(model, posterior=MeanField(mean, model.posterior.log_std))


def _ensemble(model: BNN, trained: BNN) -> BNN:
    """Make one model of the members, which share what was not trained."""
    likelihood: Any = PerMember(trained.likelihood) if model.likelihood.learn else model.likelihood
    posterior: Any = Ensemble(trained.posterior)
    return dataclasses.replace(model, posterior=posterior, likelihood=likelihood)


def fit_each(
    keys: jax.Array, models: Sequence[BNN], x: Any, y: Any, *, progress: bool | None = None, **options: Any
) -> tuple[list[BNN], list[History]]:
    """Train several Bayesian networks of one shape, each on data of its own, side by side in one program.

    Member k is trained as `fit(keys[k], models[k], x[k], y[k], **options)` trains it, to rounding; members share
    nothing but the compiled program.

    Args:
        keys: (members,) typed JAX keys, such as `jax.random.split(key, members)`.
        models: what `bayesianize` returned, for each member: the same network, prior and likelihood in other numbers.
        x: (members, rows, ...), finite; or a sequence of arrays (rows, ...).
        y: (members, rows, ...), likewise.
        progress: as for `fit`.
        options: `steps`, `epochs`, `optimizer`, `batch_size`, `kl_weight`, `draws`, `objective`, `forward` and
            `on_nonfinite` of `fit`.

    Returns:
        The trained models, and the history of each.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before training.
        NonFiniteLossError: if a loss or a parameter of any member turns non-finite; it names the member, and its model
            and history are that member's.
    """
    _check.is_a("models", models, Sequence, "Pass a list of models.")
    models = list(models)
    _check.outside("fit_each", INSTEAD, keys=keys, models=models, x=x, y=y)
    _check_members(keys, models, x, y)
    data = [_to_learn(model, *pair) for model, *pair in zip(models, x, y, strict=True)]
    shapes = [jnp.shape(part) for part, _ in data]
    if len(set(shapes)) > 1:
        other = next(shape for shape in shapes if shape != shapes[0])
        got, do = f"shapes {shapes[0]} and {other}", "Give every member the same number of rows and columns."
        _check.fail(_check.ShapeError, "x of one shape for all members", got, do)
    recipe, steps, weight = _plan(keys[0], models[0], data[0][0], members=len(models), own_data=True, **options)
    x, y = (stacked(list(parts)) for parts in zip(*data, strict=True))
    problem = Problem(keys, stacked(models), x, y, weight)
    trained, history = train(problem, recipe, steps, progress)
    return [member_of(trained, k) for k in range(len(models))], [history.member(k) for k in range(len(models))]


def _to_learn(model: BNN, x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    """Check data as `data_for` does, and what a likelihood asks of data to learn from, such as two classes."""
    x, y = data_for(model, x, y)
    if implements(model.likelihood, SupportsTrainingCheck):
        model.likelihood.check_training(y)
    return x, y


def _check_members(keys: Any, models: list[BNN], x: Any, y: Any) -> None:
    """Refuse keys, models and data that are not of one number of members, or models that differ in structure."""
    if not models:
        _check.fail(_check.InputError, "at least one model", "none", "Pass one model for each member.")
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if not typed or keys.shape != (len(models),):
        got = f"an array of shape {keys.shape} and dtype {keys.dtype}" if hasattr(keys, "dtype") else repr(keys)[:60]
        do = f"Make them with jax.random.split(key, {len(models)})."
        _check.fail(_check.KeyTypeError, f"{len(models)} typed JAX keys, one for each model", got, do)
    for name, data in (("x", x), ("y", y)):
        is_array = hasattr(data, "shape")
        members = (*data.shape, None)[0] if is_array else len(data) if isinstance(data, Sequence) else None
        if members != len(models):
            got = f"a {type(data).__name__}" if members is None else f"{members}"
            do = f"Pass {name} of shape (members, rows, ...)."
            _check.fail(_check.ShapeError, f"{name} for each of {len(models)} members", got, do)
    structures: list[Any] = [jax.tree.structure(model) for model in models]
    for k, structure in enumerate(structures):
        if structure != structures[0]:
            got, do = f"another at member {k}", "Make all models of one network object, one prior and one likelihood."
            _check.fail(_check.ShapeError, "members of one network and one structure", got, do)


def _plan(
    key: jax.Array,
    model: BNN,
    x: jax.Array,
    *,
    members: int | None = None,
    own_data: bool = False,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    kl_weight: float | Callable[[jax.Array], Any] = 1.0,
    draws: int = 1,
    objective: CostFunction = elbo_cost,
    forward: Callable[..., jax.Array] | None = None,
    on_nonfinite: str = "raise",
) -> tuple[Recipe, int, jax.Array]:
    """Check the options of `fit`; give the recipe, the number of steps, and the KL's weight where it is a number."""
    if batch_size is not None and _check.positive_integer("batch_size", batch_size) >= x.shape[0]:
        batch_size = None
    draws = _check.positive_integer("draws", draws)
    at_once = jax.ShapeDtypeStruct((batch_size or x.shape[0], *x.shape[1:]), x.dtype)
    check_step(model.apply, model.posterior.mean, at_once, draws * (members or 1))
    if batch_size is not None and not hasattr(model.apply, "train"):  # a training mode may use the batch as it likes
        do = "Leave batch_size out, to train on all rows at once."
        refuse_meeting(model.apply, model.posterior.mean, x, "minibatches hold some rows only", do)
    steps = _count_steps(steps, epochs, 1 if batch_size is None else math.ceil(x.shape[0] / batch_size))
    if steps * draws >= ORDER_KEYS - NOISE_KEYS:
        _check.fail(
            _check.InputError,
            f"steps × draws below {ORDER_KEYS - NOISE_KEYS:,}",
            f"{steps * draws:,}",
            "Train in several calls.",
        )
    if callable(kl_weight):
        check_schedule(kl_weight, steps)
    else:
        _check.not_negative("kl_weight", kl_weight)
    _check.function("objective", objective, "Pass for example bbb.torchbnn.mse_cost.")
    if not _check.is_word(on_nonfinite, ("raise", "skip")):
        _check.fail(_check.InputError, 'on_nonfinite to be "raise" or "skip"', repr(on_nonfinite), "Pass one of them.")
    optimizer = _DEFAULT_OPTIMIZER if optimizer is None else optimizer
    _optimizer.check(optimizer, trainable_of(model)[0])
    chunk = min(steps, MAX_CHUNK)
    forward = getattr(objective, "forward", weight_sampling)(model.apply) if forward is None else forward
    random = in_training(as_forward(forward), model, x)
    warn_if_approximate(random, model.posterior, (x[:batch_size], key) if has_training(random) else x[:batch_size])
    numbers = count_noise(key, random, model, x[:batch_size])
    fixed = _optimizer.learns_curvature(optimizer, trainable_of(model)[0])
    if fixed:
        _optimizer.check_fixed(batch_size, draws, numbers > 0)
    numbers = (members or 1) * draws * max(1, numbers)
    recipe = Recipe(
        forward=random,
        optimizer=optimizer,
        cost=objective,
        kl_schedule=kl_weight if callable(kl_weight) else None,
        batch_size=batch_size,
        draws=draws,
        chunk=chunk,
        block=min(chunk, 64, max(1, NOISE_ELEMENTS // numbers)),
        skips=on_nonfinite == "skip",
        members=members is not None,
        own_data=own_data,
        fixed=fixed,
    )
    weight = jnp.asarray(0.0 if callable(kl_weight) else kl_weight, widest_dtype(model.posterior.mean))
    return recipe, steps, weight


_DEFAULT_OPTIMIZER = optax.adam(1e-2)


def _count_steps(steps: int | None, epochs: int | None, steps_per_epoch: int) -> int:
    if epochs is None:
        return 2000 if steps is None else _check.positive_integer("steps", steps)
    if steps is not None:
        _check.fail(_check.InputError, "steps or epochs", "both", "Pass one of them.")
    return _check.positive_integer("epochs", epochs) * steps_per_epoch
