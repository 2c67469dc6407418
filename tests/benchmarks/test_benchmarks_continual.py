"""The benchmark of learning on: its tasks, and that it runs."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")

from benchmarks import continual, race


def test_tasks_are_permutations_of_the_pixels_that_differ():
    orders = continual.orders(10)
    assert (np.sort(orders, axis=1) == np.arange(64)).all()
    assert len({tuple(order) for order in orders}) == 10


def test_a_record_says_what_is_kept_of_the_first_task():
    answer = {"accuracies": np.array([[0.9, np.nan], [0.5, 0.8]]), "seconds": np.array([2.0, 1.0])}
    record = continual._record(race.Result("diag", {}, answer=answer))
    assert (record["mean"], record["first"], record["last"], record["learned"]) == (0.65, 0.5, 0.8, 0.9)
    assert record["accuracies"][0] == [0.9, None]


@pytest.mark.slow
def test_every_method_runs(tmp_path):
    continual.main(["--quick", "--json", str(tmp_path / "found.json")])
    (records,) = json.loads((tmp_path / "found.json").read_text())["results"][continual.TITLE].values()
    assert [record["method"] for record in records] == list(continual.WORKS["tasks"])
    assert all(0 <= record["mean"] <= 1 for record in records)
