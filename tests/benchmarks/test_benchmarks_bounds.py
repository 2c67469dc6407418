"""The benchmark of the bounds: every posterior in its tables, and the gains over seeds."""

import numpy as np
import pytest

from benchmarks import bounds, program


def test_the_gains_are_those_over_the_first_posterior_of_each_seed():
    runs = [{"first": (-10.0, 1.0), "x": (-7.0, 2.0)}, {"first": (-20.0, 3.0), "x": (-15.0, 4.0)}]
    made = bounds._over_seeds("x", runs)
    assert made == {"method": "x", "bound": -11.0, "gain": 4.0, "least": 3.0, "seconds": 3.0}
    assert bounds._over_seeds("first", runs)["gain"] == 0


@pytest.mark.slow
def test_every_posterior_is_in_its_table():
    networks, demo = bounds.sections(program.Options(quick=True))
    assert networks.title == "1 hidden layer of 3, tanh; 1 seeds"
    methods = [record["method"] for record in networks.records]
    assert methods[:2] == ["mean-field, Adam", "mean-field, IVON"]
    starts = ("independent", "from the mean-field", "from Laplace", "from Laplace at the mean-field")
    assert methods[2:] == [f"{kind}, {start}" for kind in ("low rank 8", "full rank") for start in starts]
    assert [record["method"] for record in demo.records] == [
        f"{name}, {forward}" for name in ("Adam", "IVON") for forward in ("weight_sampling", "local_reparam")
    ]
    assert all(np.isfinite(record["bound"]) for record in (*networks.records, *demo.records))
