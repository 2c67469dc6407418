"""Learning on: today's posterior is tomorrow's prior, and drift is noticed on the way."""

from bbb.decide.continual.api import Update, update
from bbb.decide.continual.drifting import Drift, drift

__all__ = ["Drift", "Update", "drift", "update"]
