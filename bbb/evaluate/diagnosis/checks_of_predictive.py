"""The checks of `bbb.diagnose` on the predictions of rows."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from bbb import metrics, mixture
from bbb.core.ability import implements
from bbb.core.rows import count_rows, with_rows
from bbb.data import is_tree
from bbb.evaluate.diagnosis.case import Case, Finding
from bbb.evaluate.diagnosis.checks_of_posterior import collapsed_units
from bbb.evaluate.restart_spread import spread
from bbb.likelihoods.counts import Poisson
from bbb.likelihoods.gaussian import Gaussian
from bbb.likelihoods.protocol import SupportsMoments
from bbb.likelihoods.student_t import StudentT
from bbb.predictive.api import predict
from bbb.predictive.evaluation import draws as draw
from bbb.predictive.summary import ClassMarginal

MEAN_OF_Y = -0.1
"""R² of these rows below which the mean of y is the better prediction, by more than chance."""


def worse_than_the_mean(case: Case) -> Finding | None:
    """Find a function that predicts these rows worse than their mean does, or classes worse than the commonest one."""
    if case.size < 10 or case.explained >= MEAN_OF_Y - 1 / math.sqrt(case.size):
        return None
    kind = "share of classes explained" if case.is_classes else "R²"
    always = "the commonest class" if case.is_classes else "the mean of y"
    seen = f"{kind} {case.explained:.2g} on these rows: {always} for every row is nearer"
    if case.trained_badly("not converged"):
        advice = "Train for more steps, as said above, before anything else is looked at."
    elif case.off_scale:
        advice = f"{case.off_scale}: learn standardised columns, with bbb.networks.standardize(apply, x, y)."
    elif collapsed_units(case) is not None and case.has_wide_prior:
        advice = "Use prior=bbb.priors.fan_in(params), so that the noise of many units does not drown the data."
    else:
        advice = "Train on rows like these, or for more steps."
    return Finding("worse than the mean of y", seen, advice)


def off_scale(case: Case) -> Finding | None:
    """Find columns far from mean 0 and standard deviation 1 in a model that does not fit them."""
    seen = case.off_scale
    if seen is None or (case.explained >= 0.9 and not _far_below(case)):
        return None
    advice = (
        "Learn standardised ones: bayesianize(bbb.networks.standardize(network.apply, x, y), ...), "
        "with noise in y's units."
    )
    return Finding("columns not standardised", f"{seen}, and the mean explains {case.explained:.0%} of y", advice)


def noise_off(case: Case) -> Finding | None:
    """Find noise of the likelihood that is far from the size of the residuals."""
    if not implements(case.likelihood, SupportsMoments) or case.is_discrete or off_scale(case) is not None:
        return None
    noise, total, residual = _sizes(case)
    if noise > 2 * _slack(case) * residual:
        seen = f"noise sd {noise:.3g}, residuals {residual:.3g}"
        advice = (
            "It was to be learned, and is still on its way: train longer, or start it nearer to the residuals."
            if case.learns_noise
            else "Learn it (learn=True), or give a smaller std; a network that fits badly is excused by much noise."
        )
        return Finding("noise far above the residuals", seen, advice)
    if _far_below(case):
        seen = f"sd of y {total:.3g}, of which noise {noise:.3g}; residuals {residual:.3g}"
        return Finding("noise far below the residuals", seen, _advice_for_little_noise(case))
    return None


def _advice_for_little_noise(case: Case) -> str:
    if case.trained_badly("data term outweighs KL"):
        return "A KL divergence counted less than once implies less noise: use kl_weight=1."
    if case.learns_noise:
        return "The noise was learned on rows that were fitted better: train on more rows, or on some like these."
    return "Learn the noise (learn=True), or give it a larger std."


def _sizes(case: Case) -> tuple[float, float, float]:
    """Return the root mean squares of the noise, of y's standard deviation, and of the residuals."""
    made = case.predictive
    squares = np.maximum(made.y.std**2 - made.f.std**2, 0.0), made.y.std**2, np.square(case.residuals)
    noise, total, residual = (math.sqrt(case.mean(part)) for part in squares)
    return noise, total, residual


def _slack(case: Case) -> float:
    """Return the factor by which a standard deviation may be off by chance, for few rows."""
    return 1 + 3 / math.sqrt(2 * case.size)


def _far_below(case: Case) -> bool:
    """Return whether the residuals are far above the standard deviation of the predictive."""
    if case.is_discrete:
        return False
    _, total, residual = _sizes(case)
    return residual > 2 * _slack(case) * total


