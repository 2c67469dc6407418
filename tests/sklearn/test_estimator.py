"""The estimators within scikit-learn, their answers for rows alone and together, and what they refuse."""

import copy
import dataclasses
import functools
import importlib
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import test_util
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bbb
from bbb.objectives.objective import exact_elbo_cost
from bbb.sklearn import base, training
from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor

QUICK = {"hidden_layer_sizes": 8, "steps": 4000, "draws": 300, "random_state": 0}


def lines(rows=120, seed=0, targets=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 2))
    y = 3 * X[:, 0] - 2 * X[:, 1] + 0.5 * rng.normal(size=rows)
    return X, y if targets == 1 else np.column_stack([1000 + 100 * y, -y])


@pytest.fixture(scope="module")
def regressor():
    return BayesianMLPRegressor(**QUICK).fit(*lines())


@pytest.fixture(scope="module")
def classifier():
    X, y = load_iris(return_X_y=True)
    return BayesianMLPClassifier(**QUICK).fit(X, np.array(["setosa", "versicolor", "virginica"])[y])


# What is computed


def test_repeated_rows_count_as_the_rows_given():
    x, y = np.arange(300.0)[:, None], np.arange(300.0)[:, None]
    many_x, many_y = training.repeated(x, y)
    assert many_x.shape == (512, 1)
    assert many_y.shape == (512, 2)
    np.testing.assert_array_equal(many_x, many_y[:, :1])
    np.testing.assert_array_equal(np.bincount(many_x[:, 0].astype(int), weights=many_y[:, 1]), np.ones(300))


@pytest.mark.parametrize(
    ("likelihood", "y"),
    [(bbb.likelihoods.Gaussian(0.3), np.ones((4, 2))), (bbb.likelihoods.Categorical(), np.array([0, 1, 1, 0]))],
    ids=["gaussian", "categorical"],
)
def test_the_bound_of_repeated_rows_is_that_of_the_rows_given(likelihood, y, dtype):
    x = np.linspace(-1, 1, 8).reshape(4, 2)
    network = bbb.nn.linear(2, 2)
    model = bbb.bayesianize(
        network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=likelihood
    )
    weighted = dataclasses.replace(model, likelihood=training.WeightedRows(likelihood))
    elbo = jax.jit(bbb.objectives.negative_elbo)
    _, plain = elbo(jax.random.key(1), model, x, y)
    _, repeated = elbo(jax.random.key(1), weighted, *training.repeated(x, y))
    np.testing.assert_allclose(repeated.data_term, plain.data_term, rtol=1e-5 if dtype == "float32" else 1e-12)
    assert repeated.kl == plain.kl


def test_the_exact_bound_counts_a_row_as_much_as_its_weight():
    noise, rng = bbb.likelihoods.Gaussian(np.array([0.3, 2.0])), np.random.default_rng(0)
    y, mean, variance, weights = (jnp.asarray(rng.uniform(0.1, 1, (5, columns))) for columns in (2, 2, 2, 1))
    got = training.WeightedRows(noise).expected_log_prob(jnp.hstack([y, weights]), mean, variance)
    np.testing.assert_allclose(got, weights[:, 0] * noise.expected_log_prob(y, mean, variance), rtol=1e-6)


def test_one_hidden_layer_is_trained_without_draws():
    one, four = (
        BayesianMLPRegressor(**QUICK, posterior="mean_field", draws_per_step=draws).fit(*lines()) for draws in (1, 4)
    )
    np.testing.assert_array_equal(one.loss_curve_, four.loss_curve_)


def test_it_learns_a_line_and_its_noise(regressor):
    X, y = lines(400, seed=1)
    assert regressor.score(X, y) > 0.95
    assert regressor.noise_std_ == pytest.approx(0.5, rel=0.3)
    lower, upper = regressor.predict_interval(X, coverage=0.9)
    error = np.sqrt(0.9 * 0.1 / 400)
    assert np.mean((lower <= y) & (y <= upper)) == pytest.approx(0.9, abs=6 * error)


