"""Imports run one way, the rim stays outside, and `import bbb` is light."""

import ast
import subprocess
import sys

import pytest

from tests import ROOT

ORDER = [
    *(
        "_display",
        "_tree",
        "_ability",
        "_tiles",
        "_shapes",
        "_fork",
        "_check",
        "_compile",
        "_spread",
        "_file",
        "_noise",
        "_trace",
        "_rowaxes",
        "_rowpaths",
        "_rows",
        "_activations",
        "_rules",
        "_eachrow",
    ),
    *(
        "_posterior_protocol",
        "posterior",
        "full_rank",
        "_mesh",
        "prior",
        "schedule",
        "_kl_weight",
        "_special",
        "_elementwise",
        "likelihood",
        "_members",
        "forward",
        "explain",
        "_pieces",
        "moments",
    ),
    *(
        "adapters",
        "model",
        "standardize",
        "objective",
        "_metric_inputs",
        "metrics",
        "pruning",
        "_weights",
        "mixture",
        "_mixture_error",
        "_entropy",
        "_estimate",
        "summary",
        "_finite",
        "predict",
    ),
    *(
        "history",
        "_optimizer",
        "options",
        "_train_state",
        "_train_mode",
        "_train_noise",
        "_train_batches",
        "_train_mesh",
        "_train",
        "_validation",
        "_signals",
        "_arrays",
        "_fingerprint",
        "_resume",
        "_records",
        "_checkpoint_policy",
        "_nonfinite",
        "_loop",
        "_plan",
        "_restarts",
        "fit",
        "_fit_each",
        "ensemble",
        "datatree",
        "_convergence",
        "_case",
        "_checks_posterior",
        "_checks_predictive",
        "diagnose",
        "nn",
        "_state_dict",
        "torchbnn",
        "checkpoint",
        "export",
        "plot",
    ),
    *("tasks", "table", "tabular", "estimator", "demo", "pictures", "cli", "__main__"),
]
RIM = {"export", "plot", "estimator", "demo", "pictures", "cli", "__main__"}
MODULES = sorted(path.stem for path in (ROOT / "bbb").glob("*.py") if path.stem != "__init__")


def imported(path):
    """Name the modules of bbb that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "bbb" if node.level else node.module
            tail = f".{node.module}" if node.level and node.module else ""
            found |= {f"{base}{tail}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] if "." in name else "bbb" for name in found if name.split(".")[0] == "bbb"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_above_it(module):
    assert module in ORDER, f"give {module} its place in the order"
    above = set(ORDER[: ORDER.index(module)])
    whole = {"bbb", "__version__"} if module in RIM else set()  # the rim may see everything
    assert imported(ROOT / "bbb" / f"{module}.py") <= above | whole


@pytest.mark.parametrize("module", [module for module in MODULES if module not in RIM])
def test_no_module_imports_the_rim(module):
    assert not imported(ROOT / "bbb" / f"{module}.py") & RIM


def test_the_reference_imports_the_task_and_nothing_else():
    files = list((ROOT / "reference").rglob("*.py"))
    if not files:
        pytest.skip("there is no reference/ here")
    assert set().union(*map(imported, files)) <= {"tasks"}


def test_there_is_no_utils():
    assert not {"utils", "util", "helpers", "common"} & set(MODULES)


def test_importing_bbb_is_light_and_touches_no_device():
    code = (
        "import sys, bbb, jax._src.xla_bridge as bridge\n"
        "heavy = {'torch', 'torchbnn', 'sklearn', 'matplotlib', 'pandas', 'scipy.stats', 'xarray'} & set(sys.modules)\n"
        "print(sorted(heavy), bridge.backends_are_initialized())"
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
