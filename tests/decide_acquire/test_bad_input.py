"""Bad input to the acquisition scores, Thompson samples and batches: refused by name, before any draw."""

import functools

import jax
import pytest

import bbb
from bbb import likelihoods
from bbb.decide import acquisition
from bbb.errors import InputError, ShapeError
from tests.bad_input import (
    INF,
    KEY,
    MODEL,
    NAN,
    X,
    assert_refused,
    classifier,
    ensemble,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
)
from tests.decide_acquire.models import X as PAIRS
from tests.decide_acquire.models import model_of


def improvement(key=KEY, model=MODEL, x=X, best=0.0, **options):
    return acquisition.expected_improvement(key, model, x, best, **{"draws": 4, **options})


def bound(key=KEY, model=MODEL, x=X, beta=2.0, **options):
    return acquisition.upper_confidence_bound(key, model, x, beta, **{"draws": 4, **options})


def variance(key=KEY, model=MODEL, x=X, **options):
    return acquisition.variance(key, model, x, **{"draws": 4, **options})


def bald(key=KEY, model=MODEL, x=X, **options):
    return acquisition.bald(key, model, x, **{"draws": 4, **options})


def batch(key=KEY, model=MODEL, pool=X, count=2, **options):
    return acquisition.choose_batch(key, model, pool, count, **{"draws": 4, **options})


def thompson(key=KEY, model=MODEL, x=X, samples=1, **options):
    return acquisition.thompson(key, model, x, samples, **options)


def at(x):
    return acquisition.thompson_function(KEY, MODEL)(x)


SCORES = {
    "decide.expected_improvement": improvement,
    "decide.upper_confidence_bound": bound,
    "decide.variance": variance,
    "decide.bald": bald,
}
CALLS = {**SCORES, "thompson": thompson, "decide.choose_batch": batch}


def of(argument, calls):
    """Return a call of one argument for each of some functions."""

    def one(call, value):
        return call(**{argument: value})

    return {f"{name}: {argument}": functools.partial(one, call) for name, call in calls.items()}


@functools.cache
def heads():
    network, both = MODEL.apply, {"a": likelihoods.Gaussian(0.5), "b": likelihoods.Gaussian(0.5)}

    def apply(params, x):
        return {"a": network(params, x), "b": network(params, x)}

    return bbb.bayesianize(apply, MODEL.posterior.mean, prior=MODEL.prior, likelihood=both)


KEYED = {**of("key", CALLS), "decide.thompson_function: key": lambda key: acquisition.thompson_function(key, MODEL)}
MODELS = {
    **of("model", CALLS),
    "decide.thompson_function: model": lambda model: acquisition.thompson_function(KEY, model),
}
ROWED = {
    **of("x", {name: call for name, call in CALLS.items() if call is not batch}),
    "decide.choose_batch: pool": lambda pool: batch(pool=pool),
    "decide.FunctionDraw: x": at,
}
COUNTS = {
    **of("draws", {**SCORES, "decide.choose_batch": batch}),
    "thompson: samples": lambda n: thompson(samples=n),
    "decide.choose_batch: count": lambda n: batch(count=n),
    "decide.choose_batch: configurations": lambda n: batch(model=classifier(), configurations=n),
}

