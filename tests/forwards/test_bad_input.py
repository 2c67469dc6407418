"""Bad input to the forwards and `explain`: refused by name, and nothing is written."""

import numpy as np
import pytest

import bbb
from bbb import InputError, ShapeError
from tests.bad_input import KEY, MODEL, POSTERIOR, X, assert_refused, wrong_applies, wrong_keys, wrong_posteriors

KEYED = {
    "weight_sampling: key": lambda key: bbb.weight_sampling(MODEL.apply)(key, POSTERIOR, X),
    "local_reparam: key": lambda key: bbb.local_reparam(MODEL.apply)(key, POSTERIOR, X),
    "flipout: key": lambda key: bbb.flipout(MODEL.apply)(key, POSTERIOR, X),
}

POSTERIORS = {
    "explain: posterior": lambda q: bbb.explain(MODEL.apply, q, X),
    "weight_sampling: posterior": lambda q: bbb.weight_sampling(MODEL.apply)(KEY, q, X),
    "local_reparam: posterior": lambda q: bbb.local_reparam(MODEL.apply)(KEY, q, X),
    "flipout: posterior": lambda q: bbb.flipout(MODEL.apply)(KEY, q, X),
}

APPLIES = {
    "explain: apply": lambda apply: bbb.explain(apply, POSTERIOR, X),
    "weight_sampling: apply": bbb.weight_sampling,
    "local_reparam: apply": bbb.local_reparam,
    "flipout: apply": bbb.flipout,
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_posteriors(POSTERIORS),
    **wrong_applies(APPLIES),
    "explain: a forward of another kind": (
        lambda: bbb.explain(MODEL.apply, POSTERIOR, X, lambda apply: apply),
        InputError,
        "a forward of bbb",
    ),
    "explain: a forward's name": (
        lambda: bbb.explain(MODEL.apply, POSTERIOR, X, "flipout"),
        InputError,
        "forward to b",
    ),
    "explain: x of other columns": (
        lambda: bbb.explain(MODEL.apply, POSTERIOR, np.ones((6, 2))),
        ShapeError,
        "columns",
    ),
    "explain: x in words": (lambda: bbb.explain(MODEL.apply, POSTERIOR, "x"), InputError, "x that the network accepts"),
    "weight_sampling: x of other columns": (
        lambda: bbb.weight_sampling(MODEL.apply)(KEY, POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "x",
    ),
    "weight_sampling: x in words": (
        lambda: bbb.weight_sampling(MODEL.apply)(KEY, POSTERIOR, "x"),
        InputError,
        "x that the network accepts",
    ),
    "local_reparam: x of other columns": (
        lambda: bbb.local_reparam(MODEL.apply)(KEY, POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "check the shapes of params and x",
    ),
    "flipout: x in words": (lambda: bbb.flipout(MODEL.apply)(KEY, POSTERIOR, "x"), InputError, "the network accepts"),
    "local_reparam: noise of another posterior": (
        lambda: bbb.local_reparam(MODEL.apply).evaluate((), POSTERIOR, X.astype("f4")),
        ShapeError,
        "got no more arrays",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
