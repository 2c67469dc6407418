"""Distributions over a tree of parameters."""

from bbb.posteriors.correlated import FullRank, Kronecker, LowRank, LowRankPrecision, as_full_rank, as_low_rank
from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField, relative_std
from bbb.posteriors.point import Point
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import log_prob, sample

__all__ = [
    "Ensemble",
    "FullRank",
    "GaussianPosterior",
    "Kronecker",
    "LowRank",
    "LowRankPrecision",
    "MeanField",
    "Point",
    "Posterior",
    "as_full_rank",
    "as_low_rank",
    "log_prob",
    "relative_std",
    "sample",
]