OPTIONS = {
    "an option of another": ({"levels": (0.9,)}, InputError, "options of .*, got 'levels'. Pass some of method, draws"),
    "draws until a tolerance": ({"draws": "auto"}, InputError, "draws to be a whole number of at least 1, got 'auto'"),
    "a word for sampling": ({"sampling": "halton"}, InputError, "sampling to be one of independent, antithetic, sobol"),
    "the last layer": ({"method": "last_layer"}, InputError, "draws, or moments of one posterior, .* got 'last_layer'"),
    "a method of none": ({"method": "exact"}, InputError, "method to be one of draws, last_layer, moments"),
    "too little memory": ({"memory": 1}, InputError, "memory of at least"),
    "a word for memory": ({"memory": "much"}, InputError, "memory to be a positive number of bytes"),
    "a mesh of none": ({"mesh": "cpu"}, InputError, "mesh"),
    "rows in no way": ({"rows": "in pairs"}, InputError, 'rows to be "apart" or "together"'),
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_models(MODELS),
    **wrong_rows(ROWED),
    **wrong_counts(COUNTS),
    **{
        f"{name}: {what}": (functools.partial(call, **options), error, text)
        for name, call in SCORES.items()
        for what, (options, error, text) in OPTIONS.items()
    },
    **{
        f"{name}: several outputs": (
            lambda call=call: call(model=heads()),
            InputError,
            r"a model of one output for \w+, got one of 2. Pass one of them, such as model.head\('a'\)",
        )
        for name, call in {**SCORES, "decide.choose_batch": batch}.items()
    },
    **{
        f"{name}: moments of an ensemble": (
            lambda call=call: call(model=ensemble(), method="moments"),
            InputError,
            "got 'moments' of 2 members. Pass method=\"draws\", or one member",
        )
        for name, call in SCORES.items()
    },
    **{
        f"{name}: two numbers a row": (
            lambda call=call, how=how: call(model=model_of(outputs=2), x=PAIRS, **how),
            ShapeError,
            r"a model of one number a row for \w+, got 2 a row",
        )
        for name, call in SCORES.items()
        if call in (improvement, bound)
        for how in ({}, {"method": "moments"})
    },
    **{
        f"decide.expected_improvement: best is {best}": (
            lambda best=best: improvement(best=best),
            InputError,
            "best to be (finite|one number|real numbers)",
        )
        for best in (NAN, INF, "high", (1.0, 2.0), None)
    },
    **{
        f"decide.upper_confidence_bound: beta is {beta}": (
            lambda beta=beta: bound(beta=beta),
            InputError,
            "beta to be (one finite number of at least 0|real numbers)",
        )
        for beta in (-1.0, NAN, INF, "wide", (1.0, 2.0))
    },
    "decide.expected_improvement: classes": (
        lambda: improvement(model=classifier()),
        ShapeError,
        "a model of one number a row for expected_improvement, got 2 a row",
    ),
    "decide.expected_improvement: maximize in words": (
        lambda: improvement(maximize="yes"),
        InputError,
        "maximize to be a bool",
    ),
    "decide.upper_confidence_bound: maximize in words": (
        lambda: bound(maximize=1),
        InputError,
        "maximize to be a bool",
    ),
    "decide.bald: a count": (
        lambda: bald(model=model_of(likelihoods.Poisson()), x=PAIRS),
        InputError,
        "a likelihood of classes or of Gaussian noise for bald, got Poisson",
    ),
    "decide.bald: two labels a row": (
        lambda: bald(model=model_of(likelihoods.Bernoulli(), outputs=2), x=PAIRS),
        ShapeError,
        "a model of one number a row for bald of classes, got 2 a row",
    ),
    "decide.choose_batch: a count of y": (
        lambda: batch(model=model_of(likelihoods.Poisson()), pool=PAIRS),
        InputError,
        "a likelihood of classes or of Gaussian noise for choose_batch, got Poisson",
    ),
    "decide.choose_batch: two labels a row": (
        lambda: batch(model=model_of(likelihoods.Bernoulli(), outputs=2), pool=PAIRS),
        ShapeError,
        "a model of one number a row for choose_batch by batchbald of classes, got 2 a row",
    ),
    "decide.choose_batch: two numbers a row": (
        lambda: batch(model=model_of(outputs=2), pool=PAIRS),
        ShapeError,
        "a model of one number a row for choose_batch by batchbald, got 2 a row",
    ),
    "decide.choose_batch: more than there are": (
        lambda: batch(count=7),
        InputError,
        "count to be at most the 6 rows of the pool, got 7",
    ),
    "decide.choose_batch: a word for method": (
        lambda: batch(method="badge"),
        InputError,
        'method to be "batchbald" or "k-center", got \'badge\'',
    ),
    "thompson: x of other columns": (lambda: thompson(x=PAIRS), ShapeError, "x of shape"),
    "decide.FunctionDraw: x of other columns": (lambda: at(PAIRS), ShapeError, "x of shape"),
    "thompson: within a program": (
        lambda: jax.jit(lambda x: thompson(x=x))(X),
        InputError,
        "got a tracer. Call thompson outside of jax.jit.*thompson_function",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
