"""Distributions over a tree of parameters."""

from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.full_rank import FullRank
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.kronecker import Kronecker
from bbb.posteriors.low_rank_precision import LowRankPrecision
from bbb.posteriors.mean_field import MeanField, relative_std
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import log_prob, sample

__all__ = [
    "Ensemble",
    "FullRank",
    "GaussianPosterior",
    "Kronecker",
    "LowRankPrecision",
    "MeanField",
    "Posterior",
    "log_prob",
    "relative_std",
    "sample",
]
