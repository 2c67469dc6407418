"""The finite-sample rank: by hand, exactly as MAPIE's, weighted, and its coverage over 1,000 repeats."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from bbb.decide.coverage.ranks import bound, highest_level, rank_of


def bounds(scores, level, weights=None, new=1.0):
    return bound(np.asarray(scores, float)[:, None], weights, np.array([new]), level)[0, 0]


@pytest.mark.parametrize("percent", range(1, 100))
def test_the_rank_is_that_of_exact_fractions(percent):
    for n in (1, 9, 19, 20, 99, 100, 999):
        exact = -(-Fraction(percent, 100) * (n + 1) // 1)
        assert rank_of(percent / 100, n) == exact


def test_the_bound_is_the_rank_th_smallest_score_and_infinite_beyond_the_last():
    scores = np.random.default_rng(0).permutation(19) + 1.0
    assert bounds(scores, 0.95) == 19
    assert bounds(scores, 0.9) == 18
    assert bounds(scores, 0.91) == 19
    assert np.isinf(bounds(scores, 0.951))
    assert highest_level(19) == pytest.approx(0.95)


def test_a_new_row_is_covered_in_exactly_the_promised_share_of_all_orders():
    # of n + 1 exchangeable scores, each is the new one as often: no chance is left
    scores = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5, 8.0, 7.0])
    for level in (0.1, 0.5, 0.55, 0.8, 0.9):
        inside = [scores[i] <= bounds(np.delete(scores, i), level) for i in range(10)]
        assert np.mean(inside) == np.ceil(round(level * 10, 9)) / 10


def test_weights_of_whole_numbers_are_rows_that_are_there_so_often():
    scores, counts = np.array([5.0, 1.0, 3.0, 2.0]), np.array([1, 4, 2, 3])
    for level in (0.2, 0.5, 0.75, 0.9):
        assert bounds(scores, level, counts.astype(float)) == bounds(np.repeat(scores, counts), level)


def test_the_weighted_bound_is_the_quantile_of_the_weighted_distribution_by_its_definition():
    rng = np.random.default_rng(1)
    scores, weights = rng.normal(size=30), rng.gamma(1.0, size=30)
    for level, new in itertools.product((0.3, 0.6, 0.9), (0.0, 0.5, 3.0)):
        shares = weights / (weights.sum() + new)
        holds = [s for s in np.sort(scores) if shares[scores <= s].sum() >= level]
        assert bounds(scores, level, weights, new) == (holds[0] if holds else np.inf)


def test_a_row_of_a_weight_that_is_too_large_has_no_bound():
    assert np.isinf(bounds(np.arange(50.0), 0.9, np.ones(50), new=6.0))
    assert np.isfinite(bounds(np.arange(50.0), 0.9, np.ones(50), new=5.0))


def test_each_column_and_each_new_weight_has_the_bound_of_its_own():
    rng = np.random.default_rng(2)
    scores, weights, new = rng.normal(size=(40, 3)), rng.gamma(1.0, size=40), np.array([0.5, 2.0, 0.5, 40.0])
    found = bound(scores, weights, new, 0.7)
    for i, j in itertools.product(range(4), range(3)):
        assert found[i, j] == bounds(scores[:, j], 0.7, weights, new[i])
