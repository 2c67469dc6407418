"""Bad input to `diagnose`, `to_datatree`, pruning and `ensemble.spread`: refused by name, and nothing is written."""

import pytest

import bbb
from bbb.errors import InputError, ShapeError
from tests.bad_input import (
    KEY,
    MODEL,
    NAN,
    POSTERIOR,
    X,
    Y,
    assert_refused,
    classifier,
    ensemble,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_posteriors,
    wrong_rows,
)

KEYED = {
    "evaluate.agreement: key": lambda key: bbb.evaluate.agreement(key, MODEL, MODEL, X),
    "diagnose: key": lambda key: bbb.diagnose(MODEL, None, X, Y, key=key),
    "evaluate.spread: key": lambda key: bbb.evaluate.spread(key, ensemble(), X),
    "evaluate.to_datatree: key": lambda key: bbb.evaluate.to_datatree(key, MODEL, X),
}

ROWED = {
    "evaluate.agreement: x": lambda x: bbb.evaluate.agreement(KEY, MODEL, MODEL, x),
    "evaluate.spread: x": lambda x: bbb.evaluate.spread(KEY, ensemble(), x),
    "evaluate.to_datatree: x": lambda x: bbb.evaluate.to_datatree(KEY, MODEL, x),
    "evaluate.to_datatree: y": lambda y: bbb.evaluate.to_datatree(KEY, MODEL, X, y),
    "diagnose: x": lambda x: bbb.diagnose(MODEL, None, x, Y),
    "diagnose: y": lambda y: bbb.diagnose(MODEL, None, X, y),
}
"""Calls of an array with a row for each observation."""

COUNTS = {
    "evaluate.agreement: draws": lambda n: bbb.evaluate.agreement(KEY, MODEL, MODEL, X, draws=n),
    "evaluate.to_datatree: draws": lambda n: bbb.evaluate.to_datatree(KEY, MODEL, X, draws=n),
    "diagnose: draws": lambda n: bbb.diagnose(MODEL, None, X, Y, draws=n),
    "evaluate.spread: draws": lambda n: bbb.evaluate.spread(KEY, ensemble(), X, draws=n),
}

MODELS = {
    "evaluate.agreement: model": lambda model: bbb.evaluate.agreement(KEY, model, MODEL, X),
    "evaluate.agreement: reference": lambda reference: bbb.evaluate.agreement(KEY, MODEL, reference, X),
    "evaluate.to_datatree: model": lambda model: bbb.evaluate.to_datatree(KEY, model, X),
    "evaluate.spread: model": lambda model: bbb.evaluate.spread(KEY, model, X),
    "evaluate.pruning_curve: model": lambda model: bbb.evaluate.pruning_curve(model, [0.5], len),
}

POSTERIORS = {
    "evaluate.prune: posterior": lambda q: bbb.evaluate.prune(q, 0.5),
    "evaluate.signal_to_noise: posterior": bbb.evaluate.signal_to_noise,
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **wrong_counts(COUNTS),
    **wrong_models(MODELS),
    **wrong_posteriors(POSTERIORS),
    "evaluate.agreement: other outputs": (
        lambda: bbb.evaluate.agreement(KEY, MODEL, classifier(), X, draws=4),
        ShapeError,
        r"a reference with f of shape \(6, 1\), got shape \(6, 2\)",
    ),
    "evaluate.spread: one posterior": (
        lambda: bbb.evaluate.spread(KEY, MODEL, X),
        InputError,
        "a model of several members, got one of a single posterior",
    ),
    "evaluate.spread: a draw of each": (
        lambda: bbb.evaluate.spread(KEY, ensemble(), X, draws=2),
        InputError,
        "two draws of each member",
    ),
    "diagnose: weights of other rows": (
        lambda: bbb.diagnose(MODEL, None, X, Y, sample_weight=[1] * 5),
        ShapeError,
        r"sample_weight of shape \(6,\), got \(5,\)",
    ),
    "diagnose: a weight below 0": (
        lambda: bbb.diagnose(MODEL, None, X, Y, sample_weight=[-1] * 6),
        InputError,
        "sample_weight in float64 to be finite and at least 0, got -1 at row 0",
    ),
    "diagnose: weights of zero": (
        lambda: bbb.diagnose(MODEL, None, X, Y, sample_weight=[0] * 6),
        InputError,
        "sample_weight above 0 for at least one row, got 0 for all",
    ),
    "diagnose: y of other rows": (lambda: bbb.diagnose(MODEL, None, X, Y[:5]), ShapeError, "the 6 rows of x"),
    "evaluate.prune: a fraction of 2": (lambda: bbb.evaluate.prune(POSTERIOR, 2), InputError, "a fraction from 0 to 1"),
    "evaluate.prune: a fraction of -1": (
        lambda: bbb.evaluate.prune(POSTERIOR, -1),
        InputError,
        "fraction to be one finite number",
    ),
    "evaluate.prune: a fraction of NaN": (
        lambda: bbb.evaluate.prune(POSTERIOR, NAN),
        InputError,
        "fraction to be one finite number",
    ),
    "evaluate.prune: a fraction in words": (
        lambda: bbb.evaluate.prune(POSTERIOR, "half"),
        InputError,
        "fraction to be real numbers",
    ),
    "evaluate.pruning_curve: fractions that fall": (
        lambda: bbb.evaluate.pruning_curve(MODEL, (0.5, 0.1), len),
        InputError,
        "rising ord",
    ),
    "evaluate.pruning_curve: no fractions": (
        lambda: bbb.evaluate.pruning_curve(MODEL, (), len),
        InputError,
        "rising order, at least one",
    ),
    "evaluate.pruning_curve: one number": (
        lambda: bbb.evaluate.pruning_curve(MODEL, 0.5, len),
        ShapeError,
        "fractions",
    ),
    "evaluate.pruning_curve: no measure": (
        lambda: bbb.evaluate.pruning_curve(MODEL, (0.5,), "accuracy"),
        InputError,
        "measure to be a",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