def test_it_is_the_library_underneath(regressor):
    X, _ = lines(64, seed=1)
    key = regressor._key(base.PREDICT)
    band = bbb.predict(key, regressor.model_, regressor.x_scaler_.transform(X), draws=300, levels=(0.9,))
    scale, shift = regressor.y_scaler_.scale_, regressor.y_scaler_.mean_
    mean, std = regressor.predict(X, return_std=True)
    np.testing.assert_allclose(mean, band.y.mean[:, 0] * scale + shift, rtol=1e-6)
    np.testing.assert_allclose(std, band.y.std[:, 0] * scale, rtol=1e-6)
    np.testing.assert_allclose(regressor.predict(X, return_std=True, of="f")[1], band.f.std[:, 0] * scale, rtol=1e-6)
    np.testing.assert_allclose(
        regressor.predict_interval(X, 0.9).upper, band.y.interval(0.9).upper[:, 0] * scale + shift, rtol=1e-6
    )


def test_quantiles_come_in_the_order_asked_for(regressor):
    X, _ = lines(5, seed=1)
    low, high = regressor.predict_quantiles(X, (0.1, 0.9)).T
    np.testing.assert_array_equal(regressor.predict_quantiles(X, (0.9, 0.1)).T, [high, low])
    assert (low < high).all()


def test_samples_have_the_mean_and_the_std_of_y(regressor):
    X, _ = lines(30, seed=2)
    mean, std = regressor.predict(X, return_std=True)
    samples = regressor.sample_y(X, 4000, random_state=3)
    assert samples.shape == (30, 4000)
    # Both sides are estimates: the predictions of 300 draws of f, whose spread is part of std.
    f_std = regressor.predict(X, return_std=True, of="f")[1]
    assert np.abs((samples.mean(axis=1) - mean) / np.sqrt(std**2 / 4000 + f_std**2 / 300)).max() < 5
    np.testing.assert_allclose(samples.std(axis=1), std, rtol=5 / np.sqrt(2 * 300))
    np.testing.assert_array_equal(samples, regressor.sample_y(X, 4000, random_state=3))


def test_drawn_labels_have_the_probabilities_of_the_draws(classifier):
    X, _ = load_iris(return_X_y=True)
    X, count = X[70:85], 4000
    drawn, probabilities = classifier.sample_y(X, count, random_state=3), classifier.predict_proba(X)
    assert drawn.shape == (15, count)
    assert set(drawn.ravel()) <= set(classifier.classes_)
    shares = np.stack([np.mean(drawn == label, axis=1) for label in classifier.classes_], axis=1)
    # Both sides are estimates: the predictions of 300 draws of probabilities, whose variance is at most p·(1 − p).
    error = np.sqrt(probabilities * (1 - probabilities) * (1 / count + 1 / 300) + 1e-6)
    assert np.abs((shares - probabilities) / error).max() < 5
    np.testing.assert_array_equal(drawn, classifier.sample_y(X, count, random_state=3))
    np.testing.assert_array_equal(drawn[3:5], classifier.sample_y(X, count, random_state=3)[3:5])


def test_one_draw_of_labels_is_of_one_draw_of_the_weights(monkeypatch, classifier):
    X, _ = load_iris(return_X_y=True)
    sure = copy.deepcopy(classifier)
    x, random = sure.x_scaler_.transform(X), np.random.RandomState(3)
    key = jax.random.key(int(random.randint(2**31 - 1)))
    logits = 1e6 * np.asarray(bbb.draws(key, sure.model_, x, draws=5))  # of which each label is certain
    monkeypatch.setattr(base, "draws", lambda key, model, tile, draws: 1e6 * bbb.draws(key, model, tile, draws=draws))
    np.testing.assert_array_equal(sure.sample_y(X, 5, random_state=3).T, sure.classes_[logits.argmax(axis=-1)])


