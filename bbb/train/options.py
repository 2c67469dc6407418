"""Options of a training, as small frozen objects, each of which documents its fields and checks them.

One rule holds for all of them: where `fit` takes such an object, its first field alone stands for the object with every
other field at its default. So `validation=0.1` is `validation=EarlyStopping(0.1)`, `checkpoints="run"` is
`checkpoints=Checkpointing("run")`, `placement=mesh` is `placement=Placement(mesh)`, and `objective=mse_cost` is
`objective=Objective(mse_cost)`. None is the option left out.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh

from bbb import checks
from bbb.core.tree import Tree
from bbb.devices import mesh as mesh_module
from bbb.errors import InputError, fail
from bbb.forwards.select import as_forward
from bbb.objectives.objective import CostFunction, elbo_cost

Option = TypeVar("Option")


def as_option(kind: type[Option], given: Any) -> Option | None:
    """Return an option as an object of its kind, of which `given` may be the first field alone; None stays None.

    Raises:
        InputError, ShapeError: if the object's own checks refuse it.
    """
    make: Callable[[Any], Option] = kind
    return given if given is None or isinstance(given, kind) else make(given)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimised, and how it is estimated at each step.

    Attributes:
        cost: the cost function, by default the negative evidence lower bound. `bbb.torchbnn.mse_cost` is another, and
            `bbb.objectives.exact_elbo_cost` is that bound without draws, for one hidden layer and Gaussian noise.
        kl_weight: a number, or a schedule from the step to a number (such as optax's), of at least 0; 1 is the bound.
            Another number compiles nothing again, and another schedule does.
        draws: draws of the weights a step, over which the cost is averaged; for each number a program is compiled.
        forward: how the network is made random; by default what the cost asks for, or else
            `weight_sampling(model.apply)`. A network with a training mode (see `bbb.model`) is run in it, and its state
            is updated; the mean over draws, where there are several.
        on_nonfinite: "raise" an error at a loss, gradient, parameter or optimiser's state that is not finite; or "skip"
            such a step, as if its update had been 0, and count it in the history; after 10 in a row, raise.

    Raises:
        InputError: for a field that is none of these.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> objective = bbb.train.Objective(kl_weight=bbb.objectives.warm_up(10), draws=2)
        >>> how = {"steps": 20, "progress": False, "objective": objective}
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> history.kl.shape
        (20,)
    """

    cost: CostFunction = elbo_cost
    _: dataclasses.KW_ONLY
    kl_weight: float | Callable[[jax.Array], Any] = 1.0
    draws: int = 1
    forward: Callable[..., jax.Array] | None = None
    on_nonfinite: str = "raise"

    def __post_init__(self) -> None:
        """Check every field; of a schedule, `fit` checks the weights once it knows the steps."""
        checks.function("objective", self.cost, "Pass for example bbb.torchbnn.mse_cost.")
        if not callable(self.kl_weight):
            checks.not_negative("kl_weight", self.kl_weight)
        object.__setattr__(self, "draws", checks.positive_integer("draws", self.draws))
        if self.forward is not None:
            as_forward(self.forward)
        if not checks.is_word(self.on_nonfinite, ("raise", "skip")):
            got, do = repr(self.on_nonfinite), "Pass one of them."
            fail(InputError, 'on_nonfinite to be "raise" or "skip"', got, do)


@dataclasses.dataclass(frozen=True, eq=False)
class EarlyStopping:
    """Rows to stop early by: `fit` returns the model of the best mean log score on them.

    A score is over 100 draws whose noise is the same each time; or, in a training of the network at its mean
    (`bbb.forwards.at_mean`), of the mean. Of several restarts, each has its own best.

    Attributes:
        validation: the rows, a pair (x, y); or a share of the training rows, such as 0.1, which are chosen by the key
            and not trained on.
        every: steps between two scores; by default a hundredth of all steps. The last step is scored too.
        patience: how many scores in a row may be no better than the best before training stops.

    Raises:
        InputError: for a share outside (0, 1), a tuple that is not a pair, or counts below 1.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> stop = bbb.train.EarlyStopping((task.x_test, task.y_test), every=5, patience=2)
        >>> how = {"steps": 20, "progress": False, "validation": stop}
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> bool(history.best_step <= 20)
        True
    """

    validation: tuple[Any, Any] | float
    _: dataclasses.KW_ONLY
    every: int | None = None
    patience: int = 10

    def __post_init__(self) -> None:
        """Check every field; `fit` checks a pair against the model."""
        given: Any = self.validation
        if not isinstance(given, tuple | list):
            checks.probability("validation", given, example=0.1)
        elif len(given) != 2:
            got, do = f"{len(given)} of them", "Pass validation=(x, y), or a share such as 0.1."
            fail(InputError, "validation to be a pair of arrays", got, do)
        if self.every is not None:
            object.__setattr__(self, "every", checks.positive_integer("every", self.every))
        object.__setattr__(self, "patience", checks.positive_integer("patience", self.patience))


