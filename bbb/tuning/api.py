"""`tune`: from a model to the prior's scales, and the noise, under which its data are most probable."""

import functools
from typing import Any

import jax
import optax
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.rows import count_rows
from bbb.curvature.evidence import evidence_problem
from bbb.data import rows_for
from bbb.errors import InputError, fail
from bbb.model import BNN, check_model
from bbb.objectives import optimizers
from bbb.tracing.canonical import canonical
from bbb.tuning.descent import training_of
from bbb.tuning.record import Tuning
from bbb.tuning.rounds import Raising, alternated
from bbb.tuning.scales import check_tunable, groups_of, with_std_per_group


def tune(
    key: jax.Array,
    model: BNN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    rounds: int | None = None,
    steps: int = 500,
    updates: int = 50,
    per: str = "layer",
    structure: str = "full",
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    memory: int | str = "2GB",
    progress: bool | None = None,
    sample_weight: ArrayLike | None = None,
) -> tuple[BNN, Tuning]:
    """Return the model with the prior's scales and the noise that raise the evidence, so that nobody chooses them.

    The evidence is `log_evidence`: Laplace's estimate of log p(y | x, prior, noise) at the means. It is raised in the
    logarithm of one factor on the prior's standard deviations for each group of weights, so that their ratios within a
    group stay, and in the parameters of the likelihood if it is to learn them (`learn=True`).

    Without `rounds`, the means stay what they are. With them, each round first trains the means to the maximum a
    posteriori under the scales so far, the likelihood fixed and the network as in predictions, and then raises the
    evidence there; the round of the largest evidence is returned. Many short rounds find more than few long ones, whose
    means follow the noise before the scales can say so: `rounds=200, steps=50, updates=1` from a prior and a noise that
    are rather too wide is how the estimators learn. For a network that is linear in its weights, with
    Gaussian noise, rounds lead to the maximum of the exact density of the data. `laplace` then gives the posterior.

    Of an ensemble, the sum of its members' evidences is raised: they share the prior, and each has its own noise.

    Args:
        key: one typed JAX key, for the batches of training; without rounds there is no chance.
        model: with a `bbb.priors.Normal`; trained, unless there are rounds.
        x: (rows, ...), the data it is trained on.
        y: the shape of the network's outputs, (rows, ...).
        rounds: how many times to train and to raise the evidence after that.
        steps: of training in each round, which goes on from the means of the round before.
        updates: the most updates of the scales in a round, each a few times as costly as one evidence; they end before
            that where no more is to be gained.
        per: the weights that share a factor: "leaf", one array; "layer", the arrays of one parent in the tree, such as
            a weight and its bias; "network", all; or "column", one array, but of a first dense layer the weights of one
            column of x (automatic relevance determination): columns that say nothing get a prior next to 0. A
            network that uses x in another way has no such layer.
        structure: as for `log_evidence`; under "last_layer" the prior of that layer alone is raised.
        optimizer: of each round, which begins anew; by default Adam, whose rate falls from 0.01 to 0 on a cosine.
        batch_size: rows a step of training; by default all.
        memory: bound on the working memory of one evidence; its gradient takes several times as much.
        progress: show a bar on stderr; by default if stderr is a terminal.
        sample_weight: (rows,), finite and at least 0: how often each row counts, as for `laplace`; by default once.

    Returns:
        The model, whose prior has a standard deviation for each leaf, and the updates.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: as `laplace`; and for a prior that is not a `Normal`,
            or counts below 1: before anything is computed.
        NonFiniteOutputError: if the Gauss-Newton is NaN or infinite; it names the first row.
        NonFiniteLossError: if the means are NaN or infinite after training.

    Source: MacKay 1992, "A practical Bayesian framework for backpropagation networks", Neural Comput. 4, 448;
    alternating with training, Immer et al. 2021, arXiv 2104.04975, algorithm 1; a prior for each column, Neal 1996,
    Bayesian Learning for Neural Networks, §1.2.3.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> model, found = bbb.tune(jax.random.key(2), model, task.x, task.y)
        >>> type(found).__name__
        'Tuning'
    """
    checks.key(key)
    check_model(model)
    checks.outside("tune", key=key, model=model, x=x, y=y, sample_weight=sample_weight)
    rounds = None if rounds is None else checks.positive_integer("rounds", rounds)
    steps, updates = checks.positive_integer("steps", steps), checks.positive_integer("updates", updates)
    checks.boolean("progress", progress is not None and progress)
    check_tunable(model)
    optimizer = canonical(optimizer or _falling(steps), "The optimiser")
    if rounds is not None:
        _check_training(model, optimizer, batch_size)
    first = model.member(0)
    problem, size = evidence_problem("tune", first, x, y, structure, None, memory, sample_weight)
    groups = groups_of(first, problem.random, x, per)
    training = training_of(steps, optimizer, batch_size, rows=count_rows(rows_for(first, "x", x)))
    raising = Raising(groups, size.form, structure, updates)
    return alternated(
        key, with_std_per_group(model, groups, problem.random), problem, raising, training, rounds, progress
    )


def _check_training(model: BNN, optimizer: Any, batch_size: int | None) -> None:
    """Raise for a model, an optimizer or a batch that the means cannot be trained with."""
    if model.linearized:
        do = "Pass the model that it was made from."
        fail(InputError, "a model of the network itself, to train it", "a linearised one", do)
    params = model.posterior.component(0).params
    optimizers.check(optimizer, jax.tree.leaves(params))
    if batch_size is not None:
        checks.positive_integer("batch_size", batch_size)
        if optimizers.learns_curvature(optimizer, jax.tree.leaves(params)):
            optimizers.check_fixed(batch_size, optimizers.MIN_DRAWS, random=False)


@functools.cache  # one object for all calls, so that they share a compiled program
def _falling(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))