def test_the_log_score_is_that_of_the_mixture_in_original_units(regressor):
    X, y = lines(20, seed=4)
    key, x = regressor._key(base.PREDICT), regressor.x_scaler_.transform(X)
    f = np.asarray(bbb.draws(key, regressor.model_, x, draws=300), np.float64)[:, :, 0]
    f = f * regressor.y_scaler_.scale_ + regressor.y_scaler_.mean_
    std = regressor.noise_std_
    density = np.mean(np.exp(-0.5 * ((y - f) / std) ** 2), axis=0) / (std * np.sqrt(2 * np.pi))
    assert regressor.log_score(X, y) == pytest.approx(np.mean(np.log(density)), rel=1e-4)


def test_several_targets_each_in_its_units():
    X, y = lines(targets=2)
    model = BayesianMLPRegressor(**QUICK).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == model.predict_interval(X).lower.shape == (120, 2)
    assert model.predict_quantiles(X, (0.2, 0.5, 0.8)).shape == model.sample_y(X, 3).shape == (120, 2, 3)
    assert model.score(X, y) > 0.9
    np.testing.assert_allclose(model.noise_std_, [50, 0.5], rtol=0.3)


def test_a_row_is_answered_alike_in_any_company(regressor, classifier):
    X, _ = lines(150, seed=5)
    together = regressor.predict_quantiles(X), regressor.predict(X, return_std=True)[1]
    for rows in (slice(70, 71), slice(None, None, -1), slice(3, 140)):
        np.testing.assert_array_equal(regressor.predict_quantiles(X[rows]), together[0][rows])
        np.testing.assert_array_equal(regressor.predict(X[rows], return_std=True)[1], together[1][rows])
    flowers, _ = load_iris(return_X_y=True)
    np.testing.assert_array_equal(classifier.predict_proba(flowers[7:9]), classifier.predict_proba(flowers)[7:9])


def test_new_numbers_of_rows_and_new_data_compile_nothing():
    """Of Bayes by backprop, rows are repeated up to a power of two; by the evidence, filled up to one of few counts."""
    for posterior, rows in (("mean_field", 77), ("laplace", 77)):
        quick = BayesianMLPRegressor(**QUICK, posterior=posterior)
        quick.fit(*lines(80, seed=2)).predict_interval(lines(2)[0])
        with test_util.count_jit_compilation_cache_miss() as compiled:
            clone(quick).fit(*lines(rows, seed=8)).predict_interval(lines(131)[0])
        assert compiled() == 0, posterior


@pytest.mark.parametrize(("posterior", "most"), [("mean_field", 6), ("laplace", 10)])
def test_a_first_cross_validation_compiles_few_programs(posterior, most):
    """No array of zeros, no cast and no index is a program of its own, for each shape that it has."""
    X, y = lines(102, seed=3)  # folds of 81 and 82 rows
    every = np.column_stack([X] * 5)[:, :5]  # of a shape that no other test has
    quick = BayesianMLPRegressor(**QUICK | {"hidden_layer_sizes": 7, "steps": 200}, posterior=posterior)
    clone(quick).set_params(posterior="mean_field").fit(X, y).predict(X)  # the small things that any training shares
    with test_util.count_jit_compilation_cache_miss() as compiled:
        cross_val_score(quick, every, y, cv=5)
    assert 0 < compiled() <= most


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 2])
@pytest.mark.parametrize("use", [(2,), (0, 1), (3, 17)])
def test_the_keys_are_those_of_jax_folded_one_by_one(seed, use):
    expected = functools.reduce(jax.random.fold_in, use, jax.random.key(seed))
    regressor = BayesianMLPRegressor()
    regressor.seed_ = seed
    np.testing.assert_array_equal(jax.random.key_data(regressor._key(*use)), jax.random.key_data(expected))


def test_classes_of_any_label(classifier):
    X, y = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert classifier.score(X, labels) > 0.93
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[probabilities.argmax(axis=1)])
    right = probabilities[np.arange(150), y]
    assert classifier.log_score(X, labels) == pytest.approx(np.mean(np.log(right)), rel=1e-3)
    entropy = classifier.predict_entropy(X)
    np.testing.assert_allclose(entropy.total, entropy.aleatoric + entropy.epistemic, atol=1e-5)


# More rows