@dataclasses.dataclass(frozen=True)
class Checkpointing:
    """Checkpoints of a training: `fit` saves it in a folder, and goes on from there.

    With checkpoints, Ctrl-C and SIGTERM save before they act.

    Attributes:
        folder: where the last two checkpoints are kept. It is made if it is not there.
        every: steps between two checkpoints; by default 5 to 60 seconds, so that saving takes up to 2 % of the time.
            There is one at the end too.
        resume: whether to go on from the newest whole checkpoint, if there is one, as if training had never stopped,
            bit for bit. Everything but the number of steps, the optimizer, `every` and `progress` has to be what that
            run was given; the optimiser's state has to have the same structure. A stream with a state goes on at the
            very batch; so there have to be as many processes with streams as there were.

    Raises:
        InputError: for a folder that is not a path, `every` below 1, or `resume` that is not a bool.
    """

    folder: str | os.PathLike[str]
    _: dataclasses.KW_ONLY
    every: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Check every field; `fit` checks that the folder can be written."""
        folder: Any = self.folder
        if folder is None:
            do = 'Pass bbb.train.Checkpointing("DIR").'
            fail(InputError, "a folder of checkpoints with every or resume", "none", do)
        checks.is_a("the folder of checkpoints", folder, (str, os.PathLike), 'Pass for example "run".')
        if self.every is not None:
            object.__setattr__(self, "every", checks.positive_integer("every", self.every))
        object.__setattr__(self, "resume", checks.boolean("resume", self.resume))


@dataclasses.dataclass(frozen=True)
class Restarts:
    """Several posteriors from as many starts, trained side by side in one program and predicted as one mixture.

    Member k is what `fit(member_key, start)` would return, to rounding, with
    `member_key = bbb.train.member_keys(key, number)[k]`, and with `init(member_key)` for the means of the
    model's posterior.

    Anchored members are points, and together draws from the posterior, as far as it goes: an anchored ensemble, or
    randomised maximum a posteriori, whose band widens between and beyond the data. Each has an anchor, drawn from the
    prior, and noise on its rows, drawn from the likelihood, and is trained to the weights w that minimise

        −Σ log p(y | f) − Σ (A·ε)ᵀ·f + log p(anchor) − log p(w)

    with the prior p centred at the anchor, f the outputs of a row, A·Aᵀ the Fisher information of y in them, and ε the
    row's standard normals, by the member's key and the row's index alone. For Gaussian noise the sums are those of
    targets y + std·ε. If the network is linear in its weights, and prior and noise are Gaussian, w is an exact draw;
    otherwise one to first order around a maximum of the posterior density, for every likelihood with `fisher_root`, so
    classes and counts too. What a likelihood learns, it learns from y as it is; validation has no noise. In the history
    the data term is the two sums, where noise is Gaussian with f − y in the place of the second f; the KL is the rest.

    The result is a mixture of points: draw i is member i % number, so that `predict` needs no more than 2·number draws.
    An anchor is far from the data, so that members need a higher learning rate than others, or more steps; other starts
    leave them in modes that do not spread. The standard deviation of few members is a noisy one, by about 1/√(2·number)
    of itself: 25 % for 8, 13 % for 32.

    Attributes:
        number: how many posteriors to train; 1 is a plain training.
        init: a function that returns parameters for a key, such as `network.init`; needed if `number` is above 1, but
            not by anchored members, which else start at their anchors.
        anchored: whether members are points with anchors of their own.

    Raises:
        InputError: for a number below 1, or no function to start several members elsewhere; or for one anchored member.

    Sources: Pearce et al. 2020, arXiv 1810.05546, for anchors; Bardsley et al. 2014, SIAM J. Sci. Comput. 36(4), for
    perturbed targets; Janz et al. 2024, arXiv 2311.07565, for linear terms by the Fisher information.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> how = {"steps": 20, "progress": False, "restarts": bbb.train.Restarts(2, layer.init)}
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> model.members, history.loss.shape
        (2, (20, 2))
    """

    number: int
    init: Callable[[jax.Array], Tree] | None = None
    _: dataclasses.KW_ONLY
    anchored: bool = False

    def __post_init__(self) -> None:
        """Check every field; `fit` checks what `init` returns."""
        object.__setattr__(self, "number", checks.positive_integer("restarts", self.number))
        object.__setattr__(self, "anchored", checks.boolean("anchored", self.anchored))
        if self.number == 1 and self.anchored:
            do = "Pass for example bbb.train.Restarts(8, anchored=True)."
            fail(InputError, "several anchored members, which are points", "1", do)
        if self.number == 1 or (self.anchored and self.init is None):
            return
        do = f"Pass restarts=bbb.train.Restarts({self.number}, init=network.init)."
        if self.init is None:
            fail(InputError, "init with restarts, to start each member elsewhere", "none", do)
        checks.function("init with restarts", self.init, do)


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """Devices to train on, and where parameters lie on them.

    Results are the same to rounding, whatever the devices. Several devices of one CPU share its cores, all of which a
    single device uses: a mesh of them tries out a program, and is seldom faster, as a warning of the logger "bbb" says.
    One of several hosts is called alike in all their processes, each with all rows, or with `data` of its own share of
    every batch; the first process writes the checkpoints.

    Attributes:
        mesh: devices to spread the rows of every batch over, along an axis "batch", and the members of `restarts`,
            along an axis "restarts"; either may be absent. With `data` on several hosts, each process holds a part of
            "batch" to itself. Of a parameter of more than 65,536 numbers whose first axis
            the devices of "batch" divide, each device draws, keeps and updates a part, as it does of what the optimiser
            keeps of it.
        partition: for parameters too large for one device, a tree, of `jax.sharding.PartitionSpec`, that is a prefix of
            the parameters; its names are further axes of the mesh. What the optimiser keeps of a parameter lies where
            that does, and so does the model that is returned. `P()` keeps a large one whole on every device.

    Raises:
        InputError: for a mesh that is not a `jax.sharding.Mesh`.
    """

    mesh: Mesh
    partition: Tree = None

    def __post_init__(self) -> None:
        """Check the mesh's type; `fit` checks its axes, and the partition against the parameters."""
        mesh: Any = self.mesh
        if mesh is None:
            got, do = "none", 'Pass mesh=jax.make_mesh((2,), ("model",)).'
            fail(InputError, "a mesh with a partition", got, do)
        mesh_module.check_mesh(mesh, "batch")
