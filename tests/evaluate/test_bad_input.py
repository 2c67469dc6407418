"""Bad input to `diagnose`, `to_datatree`, pruning and `ensemble.spread`: refused by name, and nothing is written."""

import pytest

import bbb
from bbb import InputError, ShapeError
from tests.bad_input import (
    KEY,
    MODEL,
    NAN,
    POSTERIOR,
    X,
    Y,
    assert_refused,
    ensemble,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_posteriors,
    wrong_rows,
)

KEYED = {
    "diagnose: key": lambda key: bbb.diagnose(MODEL, None, X, Y, key=key),
    "ensemble.spread: key": lambda key: bbb.ensemble.spread(key, ensemble(), X),
    "to_datatree: key": lambda key: bbb.to_datatree(key, MODEL, X),
}

ROWED = {
    "ensemble.spread: x": lambda x: bbb.ensemble.spread(KEY, ensemble(), x),
    "to_datatree: x": lambda x: bbb.to_datatree(KEY, MODEL, x),
    "to_datatree: y": lambda y: bbb.to_datatree(KEY, MODEL, X, y),
    "diagnose: x": lambda x: bbb.diagnose(MODEL, None, x, Y),
    "diagnose: y": lambda y: bbb.diagnose(MODEL, None, X, y),
}
"""Calls of an array with a row for each observation."""

COUNTS = {
    "to_datatree: draws": lambda n: bbb.to_datatree(KEY, MODEL, X, draws=n),
    "diagnose: draws": lambda n: bbb.diagnose(MODEL, None, X, Y, draws=n),
    "ensemble.spread: draws": lambda n: bbb.ensemble.spread(KEY, ensemble(), X, draws=n),
}

MODELS = {
    "to_datatree: model": lambda model: bbb.to_datatree(KEY, model, X),
    "ensemble.spread: model": lambda model: bbb.ensemble.spread(KEY, model, X),
    "pruning_curve: model": lambda model: bbb.pruning_curve(model, [0.5], len),
}

POSTERIORS = {
    "prune: posterior": lambda q: bbb.prune(q, 0.5),
    "signal_to_noise: posterior": bbb.signal_to_noise,
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **wrong_counts(COUNTS),
    **wrong_models(MODELS),
    **wrong_posteriors(POSTERIORS),
    "ensemble.spread: one posterior": (
        lambda: bbb.ensemble.spread(KEY, MODEL, X),
        InputError,
        "a model of several members, got one of a single posterior",
    ),
    "ensemble.spread: a draw of each": (
        lambda: bbb.ensemble.spread(KEY, ensemble(), X, draws=2),
        InputError,
        "two draws of each member",
    ),
    "diagnose: y of other rows": (lambda: bbb.diagnose(MODEL, None, X, Y[:5]), ShapeError, "the 6 rows of x"),
    "prune: a fraction of 2": (lambda: bbb.prune(POSTERIOR, 2), InputError, "a fraction from 0 to 1"),
    "prune: a fraction of -1": (lambda: bbb.prune(POSTERIOR, -1), InputError, "fraction to be one finite number"),
    "prune: a fraction of NaN": (lambda: bbb.prune(POSTERIOR, NAN), InputError, "fraction to be one finite number"),
    "prune: a fraction in words": (lambda: bbb.prune(POSTERIOR, "half"), InputError, "fraction to be real numbers"),
    "pruning_curve: fractions that fall": (lambda: bbb.pruning_curve(MODEL, (0.5, 0.1), len), InputError, "rising ord"),
    "pruning_curve: no fractions": (
        lambda: bbb.pruning_curve(MODEL, (), len),
        InputError,
        "rising order, at least one",
    ),
    "pruning_curve: one number": (lambda: bbb.pruning_curve(MODEL, 0.5, len), ShapeError, "fractions"),
    "pruning_curve: no measure": (lambda: bbb.pruning_curve(MODEL, (0.5,), "accuracy"), InputError, "measure to be a"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
