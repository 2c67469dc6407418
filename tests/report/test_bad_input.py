"""Bad input to reports: refused by name, before anything is computed or written."""

import functools

import pytest

import bbb
from bbb.errors import InputError, TableError, WriteError
from tests.bad_input import MODEL, NAN, assert_refused, crossed, wrong_counts, wrong_paths
from tests.report.models import model, table

pytest.importorskip("jinja2", reason="needs jinja2, of the extra report")
pytest.importorskip("plotly", reason="needs plotly, of the extra report")

OF = functools.cache(model)


def write(path="new.html", of=None, rows=None, **options):
    return bbb.report.write(path, OF() if of is None else of, table(5) if rows is None else rows, **options)


CASES = {
    "report.write: a folder": (lambda: write("folder"), WriteError, "to a file, got the folder folder"),
    "report.write: within a file": (
        lambda: write("train.csv/new.html"),
        WriteError,
        "a writable folder, got train.csv",
    ),
    "report.write: a device": (lambda: write("/dev/null"), WriteError, "to a file, got the device or pipe"),
    "report.write: a BNN": (lambda: write(of=MODEL), InputError, "model to be a TabularModel, got a BNN. Pass"),
    "report.write: the name of a model": (lambda: write(of="model"), InputError, "a TabularModel, got a str"),
    "report.write: rows that are no table": (lambda: write(rows=[[1.0]]), InputError, "a Table, or a frame of"),
    "report.write: no such file": (lambda: write(rows="none.csv"), TableError, "No such file"),
    "report.write: rows without a column": (
        lambda: write(rows="train.csv"),
        TableError,
        "a column 'town' in train.csv",
    ),
    "report.write: a group that is not there": (lambda: write(group="land"), TableError, "a column 'land' in rows.csv"),
    "report.write: a group that is no name": (lambda: write(group=3), InputError, "group to be a str, got int 3"),
    "report.write: another word for unknown": (lambda: write(unknown="guess"), InputError, "unknown to be one of"),
    "report.write: a date that is none": (lambda: write(date="2026-01-31"), InputError, "date to be a date, got str"),
    **crossed(
        {"report.write: level": lambda value: write(level=value)},
        {"0": 0, "1": 1, "NaN": NAN, "a word": "high"},
        InputError,
        r"inside \(0, 1\)|real numbers",
        " is",
    ),
    **crossed(
        {"report.write: seed": lambda value: write(seed=value)},
        {"-1": -1, "1.5": 1.5, "a word": "now", "too large": 2**32},
        InputError,
        "seed to be a whole number from 0",
        " is",
    ),
    **wrong_counts({"report.write: draws": lambda value: write(draws=value)}),
    **wrong_paths({"report.write: path": lambda value: write(path=value)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
