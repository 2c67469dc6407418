"""A threshold of the uncertainty with a promised error rate: Learn then Test."""

import dataclasses
import math
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.errors import InputError, fail
from bbb.metrics.inputs import as_columns

STEPS, FIRST = 20, 0.1
"""How many ranks are tested, and the share of the rows below the first: with fewer, one error would end the tests."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Abstention(display.Displayed):
    """A rule that answers rows of an uncertainty below a threshold, and what it promises of those answers.

    Attributes:
        threshold: the uncertainty from which on no answer is given.
        rate: the promise: of the rows that are answered, at most this share is wrong,
        confidence: with at least this probability over the rows that the threshold was chosen by.
        rows: how many these were.
        answered: how many of them the rule answers,
        wrong: and how many of those answers are wrong.
        p_value: of the hypothesis that the rule's error rate is above `rate`; at most 1 − `confidence`.
    """

    threshold: float
    rate: float
    confidence: float
    rows: int
    answered: int
    wrong: int
    p_value: float

    @property
    def coverage(self) -> float:
        """The share of the rows that it answers, of those that the threshold was chosen by."""
        return self.answered / self.rows

    def answers(self, uncertainty: ArrayLike) -> np.ndarray:
        """Return whether each row is to be answered, (rows,) bools.

        Raises:
            ShapeError, InputError: if the uncertainty is not one finite number for each row.
        """
        (unsure,) = as_columns(uncertainty=uncertainty)
        return unsure < self.threshold

    def _table_shown(self) -> display.Table:
        rows = [
            ("answers", f"an uncertainty below {display.number(self.threshold)}, {self.coverage:.1%} of the rows"),
            ("promises", f"an error rate of at most {self.rate:g}, with confidence {self.confidence:g}"),
            ("chosen by", f"{display.counted(self.rows, 'row')}, {self.wrong:,} of {self.answered:,} answers wrong"),
        ]
        return display.Table("Abstention", rows)


def learn_then_test(wrong: ArrayLike, uncertainty: ArrayLike, *, rate: float, confidence: float = 0.95) -> Abstention:
    """Return the rule that answers most rows, and of whose answers at most a share `rate` is wrong, by a promise.

    The promise holds with probability `confidence` over the calibration rows, if they and the new rows are independent
    draws of one distribution, whatever that is, and whatever the model is; the rows must not have been learned from,
    and the rate not be chosen by them. It is about the answers: nothing is promised of each single row, of some kind
    of rows among the others, or of rows from elsewhere.

    How it works. Let t be the uncertainty of rank j among the calibration rows. Given t, the rows below it are
    independent draws of what the rule "answer below t" answers, so that of m such rows a binomial number is wrong, of
    the rule's error rate R(t). If R(t) were above `rate`, as few errors as there are, k, would have at most the
    probability

        p = P(Binomial(m, rate) ≤ k)

    which is exact, and conditional on the number that is answered. Twenty ranks are tested in their order, from a tenth
    of the rows, or the least number that can pass, to all of them, until one has p > 1 − confidence. The last before it
    is the rule. A rule that breaks the promise is returned only if the first such rule of the sequence passes, which
    has at most the probability 1 − confidence.

    The paper's thresholds are fixed beforehand; that those of fixed ranks will do follows for an uncertainty without
    ties. Cut it where R crosses `rate`. Which rank is the first of a broken promise depends only on how many rows lie
    between the cuts. Given these numbers, the rows between two cuts are independent draws with the error rate `rate`,
    and those from the last cut to t with a higher one: errors are at least as many as in the binomial of p. Rows of one
    uncertainty are answered together or not at all.

    Args:
        wrong: (rows,), whether each answer is wrong: bools, or 0 and 1. For numbers it may be `abs(y - mean) > 5`.
        uncertainty: (rows,), finite; only its order counts. Higher is less certain.
        rate: the share of wrong answers that is allowed, inside (0, 1).
        confidence: of the promise, inside (0, 1).

    Raises:
        ShapeError, InputError: for arrays that are not two columns of as many rows, or `wrong` that is not 0 and 1.
        InputError: if the rows are too few for the rate, or too many of the most certain ones are wrong; it names the
            lowest rate that they allow. They have chosen that rate, so that its promise is to be made by others.

    Source: Angelopoulos et al. 2021, arXiv 2110.01052, algorithm 1 (fixed sequence testing) and theorem 1; Geifman &
    El-Yaniv 2017, arXiv 1705.08500, for the binomial bound of those that are answered.

    Example:
        >>> import bbb
        >>> import numpy as np
        >>> uncertainty = np.linspace(0, 1, 200)
        >>> wrong = uncertainty > 0.9
        >>> rule = bbb.decide.learn_then_test(wrong, uncertainty, rate=0.05)
        >>> rule.answers(np.array([0.1, 0.99]))
        array([ True, False])
    """
    rate = checks.probability("rate", rate, example=0.05)
    confidence = checks.probability("confidence", confidence)
    lost, unsure = as_columns(wrong=wrong, uncertainty=uncertainty)
    if ((lost != 0) & (lost != 1)).any():
        do = "Pass whether each answer is wrong, such as predicted != y."
        fail(InputError, "wrong of 0 and 1 alone", f"{lost[(lost != 0) & (lost != 1)][0]:g}", do)
    order = np.argsort(unsure, kind="stable")
    unsure, errors = unsure[order], np.r_[0, np.cumsum(lost[order])].astype(int)
    found = last_passed(unsure, errors, rate, 1 - confidence)
    if found is None:
        _refuse(unsure, errors, rate, confidence)
    threshold, answered, p = found
    return Abstention(threshold, rate, confidence, len(unsure), answered, int(errors[answered]), p)


def last_passed(unsure: np.ndarray, errors: np.ndarray, rate: float, level: float) -> tuple[float, int, float] | None:
    """Test ranks of sorted rows in their order; return the last threshold that passes, its rows and p, or None.

    `errors`, (rows + 1,), are the numbers of errors among the first 0, 1, … rows.
    """
    from scipy.special import bdtr  # noqa: PLC0415 - half as long to import as the rest of bbb

    rows, least = len(unsure), rows_needed(rate, level)
    if rows <= least:
        return None
    ranks = np.unique(np.linspace(max(least, math.ceil(FIRST * rows)), rows - 1, STEPS).astype(int))
    thresholds = unsure[ranks]
    below = np.searchsorted(unsure, thresholds)
    thresholds, below = thresholds[below >= least], below[below >= least]  # of many ties, fewer rows are below
    p = bdtr(errors[below], below, rate)
    passed = int(np.sum(np.cumprod(p <= level)))
    return None if passed == 0 else (float(thresholds[passed - 1]), int(below[passed - 1]), float(p[passed - 1]))


def rows_needed(rate: float, level: float) -> int:
    """Return how many answers without an error pass the test at a level: (1 − rate)^m ≤ level."""
    m = max(1, math.floor(math.log(level) / math.log1p(-rate)) - 1)
    while math.exp(m * math.log1p(-rate)) > level:  # of which logarithms may be off by one
        m += 1
    return m


def _refuse(unsure: np.ndarray, errors: np.ndarray, rate: float, confidence: float) -> NoReturn:
    """Raise for rows that do not allow the rate, saying why and which rate they allow."""
    rows, least = len(unsure), rows_needed(rate, 1 - confidence) + 1
    allowed = _allowed_rate(unsure, errors, 1 - confidence)
    got = f"{display.counted(rows, 'row')}, {errors[-1]:,} of them wrong"
    lower = "a lower confidence, or more rows"
    do = f"Pass {lower}." if allowed is None else f"These rows allow rate={allowed:.4g}; pass it, {lower}."
    if rows < least:
        what = f"at least {least:,} rows for an error rate of {rate:g} with confidence {confidence:g}"
    else:
        what = f"few enough errors among the most certain rows for a rate of {rate:g} with confidence {confidence:g}"
    fail(InputError, what, got, do)


def _allowed_rate(unsure: np.ndarray, errors: np.ndarray, level: float) -> float | None:
    """Return a rate of four digits that the rows allow, the lowest that bisection finds; None if they allow none."""
    high, low = 0.9999, 0.0
    if last_passed(unsure, errors, high, level) is None:
        return None
    while high - low > 1e-4:
        middle = round((low + high) / 2, 4)
        if not low < middle < high:
            break
        low, high = (low, middle) if last_passed(unsure, errors, middle, level) else (middle, high)
    return high
