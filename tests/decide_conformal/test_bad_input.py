"""Bad input to conformal prediction: refused by name, before anything is computed, and nothing is written."""

import functools

import jax
import numpy as np
import pytest

import bbb
from bbb.decide.coverage import conformal, conformal_sets, jackknife_plus, load_conformal
from bbb.errors import InputError, KeyTypeError, ModelFileError, NonFiniteInputError, ShapeError
from bbb.sklearn import BayesianMLPClassifier, BayesianMLPRegressor, CrossConformalRegressor
from tests.bad_input import (
    KEY,
    MODEL,
    NAN,
    X,
    Y,
    assert_refused,
    bayesian,
    classifier,
    not_inside_0_1,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_paths,
    wrong_rows,
)

LABELS = np.array([0, 1] * 3)
WORDS = np.array(["a", "a", "a", "b", "b", "b"])


def made(x=X, y=Y, key=KEY, model=MODEL, **options):
    return conformal(key, model, x, y, **{"draws": 4, "levels": (0.5,), **options})


def sets(x=X, y=LABELS, key=KEY, model=None, **options):
    return conformal_sets(key, model or classifier(), x, y, **{"draws": 4, **options})


@functools.cache
def held(**options):
    return made(**{name: np.array(value) for name, value in options.items()})


@functools.cache
def by_std():
    return made(score="std")


@functools.cache
def held_sets(randomised=False):
    return sets(randomised=randomised)


MEANS, SCORES, FOLDS = np.zeros((3, 5)), np.ones(6), np.array([0, 0, 1, 1, 2, 2])


def jackknife(means=MEANS, scores=SCORES, folds=FOLDS, level=0.8, **options):
    return jackknife_plus(means, scores, folds, level, **options)


@functools.cache
def regressor(**options):
    return BayesianMLPRegressor(2, posterior="mean_field", steps=1, random_state=0, **options)


def cross(**options):
    from sklearn.linear_model import LinearRegression

    return CrossConformalRegressor(LinearRegression(), **{"cv": 2, "residuals": "absolute", **options})


def fitted_cross():
    return cross().fit(X, Y[:, 0])


def partly_observed():
    like = bbb.likelihoods.PartiallyObserved(bbb.likelihoods.Gaussian(0.5))
    return made(y=np.where(np.arange(6)[:, None] == 2, NAN, Y), model=bayesian(likelihood=like))


def of_two_outputs():
    likelihood = {"a": bbb.likelihoods.Gaussian(0.5), "b": bbb.likelihoods.Gaussian(0.5)}
    params = {"w": jax.numpy.ones((1, 1))}

    def apply(params, x):
        return {"a": x @ params["w"], "b": x @ params["w"]}

    return bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=likelihood)


KEYED = {
    "conformal: key": lambda key: made(key=key),
    "decide.conformal_sets: key": lambda key: sets(key=key),
    "decide.ConformalSets.sets: key": lambda key: held_sets(True).sets(X, 0.5, key=key),
}

ROWED = {
    "conformal: x": lambda x: made(x=x),
    "conformal: y": lambda y: made(y=y),
    "decide.conformal_sets: x": lambda x: sets(x=x),
    "decide.Conformal.interval: x": lambda x: held().interval(x, 0.5),
    "decide.ConformalSets.sets: x": lambda x: held_sets().sets(x, 0.5),
}

