"""A second opinion on a trained model: what looks wrong, what was seen, and what to try.

Each check is a function of a `_Case` that gives a finding or None. Limits are set so that a healthy fit is silent:
a share must be off by a margin that matters, and by three standard errors besides, so that few rows prove little.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check, metrics
from bbb._tree import count
from bbb.ensemble import spread
from bbb.history import History
from bbb.likelihood import check_predicts
from bbb.model import BNN, check_model
from bbb.objective import data_for, elbo_cost
from bbb.posterior import MeanField, first_member
from bbb.predict import predict
from bbb.prior import Normal, kl
from bbb.summary import ClassMarginal, Predictive


class Finding(NamedTuple):
    """Something that looks wrong.

    Attributes:
        name: what it is called, such as "not converged".
        seen: the figures that it was seen by.
        advice: what to try.
    """

    name: str
    seen: str
    advice: str


class Diagnosis(tuple[Finding, ...]):
    """All findings, the most basic first; its `str` is the report. Empty if nothing looks wrong."""

    __slots__ = ()

    def __str__(self) -> str:
        if not self:
            return "Nothing looks wrong."
        return "\n".join(f"{finding.name}: {finding.seen}\n    {finding.advice}" for finding in self)


def diagnose(
    model: BNN, history: History | None, x: Any, y: Any, *, key: jax.Array | None = None, draws: int = 1_000
) -> Diagnosis:
    """Look for what is wrong with a trained model, and say what to try.

    Args:
        model: what `fit` returned.
        history: of its training; without it, training itself is not looked at.
        x: (rows, ...), best of rows that it was not trained on: on training rows, intervals look better than they are.
        y: their observations, as `fit` takes them.
        key: for the draws; by default `jax.random.key(0)`, so that a report can be had again.
        draws: how many draws the report rests on.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
    """
    check_model(model)
    _check.outside("diagnose", model=model, x=x, y=y, key=key)
    check_predicts(model.likelihood, "diagnose", quantiles=True)
    if history is not None:
        _check.is_a("history", history, History, "Pass the second of what bbb.fit gave, or None.")
    key = jax.random.key(0) if key is None else key
    x, y = data_for(model.member(0), x, y)
    made = predict(key, model, x, draws=draws, levels=(0.5, 0.95) if _is_number(model) else ())
    history = None if history is None else history.without_skipped()
    case = _Case(key, model, history, x, np.asarray(y), made, draws)
    return Diagnosis(finding for finding in (check(case) for check in CHECKS) if finding is not None)


class _Case(NamedTuple):
    key: jax.Array
    model: BNN
    history: History | None
    x: jax.Array
    y: np.ndarray
    predictive: Predictive
    draws: int

    @property
    def posterior(self) -> MeanField:
        """The posterior, or the first of several, which speaks for all."""
        return first_member(self.model.posterior)


def _is_number(model: BNN) -> bool:
    return not hasattr(model.likelihood, "probabilities")


# Training


TAIL = 10
"""The last tenth of the training is compared with the tenth before it."""


def _not_converged(case: _Case) -> Finding | None:
    """Find a bound that still rises: by more than a fiftieth of all it rose, and than four standard errors."""
    if case.history is None or len(case.history.loss) < 4 * TAIL:
        return None
    loss = _steps_by_members(_bound(case.history)).mean(axis=1)
    tenth = len(loss) // TAIL
    first, before, last = loss[:tenth], loss[-2 * tenth : -tenth], loss[-tenth:]
    fall, error = before.mean() - last.mean(), _error_of_difference(before, last)
    if fall <= max(0.02 * (first.mean() - last.mean()), 4 * error):
        return None
    seen = f"the loss fell by {fall:.3g} ± {error:.1g} over the last tenth of {len(loss):,} steps"
    return Finding("not converged", seen, "Train for more steps, or let the learning rate fall to zero at the end.")


def _bound(history: History) -> np.ndarray:
    """Give what training should have lowered: not the loss itself, which rises while the KL is warmed up."""
    return history.negative_elbo if history.cost == elbo_cost.__name__ else history.loss


def _error_of_difference(a: np.ndarray, b: np.ndarray, blocks: int = 4) -> float:
    """Give the standard error of a difference of means of series, by means of blocks, which hang together less."""
    spread = [np.var([block.mean() for block in np.array_split(part, blocks)], ddof=1) for part in (a, b)]
    return float(np.sqrt(sum(spread) / blocks))


def _steps_by_members(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _prior_counted_wrong(case: _Case) -> Finding | None:
    """Find a weight of the KL divergence, at the end of training, that is far from that of the bound."""
    history = case.history
    if history is None or history.cost != elbo_cost.__name__:
        return None
    loss, data, divergence = (part[-1].mean() for part in (history.loss, history.data_term, history.kl))
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


# The posterior


def _stds_at_their_start(case: _Case) -> Finding | None:
    """Find standard deviations that are still alike, as they start, in every leaf of more than one weight."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(case.posterior.log_std)]
    spreads = [float(np.std(leaf)) for leaf in leaves if leaf.size > 1]
    if not spreads or max(spreads) > 0.01:
        return None
    seen = f"within each leaf, the standard deviations differ by {max(spreads):.1%} at most"
    advice = "Train longer or with a larger learning rate; a forward without noise cannot teach them."
    return Finding("standard deviations still at their start", seen, advice)


