"""The README's example runs as it stands, and its figures and commands are true."""

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

import bbb

README = Path(__file__).parents[1] / "README.md"


def test_the_first_example_runs_and_its_band_is_right(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    task, band, model = names["task"], names["band"], names["model"]
    assert float(model.likelihood.std) == pytest.approx(bbb.tasks.NOISE_STD, rel=0.25)
    lower, upper = band.y.interval(0.997)
    assert np.mean((lower <= task.y_test) & (task.y_test <= upper)) > 0.98
    assert (tmp_path / "model.safetensors").exists()


def test_the_two_commands_the_picture_and_the_example_come_first():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("    python -m pip install . && bbb demo") < 5
    assert lines.index("    python -m pip install '.[test]' && python -m pytest") < 5
    first = {mark: next(i for i, line in enumerate(lines) if line.startswith(mark)) for mark in ("![", "```python")}
    assert max(first.values()) < 20
    assert (README.parent / "band.png").exists()
