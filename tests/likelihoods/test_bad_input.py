"""Bad input to likelihoods: refused by name, and nothing is written."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import likelihoods
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from tests.bad_input import NAN, X, Y, assert_refused, bayesian, crossed, fit, not_above_0


def observed(one, y):
    return one.log_prob(y, jnp.ones((6, 1)))


def fitted(one, y):
    return fit(y=y, model=bayesian(likelihood=one))


ABOVE_0 = {
    "likelihoods.Gaussian: std": likelihoods.Gaussian,
    "likelihoods.StudentT: scale": likelihoods.StudentT,
    "likelihoods.NegativeBinomial: dispersion": likelihoods.NegativeBinomial,
}

OBSERVED = {
    "likelihoods.Gaussian": likelihoods.Gaussian(),
    "likelihoods.StudentT": likelihoods.StudentT(),
    "likelihoods.Poisson": likelihoods.Poisson(),
    "likelihoods.NegativeBinomial": likelihoods.NegativeBinomial(),
    "likelihoods.Bernoulli": likelihoods.Bernoulli(),
}

OTHER_Y = {"y without its column": np.zeros(6), "y of other rows": np.zeros((5, 1))}

HOLE = np.array([[NAN], [0.5], [0.2], [0.0], [1.0], [0.7]])


def partial(one):
    return bayesian(likelihood=likelihoods.PartiallyObserved(one))


CASES = {
    "likelihoods.Joint: none": (lambda: likelihoods.Joint({}), InputError, "at least one likelihood, got none"),
    "likelihoods.Joint: a number": (lambda: likelihoods.Joint({"a": 3}), InputError, "a likelihood"),
    "likelihoods.PartiallyObserved: no likelihood": (
        lambda: likelihoods.PartiallyObserved(0.5),
        InputError,
        r"a likelihood such as bbb\.likelihoods\.Gaussian",
    ),
    "likelihoods.PartiallyObserved: a class": (
        lambda: likelihoods.PartiallyObserved(likelihoods.Gaussian),
        InputError,
        r"a likelihood such as bbb\.likelihoods\.Gaussian",
    ),
    "likelihoods.PartiallyObserved: one of its own": (
        lambda: likelihoods.PartiallyObserved(likelihoods.PartiallyObserved(likelihoods.Poisson())),
        InputError,
        r"a likelihood of complete targets of one output, got a PartiallyObserved\. Pass for example",
    ),
    "likelihoods.PartiallyObserved: several outputs": (
        lambda: likelihoods.PartiallyObserved(likelihoods.Joint({"a": likelihoods.Poisson()})),
        InputError,
        "a likelihood of complete targets of one output, got a Joint",
    ),
    "likelihoods.PartiallyObserved: y of NaN alone, to fit": (
        lambda: fit(y=HOLE * NAN, model=partial(likelihoods.Gaussian())),
        InputError,
        "a target that is not missing, in y, got NaN alone",
    ),
    "likelihoods.PartiallyObserved: an infinite y, to fit": (
        lambda: fit(y=np.where(HOLE == 1, np.inf, HOLE), model=partial(likelihoods.Gaussian())),
        NonFiniteInputError,
        r"y to hold finite numbers only, got 1 that are NaN or infinite, the first at index \(4, 0\)",
    ),
    "likelihoods.PartiallyObserved: a y beyond float32, to fit": (
        lambda: fit(y=HOLE * 1e300, model=partial(likelihoods.Gaussian())),
        NonFiniteInputError,
        "y in float32 to hold finite numbers only",
    ),
    "likelihoods.PartiallyObserved: y without its column, to fit": (
        lambda: fit(y=HOLE[:, 0], model=partial(likelihoods.Gaussian())),
        ShapeError,
        r"Pass y\.reshape\(-1, 1\)",
    ),
    "likelihoods.PartiallyObserved: no count, to fit": (
        lambda: fit(y=HOLE, model=partial(likelihoods.Poisson())),
        InputError,
        "counts in y, whole numbers of at least 0, got 0.5 at index",
    ),
    "likelihoods.PartiallyObserved: one class and holes, to fit": (
        lambda: fit(y=HOLE * 0 + 1, model=partial(likelihoods.Bernoulli())),
        InputError,
        "two classes or more in y, got 1 in every one of 6 rows",
    ),
    "likelihoods.PartiallyObserved: classes that are not whole, to fit": (
        lambda: fit(
            y=HOLE[:, 0],
            model=bayesian(bbb.nn.linear(1, 2), likelihood=likelihoods.PartiallyObserved(likelihoods.Categorical())),
        ),
        InputError,
        "whole numbers or NaN in y, got 0.5",
    ),
    "likelihoods.PartiallyObserved: more classes than bfloat16 counts": (
        lambda: likelihoods.PartiallyObserved(likelihoods.Categorical()).log_prob(
            jnp.ones(2, "bfloat16"), jnp.ones((2, 300), "bfloat16")
        ),
        InputError,
        "a dtype of the weights that holds every class, got bfloat16",
    ),
    "likelihoods.PartiallyObserved: a cost without the likelihood": (
        lambda: fit(y=HOLE, model=partial(likelihoods.Gaussian()), objective=bbb.torchbnn.mse_cost),
        InputError,
        r"complete targets for mse_cost, got a PartiallyObserved\. Leave the objective out",
    ),
    "likelihoods.PartiallyObserved: missing targets to diagnose": (
        lambda: bbb.diagnose(partial(likelihoods.Gaussian()), None, X, HOLE),
        NonFiniteInputError,
        "y to hold finite numbers only",
    ),
    **not_above_0(ABOVE_0),
    **crossed({n: functools.partial(observed, one) for n, one in OBSERVED.items()}, OTHER_Y, ShapeError, "y to h", ":"),
    **crossed(
        {name: functools.partial(fitted, one) for name, one in OBSERVED.items()}, OTHER_Y, ShapeError, "y", ": to fit,"
    ),
    "likelihoods.StudentT: df of 2": (
        lambda: likelihoods.StudentT(1.0, 2.0),
        InputError,
        "df to be one number above 2",
    ),
    "likelihoods.StudentT: df in words": (
        lambda: likelihoods.StudentT(1.0, "four"),
        InputError,
        "df to be real numbers",
    ),
    "likelihoods.StudentT: df alone": (
        lambda: likelihoods.StudentT(learn_df=True),
        InputError,
        "a scale that is learned where df is",
    ),
    "likelihoods.Gaussian: learn in words": (
        lambda: likelihoods.Gaussian(1.0, "yes"),
        InputError,
        "learn to be a bool",
    ),
    "likelihoods.NegativeBinomial: learn in words": (
        lambda: likelihoods.NegativeBinomial(1.0, "yes"),
        InputError,
        "learn to be a bool",
    ),
    "likelihoods.Gaussian: two stds for one output": (
        lambda: fit(model=bayesian(likelihood=likelihoods.Gaussian([0.5, 0.5]))),
        ShapeError,
        "noise std to broadcast",
    ),
    "likelihoods.HeteroscedasticGaussian: an odd number of outputs": (
        lambda: fit(model=bayesian(likelihood=likelihoods.HeteroscedasticGaussian())),
        ShapeError,
        "a mean and a logarithm",
    ),
    "likelihoods.HeteroscedasticGaussian: y without its column": (
        lambda: likelihoods.HeteroscedasticGaussian().log_prob(np.zeros(3), jnp.ones((3, 2))),
        ShapeError,
        r"Pass y.reshape\(-1, 1\)",
    ),
    "likelihoods.BoundedHeteroscedasticGaussian: no center": (
        lambda: likelihoods.BoundedHeteroscedasticGaussian(0.0),
        InputError,
        "noise center to be finite and above 0",
    ),
    "likelihoods.BoundedHeteroscedasticGaussian: no reach": (
        lambda: likelihoods.BoundedHeteroscedasticGaussian(1.0, -1.0),
        InputError,
        "reach to be finite and above 0",
    ),
    "likelihoods.BoundedHeteroscedasticGaussian: a center for each of two means, of one": (
        lambda: likelihoods.BoundedHeteroscedasticGaussian([1.0, 2.0]).log_prob(np.zeros((3, 1)), jnp.ones((3, 2))),
        ShapeError,
        "noise center to broadcast",
    ),
    "likelihoods.Poisson: a negative count": (
        lambda: fit(y=-np.ones((6, 1)), model=bayesian(likelihood=likelihoods.Poisson())),
        InputError,
        r"counts in y, whole numbers of at least 0, got -1 at index \(0, 0\)",
    ),
    "likelihoods.NegativeBinomial: half a count": (
        lambda: fit(y=Y, model=bayesian(likelihood=likelihoods.NegativeBinomial())),
        InputError,
        "counts in y",
    ),
    "likelihoods.Bernoulli: a 2": (
        lambda: fit(y=2 * np.ones((6, 1)), model=bayesian(likelihood=likelihoods.Bernoulli())),
        InputError,
        "0 and 1 alone in y, got 2",
    ),
    "likelihoods.Categorical: one output": (
        lambda: fit(y=np.zeros(6, int), model=bayesian(likelihood=likelihoods.Categorical())),
        ShapeError,
        "a logit for each of two classes or more",
    ),
    "likelihoods.Categorical: a class beyond": (
        lambda: likelihoods.Categorical().log_prob(np.array([0, 3]), jnp.ones((2, 3))),
        InputError,
        "classes from 0 to 2 in y, got 3",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
