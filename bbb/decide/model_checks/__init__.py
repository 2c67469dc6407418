"""Is it right: prior and posterior predictive checks, PSIS, simulation-based calibration, an audit by Markov chains.

prior_predict                   what a model says before it has seen data; `at_prior` is that model
posterior_predictive_check      whether data look like what the model gives, by p-values that are uniform if so
psis, loo                       how near the posterior is to the true one, and how rows are predicted by the others
audit                           how far the band is from that of Markov chains, in standard deviations and in words
simulation_based_calibration    whether an inference finds what made the data, on average over the prior
"""

from bbb.decide.model_checks.auditing import Audit, Distance, audit
from bbb.decide.model_checks.importance import Importance, LeaveOneOut, loo, psis
from bbb.decide.model_checks.predictive_check import PredictiveCheck, posterior_predictive_check
from bbb.decide.model_checks.prior import at_prior, prior_predict
from bbb.decide.model_checks.simulation import Simulations, simulation_based_calibration

__all__ = [
    "Audit",
    "Distance",
    "Importance",
    "LeaveOneOut",
    "PredictiveCheck",
    "Simulations",
    "at_prior",
    "audit",
    "loo",
    "posterior_predictive_check",
    "prior_predict",
    "psis",
    "simulation_based_calibration",
]
