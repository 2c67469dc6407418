"""The command on tables as people have them: words, dates, holes, other formats; each gives what the library gives."""

import csv
import gzip
import io

import numpy as np
import pytest

from bbb import tables
from bbb.cli.main import main

QUICK = ("--target", "y", "--epochs", "20", "--hidden", "4", "--posterior", "mean_field", "--quiet")


def rows(count, seed):
    rng = np.random.default_rng(seed)
    towns, days = rng.choice(["Ulm", "Bern", "Genf"], count), rng.integers(1, 28, count)
    size = rng.normal(size=count).round(2)
    y = (towns == "Ulm") + size + 0.1 * days + 0.1 * rng.normal(size=count)
    yield "zip;town;when;size;y"
    for i in range(count):
        cell = "" if i % 9 == 4 else f"{size[i]}".replace(".", ",")
        yield f"{i % 3 + 1};{towns[i]};2026-03-{days[i]:02};{cell};{y[i]:.3f}".replace(".", ",")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with European tables of all kinds of columns, and a model of them."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, count in (("train", 60), ("test", 20)):
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(rows(count, len(name))).encode()))
    words = ("--missing", "indicator", "--categorical", "zip", "--out", str(folder / "m"), *QUICK)
    assert main(["fit", str(folder / "train.csv.gz"), *words]) == 0
    return folder


def test_fit_learns_the_encoding_that_the_library_learns(work):
    table = tables.read(work / "train.csv.gz", kinds={"zip": "words"}, holes=True)
    recipe = tables.Recipe(hidden=4, epochs=20, posterior="mean_field", missing="indicator")
    model, _ = tables.fit_table(table, "y", recipe=recipe, progress=False)
    model.save(work / "same")
    assert (work / "same").read_bytes() == (work / "m").read_bytes()
    assert model.columns.kinds == {"zip": "words", "town": "words", "when": "date", "size": "number"}


def test_predict_and_evaluate_apply_it(work, capsys):
    assert main(["predict", f"{work}/m", f"{work}/test.csv.gz", "--draws", "50"]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    model = tables.TabularModel.load(work / "m")
    expected = model.predict(model.read(work / "test.csv.gz"), draws=50).y.mean[:, 0]
    np.testing.assert_array_equal(np.float32([row["mean"] for row in found]), expected)
    assert main(["evaluate", f"{work}/m", f"{work}/test.csv.gz", "--draws", "50"]) == 0
    score = model.evaluate(model.read(work / "test.csv.gz", target=True), draws=50)["rmse"]
    assert f"{score:.4g}" in capsys.readouterr().out


def test_a_town_that_was_not_seen_is_refused_or_ignored(work, tmp_path, capsys):
    text = gzip.decompress((work / "test.csv.gz").read_bytes()).decode().replace("Ulm", "Paris")
    (tmp_path / "new.csv").write_text(text)
    for command in ("predict", "evaluate"):
        assert main([command, f"{work}/m", f"{tmp_path}/new.csv", "--draws", "20"]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "one of the categories Bern, Genf, Ulm in every row of column 'town'" in err
        assert main([command, f"{work}/m", f"{tmp_path}/new.csv", "--draws", "20", "--unknown", "ignore"]) == 0
        assert "Paris" not in capsys.readouterr().out


def test_parquet_is_the_same(work, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(work / "test.csv.gz", sep=";", decimal=",", parse_dates=["when"])
    frame.to_parquet(tmp_path / "test.parquet")
    assert parquet.read_schema(tmp_path / "test.parquet").names == list(frame)
    printed = []
    for path in (work / "test.csv.gz", tmp_path / "test.parquet"):
        assert main(["predict", f"{work}/m", str(path), "--draws", "50"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