def test_more_rows_narrow_the_function_around_the_truth(regressor):
    model, (X, _) = copy.deepcopy(regressor), lines(50, seed=9)
    before = model.predict(X, return_std=True, of="f")[1]
    for seed in (10, 11):
        model.partial_fit(*lines(120, seed=seed))
    assert model.n_samples_seen_ == 360
    assert np.median(model.predict(X, return_std=True, of="f")[1]) < 0.85 * np.median(before)
    assert model.noise_std_ == pytest.approx(0.5, rel=0.2)
    assert model.score(*lines(400, seed=1)) > 0.95


def test_one_more_row_changes_little(regressor):
    model, (X, _) = copy.deepcopy(regressor), lines(50, seed=9)
    before, f_std = model.predict(X, return_std=True, of="f")
    model.partial_fit(np.zeros((1, 2)), np.zeros(1))
    assert np.abs((model.predict(X) - before) / f_std).max() < 2
    assert model.noise_std_ == pytest.approx(regressor.noise_std_, rel=0.1)


def test_a_first_partial_fit_is_a_fit(regressor):
    first = BayesianMLPRegressor(**QUICK).partial_fit(*lines())
    np.testing.assert_array_equal(first.predict(lines()[0]), regressor.predict(lines()[0]))


def test_classes_may_be_named_before_they_are_seen():
    X, y = load_iris(return_X_y=True)
    model = BayesianMLPClassifier(**QUICK).partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (150, 3)
    model.partial_fit(X[100:], y[100:])
    assert model.predict_proba(X[100:])[:, 2].mean() > 0.5


# Within scikit-learn and with its friends


def test_it_pickles_and_copies(regressor):
    X, _ = lines(10, seed=1)
    for other in (pickle.loads(pickle.dumps(regressor)), copy.deepcopy(regressor)):
        np.testing.assert_array_equal(other.predict_interval(X), regressor.predict_interval(X))
    assert clone(regressor).get_params() == regressor.get_params()


def test_it_works_in_pipelines_searches_and_transforms():
    X, y = lines()
    pipeline = make_pipeline(StandardScaler(), BayesianMLPRegressor(**QUICK))
    assert pipeline.fit(X, y).predict(X, return_std=True)[1].shape == (120,)
    search = GridSearchCV(BayesianMLPRegressor(**QUICK), {"prior_gain": [0.01, 2.0]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.9
    assert np.corrcoef(cross_val_predict(BayesianMLPRegressor(**QUICK), X, y, cv=3), y)[0, 1] > 0.95
    logs = TransformedTargetRegressor(BayesianMLPRegressor(**QUICK), func=np.log, inverse_func=np.exp)
    assert np.corrcoef(np.log(logs.fit(X, np.exp(y)).predict(X)), y)[0, 1] > 0.95


def test_data_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    X, y = lines()
    frame = pandas.DataFrame(X, columns=["a", "b"])
    model = BayesianMLPRegressor(**QUICK).fit(frame, pandas.Series(y))
    assert model.feature_names_in_.tolist() == ["a", "b"]
    assert model.log_score(frame, y) == BayesianMLPRegressor(**QUICK).fit(X, y).log_score(X, y)
    model.partial_fit(frame, pandas.Series(y))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"a": "c"}))


def test_mapie_takes_it():
    regression = pytest.importorskip("mapie.regression")
    X, y = lines()
    conformal = regression.SplitConformalRegressor(
        BayesianMLPRegressor(**QUICK), confidence_level=0.9, prefit=False
    ).fit(X, y)
    new_X, new_y = lines(200, seed=1)
    _, interval = conformal.conformalize(*lines(100, seed=2)).predict_interval(new_X)
    inside = (interval[:, 0, 0] <= new_y) & (new_y <= interval[:, 1, 0])
    assert inside.mean() > 0.8


