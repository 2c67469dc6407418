"""A model's file keeps how it was trained, in a few kB; a file without it, and one with another value, are told."""

import dataclasses

import numpy as np
import pytest

import bbb
from bbb.errors import ModelFileError
from bbb.io import models
from bbb.tables import csv, fit
from bbb.tables import model as model_module
from bbb.tables.parts.record import MEMBERS, POINTS, TrainingRecord
from bbb.tables.recipe import Recipe

RECIPE = Recipe(hidden=3, epochs=10, batch_size=20, posterior="mean_field", restarts=2, validation=0.2)


def rows(count=50):
    x = np.random.default_rng(0).normal(size=(count, 2))
    return csv.Table("made.csv", ("a", "b", "y"), np.hstack([x, x[:, :1] - 0.3 * x[:, 1:]]))


@pytest.fixture(scope="module")
def learned():
    return fit.fit_table(rows(), "y", recipe=RECIPE, seed=7, progress=False)


@pytest.fixture(scope="module")
def saved(learned, tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "m"
    learned[0].save(path)
    return path


def test_it_is_the_history_of_the_training(learned):
    model, history = learned
    record = model.record
    assert (record.seed, record.cost, record.in_nats) == (7, history.cost, True)
    assert record.versions["bbb"] == bbb.__version__
    assert record.settings["epochs"] == 10
    assert record.steps.tolist() == list(range(1, 21))
    np.testing.assert_array_equal(record.objective, history.negative_elbo)
    np.testing.assert_allclose(record.kl, history.kl.mean(axis=1))
    assert [step for step, _ in record.validation] == history.validation_steps.tolist()
    assert record.best_step == history.best_step.mean()


def test_a_long_history_is_averaged_over_stretches_of_steps():
    steps, members = 1234, MEMBERS + 5
    data = np.arange(steps * members, dtype=float).reshape(steps, members)
    history = bbb.train.History(data, data, np.ones_like(data), None, "elbo_cost")
    record = TrainingRecord.of(history, 0, {})
    assert record.objective.shape == (POINTS, MEMBERS)
    assert record.steps[-1] == steps
    sizes = np.diff([0, *record.steps])
    assert set(sizes) <= {12, 13}
    np.testing.assert_allclose(sizes @ record.objective, (data + 1)[:, :MEMBERS].sum(axis=0))


def test_a_history_without_steps_or_with_nan_has_no_record():
    none, nan = np.zeros(0), np.full(3, np.nan)
    assert TrainingRecord.of(bbb.train.History(none, none, none, None, "elbo_cost"), 0, {}) is None
    assert TrainingRecord.of(bbb.train.History(nan, nan, nan, None, "elbo_cost"), 0, {}) is None


def test_it_comes_back_from_the_file_which_grows_by_some_kilobytes(learned, saved, tmp_path):
    found = model_module.TabularModel.load(saved).record
    for field in dataclasses.fields(TrainingRecord):
        mine, its = getattr(learned[0].record, field.name), getattr(found, field.name)
        if isinstance(mine, np.ndarray | tuple):
            np.testing.assert_allclose(np.array(its), np.array(mine), rtol=1e-5)
        else:
            assert its == (pytest.approx(mine, rel=1e-5) if isinstance(mine, float) else mine)
    dataclasses.replace(learned[0], record=None).save(tmp_path / "old")
    assert 0 < saved.stat().st_size - (tmp_path / "old").stat().st_size < 10_000
    assert model_module.TabularModel.load(tmp_path / "old").record is None


def test_numpy_numbers_in_a_recipe_and_a_seed_are_saved(tmp_path):
    recipe = dataclasses.replace(RECIPE, hidden=(3,), learning_rate=np.float32(0.5), restarts=1, validation=0.0)
    model, _ = fit.fit_table(rows(), "y", recipe=recipe, seed=np.int64(3), progress=False)
    model.save(tmp_path / "m")
    record = model_module.TabularModel.load(tmp_path / "m").record
    assert (record.seed, record.settings["hidden"], record.settings["learning_rate"]) == (3, [3], 0.5)


WRONG = {
    "a word": "trained",
    "another name": {"loss": [1.0]},
    "words for numbers": {"kl": ["a"]},
    "other lengths": {"kl": [1.0]},
    "too many points": {"steps": [1.0] * 101, "kl": [1.0] * 101, "objective": [[1.0]] * 101},
    "a seed of words": {"seed": "0"},
    "settings of a list": {"settings": [1]},
    "steps that are no numbers": {"steps": [None] * 20},
    "steps that fall": {"steps": list(range(20, 0, -1))},
    "steps below 1": {"steps": list(range(20))},
    "no curve": {"objective": [[]] * 20},
    "numbers whose sum is infinite": {"kl": [1e308] * 20},
    "ragged curves": {"objective": [[1.0], [1.0, 2.0]]},
}


@pytest.mark.parametrize("case", WRONG)
def test_another_value_in_a_file_is_refused(case, learned, saved, tmp_path):
    model, metadata, _ = models.load_with_arrays(saved)
    given = WRONG[case]
    wrong = metadata["record"] | given if isinstance(given, dict) else given
    bbb.save(tmp_path / "wrong", model, metadata | {"record": wrong})
    with pytest.raises(ModelFileError, match="to hold how it was trained, got"):
        model_module.TabularModel.load(tmp_path / "wrong")


def test_an_update_of_gaussians_has_a_record_of_its_own(learned):
    one = fit.fit_table(rows(), "y", recipe=dataclasses.replace(RECIPE, restarts=1), progress=False)[0]
    updated, _ = one.update(rows(20), epochs=3, seed=5, progress=False)
    assert updated.record.seed == 5
    assert updated.record.settings == {"epochs": 3, "batch_size": 32, "discount": 1.0}
