"""Bad input to `save`, `load` and `read_metadata`: refused by name, and nothing is written."""

import pytest

import bbb
from bbb.errors import InputError, ModelFileError, WriteError
from tests.bad_input import MODEL, NAN, assert_refused, classifier, wrong_models, wrong_paths

MODELS = {
    "save: model": lambda model: bbb.save("new", model),
    "load: like": lambda model: bbb.load("model", like=model) if model is not None else bbb.load("model", like=0),
}

PATHS = {
    "save: path": lambda path: bbb.save(path, MODEL),
    "load: path": bbb.load,
    "io.read_metadata: path": bbb.io.read_metadata,
}

CASES = {
    **wrong_models(MODELS),
    **wrong_paths(PATHS),
    "io.cache_programs: in a file": (lambda: bbb.io.cache_programs("train.csv/a"), WriteError, "folder for compiled"),
    "io.cache_programs: no bytes": (
        lambda: bbb.io.cache_programs("new", max_bytes=0),
        InputError,
        "max_bytes to be a whole number of at least 1",
    ),
    "save: no such folder": (lambda: bbb.save("nowhere/model", MODEL), WriteError, "Check that the folder exists"),
    "save: a folder": (lambda: bbb.save("folder", MODEL), WriteError, "to be able to write"),
    "save: the folder here": (lambda: bbb.save(".", MODEL), bbb.errors.BBBError, "a file name"),
    "save: no name": (lambda: bbb.save("", MODEL), bbb.errors.BBBError, "a file name"),
    "save: in a file": (lambda: bbb.save("train.csv/model", MODEL), WriteError, "to be able to write"),
    "save: metadata of a set": (lambda: bbb.save("new", MODEL, {"a": {1}}), InputError, "metadata of JSON values"),
    "save: metadata of NaN": (lambda: bbb.save("new", MODEL, {"a": NAN}), InputError, "metadata of JSON values"),
    "save: metadata in words": (lambda: bbb.save("new", MODEL, "columns"), InputError, "metadata to be a dictionary"),
    "save: metadata of a number": (lambda: bbb.save("new", MODEL, 3), InputError, "metadata to be a dictionary"),
    "load: no such file": (lambda: bbb.load("none"), ModelFileError, "No such file"),
    "load: a folder": (lambda: bbb.load("folder"), ModelFileError, "regular file"),
    "load: a table": (lambda: bbb.load("train.csv"), ModelFileError, "to be a complete model file"),
    "load: like another model": (lambda: bbb.load("model", like=classifier()), ModelFileError, "of the model given as"),
    "io.read_metadata: no such file": (lambda: bbb.io.read_metadata("none"), ModelFileError, "No such file"),
    "io.read_metadata: a table": (
        lambda: bbb.io.read_metadata("train.csv"),
        ModelFileError,
        "to be a complete model file",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
