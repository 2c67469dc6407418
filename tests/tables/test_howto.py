"""The examples in the docstrings run, on a table with words, dates, groups and holes."""

import functools
import gzip
import inspect
import re
import textwrap

import numpy as np
import pytest

import bbb
from bbb import tables
from bbb.tables import formats, groups
from bbb.tables.model import TabularModel
from tests.tables.test_reading import write_parquet

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")

DOCUMENTED = {
    "read": formats.read,
    "groups": groups,
    "read_pieces": TabularModel.read_pieces,
}


def example(documented):
    """Return the indented lines of a docstring that are no list of arguments or errors."""
    text = inspect.getdoc(documented).split("\nArgs:")[0].split("\nRaises:")[0]
    return textwrap.dedent("\n".join(re.findall(r"^ {4}.*", text, re.MULTILINE)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made, rng = tmp_path_factory.mktemp("howto"), np.random.default_rng(0)
    area, town = rng.uniform(30, 150, 40).round(1), rng.choice(["Ulm", "Bern", "Genf"], 40)
    built = np.datetime64("1990-01-01") + rng.integers(0, 10_000, 40)
    price = 3.0 * area + 50.0 * (town == "Genf") + rng.normal(size=40)
    holes = [None if i % 7 == 0 else value for i, value in enumerate(area.tolist())]
    write_parquet(pyarrow.table({"area": holes, "town": town, "built": built, "price": price}), made / "houses.parquet")
    (made / "new.csv.gz").write_bytes(gzip.compress(b"town;area;built\nBasel;75,5;2026-01-31\nUlm;;2020-02-29\n"))
    frame = pandas.read_parquet(made / "houses.parquet")
    quick = tables.Recipe(hidden=4, epochs=10, missing="median", posterior="mean_field")
    tables.fit_table(frame, "price", recipe=quick, progress=False)[0].save(made / "house.safetensors")
    return made


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_of_a_docstring_runs(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    quick = functools.partial(tables.Recipe, hidden=4, epochs=10, posterior="mean_field")
    monkeypatch.setattr(tables, "Recipe", quick)
    code, bound = example(DOCUMENTED[name]), {"bbb": bbb, "pandas": pandas}
    assert code.count("\n") >= 2
    exec(code, bound)
    if name == "groups":
        assert len(capsys.readouterr().out.splitlines()) == 3
    if name == "read":
        assert bound["band"].mean.shape == (2, 1)
    if name == "read_pieces":
        assert tables.read("predictions.parquet").rows == 40
