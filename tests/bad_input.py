"""What the files `test_bad_input.py` share: models to try a bad input on, wrong values, and what is held of a refusal.

A case is named by what is called, as a user writes it after `bbb.`, a colon, and what is wrong; it is a call, the
error, and what the error says. Families of cases give one bad value after the other to each argument that takes such
values: each folder passes its own calls. `tests/house/test_public.py` holds that no public function is without a case.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import bbb
from bbb import likelihoods, priors
from bbb.errors import InputError, KeyTypeError, NonFiniteInputError, ShapeError
from bbb.networks import nn

KEY = jax.random.key(0)
X, Y = np.linspace(-1, 1, 6)[:, None], np.linspace(0, 1, 6)[:, None]
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 3), bbb.nn.tanh, bbb.nn.linear(3, 1))
NAN, INF = float("nan"), float("inf")


def bayesian(network=NETWORK, **parts):
    given = {"prior": priors.Normal(0.0, 1.0), "likelihood": likelihoods.Gaussian(0.5), **parts}
    return bbb.bayesianize(network.apply, network.init(KEY), **given)


MODEL = bayesian()
POSTERIOR = MODEL.posterior
POINT = MODEL.posterior.mean


@functools.cache
def ensemble():
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), POSTERIOR)
    return bbb.BNN(MODEL.apply, bbb.posteriors.Ensemble(members), MODEL.prior, MODEL.likelihood)


@functools.cache
def linearized(model=MODEL):
    return dataclasses.replace(model, linearized=True)


@functools.cache
def classifier():
    return bayesian(nn.linear(1, 2), likelihood=likelihoods.Categorical())


@functools.cache
def band():
    return bbb.predict(KEY, MODEL, X, draws=4)


@functools.cache
def without_draws():
    with pytest.raises(InputError) as caught:
        bbb.predict(KEY, MODEL, np.repeat(X, 250, axis=0), draws=100, memory=1)
    least = int(re.search(r"at least ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    return bbb.predict(KEY, MODEL, np.repeat(X, 250, axis=0), draws=100, memory=least)


@functools.cache
def history(cost="elbo_cost"):
    return bbb.train.History(np.ones(3), np.ones(3), np.ones(3), None, cost)


def fit(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.fit(key, model, x, y, **{"steps": 1, "progress": False, **options})


def predict(x=X, key=KEY, model=MODEL, **options):
    return bbb.predict(key, model, x, **{"draws": 4, **options})


def elbo(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.objectives.negative_elbo(key, model, x, y, **options)


def ax():
    return Figure().add_subplot()


def put(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


def of(apply, params=None, model=MODEL):
    return bbb.bayesianize(apply, params or {"w": jnp.ones((1, 1))}, prior=model.prior, likelihood=model.likelihood)


BATCH = nn.sequential(nn.linear(1, 2), nn.batch_norm(2), nn.linear(2, 1))
HALVES = np.full((2, 2), 0.5)

# Families: the values, what is said, and the cases of a table of calls

KEYS = {
    "a number": 0,
    "nothing": None,
    "an old key": np.zeros(2, np.uint32),
    "several keys": jax.random.split(KEY),
    "a word": "key",
}

ROWS = {
    "NaN": (put(Y, (2, 0), NAN), NonFiniteInputError, r"finite numbers only, got 1 .* index \(2, 0\)"),
    "infinity": (put(Y, (3, 0), -INF), NonFiniteInputError, r"finite numbers only, got 1 .* index \(3, 0\)"),
    "words": (np.full((6, 1), "a"), InputError, "real numbers in an array"),
    "nothing": (None, InputError, "real numbers in an array, got None"),
    "ragged rows": ([[1.0], [1.0, 2.0]], InputError, "real numbers in an array"),
    "objects": (put(np.zeros((6, 1), object), 0, None), InputError, "real numbers in an array"),
    "complex numbers": (Y + 1j, InputError, "real numbers in an array"),
    "dates": (np.zeros((6, 1), "datetime64[D]"), InputError, "real numbers in an array"),
    "keys": (jax.random.split(KEY, (6, 1)), InputError, "real numbers in an array"),
    "masked numbers": (np.ma.masked_less(Y, 0.5), InputError, "without a mask"),
    "no rows": (Y[:0], ShapeError, "at least one row"),
    "one number": (1.0, ShapeError, r"got shape \(\)"),
}

NOT_ABOVE_0 = {"0": 0, "-1.0": -1.0, "NaN": NAN, "infinity": INF, "a word": "x", "an object": object()}
NOT_COUNTS = {"0": 0, "-1": -1, "1.5": 1.5, "True": True, "a word": "two", "NaN": NAN}
NOT_INSIDE_0_1 = {"0.0": 0.0, "1": 1, "-0.5": -0.5, "1.5": 1.5, "NaN": NAN, "a word": "half", "a list": [[0.1, 0.2]]}
NO_MODELS = {"a word": "model", "nothing": None, "a posterior": POSTERIOR, "a network": NETWORK}
NO_POSTERIORS = {"a word": "posterior", "nothing": None, "a model": MODEL, "a tree": POINT}
NO_APPLIES = {"a word": "apply", "nothing": None, "the network itself": NETWORK}
NO_LIKELIHOODS = {"a word": "gaussian", "nothing": None, "its class": likelihoods.Gaussian, "a prior": MODEL.prior}
NO_PRIORS = {"a word": "normal", "nothing": None, "its class": priors.Normal, "a likelihood": MODEL.likelihood}
NO_PATHS = {"nothing": None, "a number": 3, "a zero byte": "a\0b"}
HAS_A_DEFAULT = ("priors.kl: key", "diagnose: key", "evaluate.to_datatree: y")


def crossed(table, values, error, text, link):
    """Return a case for each call of a table and each value: its name, and the call, the error and the text."""
    return {
        f"{name}{link} {what}": (functools.partial(call, value), error, text)
        for name, call in table.items()
        for what, value in values.items()
        if value is not None or name not in HAS_A_DEFAULT
    }


def crossed_with(table, values, link):
    """Return the same for values that have errors and texts of their own."""
    found = {}
    for what, (value, error, text) in values.items():
        found |= crossed(table, {what: value}, error, text, link)
    return found


def wrong_keys(calls):
    """Return cases of an argument that takes a key."""
    return crossed(calls, KEYS, KeyTypeError, "one typed JAX key, got", " is")


def wrong_rows(calls):
    """Return cases of an argument that takes an array with a row for each observation."""
    return crossed_with(calls, ROWS, " is")


def not_above_0(calls):
    """Return cases of an argument that takes numbers above 0."""
    return crossed(calls, NOT_ABOVE_0, InputError, "above 0|real numbers", " is")


def wrong_weights(calls):
    """Return cases of an argument that takes a weight for each of 6 rows, not all 0."""
    wrong = {
        "-1": [1, 1, -1, 1, 1, 1],
        "NaN": [1, 1, 1, NAN, 1, 1],
        "infinite": [INF, 1, 1, 1, 1, 1],
    }
    cases = {
        f"{call} with {name}": (lambda f=f, value=value: f(np.array(value)), InputError, "finite and at least 0, got")
        for call, f in calls.items()
        for name, value in wrong.items()
    }
    for call, f in calls.items():
        cases[f"{call} of 0"] = (lambda f=f: f(np.zeros(6)), InputError, "sample_weight above 0 for at least one row")
        cases[f"{call} of 5 rows"] = (
            lambda f=f: f(np.ones(5)),
            ShapeError,
            r"sample_weight of shape \(6,\), got \(5,\)",
        )
        cases[f"{call} in a column"] = (lambda f=f: f(np.ones((6, 1))), ShapeError, r"Pass .*sample_weight\[:, 0\]")
        cases[f"{call} of words"] = (lambda f=f: f(["a"] * 6), InputError, "sample_weight to be real numbers")
    return cases


def wrong_counts(calls):
    """Return cases of an argument that takes whole numbers of at least 1."""
    return crossed(calls, NOT_COUNTS, InputError, "whole number", " is")


def not_inside_0_1(calls):
    """Return cases of an argument that takes a number between 0 and 1."""
    return crossed(calls, NOT_INSIDE_0_1, InputError, r"inside \(0, 1\)|real numbers|pair of arrays", " is")


def wrong_models(calls):
    """Return cases of an argument that takes a model."""
    return crossed(calls, NO_MODELS, InputError, "to be a BNN, got|network of bbb.nn", " is")


def wrong_posteriors(calls):
    """Return cases of an argument that takes a posterior."""
    return crossed(calls, NO_POSTERIORS, InputError, "to be a MeanField", " is")


def wrong_applies(calls):
    """Return cases of an argument that takes a network's function."""
    return crossed(calls, NO_APPLIES, InputError, "to be a function|network to standardise", " is")


