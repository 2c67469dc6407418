"""What to ask next of a fitted estimator: the same functions, in the units of its y."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn")

from bbb.decide import acquisition
from bbb.sklearn import BayesianMLPClassifier, BayesianMLPRegressor
from tests.decide_acquire.models import KEY

QUICK = {"hidden_layer_sizes": (4,), "steps": 60, "draws": 4_000, "posterior": "mean_field", "random_state": 0}


def rows():
    rng = np.random.default_rng(0)
    X = rng.uniform(-40, 40, (30, 2)) + 100
    return X, 1000 + 50 * np.sin(X[:, 0] / 20) + rng.normal(size=30)


@pytest.fixture(scope="module", params=["constant", "varying"])
def regressor(request):
    return BayesianMLPRegressor(**QUICK, noise=request.param).fit(*rows())


def test_scores_of_a_regressor_are_in_units_of_y(regressor):
    X, y = rows()
    model, x = regressor.as_bnn(X)
    mean, std = regressor.predict(X, return_std=True, of="f")
    bound = acquisition.upper_confidence_bound(regressor._key(2), model, x, 1.0, draws=4_000)
    np.testing.assert_allclose(bound, mean + std, rtol=1e-4)
    improvement = acquisition.expected_improvement(KEY, model, x, y.max())
    assert (improvement >= 0).all()
    assert improvement.max() < 5 * std.max()
    noise = np.asarray(model.likelihood.variance(model.apply(model.posterior.mean, np.float32(x))))[:, 0]
    expected = regressor.predict_noise_std(X).reshape(-1)
    np.testing.assert_allclose(np.sqrt(noise), expected, rtol=0.35)  # of the means, and over the draws


def test_a_thompson_sample_of_a_regressor_is_a_draw_of_f(regressor):
    X, _ = rows()
    found = np.asarray(acquisition.thompson(KEY, *regressor.as_bnn(X), 2_000))[..., 0]
    mean = regressor.predict(X, of="f")
    assert np.max(np.abs(found.mean(axis=0) - mean) / (found.std(axis=0) / np.sqrt(1_000))) < 4


def test_of_a_classifier_bald_is_its_epistemic_entropy():
    X, y = rows()
    classifier = BayesianMLPClassifier(**QUICK | {"draws": 200}).fit(X, y > y.mean())
    found = acquisition.bald(KEY, *classifier.as_bnn(X), draws=200)
    assert found.shape == (30,)
    assert (found >= 0).all()
    batch = acquisition.choose_batch(KEY, *classifier.as_bnn(X), 3, draws=100)
    assert len(set(batch.rows)) == 3


def test_an_estimator_that_is_not_fitted_is_refused():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        BayesianMLPRegressor().as_bnn(rows()[0])
