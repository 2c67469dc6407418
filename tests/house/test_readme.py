"""The README is short; its examples run as they stand, each in a fresh interpreter; its picture is what they draw."""

import ast
import builtins
import importlib.util
import os
import re
import subprocess
import symtable
import sys

import numpy as np
import pytest
from matplotlib.image import imread

import bbb
from tests import ROOT

README = ROOT / "README.md"
INDEX = ROOT / "docs" / "index.md"
TEXT = README.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## .+?$|```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
EXAMPLES = [code for code in EXAMPLES if code]
NAMES = ("the first", "from flax")


def run(code, folder):
    """Run a program as a reader does, from a file in a folder of its own; return what it printed."""
    if "flax" in code and importlib.util.find_spec("flax") is None:
        pytest.skip("needs flax")
    (folder / "example.py").write_text(code, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "XLA_FLAGS": "",
    }  # compiled as users have it
    command = [sys.executable, "example.py"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def unbound(code):
    """Name what a block uses and neither makes nor imports, wherever in it."""
    module = symtable.symtable(code, "example.py", "exec")
    bound = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned() or symbol.is_imported()}

    def used(table):
        symbols = (symbol for symbol in table.get_symbols() if symbol.is_referenced())
        yield from (symbol.get_name() for symbol in symbols if table is module or symbol.is_global())
        for child in table.get_children():
            yield from used(child)

    return set(used(module)) - bound - set(dir(builtins))


@pytest.mark.parametrize("code", EXAMPLES, ids=NAMES)
def test_each_example_makes_or_imports_all_that_it_names(code):
    assert not unbound(code)


def test_what_is_not_bound_is_found():
    assert unbound("import a\nb = [c for c in a.d if e]\ndef f(x):\n    return x + b + g + len(h)\n") == {"e", "g", "h"}


def difference(picture, other):
    """Return the mean absolute difference of two pictures, of pixels in [0, 1]."""
    first, second = (imread(path)[..., :3] for path in (picture, other))
    assert first.shape == second.shape
    return float(np.mean(np.abs(first - second)))


def test_the_site_begins_with_the_same_example():
    (first,) = re.findall(r"```{code-cell}.*?---\n(import.*?)```", INDEX.read_text(encoding="utf-8"), re.DOTALL)[:1]
    statements, of_readme = (list(map(ast.dump, ast.parse(code).body)) for code in (first, EXAMPLES[0]))
    assert statements == of_readme[: len(statements)]
    assert len(of_readme) - len(statements) == 3  # the picture and two files


def test_the_first_example_writes_the_picture_that_is_shown(tmp_path):
    """Up to what another release of JAX or matplotlib moves by a pixel."""
    check = """
import numpy as np
assert abs(float(model.likelihood.std) / bbb.tasks.NOISE_STD - 1) < 0.15
lower, upper = band.y.interval(0.997)
assert np.mean((lower <= task.y_test) & (task.y_test <= upper)) > 0.98
"""
    same_as_the_demo = """
from pathlib import Path
from bbb.cli import demo
demo.write(demo.run(progress=False), "demo")
assert Path("band.png").read_bytes() == Path("demo/band.png").read_bytes()
"""
    run(EXAMPLES[0] + check + same_as_the_demo, tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    assert difference(tmp_path / "band.png", ROOT / "band.png") < 0.01


def test_a_flax_network_gets_calibrated_intervals_in_fifteen_lines(tmp_path):
    code = EXAMPLES[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    run(code + "\nassert 0.82 < bbb.metrics.coverage(task.y_test, lower, upper) < 0.97\n", tmp_path)


def test_the_two_commands_the_picture_and_the_example_come_first():
    lines = TEXT.splitlines()
    assert lines.index("    python -m pip install . && bbb demo") < 5
    assert lines.index("    python -m pip install '.[test]' && python -m pytest") < 5
    first = {mark: next(i for i, line in enumerate(lines) if line.startswith(mark)) for mark in ("![", "```python")}
    assert max(first.values()) < 20


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 120
    assert max(len(line) for line in TEXT.splitlines() if not line.startswith("|")) <= 120


def test_every_name_of_the_library_in_it_exists():
    for name in set(re.findall(r"\bbbb((?:\.\w+)+)", TEXT)) - {".npz"}:
        value = bbb
        for part in name[1:].split("."):
            value = getattr(value, part)
