"""Bad input to `tune`: refused by name, before anything is trained."""

import numpy as np
import pytest

import bbb
from bbb import priors
from bbb.errors import InputError, NonFiniteOutputError, ShapeError
from tests.bad_input import (
    KEY,
    MODEL,
    X,
    Y,
    assert_refused,
    bayesian,
    linearized,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
    wrong_weights,
)
from tests.curvature.test_bad_input import ROOT, Plain


def tune(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.tune(key, model, x, y, **options)


def no_normal(prior):
    said = f"a prior of class Normal, for tune, got a {type(prior).__name__}. Pass prior=bbb.priors.Normal"
    return lambda: tune(model=bayesian(prior=prior)), InputError, said


CASES = {
    **wrong_weights({"tune: sample_weight": lambda w: tune(sample_weight=w)}),
    **wrong_keys({"tune: key": lambda key: tune(key=key)}),
    **wrong_rows({"tune: x": tune, "tune: y": lambda y: tune(y=y)}),
    **wrong_models({"tune: model": lambda model: tune(model=model)}),
    **wrong_counts(
        {
            "tune: rounds": lambda count: tune(rounds=count),
            "tune: steps": lambda count: tune(rounds=1, steps=count),
            "tune: updates": lambda count: tune(updates=count),
            "tune: batch_size": lambda count: tune(rounds=1, steps=1, batch_size=count),
        }
    ),
    "tune: fewer rows of y": (lambda: tune(y=Y[:3], rounds=1), ShapeError, "rows"),
    "tune: y of another shape": (lambda: tune(y=np.ones((6, 2)), rounds=1), ShapeError, "y of shape|shape"),
    "tune: per of an unknown word": (
        lambda: tune(per="unit", rounds=1),
        InputError,
        'per to be one of "leaf", "layer", "network", "column", got \'unit\'',
    ),
    "tune: per that is no word": (
        lambda: tune(per=3),
        InputError,
        'per to be one of "leaf", "layer", "network", "column", got 3',
    ),
    "tune: a structure without an evidence": (
        lambda: tune(structure="low_rank"),
        InputError,
        "structure of tune to be one of .* got 'low_rank'",
    ),
    "tune: too little memory": (lambda: tune(memory=10), InputError, r"memory of at least [\d,]+ bytes for"),
    "tune: a Laplace prior": no_normal(priors.Laplace()),
    "tune: a mixture as the prior": no_normal(priors.ScaleMixture()),
    "tune: a prior that follows from the posterior": no_normal(priors.EmpiricalNormal()),
    "tune: a likelihood without information": (
        lambda: tune(model=bayesian(likelihood=Plain())),
        InputError,
        "a likelihood with `fisher_root`, which tune needs, got a Plain without",
    ),
    "tune: a gradient that is not finite": (
        lambda: tune(np.array([[1.0], [2.0], [0.0], [3.0], [0.0], [1.0]]), model=ROOT),
        NonFiniteOutputError,
        "a finite Gauss-Newton, got NaN or infinity at row 2",
    ),
    "tune: rounds of a linearised model": (
        lambda: tune(model=linearized(), rounds=1),
        InputError,
        "a model of the network itself, to train it, got a linearised one",
    ),
    "tune: no optimiser": (lambda: tune(rounds=1, optimizer=3), InputError, "optimizer"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
