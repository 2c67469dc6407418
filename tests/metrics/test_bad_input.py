"""Bad input to `metrics`: refused by name, and nothing is written."""

import functools

import numpy as np
import pytest

from bbb import metrics
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from bbb.metrics import inputs
from tests.bad_input import (
    HALVES,
    KEY,
    NAN,
    Y,
    assert_refused,
    crossed_with,
    not_above_0,
    not_inside_0_1,
    wrong_counts,
    wrong_keys,
    wrong_rows,
    wrong_weights,
)


def scored(score, y_and_p):
    return score(*y_and_p)


KEYED = {
    "metrics.pit: key": lambda key: metrics.pit(key, [0.1], [0.2]),
    "metrics.pit_draws: key": lambda key: metrics.pit_draws(key, [0.0], [[0.1], [0.2]]),
}

ROWED = {
    "metrics.rmse: y": lambda y: metrics.rmse(y, Y),
    "metrics.crps_normal: mean": lambda mean: metrics.crps_normal(Y, mean, 1.0),
    "metrics.crps_normal_mixture: means": lambda means: metrics.crps_normal_mixture(Y, means, 1.0),
    "metrics.crps_draws: draws": lambda draws: metrics.crps_draws(Y, draws),
    "metrics.interval_score: y": lambda y: metrics.interval_score(y, Y, Y, 0.9),
    "metrics.coverage: lower": lambda lower: metrics.coverage(Y, lower, Y),
    "metrics.interval_width: upper": lambda upper: metrics.interval_width(Y, upper),
    "metrics.pit_draws: y": lambda y: metrics.pit_draws(KEY, y, Y[None]),
}
"""Calls of an array with a row for each observation."""

ABOVE_0 = {
    "metrics.crps_normal: std": lambda std: metrics.crps_normal(Y, Y, std),
    "metrics.crps_normal_mixture: stds": lambda stds: metrics.crps_normal_mixture(Y, Y[None], stds),
}

COUNTS = {
    "metrics.reliability: bins": lambda n: metrics.reliability([0], [[0.5, 0.5]], n),
    "metrics.expected_calibration_error: bins": lambda n: metrics.expected_calibration_error([0], [[0.5, 0.5]], n),
}

INSIDE_0_1 = {
    "metrics.interval_score: level": lambda p: metrics.interval_score(Y, Y, Y, p),
    "metrics.observed_coverage: levels": lambda p: metrics.observed_coverage([0.5], (0.1, p)),
}

PROBABILITIES = {
    "metrics.accuracy": metrics.accuracy,
    "metrics.brier": metrics.brier,
    "metrics.reliability": metrics.reliability,
    "metrics.expected_calibration_error": metrics.expected_calibration_error,
}

NO_PROBABILITIES = {
    "one axis": ([0, 1], [0.5, 0.5], ShapeError, r"\(rows, classes\)"),
    "no classes": ([0, 1], np.zeros((2, 0)), ShapeError, r"\(rows, classes\)"),
    "a negative one": ([0, 1], [[1.5, -0.5]] * 2, InputError, "sum to 1"),
    "logits": ([0, 1], [[3.0, 1.0]] * 2, InputError, "sum to 1"),
    "NaN among them": ([0, 1], [[NAN, 1.0]] * 2, NonFiniteInputError, "finite numbers"),
    "words": ([0, 1], [["a", "b"]] * 2, InputError, "real numbers"),
    "other rows": ([0, 1, 0], HALVES, ShapeError, r"y of shape \(2,\)"),
    "a class beyond": ([0, 2], HALVES, InputError, "classes from 0 to 1 in y, got 2"),
    "a class below": ([0, -1], HALVES, InputError, "classes from 0 to 1 in y, got -1"),
    "half a class": ([0, 0.5], HALVES, InputError, "classes from 0 to 1 in y, got 0.5"),
    "a class in words": (["a", "b"], HALVES, InputError, "y to be real numbers"),
}

