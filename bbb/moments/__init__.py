"""Means and variances of a network's outputs without draws."""

from bbb.moments.api import ClosedForm, moments
from bbb.moments.values import Assumption, MeanVariance

__all__ = ["Assumption", "ClosedForm", "MeanVariance", "moments"]
