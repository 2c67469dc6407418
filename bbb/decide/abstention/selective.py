"""Selective prediction: the risk of those rows that are answered, against the share of them."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.errors import InputError, fail
from bbb.metrics.inputs import as_columns, as_weights


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RiskCoverage(display.Displayed):
    """What each threshold of the uncertainty answers, and at what risk: a point for each value of the uncertainty.

    Rows of one uncertainty are answered together or not at all, so that the order of the rows does not matter.

    Attributes:
        coverage: (points,), the share of rows of at most the threshold's uncertainty: rising, the last is 1.
        risk: (points,), the mean loss of those rows, in units of the loss; the last is the risk of answering always.
        thresholds: (points,), the values of the uncertainty, rising.
        aurc: the area under the risk-coverage curve: the mean over the rows of the risk at each one's own threshold.
        optimal_aurc: the area of the best order there is, by the loss itself; of losses of 0 and 1 with mean r it is
            r + (1 − r)·log(1 − r).
    """

    coverage: np.ndarray
    risk: np.ndarray
    thresholds: np.ndarray
    aurc: float
    optimal_aurc: float

    @property
    def excess_aurc(self) -> float:
        """What of `aurc` a better order would save, at least 0: E-AURC, which compares models of different losses."""
        return self.aurc - self.optimal_aurc

    def risk_at(self, coverage: float) -> float:
        """Return the risk of the lowest threshold that answers at least this share of the rows.

        Raises:
            InputError: for a share that is not above 0 and at most 1.
        """
        share = checks.one_number("coverage", coverage)
        if share > 1:
            fail(InputError, "coverage of at most 1", f"{share:g}", "Pass a share of the rows, such as 0.8.")
        slack = 1e-12  # of a sum of shares: 0.8 means four rows of five
        return float(self.risk[np.searchsorted(self.coverage, min(share - slack, 1 - slack))])

    def _table_shown(self) -> display.Table:
        shares = {f"risk of {100 * share:g} % answered": self.risk_at(share) for share in (0.5, 0.8, 0.9, 1.0)}
        areas = {"AURC": self.aurc, "excess AURC": self.excess_aurc}
        rows = [(name, display.number(value)) for name, value in {**areas, **shares}.items()]
        return display.Table(f"RiskCoverage of {display.counted(len(self.risk), 'threshold')}", rows)


def risk_coverage(loss: ArrayLike, uncertainty: ArrayLike, *, sample_weight: ArrayLike | None = None) -> RiskCoverage:
    """Return the risk of the rows that are answered, for each threshold of the uncertainty below which that is done.

    With u_1 < u_2 < … the values of the uncertainty, c_k the share of rows of at most u_k, and r_k their mean loss,
    AURC is Σ (c_k − c_{k−1})·r_k: without ties the mean of the risks of the first 1, 2, …, n rows. The optimum is the
    integral over c of the mean of the share c of the smallest losses, which no finite number of rows falls below.

    Args:
        loss: (rows,), finite; such as whether the answer is wrong, or a squared error.
        uncertainty: (rows,), finite, in any unit: only its order counts. Higher is less certain.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        ShapeError, InputError: for arrays that are not two columns of as many finite numbers, or weights that are not
            at least 0, or all 0.

    Source: El-Yaniv & Wiener 2010, J. Mach. Learn. Res. 11, 1605, for the curve; Geifman et al. 2019, arXiv 1805.08206,
    for AURC, E-AURC and the optimum of losses of 0 and 1.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> wrong, uncertainty = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])
        >>> curve = bbb.decide.risk_coverage(wrong, uncertainty)
        >>> curve.coverage, curve.risk.round(2)
        (array([0.25, 0.5 , 0.75, 1.  ]), array([0.  , 0.  , 0.33, 0.5 ]))
        >>> round(float(curve.risk_at(0.5)), 2)
        0.0
    """
    lost, unsure = as_columns(loss=loss, uncertainty=uncertainty)
    weight = np.ones(len(lost)) if sample_weight is None else as_weights(sample_weight, len(lost))
    lost, unsure, weight = (array[weight > 0] for array in (lost, unsure, weight))
    thresholds, group = np.unique(unsure, return_inverse=True)
    weights, losses = (np.bincount(group, each) for each in (weight, weight * lost))
    answered = np.cumsum(weights)
    risk = np.cumsum(losses) / answered
    aurc = float(np.average(risk, weights=weights))
    return RiskCoverage(answered / answered[-1], risk, thresholds, aurc, _optimal_aurc(lost, weight))


def _optimal_aurc(loss: np.ndarray, weight: np.ndarray) -> float:
    """Return ∫ R(c) dc over the shares c from 0 to 1, with R the mean of the share c of the smallest losses.

    Over the losses of one value l, from the share a to b, R(c) = l + (S − l·a)/c with S the sum of those below.
    """
    values, group = np.unique(loss, return_inverse=True)
    shares = np.bincount(group, weight) / np.sum(weight)
    end = np.cumsum(shares)
    start = end - shares
    before = np.cumsum(shares * values) - shares * values - values * start
    logs = np.log(end[1:] / start[1:])  # the first values start at 0, and have no others below
    return float(np.sum(shares * values) + np.sum(before[1:] * logs))
