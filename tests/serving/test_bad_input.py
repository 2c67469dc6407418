"""Bad input to `export` and `load_exported`: refused by name, and nothing is written."""

import pytest

import bbb
from bbb import InputError, ModelFileError
from tests.bad_input import MODEL, X, assert_refused

CASES = {
    "export: no model": (lambda: bbb.export("new", "model", X), InputError, "Expected model to be a BNN"),
    "export: no draws": (lambda: bbb.export("new", MODEL, X, draws=0), InputError, "draws to be a whole number"),
    "export: a level of 2": (lambda: bbb.export("new", MODEL, X, levels=(2,)), InputError, "level to be one number"),
    "export: x in words": (lambda: bbb.export("new", MODEL, "x"), InputError, "x to be real numbers"),
    "load_exported: nothing": (lambda: bbb.load_exported(None), InputError, "a path"),
    "load_exported: no such file": (lambda: bbb.load_exported("none"), ModelFileError, "No such file"),
    "load_exported: a model": (lambda: bbb.load_exported("model"), ModelFileError, "a file that bbb wrote"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
