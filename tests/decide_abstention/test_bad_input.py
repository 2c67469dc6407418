"""Bad input to what decides when not to answer, to its scores and its pictures: refused by name."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import likelihoods, metrics, plots, priors
from bbb.decide import abstention
from bbb.errors import InputError, ShapeError
from bbb.networks import nn
from tests.bad_input import (
    KEY,
    MODEL,
    NAN,
    X,
    assert_refused,
    ax,
    bayesian,
    classifier,
    crossed,
    not_inside_0_1,
    of,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
    wrong_weights,
)

U = np.linspace(0, 1, 6)
WRONG = np.array([0, 0, 0, 0, 1, 1])
CURVE = abstention.risk_coverage(WRONG, U)
RULE = abstention.learn_then_test(np.zeros(100), np.arange(100), rate=0.05)


@functools.cache
def fitted():
    return abstention.feature_distance(KEY, MODEL, X)


def distance(x):
    return fitted()(x)


@functools.cache
def two_headed():
    given = {"a": likelihoods.Gaussian(0.5), "b": likelihoods.Gaussian(0.5)}
    network = nn.linear(1, 1)
    return bbb.bayesianize(
        lambda params, x: {"a": network.apply(params, x), "b": network.apply(params, x)},
        network.init(KEY),
        prior=priors.Normal(),
        likelihood=given,
    )


KEYED = {
    "decide.ood_scores: key": lambda key: abstention.ood_scores(key, classifier(), X),
    "decide.feature_distance: key": lambda key: abstention.feature_distance(key, MODEL, X),
}

ROWED = {
    "decide.ood_scores: x": lambda x: abstention.ood_scores(KEY, classifier(), x),
    "decide.feature_distance: reference": lambda x: abstention.feature_distance(KEY, MODEL, x),
    "decide.FeatureDistance.__call__: x": distance,
    "decide.risk_coverage: loss": lambda loss: abstention.risk_coverage(loss, U),
    "decide.risk_coverage: uncertainty": lambda u: abstention.risk_coverage(WRONG, u),
    "decide.learn_then_test: wrong": lambda wrong: abstention.learn_then_test(wrong, U, rate=0.5),
    "decide.learn_then_test: uncertainty": lambda u: abstention.learn_then_test(WRONG, u, rate=0.5),
    "decide.Abstention.answers: uncertainty": RULE.answers,
    "metrics.auroc: inside": lambda scores: metrics.auroc(scores, U),
    "metrics.auroc: outside": lambda scores: metrics.auroc(U, scores),
    "plots.ood_histogram: inside": lambda scores: plots.ood_histogram(scores, U, ax=ax()),
    "plots.ood_histogram: outside": lambda scores: plots.ood_histogram(U, scores, ax=ax()),
}
"""Calls of an array with a row for each observation."""

COLUMNS = {name: call for name, call in ROWED.items() if name.split(": ")[1] not in ("x", "reference")}

COUNTS = {
    "decide.ood_scores: draws": lambda n: abstention.ood_scores(KEY, classifier(), X, draws=n),
    "plots.ood_histogram: bins": lambda n: plots.ood_histogram(U, U, bins=n, ax=ax()),
}

MODELS = {
    "decide.ood_scores: model": lambda model: abstention.ood_scores(KEY, model, X),
    "decide.feature_distance: model": lambda model: abstention.feature_distance(KEY, model, X),
}

INSIDE_0_1 = {
    "decide.learn_then_test: rate": lambda p: abstention.learn_then_test(WRONG, U, rate=p),
    "decide.learn_then_test: confidence": lambda p: abstention.learn_then_test(WRONG, U, rate=0.5, confidence=p),
}

WEIGHTED = {"decide.risk_coverage": lambda weight: abstention.risk_coverage(WRONG, U, sample_weight=weight)}

WORDS = {
    "decide.ood_scores: kind": lambda word: abstention.ood_scores(KEY, classifier(), X, kind=word),
    "decide.feature_distance: structure": lambda word: abstention.feature_distance(KEY, MODEL, X, structure=word),
}

CURVES = {
    "plots.risk_coverage: found": lambda found: plots.risk_coverage(found, ax=ax()),
    "plots.risk_coverage: found, by its name": lambda found: plots.risk_coverage({"entropy": found}, ax=ax()),
}

SHARES = {"decide.RiskCoverage.risk_at: coverage": CURVE.risk_at}

CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **wrong_counts(COUNTS),
    **wrong_models(MODELS),
    **not_inside_0_1(INSIDE_0_1),
    **wrong_weights(WEIGHTED),
    **crossed(COLUMNS, {"a column": np.zeros((6, 1))}, ShapeError, r"Pass \w+\[:, 0\]", " is"),
    **crossed(COLUMNS, {"a table": np.zeros((6, 2))}, ShapeError, "one number for each row", " is"),
    **crossed(WORDS, {"another": "distance", "nothing": None, "a number": 1}, InputError, "to be one of", " is"),
    **crossed(CURVES, {"a number": 1, "an area": 0.5, "the rows": U}, InputError, "found to be a", " is"),
    **crossed(SHARES, {"0": 0, "-1": -1, "2": 2, "NaN": NAN}, InputError, "coverage", " is"),
    "decide.risk_coverage: uncertainty of other rows": (
        lambda: abstention.risk_coverage(WRONG, U[:5]),
        ShapeError,
        r"uncertainty of the shape \(6,\) of loss, got \(5,\)",
    ),
    "decide.learn_then_test: uncertainty of other rows": (
        lambda: abstention.learn_then_test(WRONG, U[:5], rate=0.5),
        ShapeError,
        r"uncertainty of the shape \(6,\) of wrong, got \(5,\)",
    ),
    "decide.learn_then_test: losses": (
        lambda: abstention.learn_then_test([0, 0.5, 1], [1, 2, 3], rate=0.5),
        InputError,
        "wrong of 0 and 1 alone, got 0.5",
    ),
    "decide.learn_then_test: too few rows": (
        lambda: abstention.learn_then_test(np.zeros(50), np.arange(50), rate=0.01),
        InputError,
        r"at least 300 rows for an error rate of 0.01 .* got 50 rows, 0 of them wrong. These rows allow rate=0.05",
    ),
    "decide.learn_then_test: one row": (
        lambda: abstention.learn_then_test([0], [1.0], rate=0.5),
        InputError,
        "at least 6 rows .* got 1 row",
    ),
    "decide.learn_then_test: all wrong": (
        lambda: abstention.learn_then_test(np.ones(100), np.arange(100), rate=0.5),
        InputError,
        "few enough errors .* got 100 rows, 100 of them wrong",
    ),
    "decide.ood_scores: an entropy of numbers": (
        lambda: abstention.ood_scores(KEY, MODEL, X, kind="entropy"),
        InputError,
        "a score of numbers, got kind='entropy' for Gaussian",
    ),
    "decide.ood_scores: several outputs": (
        lambda: abstention.ood_scores(KEY, two_headed(), X, kind="std"),
        InputError,
        "a model of one output, got one of a, b",
    ),
    "decide.ood_scores: too little memory": (
        lambda: abstention.ood_scores(KEY, classifier(), X, memory=1),
        InputError,
        "memory of at least",
    ),
    "decide.ood_scores: rows in another way": (
        lambda: abstention.ood_scores(KEY, classifier(), X, rows="all"),
        InputError,
        'rows to be "apart" or "together"',
    ),
    "decide.feature_distance: several outputs": (
        lambda: abstention.feature_distance(KEY, two_headed(), X),
        InputError,
        "a model of one output, got one of a, b",
    ),
    "decide.feature_distance: a prior without curvature": (
        lambda: abstention.feature_distance(KEY, bayesian(prior=priors.Laplace(0.0, 1.0)), X),
        InputError,
        "prior",
    ),
    "decide.feature_distance: rows that meet": (
        lambda: abstention.feature_distance(KEY, of(lambda params, x: x @ params["w"] - jnp.mean(x)), X),
        InputError,
        "rows",
    ),
    "decide.feature_distance: memory in words": (
        lambda: abstention.feature_distance(KEY, MODEL, X, memory="much"),
        InputError,
        "memory to be",
    ),
    "decide.FeatureDistance.__call__: other columns": (
        lambda: distance(np.zeros((3, 2))),
        InputError,
        "Expected",
    ),
    "plots.risk_coverage: no curve": (lambda: plots.risk_coverage({}, ax=ax()), InputError, "at least one curve"),
    "plots.risk_coverage: no axes": (lambda: plots.risk_coverage(CURVE, ax="axes"), InputError, "matplotlib's axes"),
    "plots.risk_coverage: no rule": (
        lambda: plots.risk_coverage(CURVE, rule=0.05, ax=ax()),
        InputError,
        "rule to be a",
    ),
    "plots.ood_histogram: logarithms of 0": (
        lambda: plots.ood_histogram(U, U, log=True, ax=ax()),
        InputError,
        "scores above 0 on a logarithmic axis, got 0",
    ),
    "plots.ood_histogram: log in words": (lambda: plots.ood_histogram(U, U, log="x", ax=ax()), InputError, "a bool"),
    "plots.ood_histogram: no axes": (lambda: plots.ood_histogram(U, U, ax="axes"), InputError, "matplotlib's axes"),
    "plots.ood_histogram: a threshold of NaN": (
        lambda: plots.ood_histogram(U, U, threshold=NAN, ax=ax()),
        InputError,
        "threshold to be finite",
    ),
    "plots.ood_histogram: a threshold in words": (
        lambda: plots.ood_histogram(U, U, threshold="high", ax=ax()),
        InputError,
        "threshold to be real numbers",
    ),
    "plots.ood_histogram: several thresholds": (
        lambda: plots.ood_histogram(U, U, threshold=[0.1, 0.2], ax=ax()),
        InputError,
        "threshold to be one number",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
