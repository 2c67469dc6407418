"""Plots, with matplotlib."""

from bbb.plots.abstention import ood_histogram, risk_coverage
from bbb.plots.coverage import calibration, pit_histogram, reliability
from bbb.plots.history import training
from bbb.plots.predictive import band, fan, predicted_against_observed
from bbb.plots.style import png
from bbb.plots.weights import pruning, signal_to_noise, weight_density

__all__ = [
    "band",
    "calibration",
    "fan",
    "ood_histogram",
    "pit_histogram",
    "png",
    "predicted_against_observed",
    "pruning",
    "reliability",
    "risk_coverage",
    "signal_to_noise",
    "training",
    "weight_density",
]
