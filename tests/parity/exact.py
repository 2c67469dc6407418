"""The exact predictive moments of a 1-hidden-1 ReLU network with independent Gaussian weights, in float64."""

import numpy as np
from scipy.stats import norm


def moments(means, log_stds, x):
    """Return E f and the standard deviation of f at each row of x, (rows, 1), for arrays in the order of `pairs`.

    A hidden unit's pre-activation is N(m, s²), and with a = m/s:

        E h  = m·Φ(a) + s·φ(a)              E f   = Σ v̄·E h + c̄
        E h² = (m² + s²)·Φ(a) + m·s·φ(a)    Var f = Σ [(v̄² + σ_v²)·E h² − (v̄·E h)²] + σ_c²
    """
    w, b, v, c = (np.asarray(mean, np.float64) for mean in means)
    var_w, var_b, var_v, var_c = (np.exp(2 * np.asarray(log_std, np.float64)) for log_std in log_stds)
    m = x @ w.T + b  # (rows, hidden)
    s = np.sqrt(x**2 @ var_w.T + var_b)
    a = m / s
    h = m * norm.cdf(a) + s * norm.pdf(a)
    h2 = (m**2 + s**2) * norm.cdf(a) + m * s * norm.pdf(a)
    mean = h @ v[0] + c
    variance = h2 @ (v[0] ** 2 + var_v[0]) - h**2 @ v[0] ** 2 + var_c
    return mean, np.sqrt(variance)
