"""When not to answer: selective prediction, scores of strange rows, promised error rates."""

from bbb.decide.abstention.distance import FeatureDistance, feature_distance
from bbb.decide.abstention.promise import Abstention, learn_then_test
from bbb.decide.abstention.selective import RiskCoverage, risk_coverage
from bbb.decide.abstention.strangeness import ood_scores

__all__ = [
    "Abstention",
    "FeatureDistance",
    "RiskCoverage",
    "feature_distance",
    "learn_then_test",
    "ood_scores",
    "risk_coverage",
]
