"""Ranges of chance hold what they say: checked against exact distributions, and by simulation of right and wrong."""

import numpy as np
import pytest

from bbb.report import chance
from bbb.report.parts.groups import Group

pytest.importorskip("scipy", reason="needs scipy")


@pytest.mark.parametrize("rows", [1, 2, 3, 17, 400])
@pytest.mark.parametrize("probability", [0.0, 0.5, 0.95, 0.999, 1.0])
def test_equal_probabilities_are_a_binomial(rows, probability):
    assert chance.of_probabilities(np.full(rows, probability)) == chance.around(probability, rows)


@pytest.mark.parametrize("rows", [1, 5, 40, 300])
def test_a_right_classifier_is_rarely_called_wrong(rows):
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(0.6, 1, rows)
    lower, upper = chance.of_probabilities(probabilities)
    shares = (rng.uniform(size=(10_000, rows)) < probabilities).mean(axis=1)
    assert np.mean((shares < lower) | (shares > upper)) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 10_000)


def test_a_wrong_classifier_is_called_wrong():
    rng = np.random.default_rng(0)
    lower, _ = chance.of_probabilities(np.full(300, 0.9))
    assert np.mean((rng.uniform(size=(1000, 300)) < 0.8).mean(axis=1) < lower) > 0.99


@pytest.mark.parametrize(("calibration", "rows", "level"), [(39, 200, 0.9), (20, 50, 0.95), (60, 300, 0.5)])
def test_calibrated_intervals_are_rarely_called_wrong(calibration, rows, level):
    rng, count = np.random.default_rng(0), 4000
    rank = int(np.ceil(level * (calibration + 1) - 1e-9))
    bounds = np.sort(rng.uniform(size=(count, calibration)), axis=1)[:, rank - 1 : rank]
    shares = (rng.uniform(size=(count, rows)) <= bounds).mean(axis=1)
    lower, upper = chance.around(level, rows, calibration)
    off = np.mean((shares < lower) | (shares > upper))
    assert 0.005 < off < 0.05 + 4 * np.sqrt(0.05 * 0.95 / count)
    tight = chance.around(level, rows)
    assert np.mean((shares < tight.lower) | (shares > tight.upper)) > off


@pytest.mark.parametrize(("rows", "level"), [(1, 0.95), (2, 0.95), (3, 0.95), (50, 0.997), (40, 0.5)])
def test_of_twenty_right_groups_at_most_one_is_expected_to_miss(rows, level):
    from scipy.stats import binom

    places = np.arange(rows)
    off = [hits for hits in range(rows + 1) if Group("g", places, hits, level).is_off]
    assert binom(rows, level).pmf(off).sum() <= 0.05


def test_a_group_of_counts_may_hold_more():
    group = Group("g", np.arange(500), 500, 0.95)
    assert group.is_off
    assert not group._replace(at_least=True).is_off
    assert group._replace(at_least=True, hits=400).is_off
