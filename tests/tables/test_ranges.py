"""Numbers that JAX's floats do not hold, or do not tell apart: refused by column and line before training."""

import dataclasses
import re

import numpy as np
import pytest

from bbb.errors import TableError
from bbb.tables import csv, fit
from bbb.tables import recipe as recipe_module

ROWS = np.random.default_rng(0).normal(size=(12, 3))
QUICK = recipe_module.Recipe(hidden=2, epochs=1, posterior="mean_field", likelihood="gaussian")


def table(column, place=None, **change):
    """Return a table with one column changed: one of its cells, or all of them by a factor and a shift."""
    values = ROWS.copy()
    if place is None:
        values[:, column] = change.get("factor", 1.0) * values[:, column] + change.get("shift", 0.0)
    else:
        values[place, column] = change["cell"]
    return csv.Table("made.csv", ("a", "b", "y"), values, lines=np.arange(2, 14))


REFUSED = {
    "a target of 1e160": (table(2, 7, cell=1e160), "at most 1.8e+19 in size in every row of column 'y' in made.csv, "),
    "of 1e30": (table(2, 7, cell=-1e30), "got -1e+30 in line 9. Correct it, remove the row, or give"),
    "targets of 1e-30": (table(2, factor=1e-30), "a standard deviation of at least 1.1e-15 in column 'y'"),
    "targets of 1e-300": (table(2, factor=1e-300), "a standard deviation of at least 1.1e-15 in column 'y'"),
    "targets that round": (table(2, shift=1e9), "column 'y' to vary by more than float32 rounds off in made.csv"),
    "an input of 1e39": (table(1, 7, cell=1e39), "at most 3.4e+38 in size in every row of column 'b' in made.csv, got"),
    "of 1e308": (table(1, 7, cell=-1e308), "got -1e+308 in line 9. Correct it, remove the row, or give"),
    "inputs of 1e-42": (table(0, factor=1e-42), "at least 1.2e-38 in column 'a' in made.csv, got"),
    "seconds since 1970": (table(0, shift=1.7e9), ". Subtract 1699999997 from all of them."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_they_are_refused_by_column_before_training(name, monkeypatch):
    monkeypatch.setattr(fit, "fit", lambda *args, **how: pytest.fail("trained"))
    made, message = REFUSED[name]
    with pytest.raises(TableError, match=re.escape(message)):
        fit.fit_table(made, "y", recipe=QUICK, progress=False)


def test_counts_beyond_those_of_float32_are_refused():
    values = np.column_stack([ROWS[:, 0], np.arange(12) % 4])
    values[5, 1] = 3e9
    made, message = csv.Table("made.csv", ("a", "y"), values), "counts of at most 16,777,216 .*'y'.*got 3e.09 in row 6"
    with pytest.raises(TableError, match=message):
        fit.fit_table(made, "y", recipe=dataclasses.replace(QUICK, likelihood="poisson"), progress=False)


@pytest.mark.parametrize("made", [table(2, 7, cell=1e19), table(2, factor=1e-14), table(1, 7, cell=1e30)])
def test_large_and_small_ones_that_floats_hold_are_learned_and_predicted(made):
    model, _ = fit.fit_table(made, "y", recipe=QUICK, progress=False)
    predictive = model.predict(made, draws=50)
    assert np.all(np.isfinite(predictive.y.std))
    assert np.all(predictive.y.std > 0)


def test_a_constant_target_is_not_advised_to_be_dropped():
    with pytest.raises(TableError, match=r"column 'y' to vary .* Nothing can be learned of it: add rows"):
        fit.fit_table(table(2, factor=0.0), "y", recipe=QUICK, progress=False)


def test_a_column_of_new_rows_beyond_floats_is_named():
    model, _ = fit.fit_table(table(2), "y", recipe=QUICK, progress=False)
    with pytest.raises(TableError, match=r"in size in every row of column 'b' in made.csv, got 1e\+39 in line 9"):
        model.predict(table(1, 7, cell=1e39), draws=50)
    with pytest.raises(TableError, match=r"in size in every row of column 'y' in made.csv, got 1e\+160 in line 9"):
        model.evaluate(table(2, 7, cell=1e160), draws=50)
