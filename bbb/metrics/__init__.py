"""Scores of predictions, and their calibration."""

from bbb.metrics.calibration import (
    coverage,
    interval_score,
    interval_width,
    observed_coverage,
    pit,
    pit_draws,
)
from bbb.metrics.classification import (
    Entropy,
    Reliability,
    accuracy,
    brier,
    expected_calibration_error,
    predictive_entropy,
    reliability,
)
from bbb.metrics.detection import auroc
from bbb.metrics.scores import crps_draws, crps_normal, crps_normal_mixture, rmse

__all__ = [
    "Entropy",
    "Reliability",
    "accuracy",
    "auroc",
    "brier",
    "coverage",
    "crps_draws",
    "crps_normal",
    "crps_normal_mixture",
    "expected_calibration_error",
    "interval_score",
    "interval_width",
    "observed_coverage",
    "pit",
    "pit_draws",
    "predictive_entropy",
    "reliability",
    "rmse",
]