def _at_the_prior(case: _Case) -> Finding | None:
    """Find a posterior that has learned next to nothing from the data."""
    if not isinstance(case.model.prior, Normal):
        return None
    nats, explained = float(kl(case.posterior, case.model.prior)) / count(case.posterior.log_std), _explained(case)
    if nats >= 0.05 or explained >= 0.1:
        return None
    seen = f"{nats:.2g} nats a weight, and the mean explains {max(explained, 0):.0%} of the variance of y"
    advice = "The KL divergence outweighs what the data say: use a smaller network, a wider prior, or more rows."
    return Finding("collapsed onto the prior", seen, advice)


def _explained(case: _Case) -> float:
    """Give the share of the variance of y that the mean explains; of classes, of being right rather than common."""
    y, made = case.y, case.predictive.y
    if isinstance(made, ClassMarginal):
        common = float(np.max(np.bincount(y.astype(int).ravel()))) / y.size
        right = float(np.mean(made.classes == y.ravel()))
        return (right - common) / max(1 - common, 1 / y.size)
    return 1 - float(np.mean(np.square(y - made.mean))) / max(float(np.var(y, axis=0).mean()), np.finfo(float).tiny)


IDLE, IDLE_NATS, FEW_UNITS = 0.9, 0.1, 8


def _collapsed_units(case: _Case) -> Finding | None:
    """Find a layer of which nearly all units are at the prior: of a wide network, little is used."""
    if not isinstance(case.model.prior, Normal):
        return None
    leaves = jax.tree.leaves(case.model.prior.kl_of_weights(case.posterior))
    idle = max((_idle_share(np.asarray(nats)) for nats in leaves), default=0.0)
    if idle < IDLE:
        return None
    seen = f"{idle:.1%} of the units of a layer carry less than {IDLE_NATS} nats a weight"
    return Finding("units collapsed onto the prior", seen, "Use fewer units, a wider prior, or fewer layers.")


def _idle_share(nats: np.ndarray) -> float:
    """Give the largest share of slices along an axis, such as rows of a matrix, whose weights are at the prior."""
    axes = [axis for axis, units in enumerate(nats.shape) if nats.ndim > 1 and units >= FEW_UNITS]
    slices = (np.moveaxis(nats, axis, 0).reshape(nats.shape[axis], -1) for axis in axes)
    return max((float(np.mean(units.mean(axis=1) < IDLE_NATS)) for units in slices), default=0.0)


# The predictive


def _noise_off(case: _Case) -> Finding | None:
    """Find noise, as the likelihood takes it, that is far from what the residuals are."""
    if not hasattr(case.model.likelihood, "variance") or getattr(case.model.likelihood, "discrete", False):
        return None
    made = case.predictive
    residual = float(np.sqrt(np.mean(np.square(case.y - made.y.mean))))
    noise = float(np.sqrt(np.mean(np.maximum(made.y.std**2 - made.f.std**2, 0.0))))
    total = float(np.sqrt(np.mean(made.y.std**2)))
    slack = 1 + 3 / math.sqrt(2 * case.y.size)
    if noise > 2 * slack * residual:
        advice = "Learn it (learn=True) or give a smaller std; a network that fits badly is excused by much noise."
        return Finding("noise far above the residuals", f"noise sd {noise:.3g}, residuals {residual:.3g}", advice)
    if residual > 2 * slack * total:
        advice = "Learn the noise (learn=True), or give it a larger std; a KL weight below 1 also implies less noise."
        seen = f"sd of y {total:.3g}, of which noise {noise:.3g}; residuals {residual:.3g}"
        return Finding("noise far below the residuals", seen, advice)
    return None


