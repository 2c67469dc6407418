"""Priors, and the Kullback-Leibler divergence to them."""

from bbb.priors.divergence import kl
from bbb.priors.empirical import EmpiricalNormal
from bbb.priors.laplace import Laplace
from bbb.priors.multivariate_normal import MultivariateNormal, as_prior
from bbb.priors.normal import Normal, fan_in
from bbb.priors.protocol import (
    AnyPrior,
    Prior,
    SupportsAnchoring,
    SupportsCurvature,
    SupportsDrawing,
    SupportsFitting,
    SupportsLogDensity,
    SupportsLogProb,
    SupportsScales,
)
from bbb.priors.scale_mixture import ScaleMixture

__all__ = [
    "AnyPrior",
    "EmpiricalNormal",
    "Laplace",
    "MultivariateNormal",
    "Normal",
    "Prior",
    "ScaleMixture",
    "SupportsAnchoring",
    "SupportsCurvature",
    "SupportsDrawing",
    "SupportsFitting",
    "SupportsLogDensity",
    "SupportsLogProb",
    "SupportsScales",
    "as_prior",
    "fan_in",
    "kl",
]
