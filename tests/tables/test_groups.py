"""Rows that belong together: held out whole, and scored apart."""

import json

import jax
import numpy as np
import pytest

from bbb import tables
from bbb.cli.main import main
from bbb.errors import InputError, TableError
from bbb.inference import METHODS, Learned, Method
from bbb.tables import csv, groups
from bbb.tables import fit as fit_module
from bbb.train import api

QUICK = {"hidden": 4, "epochs": 10, "posterior": "mean_field"}


def made(seed=0, sizes=(3, 9, 1, 20, 7, 10, 5, 5)):
    rng = np.random.default_rng(seed)
    of_row = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    rng.shuffle(of_row)
    x = rng.normal(size=len(of_row))
    y = x + 0.3 * rng.normal(size=len(of_row))
    return tables.Table("made", ("x", "y"), np.column_stack([x, y]), {"patient": of_row})


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_whole_groups_are_held_out_of_about_the_share(share):
    table, drawn = made(), set()
    for seed in range(20):
        held = groups.held_out(jax.random.key(seed), table, "patient", share)
        inside, outside = (set(table.texts["patient"][part].tolist()) for part in (held, ~held))
        assert inside
        assert outside
        assert not inside & outside
        wanted, largest = share * table.rows, 20
        assert held.sum() < wanted + largest + 1
        assert held.sum() >= min(wanted - 1, table.rows - largest)
        drawn.add(frozenset(inside))
    assert len(drawn) > 1


def test_groups_do_not_depend_on_the_order_of_rows_and_may_be_numbers():
    table = made()
    turned = tables.Table("made", ("x", "y"), table.values[::-1], {"patient": table.texts["patient"][::-1]})
    one, other = (groups.held_out(jax.random.key(1), given, "patient", 0.3) for given in (table, turned))
    np.testing.assert_array_equal(one, other[::-1])
    numbers = tables.Table("made", ("g",), np.array([[1.0], [2.0], [1.0]]))
    assert groups.names_of(numbers, "g").tolist() == ["1", "2", "1"]


def test_fit_trains_on_the_other_groups_and_the_group_is_no_input(monkeypatch):
    seen = {}

    def watched(key, model, x, y, *, validation, **options):
        seen.update(x=x, y=y, validation=validation)
        return fit(key, model, x, y, validation=validation, **options)

    fit = fit_module.fit
    monkeypatch.setattr(fit_module, "fit", watched)
    table, recipe = made(), tables.Recipe(**QUICK, validation=0.3)
    model, history = tables.fit_table(table, "y", recipe=recipe, group="patient", progress=False)
    assert model.features == ("x",)
    held = np.isin(table.values[:, 0], seen["validation"][0][:, 0])
    assert not set(table.texts["patient"][held]) & set(table.texts["patient"][~held])
    np.testing.assert_array_equal(seen["x"][:, 0], table.values[~held, 0])
    np.testing.assert_array_equal(seen["y"][:, 0], table.values[~held, 1])
    np.testing.assert_array_equal(seen["validation"][1][:, 0], table.values[held, 1])
    assert history.validation_log_score.size


@pytest.mark.parametrize("group", [None, "patient"])
@pytest.mark.parametrize("posterior", ["laplace", "hmc"])
def test_the_posterior_is_that_of_the_rows_that_were_trained_on(posterior, group, monkeypatch):
    seen = {}

    def watched_train(inputs, *given, validation, **options):
        seen.update(trained=(inputs.x, inputs.y), held=(validation.x, validation.y))
        return train(inputs, *given, validation=validation, **options)

    def watched_finish(key, model, x, y, free):
        seen.update(finished=(x, y))
        return Learned(model)

    train = api.train
    monkeypatch.setattr(api, "train", watched_train)
    monkeypatch.setattr(fit_module, "method_of", lambda word: Method(METHODS[word].check, watched_finish))
    table, recipe = made(), tables.Recipe(**QUICK | {"posterior": posterior}, validation=0.3)
    table = table if group else tables.Table("made", table.columns, table.values)
    tables.fit_table(table, "y", recipe=recipe, group=group, progress=False)
    finished, trained, held = (np.column_stack(seen[name]) for name in ("finished", "trained", "held"))
    np.testing.assert_array_equal(finished.astype(np.float32), trained)
    assert len(trained) + len(held) == table.rows
    assert not set(map(tuple, trained.tolist())) & set(map(tuple, held.tolist()))


def test_a_group_needs_a_share_and_another_group():
    for table, recipe, error, text in (
        (
            made(),
            tables.Recipe(**QUICK),
            InputError,
            "recipe.validation or recipe.calibrate above 0 with a group, got 0",
        ),
        (
            made(sizes=(9,)),
            tables.Recipe(**QUICK, validation=0.5),
            TableError,
            "two groups or more in column 'patient' in made, got 'p0' alone",
        ),
    ):
        with pytest.raises(error, match=text):
            tables.fit_table(table, "y", recipe=recipe, group="patient")
    with pytest.raises(TableError, match="a column 'ward' in made, got only x, y, patient"):
        tables.fit_table(made(), "y", recipe=tables.Recipe(**QUICK, validation=0.5), group="ward")


def test_shares_of_groups():
    found = groups.shares(np.array(["b", "a", "b", "b"]), np.array([True, False, True, False]))
    assert found == {"a": {"rows": 1, "share": 0.0}, "b": {"rows": 3, "share": 2 / 3}}


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_evaluate_scores_each_group_as_if_it_were_alone(kind, tmp_path, capsys):
    table = made()
    if kind == "classes":
        words = np.where(table.values[:, 1] > 0, "high", "low")
        table = tables.Table("made", ("x",), table.values[:, :1], {"y": words, "patient": table.texts["patient"]})
    recipe = tables.Recipe(**QUICK, validation=0.3)
    model, _ = tables.fit_table(table, "y", recipe=recipe, group="patient", progress=False)
    one = table.texts["patient"] == "p3"
    texts = {name: words[one] for name, words in table.texts.items()}
    alone = model.evaluate(tables.Table("one", table.columns, table.values[one], texts), draws=50, level=0.8)
    columns = {**dict(zip(table.columns, table.values.T, strict=True)), **table.texts}
    (tmp_path / "data.csv").write_text(csv.text(columns))
    model.save(tmp_path / "m")
    command = ["evaluate", f"{tmp_path}/m", f"{tmp_path}/data.csv", "--draws", "50", "--interval", "0.8"]
    command += ["--group", "patient"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    whole = "accuracy" if kind == "classes" else "coverage"
    assert found["groups"]["p3"] == {"rows": 20, "share": alone[whole]}
    total = sum(group["rows"] * group["share"] for group in found["groups"].values()) / table.rows
    assert total == pytest.approx(found[whole], abs=1e-12)
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"{'right' if kind == 'classes' else 'inside the 80% interval'}, by 'patient':\n    p" in said
    assert f"p3  {found['groups']['p3']['share']:.1%} of 20 rows\n" in said
