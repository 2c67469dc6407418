"""Bad input to `export` and `load_exported`: refused by name, and nothing is written."""

import pytest

import bbb
from bbb.errors import InputError, ModelFileError
from tests.bad_input import MODEL, X, assert_refused

CASES = {
    "serving.export: no model": (
        lambda: bbb.serving.export("new", "model", X),
        InputError,
        "Expected model to be a BNN",
    ),
    "serving.export: no draws": (
        lambda: bbb.serving.export("new", MODEL, X, draws=0),
        InputError,
        "draws to be a whole number",
    ),
    "serving.export: a level of 2": (
        lambda: bbb.serving.export("new", MODEL, X, levels=(2,)),
        InputError,
        "level to be one number",
    ),
    "serving.export: x in words": (lambda: bbb.serving.export("new", MODEL, "x"), InputError, "x to be real numbers"),
    "serving.load_exported: nothing": (lambda: bbb.serving.load_exported(None), InputError, "a path"),
    "serving.load_exported: no such file": (lambda: bbb.serving.load_exported("none"), ModelFileError, "No such file"),
    "serving.load_exported: a model": (
        lambda: bbb.serving.load_exported("model"),
        ModelFileError,
        "a file that bbb wrote",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
