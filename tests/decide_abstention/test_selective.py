"""Selective prediction: the curve, its area and the best there could be, with ties and weights."""

import itertools

import numpy as np
import pytest

from bbb import metrics
from bbb.decide.abstention import risk_coverage

RNG = np.random.default_rng(0)


def brute(loss, uncertainty, weight):
    """Return AURC by its words: the mean over rows of the mean loss of all rows that are at most as uncertain."""
    risks = [np.average(loss[uncertainty <= u], weights=weight[uncertainty <= u]) for u in uncertainty]
    return np.average(risks, weights=weight)


@pytest.mark.parametrize("values", [1, 3, 10_000])
def test_the_area_is_the_mean_of_the_risks_at_the_thresholds_of_all_rows(values):
    loss, uncertainty = RNG.normal(size=40) ** 2, RNG.integers(0, values, 40)
    weight = RNG.uniform(0.1, 2, 40)
    curve = risk_coverage(loss, uncertainty, sample_weight=weight)
    assert curve.aurc == pytest.approx(brute(loss, uncertainty, weight), rel=1e-13)
    assert risk_coverage(loss, uncertainty).aurc == pytest.approx(brute(loss, uncertainty, np.ones(40)), rel=1e-13)


def test_a_curve_by_hand():
    curve = risk_coverage([False, True, False, True], [1.0, 3.0, 2.0, 3.0])
    np.testing.assert_array_equal(curve.thresholds, [1, 2, 3])
    np.testing.assert_array_equal(curve.coverage, [0.25, 0.5, 1])
    np.testing.assert_array_equal(curve.risk, [0, 0, 0.5])
    assert curve.aurc == 0.25
    assert [curve.risk_at(share) for share in (0.1, 0.5, 0.51, 1.0)] == [0, 0, 0.5, 0.5]


def test_a_share_of_the_rows_that_is_rounded_up_or_down_answers_as_many():
    for rows in range(1, 60):
        curve = risk_coverage(np.arange(rows) == rows - 1, np.arange(rows))
        for answered in range(1, rows + 1):
            assert curve.risk_at(answered / rows) == (1 / rows if answered == rows else 0)


def test_without_ties_it_is_the_area_that_torch_uncertainty_has_but_for_its_ends():
    # its trapezoid over coverages of 1/n to 1, divided by their range: the risks of the first and the last half count
    loss, uncertainty = RNG.random(50) < 0.3, RNG.random(50)
    curve = risk_coverage(loss, uncertainty)
    order = np.argsort(uncertainty)
    errors = np.cumsum(loss[order]) / np.arange(1, 51)
    trapezoid = np.sum((errors[1:] + errors[:-1]) / 2) / 49
    halves = (errors[0] + errors[-1]) / 2
    assert 50 * curve.aurc == pytest.approx(49 * trapezoid + halves, rel=1e-12)


def test_the_order_of_rows_and_any_rising_function_of_the_uncertainty_change_nothing():
    loss, uncertainty = RNG.random(30), RNG.integers(0, 6, 30) / 3
    curve, order = risk_coverage(loss, uncertainty), RNG.permutation(30)
    other = risk_coverage(loss[order], np.exp(uncertainty[order]))
    np.testing.assert_allclose(other.risk, curve.risk, rtol=1e-13)
    assert other.aurc == pytest.approx(curve.aurc, rel=1e-13)


def test_a_weight_is_how_often_a_row_is_there():
    loss, uncertainty, times = RNG.random(20), RNG.integers(0, 5, 20), RNG.integers(0, 4, 20)
    weighted = risk_coverage(loss, uncertainty, sample_weight=times)
    repeated = risk_coverage(np.repeat(loss, times), np.repeat(uncertainty, times))
    np.testing.assert_allclose(weighted.coverage, repeated.coverage, rtol=1e-13)
    np.testing.assert_allclose(weighted.risk, repeated.risk, rtol=1e-13)
    assert weighted.aurc == pytest.approx(repeated.aurc, rel=1e-13)
    assert weighted.optimal_aurc == pytest.approx(repeated.optimal_aurc, rel=1e-13)


@pytest.mark.parametrize("wrong", [1, 7, 19])
def test_the_optimum_of_errors_is_the_formula_of_the_paper(wrong):
    loss = np.arange(20) < wrong
    r = wrong / 20
    assert risk_coverage(loss, RNG.random(20)).optimal_aurc == pytest.approx(r + (1 - r) * np.log(1 - r), rel=1e-12)


def test_the_optimum_is_the_integral_of_the_mean_of_the_smallest_losses():
    loss = np.array([0.5, 2.0, 0.5, 1.0])
    mean = np.cumsum(np.repeat(np.sort(loss), 100_000)) / np.arange(1, 400_001)
    assert risk_coverage(loss, loss).optimal_aurc == pytest.approx(np.mean(mean), abs=1e-5)


def test_no_order_of_the_rows_beats_the_optimum_and_the_loss_itself_is_within_a_row_of_it():
    loss = np.array([0.0, 0.0, 1.0, 2.0, 0.3])
    orders = [risk_coverage(loss, order).excess_aurc for order in itertools.permutations(range(5))]
    tied = [risk_coverage(loss, order).excess_aurc for order in itertools.product(range(3), repeat=5)]
    assert min(orders + tied) > 0
    by_loss = risk_coverage(loss, np.argsort(np.argsort(loss)))
    assert by_loss.excess_aurc == pytest.approx(min(orders))
    assert by_loss.excess_aurc <= loss.mean() / 5


def test_an_uncertainty_that_tells_nothing_has_the_risk_of_answering_always():
    loss = RNG.random(25)
    curve = risk_coverage(loss, np.zeros(25))
    assert curve.aurc == pytest.approx(loss.mean())
    assert curve.coverage == [1]


def test_one_row_and_losses_that_are_all_the_same():
    assert risk_coverage([0.25], [1]).excess_aurc == 0
    assert risk_coverage([0.25] * 6, range(6)).excess_aurc == pytest.approx(0, abs=1e-15)


def test_a_curve_shows_its_areas():
    text = repr(risk_coverage([0, 1, 0, 1], [1, 3, 2, 4]))
    assert text.splitlines()[0] == "RiskCoverage of 4 thresholds"
    assert "AURC" in text
    assert "risk of 80 % answered   0.5" in text


def test_auroc_is_that_of_scikit_learn_with_ties():
    sklearn = pytest.importorskip("sklearn.metrics")
    for values in (2, 5, 1_000_000):
        inside, outside = RNG.integers(0, values, 30), RNG.integers(1, values + 1, 17)
        labels, scores = np.r_[np.zeros(30), np.ones(17)], np.r_[inside, outside]
        assert metrics.auroc(inside, outside) == pytest.approx(sklearn.roc_auc_score(labels, scores), rel=1e-14)


def test_auroc_of_scores_apart_equal_and_exchanged():
    assert metrics.auroc([0.0, 1.0], [2.0]) == 1
    assert metrics.auroc([1.0], [1.0, 1.0, 1.0]) == 0.5
    inside, outside = RNG.integers(0, 9, 12), RNG.integers(0, 9, 15)
    assert metrics.auroc(inside, outside) + metrics.auroc(outside, inside) == pytest.approx(1)