MIN_RANK_CORRELATION, MAX_P, MIN_ROWS = 0.35, 1e-4, 50
"""Thresholds for noise that depends on the row: Spearman's correlation of the size of the residuals with a property of
the row, its p-value times the number of properties tried, and the number of rows."""


def noise_of_rows(case: Case) -> Finding | None:
    """Find residuals whose size depends on the row, where the likelihood has one noise for all rows."""
    has_one_noise = isinstance(case.likelihood, Gaussian | StudentT)
    if not has_one_noise or case.count < MIN_ROWS or case.explained < 0:
        return None
    if case.trained_badly("not converged") or noise_off(case) is not None:  # residuals of a misfit, not noise
        return None
    made = case.predictive.y
    sizes = np.abs((case.y - made.mean) / made.std).reshape(len(case.y), -1).mean(axis=1)
    known = dict(_known_of_rows(case))
    found = {name: _rank_correlation(sizes, values, case.weights) for name, values in known.items()}
    name, (strongest, p) = max(found.items(), key=lambda item: abs(item[1][0]))
    if abs(strongest) < MIN_RANK_CORRELATION or p * len(known) > MAX_P:
        return None
    seen = f"the size of residuals, over the sd of y, has a rank correlation of {strongest:.2f} with {name}"
    advice = (
        "Give each row noise of its own: likelihood=bbb.likelihoods.HeteroscedasticGaussian(), and twice the outputs."
    )
    return Finding("noise depends on the row", seen, advice)