@pytest.mark.filterwarnings("ignore")  # of skpro's own
def test_skpro_takes_it():
    adapters = pytest.importorskip("skpro.regression.adapters.sklearn")
    pandas = pytest.importorskip("pandas")
    X, y = lines()
    frame, target = pandas.DataFrame(X, columns=["a", "b"]), pandas.DataFrame({"y": y})
    adapted = adapters.SklearnProbaReg(BayesianMLPRegressor(**QUICK)).fit(frame, target)
    mean, std = BayesianMLPRegressor(**QUICK).fit(X, y).predict(X, return_std=True)
    predicted = adapted.predict_proba(frame)
    np.testing.assert_allclose(predicted.mean().to_numpy()[:, 0], mean)
    np.testing.assert_allclose(np.sqrt(predicted.var().to_numpy()[:, 0]), std)


# Edges and bad input


def test_a_constant_column_and_a_single_row_are_no_trouble():
    X, y = lines()
    model = BayesianMLPRegressor(**QUICK).fit(np.column_stack([X[:, 0], np.full(len(X), 7.0)]), y)
    assert np.isfinite(model.predict([[0.0, 7.0], [0.0, 8.0]], return_std=True)).all()
    one = BayesianMLPRegressor(**QUICK).fit([[1.0, 2.0]], [3.0])
    mean, std = one.predict([[1.0, 2.0], [5.0, 5.0]], return_std=True)
    assert np.isfinite(mean).all()
    assert mean[0] == pytest.approx(3, abs=3 * std[0])


def test_float64_weights_and_deeper_networks():
    X, y = lines(20)
    with jax.enable_x64(True):
        model = BayesianMLPRegressor(hidden_layer_sizes=(4, 3), activation="tanh", steps=5, draws=10).fit(X, y)
        weight = model.model_.posterior.params[2]["weight"]
        assert jnp.shape(weight) == (3, 4)
        assert weight.dtype == np.float64
        assert np.isfinite(model.predict_interval(X)).all()
    assert len(model.loss_curve_) == 1
    assert len(BayesianMLPRegressor((4,), steps=120, draws=10).fit(X, y).loss_curve_) == 3


@pytest.mark.parametrize(
    ("kind", "settings", "units", "exact"),
    [
        (BayesianMLPRegressor, {}, "gelu", None),
        (BayesianMLPRegressor, {"posterior": "mean_field"}, "relu", True),
        (BayesianMLPRegressor, {"posterior": "mean_field", "activation": "gelu"}, "gelu", False),
        (BayesianMLPClassifier, {}, "relu", False),
        (BayesianMLPClassifier, {"posterior": "laplace"}, "gelu", None),
    ],
)
def test_units_and_bound_go_with_the_posterior(monkeypatch, kind, settings, units, exact):
    """The exact bound is used where it is in closed form; None: nothing is trained by a bound."""
    seen, true = [], training.fit

    def spied(*args, objective, **options):
        seen.append(objective.cost is exact_elbo_cost)
        return true(*args, objective=objective, **options)

    monkeypatch.setattr(training, "fit", spied)
    X, y = lines(20)
    model = kind(4, steps=50, draws=10, **settings).fit(X, y > 0 if kind is BayesianMLPClassifier else y)
    assert [layer.function for layer in model.model_.apply.owner.layers if hasattr(layer, "function")] == [units]
    assert seen == ([] if exact is None else [exact])
    assert kind().activation is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"activation": "step"}, "Expected activation to be one of relu, tanh, gelu, softplus, got 'step'"),
        ({"steps": 0}, "Expected steps to be a whole number of at least 1, got 0"),
        ({"hidden_layer_sizes": (5, 0)}, "at least 1, got 0"),
        ({"prior_gain": -1.0}, "Expected gain to be finite and above 0, got -1"),
        ({"kl_warm_up": -0.1}, "Expected kl_warm_up to be one finite number of at least 0"),
        ({"learning_rate": 0.0}, "Expected learning_rate to be finite and above 0"),
    ],
)
def test_settings_without_a_meaning_are_named(settings, text):
    with pytest.raises(bbb.errors.InputError, match=text):
        BayesianMLPRegressor(**settings).fit(*lines())


def test_without_scikit_learn_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "bbb.sklearn")
    with pytest.raises(ImportError, match=r"need scikit-learn: pip install scikit-learn; or, in a clone of bbb, pip"):
        importlib.import_module("bbb.sklearn")


