"""What training minimises, and schedules of the weight of its KL divergence."""

from bbb.objectives.objective import Cost, elbo_cost, exact_elbo_cost, negative_elbo
from bbb.objectives.schedules import MinibatchWeights, WarmUp, minibatch_weights, warm_up

__all__ = [
    "Cost",
    "MinibatchWeights",
    "WarmUp",
    "elbo_cost",
    "exact_elbo_cost",
    "minibatch_weights",
    "negative_elbo",
    "warm_up",
]
