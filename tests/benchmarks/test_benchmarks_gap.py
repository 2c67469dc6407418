"""The benchmark of the gap: its prior, its starts and its ratios, with NUTS replaced by draws that are known."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import gap, program

SETTINGS = dataclasses.replace(gap.QUICK, steps=20)


def test_the_rows_lie_in_the_clusters_and_the_gap_between_them():
    x, y = gap.data(0, 10)
    assert x.shape == y.shape == (20, 1)
    for rows, (low, high) in zip((x[:10], x[10:]), gap.CLUSTERS, strict=True):
        assert ((low <= rows) & (rows <= high)).all()
    assert gap.GAP.sum() == 21
    assert gap.CLUSTERS[0][1] < gap.GRID[gap.GAP].min() < gap.GRID[gap.GAP].max() < gap.CLUSTERS[1][0]


def test_the_prior_falls_with_the_inputs_of_a_layer_and_starts_are_half_a_draw_of_it():
    params = gap.network("tanh", 2, 50).init(jax.random.key(0))
    first, _, hidden, _, last = gap.prior(params).std
    assert first == {"weight": 2.0, "bias": 2.0}
    assert hidden == last == {"weight": pytest.approx(1.5 / 50**0.5), "bias": 1.0}
    drawn = gap.from_prior(jax.random.key(1), params)
    jax.tree.map(lambda one, other: np.testing.assert_equal(one.shape, other.shape), drawn, params)
    weights = np.ravel(drawn[2]["weight"])  # 2,500 of them: a std has an error of 1/sqrt(5000)
    assert np.std(weights) == pytest.approx(0.75 / 50**0.5, rel=4 / 5000**0.5)


def test_the_ratios_are_those_to_nuts():
    points = len(gap.GRID)
    mean, std = np.zeros(points), np.where(gap.GAP, 2.0, 0.5)
    exact, other = gap.ratios({"NUTS": (mean, std, 1.0), "x": (mean + 1, np.where(gap.GAP, 1.0, 1.5), 2.0)})
    assert (exact["gap"], exact["data"], exact["off"]) == (1, 1, 0)
    assert (other["gap"], other["data"], other["off"], other["seconds"]) == (0.5, 3.0, 0.5, 2.0)


def test_every_method_is_in_the_table(monkeypatch):
    def nuts(model, x, y, settings, seed):
        return np.random.default_rng(seed).normal(size=(50, len(gap.GRID)))

    monkeypatch.setattr(gap, "nuts", nuts)
    made = list(gap.sections(program.Options(quick=True), SETTINGS))
    assert [section.title for section in made] == [
        "1 hidden layer of 3, tanh; 1 seeds",
        "1 hidden layer of 3, ReLU; 1 seeds",
    ]
    for section in made:
        methods = [record["method"] for record in section.records]
        laplaces = [f"Laplace, {structure}" for structure in ("full", "last_layer", "diag")]
        last = ["2 Laplaces, full", "2 anchored modes", "HMC from 2 modes"]
        assert methods == ["NUTS", "mean-field", "2 modes", *laplaces, *last]
        assert all(np.isfinite(record[name]) for record in section.records for name in ("gap", "data", "off"))
