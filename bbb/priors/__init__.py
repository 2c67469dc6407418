"""Priors, and the Kullback-Leibler divergence to them."""

from bbb.priors.divergence import kl
from bbb.priors.empirical import EmpiricalNormal
from bbb.priors.laplace import Laplace
from bbb.priors.normal import Normal, fan_in
from bbb.priors.protocol import (
    AnyPrior,
    Prior,
    SupportsFitting,
    SupportsLogDensity,
    SupportsLogProb,
    check_prior,
    needs_estimate,
    raise_without_key,
)
from bbb.priors.scale_mixture import ScaleMixture

__all__ = [
    "AnyPrior",
    "EmpiricalNormal",
    "Laplace",
    "Normal",
    "Prior",
    "ScaleMixture",
    "SupportsFitting",
    "SupportsLogDensity",
    "SupportsLogProb",
    "check_prior",
    "fan_in",
    "kl",
    "needs_estimate",
    "raise_without_key",
]
