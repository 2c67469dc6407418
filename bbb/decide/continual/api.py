"""`update`: learning on from new rows, with what was learned before as the prior."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import optax
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.core.rows import count_rows
from bbb.data import data_for, weights_for
from bbb.decide.continual import kept
from bbb.decide.continual.drifting import Drift, check_scored, drift
from bbb.decide.continual.laplace import Plan, laplace_plan, updated_by_laplace
from bbb.errors import InputError, fail
from bbb.model import BNN, check_model
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.verbs import check_random
from bbb.priors.multivariate_normal import as_prior
from bbb.train.api import fit
from bbb.train.history import History
from bbb.train.options import Objective, as_option

LEARNING_RATE = 1e-2
"""Adam's at the start; it falls to 0 on a cosine, so that the last steps settle."""


STEPS, NEWTON_STEPS = 2_000, 200
"""Steps of an update unless told: of Adam, and of L-BFGS."""


@dataclasses.dataclass(frozen=True, repr=False)
class Update(display.Displayed):
    """What happened in an update.

    Attributes:
        history: of the training: the negative evidence lower bound of the new rows under the new prior; of a Laplace
            posterior minus the log joint density at the weights, up to a constant.
        drift: how likely the new rows were before the model learned from them; None for a likelihood that cannot draw
            y, and for a network of several outputs, of which `drift` can be asked one by one, before.
        structure: what a Laplace posterior keeps of the curvature; None of a posterior that is trained.
        rows: how many new rows there were.
    """

    history: History
    drift: Drift | None
    structure: str | None
    rows: int

    def _table_shown(self) -> display.Table:
        how = "trained" if self.structure is None else f"Laplace, {self.structure}"
        said = "not asked" if self.drift is None else str(self.drift)
        steps = display.counted(len(self.history.loss), "step")
        return display.Table(
            f"Update by {display.counted(self.rows, 'row')}", [("posterior", f"{how}, {steps}"), ("drift", said)]
        )


def update(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    objective: Objective | Any = None,
    learn_noise: bool = False,
    discount: float = 1.0,
    draws: int = 500,
    memory: int | str = "2GB",
    sample_weight: ArrayLike | None = None,
    progress: bool | None = None,
) -> tuple[BNN, Update]:
    """Learn on from new rows: the posterior so far is the prior of what comes.

    What is exact depends on the posterior alone, for a network that is linear in its weights, with Gaussian noise:

    ===============================  ===================================  ====================================
    posterior                        how it is updated                    equal to one fit on all rows
    ===============================  ===================================  ====================================
    Laplace, "full" or "last_layer"  the mode; its precision is added     always
    Laplace, "kron"                  likewise, in bases of the sum        for one layer, without a bias
    Laplace, "diag"                  likewise, of the diagonal            if columns are orthogonal every time
    Laplace, "low_rank"              likewise, of the leading directions  while the rank holds all
    `FullRank`, `LowRank`, by `fit`  trained on the new rows' bound       as far as it holds the covariance
    `MeanField`, by `fit`            likewise                             if columns are orthogonal every time
    ===============================  ===================================  ====================================

    Of other networks each is what its approximation keeps of the rows before; those are not needed again. A Laplace
    posterior is one of a linearised model, or one that `fit` does not train.

    Kept are the likelihood's noise, unless `learn_noise`; leaves that are point estimates; running statistics of a
    network, and the standardisation that it was made with, such as `bbb.networks.standardize`. Dropout is off.

    The prior of the model that is returned is the posterior of the one that was given, so that neither grows with the
    number of updates.

    Args:
        key: one typed JAX key.
        model: trained before, of one Gaussian posterior. It is not changed.
        x: (rows, ...), the new rows, as `fit` takes them.
        y: observed there; rows of one class alone are fine.
        steps: how many updates of the weights; 2,000 unless `epochs` says it, or 200 of L-BFGS.
        epochs: passes over the new rows.
        optimizer: by default Adam with a learning rate that falls from 0.01 to 0 on a cosine; for the mode of a Laplace
            posterior on all rows at once L-BFGS, which finds it to rounding.
        batch_size: rows a step; by default all.
        objective: as for `fit`, of a posterior that is trained.
        learn_noise: whether a noise that the likelihood learns is learned again, from the new rows alone.
        discount: above 0, at most 1: the covariance of the posterior so far is divided by it before it is the prior, so
            that old rows count for less; 1 forgets nothing.
        draws: of the weights, for the drift.
        memory: bound on the working memory of the drift and of the curvature.
        sample_weight: (rows,), how often each new row counts; by default once.
        progress: show a bar on stderr; by default if stderr is a terminal.

    Returns:
        The model, and a record with the history and the drift.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before training: such
            as an ensemble, of which each member is updated by itself.
        NonFiniteLossError, NonFiniteOutputError: if a number turns non-finite.

    Source: Opper 1998, "A Bayesian approach to on-line learning", in On-Line Learning in Neural Networks; for a trained
    posterior Nguyen et al. 2018, arXiv 1710.10628, eq. 4, without a coreset; for Laplace's Ritter et al. 2018, arXiv
    1805.07810, eq. 8; for `discount`, West and Harrison 1997, Bayesian Forecasting and Dynamic Models, §6.3.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> model, found = bbb.update(
        ...     jax.random.key(2), model, task.x[:5], task.y[:5], steps=20, progress=False
        ... )
        >>> found.rows, type(found.drift).__name__
        (5, 'Drift')
    """
    checks.key(key)
    check_updatable(model)
    checks.outside("update", key=key, model=model, x=x, y=y, sample_weight=sample_weight)
    if checks.one_number("discount", discount) > 1:
        fail(
            InputError, "a discount of at most 1", f"{discount:g}", "Pass 1 to forget nothing, 0.9 to forget a little."
        )
    checks.boolean("learn_noise", learn_noise)
    draws = checks.positive_integer("draws", draws)
    rows = count_rows(data_for(model, x, y)[1])
    weights_for(model, sample_weight, rows)
    prior = as_prior(model.posterior.scaled(1 / math.sqrt(discount)))  # type: ignore[attr-defined]
    plan = laplace_plan(model, x, y, prior, memory, sample_weight) if is_laplace(model) else None
    how: dict[str, Any] = _training(plan, rows, steps, epochs, optimizer, batch_size, objective)
    how |= {"sample_weight": sample_weight, "progress": progress}
    asked, trained, finished = (jax.random.fold_in(key, np.uint32(use)) for use in range(3))
    seen = _drift(asked, model, x, y, draws, memory, sample_weight)
    start = dataclasses.replace(model, apply=kept.as_predicted(model), prior=prior, linearized=False)
    if not (learn_noise and model.likelihood.learn):
        start = dataclasses.replace(start, likelihood=kept.known_noise(model.likelihood))
    if plan is None:
        after, history = fit(trained, start, x, y, **how)
        posterior: Any = kept.with_fixed_leaves(after.posterior, model.posterior)
        after = dataclasses.replace(after, posterior=posterior)
    else:
        after, history = updated_by_laplace((trained, finished), model, start, x, y, plan, memory, how)
    likelihood = after.likelihood if learn_noise and model.likelihood.learn else model.likelihood
    updated = dataclasses.replace(model, posterior=after.posterior, prior=prior, likelihood=likelihood)
    return updated, Update(history, seen, None if plan is None else plan.structure, rows)


