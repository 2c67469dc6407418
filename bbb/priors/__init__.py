"""Priors, and the Kullback-Leibler divergence to them."""

from bbb.priors.divergence import kl
from bbb.priors.empirical import EmpiricalNormal
from bbb.priors.laplace import Laplace
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
    "fan_in",
    "kl",
]
