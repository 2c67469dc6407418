"""Bad input to `predict`, `draws` and what they give back: refused by name, and nothing is written."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import bbb
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from bbb.networks import nn
from tests.bad_input import (
    KEY,
    MODEL,
    NETWORK,
    X,
    assert_refused,
    band,
    classifier,
    linearized,
    not_above_0,
    not_inside_0_1,
    of,
    predict,
    without_draws,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
)

CORRELATED = dataclasses.replace(MODEL, posterior=bbb.posteriors.FullRank.around(MODEL.posterior.mean, 0.1))

KEYED = {
    "predictive.predict_batches: key": lambda key: bbb.predictive.predict_batches(key, MODEL, [X]),
    "predict: key": lambda key: predict(key=key),
    "draws: key": lambda key: bbb.draws(key, MODEL, X, draws=4),
}

ROWED = {
    "predictive.predict_batches: x": lambda x: next(bbb.predictive.predict_batches(KEY, MODEL, [x], draws=4)),
    "predict: x": lambda x: predict(x=x),
    "draws: x": lambda x: bbb.draws(KEY, MODEL, x, draws=4),
}
"""Calls of an array with a row for each observation."""

ABOVE_0 = {
    "predictive.Marginal.sigma_interval: sigmas": band().f.sigma_interval,
    "predictive.Marginal.mcse_sigma_interval: sigmas": band().y.mcse_sigma_interval,
    "predict: tolerance": lambda tolerance: predict(draws="auto", tolerance=tolerance),
}

COUNTS = {
    "predict: draws": lambda n: predict(draws=n),
    "draws: draws": lambda n: bbb.draws(KEY, MODEL, X, draws=n),
}

INSIDE_0_1 = {
    "predict: levels": lambda p: predict(levels=(0.5, p)),
    "predict: quantiles": lambda p: predict(quantiles=(p,)),
    "predictive.Marginal.interval: level": band().f.interval,
    "predictive.Marginal.mcse_interval: level": band().y.mcse_interval,
    "predictive.Marginal.quantile: p": band().y.quantile,
    "predictive.Marginal.mcse_quantile: p": band().f.mcse_quantile,
}

MODELS = {
    "draws: model": lambda model: bbb.draws(KEY, model, X, draws=4),
    "predictive.predict_batches: model": lambda model: bbb.predictive.predict_batches(KEY, model, [X]),
}


def batches(**options):
    """Return an iterator that is not asked for a first batch."""
    return bbb.predictive.predict_batches(KEY, MODEL, [X], **options)


CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **not_inside_0_1(INSIDE_0_1),
    **wrong_models(MODELS),
    "predict: x beyond float32": (lambda: predict(X * 1e300), NonFiniteInputError, "x in float32"),
    "predict: whole numbers beyond int32": (lambda: predict(np.full((6, 1), 2**40)), InputError, "x in int32"),
    "predict: x without columns": (lambda: predict(X[:, 0]), ShapeError, r"takes x of shape \(rows, features\)"),
    "predict: draws in other words": (lambda: predict(draws="many"), InputError, 'a whole number or "auto"'),
    "predict: auto without a tolerance": (lambda: predict(draws="auto"), InputError, 'a tolerance with draws="auto"'),
    "predict: a tolerance without auto": (lambda: predict(tolerance=0.1), InputError, 'a tolerance with draws="auto"'),
    "predict: a tolerance with moments": (
        lambda: predict(draws="auto", tolerance=0.1, method="moments"),
        InputError,
        "no tolerance with a closed form",
    ),
    "predict: odd antithetic draws": (lambda: predict(draws=3, sampling="antithetic"), InputError, "an even number"),
    "predict: another sampling": (lambda: predict(sampling="halton"), InputError, "independent, antithetic, sobol"),
    **{
        f"predict: {method} of weights that depend on each other": (
            lambda method=method: predict(model=CORRELATED, method=method),
            InputError,
            rf"independent weights, .* for {method}, got a FullRank, .* on each other\. Pass method=\"draws\"\.",
        )
        for method in ("moments", "last_layer")
    },
    "predict: another method": (lambda: predict(method="laplace"), InputError, "draws, last_layer, moments"),
    "predict: moments of classes": (
        lambda: predict(model=classifier(), method="moments"),
        InputError,
        "a likelihood that adds Gaussian noise",
    ),
    "predict: the last layer of a linearised model": (
        lambda: predict(model=linearized(), method="last_layer"),
        InputError,
        r"draws or moments of a linearised model, got method='last_layer'\. Pass method=\"moments\", which is exact",
    ),
    "predict: moments of a linearised model of classes": (
        lambda: predict(model=linearized(classifier()), method="moments"),
        InputError,
        "a likelihood that adds Gaussian noise",
    ),
    "predict: moments of a linearised model, on a mesh": (
        lambda: predict(model=linearized(), method="moments", mesh=Mesh(np.array(jax.devices()[:1]), ("draws",))),
        InputError,
        'no mesh with a closed form, got one. Leave it out, or pass method="draws"',
    ),
    "predict: linearised in words": (
        lambda: predict(model=dataclasses.replace(MODEL, linearized="yes")),
        InputError,
        "linearized to be a bool, got 'yes'",
    ),
    "predictive.predict_batches: an option that is none": (
        lambda: batches(drawz=4),
        InputError,
        r"^Expected options of predict, got 'drawz'\. Pass some of method, draws, tolerance, .*, mesh, partition\.$",
    ),
    "predictive.predict_batches: draws": (lambda: batches(draws=0), InputError, "draws to be a whole number"),
    "predictive.predict_batches: levels": (lambda: batches(levels=(2,)), InputError, "level"),
    "predictive.predict_batches: memory": (
        lambda: batches(memory="lots"),
        InputError,
        "memory to be a positive number",
    ),
    "predictive.predict_batches: partition": (
        lambda: batches(partition=()),
        InputError,
        "Expected a mesh with a partition, got none",
    ),
    "predict: memory in words": (lambda: predict(memory="lots"), InputError, "memory to be a positive number of bytes"),
    "predict: memory of nothing": (lambda: predict(memory=None), InputError, "memory to be a positive number"),
    "predict: too little memory": (lambda: predict(memory=10), InputError, "memory of at least"),
    "predict: more draws than memory": (lambda: predict(draws=10**30), InputError, "more memory or fewer draws"),
    "predict: a level too near to 1": (lambda: predict(levels=(1 - 1e-14,)), InputError, "float32 can tell from 0"),
    "predict: parameters of another network": (
        lambda: predict(model=of(NETWORK.apply, nn.linear(2, 7).init(KEY))),
        ShapeError,
        "parameters are this network's",
    ),
    "draws: another sampling": (lambda: bbb.draws(KEY, MODEL, X, sampling=1), InputError, "independent, antithetic"),
    "draws: too little memory": (lambda: bbb.draws(KEY, MODEL, X, memory="1 B"), InputError, "memory of at least"),
    "predictive.Marginal.quantile: of draws not kept": (
        lambda: without_draws().f.quantile(0.123),
        bbb.errors.QuantileError,
        "a quantile that was asked for when predicting",
    ),
    "predictive.Marginal.interval: too near to 1": (
        lambda: band().f.interval(1 - 1e-14),
        InputError,
        "float32 can tell from 0",
    ),
    "predictive.Marginal.sigma_interval: two numbers": (
        lambda: band().f.sigma_interval([1, 2]),
        InputError,
        "one number",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
