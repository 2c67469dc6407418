"""Files read in pieces: the same rows and the same refusals as at once, and predictions written as they are made."""

import gzip
import os
import subprocess
import sys

import numpy as np
import pytest

from bbb import tables
from bbb.cli.main import main
from bbb.errors import ModelFileError, TableError, WriteError
from bbb.networks import nn
from bbb.storage import files
from bbb.tables import csv, streams
from bbb.tables import model as model_module
from bbb.tables.encoding import Column, Encoding
from tests.bad_input import bayesian
from tests.tables.test_reading import WRITERS

KINDS = Encoding(
    (Column("a", fill=1.0), Column("town", "words", ("Bern", "Ulm")), Column("d", "date", origin="2026-01-01"))
)


@pytest.fixture(scope="module")
def model():
    return model_module.TabularModel(bayesian(nn.linear(4, 1)), ("a", "town", "d"), "y", encoding=KINDS)


def rows(count=25, seed=0):
    rng = np.random.default_rng(seed)
    days = np.datetime64("2026-01-01") + rng.integers(0, 50, count)
    return {"d": days, "town": rng.choice(["Ulm", "Bern"], count), "a": rng.normal(size=count).round(3)}


def european(columns):
    lines = [f"{d};{t};{a}".replace(".", ",") for d, t, a in zip(*columns.values(), strict=True)]
    lines[3] = lines[3][: lines[3].rindex(";") + 1]  # an empty cell
    return "d;town;a\n" + "\n\n".join(lines) + "\n"


def written(folder, name):
    path = folder / name
    if name.endswith((".csv", ".gz")):
        text = european(rows()).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        made = {name: values.tolist() for name, values in rows().items()}
        made["a"][3] = None
        WRITERS[name](pyarrow.table(made), path)
    return path


