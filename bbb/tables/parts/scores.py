"""Scores of the predictions of a table: by the predictive of each row, and by calibrated intervals and sets."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from bbb import metrics
from bbb.decide.abstention import learn_then_test, risk_coverage
from bbb.predictive.summary import Predictive

if TYPE_CHECKING:
    from bbb.tables.model import TabularModel

LEVELS = (0.5, 0.9, 0.95, 0.997)
"""The levels of the intervals whose coverage `evaluate` reports."""


def of_numbers(model: "TabularModel", predictive: Predictive, y: np.ndarray, level: float) -> dict[str, Any]:
    """Compute the error of the means, and the coverage and the width of the intervals that the rows allow."""
    allowed = 1.0 if model.calibration is None else model.calibration.highest_level()
    levels = [p for p in LEVELS if p <= allowed]
    inside = {p: metrics.coverage(y, *model.interval(predictive, p)) for p in (*levels, level)}
    return {
        "rmse": metrics.rmse(y, predictive.y.mean),
        "level": level,
        "coverage": inside[level],
        "mean_width": metrics.interval_width(*model.interval(predictive, level)),
        "coverages": {f"{p:g}": inside[p] for p in levels},
    }


def of_classes(model: "TabularModel", predictive: Predictive, y: np.ndarray, level: float) -> dict[str, Any]:
    """Compute the scores of probabilities and, of a calibrated model, of its sets of classes."""
    probabilities = predictive.y.probabilities
    of_sets = {} if model.calibration is None else _of_sets(model.sets(predictive, level), y, level)
    return of_sets | {
        "accuracy": metrics.accuracy(y, probabilities),
        "brier": float(np.mean(metrics.brier(y, probabilities))),
        "expected_calibration_error": metrics.expected_calibration_error(y, probabilities),
    }


def _of_sets(sets: np.ndarray, y: np.ndarray, level: float) -> dict[str, Any]:
    covered, size = float(np.mean(sets[np.arange(len(y)), y])), float(np.mean(sets.sum(axis=1)))
    return {"level": level, "set_coverage": covered, "mean_set_size": size}


def selective(model: "TabularModel", predictive: Predictive, y: np.ndarray, promise: float | None) -> dict[str, Any]:
    """Compute the area under the risk-coverage curve, and the rule of a promise."""
    if model.classes is None:
        losses, stds = np.square(y - predictive.y.mean)[:, 0], predictive.y.std[:, 0]
        return {"aurc": risk_coverage(losses, stds).aurc}
    wrong, entropy = ~hits(model, predictive, y, 0.5), np.asarray(predictive.y.entropy.total)
    found: dict[str, Any] = {"aurc": risk_coverage(wrong, entropy).aurc}
    if promise is not None:
        rule = learn_then_test(wrong, entropy, rate=promise)
        found["promise"] = dataclasses.asdict(rule) | {"coverage": rule.coverage}
    return found


def hits(model: "TabularModel", predictive: Predictive, y: np.ndarray, level: float) -> np.ndarray:
    """Return whether each row is inside its interval, or is of the most probable class, (rows,)."""
    if model.classes is not None:
        return np.asarray(predictive.y.classes) == y
    lower, upper = model.interval(predictive, level)
    return ((lower <= y) & (y <= upper))[:, 0]
