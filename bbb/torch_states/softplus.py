"""log σ and the ρ of σ = log(1 + exp(ρ)), each from the other, with all digits for σ of any size."""

import numpy as np


def log_softplus(rho: np.ndarray) -> np.ndarray:
    """Return log σ for σ = log(1 + exp(ρ)), in the dtype of ρ.

    With t = exp(ρ):  log σ = ρ + log(log1p(t)/t) for ρ ≤ 0, which is ρ itself where t is 0 in float64;
    log σ = log(ρ + log1p(exp(−ρ))) above.
    """
    wide = np.asarray(rho, np.float64)
    below, above = np.minimum(wide, 0), np.maximum(wide, 0)
    t = np.exp(below)
    narrow = below + np.log(_ratio(np.log1p(t), t))
    return np.where(wide <= 0, narrow, np.log(above + np.log1p(np.exp(-above)))).astype(np.asarray(rho).dtype)


def rho_of(log_std: np.ndarray) -> np.ndarray:
    """Return the ρ for which log σ = log(log(1 + exp(ρ))), in the dtype of log σ: the inverse of `log_softplus`.

    ρ = log σ + log(expm1(σ)/σ) for σ ≤ 1, and ρ = σ + log(1 − exp(−σ)) above. σ must be finite.
    """
    wide = np.asarray(log_std, np.float64)
    small, large = np.exp(np.minimum(wide, 0)), np.exp(np.maximum(wide, 0))
    narrow = wide + np.log(_ratio(np.expm1(small), small))
    return np.where(wide <= 0, narrow, large + np.log(-np.expm1(-large))).astype(np.asarray(log_std).dtype)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return a ratio whose limit is 1 where both are 0."""
    return np.divide(numerator, denominator, out=np.ones_like(denominator), where=denominator > 0)