@pytest.mark.parametrize("size", [1, 7, 25, 100])
@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "data.parquet", "data.arrow", "stream", "data.feather"])
def test_pieces_are_the_rows_of_the_whole(model, name, size, tmp_path):
    path = written(tmp_path, name)
    made = list(model.read_pieces(path, size))
    assert [piece.rows for piece in made] == [size] * (25 // size) + [25 % size] * bool(25 % size)
    whole = model.inputs(model.read(path))
    np.testing.assert_array_equal(np.concatenate([model.inputs(piece) for piece in made]), whole)


BAD = {
    "number": ("d;town;a\n" + "2026-01-01;Ulm;1,5\n" * 9 + "2026-01-01;Ulm;x\n", r"got 'x' in line 11\."),
    "point": ("d;town;a\n" + "2026-01-01;Ulm;1,5\n" * 9 + "2026-01-01;Ulm;1.5\n", r"got '1\.5' in line 11\."),
    "late mark": ("d;town;a\n" + "2026-01-01;Ulm;1\n" * 9 + "2026-01-01;Ulm;1,234\n", "Pass --decimal ,"),
    "short": (
        "d;town;a\n" + "2026-01-01;Ulm;1,5\n" * 9 + "2026-01-01;Ulm\n",
        "3 cells in every row .* got 2 in line",
    ),
    "empty": ("", "got an empty file"),
    "header": ("d;town;a\n", "got a header alone"),
    "missing": ("d;town\n2026-01-01;Ulm\n", "a column 'a' in .*, got only d, town"),
    "twice": ("d;town;a;a\n2026-01-01;Ulm;1;1\n", "got 'a' twice"),
    "quote": ("d;town;a\n" + "2026-01-01;Ulm;1,5\n" * 9 + '"2026', "unexpected end of data"),
    "latin": (b"d;town;a\n" + b"2026-01-01;Ulm;1,5\n" * 9 + b"2026-01-01;\xe4;1\n", "a CSV file in UTF-8 at"),
    "cut": (gzip.compress(b"d;town;a\n" + b"2026-01-01;Ulm;1,5\n" * 9)[:-6], "Compressed file ended"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_in_a_later_piece_is_refused_by_its_line(model, case, tmp_path):
    content, message = BAD[case]
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError, match=message):
        list(model.read_pieces(path, 4))


def test_a_category_that_was_not_seen_is_refused_by_its_row_in_the_file(model, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    made = {name: values.tolist() for name, values in rows().items()}
    made["town"][12] = "Genf"
    WRITERS["data.parquet"](pyarrow.table(made), tmp_path / "data.parquet")
    with pytest.raises(TableError, match=r"got 'Genf' in row 13\. Correct it"):
        list(map(model.inputs, model.read_pieces(tmp_path / "data.parquet", 5)))
    WRITERS["data.parquet"](pyarrow.table(made).slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(TableError, match=r"at least one row in .*none\.parquet, got none"):
        list(model.read_pieces(tmp_path / "none.parquet", 5))


@pytest.fixture
def work(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streams, "ROWS", 10)
    model.save("m")
    written(tmp_path, "data.csv")
    return tmp_path


def test_predictions_in_pieces_are_those_of_the_whole(work, capsys):
    command = ["predict", "m", "data.csv", "--draws", "50"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert main([*command, "--out", "p.csv"]) == 0
    assert (work / "p.csv").read_text() == printed
    assert capsys.readouterr() == ("", "")


def test_parquet_holds_the_same_numbers(work, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    command = ["predict", "m", "data.csv", "--draws", "50"]
    assert main([*command, "--out", "p.parquet"]) == 0
    assert main([*command, "--out", "p.csv"]) == 0
    found, expected = parquet.read_table("p.parquet"), csv.read("p.csv")
    assert tuple(found.column_names) == expected.columns
    assert found.num_rows == 25
    for name in expected.columns:
        assert str(found.schema.field(name).type) == "float"
        np.testing.assert_array_equal(found[name].to_numpy(), np.float32(expected.select([name])[:, 0]))
    assert tables.read("p.parquet").rows == 25


@pytest.mark.parametrize("out", ["p.csv", "p.parquet"])
def test_an_error_in_a_later_piece_leaves_the_old_file(work, capsys, out):
    pytest.importorskip("pyarrow")
    (work / out).write_bytes(b"old")
    (work / "data.csv").write_text(european(rows()).replace("Bern", "Ulm") + "2026-01-01;Genf;1\n")
    before = sorted(os.listdir(work))
    assert main(["predict", "m", "data.csv", "--draws", "20", "--out", out]) == 1
    assert "got 'Genf' in line" in capsys.readouterr().err
    assert (work / out).read_bytes() == b"old"
    assert sorted(os.listdir(work)) == before


def test_classes_are_words_in_parquet(work):
    parquet = pytest.importorskip("pyarrow.parquet")
    from bbb import likelihoods

    two = bayesian(nn.linear(4, 2), likelihood=likelihoods.Categorical())
    model_module.TabularModel(two, ("a", "town", "d"), "y", ("no\nline", "yes"), encoding=KINDS).save("classes")
    assert main(["predict", "classes", "data.csv", "--draws", "20", "--out", "p.parquet"]) == 0
    found = parquet.read_table("p.parquet")
    assert set(found["class"].to_pylist()) <= {"no\nline", "yes"}
    assert main(["predict", "classes", "data.csv", "--draws", "20", "--out", "p.csv"]) == 0
    assert list(csv.read("p.csv", kinds="any").names) == found.column_names


def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch):
    for path in (tmp_path, tmp_path / "none" / "p.csv", "/dev/null"):
        with pytest.raises(WriteError, match="Expected to be able to write "), streams.writing(path) as append:
            append({"a": np.ones(2)})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left on device"), streams.writing(tmp_path / "p.csv") as append:
        append({"a": np.ones(2)})
    with pytest.raises(ModelFileError), files.writing(tmp_path / "p.csv"):
        raise ModelFileError
    assert not list(tmp_path.iterdir())


MEMORY = """
import sys
from bbb.cli.main import main
from bbb.tables import streams
streams.ROWS = 8192
assert main(["predict", "m", sys.argv[1], "--draws", "8", "--out", "p.parquet"]) == 0
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak) // 1024)
"""
"""Prints the peak of memory in MiB; that of `resource` begins with that of the process that started this one."""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")
@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_memory_does_not_grow_with_the_rows(model, form, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    model.save(tmp_path / "m")
    peaks = []
    for count in (400_000, 1_600_000):
        path = tmp_path / f"{count}.{form}"
        if form == "csv":
            path.write_text(csv.text(rows(count)))
        else:
            WRITERS["data.parquet"](pyarrow.table(rows(count)), path)
        command = [sys.executable, "-c", MEMORY, path.name]
        peaks.append(int(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 50  # MiB; 1.2 million rows more are 50 as numbers, and 200 as the cells of CSV
