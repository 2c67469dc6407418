"""Networks with random weights: one draw for all rows, or one for each."""

from bbb.forwards.explanation import Explanation, Route, explain
from bbb.forwards.linearization import Linearized, linearized
from bbb.forwards.mean import AtMean, at_mean
from bbb.forwards.rowwise import ApproximationWarning, Flipout, LocalReparam, flipout, local_reparam
from bbb.forwards.sampling import WeightSampling, weight_sampling
from bbb.forwards.select import Forward

__all__ = [
    "ApproximationWarning",
    "AtMean",
    "Explanation",
    "Flipout",
    "Forward",
    "Linearized",
    "LocalReparam",
    "Route",
    "WeightSampling",
    "at_mean",
    "explain",
    "flipout",
    "linearized",
    "local_reparam",
    "weight_sampling",
]
