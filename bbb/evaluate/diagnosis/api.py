"""A second opinion on a trained model: what looks wrong, what was seen, and what to try.

Each check is a function of a `Case` that gives a finding or None; those of the training look at its history alone.
Limits are set so that a healthy fit is silent: a share must be off by a margin that matters, and by three standard
errors besides, so that few rows prove little. What to try depends on the model: nobody is told to do what it does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.ability import implements
from bbb.core.rows import some_rows
from bbb.data import data_for
from bbb.errors import InputError, fail
from bbb.evaluate.diagnosis import checks_between, checks_of_posterior, checks_of_predictive
from bbb.evaluate.diagnosis.case import Case, Finding, Skipped
from bbb.evaluate.diagnosis.convergence import movement
from bbb.likelihoods.protocol import SupportsClasses, check_predicts
from bbb.model import BNN, check_model
from bbb.predictive.api import predict
from bbb.train.history import History

__all__ = ["CHECKS", "Diagnosis", "Finding", "diagnose", "of_training"]


class Diagnosis(tuple[Finding, ...]):
    """All findings, the most basic first; its `str` is the report. Empty if nothing looks wrong.

    Attributes:
        skipped: the checks that could not be made, and why.
    """

    skipped: tuple[Skipped, ...] = ()

    def __str__(self) -> str:
        found = [f"{finding.name}: {finding.seen}\n    {finding.advice}" for finding in self]
        return "\n".join([*(found or ["Nothing looks wrong."]), *map(_not_looked_at, self.skipped)])


def diagnose(
    model: BNN,
    history: History | tuple[Finding, ...] | None,
    x: Any,
    y: ArrayLike,
    *,
    key: jax.Array | None = None,
    draws: int = 1_000,
    rows: str = "apart",
    sample_weight: ArrayLike | None = None,
) -> Diagnosis:
    """Look for what is wrong with a trained model, and say what to try.

    Args:
        model: what `fit` returned.
        history: of its training, or what `of_training` found in it; without it, training itself is not looked at.
        x: (rows, ...), best of rows that it was not trained on: on training rows, intervals look better than they are.
        y: their observations, as `fit` takes them.
        key: for the draws; by default `jax.random.key(0)`, so that a report can be had again.
        draws: how many draws the report rests on.
        rows: "apart", or "together" for a network whose rows meet: see `predict`.
        sample_weight: (rows,), how often each row counts; by default once. A row of weight 2 counts as two of it in
            every mean, median, rank, coverage and bound; stretches without rows are not looked for then, which
            `skipped` says.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> found = bbb.diagnose(model, history, task.x, task.y, draws=100)
        >>> "not converged" in [finding.name for finding in found]
        True
    """
    check_model(model)
    if model.joint is not None:
        do = f"Pass model.head({model.joint.paths[0]!r}), and its y."
        fail(InputError, "a model of one output, for diagnose", f"one of {len(model.joint.paths)}", do)
    checks.outside("diagnose", model=model, x=x, y=y, key=key, sample_weight=sample_weight)
    check_predicts(model.likelihood, "diagnose", quantiles=True)
    _check_history(history)
    key = jax.random.key(0) if key is None else key
    x, y = data_for(model, x, y, several=True)
    checks.rows("y", y)  # a likelihood of missing targets lets NaN pass, which no score of a row can
    x, y, weights = _counted(x, y, sample_weight, rows)
    made = predict(key, model, x, draws=draws, levels=(0.5, 0.95) if _is_number(model) else (), rows=rows)
    training = of_training(history) if isinstance(history, History) else tuple(history or ())
    case = Case(key, model, training, x, np.asarray(y), made, draws, rows, weights)
    checked = [check for check in CHECKS if not (model.posterior.holds_draws and check in OF_GAUSSIANS)]
    results = [result for check in checked if (result := check(case)) is not None]
    diagnosis = Diagnosis([*training, *(result for result in results if isinstance(result, Finding))])
    diagnosis.skipped = tuple(result for result in results if isinstance(result, Skipped))
    return diagnosis


def _counted(x: Any, y: Any, sample_weight: Any, rows: str) -> tuple[Any, Any, np.ndarray | None]:
    """Return rows that count, and their weights; all rows where these meet."""
    if sample_weight is None:
        return x, y, None
    weights = np.asarray(checks.row_weights(sample_weight, len(y)))
    there = weights > 0
    if rows == "together" or there.all():
        return x, y, weights
    return some_rows(x, there), y[there], weights[there]


def _not_looked_at(skipped: Skipped) -> str:
    return f"It was not looked at whether the model is {skipped.name}: {skipped.reason}"


def of_training(history: History) -> tuple[Finding, ...]:
    """Look for what is wrong with a training, by its history alone."""
    history = history.without_skipped()
    found = (_not_converged(history), _prior_counted_wrong(history))
    return tuple(finding for finding in found if finding is not None)


def _check_history(history: Any) -> None:
    """Raise for what is neither a history, nor what `of_training` found in one, nor None."""
    found = isinstance(history, tuple) and all(isinstance(part, Finding) for part in history)
    if not found:
        checks.is_a("history", history, (History, type(None)), "Pass the second of what bbb.fit gave, or None.")


def _is_number(model: BNN) -> bool:
    return not implements(model.likelihood, SupportsClasses)


def _not_converged(history: History) -> Finding | None:
    """Return a finding for a bound that still rises, or a posterior that still moves."""
    moved = movement(history)
    if moved is None or not moved.goes_on:
        return None
    advice = "Train for more steps, or let the learning rate fall to zero at the end."
    if moved.rate_fell:
        advice = "Train for more steps, over all of which the learning rate falls."
    return Finding("not converged", str(moved), advice)


def _prior_counted_wrong(history: History) -> Finding | None:
    """Return a finding for a KL divergence that counted far more or less at the end of training than in the bound."""
    if not history.is_elbo or not len(history.loss):
        return None
    # over some steps, as a schedule may weigh the batches of an epoch differently
    last = slice(-max(1, len(history.loss) // 10), None)
    loss, data, divergence = (part[last].mean() for part in (history.loss, history.data_term, history.kl))
    weight = (loss - data) / max(divergence, np.finfo(float).tiny)
    if 0.5 <= weight <= 2.0:
        return None
    seen = f"the KL divergence counted {weight:.3g} times at the end of training"
    if weight < 1:
        advice = "Bands come out too narrow. Use kl_weight=1, and let a warm-up end well before training does."
        return Finding("data term outweighs KL", seen, advice)
    return Finding(
        "KL outweighs data term", seen, "Bands come out too wide. Use kl_weight=1: the bound counts all rows."
    )


OF_GAUSSIANS: Sequence[Callable[[Case], Finding | None]] = (
    checks_of_posterior.stds_at_their_start,
    checks_of_posterior.stds_far_too_small,
    checks_of_posterior.at_the_prior,
    checks_of_posterior.collapsed_units,
)
"""Those that look at the Gaussian of each weight, which draws have not."""


CHECKS: Sequence[Callable[[Case], Finding | Skipped | None]] = (
    checks_of_predictive.worse_than_the_mean,
    checks_of_predictive.off_scale,
    *OF_GAUSSIANS,
    checks_of_predictive.noise_off,
    checks_of_predictive.noise_of_rows,
    checks_of_predictive.wrong_coverage,
    checks_of_predictive.overconfident_classes,
    checks_of_predictive.no_spread_away,
    checks_between.too_sure_between,
    checks_of_predictive.hangs_on_the_start,
)