def test_one_class_is_refused():
    with pytest.raises(bbb.errors.InputError, match="Expected labels of at least two classes, got one class, 'a'"):
        BayesianMLPClassifier().fit(np.eye(3), ["a", "a", "a"])


def test_labels_never_seen_are_named(classifier):
    X, _ = load_iris(return_X_y=True)
    strange = np.array(["rosa"] * 150)
    for method in (classifier.score, classifier.log_score, copy.deepcopy(classifier).partial_fit):
        with pytest.raises(bbb.errors.InputError, match=r"of the classes 'setosa', .*, got 'rosa'"):
            method(X, strange)


def test_unfitted_use_and_other_columns_are_named(regressor):
    X, y = lines()
    for method in ("predict", "predict_interval", "sample_y"):
        with pytest.raises(NotFittedError):
            getattr(BayesianMLPRegressor(), method)(X)
    with pytest.raises(ValueError, match="X has 3 features, but BayesianMLPRegressor is expecting 2"):
        regressor.predict(np.zeros((1, 3)))
    with pytest.raises(bbb.errors.ShapeError, match="Expected y of 1 targets, got 2"):
        copy.deepcopy(regressor).partial_fit(X, np.column_stack([y, y]))


def test_questions_without_an_answer_are_named(regressor):
    X, _ = lines(3)
    with pytest.raises(bbb.errors.InputError, match='Expected of to be "y" or "f", got \'g\''):
        regressor.predict(X, of="g")
    with pytest.raises(bbb.errors.InputError, match="coverage"):
        regressor.predict_interval(X, coverage=1.0)
    with pytest.raises(bbb.errors.InputError, match="quantile"):
        regressor.predict_quantiles(X, (0.5, 1.5))
    with pytest.raises(bbb.errors.InputError, match="n_samples"):
        regressor.sample_y(X, 0)


# Real data


@pytest.fixture
def uci(uci_csv):
    def load(name, split):
        train, test = (np.loadtxt(path, delimiter=",", skiprows=1) for path in uci_csv(name, split))
        return train[:, :-1], train[:, -1], test[:, :-1], test[:, -1]

    return load


def rmse(predicted, y):
    return np.sqrt(np.mean((predicted - y) ** 2))


OF_DEFAULTS = """
import sys
import numpy as np
from bbb.sklearn import BayesianMLPRegressor

X, y, new_X = map(np.load, sys.argv[1:4])
np.save(sys.argv[4], BayesianMLPRegressor(random_state=0).fit(X, y).predict(new_X))
"""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["concrete", "energy"])
def test_defaults_beat_the_defaults_of_mlp_regressor(name, uci, tmp_path):
    """In a process with XLA's own optimisation: half a minute, where that of the suite takes more than a minute."""
    X, y, new_X, new_y = uci(name, 0)
    paths = [str(tmp_path / f"{part}.npy") for part in ("X", "y", "new_X", "predicted")]
    for path, array in zip(paths, (X, y, new_X), strict=False):
        np.save(path, array)
    subprocess.run([sys.executable, "-c", OF_DEFAULTS, *paths], env=os.environ | {"XLA_FLAGS": ""}, check=True)
    ours = rmse(np.load(paths[-1]), new_y)
    plain = MLPRegressor(random_state=0)
    for other in (plain, make_pipeline(StandardScaler(), plain)):
        assert ours < rmse(other.fit(X, y).predict(new_X), new_y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_defaults_beat_the_log_score_of_a_gaussian_process_on_energy(uci):
    ours, theirs = [], []
    for split in range(5):
        X, y, new_X, new_y = uci("energy", split)
        ours.append(BayesianMLPRegressor(random_state=0).fit(X, y).log_score(new_X, new_y))
        process = GaussianProcessRegressor(RBF() + WhiteKernel(), normalize_y=True, random_state=0)
        mean, std = make_pipeline(StandardScaler(), process).fit(X, y).predict(new_X, return_std=True)
        theirs.append(np.mean(-0.5 * ((new_y - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)))
    assert np.mean(ours) > np.mean(theirs)
