"""Training: what a user asks for, checked and made into one compiled program."""

import os
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from bbb import checks
from bbb.core.rows import count_rows
from bbb.devices import hosts
from bbb.model import BNN
from bbb.objectives.objective import CostFunction
from bbb.train.checkpoints.policy import checkpoint_policy
from bbb.train.checkpoints.snapshot import stream_place
from bbb.train.data.feed import Feed
from bbb.train.data.rows import hold_out, training_data
from bbb.train.data.shares import check_alike, share_of
from bbb.train.data.stream import Stream, is_stream
from bbb.train.history import History
from bbb.train.loop import train
from bbb.train.options import Checkpointing, EarlyStopping, Objective, Placement, Restarts, as_option
from bbb.train.plan import INSTEAD, plan, weight_of
from bbb.train.restarts import as_ensemble, as_trained, check_anchored, ensemble_in_errors, several, with_members
from bbb.train.steps.sharding import axes_of, mesh_layout
from bbb.train.steps.state import TrainInputs
from bbb.train.validation import validation_set


def fit(
    key: jax.Array,
    model: BNN,
    x: Any = None,
    y: Any = None,
    *,
    data: Any = None,
    num_data: int | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    objective: Objective | CostFunction | None = None,
    validation: EarlyStopping | tuple[Any, Any] | float | None = None,
    checkpoints: Checkpointing | str | os.PathLike[str] | None = None,
    restarts: Restarts | int | None = None,
    placement: Placement | Mesh | None = None,
    progress: bool | None = None,
    sample_weight: Any = None,
) -> tuple[BNN, History]:
    """Train a Bayesian network.

    `objective`, `validation`, `checkpoints`, `restarts` and `placement` are small objects, which document their fields.
    The first field of each alone stands for the object with every other field at its default: `validation=0.1` is
    `validation=EarlyStopping(0.1)`.

    Args:
        key: one typed JAX key. Step t's noise and epoch e's order depend on it and on t or e alone.
        model: what `bayesianize` returned. It is not changed. Parameters in bfloat16 lose updates of less than a 512th
            of themselves: keep them in float32, and cast within `apply`.
        x: (rows, ...), finite; or a tree of such arrays as the network takes it, such as a dict, a pair of tokens and
            their mask, or a registered dataclass, with None where there is nothing, and `bbb.networks.Shared` around
            what all rows share. A list is one array.
        y: the shape of the network's outputs for x, finite; or with NaN for targets that are missing, if the likelihood
            is a `bbb.likelihoods.PartiallyObserved`. Of several outputs, a tree: see `bbb.likelihoods.Joint`.
        data: in place of x and y, a stream of batches (x, y), or (x, y, sample_weight): any iterable of such, which is
            read again for each pass, as a list, a PyTorch `DataLoader`, grain's or TensorFlow's data sets; or a
            function of the number of the pass, from 0, that returns one, such as a generator function. Arrays are
            whatever NumPy makes arrays of. Each batch is one step. The first has the most rows, and all are like it.
            The next batches are read while the device computes. Where training is resumed, a stream with a state of its
            own goes on at the very batch: one that has, or whose iterators have, `get_state()` and `set_state(state)`,
            as grain's, or `state_dict()` and `load_state_dict(state)`, as torchdata's `StatefulDataLoader`. Checkpoints
            keep the state as it was after the batch of the last step; see `bbb.train.data.passes`. Of another stream
            the batches of the steps before are read and passed over, so that it is as if training had never stopped
            if they are the same again. On a mesh of several hosts each process passes a stream of its own share of
            every batch: first one of as many rows as the others', later of one row or more. A step's batch is all
            shares, in the order of the mesh.
        num_data: the rows of the whole data set, with `data`: of all processes together.
        steps: how many updates; 2,000 unless `epochs` says how many passes over the data instead. Another number
            compiles nothing again, but that fewer than 64 have a program of their own.
        epochs: passes over the data; each is one step for a full batch. Of a stream, a pass counts as `len(data)`
            steps, or if it has no length, as `num_data` over the rows of the first batch.
        optimizer: any optax optimiser that trains one tree of parameters by its gradient; by default
            `optax.adam(1e-2)`. An equal one made anew compiles nothing again, unless it holds what may change, such as
            a learning rate in a JAX array: keep that object to train again. One that asks for them, such as
            `optax.polyak_sgd`, gets the value, the gradient and the function of each step's rows and noise. One that
            learns the curvature from several steps, such as `optax.lbfgs`, has all rows and the noise of step 0 at
            every step: it is best with an objective without noise; else it needs 30 draws or more, and fits some of it.
        batch_size: rows a step; by default all. Rows are reshuffled every epoch, and its last short batch is used.
        objective: an `Objective`, or its cost alone: what is minimised, the weight of the KL or its schedule, the draws
            of the weights a step and how they are made, and what to do at a step that is not finite. By default the
            negative evidence lower bound, from one draw a step.
        validation: an `EarlyStopping`, or its rows alone: a pair (x, y), or a share such as 0.1 of the rows, by whose
            log score training stops and the model that is returned is chosen.
        checkpoints: a `Checkpointing`, or its folder alone: where training is saved, how often, and whether to go on
            from what is there.
        restarts: `Restarts`: how many posteriors to train from as many starts, and what makes a start.
        placement: a `Placement`, or its mesh alone: the devices to train on, and where large parameters lie on them.
        progress: show a bar on stderr; by default if stderr is a terminal.
        sample_weight: (rows,), finite and at least 0: how often each row counts; by default once. A row of weight 2
            counts like two of it: the log-probabilities are summed with the weights, and not divided by them, so that
            the prior counts less the larger they are. Minibatches are drawn without them, and their sums have no bias.
            Of rows that `validation` holds out by a share, the mean log score is weighted. To have rows from 2020 on
            count twice: `sample_weight=np.where(year >= 2020, 2.0, 1.0)`.

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
        HostError: if another process of several fails, gets a signal to leave (all save first), or is lost, as far as
            JAX reports that; where it does not, it ends the others after `heartbeat_timeout_seconds`. While the stream
            of one process makes the others wait for a batch, they wait.
        WriteError: if a checkpoint cannot be written, before training or in it, where it holds what was trained so far
            as `.model` and `.history`; older checkpoints stay.
        StreamError: if a batch of data does not fit the first, is not finite, or is not there, once training began; it
            holds what was trained so far. On several hosts it is raised in all processes, after the same step.
        NonFiniteLossError: if a number turns non-finite; it says which first, and holds the last finite model.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> history.loss.shape, model.members
        ((20,), 1)
    """
    objective = as_option(Objective, objective) or Objective()
    validation = as_option(EarlyStopping, validation)
    checkpoints = as_option(Checkpointing, checkpoints)
    restarts = several(as_option(Restarts, restarts))
    placement = as_option(Placement, placement)
    held_out = validation and validation.validation
    given = {"key": key, "model": model, "x": x, "y": y, "validation": held_out, "kl_weight": objective.kl_weight}
    checks.outside("fit", INSTEAD, **given, sample_weight=sample_weight)
    checks.key(key)
    checks.boolean("progress", progress is not None and progress)

    whole = {"sample_weight": sample_weight, "batch_size": batch_size}
    stream = None
    if is_stream(x, y, data, num_data, **whole, **_of_rows(held_out, restarts)):
        stream, steps = _stream(model, data, num_data, steps, epochs, placement, checkpoints)
        rows, scored, epochs = stream.whole, None, None
    else:
        rows, scored = training_data(model, x, y, sample_weight), None
    if held_out is not None:
        rows, scored = hold_out(key, model, rows, held_out)
    x, y, weights = rows
    recipe, steps = plan(
        key,
        as_trained(model, restarts, objective),
        x,
        objective,
        steps=steps,
        epochs=epochs,
        optimizer=optimizer,
        batch_size=batch_size,
        members=restarts.number if restarts else None,
        anchored=restarts is not None and restarts.anchored,
        num_data=None if stream is None else stream.num_data,
    )
    check_anchored(model, objective, recipe, steps)
    inputs = with_members(TrainInputs(key, model, x, y, weight_of(objective, model), weights), restarts)

    scores = validation_set(validation, scored, steps)
    layout = mesh_layout(placement, model, recipe, count_rows(x), restarts.number if restarts else 1)
    mesh = layout and layout.mesh
    with hosts.joined(mesh), ensemble_in_errors(model, restarts):
        policy = checkpoint_policy(checkpoints, inputs, recipe, scores, mesh)
        feed = stream and Feed(stream, steps, mesh, keeps_places=policy is not None)
        how: dict[str, Any] = {"validation": scores, "policy": policy, "layout": layout, "feed": feed}
        trained, history = train(inputs, recipe, steps, progress, **how)
    return as_ensemble(model, trained, restarts), history


def _stream(
    model: BNN,
    data: Any,
    num_data: Any,
    steps: int | None,
    epochs: int | None,
    placement: Placement | None,
    checkpoints: Checkpointing | None,
) -> tuple[Stream, int | None]:
    """Return the stream of `data`, and its steps, on which several processes agree.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for a stream, a mesh or steps that do not fit.
        HostError: if the stream of another process does not.
    """
    mesh = None if placement is None else axes_of(placement)
    share = share_of(mesh)
    with hosts.joined(mesh):
        with hosts.together(mesh):
            stream = Stream(model, data, num_data, steps, epochs, stream_place(checkpoints), share)
            steps = stream.steps(steps, epochs)
            if checkpoints is not None:
                stream.place()  # which has to be one that can be written
        check_alike(stream, steps, mesh)
    return stream, steps


def _of_rows(held_out: Any, restarts: Restarts | None) -> dict[str, Any]:
    """Return what else needs arrays of all rows, None where it is not asked for: a share held out, and anchors."""
    share = None if isinstance(held_out, tuple | list) else held_out
    return {"validation": share, "anchored": True if restarts is not None and restarts.anchored else None}
