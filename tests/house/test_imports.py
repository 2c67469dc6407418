"""Imports run one way, files are short, `import bbb` is light, and no package is hidden by a function of its name."""

import ast
import importlib
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import bbb
from tests import ROOT

FILES = sorted((ROOT / "bbb").rglob("*.py"))
LAYERS = ROOT / "bbb" / "networks" / "nn"


def name_of(path: Path) -> str:
    """Return the dotted name of a module of bbb."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Name the modules that a file imports from bbb, wherever in it: "tasks" for `from bbb import tasks`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] if "." in name else "bbb" for name in found if name.split(".")[0] == "bbb"}


def test_the_contract_of_imports_is_kept(monkeypatch):
    main = pytest.importorskip("importlinter.cli", reason="the contract is import-linter's: pip install '.[dev]'")
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    assert main.lint_imports(no_cache=True) == 0


def test_every_package_has_its_place_in_the_contract():
    tomllib = importlib.import_module("tomllib")
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    named = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    assert named == {f"bbb.{path.stem}" for path in (ROOT / "bbb").iterdir() if path.suffix in {"", ".py"}} - {
        "bbb.__init__",
        "bbb.__pycache__",
    }


def test_no_import_is_a_cycle():
    """The contract is of packages; this one is of modules, those of one package too."""
    names = {name_of(path): path for path in FILES}
    graph = {}
    for name, path in names.items():
        found = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bbb"):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {one if one in names else node.module for one in inner}
        graph[name] = found & set(names) - {"bbb"}
    finished: set[str] = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in finished:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            finished.add(name)

    for name in sorted(graph):
        visit(name, [])


def test_packages_hold_ten_files_and_files_are_short():
    for folder in {path.parent for path in FILES} - {LAYERS}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 10, folder
    lengths = [len(path.read_text().splitlines()) for path in FILES if path.name != "__init__.py"]
    assert statistics.median(lengths) < 200
    assert max(lengths) < 500


def test_no_function_is_longer_than_sixty_lines_without_its_docstring():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                assert node.end_lineno - first.lineno < 60, f"{path}: {node.name}"


def test_no_package_is_hidden_by_a_function_of_its_name():
    for path in FILES:
        module = importlib.import_module(name_of(path)) if path.name != "__main__.py" else None
        parent, _, name = name_of(path).rpartition(".")
        if parent and module and hasattr(sys.modules[parent], name):
            assert getattr(sys.modules[parent], name) is module, name_of(path)
    assert bbb.moments.moments


def test_the_reference_imports_the_task_and_nothing_else():
    files = list((ROOT / "reference").rglob("*.py"))
    if not files:
        pytest.skip("there is no reference/ here")
    assert set().union(*map(imported, files)) <= {"tasks"}


def test_there_is_no_utils():
    assert not {"utils", "util", "helpers", "misc"} & {path.stem for path in FILES}


def test_importing_bbb_is_light_and_touches_no_device():
    code = (
        "import sys, bbb, jax._src.xla_bridge as bridge\n"
        "heavy = {'torch', 'torchbnn', 'sklearn', 'matplotlib', 'pandas', 'scipy.special', 'xarray'}\n"
        "print(sorted(heavy & set(sys.modules)), bridge.backends_are_initialized())"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[0] == "[] False"


def test_the_estimators_are_there_when_asked_for():
    code = "import sys, bbb; assert 'sklearn' not in sys.modules; print(bbb.sklearn.BayesianMLPRegressor.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.stdout == "BayesianMLPRegressor\n", run.stderr


def test_tables_and_reports_are_there_when_asked_for():
    code = (
        "import sys, bbb; assert not {'bbb.tables', 'bbb.report'} & set(sys.modules); "
        "print(bbb.tables.read.__name__, bbb.report.write.__name__, {'jinja2', 'plotly'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.stdout == "read write set()\n", run.stderr
