"""Reading a calibrated model from its file."""

import os

from bbb.decide.coverage import files
from bbb.decide.coverage.conformal_intervals import Conformal
from bbb.decide.coverage.intervals import QUANTILE, STD
from bbb.decide.coverage.sets import ClassScore, ConformalSets
from bbb.errors import ModelFileError
from bbb.model import BNN


def load_conformal(path: str | os.PathLike[str], like: BNN | None = None) -> Conformal | ConformalSets:
    """Read what `Conformal.save` or `ConformalSets.save` wrote; it answers bit for bit what the saved one did.

    Args:
        path: the file.
        like: a model of the same network; needed if the network is not one of `bbb.nn`, as for `bbb.load`.

    Raises:
        ModelFileError: if the file is missing, damaged, of another network, or holds a model that is not calibrated.
    """
    score, predictive, calibration = files.read(path, like)
    if score in (QUANTILE, STD) and bool(calibration.levels) == (score == QUANTILE):
        return Conformal(predictive, score, calibration)
    fields = {"penalty": float, "free_ranks": int, "randomised": bool}
    if isinstance(score, dict) and {name: type(value) for name, value in score.items()} == fields:
        return ConformalSets(predictive, ClassScore(**score), calibration)
    raise ModelFileError(f"Expected {path} to name a score of this version of bbb, got {score!r}. Update bbb.")
