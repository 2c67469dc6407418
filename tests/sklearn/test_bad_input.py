"""Bad input to the estimators: refused by name, or as scikit-learn's own checks ask for."""

import functools

import jax
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, ShapeError
from tests.bad_input import NAN, X, Y, assert_refused


def estimator(kind="BayesianMLPRegressor", **options):
    return getattr(bbb.sklearn, kind)(**{"steps": 1, "random_state": 0, **options})


def regress(x=X, y=Y[:, 0], **options):
    return estimator(**options).fit(x, y)


def classify(x=X, y=(0, 1) * 3, **options):
    return estimator("BayesianMLPClassifier", **options).fit(x, y)


@functools.cache
def regressor():
    return regress(hidden_layer_sizes=(2,))


@functools.cache
def label_classifier():
    return classify(hidden_layer_sizes=(2,))


CASES = {
    "sklearn.BayesianMLPRegressor: NaN": (lambda: regress(X * NAN), ValueError, "NaN"),
    "sklearn.BayesianMLPRegressor: one axis": (lambda: regress(X[:, 0]), ValueError, "2D array"),
    "sklearn.BayesianMLPRegressor: words": (
        lambda: regress(np.full((6, 1), "a")),
        ValueError,
        "could not convert|dtype",
    ),
    "sklearn.BayesianMLPRegressor: no rows": (lambda: regress(X[:0], Y[:0, 0]), ValueError, "0 sample"),
    "sklearn.BayesianMLPRegressor: other rows": (lambda: regress(X, Y[:5, 0]), ValueError, "inconsistent numbers"),
    "sklearn.BayesianMLPRegressor: y of NaN": (lambda: regress(X, Y[:, 0] * NAN), ValueError, "NaN"),
    "sklearn.BayesianMLPRegressor: steps of 0": (lambda: regress(steps=0), InputError, "steps to be a whole number"),
    "sklearn.BayesianMLPRegressor: batch_size of 0": (
        lambda: regress(batch_size=0),
        InputError,
        "batch_size to be a whole",
    ),
    "sklearn.BayesianMLPRegressor: draws_per_step of 0": (
        lambda: regress(draws_per_step=0),
        InputError,
        "draws_per_step to be",
    ),
    "sklearn.BayesianMLPRegressor: learning_rate of 0": (
        lambda: regress(learning_rate=0),
        InputError,
        "learning_rate to be",
    ),
    "sklearn.BayesianMLPRegressor: learning_rate of two": (
        lambda: regress(learning_rate=[0.1, 0.2]),
        InputError,
        "learning_rate to be one number",
    ),
    "sklearn.BayesianMLPRegressor: prior_gain of -1": (lambda: regress(prior_gain=-1), InputError, "gain to be finite"),
    "sklearn.BayesianMLPRegressor: kl_warm_up of -1": (lambda: regress(kl_warm_up=-1), InputError, "kl_warm_up to be"),
    "sklearn.BayesianMLPRegressor: kl_warm_up of 2": (
        lambda: regress(kl_warm_up=2),
        InputError,
        "kl_warm_up to be at most 1",
    ),
    "sklearn.BayesianMLPRegressor: another posterior": (
        lambda: regress(posterior="Laplace"),
        InputError,
        'posterior to be one of "mean_field", "laplace", "hmc", got \'Laplace\'',
    ),
    "sklearn.BayesianMLPClassifier: another posterior": (
        lambda: classify(posterior=None),
        InputError,
        'posterior to be one of "mean_field", "laplace", "hmc", got None',
    ),
    "sklearn.BayesianMLPRegressor: another activation": (
        lambda: regress(activation="swish"),
        InputError,
        "activation to be",
    ),
    "sklearn.BayesianMLPRegressor: a list of activations": (
        lambda: regress(activation=["relu"]),
        InputError,
        "activation to",
    ),
    "sklearn.BayesianMLPRegressor: a layer of 0": (
        lambda: regress(hidden_layer_sizes=(5, 0)),
        InputError,
        "whole number of",
    ),
    "sklearn.BayesianMLPRegressor: a layer in words": (
        lambda: regress(hidden_layer_sizes="5"),
        InputError,
        "whole number of",
    ),
    "sklearn.BayesianMLPRegressor: half a layer": (
        lambda: regress(hidden_layer_sizes=(2.5,)),
        InputError,
        "whole number of",
    ),
    "sklearn.BayesianMLPRegressor: a random state in words": (lambda: regress(random_state="now"), ValueError, "now"),
    "sklearn.BayesianMLPRegressor: warm_start in words": (
        lambda: regress(warm_start="yes"),
        InputError,
        "warm_start to be a bool",
    ),
    "sklearn.BayesianMLPRegressor: missing of another word": (
        lambda: regress(missing="mean"),
        InputError,
        "missing to be one of refuse, median, indicator, got 'mean'",
    ),
    "sklearn.BayesianMLPRegressor: unknown of no word": (
        lambda: regress(unknown=["ignore"]),
        InputError,
        r"unknown to be one of refuse, ignore, got \['ignore'\]",
    ),
    "sklearn.BayesianMLPClassifier: missing of another word": (
        lambda: classify(missing=None),
        InputError,
        "missing to be one of refuse, median, indicator, got None",
    ),
    "sklearn.BayesianMLPRegressor.predict: unknown of another word": (
        lambda: regress(posterior="mean_field", missing="median").set_params(unknown="drop").predict(X),
        InputError,
        "unknown to be one of refuse, ignore, got 'drop'",
    ),
    "sklearn.BayesianMLPRegressor: warm_start to other columns": (
        lambda: regress(warm_start=True).fit(np.ones((6, 3)), Y[:, 0]),
        ValueError,
        "3 features",
    ),
    "sklearn.BayesianMLPRegressor: warm_start to other targets": (
        lambda: regress(warm_start=True).fit(X, np.ones((6, 2))),
        ShapeError,
        "y of 1 targets, got 2",
    ),
    "sklearn.BayesianMLPRegressor: warm_start to other layers": (
        lambda: regress(warm_start=True).set_params(hidden_layer_sizes=(3,)).fit(X, Y[:, 0]),
        ShapeError,
        r"hidden_layer_sizes of the last training, \(50,\), .*, got \(3,\)",
    ),
    "sklearn.BayesianMLPRegressor: warm_start to other noise": (
        lambda: regress(warm_start=True).set_params(noise="varying").fit(X, Y[:, 0]),
        InputError,
        'noise="constant", as in the last training',
    ),
    "sklearn.BayesianMLPClassifier: warm_start to other classes": (
        lambda: classify(warm_start=True).fit(X, (0, 2) * 3),
        InputError,
        "y of the classes 0, 1, got 2",
    ),
    "sklearn.BayesianMLPRegressor: a weight below 0": (
        lambda: estimator().fit(X, Y[:, 0], sample_weight=[1, 1, -1, 1, 1, 1]),
        InputError,
        r"sample_weight in float64 to be finite and at least 0, got -1 at row 2",
    ),
    "sklearn.BayesianMLPRegressor: weights of zero": (
        lambda: estimator().fit(X, Y[:, 0], sample_weight=np.zeros(6)),
        InputError,
        "sample_weight above 0 of at least one row, got a weight of zero for all",
    ),
    "sklearn.BayesianMLPRegressor: masked weights": (
        lambda: estimator().fit(X, Y[:, 0], sample_weight=np.ma.masked_less(np.arange(6.0), 2)),
        InputError,
        "sample_weight to be real numbers in an array without a mask",
    ),
    "sklearn.BayesianMLPRegressor: weights within vmap": (
        lambda: jax.vmap(lambda weights: estimator().fit(X, Y[:, 0], weights))(np.ones((2, 6))),
        InputError,
        r"sample_weight of numbers, got a tracer\. Call the estimators outside of jax.jit, jax.vmap",
    ),
    "sklearn.BayesianMLPRegressor.partial_fit: weights of other rows": (
        lambda: regressor().partial_fit(X, Y[:, 0], sample_weight=np.ones(5)),
        ShapeError,
        r"sample_weight of shape \(6,\), got \(5,\)",
    ),
    "sklearn.BayesianMLPRegressor.log_score: weights in words": (
        lambda: regressor().log_score(X, Y[:, 0], sample_weight=["a"] * 6),
        InputError,
        "sample_weight to be real numbers",
    ),
    "sklearn.BayesianMLPClassifier: a weight of NaN": (
        lambda: estimator("BayesianMLPClassifier").fit(X, (0, 1) * 3, sample_weight=[NAN] * 6),
        InputError,
        "sample_weight in float64 to be finite and at least 0, got nan at row 0",
    ),
    "sklearn.BayesianMLPClassifier.log_score: weights of two axes": (
        lambda: label_classifier().log_score(X, (0, 1) * 3, sample_weight=np.ones((6, 1))),
        ShapeError,
        r"sample_weight of shape \(6,\), got \(6, 1\)",
    ),
    "sklearn.BayesianMLPClassifier: class_weight of another word": (
        lambda: classify(class_weight="even"),
        InputError,
        "class_weight to be None, \"balanced\" or a dict, got 'even'",
    ),
    "sklearn.BayesianMLPClassifier: class_weight of a label never seen": (
        lambda: classify(class_weight={2: 1.0}),
        InputError,
        "class_weight of the classes 0, 1, got 2",
    ),
    "sklearn.BayesianMLPClassifier: class_weight of 0": (
        lambda: classify(class_weight={0: 0.0}),
        InputError,
        "class_weight of 0 to be finite and above 0",
    ),
    "sklearn.BayesianMLPClassifier.partial_fit: balanced": (
        lambda: estimator("BayesianMLPClassifier", class_weight="balanced").partial_fit(X, (0, 1) * 3),
        InputError,
        "class_weight to be None or a dict, for partial_fit, got 'balanced'",
    ),
    "sklearn.LogScorer: an estimator without densities": (
        lambda: bbb.sklearn.LogScorer()(object(), X, Y),
        InputError,
        "an estimator with log_score, got object",
    ),
    "sklearn.BayesianMLPRegressor.predict: not fitted": (lambda: estimator().predict(X), ValueError, "not fitted"),
    "sklearn.BayesianMLPRegressor.predict: other columns": (
        lambda: regressor().predict(np.ones((2, 3))),
        ValueError,
        "3 feat",
    ),
    "sklearn.BayesianMLPRegressor.predict: of another word": (
        lambda: regressor().predict(X, of="g"),
        InputError,
        "of to be",
    ),
    "sklearn.BayesianMLPRegressor.predict_interval: coverage of 2": (
        lambda: regressor().predict_interval(X, 2),
        InputError,
        r"coverage to be one number inside \(0, 1\)",
    ),
    "sklearn.BayesianMLPRegressor.predict_quantiles: a quantile of 0": (
        lambda: regressor().predict_quantiles(X, (0,)),
        InputError,
        r"quantile to be one number inside \(0, 1\)",
    ),
    "sklearn.BayesianMLPRegressor.predict_quantiles: none": (
        lambda: regressor().predict_quantiles(X, ()),
        InputError,
        "at least one quantile",
    ),
    "sklearn.BayesianMLPRegressor.sample_y: no samples": (
        lambda: regressor().sample_y(X, 0),
        InputError,
        "n_samples to be",
    ),
    "sklearn.BayesianMLPRegressor.log_score: not fitted": (
        lambda: estimator().log_score(X, Y),
        ValueError,
        "not fitted",
    ),
    "sklearn.BayesianMLPRegressor.log_score: two targets": (
        lambda: regressor().log_score(X, np.ones((6, 2))),
        ShapeError,
        "y of 1 targets",
    ),
    "sklearn.BayesianMLPRegressor.partial_fit: two targets": (
        lambda: regressor().partial_fit(X, np.ones((6, 2))),
        ShapeError,
        "y of 1 targets",
    ),
    "sklearn.BayesianMLPClassifier: one class": (
        lambda: classify(y=[0] * 6),
        InputError,
        "labels of at least two classes",
    ),
    "sklearn.BayesianMLPClassifier: measurements": (lambda: classify(y=Y[:, 0]), ValueError, "[Uu]nknown label type"),
    "sklearn.BayesianMLPClassifier: NaN": (lambda: classify(X * NAN), ValueError, "NaN"),
    "sklearn.BayesianMLPClassifier: steps of 0": (lambda: classify(steps=0), InputError, "steps to be a whole number"),
    "sklearn.BayesianMLPClassifier.predict: not fitted": (
        lambda: estimator("BayesianMLPClassifier").predict(X),
        ValueError,
        "not fitted",
    ),
    "sklearn.BayesianMLPClassifier.predict_proba: other columns": (
        lambda: label_classifier().predict_proba(np.ones((2, 3))),
        ValueError,
        "3 features",
    ),
    "sklearn.BayesianMLPClassifier.predict_entropy: words": (
        lambda: label_classifier().predict_entropy(np.full((6, 1), "a")),
        ValueError,
        "could not convert|dtype",
    ),
    "sklearn.BayesianMLPClassifier.sample_y: no samples": (
        lambda: label_classifier().sample_y(X, 0),
        InputError,
        "n_samples to be",
    ),
    "sklearn.BayesianMLPClassifier.score: a label never seen": (
        lambda: label_classifier().score(X, [7] * 6),
        InputError,
        "y of the classes 0, 1, got 7",
    ),
    "sklearn.BayesianMLPClassifier.log_score: a label never seen": (
        lambda: label_classifier().log_score(X, [7] * 6),
        InputError,
        "y of the classes 0, 1, got 7",
    ),
    "sklearn.BayesianMLPClassifier.partial_fit: a label never seen": (
        lambda: label_classifier().partial_fit(X, [7] * 6),
        InputError,
        "y of the classes 0, 1, got 7",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work, by_sklearn=True)