LEVELS = {
    "conformal: levels": lambda level: made(levels=level),
    "decide.Conformal.interval: level": lambda level: held().interval(X, level),
    "decide.ConformalSets.sets: level": lambda level: held_sets().sets(X, level),
    "decide.jackknife_plus: level": lambda level: jackknife(level=level),
    "sklearn.CrossConformalRegressor.predict_interval: coverage": lambda p: fitted_cross().predict_interval(X, p),
    "sklearn.BayesianMLPRegressor: calibrate": lambda p: regressor(calibrate=p).fit(X, Y[:, 0]),
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **{
        name: case
        for name, case in not_inside_0_1(LEVELS).items()
        if not (name.endswith("a list") and ("levels" in name or "calibrate" in name))  # several levels are fine
    },
    **wrong_counts({"conformal: draws": lambda n: made(draws=n)}),
    **wrong_models(
        {
            "conformal: model": lambda model: made(model=model),
            "decide.conformal_sets: model": lambda model: conformal_sets(KEY, model, X, LABELS),
        }
    ),
    **wrong_paths({"decide.Conformal.save": lambda path: held().save(path), "decide.load_conformal": load_conformal}),
    "decide.load_conformal: a missing file": (
        lambda: load_conformal("missing"),
        ModelFileError,
        "a model file at missing",
    ),
    "decide.load_conformal: a model that is not calibrated": (
        lambda: load_conformal("model"),
        ModelFileError,
        "to hold a calibrated model, got: KeyError",
    ),
    "conformal: draws by tolerance": (lambda: made(draws="auto"), InputError, "draws to be a whole number"),
    "conformal: another option": (
        lambda: made(tolerance=0.1),
        InputError,
        r"options of predict among rows, memory, mesh, partition, got 'tolerance'\. Pass it to bbb.predict",
    ),
    "decide.Conformal.interval: an unknown option": (
        lambda: held().interval(X, 0.5, chunk=3),
        InputError,
        "'chunk'. Pass some of rows, memory",
    ),
    "conformal: another score": (
        lambda: made(score="cqr"),
        InputError,
        "score to be one of quantile, std, got 'cqr'",
    ),
    "conformal: no levels": (lambda: made(levels=()), InputError, "levels to hold at least one level, got none"),
    "conformal: too few rows": (
        lambda: made(levels=(0.5, 0.9)),
        InputError,
        r"a level that 6 calibration rows allow, got 0.9. Pass a level of at most 0.8571, or at least 9 rows",
    ),
    "conformal: too few rows of a group": (
        lambda: made(levels=(0.8,), groups=WORDS),
        InputError,
        r"a level that 3 calibration rows of group a allow, got 0.8. Pass a level of at most 0.75, or at least 4 rows",
    ),
    "decide.Conformal.interval: too few rows": (
        lambda: by_std().interval(X, 0.95),
        InputError,
        "a level that 6 calibration rows allow, got 0.95. Pass a level of at most 0.8571, or at least 19 rows",
    ),
    "decide.ConformalSets.sets: too few rows": (
        lambda: held_sets().sets(X, 0.95),
        InputError,
        "a level that 6 calibration rows allow",
    ),
    "decide.Conformal.interval: a level that was not calibrated": (
        lambda: held().interval(X, 0.6),
        InputError,
        'a level that was calibrated, of 0.5, got 0.6.*score="std"',
    ),
    "conformal: classes": (
        lambda: conformal(KEY, classifier(), X, LABELS),
        InputError,
        "a model of numbers, got classes, of a Categorical. Pass it to bbb.decide.conformal_sets",
    ),
    "decide.conformal_sets: numbers": (
        lambda: conformal_sets(KEY, MODEL, X, LABELS),
        InputError,
        "a model of classes, got a Gaussian. Pass it to bbb.decide.conformal",
    ),
    "conformal: several outputs": (
        lambda: made(model=of_two_outputs()),
        InputError,
        r"a model of one output for conformal, got one of several. Calibrate each: model.head\('a'\)",
    ),
    "conformal: other rows": (lambda: made(y=Y[:5]), ShapeError, "y to have the 6 rows of x, got 5"),
    "conformal: a missing target": (
        partly_observed,
        NonFiniteInputError,
        r"y without missing targets, to calibrate, got NaN at index \(2, 0\)",
    ),
    "conformal: rows that were trained on": (
        lambda: made(trained_on=(X[3:], Y[3:])),
        InputError,
        "rows that were not trained on, got 3 of 6 that were, the first at row 3. Hold rows out before training",
    ),
    "conformal: trained_on of x alone": (
        lambda: made(trained_on=X),
        InputError,
        "trained_on to be a pair of x and y, got a ndarray",
    ),
    "conformal: groups of floats": (
        lambda: made(groups=X[:, 0]),
        InputError,
        "groups of whole numbers or words",
    ),
    "conformal: groups of other rows": (
        lambda: made(groups=WORDS[:5]),
        ShapeError,
        r"groups of shape \(6,\), got \(5,\)",
    ),
    "conformal: weights of other rows": (
        lambda: made(weights=np.ones(5)),
        ShapeError,
        r"weights of shape \(6,\), got \(5,\)",
    ),
    "conformal: a weight below 0": (
        lambda: made(weights=-np.ones(6)),
        InputError,
        "weights to be finite and at least 0, got -1.0 at row 0",
    ),
    "conformal: weights of 0 alone": (
        lambda: made(weights=np.zeros(6)),
        InputError,
        "weights above 0 of at least one calibration row, got 0 for all",
    ),
    "conformal: weights of words": (lambda: made(weights=WORDS), InputError, "weights to be real numbers"),
    "decide.Conformal.interval: no groups": (
        lambda: held(groups=tuple(WORDS)).interval(X, 0.5),
        InputError,
        "groups of the new rows, as it was calibrated with groups, got none",
    ),
    "decide.Conformal.interval: an unknown group": (
        lambda: held(groups=tuple(WORDS)).interval(X, 0.5, groups=["a"] * 5 + ["c"]),
        InputError,
        "groups among 'a', 'b', got 'c'",
    ),
    "decide.Conformal.interval: groups that were not calibrated": (
        lambda: held().interval(X, 0.5, groups=WORDS),
        InputError,
        "no groups, as it was calibrated without groups, got some",
    ),
    "decide.Conformal.interval: no weights": (
        lambda: held(weights=(1.0,) * 6).interval(X, 0.5),
        InputError,
        "weights of the new rows, as it was calibrated with weights, got none",
    ),
    "decide.Conformal.interval: NaN among the weights": (
        lambda: held(weights=(1.0,) * 6).interval(X, 0.5, weights=[NAN] * 6),
        InputError,
        "weights to be finite and at least 0, got nan at row 0",
    ),
    "decide.conformal_sets: another score": (lambda: sets(score="lac"), InputError, "score to be one of aps, raps"),
    "decide.conformal_sets: a penalty of 0": (
        lambda: sets(score="raps", penalty=0),
        InputError,
        "penalty to be finite and above 0",
    ),
    "decide.conformal_sets: free_ranks of 0": (
        lambda: sets(score="raps", free_ranks=0),
        InputError,
        "free_ranks to be a whole number of at least 1",
    ),
    "decide.conformal_sets: randomised by a word": (
        lambda: sets(randomised="yes"),
        InputError,
        "randomised to be a bool",
    ),
    "decide.conformal_sets: a label that is none": (lambda: sets(y=LABELS + 1), InputError, "classes"),
    "decide.ConformalSets.sets: a key that is not needed": (
        lambda: held_sets().sets(X, 0.5, key=KEY),
        InputError,
        "no key for sets that are not randomised",
    ),
    "decide.jackknife_plus: too few rows": (
        lambda: jackknife(level=0.9),
        InputError,
        "a level that 6 rows allow, got 0.9. Pass a level of at most 0.8571",
    ),
    "decide.jackknife_plus: folds that are none": (
        lambda: jackknife(folds=FOLDS + 1),
        InputError,
        "folds of whole numbers from 0 to 2",
    ),
    "decide.jackknife_plus: folds of other rows": (
        lambda: jackknife(folds=FOLDS[:5]),
        ShapeError,
        r"folds of shape \(6,\), as there are 6 scores, got \(5,\)",
    ),
    "decide.jackknife_plus: a score below 0": (
        lambda: jackknife(scores=-SCORES),
        InputError,
        "scores of at least 0, got -1",
    ),
    "decide.jackknife_plus: scores of other targets": (
        lambda: jackknife(scores=np.ones((6, 2))),
        ShapeError,
        "scores to fit means",
    ),
    "decide.jackknife_plus: other stds": (
        lambda: jackknife(stds=np.ones((3, 4))),
        ShapeError,
        "stds to fit means",
    ),
    "decide.jackknife_plus: a std below 0": (
        lambda: jackknife(stds=-np.ones(MEANS.shape)),
        InputError,
        "stds of at least 0, got -1",
    ),
    "decide.jackknife_plus: NaN": (lambda: jackknife(means=MEANS * NAN), NonFiniteInputError, "means to hold finite"),
    "sklearn.BayesianMLPRegressor: calibrate of a row": (
        lambda: regressor(calibrate=0.9).fit(X[:1], Y[:1, 0]),
        InputError,
        "calibrate to leave rows that count on both sides, got 1 of 1 held out",
    ),
    "sklearn.BayesianMLPRegressor.partial_fit: calibrate": (
        lambda: regressor(calibrate=0.5).partial_fit(X, Y[:, 0]),
        InputError,
        "calibrate=None for partial_fit, got 0.5",
    ),
    "sklearn.BayesianMLPRegressor: calibrate with warm_start": (
        lambda: regressor(calibrate=0.5, warm_start=True).fit(X, Y[:, 0]).fit(X, Y[:, 0]),
        InputError,
        "calibrate=None with warm_start",
    ),
    "sklearn.BayesianMLPRegressor.predict_interval: too few rows": (
        lambda: regressor(calibrate=0.5).fit(X, Y[:, 0]).predict_interval(X),
        InputError,
        "a level that 3 calibration rows allow, got 0.95. Pass a level of at most 0.75, or at least 19 rows",
    ),
    "sklearn.BayesianMLPClassifier.predict_set: not calibrated": (
        lambda: BayesianMLPClassifier(2, steps=1).fit(X, LABELS).predict_set(X),
        InputError,
        "an estimator that was calibrated, got calibrate=None",
    ),
    "sklearn.CrossConformalRegressor: other residuals": (
        lambda: cross(residuals="squared").fit(X, Y[:, 0]),
        InputError,
        "residuals to be one of std, absolute",
    ),
    "sklearn.CrossConformalRegressor: rows held out twice": (
        lambda: cross(cv=[([0, 1, 2], [3, 4, 5]), ([3, 4, 5], [0, 1, 3])]).fit(X, Y[:, 0]),
        InputError,
        "cv to hold each row out once",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)


TRACED = {
    "conformal: key": (lambda key: made(key=key), KEY),
    "conformal: model": (lambda model: made(model=model), MODEL),
    "conformal: x": (lambda x: made(x=x), X),
    "conformal: y": (lambda y: made(y=y), Y),
    "conformal: weights": (lambda weights: made(weights=weights), np.ones(6)),
    "conformal: groups": (lambda groups: made(groups=groups), LABELS),
    "conformal: levels": (lambda level: made(levels=level), 0.5),
    "conformal_sets: y": (lambda y: sets(y=y), LABELS),
    "Conformal.interval: x": (lambda x: held().interval(x, 0.5), X),
    "Conformal.interval: level": (lambda level: held().interval(X, level), 0.5),
    "ConformalSets.sets: key": (lambda key: held_sets(True).sets(X, 0.5, key=key), KEY),
    "jackknife_plus: means": (jackknife, MEANS),
    "jackknife_plus: level": (lambda level: jackknife(level=level), 0.5),
    "CrossConformalRegressor: X": (lambda x: cross().fit(x, Y[:, 0]), X),
}


@pytest.mark.parametrize("case", TRACED)
def test_what_needs_numbers_says_where_to_call_it(case):
    call, value = TRACED[case]
    held(), held_sets(True)  # which are made once, and not within jit
    with pytest.raises(InputError, match=r"got a tracer\. Call .* outside of jax\.jit, jax\.vmap and jax\.grad"):
        jax.jit(call).trace(value)


def test_a_key_of_another_kind_is_named():
    with pytest.raises(KeyTypeError, match="one typed JAX key, got"):
        held_sets(True).sets(X, 0.5)
