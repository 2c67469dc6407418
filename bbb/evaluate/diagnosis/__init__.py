"""What is wrong with a model, in words: checks of its training, its posterior, its predictions and between its rows."""

from bbb.evaluate.diagnosis.api import Diagnosis, diagnose, of_training
from bbb.evaluate.diagnosis.case import Finding

__all__ = ["Diagnosis", "Finding", "diagnose", "of_training"]
