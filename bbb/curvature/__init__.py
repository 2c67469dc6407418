"""The curvature of the data at a trained model's weights: Laplace posteriors, and the evidence."""

from bbb.curvature.api import laplace
from bbb.curvature.evidence import log_evidence
from bbb.curvature.kronecker import explain

__all__ = ["explain", "laplace", "log_evidence"]
