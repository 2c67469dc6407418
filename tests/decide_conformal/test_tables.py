"""Tables: `Recipe(calibrate=…)` and `bbb fit --calibrate`, through files, to predictions and their evaluation."""

import csv
import io

import numpy as np
import pytest

from bbb.cli.main import main
from bbb.decide.coverage.ranks import rank_of
from bbb.errors import InputError, ModelFileError, TableError
from bbb.tables import Recipe, Table, TabularModel, fit_table

ROWS = 80
QUICK = {"hidden": 3, "epochs": 2, "posterior": "mean_field", "calibrate": 0.5}


def table_of(target, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=ROWS)
    noisy = x + 0.3 * rng.standard_normal(ROWS)
    texts = {"town": np.where(np.arange(ROWS) % 8 == 0, "Ulm", np.where(np.arange(ROWS) % 3, "Bern", "Genf"))}
    if target == "classes":
        return Table("rows", ("x",), x[:, None], texts | {"y": np.where(noisy > 0, "up", "down")})
    y = noisy if target == "numbers" else rng.poisson(np.exp(noisy)).astype(float)
    return Table("rows", ("x", "y"), np.column_stack([x, y]), texts)


@pytest.fixture(scope="module", params=["numbers", "counts", "classes"])
def made(request):
    table = table_of(request.param)
    return table, fit_table(table, "y", recipe=Recipe(**QUICK), progress=False)[0]


