"""The command: what it prints where, its exit status, and how it refuses."""

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import bbb
from bbb.cli import main as main_module
from bbb.cli.demo import running as demo
from bbb.cli.main import main
from bbb.tables import csv as csv_module
from bbb.tables import fit as fit_module
from bbb.tables import model as model_module
from bbb.tables import recipe as recipe_module


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with train.csv, test.csv and two models that `bbb fit` made of the first: independent, and Laplace."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    for name, rows in (("train", 60), ("test", 30)):
        x = rng.normal(size=(rows, 2))
        y = x[:, :1] - x[:, 1:] + 0.1 * rng.normal(size=(rows, 1))
        columns = dict(zip("aby", np.hstack([x, y]).T, strict=True))
        (folder / f"{name}.csv").write_text(csv_module.text(columns))
    for words in (("--out", folder / "m", *MODEL), ("--out", folder / "wide", "--target", "y", "--epochs", 2)):
        assert main(list(map(str, ("fit", folder / "train.csv", *words)))) == 0
    return folder


MODEL = ("--target", "y", "--epochs", 50, "--hidden", 5, "--posterior", "mean_field")


def run(capsys, *arguments):
    """Run the command; return its exit status, stdout and stderr."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse leaves by itself
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


def test_fit_equals_the_library(work, capsys):
    recipe = recipe_module.Recipe(hidden=5, epochs=50, posterior="mean_field")
    model, history = fit_module.fit_table(csv_module.read(work / "train.csv"), "y", recipe=recipe, seed=0)
    loaded = bbb.load(work / "m")
    for mine, its in zip(jax.tree.leaves(model.model), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(mine, its)
    status, out, err = run(capsys, "fit", work / "train.csv", "--out", work / "n", *MODEL)
    assert (status, out) == (0, "")
    assert f"negative ELBO {history.negative_elbo[-1]:.1f} nats" in err


def test_predict_equals_the_library(work, capsys):
    status, out, err = run(capsys, "predict", work / "m", work / "test.csv", "--draws", 200, "--interval", "0.9")
    assert (status, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    x = csv_module.read(work / "test.csv").select(["a", "b"])
    direct = bbb.predict(jax.random.key(0), bbb.load(work / "m"), x, draws=200, levels=(0.9,))
    lower, upper = direct.y.interval(0.9)
    expected = {
        "mean": direct.y.mean,
        "std": direct.y.std,
        "epistemic_std": direct.f.std,
        "lower": lower,
        "upper": upper,
    }
    assert list(rows[0]) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(np.float32([row[name] for row in rows]), values[:, 0])


def test_predict_to_a_file_writes_what_it_prints(work, capsys, tmp_path):
    arguments = ["predict", work / "m", work / "test.csv", "--draws", 50]
    printed = run(capsys, *arguments)[1]
    assert run(capsys, *arguments, "--out", tmp_path / "p.csv")[:2] == (0, "")
    assert (tmp_path / "p.csv").read_text() == printed


def test_predict_needs_no_target_and_minds_no_other_column(work, capsys, tmp_path):
    (tmp_path / "new.csv").write_text("name,b,a\nfoo,1,2\n")
    status, out, _ = run(capsys, "predict", work / "m", tmp_path / "new.csv", "--draws", 50)
    assert status == 0
    assert len(out.splitlines()) == 2


def test_evaluate_equals_the_library(work, capsys):
    status, out, _ = run(capsys, "evaluate", work / "m", work / "test.csv", "--draws", 200, "--json")
    assert status == 0
    model = model_module.TabularModel.load(work / "m")
    rows = csv_module.read(work / "test.csv")
    diagnosis = [finding._asdict() for finding in model.diagnose(rows)]
    assert json.loads(out) == model.evaluate(rows, draws=200) | {"diagnosis": diagnosis}
    _, text, _ = run(capsys, "evaluate", work / "m", work / "test.csv", "--draws", 200)
    assert f"{json.loads(out)['rmse']:.4g}" in text


def test_json_has_no_number_that_other_readers_lack(work, capsys, tmp_path):
    """A row that the model takes for impossible has a log score of -inf, which JSON cannot say."""
    (tmp_path / "far.csv").write_text("a,b,y\n1,2,1e30\n0,1,0.5\n")
    status, out, _ = run(capsys, "evaluate", work / "m", tmp_path / "far.csv", "--draws", 50, "--json")
    assert status == 0
    assert json.loads(out, parse_constant=pytest.fail)["log_score"] is None


QUICK = ("--epochs", 60, "--hidden", 5)


def test_fit_and_evaluate_say_that_training_was_not_done(work, capsys, tmp_path, monkeypatch):
    seen = bbb.evaluate.Finding("not converged", "the loss fell", "Train for more steps.")
    monkeypatch.setattr(fit_module, "of_training", lambda history: (seen,))
    options = ("--out", tmp_path / "m", *MODEL)
    _, _, err = run(capsys, "fit", work / "train.csv", *options)
    assert "not converged: the loss fell. Train for more steps." in err
    _, out, _ = run(capsys, "evaluate", tmp_path / "m", work / "test.csv", "--draws", 50)
    assert "not converged: the loss fell\n    Train for more steps." in out
    model = model_module.TabularModel.load(tmp_path / "m")
    dataclasses.replace(model, training=None).save(tmp_path / "old")
    _, out, _ = run(capsys, "evaluate", tmp_path / "old", work / "test.csv", "--draws", 50)
    assert "not converged" not in out
    assert "The file holds no findings of its training, which was not checked." in out


def test_evaluate_prints_scores_coverage_and_a_second_opinion_and_draws(work, capsys, tmp_path):
    status, out, _ = run(
        capsys, "evaluate", work / "m", work / "test.csv", "--draws", 200, "--pictures", tmp_path / "pictures"
    )
    assert status == 0
    for line in ("log score, nats per row", "RMSE", "CRPS", "inside the 50% interval", "inside the 99.7% interval"):
        assert line in out
    assert "wrote predicted.png, calibration.png, pit.png" in out
    assert all(path.stat().st_size > 10_000 for path in (tmp_path / "pictures").iterdir())


@pytest.mark.parametrize(
    ("asked", "printed"),
    [((), ["50%", "90%", "95%", "99.7%"]), (("--interval", 0.80625), ["50%", "80.625%", "90%", "95%", "99.7%"])],
)
def test_evaluate_prints_the_coverage_of_each_level_once_and_in_order(work, capsys, asked, printed):
    _, out, _ = run(capsys, "evaluate", work / "m", work / "test.csv", "--draws", 50, *asked)
    assert re.findall("inside the (.*) interval ", out) == printed
    assert f"mean width of the {printed[1] if asked else '95%'} interval" in out


def test_the_help_says_what_the_interval_is_of(capsys):
    for command in ("predict", "evaluate", "report"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert "--interval LEVEL probability of the central interval of each observation, such as 0.9 for 90 %" in said


def test_words_are_learned_as_classes(work, capsys, tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 2))
    words = np.where(x[:, 0] > 0.5, "red", np.where(x[:, 1] > 0, "green", "blue"))
    (tmp_path / "flowers.csv").write_text(csv_module.text({"a": x[:, 0], "b": x[:, 1], "kind": words}))
    arguments = ("fit", tmp_path / "flowers.csv", "--target", "kind", "--out", tmp_path / "m", *QUICK)
    status, _, err = run(capsys, *arguments)
    assert (status, "learned the 3 classes of kind" in err) == (0, True)
    status, out, _ = run(capsys, "predict", tmp_path / "m", tmp_path / "flowers.csv", "--draws", 100)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert set(rows[0]) >= {"class", "p_red", "p_green", "p_blue", "epistemic_entropy"}
    assert np.mean([row["class"] == word for row, word in zip(rows, words, strict=True)]) > 0.7
    status, out, _ = run(
        capsys, "evaluate", tmp_path / "m", tmp_path / "flowers.csv", "--draws", 100, "--pictures", tmp_path / "p"
    )
    assert status == 0
    assert "accuracy" in out
    assert (tmp_path / "p" / "reliability.png").is_file()


def test_a_class_that_training_never_saw_is_named(work, capsys, tmp_path):
    rng = np.random.default_rng(2)
    x = rng.normal(size=40)
    for name, other in (("train", "no"), ("test", "perhaps")):
        words = np.where(x > 0, "yes", other)
        (tmp_path / f"{name}.csv").write_text(csv_module.text({"x": x, "y": words}))
    run(capsys, "fit", tmp_path / "train.csv", "--target", "y", "--out", tmp_path / "m", *QUICK)
    status, out, err = run(capsys, "evaluate", tmp_path / "m", tmp_path / "test.csv", "--draws", 50)
    assert (status, out) == (1, "")
    assert "classes of 'y' among no, yes" in err
    assert "got 'perhaps'" in err


def test_counts_restarts_a_prior_and_validation(work, capsys, tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=100)
    (tmp_path / "counts.csv").write_text(csv_module.text({"x": x, "n": rng.poisson(np.exp(0.5 * x))}))
    options = ("--restarts", 2, "--prior", "learned", "--validation", "0.2", *QUICK)
    status, _, err = run(capsys, "fit", tmp_path / "counts.csv", "--target", "n", "--out", tmp_path / "m", *options)
    assert (status, "learned counts of n" in err) == (0, True), err
    status, out, _ = run(capsys, "evaluate", tmp_path / "m", tmp_path / "counts.csv", "--draws", 200, "--json")
    assert status == 0
    assert -3 < json.loads(out)["log_score"] < -0.5


def test_demo_prints_json_alone_on_stdout(capsys, tmp_path):
    status, out, _ = run(capsys, "demo", "--out", tmp_path, "--steps", 5, "--draws", 20, "--hidden", 10, "--json")
    assert status == 0
    summary = json.loads(out)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    objectives = [run["settings"]["objective"] for run in (summary, summary["torchbnn"])]
    assert objectives == ["elbo", "torchbnn"]
    assert {run["settings"]["steps"] for run in (summary, summary["torchbnn"])} == {5}


def test_demo_says_what_noise_its_cost_assumes(capsys, tmp_path):
    status, out, _ = run(capsys, "demo", "--out", tmp_path, "--steps", 5, "--draws", 20, "--objective", "torchbnn")
    assert status == 0
    assert out.startswith("torchbnn's objective, 1-1000-1: 5 steps and 20 draws")
    assert "assumes noise of sd 0.029, and that of the data is 0.577" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["train"], "invalid choice: 'train'"),
        (["demo", "--steps", "0"], "--steps: expected a whole number of at least 1, got '0'"),
        (["demo", "--draws", "many"], "--draws: expected a whole number of at least 1, got 'many'"),
        (["demo", "--seed", "-1"], "--seed: expected a whole number from 0"),
        (["demo", "--prior-std", "nan"], "--prior-std: expected a finite number above 0, got 'nan'"),
        (["demo", "--objective", "map"], "invalid choice: 'map'"),
        (["fit", "x.csv"], "required: --target"),
        (["predict", "m", "x.csv", "--interval", "1.5"], "--interval: expected a number inside (0, 1), such as 0.95"),
        (["evaluate", "m"], "required: TEST.csv"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_was_expected(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "none.csv", "--target", "y", "--out", "new"], "none.csv, got: No such file"),
        (["fit", "train.csv", "--target", "z", "--out", "new"], "a column 'z' in train.csv, got only a, b, y"),
        (["fit", "train.csv", "--target", "y", "--drop", "q", "--out", "new"], "a column 'q'"),
        (["fit", "train.csv", "--target", "y", "--drop", "y", "--out", "new"], "a target that is not dropped"),
        (
            ["fit", "train.csv", "--target", "y", "--likelihood", "poisson", "--out", "new"],
            "counts, whole numbers from 0",
        ),
        (["fit", "train.csv", "--target", "y", "--drop", "a", "--drop", "b", "--out", "new"], "besides 'y'"),
        (["fit", "train.csv", "--target", "y", "--out", "."], "--out to be a file, got the folder"),
        (["fit", "train.csv", "--target", "y", "--out", "train.csv/new"], "a writable folder"),
        (["predict", "none", "test.csv"], "a model file at none, got: No such file"),
        (["predict", "train.csv", "test.csv"], "train.csv to be a complete model file"),
        (["predict", "m", "none.csv"], "none.csv, got: No such file"),
        (["predict", "m", "short.csv"], "a column 'b' in short.csv, got only a"),
        (["predict", "m", "test.csv", "--out", "train.csv/new"], "a writable folder"),
        (["evaluate", "m", "unlabelled.csv"], "a column 'y' in unlabelled.csv, got only a, b"),
        (["demo", "--out", "train.csv"], "Expected a writable folder, got train.csv"),
    ],
)
def test_a_refusal_exits_1_in_one_sentence_and_writes_nothing(work, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(work)
    (work / "short.csv").write_text("a\n1\n")
    (work / "unlabelled.csv").write_text("a,b\n1,2\n")
    before = sorted(work.iterdir())
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("bbb: Expected")
    assert message in err
    assert "Traceback" not in err
    assert sorted(work.iterdir()) == before


def test_numbers_beyond_float32_are_refused_and_the_old_model_kept(work, capsys):
    old = (work / "m").read_bytes()
    (work / "huge.csv").write_text("a,y\n" + "".join(f"{i},{i}e38\n" for i in range(1, 10)))
    status, _, err = run(capsys, "fit", work / "huge.csv", "--target", "y", "--out", work / "m", "--epochs", 5)
    assert status == 1
    assert err.startswith("bbb: Expected a number of at most 1.8e+19 in size in every row of column 'y'")
    assert (work / "m").read_bytes() == old


def test_ctrl_c_exits_130_and_leaves_nothing_half_written(work, tmp_path):
    command = [sys.executable, "-m", "bbb", "fit", str(work / "train.csv"), "--target", "y", "--epochs", "2000000"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "m")], stderr=subprocess.PIPE, text=True)
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("interrupted; nothing half-written was left behind.\n")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_early_is_no_error(work):
    command = f"'{sys.executable}' -m bbb predict '{work}/m' '{work}/test.csv' --draws 20 | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("mean,std")
    assert done.stderr == ""


def test_version_and_module_entry(capsys):
    assert run(capsys, "--version")[1] == f"bbb {bbb.__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "bbb", "--help"], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0
    assert "evaluate" in done.stdout


def test_a_training_goes_on_from_its_checkpoints(work, capsys, tmp_path):
    fit = ["fit", str(work / "train.csv"), "--target", "y", "--epochs", "3", "--hidden", "4"]
    assert main([*fit, "--out", str(tmp_path / "whole")]) == 0
    kept = ["--checkpoint", str(tmp_path / "kept")]
    assert main([*fit, "--out", str(tmp_path / "first"), *kept]) == 0
    assert main([*fit, "--out", str(tmp_path / "again"), *kept, "--resume"]) == 0
    whole, again = (jax.tree.leaves(bbb.load(tmp_path / name)) for name in ("whole", "again"))
    for mine, its in zip(whole, again, strict=True):
        np.testing.assert_array_equal(mine, its)
    capsys.readouterr()
    assert main([*fit, "--out", str(tmp_path / "no"), *kept]) == 1
    assert "Pass resume=True, or --resume, to go on; or another folder." in capsys.readouterr().err
    assert main([*fit, "--out", str(tmp_path / "no"), *kept, "--resume", "--seed", "1"]) == 1
    assert "to hold checkpoints of this run, got another" in capsys.readouterr().err
    assert main([*fit, "--out", str(tmp_path / "no"), "--resume"]) == 1
    assert "Expected --checkpoint DIR with --resume, got --resume alone." in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


# On several devices

ON_TWO = """
import contextlib, dataclasses, io, json, sys
import jax
from bbb.cli import main
from bbb.cli.demo import running as demo
from bbb.tables import fit as training, model
meshes, outs = [], []


