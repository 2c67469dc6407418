"""The curvature of the data at a trained model's weights: Laplace posteriors, and the evidence."""

from bbb.curvature.api import laplace
from bbb.curvature.evidence import log_evidence

__all__ = ["laplace", "log_evidence"]
