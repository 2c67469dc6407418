"""The benchmark of the mushroom bandit: its mushrooms, its rewards, and its agents."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import bandit, report

UCI_ROWS = "p,x,s\ne,b,s\ne,x,y\n"
KEEL_ROWS = "@relation mushroom\n@data\nx, s, p\nb, s, e\nx, y, e\n"


def test_both_formats_say_the_same(tmp_path):
    found = []
    for name, text in (("uci", UCI_ROWS), ("keel", KEEL_ROWS)):
        (tmp_path / name).write_text(text)
        found.append(bandit.read(tmp_path / name))
    np.testing.assert_array_equal(found[0].x, [[0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1]])
    for one in found:
        np.testing.assert_array_equal(one.x, found[0].x)
        np.testing.assert_array_equal(one.edible, [False, True, True])


def test_a_file_without_labels_is_refused(tmp_path):
    (tmp_path / "none").write_text("a,b\nc,d\n")
    with pytest.raises(SystemExit, match="a column of e and p"):
        bandit.read(tmp_path / "none")


def test_what_is_made_up_has_the_shape_of_the_real_ones():
    data = bandit.mushrooms() if bandit.installed() is None else bandit.made_up()
    assert len(data.x) == len(data.edible) == 8_124
    np.testing.assert_array_equal(data.x.sum(axis=1), 22)
    assert 0.3 < data.edible.mean() < 0.7


def test_regret_is_what_the_oracle_is_expected_to_get_more():
    eat, edible = jnp.array([True, True, False, False]), jnp.array([True, False, True, False])
    draw = jax.vmap(lambda key: bandit.rewards(key, eat, edible))
    reward, regret = map(np.asarray, draw(jax.random.split(jax.random.key(0), 4_000)))
    np.testing.assert_array_equal(regret[0], [0, 15, 5, 0])
    oracle = np.array([5, 0, 5, 0])
    error = np.abs(reward.mean(axis=0) + regret[0] - oracle)
    np.testing.assert_array_equal(error[[0, 2, 3]], 0)
    assert error[1] < 4 * 20 / np.sqrt(4_000)
    assert set(np.unique(reward[:, 1])) == {-35, 5}


def test_it_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "machine", dict)
    monkeypatch.setattr(bandit, "mushrooms", lambda file: bandit.made_up(rows=50, columns=4, species=3))
    out, picture = tmp_path / "bandit.json", tmp_path / "bandit.png"
    bandit.main(["--quick", "--mushrooms", "60", "--json", str(out), "--out", str(picture)])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (bandit.THOMPSON, *bandit.SHARES))
    records = json.loads(out.read_text())["results"]["The mushroom bandit"]
    runs = next(iter(records.values()))[0]["runs"]
    assert len(runs) == bandit.QUICK.runs
    assert runs[0] != runs[1]  # of another start and other mushrooms
    assert all(0 <= total <= 15 * 60 for total in runs)
    assert picture.stat().st_size > 10_000
