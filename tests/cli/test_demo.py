"""The demo writes all it says, and what it writes is what it computed."""

import csv
import json
import math
import threading

import jax
import matplotlib as mpl
import numpy as np
import pytest
from jax.sharding import Mesh
from matplotlib.figure import Figure

import bbb
from bbb import tasks
from bbb.cli import demo
from bbb.cli.demo import files, recipes, words
from bbb.cli.main import main
from bbb.core import process
from tests import ROOT


@pytest.fixture(scope="module")
def made():
    return demo.run(tasks.Settings(hidden=30, steps=40, draws=200), seed=3, objective="torchbnn")


def test_files_and_fields(made, tmp_path):
    paths = demo.write(made, tmp_path / "new" / "folder")
    assert sorted(path.name for path in paths) == [
        "band.png",
        "model.safetensors",
        "predictions.csv",
        "summary.json",
        "training.png",
    ]
    assert sorted(tmp_path.glob("new/folder/*")) == sorted(paths)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths if path.suffix == ".png")
    assert json.loads((tmp_path / "new/folder/summary.json").read_text()) == made.summary


def test_it_says_whether_training_had_converged(made):
    """By the test of `bbb.diagnose`: in the text, in the summary, and above the picture."""
    assert made.summary["converged"] is False
    line = words.training_line(made.history)
    assert line.startswith("Training had not converged: over the last 20 of 40 steps the loss fell by")
    figure = Figure()
    files._training(figure.add_subplot(), made.history)
    assert figure.get_suptitle().replace("\n", " ") == line
    still = np.random.default_rng(0).normal(size=(2, 400))
    rests = bbb.train.History(still[0] + 101, still[0] + 1, 100 + 0.01 * still[1], None, "elbo_cost")
    assert words.training_line(rests).startswith("Training had converged: over the last 200 of 400 steps")
    few = bbb.train.History(*np.ones((3, 5)), None, "elbo_cost")
    assert words.training_line(few) == "Whether training had converged cannot be told from 5 steps."


def test_predictions_are_the_predictive(made, tmp_path):
    demo.write(made, tmp_path)
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    np.testing.assert_array_equal(np.float32([row["mean"] for row in rows]), made.predictive.f.mean[:, 0])
    lower, _ = made.predictive.f.sigma_interval(3.0)
    np.testing.assert_array_equal(np.float32([row["lower"] for row in rows]), lower[:, 0])
    assert all(float(row[name]) > 0 for row in rows for name in row if name.startswith("mcse"))


def test_the_saved_model_predicts_the_same(made, tmp_path):
    demo.write(made, tmp_path)
    key = jax.random.split(jax.random.key(3), 3)[2]
    again = bbb.predict(key, bbb.load(tmp_path / "model.safetensors"), made.data.x_test, draws=200)
    np.testing.assert_array_equal(again.f.mean, made.predictive.f.mean)


def test_a_mesh_that_does_not_fit_is_refused():
    with pytest.raises(bbb.errors.InputError, match='a mesh with axes "restarts" or "batch"'):
        demo.run(tasks.Settings(hidden=3, steps=1), mesh=Mesh(np.array(jax.devices()[:1]), ("draws",)))


def test_summary_measures_what_it_names(made):
    summary, data = made.summary, made.data
    rmse = math.sqrt(np.mean((made.predictive.f.mean - data.clean_test) ** 2))
    assert summary["rmse_clean"] == pytest.approx(rmse, rel=1e-6)
    assert summary["mean_band_width"] == pytest.approx(6 * made.predictive.f.std.mean(), rel=1e-5)
    assert summary["noise_std_data"] == pytest.approx(math.sqrt(1 / 3))
    assert summary["noise_std_implied"] == pytest.approx(math.sqrt(0.01 * 500 / (2 * 91)))
    assert summary["final_loss"] == pytest.approx(
        summary["final_data_term"] + 0.01 * summary["final_kl_nats"] / 91, rel=1e-5
    )
    assert set(summary["seconds"]) == {"compile", "training", "prediction"}


def test_the_published_settings_imply_a_noise_of_0_029():
    assert recipes.RECIPES["torchbnn"].implied_noise(tasks.Settings(), 500) == pytest.approx(0.0289, abs=1e-4)


@pytest.fixture(scope="module")
def bound():
    return demo.run()


def test_the_first_band_is_a_statement_about_observations(bound):
    """Its noise is that of the data, new observations are inside, and training had come to rest."""
    summary = bound.summary
    assert summary["settings"]["objective"] == "elbo"
    assert summary["noise_std_learned"] == pytest.approx(tasks.NOISE_STD, rel=0.15)
    assert summary["rmse_clean"] < 0.3 * tasks.NOISE_STD + 0.1
    assert summary["coverage_y_band"] > 0.98
    assert summary["coverage_f_band"] < 0.9  # that of the function alone is none
    assert summary["converged"] is True
    assert words.training_line(bound.history).startswith("Training had converged")
    assert "ignores the data" not in words.noise_line(summary)


def test_its_picture_is_that_of_the_readme(bound, tmp_path):
    """Whose first example draws it too; up to what another release of JAX or matplotlib moves by a pixel."""
    demo.write(bound, tmp_path)
    made, shown = (mpl.image.imread(path)[..., :3] for path in (tmp_path / "band.png", ROOT / "band.png"))
    assert made.shape == shown.shape
    assert np.mean(np.abs(made - shown)) < 0.01


def test_the_other_objective_stands_beside_it(bound, made, tmp_path):
    paths = demo.write(bound, tmp_path, beside=made)
    assert "compared.png" in {path.name for path in paths}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == bound.summary | {"torchbnn": made.summary}
    figure = Figure()
    axes = figure.subplots(1, 2)
    files._compared(axes, (bound, made))
    assert axes[0].get_ylim() == axes[1].get_ylim()
    for ax, name, run in zip(axes, ("evidence lower bound", "torchbnn's objective"), (bound, made), strict=True):
        assert ax.get_title() == f"{name}:\n{run.summary['coverage_y_band']:.1%} of new y inside its band of y"


def test_the_bound_on_the_wide_network_says_that_it_ignores_the_data():
    summary = demo.run(tasks.Settings(hidden=300, steps=1500, draws=100), objective="elbo").summary
    assert "ignores the data" in words.noise_line(summary)


def test_an_unknown_objective_is_refused():
    with pytest.raises(bbb.errors.InputError, match="elbo or torchbnn, got 'map'"):
        demo.run(objective="map")


def test_both_objectives_are_run_at_once_where_there_are_cores(monkeypatch, tmp_path):
    """What each writes is what it writes alone, and is compiled in a thread of its own."""
    ran = []

    def seen(settings, *, objective, **others):
        ran.append((objective, threading.current_thread() is threading.main_thread()))
        return demo.run(settings, objective=objective, **others)

    monkeypatch.setattr("bbb.cli.demo.command.run", seen)
    command = ["demo", "--steps", "2", "--draws", "4", "--hidden", "3", "--json"]
    written = []
    for cores in (1, 2):
        monkeypatch.setattr(process, "cores", lambda cores=cores: cores)
        assert main([*command, "--out", str(tmp_path / str(cores))]) == 0
        written.append((tmp_path / str(cores) / "predictions.csv").read_bytes())
    assert sorted(ran[:2]) == [("elbo", True), ("torchbnn", True)]
    assert sorted(ran[2:]) == [("elbo", False), ("torchbnn", False)]
    assert written[0] == written[1]
