"""Gaussians whose weights depend on each other: one file each, and the ways from one to another."""

from bbb.posteriors.correlated.conversion import as_full_rank, as_low_rank
from bbb.posteriors.correlated.full_rank import FullRank
from bbb.posteriors.correlated.kronecker import Kronecker
from bbb.posteriors.correlated.low_rank import LowRank
from bbb.posteriors.correlated.low_rank_precision import LowRankPrecision

__all__ = ["FullRank", "Kronecker", "LowRank", "LowRankPrecision", "as_full_rank", "as_low_rank"]
