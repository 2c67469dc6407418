"""Bad input to `plot`: refused by name, and nothing is written."""

import functools

import numpy as np
import pytest

import bbb
from bbb import InputError, NonFiniteInputError, ShapeError, metrics, plot, prior
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


ABOVE_0 = {"plot.band: sigmas": lambda sigmas: plot.band(X, band(), sigmas=sigmas, ax=ax())}
COUNTS = {"plot.pit_histogram: bins": lambda n: plot.pit_histogram([0.5], bins=n, ax=ax())}

INSIDE_0_1 = {
    "plot.fan: levels": lambda p: plot.fan(X, band().f, levels=(p,), ax=ax()),
    "plot.predicted_against_observed: level": lambda p: plot.predicted_against_observed(Y, band().y, level=p, ax=ax()),
    "plot.calibration: levels": lambda p: plot.calibration([0.5], levels=(p,), ax=ax()),
}

POSTERIORS = {
    "plot.signal_to_noise: posterior": lambda q: plot.signal_to_noise(q, ax=ax()),
    "plot.weight_density: posterior": lambda q: plot.weight_density(q, prior.Normal(), ax=ax()),
}

PRIORS = {"plot.weight_density": lambda one: plot.weight_density(POSTERIOR, one, ax=ax())}

DRAWN = {
    "plot.band": lambda one: plot.band(X, band(), ax=one),
    "plot.fan": lambda one: plot.fan(X, band().f, ax=one),
    "plot.predicted_against_observed": lambda one: plot.predicted_against_observed(Y, band().y, ax=one),
    "plot.calibration": lambda one: plot.calibration([0.5], ax=one),
    "plot.pit_histogram": lambda one: plot.pit_histogram([0.5], ax=one),
    "plot.reliability": lambda one: plot.reliability(metrics.reliability([0], [[1.0, 0.0]]), ax=one),
    "plot.signal_to_noise": lambda one: plot.signal_to_noise(POSTERIOR, ax=one),
    "plot.weight_density": lambda one: plot.weight_density(POSTERIOR, prior.Normal(), ax=one),
    "plot.pruning": lambda one: plot.pruning([0.0], [1.0], ax=one),
    "plot.training": lambda one: plot.training(history(), ax=one),
}

CASES = {
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **not_inside_0_1(INSIDE_0_1),
    **wrong_posteriors(POSTERIORS),
    **wrong_priors(PRIORS),
    **crossed(DRAWN, {"a word": "axes"}, InputError, "ax to be matplotlib's axes", ": ax is"),
    "plot.band: two inputs": (lambda: plot.band(np.ones((6, 2)), band(), ax=ax()), ShapeError, "x to be one column"),
    "plot.band: other rows": (lambda: plot.band(X[:5], band(), ax=ax()), ShapeError, "rows"),
    "plot.band: x in words": (lambda: plot.band(["a"] * 6, band(), ax=ax()), InputError, "x to be real numbers"),
    "plot.band: x of NaN": (lambda: plot.band(X * NAN, band(), ax=ax()), NonFiniteInputError, "x to hold finite"),
    "plot.band: no predictive": (lambda: plot.band(X, band().f, ax=ax()), InputError, "predictive to be a Predictive"),
    "plot.band: data of one array": (lambda: plot.band(X, band(), data=X, ax=ax()), InputError, "data to be a pair"),
    "plot.band: data of other rows": (lambda: plot.band(X, band(), data=(X, Y[:3]), ax=ax()), ShapeError, "rows"),
    "plot.band: a target of other rows": (lambda: plot.band(X, band(), target=Y[:3], ax=ax()), ShapeError, "rows"),
    "plot.band: an observation of classes": (
        lambda: plot.band(X, class_band(), observation=True, ax=ax()),
        InputError,
        "one column|a Marginal",
    ),
    "plot.fan: classes": (lambda: plot.fan(X, class_band().y, ax=ax()), InputError, "marginal to be a Marginal"),
    "plot.fan: a predictive": (lambda: plot.fan(X, band(), ax=ax()), InputError, "marginal to be a Marginal"),
    "plot.fan: other rows": (lambda: plot.fan(X[:5], band().f, ax=ax()), ShapeError, "rows"),
    "plot.fan: levels that fall": (lambda: plot.fan(X, band().f, levels=(0.9, 0.1), ax=ax()), InputError, "rising"),
    "plot.fan: draws not kept": (
        lambda: plot.fan(np.repeat(X, 250, axis=0), without_draws().f, ax=ax()),
        bbb.QuantileError,
        "asked for when predicting",
    ),
    "plot.predicted_against_observed: other rows": (
        lambda: plot.predicted_against_observed(Y[:5], band().y, ax=ax()),
        ShapeError,
        "rows",
    ),
    "plot.predicted_against_observed: classes": (
        lambda: plot.predicted_against_observed(Y, class_band().y, ax=ax()),
        InputError,
        "marginal to be a Marginal",
    ),
    "plot.calibration: no transforms": (lambda: plot.calibration([5.0], ax=ax()), InputError, r"pit inside \[0, 1\]"),
    "plot.pit_histogram: no transforms": (lambda: plot.pit_histogram([-1.0], ax=ax()), InputError, "pit inside"),
    "plot.pit_histogram: nothing": (lambda: plot.pit_histogram([], ax=ax()), ShapeError, "at least one row"),
    "plot.reliability: an array": (lambda: plot.reliability(HALVES, ax=ax()), InputError, "to be a Reliability"),
    "plot.pruning: other lengths": (lambda: plot.pruning([0, 0.5], [1.0], ax=ax()), ShapeError, "rows"),
    "plot.pruning: nothing": (lambda: plot.pruning([], [], ax=ax()), ShapeError, "at least one row"),
    "plot.pruning: words": (lambda: plot.pruning(["a"], [1.0], ax=ax()), InputError, "fractions to be real numbers"),
    "plot.training: a model": (lambda: plot.training(MODEL, ax=ax()), InputError, "history to be a History"),
    "plot.training: nothing": (lambda: plot.training(None, ax=ax()), InputError, "history to be a History"),
    "plot.png: no function": (lambda: plot.png("ax"), InputError, "draw to be a function"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
