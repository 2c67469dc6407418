"""Likelihoods: from a network's outputs to the distribution of an observation."""

from bbb.likelihoods.classes import Bernoulli, Categorical
from bbb.likelihoods.counts import NegativeBinomial, Poisson
from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian, Gaussian, HeteroscedasticGaussian
from bbb.likelihoods.joint import Joint
from bbb.likelihoods.partially_observed import PartiallyObserved
from bbb.likelihoods.protocol import (
    Likelihood,
    NumericLikelihood,
    SupportsClasses,
    SupportsDraws,
    SupportsExpectedLogProb,
    SupportsFisher,
    SupportsFunction,
    SupportsGaussianComponents,
    SupportsGaussianNoise,
    SupportsMoments,
    SupportsQuantiles,
    SupportsSampling,
    SupportsTabulatedCDF,
    SupportsTrainingCheck,
)
from bbb.likelihoods.student_t import StudentT

__all__ = [
    "Bernoulli",
    "BoundedHeteroscedasticGaussian",
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Joint",
    "Likelihood",
    "NegativeBinomial",
    "NumericLikelihood",
    "PartiallyObserved",
    "Poisson",
    "StudentT",
    "SupportsClasses",
    "SupportsDraws",
    "SupportsExpectedLogProb",
    "SupportsFisher",
    "SupportsFunction",
    "SupportsGaussianComponents",
    "SupportsGaussianNoise",
    "SupportsMoments",
    "SupportsQuantiles",
    "SupportsSampling",
    "SupportsTabulatedCDF",
    "SupportsTrainingCheck",
]
