"""`bbb update`: what the library gives, printed, and written to a file of its own."""

import json

import numpy as np
import pytest

from bbb import tables
from bbb.cli.main import main


def table(rows, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)).round(3)
    y = x[:, 0] - 0.5 * x[:, 1] + shift + 0.2 * rng.normal(size=rows)
    return "a,b,y\n" + "".join(f"{a},{b},{c:.3f}\n" for (a, b), c in zip(x, y, strict=True))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("update")
    for name, text in {"old": table(40, 0), "new": table(30, 1), "shifted": table(30, 2, 3.0)}.items():
        (folder / f"{name}.csv").write_text(text)
    words = ("--target", "y", "--hidden", "3", "--epochs", "100", "--quiet")
    assert main(["fit", f"{folder}/old.csv", *words, "--out", f"{folder}/laplace"]) == 0
    assert (
        main(["fit", f"{folder}/old.csv", *words, "--posterior", "mean_field", "--out", f"{folder}/independent"]) == 0
    )
    return folder


@pytest.mark.parametrize("name", ["laplace", "independent"])
def test_it_writes_what_the_library_gives_and_prints_the_drift(name, work, capsys):
    words = ["update", f"{work}/{name}", f"{work}/new.csv", "--out", f"{work}/{name}-2", "--epochs", "20"]
    before = (work / name).read_bytes()
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "no drift: " in printed
    assert f"wrote {work}/{name}-2" in printed
    model = tables.TabularModel.load(work / name)
    expected, found = model.update(tables.read(f"{work}/new.csv"), epochs=20, progress=False)
    expected.save(work / "same")
    assert (work / "same").read_bytes() == (work / f"{name}-2").read_bytes()
    assert (work / name).read_bytes() == before
    assert f"{found.drift.log_score:.4g}" in printed
    assert expected.noise_std == model.noise_std
    assert expected.columns == model.columns
    assert np.mean(expected.predict(tables.read(f"{work}/new.csv")).f.std) < np.mean(
        model.predict(tables.read(f"{work}/new.csv")).f.std
    )


def test_a_shift_is_told(work, capsys):
    words = ["update", f"{work}/laplace", f"{work}/shifted.csv", "--out", f"{work}/shifted", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["noticed"]
    assert found["rows"] == 30
    assert found["deviations"] < -3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{0}/missing", "{0}/new.csv", "--out", "{0}/x"], "missing"),
        (["{0}/laplace", "{0}/missing.csv", "--out", "{0}/x"], "No such file"),
        (["{0}/laplace", "{0}/new.csv", "--out", "{0}"], "to be a file, got the folder"),
        (["{0}/several", "{0}/new.csv", "--out", "{0}/x"], "one Gaussian posterior, for update, got 2 members"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(words, said, work, capsys):
    quick = ["--target", "y", "--hidden", "3", "--epochs", "1", "--posterior", "mean_field", "--quiet"]
    if "several" in words[0] and not (work / "several").exists():
        assert main(["fit", f"{work}/old.csv", *quick, "--restarts", "2", "--out", f"{work}/several"]) == 0
    assert main(["update", *(word.format(work) for word in words)]) == 1
    assert said in capsys.readouterr().err
    assert not (work / "x").exists()


def test_wrong_usage_is_said(work, capsys):
    with pytest.raises(SystemExit):
        main(["update", f"{work}/laplace", f"{work}/new.csv", "--out", f"{work}/x", "--discount", "2"])
    assert "a number above 0, at most 1, such as 0.9, got '2'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["update", f"{work}/laplace", f"{work}/new.csv"])
    assert "--out" in capsys.readouterr().err
