"""Learn then Test: the promise holds as often as it says, and rows that allow none say which rate they allow."""

import numpy as np
import pytest
from scipy.stats import binom

from bbb.decide.abstention import Abstention, learn_then_test
from bbb.decide.abstention.promise import last_passed, rows_needed
from bbb.errors import InputError

REPEATS = 2000


class Smooth:
    """Uncertainties in (0, 1), and an error rate of a·u^b at u."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def rows(self, rng, n):
        u = rng.random(n)
        return rng.random(n) < self.a * u**self.b, u

    def rate_below(self, t):
        return self.a * min(t, 1.0) ** self.b / (self.b + 1)


class Steps:
    """Error rates of pieces of (0, 1), in any order; the uncertainty of a piece may be a single value."""

    def __init__(self, edges, rates, tied=False):
        self.edges, self.rates, self.tied = np.array(edges), np.array(rates), tied
        self.mass = np.diff(np.r_[self.edges, 1])

    def rows(self, rng, n):
        u = rng.random(n)
        piece = np.searchsorted(self.edges, u, "right") - 1
        return rng.random(n) < self.rates[piece], self.edges[piece] if self.tied else u

    def rate_below(self, t):
        mass = self.mass * (self.edges < t) if self.tied else np.clip(t - self.edges, 0, self.mass)
        return mass @ self.rates / mass.sum()


DATA = {
    "rising": (Smooth(0.5, 5), 400, 0.05),
    "a little above the rate everywhere": (Steps([0], [0.1001]), 100, 0.1),
    "neither rising nor falling": (Steps([0, 0.3, 0.5, 0.6], [0.05, 0.02, 0.4, 0.05]), 400, 0.1),
    "crossing the rate twice": (Steps([0, 0.2, 0.4, 0.6], [0.05, 0.17, 0.02, 0.5]), 400, 0.1),
    "two values, both just above": (Steps([0, 0.5], [0.1001, 0.1001], tied=True), 100, 0.1),
    "three values": (Steps([0, 0.3, 0.7], [0.0, 0.2, 0.4], tied=True), 400, 0.1),
    "four values, not rising": (Steps([0, 0.2, 0.4, 0.6], [0.05, 0.17, 0.02, 0.5], tied=True), 400, 0.1),
}


def broken(data, rows, rate, confidence, rng):
    """Return how many of the repeats give a rule that breaks the promise, and how many give a rule."""
    above = rules = 0
    for _ in range(REPEATS):
        wrong, u = data.rows(rng, rows)
        order = np.argsort(u)
        found = last_passed(u[order], np.r_[0, np.cumsum(wrong[order])], rate, 1 - confidence)
        rules += found is not None
        above += found is not None and data.rate_below(found[0]) > rate
    return above, rules


@pytest.mark.parametrize("name", DATA)
def test_the_promise_is_broken_no_more_often_than_it_says(name):
    data, rows, rate = DATA[name]
    above, _ = broken(data, rows, rate, 0.9, np.random.default_rng(1))
    assert above <= binom.ppf(0.999, REPEATS, 0.1)


def test_the_promise_is_not_kept_by_answering_nothing():
    data, rows, rate = DATA["rising"]
    above, rules = broken(data, rows, rate, 0.9, np.random.default_rng(2))
    assert rules > 0.98 * REPEATS
    assert above > 0.01 * REPEATS
    rule = learn_then_test(*data.rows(np.random.default_rng(3), 20_000), rate=rate)
    most = (rate * (data.b + 1) / data.a) ** (1 / data.b)  # where the error rate is the promise
    assert most - 0.05 <= rule.threshold < most


def test_the_lowest_observed_rate_would_break_such_a_promise():
    data, rows, rate = DATA["rising"]
    rng, above = np.random.default_rng(1), 0
    for _ in range(REPEATS):
        wrong, u = data.rows(rng, rows)
        order = np.argsort(u)
        observed = np.cumsum(wrong[order]) / np.arange(1, rows + 1)
        above += data.rate_below(u[order][np.flatnonzero(observed <= rate)[-1]]) > rate
    assert above > binom.ppf(0.999, REPEATS, 0.1)


def test_a_rule_by_hand():
    wrong = np.zeros(100, bool)
    wrong[97:] = True
    rule = learn_then_test(wrong, np.arange(100.0), rate=0.05)
    assert (rule.threshold, rule.answered, rule.wrong, rule.rows) == (96, 96, 0, 100)  # the last rank, 99, has 2 wrong
    assert rule.p_value == pytest.approx(0.95**96)
    assert binom.cdf(2, 99, 0.05) > 0.05
    np.testing.assert_array_equal(rule.answers([0, rule.threshold, 1e9]), [True, False, False])
    assert rule.coverage == rule.answered / 100


def test_a_rule_answers_of_its_own_rows_as_many_as_it_says():
    rng = np.random.default_rng(4)
    for tied in (False, True):
        wrong, u = Steps([0, 0.3, 0.7], [0.0, 0.1, 0.4], tied).rows(rng, 500)
        rule = learn_then_test(wrong, u, rate=0.1)
        answered = rule.answers(u)
        assert (answered.sum(), wrong[answered].sum()) == (rule.answered, rule.wrong)


def test_most_rows_of_one_uncertainty_are_answered_together():
    u = np.r_[np.zeros(600), np.linspace(0.1, 1, 400)]
    wrong = np.r_[np.zeros(600), np.ones(400)]
    rule = learn_then_test(wrong, u, rate=0.05)
    assert rule.answers([0.0]).all()
    assert rule.answered >= 600


def test_the_order_of_rows_and_a_rising_function_of_the_uncertainty_choose_the_same_rows():
    rng = np.random.default_rng(5)
    wrong, u = Smooth(0.5, 4).rows(rng, 300)
    u, order = np.round(u, 2), rng.permutation(300)
    rule, other = learn_then_test(wrong, u, rate=0.1), learn_then_test(wrong[order], np.exp(u[order]), rate=0.1)
    np.testing.assert_array_equal(rule.answers(u), other.answers(np.exp(u)))


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.3, 0.9])
def test_so_few_rows_without_an_error_are_enough_and_no_fewer(rate, confidence):
    needed = rows_needed(rate, 1 - confidence)
    assert (1 - rate) ** needed <= (1 - confidence) * (1 + 1e-9)
    assert needed == 1 or (1 - rate) ** (needed - 1) > (1 - confidence) * (1 - 1e-9)


def test_rows_that_are_too_few_are_told_how_many_are_needed_and_what_they_allow():
    right, u = np.zeros(59, bool), np.arange(59.0)
    with pytest.raises(InputError, match=r"at least 60 rows for an error rate of 0\.05 .* got 59 rows, 0") as caught:
        learn_then_test(right, u, rate=0.05)
    allowed = float(str(caught.value).split("allow rate=")[1].split(";")[0])
    assert allowed == pytest.approx(1 - 0.05 ** (1 / 58), abs=2e-4)
    assert isinstance(learn_then_test(right, u, rate=allowed), Abstention)
    with pytest.raises(InputError):
        learn_then_test(right, u, rate=allowed - 2e-4)
    assert learn_then_test(np.zeros(60), np.arange(60), rate=0.05).answered == 59


def test_rows_of_too_many_errors_are_told_what_they_allow():
    wrong, u = Steps([0], [0.2]).rows(np.random.default_rng(6), 500)
    with pytest.raises(InputError, match=r"few enough errors among the most certain rows .* got 500 rows") as caught:
        learn_then_test(wrong, u, rate=0.05)
    allowed = float(str(caught.value).split("allow rate=")[1].split(";")[0])
    assert 0.2 < allowed < 0.4
    assert learn_then_test(wrong, u, rate=allowed).rate == allowed


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_rows_that_are_all_wrong_allow_no_rate(rows):
    with pytest.raises(InputError, match="Pass a lower confidence, or more rows"):
        learn_then_test(np.ones(rows), np.arange(rows), rate=0.5)


def test_a_rule_says_what_it_promises():
    text = repr(learn_then_test(np.zeros(100), np.arange(100), rate=0.05))
    assert text.splitlines()[0] == "Abstention"
    assert "an error rate of at most 0.05, with confidence 0.95" in text
    assert "100 rows, 0 of 99 answers wrong" in text
