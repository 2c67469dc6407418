"""The command `bbb check`: it prints what the library finds, in words and as JSON."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from bbb.cli import checking
from bbb.cli import main as main_module
from bbb.cli.main import main
from bbb.decide.model_checks import Audit, Distance, posterior_predictive_check
from bbb.tables import csv
from bbb.tables.fit import fit_table
from bbb.tables.recipe import Recipe


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with train.csv, test.csv and a small model of the first."""
    folder = tmp_path_factory.mktemp("check")
    rng = np.random.default_rng(0)
    for name, rows in (("train", 40), ("test", 20)):
        x = rng.normal(size=(rows, 2))
        y = x[:, :1] - x[:, 1:] + 0.3 * rng.normal(size=(rows, 1))
        (folder / f"{name}.csv").write_text(csv.text(dict(zip("aby", np.hstack([x, y]).T, strict=True))))
    recipe = Recipe(hidden=3, epochs=20, posterior="mean_field")
    model, _ = fit_table(csv.read(folder / "train.csv"), "y", recipe=recipe, progress=False)
    model.save(folder / "model")
    return folder


def run(capsys, *words):
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:  # argparse leaves by itself
        status = stop.code
    return status, *capsys.readouterr()


def both(work):
    return ("check", work / "model", work / "train.csv", "--held-out", work / "test.csv")


@pytest.fixture
def printed(work, capsys):
    status, out, err = run(capsys, *both(work), "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_json_is_what_the_library_finds(work, printed):
    from bbb.tables.model import TabularModel

    model = TabularModel.load(work / "model")
    table = model.read(work / "test.csv", target=True)
    key = jax.random.fold_in(jax.random.key(0), 2)
    found = posterior_predictive_check(key, model.model, model.inputs(table), model.observed(table), held_out=True)
    assert [part["p_value"] for part in printed["held out"]["statistics"].values()] == found.p_values.tolist()
    assert list(printed) == ["trained on", "held out", "psis", "loo"]


def test_weights_are_in_json(printed):
    pytest.importorskip("arviz_stats", reason="needs arviz-stats, of the extra arviz")
    assert printed["psis"]["draws"] == 4000
    assert len(printed["loo"]["k_hat"]) == 40


def test_it_prints_in_words_and_what_it_did_not_look_at(work, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_stats.base", None)
    status, out, err = run(capsys, *both(work))
    assert (status, err) == (0, "")
    assert "Predictive check on rows of the training, given one draw of the weights" in out
    assert "Predictive check on rows that were held out" in out
    assert "psis was not looked at: Expected the package arviz-stats" in out


def test_an_audit_is_made_where_it_is_asked_for(work, capsys, monkeypatch):
    f = SimpleNamespace(rhat=np.array([1.02]), ess_bulk=np.array([300.0]))
    report = SimpleNamespace(chains=4, draws=200, f=f, problems=())
    distances = (Distance("among the rows", 1, 0.3, 0.4, 0.4, 0.4),)
    made = Audit(distances, None, np.array(["among the rows"]), np.array([0.4]), np.array([0.3]), None, report)
    monkeypatch.setattr(checking, "audit", lambda key, model, x, y: made)
    status, out, _ = run(capsys, *both(work), "--audit", "--json")
    found = json.loads(out)["audit"]
    assert (status, found["close"], found["trusted"], found["off_in_sds"]) == (0, False, True, 0.3)
    assert found["distances"][0]["verdict"].startswith("2.5 times too narrow: sd 0.4 of the chains'")
    assert "among the rows  the band is 2.5 times too narrow" in run(capsys, *both(work), "--audit")[1]


def test_numbers_are_the_same_on_two_devices(work, printed):
    words = [*map(str, both(work)), "--json", "--devices", "2"]
    ran = subprocess.run([sys.executable, "-m", "bbb", *words], capture_output=True, text=True, check=True, timeout=600)
    found = json.loads(ran.stdout)
    for part in ("trained on", "held out"):
        for name, figures in printed[part]["statistics"].items():
            assert found[part]["statistics"][name] == pytest.approx(figures, rel=1e-4)
    if "k_hat" in printed["psis"]:
        assert found["psis"]["log_evidence"] == pytest.approx(printed["psis"]["log_evidence"], rel=1e-4)


def test_its_help_has_an_example_that_it_takes(capsys):
    status, out, _ = run(capsys, "check", "--help")
    assert status == 0
    (example,) = re.findall(r"example: bbb (.*)", " ".join(out.split()))
    assert main_module._parser().parse_args(example.split()).run


REFUSED = {
    "no rows": (("check", "model"), 2, "the following arguments are required: TRAIN.csv"),
    "no such model": (("check", "none", "train.csv"), 1, "bbb: Expected .*none.*"),
    "no such rows": (("check", "model", "none.csv"), 1, "No such file"),
    "no such held-out rows": (("check", "model", "train.csv", "--held-out", "none.csv"), 1, "No such file"),
    "a seed of -1": (("check", "model", "train.csv", "--seed", "-1"), 2, "expected a whole number from 0"),
    "0 devices": (("check", "model", "train.csv", "--devices", "0"), 2, "expected a whole number of devices"),
    "no target": (("check", "model", "inputs.csv"), 1, "'y'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_command_is_refused_in_one_sentence(case, work, capsys, monkeypatch):
    words, expected, text = REFUSED[case]
    monkeypatch.chdir(work)
    (work / "inputs.csv").write_text("a,b\n1,2\n")
    status, out, err = run(capsys, *words)
    assert (status, out) == (expected, "")
    assert "Traceback" not in err
    assert re.search(text, err)


def test_rows_that_are_not_those_of_the_training_are_told(work, tmp_path, capsys):
    lines = (work / "train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "part.csv").write_text("".join(lines[:31]))
    status, out, err = run(capsys, "check", work / "model", tmp_path / "part.csv", "--json")
    assert status == 0
    assert json.loads(out).keys() == {"trained on", "psis", "loo"}
    assert err.startswith("The model was learned from 40 rows, and these are 30: others were held out, or are missing.")