def wrong_likelihoods(calls):
    """Return cases of an argument that takes a likelihood."""
    return crossed(calls, NO_LIKELIHOODS, InputError, "a likelihood", ": the likelihood is")


def wrong_priors(calls):
    """Return cases of an argument that takes a prior."""
    return crossed(calls, NO_PRIORS, InputError, "a prior", ": the prior is")


def wrong_paths(calls):
    """Return cases of an argument that takes a path."""
    return crossed(calls, NO_PATHS, InputError, "a path", " is")


def contents(folder):
    """Return every file's bytes, and None for every folder, by path."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def fill(folder):
    """Write what cases name into a folder, a table, a folder and a model, and return it."""
    (folder / "train.csv").write_text("a,b,y\n1,2,3.5\n2,3,4.5\n3,5,6.5\n4,9,9.5\n")
    (folder / "folder").mkdir()
    bbb.save(folder / "model", MODEL)
    return folder


def assert_refused(call, error, text, folder, by_sklearn=False):
    """Hold that a call is refused with an error that says what was expected and what came, and that nothing is written.

    What scikit-learn's own checks ask for is its own error, in its own words.
    """
    before = contents(folder)
    with pytest.raises(error, match=text) as caught:
        call()
    if isinstance(caught.value, bbb.errors.BBBError):
        message = str(caught.value)
        assert message.startswith("Expected ")
        assert ", got" in message
        assert "Traced<" not in message
    else:
        assert error is ValueError
        assert by_sklearn
    assert contents(folder) == before
