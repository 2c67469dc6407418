"""Tables in original units, and the two UCI sets the issue names."""

import dataclasses

import jax
import numpy as np
import pytest

import bbb
from bbb.evaluate.diagnosis import of_training
from bbb.io import models
from bbb.tables import csv, fit
from bbb.tables import model as model_module
from bbb.tables import recipe as recipe_module

QUICK = recipe_module.Recipe(hidden=10, epochs=300, posterior="mean_field")


def lines(rows=80, seed=0, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    y = 3 * x[:, :1] - np.abs(x[:, 1:]) + 0.1 * rng.normal(size=(rows, 1))
    return csv.Table("made.csv", ("a", "b", "y"), np.hstack([x, scale * y + shift]))


@pytest.fixture(scope="module")
def learned():
    return fit.fit_table(lines(), "y", recipe=QUICK, progress=False)


def test_it_learns(learned):
    scores = learned[0].evaluate(lines(seed=1), draws=500)
    assert scores["rows"] == 80
    assert scores["rmse"] < 0.5
    assert scores["coverage"] > 0.8


@pytest.mark.parametrize(("activation", "exact"), [("relu", True), ("tanh", False)])
def test_one_hidden_layer_of_measurements_is_trained_without_draws_where_the_bound_is_in_closed_form(activation, exact):
    settings = {"hidden": 10, "epochs": 3, "activation": activation, "posterior": "mean_field"}
    recipes = [recipe_module.Recipe(**settings, draws_per_step=draws) for draws in (1, 4)]
    one, four = (fit.fit_table(lines(), "y", recipe=recipe, progress=False)[1].loss for recipe in recipes)
    assert np.array_equal(one, four) == exact


WORDS, COUNTS, NUMBERS = np.array(["a", "b"]), np.array([0.0, 1.0, 5.0]), np.array([0.5, 1.5, 2.5])


@pytest.mark.parametrize(
    ("target", "given", "chosen"),
    [
        (NUMBERS, {}, ("gaussian", "laplace", "gelu")),
        (NUMBERS, {"activation": "tanh"}, ("gaussian", "laplace", "tanh")),
        (NUMBERS, {"posterior": "mean_field"}, ("gaussian", "mean_field", "relu")),
        (NUMBERS, {"likelihood": "student-t"}, ("student-t", "mean_field", "relu")),
        (NUMBERS, {"prior": "mixture"}, ("gaussian", "mean_field", "relu")),
        (NUMBERS, {"prior": "mixture", "posterior": "hmc"}, ("gaussian", "hmc", "gelu")),
        (COUNTS, {}, ("poisson", "mean_field", "relu")),
        (COUNTS, {"likelihood": "gaussian"}, ("gaussian", "laplace", "gelu")),
        (WORDS, {}, ("categorical", "mean_field", "relu")),
        (WORDS, {"posterior": "laplace"}, ("categorical", "laplace", "gelu")),
    ],
)
def test_what_is_left_open_is_chosen_by_the_target(target, given, chosen):
    found = recipe_module.Recipe(**given).chosen(target)
    assert (found.likelihood, found.posterior, found.activation) == chosen
    assert found == found.chosen(target)


def test_with_no_option_given_measurements_get_a_laplace_posterior():
    model, _ = fit.fit_table(lines(), "y", recipe=recipe_module.Recipe(hidden=4, epochs=2), progress=False)
    assert model.structure == "full"
    with pytest.raises(bbb.errors.InputError, match=r"Expected mesh to be a jax\.sharding\.Mesh, got a str"):
        model.predict(lines(rows=4), mesh="cpu")  # which it does not need
    assert [layer.function for layer in model.model.apply.owner.layers if hasattr(layer, "function")] == ["gelu"]


def test_results_are_in_original_units(learned):
    model, _ = fit.fit_table(lines(scale=1000.0, shift=5000.0), "y", recipe=QUICK, progress=False)
    small, large = (m.predict(lines(seed=1), draws=500).y for m in (learned[0], model))
    np.testing.assert_allclose(large.mean, 1000 * small.mean + 5000, rtol=1e-2)
    np.testing.assert_allclose(large.std, 1000 * small.std, rtol=5e-2)
    assert model.noise_std == pytest.approx(1000 * learned[0].noise_std, rel=5e-2)


def test_the_order_of_columns_does_not_matter_to_predict(learned):
    given = lines(seed=1)
    turned = csv.Table("made.csv", ("y", "b", "a"), given.values[:, ::-1])
    first, second = (learned[0].predict(t, draws=50).f.mean for t in (given, turned))
    np.testing.assert_array_equal(first, second)


def test_a_mesh_is_passed_on(learned):
    model, given = learned[0], lines(rows=4)
    with pytest.raises(bbb.errors.InputError, match=r"Expected mesh to be a jax\.sharding\.Mesh, got a str"):
        fit.fit_table(given, target="y", placement="cpu")
    for call in (model.predict, model.evaluate, model.pit):
        with pytest.raises(bbb.errors.InputError, match=r"Expected mesh to be a jax\.sharding\.Mesh, got a str"):
            call(given, mesh="cpu")


def test_it_is_the_library_underneath(learned):
    given = lines(seed=1)
    direct = bbb.predict(jax.random.key(4), learned[0].model, given.values[:, :2], draws=300, levels=(0.9,))
    through = learned[0].predict(given, seed=4, draws=300, levels=(0.9,))
    np.testing.assert_array_equal(direct.y.interval(0.9), through.y.interval(0.9))
    lower, upper = direct.y.interval(0.9)
    y = given.values[:, 2:]
    scores = learned[0].evaluate(given, seed=4, draws=300, level=0.9)
    assert scores["coverage"] == np.mean((lower <= y) & (y <= upper))


def test_a_saved_model_keeps_scaling_and_names(learned, tmp_path):
    learned[0].save(tmp_path / "m")
    loaded = model_module.TabularModel.load(tmp_path / "m")
    assert (loaded.features, loaded.target) == (("a", "b"), "y")
    np.testing.assert_array_equal(loaded.predict(lines(), draws=50).y.std, learned[0].predict(lines(), draws=50).y.std)


def test_a_model_without_column_names_is_refused(learned, tmp_path):
    bbb.save(tmp_path / "m", learned[0].model)
    with pytest.raises(bbb.errors.ModelFileError, match="the names of its columns, got none"):
        model_module.TabularModel.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        (("a", "b"), np.eye(3, 2), "a column 'y'"),
        (("y",), np.eye(3, 1), "at least one column besides 'y'"),
        (("a", "y"), np.array([[1.0, 1.0], [1.0, 2.0]]), "column 'a' to vary"),
        (("a", "y"), np.array([[1.0, 2.0], [2.0, 2.0]]), "column 'y' to vary"),
        (("a", "y"), np.ones((1, 2)), "column 'y' to vary"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(columns, values, message):
    with pytest.raises(bbb.errors.TableError, match=message):
        fit.fit_table(csv.Table("made.csv", columns, values), "y")


@pytest.mark.parametrize(("name", "worst_rmse"), [("concrete", 6.5), ("yacht", 1.6)])
def test_uci(uci_csv, name, worst_rmse):
    """RMSE as good as published for mean-field networks of this size, and intervals that cover."""
    train, test = uci_csv(name, split=0)
    model, _ = fit.fit_table(csv.read(train), "target", progress=False)
    scores = model.evaluate(csv.read(test), draws=2000)
    assert scores["rmse"] <= worst_rmse
    assert scores["coverage"] >= 0.85


SEEN = bbb.evaluate.Finding("not converged", "the loss fell", "Train for more steps.")


def test_what_was_seen_of_the_training_is_kept_with_the_model(learned, tmp_path):
    """The file says whether training was done, so that a second opinion on it can be had wherever it is read."""
    assert learned[0].training == of_training(learned[1])
    early = dataclasses.replace(learned[0], training=(SEEN,))
    early.save(tmp_path / "m")
    again = model_module.TabularModel.load(tmp_path / "m")
    assert again.training == (SEEN,)
    assert again.diagnose(lines(seed=1))[0] == SEEN
    again.save(tmp_path / "n")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "n").read_bytes()


def test_a_file_that_says_nothing_of_its_training_is_read(learned, tmp_path):
    dataclasses.replace(learned[0], training=None).save(tmp_path / "old")
    assert "training" not in models.read_metadata(tmp_path / "old")
    assert model_module.TabularModel.load(tmp_path / "old").training is None


@pytest.mark.parametrize("training", ["converged", [["not converged", "seen"]], [["a", "b", 1]], {"a": 1}])
def test_a_file_of_other_findings_is_refused(learned, tmp_path, training):
    model = learned[0]
    metadata = {"features": list(model.features), "target": model.target, "training": training}
    bbb.save(tmp_path / "m", model.model, metadata)
    with pytest.raises(
        bbb.errors.ModelFileError, match="to hold a list of the findings of its training, got something else"
    ):
        model_module.TabularModel.load(tmp_path / "m")
