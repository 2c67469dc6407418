"""Bad input to the forwards and `explain`: refused by name, and nothing is written."""

import numpy as np
import pytest

import bbb
from bbb.errors import InputError, ShapeError
from tests.bad_input import (
    KEY,
    MODEL,
    POSTERIOR,
    X,
    assert_refused,
    ensemble,
    wrong_applies,
    wrong_keys,
    wrong_posteriors,
)

KEYED = {
    "forwards.weight_sampling: key": lambda key: bbb.forwards.weight_sampling(MODEL.apply)(key, POSTERIOR, X),
    "forwards.local_reparam: key": lambda key: bbb.forwards.local_reparam(MODEL.apply)(key, POSTERIOR, X),
    "forwards.flipout: key": lambda key: bbb.forwards.flipout(MODEL.apply)(key, POSTERIOR, X),
    "forwards.linearized: key": lambda key: bbb.forwards.linearized(MODEL.apply)(key, POSTERIOR, X),
    "forwards.at_mean: key": lambda key: bbb.forwards.at_mean(MODEL.apply)(key, POSTERIOR, X),
}

POSTERIORS = {
    "forwards.explain: posterior": lambda q: bbb.forwards.explain(MODEL.apply, q, X),
    "forwards.weight_sampling: posterior": lambda q: bbb.forwards.weight_sampling(MODEL.apply)(KEY, q, X),
    "forwards.local_reparam: posterior": lambda q: bbb.forwards.local_reparam(MODEL.apply)(KEY, q, X),
    "forwards.flipout: posterior": lambda q: bbb.forwards.flipout(MODEL.apply)(KEY, q, X),
    "forwards.at_mean: posterior": lambda q: bbb.forwards.at_mean(MODEL.apply)(KEY, q, X),
    "forwards.linearized: posterior": lambda q: bbb.forwards.linearized(MODEL.apply)(KEY, q, X),
    "forwards.linearized: posterior of moments": lambda q: bbb.forwards.linearized(MODEL.apply).moments(q, X),
}

APPLIES = {
    "forwards.explain: apply": lambda apply: bbb.forwards.explain(apply, POSTERIOR, X),
    "forwards.weight_sampling: apply": bbb.forwards.weight_sampling,
    "forwards.local_reparam: apply": bbb.forwards.local_reparam,
    "forwards.flipout: apply": bbb.forwards.flipout,
    "forwards.linearized: apply": bbb.forwards.linearized,
    "forwards.at_mean: apply": bbb.forwards.at_mean,
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_posteriors(POSTERIORS),
    **wrong_applies(APPLIES),
    "forwards.explain: a forward of another kind": (
        lambda: bbb.forwards.explain(MODEL.apply, POSTERIOR, X, lambda apply: apply),
        InputError,
        "a forward of bbb",
    ),
    "forwards.explain: a forward's name": (
        lambda: bbb.forwards.explain(MODEL.apply, POSTERIOR, X, "flipout"),
        InputError,
        "forward to b",
    ),
    "forwards.explain: x of other columns": (
        lambda: bbb.forwards.explain(MODEL.apply, POSTERIOR, np.ones((6, 2))),
        ShapeError,
        "columns",
    ),
    "forwards.explain: x in words": (
        lambda: bbb.forwards.explain(MODEL.apply, POSTERIOR, "x"),
        InputError,
        "x that the network accepts",
    ),
    "forwards.weight_sampling: x of other columns": (
        lambda: bbb.forwards.weight_sampling(MODEL.apply)(KEY, POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "x",
    ),
    "forwards.linearized: x of other columns": (
        lambda: bbb.forwards.linearized(MODEL.apply)(KEY, POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "x that fits the network",
    ),
    "forwards.linearized: x in words": (
        lambda: bbb.forwards.linearized(MODEL.apply)(KEY, POSTERIOR, "x"),
        InputError,
        "x that the network accepts",
    ),
    "forwards.linearized: x in words, of moments": (
        lambda: bbb.forwards.linearized(MODEL.apply).moments(POSTERIOR, "x"),
        InputError,
        "x",
    ),
    "forwards.linearized: an ensemble, of moments": (
        lambda: bbb.forwards.linearized(MODEL.apply).moments(ensemble().posterior, X),
        InputError,
        "one Gaussian posterior, for moments, got a Ensemble",
    ),
    "forwards.weight_sampling: x in words": (
        lambda: bbb.forwards.weight_sampling(MODEL.apply)(KEY, POSTERIOR, "x"),
        InputError,
        "x that the network accepts",
    ),
    "forwards.local_reparam: x of other columns": (
        lambda: bbb.forwards.local_reparam(MODEL.apply)(KEY, POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "check the shapes of params and x",
    ),
    "forwards.flipout: x in words": (
        lambda: bbb.forwards.flipout(MODEL.apply)(KEY, POSTERIOR, "x"),
        InputError,
        "the network accepts",
    ),
    "forwards.local_reparam: noise of another posterior": (
        lambda: bbb.forwards.local_reparam(MODEL.apply).evaluate((), POSTERIOR, X.astype("f4")),
        ShapeError,
        "got no more arrays",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