def _rank_correlation(a: np.ndarray, b: np.ndarray, counts: np.ndarray | None) -> tuple[float, float]:
    """Return Spearman's rank correlation of numbers that are there so many times, and its p-value."""
    from scipy import stats  # noqa: PLC0415 - heavy, and `import bbb` is light

    if counts is None:
        found = stats.spearmanr(a, b)
        return float(found.statistic), float(found.pvalue)
    (of_a, of_b), degrees = (_ranks(values, counts) for values in (a, b)), counts.sum() - 2
    correlation = float(
        np.cov(of_a, of_b, aweights=counts)[0, 1]
        / np.sqrt(np.cov(of_a, aweights=counts) * np.cov(of_b, aweights=counts))
    )
    t = abs(correlation) * math.sqrt(degrees / max(1 - correlation**2, np.finfo(float).tiny))
    return correlation, float(2 * stats.t.sf(t, degrees))


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the ranks of numbers that are there so many times, the mean of all that are equal."""
    of_value = np.unique(values, return_inverse=True)[1]
    equal = np.bincount(of_value, counts)
    return (np.cumsum(equal) - equal / 2 + 0.5)[of_value]


MAX_COLUMNS = 32
"""Number of columns of x that are tried."""


def _known_of_rows(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """Yield properties of the rows that noise may depend on: the mean of y, each column of x, and their distances."""
    known = {"the mean": case.predictive.y.mean}
    if not is_tree(case.x):
        known["x"] = np.asarray(case.x, float)
    for name, values in known.items():
        columns = np.asarray(values, float).reshape(len(values), -1).T
        for i, column in enumerate(columns[:MAX_COLUMNS]):
            if np.ptp(column) > 0:
                which = f"{name}[:, {i}]" if len(columns) > 1 else name
                yield which, column
                yield f"the distance of {which} from its median", np.abs(column - case.median(column))


def wrong_coverage(case: Case) -> Finding | None:
    """Find intervals that contain too few or too many of the rows; for counts, by the randomised PIT."""
    rows = case.size
    if case.is_classes or rows < 20:
        return None
    inside = _inside(case)
    seen = ", ".join(f"the {level:.0%} interval holds {share:.1%}" for level, share in inside.items())
    if inside[0.95] < 0.95 - 0.05 - 3 * math.sqrt(0.95 * 0.05 / rows):
        return Finding("intervals too narrow", seen, _advice_for_narrow_intervals(case))
    if inside[0.5] > 0.5 + 0.25 + 3 * math.sqrt(0.25 / rows) and inside[0.95] > 0.95:
        return Finding("intervals too wide", seen, _advice_for_wide_intervals(case))
    return None


def _inside(case: Case) -> dict[float, float]:
    """Return the share of rows inside the 50 % and the 95 % interval."""
    levels, made = (0.5, 0.95), case.predictive.y
    if not case.is_discrete:
        ends = {level: made.interval(level) for level in levels}
        return {level: metrics.coverage(case.y, *ends[level], sample_weight=case.weights) for level in levels}
    likelihood, (x, y, weights) = case.model.likelihood, case.some_rows(MAX_COUNTS)
    outputs = draw(case.key, case.model, x, draws=min(case.draws, 200), rows=case.rows)
    below, upto = (np.asarray(mixture.cdf(likelihood, outputs, at), float) for at in (y - 1, y))
    found = metrics.pit(jax.random.fold_in(case.key, 1), np.minimum(below, upto), upto)
    return dict(zip(levels, metrics.observed_coverage(found, levels, sample_weight=weights).tolist(), strict=True))


MAX_COUNTS = 1_000
"""Number of rows whose draws are kept at once, for the distribution of counts."""


def _advice_for_narrow_intervals(case: Case) -> str:
    if isinstance(case.likelihood, Poisson):
        return "The counts vary more than a Poisson's: use likelihood=bbb.likelihoods.NegativeBinomial(learn=True)."
    if case.trained_badly("data term outweighs KL"):
        return "The KL divergence was counted less than once: use kl_weight=1."
    if case.learns_noise or case.is_discrete:
        return "Look for rows unlike those of training, and train on some like these."
    return "Let the noise be learned (learn=True), or give it more std."


def _advice_for_wide_intervals(case: Case) -> str:
    if case.trained_badly("KL outweighs data term"):
        return "The KL divergence was counted more than once: use kl_weight=1."
    if case.is_discrete or case.learns_noise:
        return "Train longer, so that the noise and the standard deviations come down to what the rows show."
    return "Let the noise be learned (learn=True), or give a smaller std."


def overconfident_classes(case: Case) -> Finding | None:
    """Find probabilities of classes that are far from their observed frequencies."""
    made = case.predictive.y
    if not isinstance(made, ClassMarginal) or case.count < 100:
        return None
    error = metrics.expected_calibration_error(case.y, made.probabilities, sample_weight=case.weights)
    if error < 0.1 + 3 * 0.5 / math.sqrt(case.count):
        return None
    advice = "Look at plot.reliability; train on the full bound (kl_weight=1), or on more data."
    return Finding("probabilities miscalibrated", f"expected calibration error {error:.1%}", advice)


FAR = 4.0
"""Factor by which rows away from the data are further from its centre."""


SATURATING = ("tanh", "logistic", "erf")
"""JAX primitives with bounded values."""


def no_spread_away(case: Case) -> Finding | None:
    """Find a function whose uncertainty does not grow away from the data."""
    x = case.columns
    if x is None or len(x) == 1:
        return None
    if case.weights is not None:
        centre = jnp.asarray(np.average(x, axis=0, weights=case.weights), x.dtype)[None]
    else:
        centre = jnp.mean(x, axis=0, keepdims=True)
    far_x, draws = centre + FAR * (x - centre), min(case.draws, 200)
    far = predict(case.key, case.model, far_x, draws=draws, rows=case.rows).f.std
    ratio = case.median(far) / max(case.median(case.predictive.f.std), float(np.finfo(far.dtype).tiny))
    if ratio > 1.2:
        return None
    seen = f"the sd of f is {ratio:.2g} times that among the data at {FAR:g} times the distance from their centre"
    if _is_bounded(case):
        advice = "Bounded activations do this: use relu or another unbounded one."
    else:
        advice = "A prior that allows so little does this: use a wider one, such as bbb.priors.fan_in(params)."
    return Finding("no more spread away from the data", seen, advice)


def _is_bounded(case: Case) -> bool:
    """Return whether the network has bounded activations only."""
    rows = with_rows(case.x, count_rows(case.x))  # all: a network across rows may take no other number
    lines = str(jax.make_jaxpr(case.model.apply)(case.model.posterior.params, rows)).split()
    return any(name in lines for name in SATURATING) and "max" not in lines and "relu" not in lines


def hangs_on_the_start(case: Case) -> Finding | None:
    """Find members of an ensemble that differ by more than their own standard deviations."""
    model = case.model
    if model.members == 1 or model.posterior.holds_draws:
        return None
    found = spread(case.key, model, case.x, draws=max(case.draws, 20 * model.members), rows=case.rows)
    between, within = (math.sqrt(case.mean(np.square(part))) for part in (found.between, found.within))
    if between <= 2 * within:
        return None
    seen = f"the means of {model.members} restarts differ by {between:.3g}, and their own sd is {within:.3g}"
    return Finding(
        "results hang on the start", seen, "Keep the ensemble of restarts: one of them alone is too sure of itself."
    )
