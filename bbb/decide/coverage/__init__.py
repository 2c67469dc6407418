"""Intervals and sets of classes that hold the truth at the level promised.

    held = bbb.decide.conformal(key, model, x_calibration, y_calibration, levels=(0.9, 0.95))
    lower, upper = held.interval(x_new, 0.9)

The guarantee is of split conformal prediction, and holds in finite samples: see `conformal` for what it says, and of
which rows. `jackknife_plus` needs no rows held out, but a model for each fold, and guarantees less.
"""

from bbb.decide.coverage.conformal_intervals import Conformal, conformal
from bbb.decide.coverage.cross import jackknife_plus
from bbb.decide.coverage.loading import load_conformal
from bbb.decide.coverage.sets import ConformalSets, conformal_sets

__all__ = ["Conformal", "ConformalSets", "conformal", "conformal_sets", "jackknife_plus", "load_conformal"]
