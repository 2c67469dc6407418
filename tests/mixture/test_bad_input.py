"""Bad input to `mixture`: refused by name, and nothing is written."""

import jax.numpy as jnp
import numpy as np
import pytest

from bbb import likelihoods, mixture
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from tests.bad_input import (
    KEY,
    MODEL,
    NAN,
    Y,
    assert_refused,
    crossed_with,
    not_inside_0_1,
    wrong_keys,
    wrong_likelihoods,
    wrong_rows,
)

KEYED = {"mixture.sample_y: key": lambda key: mixture.sample_y(key, MODEL.likelihood, jnp.ones((2, 3, 1)))}

ROWED = {
    "mixture.log_score: y": lambda y: mixture.log_score(MODEL.likelihood, jnp.ones((2, 6, 1)), y),
    "mixture.cdf: y": lambda y: mixture.cdf(MODEL.likelihood, jnp.ones((2, 6, 1)), y),
}
"""Calls of an array with a row for each observation."""

INSIDE_0_1 = {"mixture.quantile: p": lambda p: mixture.quantile(MODEL.likelihood, jnp.ones((2, 3, 1)), p)}

LIKELIHOODS = {
    "mixture.log_score": lambda one: mixture.log_score(one, jnp.ones((2, 6, 1)), Y),
    "mixture.cdf": lambda one: mixture.cdf(one, jnp.ones((2, 6, 1)), Y),
    "mixture.quantile": lambda one: mixture.quantile(one, jnp.ones((2, 6, 1)), 0.5),
    "mixture.sample_y": lambda one: mixture.sample_y(KEY, one, jnp.ones((2, 6, 1))),
}

OUTPUTS = {
    "mixture.log_score": lambda outputs: mixture.log_score(MODEL.likelihood, outputs, Y),
    "mixture.cdf": lambda outputs: mixture.cdf(MODEL.likelihood, outputs, Y),
    "mixture.quantile": lambda outputs: mixture.quantile(MODEL.likelihood, outputs, 0.5),
    "mixture.sample_y": lambda outputs: mixture.sample_y(KEY, MODEL.likelihood, outputs),
}

NO_OUTPUTS = {
    "one axis": (jnp.ones(6), ShapeError, r"\(draws, rows, ...\)"),
    "no draws": (jnp.ones((0, 6, 1)), ShapeError, r"\(draws, rows, ...\)"),
    "no rows": (jnp.ones((2, 0, 1)), ShapeError, r"\(draws, rows, ...\)"),
    "words": ([["a"] * 6], InputError, "real numbers"),
    "NaN": (jnp.full((2, 6, 1), NAN), NonFiniteInputError, "outputs to hold finite numbers"),
    "nothing": (None, InputError, "real numbers"),
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **not_inside_0_1(INSIDE_0_1),
    **wrong_likelihoods(LIKELIHOODS),
    **crossed_with(OUTPUTS, NO_OUTPUTS, ": outputs are"),
    "mixture.log_score: y of other rows": (
        lambda: mixture.log_score(MODEL.likelihood, jnp.ones((2, 6, 1)), Y[:5]),
        ShapeError,
        "y to have the shape",
    ),
    "mixture.cdf: y of other rows": (
        lambda: mixture.cdf(MODEL.likelihood, jnp.ones((2, 6, 1)), Y[:5]),
        ShapeError,
        "y of shape",
    ),
    "mixture.cdf: of classes": (
        lambda: mixture.cdf(likelihoods.Categorical(), jnp.ones((2, 6, 2)), np.zeros(6)),
        InputError,
        "a likelihood of numbers",
    ),
    "mixture.quantile: of classes": (
        lambda: mixture.quantile(likelihoods.Categorical(), jnp.ones((2, 6, 2)), 0.5),
        InputError,
        "a likelihood of numbers",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
