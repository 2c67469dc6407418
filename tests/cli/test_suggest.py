"""The command `bbb suggest`: the rows and scores of the library, with the columns as they were read."""

import csv
import io
import json

import jax
import numpy as np
import pytest

from bbb import likelihoods
from bbb.cli.main import main
from bbb.decide import acquisition
from bbb.networks import nn
from bbb.tables import model as tables
from bbb.tables.encoding import Column, Encoding
from tests.bad_input import bayesian

DRAWS = ("--draws", "50")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a folder with a pool, and models of a number, of a class and of a column of words."""
    folder = tmp_path_factory.mktemp("suggest")
    rng = np.random.default_rng(0)
    towns = ["Bern", "Ulm", "Ulm"] * 3
    rows = [f"{a:.3f},{town},{b:.3f}" for (a, b), town in zip(rng.normal(size=(9, 2)), towns, strict=True)]
    (folder / "pool.csv").write_text("a,town,score\n" + "\n".join(rows) + "\n")
    network = nn.sequential(nn.linear(2, 3), nn.tanh, nn.linear(3, 1))
    tables.TabularModel(bayesian(network, std=0.5), ("a", "score"), "y").save(folder / "number")
    labels = bayesian(nn.linear(2, 2), likelihood=likelihoods.Categorical(), std=0.9)
    tables.TabularModel(labels, ("a", "score"), "y", ("red", "blue")).save(folder / "class")
    kinds = Encoding((Column("a"), Column("town", "words", ("Bern", "Ulm"))))
    tables.TabularModel(bayesian(nn.linear(3, 1), std=0.5), ("a", "town"), "y", encoding=kinds).save(folder / "towns")
    return folder


def suggested(capsys, work, model, *words):
    assert main(["suggest", str(work / model), str(work / "pool.csv"), "--count", "3", *DRAWS, *words]) == 0
    return capsys.readouterr().out


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


CALLS = {
    "bald": ((), lambda *given: acquisition.bald(*given, draws=50)),
    "variance": ((), lambda *given: acquisition.variance(*given, draws=50)),
    "ei": (("--best", "0.1"), lambda *given: acquisition.expected_improvement(*given, 0.1, draws=50)),
    "ucb": (
        ("--beta", "1", "--minimize"),
        lambda *given: acquisition.upper_confidence_bound(*given, 1.0, maximize=False, draws=50),
    ),
}


@pytest.mark.parametrize("method", CALLS)
def test_the_rows_are_those_of_the_largest_scores(work, capsys, method):
    words, score = CALLS[method]
    found = rows_of(suggested(capsys, work, "number", "--method", method, *words))
    held = tables.TabularModel.load(work / "number")
    table = held.read(work / "pool.csv")
    scores = score(jax.random.key(0), held.model, held.inputs(table))
    best = np.argsort(-scores, kind="stable")[:3]
    assert [int(row["row"]) for row in found] == list(best + 1)
    assert list(found[0]) == ["row", "a", "score", "score_"]  # a column of the table has the name of the scores
    assert [np.float32(row["score_"]) for row in found] == list(scores[best])
    assert [float(row["a"]) for row in found] == list(table.select(["a"])[best, 0])


@pytest.mark.parametrize("model", ["number", "class"])
@pytest.mark.parametrize("method", ["batchbald", "k-center"])
def test_a_batch_is_that_of_the_library(work, capsys, model, method):
    found = json.loads(suggested(capsys, work, model, "--method", method, "--json"))
    held = tables.TabularModel.load(work / model)
    x = held.inputs(held.read(work / "pool.csv"))
    batch = acquisition.choose_batch(jax.random.key(0), held.model, x, 3, method=method, draws=50)
    assert [row["row"] for row in found] == list(batch.rows + 1)
    np.testing.assert_allclose([row["score_"] for row in found], batch.scores, rtol=1e-6)


def test_words_are_written_as_they_were_read_and_to_a_file(work, capsys, tmp_path):
    assert suggested(capsys, work, "towns", "--out", str(tmp_path / "next.csv")) == ""
    found = rows_of((tmp_path / "next.csv").read_text())
    assert list(found[0]) == ["row", "a", "town", "score"]
    lines = (work / "pool.csv").read_text().splitlines()
    for row in found:
        assert lines[int(row["row"])].split(",")[1] == row["town"]
