"""Bad input to `plot`: refused by name, and nothing is written."""

import functools

import numpy as np
import pytest

import bbb
from bbb import metrics, plots, priors
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from tests.bad_input import (
    HALVES,
    KEY,
    MODEL,
    NAN,
    POSTERIOR,
    X,
    Y,
    assert_refused,
    ax,
    band,
    classifier,
    crossed,
    history,
    not_above_0,
    not_inside_0_1,
    without_draws,
    wrong_counts,
    wrong_posteriors,
    wrong_priors,
)


@functools.cache
def class_band():
    return bbb.predict(KEY, classifier(), X, draws=4)


ABOVE_0 = {"plots.band: sigmas": lambda sigmas: plots.band(X, band(), sigmas=sigmas, ax=ax())}
COUNTS = {"plots.pit_histogram: bins": lambda n: plots.pit_histogram([0.5], bins=n, ax=ax())}

INSIDE_0_1 = {
    "plots.fan: levels": lambda p: plots.fan(X, band().f, levels=(p,), ax=ax()),
    "plots.predicted_against_observed: level": lambda p: plots.predicted_against_observed(
        Y, band().y, level=p, ax=ax()
    ),
    "plots.calibration: levels": lambda p: plots.calibration([0.5], levels=(p,), ax=ax()),
}

POSTERIORS = {
    "plots.signal_to_noise: posterior": lambda q: plots.signal_to_noise(q, ax=ax()),
    "plots.weight_density: posterior": lambda q: plots.weight_density(q, priors.Normal(), ax=ax()),
}

PRIORS = {"plots.weight_density": lambda one: plots.weight_density(POSTERIOR, one, ax=ax())}

DRAWN = {
    "plots.band": lambda one: plots.band(X, band(), ax=one),
    "plots.fan": lambda one: plots.fan(X, band().f, ax=one),
    "plots.predicted_against_observed": lambda one: plots.predicted_against_observed(Y, band().y, ax=one),
    "plots.calibration": lambda one: plots.calibration([0.5], ax=one),
    "plots.pit_histogram": lambda one: plots.pit_histogram([0.5], ax=one),
    "plots.reliability": lambda one: plots.reliability(metrics.reliability([0], [[1.0, 0.0]]), ax=one),
    "plots.signal_to_noise": lambda one: plots.signal_to_noise(POSTERIOR, ax=one),
    "plots.weight_density": lambda one: plots.weight_density(POSTERIOR, priors.Normal(), ax=one),
    "plots.pruning": lambda one: plots.pruning([0.0], [1.0], ax=one),
    "plots.training": lambda one: plots.training(history(), ax=one),
}

CASES = {
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **not_inside_0_1(INSIDE_0_1),
    **wrong_posteriors(POSTERIORS),
    **wrong_priors(PRIORS),
    **crossed(DRAWN, {"a word": "axes"}, InputError, "ax to be matplotlib's axes", ": ax is"),
    "plots.band: two inputs": (lambda: plots.band(np.ones((6, 2)), band(), ax=ax()), ShapeError, "x to be one column"),
    "plots.band: other rows": (lambda: plots.band(X[:5], band(), ax=ax()), ShapeError, "rows"),
    "plots.band: x in words": (lambda: plots.band(["a"] * 6, band(), ax=ax()), InputError, "x to be real numbers"),
    "plots.band: x of NaN": (lambda: plots.band(X * NAN, band(), ax=ax()), NonFiniteInputError, "x to hold finite"),
    "plots.band: no predictive": (
        lambda: plots.band(X, band().f, ax=ax()),
        InputError,
        "predictive to be a Predictive",
    ),
    "plots.band: data of one array": (lambda: plots.band(X, band(), data=X, ax=ax()), InputError, "data to be a pair"),
    "plots.band: data of other rows": (lambda: plots.band(X, band(), data=(X, Y[:3]), ax=ax()), ShapeError, "rows"),
    "plots.band: a target of other rows": (lambda: plots.band(X, band(), target=Y[:3], ax=ax()), ShapeError, "rows"),
    "plots.band: an observation of classes": (
        lambda: plots.band(X, class_band(), observation=True, ax=ax()),
        InputError,
        "one column|a Marginal",
    ),
    "plots.fan: classes": (lambda: plots.fan(X, class_band().y, ax=ax()), InputError, "marginal to be a Marginal"),
    "plots.fan: a predictive": (lambda: plots.fan(X, band(), ax=ax()), InputError, "marginal to be a Marginal"),
    "plots.fan: other rows": (lambda: plots.fan(X[:5], band().f, ax=ax()), ShapeError, "rows"),
    "plots.fan: levels that fall": (lambda: plots.fan(X, band().f, levels=(0.9, 0.1), ax=ax()), InputError, "rising"),
    "plots.fan: draws not kept": (
        lambda: plots.fan(np.repeat(X, 250, axis=0), without_draws().f, ax=ax()),
        bbb.errors.QuantileError,
        "asked for when predicting",
    ),
    "plots.predicted_against_observed: other rows": (
        lambda: plots.predicted_against_observed(Y[:5], band().y, ax=ax()),
        ShapeError,
        "rows",
    ),
    "plots.predicted_against_observed: an interval of other rows": (
        lambda: plots.predicted_against_observed(Y, band().y, interval=(Y[:5] - 1, Y[:5] + 1), ax=ax()),
        ShapeError,
        "y to have the 6 rows of x, got 5",
    ),
    "plots.predicted_against_observed: classes": (
        lambda: plots.predicted_against_observed(Y, class_band().y, ax=ax()),
        InputError,
        "marginal to be a Marginal",
    ),
    "plots.calibration: no transforms": (lambda: plots.calibration([5.0], ax=ax()), InputError, r"pit inside \[0, 1\]"),
    "plots.pit_histogram: no transforms": (lambda: plots.pit_histogram([-1.0], ax=ax()), InputError, "pit inside"),
    "plots.pit_histogram: nothing": (lambda: plots.pit_histogram([], ax=ax()), ShapeError, "at least one row"),
    "plots.reliability: an array": (lambda: plots.reliability(HALVES, ax=ax()), InputError, "to be a Reliability"),
    "plots.pruning: other lengths": (lambda: plots.pruning([0, 0.5], [1.0], ax=ax()), ShapeError, "rows"),
    "plots.pruning: nothing": (lambda: plots.pruning([], [], ax=ax()), ShapeError, "at least one row"),
    "plots.pruning: words": (lambda: plots.pruning(["a"], [1.0], ax=ax()), InputError, "fractions to be real numbers"),
    "plots.training: a model": (lambda: plots.training(MODEL, ax=ax()), InputError, "history to be a History"),
    "plots.training: nothing": (lambda: plots.training(None, ax=ax()), InputError, "history to be a History"),
    "plots.png: no function": (lambda: plots.png("ax"), InputError, "draw to be a function"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
