"""Diagnosis, pruning, the spread over restarts, a band against a yardstick, and the way to ArviZ."""

from bbb.evaluate.datatree import to_datatree
from bbb.evaluate.diagnosis import Diagnosis, Finding, diagnose
from bbb.evaluate.pruning import prune, pruning_curve, signal_to_noise
from bbb.evaluate.restart_spread import Spread, spread
from bbb.evaluate.yardstick import Agreement, agreement

__all__ = [
    "Agreement",
    "Diagnosis",
    "Finding",
    "Spread",
    "agreement",
    "diagnose",
    "prune",
    "pruning_curve",
    "signal_to_noise",
    "spread",
    "to_datatree",
]
