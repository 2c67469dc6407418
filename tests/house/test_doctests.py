"""The examples of the docstrings run, each by itself, as a reader runs it; and what needs one has one."""

import doctest
import importlib
import inspect

import jax
import pytest

import bbb
from bbb import sklearn as estimators
from bbb import tables
from tests import ROOT
from tests.house.public import PROTOCOLS, RECORDS, public

LONG = {"bbb.sklearn", "bbb.train.data"}
"""Pages rather than examples, which `tests/sklearn` and `tests/train` run, beside these and not after them."""

MODULES = sorted(
    {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "bbb").rglob("*.py")
        if ">>> " in path.read_text(encoding="utf-8")
    }
    - LONG
)

NEEDS = {"bbb.decide.model_checks.auditing": "blackjax", "bbb.serving.exported": "flatbuffers"}
NEEDS |= dict.fromkeys(("bbb.tables.frames", "bbb.tables.fit"), "pandas")

PACKAGES = {"forwards", "likelihoods", "mixture", "moments", "nn", "objectives", "posteriors", "priors"}
PACKAGES |= {"decide", "metrics"}
"""Those of which every function, and every class that users make, has an example; as has all of the front."""

WITHOUT = {
    "forwards.Forward",  # a type
    "posteriors.Point",  # what is left where nothing is random, and a draw of a Markov chain: nobody makes one
    "decide.load_conformal",  # beside `Conformal.save`
    "decide.simulation_based_calibration",  # a hundred trainings
    "objectives.MinibatchWeights",  # what `minibatch_weights` returns
    "objectives.WarmUp",  # what `warm_up` returns
}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, monkeypatch, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    runner, report = doctest.DocTestRunner(), []
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for example in doctest.DocTestFinder().find(importlib.import_module(name), name):
            example.globs = {"__name__": "__main__"}  # what a reader has: nothing that is not imported there
            runner.run(example, out=report.append)
    assert runner.tries
    assert not runner.failures, "".join(report)
    assert not list(tmp_path.iterdir())


def test_every_function_and_class_of_the_list_has_an_example():
    chosen = [name for name in public() if "." not in name or name.split(".")[0] in PACKAGES]
    wanted = set(chosen) - RECORDS - PROTOCOLS - WITHOUT
    values = {name: reached(bbb, name) for name in wanted}
    values |= {f"sklearn.{name}": getattr(estimators, name) for name in estimators.__all__}
    values |= {f"tables.{name}": getattr(tables, name) for name in ("as_table", "fit_table", "read")}
    assert not [name for name, value in values.items() if ">>> " not in (inspect.getdoc(value) or "")]
    assert set(public()) >= WITHOUT


def test_pages_have_programs_that_are_run_instead_of_sessions():
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    assert pages
    assert not [path for path in pages if ">>> " in path.read_text(encoding="utf-8")]


def reached(value, path):
    """Return what a path such as `nn.linear` leads to."""
    for name in path.split("."):
        value = getattr(value, name)
    return value
