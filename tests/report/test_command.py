"""The command `bbb report`, and `bbb evaluate --html`."""

import json
import re
import sys

import pytest

from bbb.cli import main as main_module
from bbb.cli.main import main
from bbb.tables import csv
from tests.bad_input import contents
from tests.report.models import model, table
from tests.report.pages import read

pytest.importorskip("jinja2", reason="needs jinja2, of the extra report")
pytest.importorskip("plotly", reason="needs plotly, of the extra report")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a model of each of two kinds, and their rows."""
    folder = tmp_path_factory.mktemp("commands")
    for kind in ("measurement", "classes"):
        model(kind).save(folder / f"{kind}.m")
        rows = table(kind=kind)
        columns = {
            name: rows.texts.get(name) if name in rows.texts else rows.select([name])[:, 0] for name in rows.names
        }
        (folder / f"{kind}.csv").write_text(csv.text(columns))
    (folder / "inputs.csv").write_text("a,b,town\n1,2,Ulm\n")
    (folder / "header.csv").write_text("a,b,town,y\n")
    (folder / "folder").mkdir()
    return folder


def run(capsys, *words):
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:  # argparse leaves by itself
        status = stop.code
    return status, *capsys.readouterr()


@pytest.mark.parametrize("kind", ["measurement", "classes"])
def test_its_numbers_are_those_that_evaluate_prints(kind, work, capsys, tmp_path):
    rows = ("--draws", 20, "--group", "town")
    status, out, err = run(
        capsys, "report", work / f"{kind}.m", work / f"{kind}.csv", *rows, "--out", tmp_path / "a.html"
    )
    assert (status, out, err) == (0, f"wrote {tmp_path / 'a.html'}\n", "")
    evaluate = ("evaluate", work / f"{kind}.m", work / f"{kind}.csv", *rows, "--json")
    status, out, _ = run(capsys, *evaluate, "--html", tmp_path / "b.html")
    assert status == 0
    assert read(tmp_path / "a.html").scores == read(tmp_path / "b.html").scores == json.loads(out)
    assert read(tmp_path / "a.html").drawn == read(tmp_path / "b.html").drawn
    command = f"bbb report {work / f'{kind}.m'} {work / f'{kind}.csv'} --draws 20 --group town --out"
    assert command in read(tmp_path / "a.html").text


def test_it_makes_the_folder_and_replaces_an_old_report(work, capsys, tmp_path):
    out = tmp_path / "new" / "r.html"
    for _ in range(2):
        words = ("report", work / "measurement.m", work / "measurement.csv", "--draws", 20, "--out", out)
        assert run(capsys, *words)[0] == 0
    assert [path.name for path in out.parent.iterdir()] == ["r.html"]


@pytest.mark.parametrize("command", ["report", "evaluate"])
def test_its_help_has_an_example_that_it_takes(command, capsys):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    (example,) = re.findall(r"example: bbb (.*)", " ".join(out.split()))
    assert main_module._parser().parse_args(example.split()).run


M = ("measurement.m", "measurement.csv")
REFUSED = {
    "no rows": (("report", "measurement.m"), 2, "the following arguments are required: TEST.csv"),
    "no such model": (("report", "none", M[1]), 1, "a model file at none, got: No such file"),
    "no such file": (("report", M[0], "none.csv"), 1, "No such file"),
    "no target": (("report", M[0], "inputs.csv"), 1, "a column 'y' in inputs.csv, got only a, b, town"),
    "a header alone": (("report", M[0], "header.csv"), 1, "at least one row in .*, got a header alone"),
    "no such group": (("report", *M, "--group", "land"), 1, "a column 'land' in measurement.csv, got only"),
    "a folder": (("report", *M, "--out", "folder"), 1, "--out to be a file, got the folder folder"),
    "within a file": (("report", *M, "--out", "inputs.csv/r.html"), 1, "a writable folder"),
    "html to a folder": (("evaluate", *M, "--html", "folder"), 1, "to be a file, got the folder folder"),
    "a level of 1": (("report", *M, "--interval", "1"), 2, r"--interval: expected a number inside \(0, 1\)"),
    "a seed of -1": (("report", *M, "--seed", "-1"), 2, "--seed: expected a whole number from 0"),
    "0 draws": (("report", *M, "--draws", "0"), 2, "--draws: expected a whole number of at least 1"),
    "another mark": (("report", *M, "--delimiter", "|"), 2, "--delimiter: expected comma, semicolon or tab"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_command_is_refused_in_one_sentence_and_nothing_is_written(case, work, capsys, monkeypatch):
    words, expected, text = REFUSED[case]
    monkeypatch.chdir(work)
    before = contents(work)
    status, out, err = run(capsys, *words)
    assert (status, out) == (expected, "")
    assert "Traceback" not in err
    assert re.search(text, err), err
    assert contents(work) == before


@pytest.mark.parametrize(("name", "module"), [("plotly", "plotly.offline"), ("jinja2", "jinja2")])
def test_a_missing_extra_is_named_before_anything_is_read(name, module, work, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(work)
    for words in (("report", "none", "none.csv"), ("evaluate", "none", "none.csv", "--html", "r.html")):
        status, _, err = run(capsys, *words)
        assert status == 1
        assert f"Expected {name} to be installed to write a report, got" in err
        assert f"Run pip install {name}; or, in a clone of bbb, pip install '.[report]'." in err


def test_a_disk_that_is_full_leaves_the_old_report(work, capsys, tmp_path, monkeypatch):
    from bbb.storage import files

    out = tmp_path / "r.html"
    out.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    status, _, err = run(capsys, "report", work / M[0], work / M[1], "--draws", 20, "--out", out)
    assert status == 1
    assert "No space left on device" in err
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
