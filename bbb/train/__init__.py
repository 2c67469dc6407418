"""Training: the call, its options, the loop and the history."""

from bbb.train.api import fit
from bbb.train.history import History
from bbb.train.natural_gradient import ivon
from bbb.train.options import Checkpointing, EarlyStopping, Objective, Placement, Restarts
from bbb.train.restarts import member_keys
from bbb.train.vectorized import fit_each

__all__ = [
    "Checkpointing",
    "EarlyStopping",
    "History",
    "Objective",
    "Placement",
    "Restarts",
    "fit",
    "fit_each",
    "ivon",
    "member_keys",
]
