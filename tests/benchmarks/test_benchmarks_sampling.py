"""The benchmark of the ways of sampling: each in every table, and what a draw is worth."""

import numpy as np
import pytest

from benchmarks import program, sampling


def test_what_a_draw_is_worth_is_a_ratio_of_squares():
    first = {"sampling": "independent", "draws": 10, "mean": 0.2, "std": 0.1, "said": 1.0, "seconds": 1.0}
    other = {"sampling": "sobol", "draws": 20, "mean": 0.1, "std": 0.1, "said": 1.0, "seconds": 1.0}
    cells = dict(zip(sampling.HEAD, sampling._cells(other, first), strict=True))
    assert (cells["worth"], cells["worth "]) == ("2", "0.5")


@pytest.mark.slow
def test_every_way_is_in_every_table():
    sections = list(sampling.sections(program.Options(quick=True)))
    assert [section.title.split(",")[0] for section in sections] == ["1-3-1", "1-3-3-1"]
    for section in sections:
        assert [record["sampling"] for record in section.records] == list(sampling.WAYS)
        assert all(np.isfinite(record["mean"]) and record["said"] > 0 for record in section.records)
