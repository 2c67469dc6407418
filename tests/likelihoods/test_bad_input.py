"""Bad input to likelihoods: refused by name, and nothing is written."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from bbb import InputError, ShapeError, likelihood
from tests.bad_input import Y, assert_refused, bayesian, crossed, fit, not_above_0


def observed(one, y):
    return one.log_prob(y, jnp.ones((6, 1)))


def fitted(one, y):
    return fit(y=y, model=bayesian(likelihood=one))


ABOVE_0 = {
    "likelihood.Gaussian: std": likelihood.Gaussian,
    "likelihood.StudentT: scale": likelihood.StudentT,
    "likelihood.NegativeBinomial: dispersion": likelihood.NegativeBinomial,
}

OBSERVED = {
    "likelihood.Gaussian": likelihood.Gaussian(),
    "likelihood.StudentT": likelihood.StudentT(),
    "likelihood.Poisson": likelihood.Poisson(),
    "likelihood.NegativeBinomial": likelihood.NegativeBinomial(),
    "likelihood.Bernoulli": likelihood.Bernoulli(),
}

OTHER_Y = {"y without its column": np.zeros(6), "y of other rows": np.zeros((5, 1))}

CASES = {
    **not_above_0(ABOVE_0),
    **crossed({n: functools.partial(observed, one) for n, one in OBSERVED.items()}, OTHER_Y, ShapeError, "y to h", ":"),
    **crossed(
        {name: functools.partial(fitted, one) for name, one in OBSERVED.items()}, OTHER_Y, ShapeError, "y", ": to fit,"
    ),
    "likelihood.StudentT: df of 2": (lambda: likelihood.StudentT(1.0, 2.0), InputError, "df to be one number above 2"),
    "likelihood.StudentT: df in words": (lambda: likelihood.StudentT(1.0, "four"), InputError, "df to be real numbers"),
    "likelihood.StudentT: df alone": (
        lambda: likelihood.StudentT(learn_df=True),
        InputError,
        "a scale that is learned where df is",
    ),
    "likelihood.Gaussian: learn in words": (lambda: likelihood.Gaussian(1.0, "yes"), InputError, "learn to be a bool"),
    "likelihood.NegativeBinomial: learn in words": (
        lambda: likelihood.NegativeBinomial(1.0, "yes"),
        InputError,
        "learn to be a bool",
    ),
    "likelihood.Gaussian: two stds for one output": (
        lambda: fit(model=bayesian(likelihood=likelihood.Gaussian([0.5, 0.5]))),
        ShapeError,
        "noise std to broadcast",
    ),
    "likelihood.HeteroscedasticGaussian: an odd number of outputs": (
        lambda: fit(model=bayesian(likelihood=likelihood.HeteroscedasticGaussian())),
        ShapeError,
        "a mean and a logarithm",
    ),
    "likelihood.HeteroscedasticGaussian: y without its column": (
        lambda: likelihood.HeteroscedasticGaussian().log_prob(np.zeros(3), jnp.ones((3, 2))),
        ShapeError,
        r"Pass y.reshape\(-1, 1\)",
    ),
    "likelihood.Poisson: a negative count": (
        lambda: fit(y=-np.ones((6, 1)), model=bayesian(likelihood=likelihood.Poisson())),
        InputError,
        r"counts in y, whole numbers of at least 0, got -1 at index \(0, 0\)",
    ),
    "likelihood.NegativeBinomial: half a count": (
        lambda: fit(y=Y, model=bayesian(likelihood=likelihood.NegativeBinomial())),
        InputError,
        "counts in y",
    ),
    "likelihood.Bernoulli: a 2": (
        lambda: fit(y=2 * np.ones((6, 1)), model=bayesian(likelihood=likelihood.Bernoulli())),
        InputError,
        "0 and 1 alone in y, got 2",
    ),
    "likelihood.Categorical: one output": (
        lambda: fit(y=np.zeros(6, int), model=bayesian(likelihood=likelihood.Categorical())),
        ShapeError,
        "a logit for each of two classes or more",
    ),
    "likelihood.Categorical: a class beyond": (
        lambda: likelihood.Categorical().log_prob(np.array([0, 3]), jnp.ones((2, 3))),
        InputError,
        "classes from 0 to 2 in y, got 3",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
