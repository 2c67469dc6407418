"""The benchmark of the gap: its prior, its starts and its ratios, with NUTS replaced by draws that are known."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import gap, gap_picture, program

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


@pytest.fixture
def _known(monkeypatch):
    """Replace NUTS by draws that are known."""

    def nuts(model, x, y, settings, seed, grid):
        return np.random.default_rng(seed).normal(size=(50, len(grid)))

    monkeypatch.setattr(gap, "nuts", nuts)


@pytest.mark.usefixtures("_known")
def test_every_method_is_in_the_table():
    *made, last = gap.sections(program.Options(quick=True), SETTINGS)
    assert last.title == "HMC from 2 modes: sd ÷ NUTS, medians of 1 seeds"
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


@pytest.mark.usefixtures("_known")
def test_one_method_alone_is_compared_and_its_medians_are_judged():
    settings = dataclasses.replace(SETTINGS, rows=4)
    one, other, last = gap.sections(program.Options(contenders=("hmc",)), settings, seeds=3)
    for section in (one, other):
        assert [record["method"] for record in section.records] == ["NUTS", "HMC from 2 modes"]
    assert [record["gap"] for record in last.records] == [section.records[1]["gap"] for section in (one, other)]
    middle = one.records[1]
    assert middle["least"] <= middle["gap"] <= middle["most"]
    assert [record["network"] for record in last.records] == ["1 hidden layer of 3, tanh", "1 hidden layer of 3, ReLU"]


def test_a_band_is_accepted_where_both_ratios_lie_within_the_bounds():
    for gap_ratio, data_ratio, accepted in ((0.8, 1.35, True), (1.26, 1, False), (0.79, 1, False), (1, 0.74, False)):
        assert gap.accepted({"gap": gap_ratio, "data": data_ratio}) is accepted
    text = gap.acceptance({"a": {"method": "x", "gap": 1.0, "data": 1.4}}, 5).text.splitlines()
    assert text[0] == "| network | in the gap, 0.8 to 1.25 | at the data, 0.75 to 1.35 | accepted |"
    assert text[2] == "| a       |                    1.00 |                      1.40 |       no |"


def test_a_posterior_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        gap.main(["--contenders", "hmc,nobody"])
    assert "nobody: pass some of mean-field, modes, full" in capsys.readouterr().err


@pytest.mark.usefixtures("_known")
def test_the_picture_has_the_three_posteriors_on_axes_they_share(tmp_path):
    gap_picture.main(["--quick", "--out", str(tmp_path / "gap.png")])
    assert (tmp_path / "gap.png").read_bytes().startswith(b"\x89PNG")


def test_the_bands_of_the_picture_hold_their_share_of_the_draws():
    draws = np.random.default_rng(0).normal(size=(999, 3))
    mean, lower, upper = gap_picture.of_draws(draws)
    np.testing.assert_array_equal(mean, draws.mean(axis=0))
    assert ((lower <= draws) & (draws <= upper)).mean(axis=0) == pytest.approx(0.95, abs=2 / 999)


def test_the_readme_shows_the_picture():
    root = Path(gap_picture.__file__).parents[1]
    assert "(benchmarks/gap.png)" in (root / "README.md").read_text(encoding="utf-8")
    assert 0 < (root / "benchmarks" / "gap.png").stat().st_size < 150_000
