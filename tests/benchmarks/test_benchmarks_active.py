"""The benchmark of active learning: which rows are labelled, and what is written."""

import json

import numpy as np
import pytest

import bbb
from benchmarks import active, report, uci
from tests import UCI


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    splits = [uci.Split(np.arange(30), np.arange(30, 40)), uci.Split(np.arange(10, 40), np.arange(10))]
    return uci.Data("made up", x, x[:, :1] - x[:, 1:] ** 2 + 0.1 * rng.normal(size=(40, 1)), splits)


@pytest.fixture(scope="module")
def split(data):
    nn = bbb.nn
    return active.Split(data, 0, active.QUICK, nn.sequential(nn.linear(2, 3), nn.tanh, nn.linear(3, 1)))


def test_rows_are_labelled_once_and_never_those_that_score(split):
    model, *_ = split.learn(split.start)
    for method in active.METHODS:
        more = split.choose(method, model, split.start, np.random.default_rng(1))
        assert len(set(more)) == active.QUICK.each
        assert not set(more) & set(split.start)
        assert set(more) < set(range(30))


def test_y_is_standardised_by_the_labelled_rows_alone(split):
    _, mean, std = split.learn(split.start)
    assert (mean, std) == pytest.approx((split.y[split.start].mean(), split.y[split.start].std()))


def test_rows_of_no_weight_change_nothing(split):
    model, *_ = split.learn(split.start)
    most, y = active.QUICK.labels[-1], split.y[split.start]
    other = np.setdiff1d(np.arange(30), split.start)[: most - len(split.start)]
    x = split.x[[*split.start, *other]]
    weight = (np.arange(most) < len(split.start)).astype(np.float32)
    targets = ((split.y[[*split.start, *other]] - y.mean()) / y.std()).astype(np.float32)
    again = bbb.laplace(split.key, model, x, targets, sample_weight=weight)
    one, two = (bbb.predict(split.key, m, split.test_x).f.std for m in (model, again))
    np.testing.assert_allclose(one, two, rtol=1e-3)


def test_all_methods_begin_alike_and_the_table_is_of_the_curves(data):
    found = active.measure(data, 2, active.QUICK)
    assert {scores.shape for scores in found.values()} == {(2, 3, 2)}
    first = [scores[:, 0] for scores in found.values()]
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])
    section = active.section(data.name, found, active.QUICK)
    assert section.text.count("\n") == 2 + 3 * 3 - 1
    json.dumps(section.records)
    last = next(r for r in section.records if r.get("labels") == 11 and r["method"] == "BatchBALD")
    gain = found["batchbald"][:, 2, 0] - found["random"][:, 2, 0]
    assert last["rmse_gain"] == pytest.approx(gain.mean())
    assert last["rmse_gain_se"] == pytest.approx(gain.std(ddof=1) / np.sqrt(2))


def test_it_runs(tmp_path, capsys, monkeypatch):
    if not UCI.is_dir():
        pytest.skip(f"needs the UCI sets in {UCI}, which only its own workplace has")
    monkeypatch.setattr(report, "machine", dict)
    out, picture = tmp_path / "active.json", tmp_path / "active.png"
    words = ["--data", str(UCI), "--sets", "yacht", "--repeats", "1", "--quick"]
    active.main([*words, "--json", str(out), "--out", str(picture)])
    assert "yacht, 1 repeats" in capsys.readouterr().out
    assert "Active learning" in json.loads(out.read_text())["results"]
    assert picture.stat().st_size > 10_000
