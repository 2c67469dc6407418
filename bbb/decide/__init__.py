"""What is done with an error bar: coverage guaranteed, learning on, what to ask next, when not to answer, checks.

conformal, conformal_sets, jackknife_plus    intervals and sets of classes that hold the truth at the level promised
update, drift                                the posterior of today as the prior of tomorrow; whether rows changed
bald, variance, expected_improvement,
upper_confidence_bound, thompson,
choose_batch                             what to ask next
risk_coverage, learn_then_test,
ood_scores, feature_distance             when not to answer
prior_predict, posterior_predictive_check,
psis, loo, audit,
simulation_based_calibration             whether the model is right
"""

from bbb.decide.abstention import (
    Abstention,
    FeatureDistance,
    RiskCoverage,
    feature_distance,
    learn_then_test,
    ood_scores,
    risk_coverage,
)
from bbb.decide.acquisition import (
    Batch,
    FunctionDraw,
    bald,
    choose_batch,
    expected_improvement,
    thompson,
    thompson_function,
    upper_confidence_bound,
    variance,
)
from bbb.decide.continual import Drift, Update, drift, update
from bbb.decide.coverage import (
    Conformal,
    ConformalSets,
    conformal,
    conformal_sets,
    jackknife_plus,
    load_conformal,
)
from bbb.decide.model_checks import (
    Audit,
    Distance,
    Importance,
    LeaveOneOut,
    PredictiveCheck,
    Simulations,
    at_prior,
    audit,
    loo,
    posterior_predictive_check,
    prior_predict,
    psis,
    simulation_based_calibration,
)

__all__ = [
    "Abstention",
    "Audit",
    "Batch",
    "Conformal",
    "ConformalSets",
    "Distance",
    "Drift",
    "FeatureDistance",
    "FunctionDraw",
    "Importance",
    "LeaveOneOut",
    "PredictiveCheck",
    "RiskCoverage",
    "Simulations",
    "Update",
    "at_prior",
    "audit",
    "bald",
    "choose_batch",
    "conformal",
    "conformal_sets",
    "drift",
    "expected_improvement",
    "feature_distance",
    "jackknife_plus",
    "learn_then_test",
    "load_conformal",
    "loo",
    "ood_scores",
    "posterior_predictive_check",
    "prior_predict",
    "psis",
    "risk_coverage",
    "simulation_based_calibration",
    "thompson",
    "thompson_function",
    "update",
    "upper_confidence_bound",
    "variance",
]
