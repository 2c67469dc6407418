"""The regression task of the demo, y = x⁵ − 10x + 2·U(0, 1), in NumPy: the only module that `reference/` imports.

The task, its network and its training are those of torchbnn's regression demo.
"""

import dataclasses
import math

import numpy as np

LOW, HIGH = -2.0, 2.0
"""The interval of x."""


NOISE_STD = 2.0 / math.sqrt(12.0)
"""The standard deviation of the noise 2·U(0, 1): 0.577."""


@dataclasses.dataclass(frozen=True)
class Regression:
    """The data: columns of shape (rows, 1), float64; `clean_test` is the target without noise at the test points."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    clean_test: np.ndarray


@dataclasses.dataclass(frozen=True)
class Settings:
    """The published settings: a 1-hidden-1 ReLU network, the prior N(0, prior_std²), MSE + kl_weight·KL/P and Adam."""

    hidden: int = 1000
    prior_std: float = 0.1
    kl_weight: float = 0.01
    learning_rate: float = 0.01
    steps: int = 2000
    draws: int = 10_000
    sigmas: float = 3.0


def clean(x: np.ndarray) -> np.ndarray:
    """Compute the target without noise, x⁵ − 10x + 1, which is the mean of y."""
    return x**5 - 10.0 * x + 1.0


def regression(seed: int = 0, rows: int = 500, test_rows: int = 300) -> Regression:
    """Return evenly spaced x on [−2, 2], and y with independent noise for training and for testing.

    Example:
        >>> import bbb
        >>> task = bbb.tasks.regression(rows=20)
        >>> task.x.shape, task.y_test.shape
        ((20, 1), (300, 1))
    """
    rng = np.random.default_rng(seed)

    def observe(x: np.ndarray) -> np.ndarray:
        return clean(x) - 1.0 + 2.0 * rng.uniform(0.0, 1.0, x.shape)

    x = np.linspace(LOW, HIGH, rows)[:, None]
    x_test = np.linspace(LOW, HIGH, test_rows)[:, None]
    return Regression(x, observe(x), x_test, observe(x_test), clean(x_test))
