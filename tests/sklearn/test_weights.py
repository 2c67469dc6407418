"""Weights of rows and of classes: a weight of 2 is the row twice, one of 0 is no row, bit for bit."""

import copy

import numpy as np
import pytest
import sklearn
from jax._src import test_util
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bbb.core.tiles import rounded_up
from bbb.errors import InputError
from bbb.sklearn import LogScorer, noise, weights
from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor

QUICK = {"hidden_layer_sizes": 4, "steps": 200, "draws": 50, "random_state": 0}
BY_BOUND = {**QUICK, "posterior": "mean_field"}


def lines(rows=40, seed=0, targets=1):
    """Return rows, targets, and how often each is there."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 2))
    y = 3 * X[:, :1] - 2 * X[:, 1:] + 0.5 * rng.normal(size=(rows, targets))
    return X, y[:, 0] if targets == 1 else y, rng.integers(0, 4, rows)


def repeated(X, y, counts, seed=1):
    """Return each row as often as its count says, in another order."""
    order = np.random.default_rng(seed).permutation(counts.sum())
    return X.repeat(counts, axis=0)[order], y.repeat(counts, axis=0)[order]


# Rows that count


def test_equal_rows_are_one_with_the_sum_of_their_weights():
    X, y = np.array([[1.0, 0.0], [2.0, 3.0], [1.0, -0.0], [1.0, 0.0], [5.0, 5.0]]), np.array([1.0, 1, 1, 2, 1])
    rows = weights.counted(X, y, np.array([0.5, 2, 3, 1, 0]))
    found = {(*x.tolist(), target): weight for x, target, weight in zip(rows.X, rows.y, rows.weights, strict=True)}
    assert found == {(1, 0, 1): 3.5, (2, 3, 1): 2, (1, 0, 2): 1}
    assert rows.total == 6.5
    np.testing.assert_allclose(rows.mean(rows.X), np.average(X, axis=0, weights=[0.5, 2, 3, 1, 0]), rtol=1e-15)


def test_rows_that_differ_and_count_once_are_left_as_they_are():
    X, y, counts = lines()
    for given in (weights.counted(X, y, None), weights.counted(X, y, np.ones(40))):
        np.testing.assert_array_equal(given.X, X)
        assert given.weights is None
        assert given.total == 40
    few = weights.counted(X, y, np.where(counts > 0, 1.0, 0.0))
    np.testing.assert_array_equal(few.X, X[counts > 0])
    assert few.weights is None


def test_neither_order_nor_repetition_matters():
    X, y, counts = lines(targets=2)
    one, other = weights.counted(X, y, counts.astype(float)), weights.counted(*repeated(X, y, counts), None)
    for part, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(part, again)


def test_rows_that_differ_are_told_apart_also_by_the_same_fingerprint(monkeypatch):
    X, y, counts = lines(targets=2)
    monkeypatch.setattr(weights, "_fingerprints", lambda values: np.zeros(len(values), np.uint64))
    one, other = weights.counted(X, y, counts.astype(float)), weights.counted(*repeated(X, y, counts), None)
    assert len(one.X) == np.sum(counts > 0)
    np.testing.assert_array_equal(np.sort(one.weights), np.sort(counts[counts > 0]))
    for part, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(part, again)


def test_fingerprints_of_similar_rows_differ():
    rows = np.stack(np.meshgrid(*[np.arange(-4.0, 4.0)] * 5), axis=-1).reshape(-1, 5)
    assert len(np.unique(weights._fingerprints(rows))) == len(rows) == 8**5


@pytest.mark.parametrize("count", [1, 2, 15, 33, 100, 1000, 1025])
def test_padded_rows_are_few_numbers_of_rows_with_the_same_sums(count):
    rng = np.random.default_rng(0)
    X, y, given = rng.normal(size=(count, 2)), rng.normal(size=(count, 1)), rng.uniform(0.1, 2, count)
    rows = weights.padded(weights.Rows(X, y, given, given))
    assert len(rows.X) == rounded_up(count)
    np.testing.assert_allclose(rows.weights @ rows.X, given @ X, rtol=1e-12)
    np.testing.assert_array_equal(rows.weights[:count], given)
    assert not rows.weights[count:].any()
    plain = weights.padded(weights.Rows(X, y, None, None))
    np.testing.assert_array_equal(plain.weights, np.arange(rounded_up(count)) < count)
    for part, same in zip(plain[:2], rows[:2], strict=True):
        np.testing.assert_array_equal(part, same)


# Estimators


def assert_alike(one, other, X):
    answer = "predict_proba" if hasattr(one, "classes_") else "predict"
    np.testing.assert_array_equal(getattr(one, answer)(X), getattr(other, answer)(X))
    assert one.n_samples_seen_ == other.n_samples_seen_
    if answer == "predict":
        np.testing.assert_array_equal(one.noise_std_, other.noise_std_)


@pytest.mark.parametrize(
    ("settings", "targets"), [(BY_BOUND, 1), ({**BY_BOUND, "hidden_layer_sizes": (3, 3)}, 2), (QUICK, 1)]
)
def test_a_weight_of_two_is_the_row_twice(settings, targets):
    X, y, counts = lines(targets=targets)
    weighted = BayesianMLPRegressor(**settings).fit(X, y, sample_weight=counts)
    twice = BayesianMLPRegressor(**settings).fit(*repeated(X, y, counts))
    assert weighted.n_samples_seen_ == counts.sum()
    assert_alike(weighted, twice, X)
    every = X.repeat(counts, axis=0), y.repeat(counts, axis=0)
    assert weighted.log_score(X, y, counts) == pytest.approx(twice.log_score(*every), rel=1e-12)
    assert weighted.score(X, y, counts) == pytest.approx(twice.score(*every), rel=1e-12)
    assert_alike(
        weighted.partial_fit(X, y, sample_weight=counts), twice.partial_fit(*repeated(X, y, counts, seed=2)), X
    )


@pytest.mark.parametrize("posterior", ["mean_field", "laplace"])
def test_a_weight_of_two_is_the_row_twice_for_classes(posterior):
    X, y, counts = lines()
    labels, settings = np.where(y > 1, "up", "down"), {**QUICK, "posterior": posterior, "class_weight": {"up": 3.0}}
    weighted = BayesianMLPClassifier(**settings).fit(X, labels, sample_weight=counts)
    twice = BayesianMLPClassifier(**settings).fit(*repeated(X, labels, counts))
    assert_alike(weighted, twice, X)
    every = X.repeat(counts, axis=0), labels.repeat(counts)
    assert weighted.log_score(X, labels, counts) == pytest.approx(twice.log_score(*every), rel=1e-12)
    assert weighted.score(X, labels, counts) == pytest.approx(twice.score(*every), rel=1e-12)
    assert_alike(
        weighted.partial_fit(X, labels, sample_weight=counts), twice.partial_fit(*repeated(X, labels, counts)), X
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of chains far too short
def test_a_weight_of_two_is_the_row_twice_for_chains():
    X, y, counts = lines()
    settings = {**QUICK, "posterior": "hmc", "hidden_layer_sizes": 2}
    weighted = BayesianMLPRegressor(**settings).fit(X, y, sample_weight=counts)
    assert_alike(weighted, BayesianMLPRegressor(**settings).fit(*repeated(X, y, counts)), X)


@pytest.mark.parametrize("settings", [BY_BOUND, QUICK])
def test_a_row_of_weight_0_is_absent_and_weights_of_1_are_none(settings):
    X, y, counts = lines()
    some = counts > 0
    absent = BayesianMLPRegressor(**settings).fit(X[some], y[some])
    assert_alike(BayesianMLPRegressor(**settings).fit(X, np.where(some, y, 1e9), sample_weight=some), absent, X)
    assert_alike(BayesianMLPRegressor(**settings).fit(X[some], y[some], np.ones(some.sum())), absent, X)


def test_a_class_of_weight_0_is_no_class():
    X, y, _ = lines()
    labels = np.where(y > 1, "up", np.where(y > 0, "level", "down"))
    model = BayesianMLPClassifier(**BY_BOUND).fit(X, labels, sample_weight=labels != "level")
    assert model.classes_.tolist() == ["down", "up"]
    some = labels != "level"
    again = copy.deepcopy(model).partial_fit(X[some], labels[some])
    assert_alike(model.partial_fit(X, labels, sample_weight=some), again, X)
    with pytest.raises(InputError, match="labels of at least two classes, got one class, 'up'"):
        model.fit(X, labels, sample_weight=labels == "up")


@pytest.mark.slow
def test_noise_follows_the_weights():
    """Of two halves of the rows, with noise of 0.1 and 1, the one that counts decides."""
    rng = np.random.default_rng(0)
    X, std = rng.normal(size=(200, 1)), np.where(np.arange(200) < 100, 0.1, 1.0)
    y = std * rng.normal(size=200)
    for posterior in ("mean_field", "laplace"):
        model = BayesianMLPRegressor(2, steps=800, posterior=posterior, noise="constant", draws=50, random_state=0)
        quiet, loud = (model.fit(X, y, np.where(std == kept, 1, 1e-3)).noise_std_[0] for kept in (0.1, 1))
        assert quiet == pytest.approx(0.1, rel=0.3)
        assert loud == pytest.approx(1, rel=0.3)


def test_the_test_for_noise_that_varies_counts_rows_by_weight():
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        x, counts = rng.uniform(-1, 1, (60, 2)), rng.integers(0, 4, 60)
        residuals = (1 + 0.4 * x[:, :1]) * rng.standard_normal((60, 2))
        every = x.repeat(counts, axis=0), residuals.repeat(counts, axis=0)
        found.append(
            (noise.varies(x, residuals, counts.astype(float)), noise.varies(*every), noise.varies(x, residuals))
        )
    weighted, twice, plain = np.transpose(found)
    np.testing.assert_array_equal(weighted, twice)
    assert (weighted != plain).any()
    assert 20 < weighted.sum() < 180


@pytest.mark.slow
def test_numbers_of_distinct_rows_share_compiled_programs():
    X, y, counts = lines()
    few = counts.copy()
    few[np.argmax(counts > 0)] = 0  # one row less
    assert {len(weights.padded(weights.counted(X, y, each.astype(float))).X) for each in (counts, few)} == {32}
    BayesianMLPRegressor(**QUICK).fit(X, y, counts).predict(X)
    with test_util.count_jit_compilation_cache_miss() as compiled:
        BayesianMLPRegressor(**QUICK).fit(X, y, few).predict(X)
    assert compiled() == 0


# Classes


def test_balanced_classes_count_alike():
    labels, classes = np.array([0] * 6 + [1] * 2), np.array(["a", "b", "c"])
    X = np.arange(8.0)[:, None]
    plain = weights.class_factors("balanced", classes, weights.counted(X, labels, None))
    np.testing.assert_allclose(plain, np.where(labels == 0, 8 / (2 * 6), 8 / (2 * 2)), rtol=1e-15)
    given = np.array([1.0, 1, 1, 1, 1, 1, 3, 3])
    rows = weights.counted(X, labels, given)
    rows = rows.times(weights.class_factors("balanced", classes, rows))
    assert rows.weights.sum() == pytest.approx(12)
    np.testing.assert_allclose([rows.weights[rows.y == k].sum() for k in (0, 1)], [6, 6])
    np.testing.assert_allclose(rows.counts.sum(), 12)
    of_dict = weights.class_factors({"b": 4}, classes, weights.counted(X, labels, None))
    np.testing.assert_array_equal(of_dict, np.where(labels == 1, 4, 1))
    assert weights.class_factors(None, classes, rows) is None


@pytest.mark.parametrize("posterior", ["mean_field", pytest.param("laplace", marks=pytest.mark.slow)])
def test_probabilities_are_those_of_the_shares_that_are_asked_for(posterior):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 1)), np.repeat(["rare", "usual"], [20, 180])  # X says nothing
    settings = {**QUICK, "steps": 500, "posterior": posterior}
    for class_weight, share in ((None, 0.1), ("balanced", 0.5), ({"rare": 27.0}, 0.75)):
        model = BayesianMLPClassifier(**settings, class_weight=class_weight).fit(X, y)
        assert model.predict_proba(X)[:, 0].mean() == pytest.approx(share, abs=0.07)
        assert model.n_samples_seen_ == 200


# Metadata routing


@pytest.mark.parametrize("kind", [BayesianMLPRegressor, BayesianMLPClassifier])
def test_weights_are_routed_through_pipelines_and_searches(kind):
    X, y, counts = lines()
    y = y > 0 if kind is BayesianMLPClassifier else y
    folds, name = KFold(2), kind.__name__.lower()
    with sklearn.config_context(enable_metadata_routing=True):
        model = kind(**BY_BOUND).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        scorer = LogScorer().set_score_request(sample_weight=True)
        search = GridSearchCV(pipeline, {f"{name}__prior_gain": [0.1, 2.0]}, cv=folds, scoring=scorer)
        search.fit(X, y, sample_weight=counts)
    scores = []
    for train, test in folds.split(X):
        scaled = StandardScaler().fit(X[train])
        own = kind(**BY_BOUND, prior_gain=0.1).fit(scaled.transform(X[train]), y[train], counts[train])
        scores.append(own.log_score(scaled.transform(X[test]), y[test], counts[test]))
    found = [search.cv_results_[f"split{k}_test_score"][0] for k in range(2)]
    np.testing.assert_allclose(found, scores, rtol=1e-12)
    assert search.best_estimator_[-1].n_samples_seen_ == counts.sum()


def test_scores_of_a_pipeline_take_weights_that_are_asked_for():
    X, y, counts = lines()
    with sklearn.config_context(enable_metadata_routing=True):
        model = BayesianMLPRegressor(**BY_BOUND).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, model.set_score_request(sample_weight=True))
        pipeline.fit(X, y, sample_weight=counts)
        score = pipeline.score(X, y, sample_weight=counts)
    assert score == model.score(pipeline[0].transform(X), y, counts) != model.score(pipeline[0].transform(X), y)
    assert LogScorer()(pipeline, X, y, counts) == model.log_score(pipeline[0].transform(X), y, counts)
