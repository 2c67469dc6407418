"""The prior's scales and the noise by the evidence, alone or alternating with training."""

from bbb.tuning.api import tune
from bbb.tuning.record import Tuning

__all__ = ["Tuning", "tune"]