def check_updatable(model: Any) -> None:
    """Raise for a model whose posterior cannot be a prior.

    Raises:
        InputError: for an ensemble, draws of Markov chains, or another posterior that is not one Gaussian.
    """
    check_model(model)
    check_random(model.posterior, "update")
    posterior = model.posterior
    if isinstance(posterior, GaussianPosterior):
        return
    got, do = f"a {type(posterior).__name__}", "Pass a model of a Gaussian posterior."
    if posterior.is_mixture:
        got = f"{posterior.components:,} members"
        do = "Update one, model.member(0), or each by itself; or fit on all rows anew."
    if posterior.holds_draws:
        got = f"{posterior.components:,} draws, which are points"
        do = "Fit on all rows anew, or update the model that the chains started from."
    fail(InputError, "a model of one Gaussian posterior, for update", got, do)


def is_laplace(model: BNN) -> bool:
    """Return whether a posterior is updated as that of Laplace, not trained."""
    return model.linearized or not model.posterior.is_trainable


def _training(
    plan: Plan | None,
    rows: int,
    steps: int | None,
    epochs: int | None,
    optimizer: Any,
    batch_size: int | None,
    objective: Any,
) -> dict[str, Any]:
    """Return the options of the training.

    Raises:
        InputError: for options that do not fit each other.
    """
    if plan is not None and objective is not None:
        do = "Leave it out: the mode of the log joint density is what a Laplace posterior stands at."
        fail(InputError, "no objective for a Laplace posterior", f"{type(objective).__name__}", do)
    objective = as_option(Objective, objective)
    if batch_size is not None:
        checks.positive_integer("batch_size", batch_size)
    newton = plan is not None and batch_size is None and optimizer is None
    if steps is None and epochs is None:
        steps = NEWTON_STEPS if newton else STEPS
    options = {"steps": steps, "epochs": epochs, "batch_size": batch_size, "objective": objective}
    if optimizer is None:
        optimizer = optax.lbfgs() if newton else _adam(rows, steps, epochs, batch_size)
    return options | {"optimizer": optimizer}


def _adam(rows: int, steps: int | None, epochs: int | None, batch_size: int | None) -> optax.GradientTransformation:
    """Return Adam with a learning rate that falls to 0 over the steps, however these are given."""
    if steps is None:
        steps = checks.positive_integer("epochs", epochs) * math.ceil(rows / min(batch_size or rows, rows))
    return optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, checks.positive_integer("steps", steps)))


def _drift(
    key: jax.Array, model: BNN, x: Any, y: Any, draws: int, memory: int | str, sample_weight: Any
) -> Drift | None:
    try:
        check_scored(model)
    except InputError:
        return None
    return drift(key, model, x, y, draws=draws, memory=memory, sample_weight=sample_weight)
