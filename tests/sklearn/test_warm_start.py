"""A fit that goes on from the last one: where it starts, what it keeps, and what it refuses."""

import copy

import jax
import numpy as np
import pytest
from sklearn.base import clone

import bbb
from bbb.errors import InputError, ShapeError
from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian, Gaussian
from bbb.sklearn import base
from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor

QUICK = {"hidden_layer_sizes": 5, "steps": 300, "draws": 50, "random_state": 0}


def lines(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 2))
    return X, 3 * X[:, 0] - 2 * X[:, 1] + 0.5 * rng.normal(size=rows)


@pytest.fixture(scope="module", params=["mean_field", pytest.param("laplace", marks=pytest.mark.slow)])
def fitted(request):
    return BayesianMLPRegressor(**QUICK, posterior=request.param).fit(*lines())


@pytest.fixture
def regressor(fitted):
    return copy.deepcopy(fitted).set_params(warm_start=True)


@pytest.fixture
def starts(monkeypatch):
    """Gather the models that trainings start from."""
    seen, true = [], base.BayesianMLP._train

    def watched(self, models, rows, kl_weight):
        seen.append((models, kl_weight))
        return true(self, models, rows, kl_weight)

    monkeypatch.setattr(base.BayesianMLP, "_train", watched)
    return seen


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_it_starts_where_the_last_training_ended(regressor, starts):
    before = copy.deepcopy(regressor)
    regressor.fit(*lines(40, seed=1))
    [([start], kl_weight)] = starts
    assert kl_weight == 1
    assert_same(start.posterior, before._trained.posterior)
    assert_same(start.prior, before.model_.prior)
    assert isinstance(start.likelihood, Gaussian)
    assert start.likelihood.learn
    np.testing.assert_allclose(start.likelihood.std * regressor.y_scaler_.scale_, before.noise_std_, rtol=1e-6)
    assert_same(regressor.x_scaler_.mean_, before.x_scaler_.mean_)
    assert_same(regressor.y_scaler_.scale_, before.y_scaler_.scale_)
    assert regressor.n_samples_seen_ == 40


def test_a_training_of_no_length_changes_nothing(regressor):
    X, y = lines()
    before = regressor.predict(X, of="f")
    if regressor.posterior == "mean_field":
        regressor.set_params(steps=1, learning_rate=1e-12).fit(X, y)
        np.testing.assert_allclose(regressor.predict(X, of="f"), before, rtol=1e-5, atol=1e-5)
    else:
        loss = regressor.loss_curve_.min()
        assert regressor.set_params(steps=50).fit(X, y).loss_curve_[0] < loss + 0.5  # nats; anew it is 60 above
        assert clone(regressor).fit(X, y).loss_curve_[0] > loss + 20


def test_without_it_a_fit_is_anew(regressor):
    X, y = lines()
    anew = regressor.set_params(warm_start=False).fit(X, y).predict(X)
    np.testing.assert_array_equal(anew, clone(regressor).fit(X, y).predict(X))


def test_rows_of_partial_fit_are_no_part_of_the_prior(starts):
    regressor = BayesianMLPRegressor(**QUICK, posterior="mean_field", warm_start=True).fit(*lines())
    regressor.partial_fit(*lines(30, seed=2)).fit(*lines(30, seed=3))
    ([first, *_], _), _, ([last], _) = starts
    assert_same(last.prior, first.prior)
    assert last.likelihood.learn
    assert regressor.n_samples_seen_ == 30


def test_the_posterior_may_be_another_one(regressor, starts):
    other = "laplace" if regressor.posterior == "mean_field" else "mean_field"
    trained = regressor._trained
    regressor.set_params(posterior=other).fit(*lines())
    assert_same(starts[0][0][0].posterior, trained.posterior)
    assert regressor.score(*lines(100, seed=4)) > 0.8


def test_noise_that_varies_goes_on_varying(starts):
    X, y = lines()
    regressor = BayesianMLPRegressor(**QUICK, noise="varying", warm_start=True).fit(X, y)
    likelihood = regressor._trained.likelihood
    regressor.set_params(noise="auto").fit(X, y)
    assert isinstance(likelihood, BoundedHeteroscedasticGaussian)
    assert_same(starts[1][0][0].likelihood, likelihood)
    with pytest.raises(InputError, match=r"Expected noise=\"varying\", as in the last training.*, got 'constant'"):
        regressor.set_params(noise="constant").fit(X, y)


def test_classes(starts):
    X, y = lines()
    classifier = BayesianMLPClassifier(**QUICK, warm_start=True).fit(X, np.where(y > 0, "up", "down"))
    trained = classifier._trained
    classifier.fit(X[:20], np.where(y > 0, "up", "down")[:20])
    assert_same(starts[1][0][0].posterior, trained.posterior)
    before = classifier.predict_proba(X)
    with pytest.raises(InputError, match="Expected y of the classes 'down', 'up', got 'left'"):
        classifier.fit(X, np.where(y > 0, "up", "left"))
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


@pytest.mark.parametrize(
    ("data", "settings", "error", "text"),
    [
        ((np.ones((5, 3)), np.ones(5)), {}, ValueError, "X has 3 features, but BayesianMLPRegressor is expecting 2"),
        ((np.ones((5, 2)), np.ones((5, 2))), {}, ShapeError, "Expected y of 1 targets, got 2"),
        (lines(), {"hidden_layer_sizes": (5, 4)}, ShapeError, r"hidden_layer_sizes of the last training, \(5,\), as"),
        (lines(), {"noise": "varying"}, InputError, "Expected noise=\"constant\", as in the last .*, got 'varying'"),
        (lines(), {"warm_start": "yes"}, InputError, "Expected warm_start to be a bool, got"),
    ],
)
def test_other_shapes_are_refused_and_nothing_is_changed(regressor, data, settings, error, text):
    X, _ = lines()
    before = regressor.predict(X)
    with pytest.raises(error, match=text):
        regressor.set_params(**settings).fit(*data)
    np.testing.assert_array_equal(regressor.predict(X), before)


def test_it_is_a_parameter_like_others():
    assert not BayesianMLPRegressor().warm_start
    assert not BayesianMLPClassifier().warm_start
    assert clone(bbb.sklearn.BayesianMLPClassifier(warm_start=True)).warm_start
