"""Bad input to `bayesianize` and `BNN`: refused by name, and nothing is written."""

import jax
import numpy as np
import pytest

import bbb
from bbb import priors
from bbb.errors import InputError, ShapeError
from tests.bad_input import (
    BATCH,
    KEY,
    MODEL,
    NAN,
    NETWORK,
    POINT,
    assert_refused,
    bayesian,
    ensemble,
    not_above_0,
    of,
    wrong_applies,
    wrong_likelihoods,
    wrong_priors,
)


class Unhashable:
    """A network without a hash."""

    __hash__ = None

    def __call__(self, params, x):
        return x @ params["w"]


ABOVE_0 = {"bayesianize: std": lambda std: bayesian(std=std)}
APPLIES = {
    "bayesianize: apply": lambda apply: bbb.bayesianize(apply, POINT, prior=MODEL.prior, likelihood=MODEL.likelihood)
}
LIKELIHOODS = {"bayesianize": lambda one: bayesian(likelihood=one)}
PRIORS = {"bayesianize": lambda one: bayesian(prior=one)}

CASES = {
    **not_above_0(ABOVE_0),
    **wrong_applies(APPLIES),
    **wrong_likelihoods(LIKELIHOODS),
    **wrong_priors(PRIORS),
    "BNN.member: beyond": (lambda: MODEL.member(1), InputError, "a member from 0 to 0, got 1"),
    "BNN.member: below": (lambda: ensemble().member(-1), InputError, "a member from 0 to 1, got -1"),
    "BNN.member: a word": (lambda: ensemble().member("first"), InputError, "a member from 0 to 1, got 'first'"),
    "BNN.member: half": (lambda: ensemble().member(0.5), InputError, "a member from 0 to 1, got 0.5"),
    "bayesianize: no parameters": (lambda: of(NETWORK.apply, {"w": ()}), ShapeError, "at least one array"),
    "bayesianize: whole numbers": (lambda: of(NETWORK.apply, {"w": np.ones(2, int)}), InputError, "floating-point"),
    "bayesianize: a plain number": (lambda: of(NETWORK.apply, {"w": 1.0}), InputError, "got a float"),
    "bayesianize: NaN": (lambda: of(NETWORK.apply, {"w": np.full(2, NAN)}), InputError, "leaf 'w' to be finite"),
    "bayesianize: std of another shape": (lambda: bayesian(std=np.ones(5)), ShapeError, "every std to broadcast"),
    "bayesianize: std that is no prefix": (
        lambda: bayesian(std=(1.0, 2.0)),
        ShapeError,
        "std to be a number or a tree",
    ),
    "bayesianize: where nothing matches": (lambda: bayesian(where="kernel"), InputError, "to pick at least one leaf"),
    "bayesianize: where is a number": (lambda: bayesian(where=3), InputError, "every leaf of where to be a bool"),
    "bayesianize: where picks nothing": (lambda: bayesian(where=lambda *_: False), InputError, "at least one leaf"),
    "bayesianize: where of another structure": (lambda: bayesian(where=(True,)), ShapeError, "where to be a pattern"),
    "bayesianize: a prior of another structure": (
        lambda: bayesian(prior=priors.Normal((0.0, 1.0))),
        ShapeError,
        "prior mean to be a number or a tree",
    ),
    "bayesianize: a wrapper that hides state": (
        lambda: of(jax.jit(BATCH.apply), BATCH.init(KEY)),
        InputError,
        "state and training mode can be seen",
    ),
    "BNN: a network without a hash": (lambda: of(Unhashable()), InputError, "apply to be hashable"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
