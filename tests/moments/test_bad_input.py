"""Bad input to `moments`: refused by name, and nothing is written."""

import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, ShapeError
from tests.bad_input import MODEL, NETWORK, POSTERIOR, X, assert_refused, of, wrong_applies, wrong_posteriors

POSTERIORS = {
    "moments.moments: posterior": lambda q: bbb.moments.moments(MODEL.apply)(q, X),
    "moments.ClosedForm.exactness: posterior": lambda q: bbb.moments.moments(MODEL.apply).exactness(q, X),
}

APPLIES = {"moments.moments: apply": bbb.moments.moments}

CASES = {
    **wrong_posteriors(POSTERIORS),
    **wrong_applies(APPLIES),
    "moments.moments: x of other columns": (
        lambda: bbb.moments.moments(MODEL.apply)(POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "check the shapes of params and x",
    ),
    "moments.moments: an operation without a rule": (
        lambda: bbb.moments.moments(lambda p, x: jnp.sort(x @ p["w"], axis=0))(
            of(NETWORK.apply).posterior, X.astype("f4")
        ),
        bbb.errors.UnknownPrimitiveError,
        "sort",
    ),
    "moments.moments: two outputs": (
        lambda: bbb.moments.moments(lambda p, x: (x @ p["w"], x))(of(NETWORK.apply).posterior, X.astype("f4")),
        ShapeError,
        "the network to return one array",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