EVEN = np.full((6, 2), 0.5)
WEIGHTS = {
    "metrics.rmse: sample_weight": lambda w: metrics.rmse(Y, Y, sample_weight=w),
    "metrics.coverage: sample_weight": lambda w: metrics.coverage(Y, Y, Y, sample_weight=w),
    "metrics.interval_width: sample_weight": lambda w: metrics.interval_width(Y, Y, sample_weight=w),
    "metrics.observed_coverage: sample_weight": lambda w: metrics.observed_coverage(Y, (0.5,), sample_weight=w),
    "metrics.accuracy: sample_weight": lambda w: metrics.accuracy([0] * 6, EVEN, sample_weight=w),
    "metrics.reliability: sample_weight": lambda w: metrics.reliability([0] * 6, EVEN, sample_weight=w),
    "metrics.expected_calibration_error: sample_weight": (
        lambda w: metrics.expected_calibration_error([0] * 6, EVEN, sample_weight=w)
    ),
}

CASES = {
    **wrong_weights(WEIGHTS),
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **not_inside_0_1(INSIDE_0_1),
    **crossed_with(
        {name: functools.partial(scored, score) for name, score in PROBABILITIES.items()},
        {what: ((y, p), error, text) for what, (y, p, error, text) in NO_PROBABILITIES.items()},
        ":",
    ),
    "metrics.rmse: other shapes": (lambda: metrics.rmse(Y, Y[:, 0]), ShapeError, "mean of the shape"),
    "metrics.crps_normal: a std of another shape": (
        lambda: metrics.crps_normal(Y, Y, np.ones(5)),
        ShapeError,
        "a std that broadcasts",
    ),
    "metrics.crps_draws: draws of other rows": (lambda: metrics.crps_draws(Y, Y), ShapeError, "draws of shape"),
    "metrics.crps_normal_mixture: means of other rows": (
        lambda: metrics.crps_normal_mixture(Y, Y, 1.0),
        ShapeError,
        "draws of shape",
    ),
    "metrics.interval_score: ends the wrong way round": (
        lambda: metrics.interval_score(Y, Y + 1, Y, 0.9),
        InputError,
        "Pass lower before upper",
    ),
    "metrics.coverage: ends the wrong way round": (lambda: metrics.coverage(Y, Y + 1, Y), InputError, "lower before"),
    "metrics.interval_width: ends the wrong way round": (
        lambda: metrics.interval_width(Y + 1, Y),
        InputError,
        "lower before upper",
    ),
    "metrics.pit: above 1": (lambda: metrics.pit(KEY, [0.5], [1.5]), InputError, r"upto inside \[0, 1\]"),
    "metrics.pit: the wrong way round": (lambda: metrics.pit(KEY, [0.5], [0.1]), InputError, "below to be at most"),
    "metrics.pit_draws: other rows": (lambda: metrics.pit_draws(KEY, Y, Y), ShapeError, "draws of shape"),
    "metrics.observed_coverage: no transform": (
        lambda: metrics.observed_coverage([3.0], (0.5,)),
        InputError,
        r"pit inside \[0, 1\]",
    ),
    "metrics.observed_coverage: levels that fall": (
        lambda: metrics.observed_coverage([0.5], (0.9, 0.5)),
        InputError,
        "levels in rising order",
    ),
    "metrics.observed_coverage: no levels": (lambda: metrics.observed_coverage([0.5], ()), InputError, "at least one"),
    "metrics.inputs.unit_interval: above 1": (
        lambda: inputs.unit_interval("p", [1.5]),
        InputError,
        r"p inside \[0, 1\]",
    ),
    "metrics.inputs.rising_levels: levels that fall": (
        lambda: inputs.rising_levels("levels", (0.5, 0.1)),
        InputError,
        "rising order",
    ),
    "metrics.predictive_entropy: two axes": (
        lambda: metrics.predictive_entropy(HALVES),
        ShapeError,
        r"\(draws, rows, classes\)",
    ),
    "metrics.predictive_entropy: logits": (
        lambda: metrics.predictive_entropy(np.ones((2, 2, 2))),
        InputError,
        "sum to 1 over the last axis",
    ),
    "metrics.predictive_entropy: words": (
        lambda: metrics.predictive_entropy([[["a", "b"]]]),
        InputError,
        "real numbers",
    ),
    "metrics.predictive_entropy: nothing": (lambda: metrics.predictive_entropy(None), InputError, "real numbers"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