def test_half_of_the_rows_calibrate_and_hold_the_rank(made):
    table, model = made
    assert model.calibration.rows == ROWS // 2
    scores = model.calibration.scores[0].ravel()
    assert np.sum(scores <= model.calibration.bounds(0.9, 1).ravel()[0]) >= rank_of(0.9, ROWS // 2)
    predictive = model.predict(table, levels=())
    if model.classes is not None:
        assert model.sets(predictive, 0.9).shape == (ROWS, 2)
        return
    lower, upper = model.interval(predictive, 0.9)
    assert (lower <= upper).all()
    if model.is_count:
        np.testing.assert_array_equal(upper, np.round(upper))


def test_an_update_drops_the_calibration_and_counts_the_rows(made, tmp_path, capsys):
    table, model = made
    assert model.learned_from == ROWS - model.calibration.rows
    updated, _ = model.update(table, epochs=1, progress=False)
    assert updated.calibration is None
    assert updated.learned_from == model.learned_from + ROWS
    updated.save(tmp_path / "updated")
    assert TabularModel.load(tmp_path / "updated").learned_from == updated.learned_from
    model.save(tmp_path / "model")
    columns = dict(zip(table.columns, table.values.T, strict=True)) | table.texts
    data = str(tmp_path / "new.csv")
    with open(data, "w", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    words = ["--epochs", "1", "--out", str(tmp_path / "out")]
    assert main(["update", str(tmp_path / "model"), data, *words]) == 0
    assert "The calibration was of the model before, and is dropped" in capsys.readouterr().out


def test_a_file_keeps_the_calibration(made, tmp_path):
    table, model = made
    model.save(tmp_path / "model")
    again = TabularModel.load(tmp_path / "model")
    np.testing.assert_array_equal(again.calibration.scores, model.calibration.scores)
    assert again.evaluate(table, draws=50, level=0.9) == model.evaluate(table, draws=50, level=0.9)


def test_evaluate_says_by_how_many_rows_and_leaves_out_levels_that_they_do_not_allow(made):
    table, model = made
    scores = model.evaluate(table, draws=50, level=0.9)
    assert scores["calibration_rows"] == ROWS // 2
    assert scores["level"] == 0.9
    if model.classes is not None:
        assert 0 < scores["set_coverage"] <= 1
        assert 1 <= scores["mean_set_size"] <= 2
    else:
        assert list(scores["coverages"]) == ["0.5", "0.9", "0.95"]  # 0.997 needs 333 rows
    with pytest.raises(
        InputError, match=r"a level that 40 calibration rows allow, got 0.99.*at most 0.9756, or at lea"
    ):
        model.evaluate(table, draws=50, level=0.99)


def test_nothing_is_learned_from_the_rows_held_out():
    table = table_of("numbers")
    one = fit_table(table, "y", recipe=Recipe(**QUICK), progress=False)[0]
    held = ~np.isin(table.values[:, 1], _rest(table).values[:, 1])
    values = table.values.copy()
    values[held, 1] += 1000
    other = fit_table(Table("rows", ("x", "y"), values, table.texts), "y", recipe=Recipe(**QUICK), progress=False)[0]
    np.testing.assert_array_equal(one.predict(table).y.mean, other.predict(table).y.mean)
    assert other.calibration.scores.min() > one.calibration.scores.max()


def _rest(table):
    from bbb.tables.fit import _held_to_calibrate

    return _held_to_calibrate(table, None, 0.5, 0)[0]


def test_groups_are_held_out_whole():
    table = table_of("numbers")
    model = fit_table(table, "y", recipe=Recipe(**QUICK | {"calibrate": 0.2}), group="town", progress=False)[0]
    assert model.features == ("x",)
    sizes = np.unique(table.texts["town"], return_counts=True)[1]
    assert model.calibration.rows in [sum(sizes[list(some)]) for some in ([0], [1], [2], [0, 1], [0, 2], [1, 2])]


def test_a_hole_in_a_row_that_is_held_out_is_named_before_training():
    table = table_of("numbers")
    values = table.values.copy()
    held = np.flatnonzero(~np.isin(values[:, 1], _rest(table).values[:, 1]))[0]
    values[held, 1] = np.nan
    with pytest.raises(TableError, match=f"an empty cell in row {held + 1}"):
        fit_table(Table("rows", ("x", "y"), values, table.texts), "y", recipe=Recipe(**QUICK), progress=False)


@pytest.mark.parametrize("share", [1.0, -0.5, float("nan"), "half"])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(InputError, match=r"recipe.calibrate to be"):
        fit_table(table_of("numbers"), "y", recipe=Recipe(**QUICK | {"calibrate": share}), progress=False)


def test_a_damaged_calibration_is_refused_by_name(made, tmp_path, monkeypatch):
    _, model = made
    monkeypatch.setattr(
        "bbb.tables.model.described", lambda c: ({"levels": [], "groups": None}, {"scores": c.scores[0]})
    )
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="to hold the scores of its calibration, got ValueError"):
        TabularModel.load(tmp_path / "model")


def written(folder, target):
    table = table_of(target)
    with open(folder / "train.csv", "w", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["x", "y"])
        rows.writerows(zip(table.values[:, 0], table.texts.get("y", table.values[:, -1]), strict=True))
    return str(folder / "train.csv"), str(folder / "model.safetensors")


def run(arguments, capsys):
    assert main([*map(str, arguments), "--no-cache"]) == 0
    return capsys.readouterr()


@pytest.mark.parametrize("target", ["numbers", "classes"])
def test_the_commands_calibrate_predict_and_say_so(target, tmp_path, capsys):
    train, model = written(tmp_path, target)
    quick = ["--hidden", 3, "--epochs", 2, "--posterior", "mean_field"]
    said = run(["fit", train, "--target", "y", "--out", model, "--calibrate", 0.5, *quick], capsys).err
    what = "intervals" if target == "numbers" else "sets of classes"
    assert f"{what} up to 0.9756 calibrated by 40 of the rows" in said
    rows = list(csv.DictReader(io.StringIO(run(["predict", model, train, "--draws", 50], capsys).out)))
    if target == "classes":
        assert {row["in_set_up"] for row in rows} <= {"True", "False"}
        assert all(row[f"in_set_{row['class']}"] == "True" for row in rows)
    else:
        inside = [
            float(row["lower"]) <= y <= float(row["upper"])
            for row, y in zip(rows, table_of(target).values[:, 1], strict=True)
        ]
        assert np.mean(inside) > 0.9
    shown = run(["evaluate", model, train, "--draws", 50, "--pictures", tmp_path / "report"], capsys).out
    assert f"{what.split(maxsplit=1)[0]} calibrated by" in shown
    assert "40 rows held out of the training" in shown
    assert main(["predict", model, train, "--interval", "0.99", "--no-cache"]) == 1
    assert "Pass a level of at most 0.9756, or at least 99 rows" in capsys.readouterr().err
