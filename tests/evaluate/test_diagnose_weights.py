"""Weights of rows in the second opinion: a row of weight 2 is the row twice, one of weight 0 is absent."""

import jax
import numpy as np
import pytest

import bbb
from bbb.evaluate.diagnosis import case, checks_of_predictive
from bbb.metrics.inputs import median_of

RNG = np.random.default_rng(3)
COUNTS = RNG.integers(0, 4, 60)
X = RNG.normal(size=(60, 2))
DRAWS = 50


def model(likelihood, outputs=1, std=0.02, prior=1.0):
    network = bbb.nn.sequential(bbb.nn.linear(2, 8), bbb.nn.tanh, bbb.nn.linear(8, outputs))
    params = network.init(jax.random.key(0))
    return bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(0.0, prior), likelihood=likelihood, std=std)


def of(made):
    """Return y that a model of numbers predicts well, with noise that grows with the first column."""
    mean = np.asarray(bbb.predict(jax.random.key(1), made, X, draws=DRAWS).y.mean)
    return mean + np.abs(X[:, :1]) * RNG.normal(size=mean.shape)


GAUSSIAN = model(bbb.likelihoods.Gaussian(0.3))
MODELS = {
    "noise of rows": lambda: (GAUSSIAN, of(GAUSSIAN)),
    "too little noise": lambda: (model(bbb.likelihoods.Gaussian(0.01)), 3 + X[:, :1]),
    "too much noise": lambda: (model(bbb.likelihoods.Gaussian(9.0)), X[:, :1]),
    "stds far too small": lambda: (model(bbb.likelihoods.Gaussian(0.3), std=1e-5), of(GAUSSIAN)),
    "off scale": lambda: (GAUSSIAN, 1e3 * X[:, 1:]),
    "classes": lambda: (model(bbb.likelihoods.Categorical(), 3, prior=5.0), RNG.integers(0, 3, 60)),
}


def report(made, x, y, weights=None):
    return bbb.diagnose(made, None, x, y, draws=DRAWS, sample_weight=weights)


@pytest.mark.parametrize("name", MODELS)
def test_a_weight_says_how_often_a_row_counts(name):
    made, y = MODELS[name]()
    index = np.repeat(np.arange(60), COUNTS)
    weighted, repeated = report(made, X, y, COUNTS), report(made, X[index], y[index])
    assert weighted
    assert list(weighted) == list(repeated)
    assert report(made, X, y, COUNTS / 1.0) == weighted
    assert list(weighted) != list(report(made, X, y))


def test_rows_of_weight_zero_are_absent():
    there, y = COUNTS > 0, of(GAUSSIAN)
    strange = np.where(there[:, None], y, 1e6)
    assert report(GAUSSIAN, X, strange, COUNTS) == report(GAUSSIAN, X[there], y[there], COUNTS[there])


def test_observations_that_are_all_alike_by_their_weights_are_no_overflow():
    found = report(GAUSSIAN, X, np.where(COUNTS[:, None] > 1, 50.0, X[:, :1]), COUNTS > 1)
    assert "R² -inf on these rows" in str(found)


def test_what_is_not_weighted_is_named():
    found = report(GAUSSIAN, X, of(GAUSSIAN), np.ones(60))
    assert [skipped.name for skipped in found.skipped] == ["too sure between the data"]
    assert "It was not looked at whether the model is too sure between the data: it looks for stretches" in str(found)
    assert "Leave sample_weight out to look for them." in str(found)


def test_coverage_of_counts_is_weighted():
    made = model(bbb.likelihoods.Poisson())
    y = np.where(np.arange(60) < 30, 0.0, 20.0)[:, None] + RNG.integers(0, 3, (60, 1))
    narrow = {bool(weights[0]): report(made, X, y, weights) for weights in np.repeat(np.eye(2), 30, axis=1)}
    assert "intervals too narrow" in {finding.name for finding in narrow[False]}
    assert "intervals too narrow" not in {finding.name for finding in narrow[True]}


@pytest.mark.parametrize("rows", ["apart", "together"])
def test_where_rows_meet_all_of_them_are_predicted(rows, monkeypatch):
    seen = []

    def watched(key, made, x, **options):
        seen.append(len(x))
        return predict(key, made, x, **options)

    predict = bbb.predict
    monkeypatch.setattr(bbb.evaluate.diagnosis.api, "predict", watched)
    bbb.diagnose(GAUSSIAN, None, X, of(GAUSSIAN), draws=DRAWS, sample_weight=COUNTS, rows=rows)
    assert seen == [60 if rows == "together" else np.sum(COUNTS > 0)]


def test_ranks_and_medians_are_those_of_rows_so_many_times():
    from scipy import stats

    index = np.repeat(np.arange(60), COUNTS)
    a, b = np.round(RNG.normal(size=60), 1), RNG.normal(size=60)
    found = checks_of_predictive._rank_correlation(a, b, COUNTS)
    there = stats.spearmanr(a[index], b[index])
    np.testing.assert_allclose(found, (there.statistic, there.pvalue), rtol=1e-9)
    assert median_of(b, COUNTS) == np.median(b[index])
    assert median_of(b, None) == np.median(b)


def test_the_figures_of_a_case_are_those_of_rows_so_many_times():
    index, y = np.repeat(np.arange(60), COUNTS), of(GAUSSIAN)
    made = bbb.predict(jax.random.key(1), GAUSSIAN, X, draws=DRAWS)
    again = bbb.predict(jax.random.key(1), GAUSSIAN, X[index], draws=DRAWS)
    one = case.Case(jax.random.key(0), GAUSSIAN, (), X, y, made, DRAWS, weights=COUNTS.astype(float))
    other = case.Case(jax.random.key(0), GAUSSIAN, (), X[index], y[index], again, DRAWS)
    for name in ("count", "size", "explained"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5)
    assert one.variance(y) == pytest.approx(np.var(y[index]), rel=1e-9)
    assert one.median(y) == np.median(y[index])
