"""The predictive distribution: draws, and their summary."""

from bbb.predictive.api import predict
from bbb.predictive.batches import predict_batches
from bbb.predictive.evaluation import draws
from bbb.predictive.summary import ClassMarginal, Interval, Marginal, Predictive

__all__ = ["ClassMarginal", "Interval", "Marginal", "Predictive", "draws", "predict", "predict_batches"]
