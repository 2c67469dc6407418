"""What the contenders of `benchmarks.tabular` predict, and how it is scored: densities, samples or intervals alone."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from bbb import metrics
from bbb.sklearn import BayesianMLPRegressor
from bbb.tables.model import TabularModel
from bbb.tables.table import Table

LEVEL = 0.9
"""The probability of the intervals."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of one contender on one task: means over the test rows, in units of y.

    Attributes:
        log_score: log p(y | x), nats a row, higher is better; None for what has no density.
        crps: the continuous ranked probability score; None for what has no distribution.
        rmse: of the mean.
        coverage: the share of rows in their 90 % intervals.
        width: of these intervals.
        interval_score: their width, plus 20 times how far y is outside.
    """

    log_score: float | None
    crps: float | None
    rmse: float
    coverage: float
    width: float
    interval_score: float


class Fitted(Protocol):
    """What has learned: its scores at rows x with targets y."""

    def scores(self, x: np.ndarray, y: np.ndarray) -> Scores:
        """Score the rows x, (rows, columns), with targets y, (rows,)."""
        ...


def scored(y: np.ndarray, mean: np.ndarray, ends: Any, log_scores: Any = None, crps: Any = None) -> Scores:
    """Return the means over rows of all scores: of the mean, (rows,), the interval's ends, and those of each row."""
    lower, upper = ends
    return Scores(
        None if log_scores is None else float(np.mean(log_scores)),
        None if crps is None else float(np.mean(crps)),
        metrics.rmse(y, mean),
        metrics.coverage(y, lower, upper),
        metrics.interval_width(lower, upper),
        float(np.mean(metrics.interval_score(y, lower, upper, LEVEL))),
    )


@dataclasses.dataclass(frozen=True)
class Normals:
    """Predictions that are Gaussians, or mixtures of them in equal parts: x → means and stds, (parts, rows) each."""

    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

    def scores(self, x: np.ndarray, y: np.ndarray) -> Scores:
        """Score the mixture itself, without another Gaussian in its place."""
        means, stds = (np.atleast_2d(np.asarray(part, np.float64)) for part in self.predict(x))
        z = (y - means) / stds
        log_scores = logsumexp(-0.5 * z**2 - np.log(stds), axis=0) - math.log(len(z)) - 0.5 * math.log(2 * math.pi)
        crps = metrics.crps_normal(y, means[0], stds[0])
        if len(means) > 1:
            crps = metrics.crps_normal_mixture(y, means, stds)
        ends = [quantile(means, stds, p) for p in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)]
        return scored(y, means.mean(axis=0), ends, log_scores, crps)


def quantile(means: np.ndarray, stds: np.ndarray, p: float) -> np.ndarray:
    """Return the p-quantile of each row's mixture, (rows,), by bisection between the least and most of its parts'."""
    each = means + ndtri(p) * stds
    low, high = each.min(axis=0), each.max(axis=0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = ndtr((middle - means) / stds).mean(axis=0) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


@dataclasses.dataclass(frozen=True)
class Units:
    """Columns and targets of mean 0 and standard deviation 1 in the rows to learn from, as a peer's user makes them."""

    x_mean: np.ndarray
    x_std: np.ndarray
    y_mean: float
    y_std: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Units":
        """Take them from rows."""
        return cls(x.mean(axis=0), x.std(axis=0), float(y.mean()), float(y.std()))

    def x(self, values: np.ndarray) -> np.ndarray:
        """Return columns in these units."""
        return (values - self.x_mean) / self.x_std

    def y(self, values: np.ndarray) -> np.ndarray:
        """Return targets in these units."""
        return (values - self.y_mean) / self.y_std

    def normals(self, predict: Callable[[np.ndarray], tuple[Any, Any]]) -> Normals:
        """Return predictions in original units, of a function of these ones."""

        def original(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            mean, std = predict(self.x(values))
            return np.asarray(mean) * self.y_std + self.y_mean, np.asarray(std) * self.y_std

        return Normals(original)


TARGET = "y"
SAMPLES = 1_000
"""Of y for each row, of which bbb's score CRPS is taken: it is too high by 0.06 % of a standard deviation."""


@dataclasses.dataclass(frozen=True)
class Estimator:
    """A fitted `BayesianMLPRegressor`, scored through its public methods."""

    of: BayesianMLPRegressor

    def scores(self, x: np.ndarray, y: np.ndarray) -> Scores:
        """Score the rows."""
        crps = metrics.crps_draws(y, self.of.sample_y(x, SAMPLES).T)
        return scored(y, self.of.predict(x), self.of.predict_interval(x, LEVEL), self.of.log_score(x, y), crps)


def table(x: np.ndarray, y: np.ndarray) -> Table:
    """Return rows as the table that `bbb fit` reads."""
    names = (*(f"x{i}" for i in range(x.shape[1])), TARGET)
    return Table("rows", names, np.column_stack([x, y]))


@dataclasses.dataclass(frozen=True)
class Tabular:
    """What `bbb fit` learned, scored as `bbb evaluate` does."""

    of: TabularModel

    def scores(self, x: np.ndarray, y: np.ndarray) -> Scores:
        """Score the rows."""
        rows = table(x, y)
        found, band = self.of.evaluate(rows, draws=SAMPLES), self.of.predict(rows, draws=SAMPLES, levels=(LEVEL,)).y
        ends = [end[:, 0] for end in band.interval(LEVEL)]
        return scored(y, band.mean[:, 0], ends, found["log_score"], found["crps"])


@dataclasses.dataclass(frozen=True)
class Conformal:
    """Means and intervals without a distribution: x → mean and ends, in original units."""

    predict: Callable[[np.ndarray], tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]

    def scores(self, x: np.ndarray, y: np.ndarray) -> Scores:
        """Score the rows."""
        return scored(y, *self.predict(x))
