"""What to ask next: acquisition scores, Thompson samples and batches."""

from bbb.decide.acquisition.batch import Batch, choose_batch
from bbb.decide.acquisition.functions import FunctionDraw, thompson, thompson_function
from bbb.decide.acquisition.scores import bald, expected_improvement, upper_confidence_bound, variance

__all__ = [
    "Batch",
    "FunctionDraw",
    "bald",
    "choose_batch",
    "expected_improvement",
    "thompson",
    "thompson_function",
    "upper_confidence_bound",
    "variance",
]
