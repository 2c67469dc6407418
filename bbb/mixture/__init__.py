"""The predictive distribution as the exact mixture over draws."""

from bbb.mixture.distribution import cdf, log_score, quantile, sample_y

__all__ = ["cdf", "log_score", "quantile", "sample_y"]
