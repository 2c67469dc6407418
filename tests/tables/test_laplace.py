"""Tables, and the command, with a Laplace posterior: learned, kept in a file, and used like any other."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import bbb
from bbb.cli.main import main
from bbb.tables import csv, fit
from bbb.tables.model import TabularModel
from bbb.tables.recipe import Recipe

QUICK = ("--epochs", "100", "--hidden", "10", "--restarts", "2")  # Laplace is the default of measurements


def table(rows=60, seed=0, target=None):
    """Return rows in two clusters of column a."""
    rng = np.random.default_rng(seed)
    a, b = rng.choice([-1, 1], rows) * rng.uniform(0.7, 1.6, rows), rng.normal(size=rows)
    y = np.sin(2 * a) + 0.2 * rng.normal(size=rows)
    values = y if target is None else target(y, rng)
    return csv.Table("made.csv", ("a", "b", "y"), np.column_stack([a, b, values]))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with rows to train on, rows to test on, and a mixture of two Laplace posteriors made by the command."""
    folder = tmp_path_factory.mktemp("laplace")
    for name, rows in (("train", table()), ("test", table(seed=1))):
        (folder / f"{name}.csv").write_text(csv.text(dict(zip(rows.columns, rows.values.T, strict=True))))
    assert main(["fit", f"{folder}/train.csv", "--target", "y", "--out", f"{folder}/m", *QUICK]) == 0
    return folder


def test_fit_says_what_it_made(work, capsys):
    assert main(["fit", f"{work}/train.csv", "--target", "y", "--out", f"{work}/n", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "; Laplace posterior, full: all correlations; wrote" in err
    assert (work / "m").read_bytes() == (work / "n").read_bytes()


def test_the_file_holds_all_of_it(work, tmp_path):
    loaded = TabularModel.load(work / "m")
    assert (loaded.structure, loaded.model.members, loaded.model.linearized) == ("full", 2, True)
    recipe = Recipe(hidden=(10,), epochs=100, posterior="laplace", restarts=2)
    made, _ = fit.fit_table(csv.read(work / "train.csv"), "y", recipe=recipe, progress=False)
    jax.tree.map(np.testing.assert_array_equal, made.model, dataclasses.replace(loaded.model, apply=made.model.apply))
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (work / "m").read_bytes()


def test_the_commands_use_it(work, capsys, tmp_path):
    assert main(["predict", f"{work}/m", f"{work}/test.csv", "--draws", "200"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 61
    arguments = ["evaluate", f"{work}/m", f"{work}/test.csv", "--draws", "200"]
    assert main([*arguments, "--json", "--pictures", str(tmp_path)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["rmse"] < 0.5
    names = {finding["name"] for finding in scores["diagnosis"]}
    assert not {"too sure between the data", "units collapsed onto the prior"} & names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration.png", "pit.png", "predicted.png"]


def test_the_library_uses_it(work):
    model, rows = TabularModel.load(work / "m").model, table(seed=2)
    x = rows.select(["a", "b"])
    less = dataclasses.replace(model, posterior=bbb.evaluate.prune(model.posterior, 0.5))
    assert np.isfinite(bbb.predict(jax.random.key(0), less, x, draws=100).y.std).all()
    found = bbb.evaluate.spread(jax.random.key(0), model, x, draws=100)
    assert (found.total >= found.within).all()
    band = bbb.predict(jax.random.key(0), model, x, draws=200)
    assert bbb.plots.band(x[:, 0], band)


def test_it_is_exported(work, tmp_path):
    pytest.importorskip("flatbuffers")
    model, x = TabularModel.load(work / "m").model, table(seed=2).select(["a", "b"])
    bbb.serving.export(tmp_path / "e", model, x[:1], draws=100, platforms=("cpu",))
    alone = bbb.serving.load_exported(tmp_path / "e").predict(jax.random.key(0), x[:5])
    direct = bbb.predict(jax.random.key(0), model, x[:5], draws=100, levels=(0.95,))
    np.testing.assert_allclose(alone.y.std, direct.y.std, rtol=1e-3)


@pytest.mark.parametrize("kind", ["categorical", "poisson"])
def test_other_targets(kind):
    targets = {
        "categorical": lambda y, rng: (y > 0).astype(float),
        "poisson": lambda y, rng: rng.poisson(np.exp(1 + y)).astype(float),
    }
    recipe = Recipe(hidden=5, epochs=30, posterior="laplace", likelihood=kind)
    model, _ = fit.fit_table(table(target=targets[kind]), "y", recipe=recipe, progress=False)
    assert model.structure == "full"
    assert np.isfinite(model.evaluate(table(seed=1, target=targets[kind]), draws=100)["log_score"])


def test_of_a_mean_field_a_file_says_nothing_of_structures(tmp_path):
    model, _ = fit.fit_table(table(), "y", recipe=Recipe(hidden=3, epochs=2, posterior="mean_field"), progress=False)
    model.save(tmp_path / "m")
    assert model.structure is None
    assert TabularModel.load(tmp_path / "m").structure is None


def test_an_unknown_posterior_is_refused():
    with pytest.raises(bbb.errors.InputError, match="posterior to be one of auto, mean_field, laplace, hmc, got 'map'"):
        fit.fit_table(table(), "y", recipe=Recipe(posterior="map"))
