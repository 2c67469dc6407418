"""The benchmark of streams: all rows are learned from and predicted, and its limit of memory is held."""

import json

import jax
import numpy as np
import pytest

from benchmarks import streams


@pytest.fixture(autouse=True)
def _as_users_run_it():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def test_a_file_holds_every_row_once(tmp_path):
    task = streams.Task(rows=100, columns=3, batch=32)
    file = streams.File(tmp_path / "rows", task)
    file.write()
    whole = np.fromfile(file.path, np.float32).reshape(100, 4)
    x, y = (np.concatenate(parts) for parts in zip(*file.of_pass(0), strict=True))
    np.testing.assert_array_equal(np.hstack([x, y]), whole)
    left = whole[:, 3] - np.sin(whole[:, :3]).sum(axis=1) / np.sqrt(3)
    assert 0.07 < left.std() < 0.13  # of 100 rows, four standard errors around 0.1


def test_a_run_gives_memory_and_seconds_of_every_part(tmp_path, capsys):
    out = tmp_path / "numbers.json"
    streams.main(["--quick", "--rows", "500", "--columns", "2", "--limit-mb", "1e6", "--json", str(out)])
    assert "500 rows × 2 columns" in capsys.readouterr().out
    parts, curve = json.loads(out.read_text())["results"][streams.TITLE].values()
    assert [record["part"] for record in parts] == ["write", "fit", "predict"]
    assert all(point["resident_mb"] > 0 for point in curve)


def test_too_much_memory_ends_with_an_error():
    with pytest.raises(SystemExit, match=r"MB, more than 1$"):
        streams.main(["--quick", "--rows", "300", "--columns", "2", "--limit-mb", "1"])