def _wrong_coverage(case: _Case) -> Finding | None:
    """Find intervals that hold too few or too many of the rows."""
    made, rows = case.predictive.y, case.y.size
    if isinstance(made, ClassMarginal) or rows < 20 or getattr(case.model.likelihood, "discrete", False):
        return None
    found = {level: metrics.coverage(case.y, *made.interval(level)) for level in (0.5, 0.95)}
    seen = ", ".join(f"the {level:.0%} interval holds {share:.1%}" for level, share in found.items())
    if found[0.95] < 0.95 - 0.05 - 3 * math.sqrt(0.95 * 0.05 / rows):
        advice = "Look for rows unlike those of training; else give the noise a heavier tail or more std, or more data."
        return Finding("intervals too narrow", seen, advice)
    if found[0.5] > 0.5 + 0.25 + 3 * math.sqrt(0.25 / rows) and found[0.95] > 0.95:
        advice = (
            "Train longer; let the noise be learned (learn=True); a likelihood with its own noise for each row may fit."
        )
        return Finding("intervals too wide", seen, advice)
    return None


def _overconfident_classes(case: _Case) -> Finding | None:
    """Find probabilities of classes that are far from how often they come true."""
    made = case.predictive.y
    if not isinstance(made, ClassMarginal) or len(case.y) < 100:
        return None
    error = metrics.expected_calibration_error(case.y, made.probabilities)
    if error < 0.1 + 3 * 0.5 / math.sqrt(len(case.y)):
        return None
    advice = "Look at plot.reliability; train on the full bound (kl_weight=1), or on more data."
    return Finding("probabilities miscalibrated", f"expected calibration error {error:.1%}", advice)


FAR = 4.0
"""How many times further out than a row of the data a row far from it is, from their centre."""


def _no_spread_away(case: _Case) -> Finding | None:
    """Find a function that is no less sure far from all data than among them."""
    x = case.x
    if not (jnp.issubdtype(x.dtype, jnp.floating) and x.ndim == 2 and len(x) > 1):
        return None
    centre = jnp.mean(x, axis=0, keepdims=True)
    far = predict(case.key, case.model, centre + FAR * (x - centre), draws=min(case.draws, 200)).f.std
    ratio = float(np.median(far) / max(float(np.median(case.predictive.f.std)), np.finfo(far.dtype).tiny))
    if ratio > 1.2:
        return None
    seen = f"the sd of f is {ratio:.2g} times that among the data at {FAR:g} times the distance from their centre"
    advice = "Bounded activations and a narrow prior do this: use relu or another unbounded one, or a wider prior."
    return Finding("no more spread away from the data", seen, advice)


def _hangs_on_the_start(case: _Case) -> Finding | None:
    """Find members of an ensemble that disagree by more than each of them admits."""
    model = case.model
    if model.members == 1:
        return None
    found = spread(case.key, model, case.x, draws=max(case.draws, 20 * model.members))
    between, within = (float(jnp.sqrt(jnp.mean(jnp.square(part)))) for part in (found.between, found.within))
    if between <= 2 * within:
        return None
    seen = f"the means of {model.members} restarts differ by {between:.3g}, and their own sd is {within:.3g}"
    return Finding(
        "results hang on the start", seen, "Keep the ensemble of restarts; train longer, or widen the network."
    )


CHECKS: Sequence[Callable[[_Case], Finding | None]] = (
    _not_converged,
    _prior_counted_wrong,
    _stds_at_their_start,
    _at_the_prior,
    _collapsed_units,
    _noise_off,
    _wrong_coverage,
    _overconfident_classes,
    _no_spread_away,
    _hangs_on_the_start,
)
