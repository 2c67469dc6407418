"""A promise in the command line: `bbb evaluate --promise` finds a threshold, `bbb predict --answer-below` keeps it."""

import csv
import io
import json

import numpy as np
import pytest

from bbb import tables
from bbb.cli.main import main
from bbb.decide.abstention import learn_then_test, risk_coverage
from bbb.tables import csv as csv_module
from bbb.tables.model import TabularModel

DRAWS = ("--draws", "100")


def flowers(path, rows, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    kinds = np.array(["blue", "red"])[(x[:, 0] + 0.3 * rng.normal(size=rows) > 0).astype(int)]
    path.write_text(csv_module.text({"a": x[:, 0], "b": x[:, 1], "kind": kinds}))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a model of classes, rows to choose by, new rows, and a model of numbers."""
    folder = tmp_path_factory.mktemp("promise")
    for seed, (name, rows) in enumerate({"train": 60, "choose": 200, "few": 15, "new": 40}.items()):
        flowers(folder / f"{name}.csv", rows, seed)
    quick = ("--epochs", "20", "--hidden", "5")
    for target, name, more in (("kind", "m", ()), ("b", "numbers", ("--drop", "kind", "--posterior", "mean_field"))):
        out = str(folder / name)
        assert main(["fit", str(folder / "train.csv"), "--target", target, "--out", out, *quick, *more]) == 0
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    status = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_evaluate_has_the_area_and_the_rule_of_the_library(work, capsys):
    command = ("evaluate", work / "m", work / "choose.csv", *DRAWS, "--promise", "0.3")
    status, out, _ = run(capsys, *command, "--json")
    found = json.loads(out)
    model, rows = TabularModel.load(work / "m"), tables.read(work / "choose.csv", labels="kind")
    made = model.predict(rows, draws=100).y
    wrong = made.classes != model.observed(rows)
    assert (status, found["aurc"]) == (0, risk_coverage(wrong, made.entropy.total).aurc)
    rule = learn_then_test(wrong, made.entropy.total, rate=0.3)
    assert found["promise"] == vars(rule) | {"coverage": rule.coverage}
    _, text, _ = run(capsys, *command)
    assert f"for at most 0.3 wrong, answer below  {rule.threshold!r} nats of entropy" in text
    assert "AURC of errors by entropy" in text


def test_predict_leaves_the_class_empty_where_the_rule_does_not_answer(work, capsys):
    below = 0.4
    command = ("predict", work / "m", work / "new.csv", *DRAWS)
    every = list(csv.DictReader(io.StringIO(run(capsys, *command)[1])))
    some = list(csv.DictReader(io.StringIO(run(capsys, *command, "--answer-below", below)[1])))
    assert {row["class"] for row in every} == {"blue", "red"}
    answered = [float(row["total_entropy"]) < below for row in every]
    assert 0 < sum(answered) < len(answered)
    for row, same, is_answered in zip(some, every, answered, strict=True):
        assert row == same | {"class": same["class"] if is_answered else ""}


def test_numbers_have_an_area_too(work, capsys):
    command = ("evaluate", work / "numbers", work / "new.csv", *DRAWS)
    found = json.loads(run(capsys, *command, "--json")[1])
    assert found["aurc"] > 0
    assert f"AURC of squared errors by std {found['aurc']:.4g}" in " ".join(run(capsys, *command)[1].split())


def test_pictures_of_classes_show_the_curve(work, capsys, tmp_path):
    status, _, _ = run(capsys, "evaluate", work / "m", work / "new.csv", *DRAWS, "--pictures", tmp_path / "p")
    assert status == 0
    assert (tmp_path / "p" / "risk_coverage.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("evaluate", "m", "few.csv", "--promise", "0.05"), "at least 60 rows for an error rate of 0.05"),
        (("evaluate", "numbers", "new.csv", "--promise", "0.05"), "a promise about classes, got numbers of 'b'"),
        (("predict", "numbers", "new.csv", "--answer-below", "0.5"), "a model of classes with --answer-below"),
    ],
)
def test_what_cannot_be_promised_is_refused_in_one_sentence(work, capsys, command, said):
    verb, model, data, *rest = command
    status, out, err = run(capsys, verb, work / model, work / data, *DRAWS, *rest)
    assert (status, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "option", "values", "said"),
    [
        ("evaluate", "--promise", ("0", "1", "5", "nan", "low"), "an error rate inside (0, 1), such as 0.05"),
        ("predict", "--answer-below", ("0", "-1", "nan", "low"), "a finite number above 0"),
    ],
)
def test_values_that_are_no_rates_or_entropies_are_wrong_usage(work, capsys, verb, option, values, said):
    for value in values:
        with pytest.raises(SystemExit) as stopped:
            main([verb, str(work / "m"), str(work / "new.csv"), f"{option}={value}"])
        assert stopped.value.code == 2
        assert f"{option}: expected {said}, got '{value}'" in capsys.readouterr().err