def watch(module, name):
    function = getattr(module, name)

    def call(*args, **options):
        mesh = options.get("placement" if name == "fit" else "mesh")
        meshes.append([name, mesh and dict(mesh.shape)])
        if options.get("checkpoints"):
            options["checkpoints"] = dataclasses.replace(options["checkpoints"], every=10)
        return function(*args, **options)

    setattr(module, name, call)


for module, names in (training, ("fit",)), (model, ("predict", "draw")), (demo, ("fit", "predict")):
    for name in names:
        watch(module, name)
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main.main([*command, "--devices", "2"]) == 0, command
    outs.append([out.getvalue(), meshes[:]])
    meshes.clear()
print(json.dumps([jax.local_device_count(), outs]))
"""


def told_two(commands):
    """Run commands with `--devices 2` in one process; return of each what it printed, and the meshes."""
    argv = json.dumps([[str(word) for word in words] for words in commands.values()])
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "3", "JAX_PLATFORMS": "none-of-that-name"}  # the option is the stronger
    command = [sys.executable, "-W", "error", "-c", ON_TWO, argv]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    devices, found = json.loads(ran.stdout)
    assert devices == 2
    return dict(zip(commands, found, strict=True))


@pytest.fixture(scope="module")
def on_two(work):
    return told_two(
        {
            "fit": ("fit", work / "train.csv", *MODEL, "--out", work / "two", "--checkpoint", work / "kept"),
            "predict": ("predict", work / "m", work / "test.csv", "--draws", 200),
            "evaluate": (*EVALUATE, work / "m", work / "test.csv", "--pictures", work / "drawn"),
            "closed form": ("predict", work / "wide", work / "test.csv"),
        }
    )


EVALUATE = ("evaluate", "--draws", 200, "--json")
DRAWS = {"draws": 2}


def test_devices_share_the_rows_and_the_draws(on_two, work):
    assert {name: meshes for name, (_, meshes) in on_two.items()} == {
        "fit": [["fit", {"batch": 2}]],
        "predict": [["predict", DRAWS]],
        "evaluate": [["predict", DRAWS], ["draw", DRAWS], ["predict", DRAWS], ["draw", DRAWS]],
        "closed form": [["predict", None]],
    }
    assert len(list((work / "drawn").iterdir())) == 3


def same_predictions(printed, expected):
    """Hold a CSV against another: intervals digit for digit, means and standard deviations to 4 ulp."""
    rows, wanted = (list(csv.DictReader(io.StringIO(text))) for text in (printed, expected))
    assert list(rows[0]) == list(wanted[0])
    assert len(rows) == len(wanted)
    for name in rows[0]:
        mine, its = ([row[name] for row in table] for table in (rows, wanted))
        if name in ("lower", "upper", "class"):
            assert mine == its
        else:
            np.testing.assert_array_max_ulp(np.float32(mine), np.float32(its), maxulp=4)


def test_predictions_and_scores_are_the_same_on_several_devices(on_two, work, capsys):
    (printed, _), (scored, _) = on_two["predict"], on_two["evaluate"]
    same_predictions(printed, run(capsys, "predict", work / "m", work / "test.csv", "--draws", 200)[1])
    scores, wanted = map(json.loads, (scored, run(capsys, *EVALUATE, work / "m", work / "test.csv")[1]))
    assert scores.pop("rmse") == pytest.approx(wanted.pop("rmse"), rel=1e-6)  # of means
    assert scores == wanted  # of draws and quantiles


def test_a_closed_form_is_the_same_on_several_devices(on_two, work, capsys):
    """A prediction of a Laplace posterior takes no draws that devices could share."""
    assert on_two["closed form"][0] == run(capsys, "predict", work / "wide", work / "test.csv")[1]


def same_to_rounding(model, other):
    for mine, its in zip(*(jax.tree.leaves(bbb.load(path)) for path in (model, other)), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=3e-4 * np.abs(its).max())


def test_training_is_the_same_to_rounding_on_several_devices(on_two, work):
    same_to_rounding(work / "two", work / "m")
    assert any(
        not np.array_equal(mine, its)
        for mine, its in zip(*(jax.tree.leaves(bbb.load(work / name)) for name in ("two", "m")), strict=True)
    )


def test_a_training_goes_on_with_another_number_of_devices(on_two, work, capsys, tmp_path):
    older, newer = sorted(path.name for path in (work / "kept").iterdir())
    assert (older, newer) == ("step-000000000090.safetensors", "step-000000000100.safetensors")
    shutil.copytree(work / "kept", tmp_path / "kept")
    (tmp_path / "kept" / newer).unlink()  # as a run that was killed leaves it
    again = ("--checkpoint", tmp_path / "kept", "--resume")
    status, _, err = run(capsys, "fit", work / "train.csv", *MODEL, "--out", tmp_path / "m", *again)
    assert (status, err[:7]) == (0, "learned")
    same_to_rounding(tmp_path / "m", work / "two")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fit", "train.csv", "--target", "y", "--devices", "3"],
            "Expected --devices to divide the 32 rows of a training step, or the number of restarts, 1, got 3. "
            "Pass --devices 2, or --restarts 3.",
        ),
        (["fit", "train.csv", "--target", "y", "--devices", "12", "--restarts", "3"], "Pass --devices 8, or"),
        (["fit", "test.csv", "--target", "y", "--devices", "7"], "the 30 rows of a training step"),
        (["fit", "train.csv", "--target", "y", "--devices", "32", "--validation", "0.5"], "the 30 rows of"),
        (
            ["demo", "--devices", "8"],
            "Expected --devices to divide the 500 rows of a training step, got 8. Pass --devices 5.",
        ),
        (
            ["predict", "m", "test.csv", "--devices", "64"],
            "Expected at least 64 CPU devices in a process in which JAX has started, got 1 of platform cpu. "
            "Request the devices in a new process, before any other work.",
        ),
        (["evaluate", "m", "test.csv", "--devices", "64"], "Expected at least 64 CPU devices"),
    ],
)
def test_devices_that_do_not_fit_are_refused_before_any_work(work, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(work)
    before = sorted(work.iterdir())
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("bbb: Expected")
    assert message in err
    assert sorted(work.iterdir()) == before


def test_a_process_in_which_jax_has_begun_keeps_its_devices(capsys, tmp_path, monkeypatch):
    meshes = []
    for name in ("fit", "predict"):
        function = getattr(demo, name)

        def watched(*args, function=function, given="placement" if name == "fit" else "mesh", **options):
            meshes.append(dict(options[given].shape))
            return function(*args, **options)

        monkeypatch.setattr(demo, name, watched)
    options = ("--steps", 2, "--draws", 8, "--hidden", 3, "--devices", 1, "--objective", "elbo")
    status, out, _ = run(capsys, "demo", "--out", tmp_path, *options)
    assert (status, out[:7], meshes) == (0, "evidenc", [{"batch": 1}, {"draws": 1}])


@pytest.mark.slow
def test_restarts_classes_and_the_demo_on_several_devices(work, capsys, tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 2))
    words = np.where(x[:, 0] > 0.5, "red", np.where(x[:, 1] > 0, "green", "blue"))
    (tmp_path / "words.csv").write_text(csv_module.text({"a": x[:, 0], "b": x[:, 1], "y": words}))
    four, classes, settings = tmp_path / "four", tmp_path / "classes", ("--steps", 5, "--draws", 20, "--hidden", 10)
    found = told_two(
        {
            "restarts": ("fit", work / "train.csv", *MODEL, "--out", four, "--restarts", 4),
            "classes": ("fit", tmp_path / "words.csv", *MODEL, "--out", classes),
            "of restarts": ("predict", four, work / "test.csv", "--draws", 202),
            "of classes": ("predict", classes, work / "test.csv", "--draws", 200),
            "demo": ("demo", "--out", tmp_path / "demo", *settings),
        }
    )
    assert found["restarts"][1] == [["fit", {"restarts": 2}]]
    assert bbb.load(four).members == 4
    assert found["demo"][1] == 2 * [["fit", {"batch": 2}], ["predict", DRAWS]]
    same_predictions(found["of restarts"][0], run(capsys, "predict", four, work / "test.csv", "--draws", 202)[1])
    same_predictions(found["of classes"][0], run(capsys, "predict", classes, work / "test.csv", "--draws", 200)[1])
    assert run(capsys, "demo", "--out", tmp_path / "one", *settings)[0] == 0
    same_to_rounding(tmp_path / "demo" / "model.safetensors", tmp_path / "one" / "model.safetensors")


@pytest.mark.parametrize("command", ["demo", "fit", "predict", "evaluate", "suggest"])
def test_each_help_has_an_example_that_the_command_takes(command, capsys):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    (example,) = re.findall(r"example: bbb (.*)", " ".join(out.split()))
    words = example.split(" > ")[0].split()
    assert words[0] == command
    assert main_module._parser().parse_args(words).run


def test_fit_takes_layers_an_activation_and_how_it_is_trained(work, capsys, tmp_path):
    words = ("--hidden", "6,4", "--activation", "tanh", "--learning-rate", 0.02, "--batch-size", 16, "--epochs", 3)
    out = tmp_path / "m"
    assert run(capsys, "fit", work / "train.csv", "--target", "y", "--out", out, "--quiet", *words) == (0, "", "")
    recipe = recipe_module.Recipe(hidden=(6, 4), activation="tanh", learning_rate=0.02, batch_size=16, epochs=3)
    model, _ = fit_module.fit_table(csv_module.read(work / "train.csv"), "y", recipe=recipe, progress=False)
    for mine, its in zip(jax.tree.leaves(model.model), jax.tree.leaves(bbb.load(out)), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("widths", ["0", "5,", "5,-1", "five"])
def test_widths_that_are_none_are_refused(work, capsys, widths):
    status, _, err = run(capsys, "fit", work / "train.csv", "--target", "y", "--hidden", widths)
    assert status == 2
    assert f"expected a whole number of at least 1 for each hidden layer, such as 64,64, got '{widths}'" in err


def test_an_activation_that_is_not_known_is_refused(work):
    data = csv_module.read(work / "train.csv")
    with pytest.raises(bbb.errors.InputError, match="one of auto, relu, tanh, gelu, softplus, got 'step'"):
        fit_module.fit_table(data, "y", recipe=recipe_module.Recipe(activation="step"))
    with pytest.raises(bbb.errors.InputError, match="hidden to be a whole number of at least 1, got 0"):
        fit_module.fit_table(data, "y", recipe=recipe_module.Recipe(hidden=()))


def test_predict_writes_json_of_the_same_numbers(work, capsys):
    arguments = ["predict", work / "m", work / "test.csv", "--draws", 50]
    rows = json.loads(run(capsys, *arguments, "--json")[1])
    expected = list(csv.DictReader(io.StringIO(run(capsys, *arguments)[1])))
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert {name: np.float32(value) for name, value in row.items()} == {
            name: np.float32(value) for name, value in other.items()
        }


def test_fit_saves_every_so_many_steps(work, capsys, tmp_path):
    words = ("--target", "y", "--epochs", 4, "--hidden", 5, "--out", tmp_path / "m")
    assert run(capsys, "fit", work / "train.csv", *words, "--checkpoint", tmp_path / "run", "--every", 3)[0] == 0
    kept = sorted(path.name for path in (tmp_path / "run").iterdir() if path.name.startswith("step-"))
    assert [int(name[5:17]) for name in kept] == [6, 8]  # two steps an epoch: saved at 3, 6 and the end
    status, _, err = run(capsys, "fit", work / "train.csv", *words, "--every", 3)
    assert (status, "--checkpoint DIR with --every" in err) == (1, True)
