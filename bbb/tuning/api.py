"""`tune`: from a model to the prior's scales, and the noise, under which its data are most probable."""

import functools

import jax
import numpy as np
import optax
from numpy.typing import ArrayLike

from bbb import checks
from bbb.curvature.evidence import evidence_problem
from bbb.model import BNN, check_model
from bbb.tuning.record import Tuning, joined
from bbb.tuning.rounds import raised, trained
from bbb.tuning.scales import check_tunable, groups_of, with_std_per_leaf


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
) -> tuple[BNN, Tuning]:
    """Return the model with the prior's scales and the noise that raise the evidence, so that nobody chooses them.

    The evidence is `log_evidence`: Laplace's estimate of log p(y | x, prior, noise) at the means. It is raised in the
    logarithm of one factor on the prior's standard deviations for each group of weights, so that their ratios within a
    group stay, and in the parameters of the likelihood if it is to learn them (`learn=True`).

    Without `rounds`, the means stay what they are. With them, each round first trains the means to the maximum a
    posteriori under the scales so far, as `fit` does with `bbb.forwards.at_mean`, the likelihood fixed, and then raises
    the evidence there; the round of the largest evidence is returned. For a network that is linear in its weights, with
    Gaussian noise, rounds lead to the maximum of the exact density of the data. `laplace` then gives the posterior.

    Of an ensemble, the sum of its members' evidences is raised: they share the prior, and each has its own noise.

    Args:
        key: one typed JAX key, for the batches of training; without rounds there is no chance.
        model: with a `bbb.priors.Normal`; trained, unless there are rounds.
        x: (rows, ...), the data it is trained on.
        y: the shape of the network's outputs, (rows, ...).
        rounds: how many times to train and to raise the evidence after that; 10 to 30 lead close to the maximum.
        steps: of training in each round, which goes on from the means of the round before.
        updates: the most updates of the scales in a round, each a few times as costly as one evidence; they end before
            that where no more is to be gained.
        per: the weights that share a factor: "leaf", one array; "layer", the arrays of one parent in the tree, such as
            a weight and its bias; or "network", all.
        structure: as for `log_evidence`; under "last_layer" the prior of that layer alone is raised.
        optimizer: of each round, which begins anew; by default Adam, whose rate falls from 0.01 to 0 on a cosine.
        batch_size: rows a step of training; by default all.
        memory: bound on the working memory of one evidence; its gradient takes several times as much.
        progress: as for `fit`.

    Returns:
        The model, whose prior has a standard deviation for each leaf, and the updates.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: as `laplace`; and for a prior that is not a `Normal`,
            or counts below 1: before anything is computed.
        NonFiniteOutputError: if the Gauss-Newton is NaN or infinite; it names the first row.
        NonFiniteLossError: as `fit`.

    Source: MacKay 1992, "A practical Bayesian framework for backpropagation networks", Neural Comput. 4, 448;
    alternating with training, Immer et al. 2021, arXiv 2104.04975, algorithm 1.
    """
    checks.key(key)
    check_model(model)
    checks.outside("tune", key=key, model=model, x=x, y=y)
    if rounds is not None:
        rounds = checks.positive_integer("rounds", rounds)
    steps, updates = checks.positive_integer("steps", steps), checks.positive_integer("updates", updates)
    check_tunable(model)
    problem, size = evidence_problem("tune", model.member(0), x, y, structure, None, memory)
    groups = groups_of(problem.random, per)
    model = with_std_per_leaf(model)
    of_fit = {"steps": steps, "optimizer": optimizer or _falling(steps), "batch_size": batch_size, "progress": progress}
    found, records = [], []
    for i in range(rounds or 1):
        if rounds is not None:
            model = trained(jax.random.fold_in(key, i), model, x, y, **of_fit)
        model, record = raised(model, problem, groups, size=size, structure=structure, updates=updates)
        found.append(model)
        records.append(record)
    best = int(np.argmax([record.evidence[-1] for record in records]))
    return found[best], joined(records, best, first=0 if rounds is None else 1)


@functools.cache  # one object for all calls, so that they share a compiled program
def _falling(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))
