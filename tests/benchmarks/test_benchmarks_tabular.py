"""The tables keep their test rows to themselves, every contender is scored as it should be, and `bbb` is compared."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import integrate, stats

from benchmarks import tabular, tabular_contenders, tabular_tasks
from benchmarks.tabular_contenders import CONTENDERS, Choice, Contender
from benchmarks.tabular_scores import Normals, Units, quantile, scored
from benchmarks.tabular_tasks import TASKS

SHAPES = {
    "friedman1": (300, 10),
    "friedman2": (300, 4),
    "friedman3": (300, 4),
    "diabetes": (300, 10),
    "line": (50, 1),
    "quintic": (500, 1),
    "gap": (100, 1),
    "tails": (500, 3),
    "hetero": (5_000, 2),
    "useless": (400, 23),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_its_seed_and_holds_its_test_rows_back(name):
    rows, again, other = (TASKS[name].rows(seed) for seed in (3, 3, 4))
    assert rows.x.shape == SHAPES[name]
    assert len(rows.y) == len(rows.x)
    assert rows.x_test.shape == (142 if name == "diabetes" else 1_000, rows.x.shape[1])
    assert len(rows.y_test) == len(rows.x_test)
    for field in dataclasses.fields(rows):
        np.testing.assert_array_equal(getattr(rows, field.name), getattr(again, field.name))
    assert not np.array_equal(rows.y, other.y)
    train, test = (
        {(*x, y) for x, y in zip(x.tolist(), y.tolist(), strict=True)}
        for x, y in ((rows.x, rows.y), (rows.x_test, rows.y_test))
    )
    assert not train & test
    fewer = TASKS[name].rows(3, 7)
    assert len(fewer.x_test) == len(fewer.y_test) == 7
    np.testing.assert_array_equal(fewer.x, rows.x)
    np.testing.assert_array_equal(fewer.y, rows.y)


def test_the_noise_is_as_large_as_the_tables_say():
    gap, line, useless, hetero = (TASKS[name].rows(0) for name in ("gap", "line", "useless", "hetero"))
    assert np.abs(gap.x).min() >= 0.4
    assert (np.abs(gap.x_test) < 0.4).mean() == pytest.approx(0.4, abs=0.05)
    for rows, mean, std in (
        (gap, lambda x: np.sin(4 * x[:, 0]) + x[:, 0], lambda x: 0.1),
        (line, lambda x: x[:, 0], lambda x: 0.1),
        (useless, lambda x: np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2], lambda x: 0.2),
        (hetero, lambda x: np.sin(3 * x[:, 0]) + x[:, 1], tabular_tasks.noise_std),
    ):
        for x, y in ((rows.x, rows.y), (rows.x_test, rows.y_test)):
            z = (y - mean(x)) / std(x)
            assert abs(np.mean(z)) < 4 / math.sqrt(len(z))
            assert abs(np.std(z) - 1) < 4 / math.sqrt(2 * len(z))
    tails = TASKS["tails"].rows(0)
    t = (tails.y - np.sin(3 * tails.x[:, 0]) - tails.x[:, 1] * tails.x[:, 2]) / 0.2
    assert stats.kstest(t, stats.t(3).cdf).pvalue > 0.01


def test_the_scores_of_a_mixture_are_those_of_its_density():
    rng = np.random.default_rng(0)
    means, stds, y = rng.normal(size=(3, 4)), rng.uniform(0.3, 2.0, (3, 4)), rng.normal(size=4)
    found = Normals(lambda x: (means, stds)).scores(np.zeros((4, 1)), y)

    def cdf(t, row):
        return stats.norm.cdf(t, means[:, row], stds[:, row]).mean()

    nats = np.log([stats.norm.pdf(one, means[:, i], stds[:, i]).mean() for i, one in enumerate(y)])
    assert found.log_score == pytest.approx(nats.mean(), rel=1e-12)
    crps = [
        integrate.quad(lambda t, i=i: cdf(t, i) ** 2, -20, y[i])[0]
        + integrate.quad(lambda t, i=i: (1 - cdf(t, i)) ** 2, y[i], 20)[0]
        for i in range(4)
    ]
    assert found.crps == pytest.approx(np.mean(crps), rel=1e-6)
    assert found.rmse == pytest.approx(np.sqrt(np.mean((y - means.mean(axis=0)) ** 2)), rel=1e-12)
    ends = np.stack([quantile(means, stds, p) for p in (0.05, 0.95)])
    np.testing.assert_allclose([[cdf(end, i) for i, end in enumerate(row)] for row in ends], [[0.05] * 4, [0.95] * 4])
    assert found.width == pytest.approx(np.mean(ends[1] - ends[0]))
    assert found.coverage == np.mean((ends[0] <= y) & (y <= ends[1]))


def test_one_gaussian_is_scored_in_the_units_of_y():
    y = np.array([1.0, 2.0, 5.0, 3.0])
    units = Units.of(np.arange(4.0)[:, None], y)
    np.testing.assert_allclose([units.y(y).mean(), units.y(y).std()], [0, 1], atol=1e-15)
    found = units.normals(lambda x: (np.zeros(4), np.ones(4))).scores(np.zeros((4, 1)), y)
    marginal = stats.norm(y.mean(), y.std())
    assert found.log_score == pytest.approx(marginal.logpdf(y).mean(), rel=1e-12)
    assert found.width == pytest.approx(marginal.ppf(0.95) - marginal.ppf(0.05), rel=1e-12)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_learns_a_few_rows(name, monkeypatch):
    contender = CONTENDERS[name]
    if contender.missing() is not None:
        pytest.skip(contender.missing())
    if name == "deep ensemble":
        few = [Choice("tanh", gain, 1e-3) for gain in (0.5, 2.0)]
        monkeypatch.setattr(tabular_contenders, "CHOICES", few)
        monkeypatch.setattr(tabular_contenders, "STEPS", 300)
    rows = TASKS["line"].rows(0).first(30, 20)
    found = tabular.measure(contender, rows, 0)
    assert "failed" not in found, found
    for of, value in found.items():
        if name == "MAPIE" and of in ("log_score", "crps"):
            assert value is None
        else:
            assert math.isfinite(value), of
    assert 0 < found["rmse"] < np.std(rows.y_test)
    assert 0.5 < found["coverage"] <= 1
    assert found["interval_score"] >= found["width"] > 0


def test_a_gaussian_process_takes_a_part_of_many_rows(monkeypatch):
    monkeypatch.setattr(tabular_contenders, "GP_ROWS", 20)
    monkeypatch.setattr(tabular_contenders, "GP_MOST", 40)
    rows = TASKS["line"].rows(0)
    few, many = (
        tabular_contenders.one_length(rows.x[:count], rows.y[:count], 0).predict(rows.x_test[:3])[1]
        for count in (40, 50)
    )
    again = tabular_contenders.one_length(rows.x, rows.y, 0).predict(rows.x_test[:3])[1]
    np.testing.assert_array_equal(many, again)
    assert not np.allclose(few, many)


class Known:
    """A contender whose log score is known."""

    def __init__(self, nats):
        self.nats = nats

    def scores(self, x, y):
        assert x.shape == (*y.shape, 1)
        return scored(y, y, (y - 1, y + 1), np.full(len(y), self.nats), np.zeros(len(y)))


def known(nats):
    return Contender(lambda x, y, seed: Known(nats - seed), "known")


def run(capsys, monkeypatch, contenders, *arguments):
    monkeypatch.setattr(tabular, "CONTENDERS", contenders)
    tabular.main(["--quick", "--tasks", "line,gap", *arguments])
    return capsys.readouterr()


def test_bbb_is_compared_with_the_best_peer_and_a_missing_one_is_named(tmp_path, monkeypatch, capsys):
    absent = Contender(lambda x, y, seed: None, "absent", (("no_such_module.part", "no-such-package"),))
    contenders = {"bbb": known(1.0), "bbb mean_field": known(9.0), "A": known(0.0), "B": known(1.04), "C": absent}
    printed = run(capsys, monkeypatch, contenders, "--seeds", "2", "--json", str(tmp_path / "found.json"))
    sentence = "C is left out: no_such_module is not installed: python -m pip install no-such-package"
    assert sentence in printed.out
    assert sentence in printed.err
    assert "`bbb` is best or within 0.05 nats of the best on 2 of 2 tasks." in printed.out
    assert "| line | 0.500 |         B |         0.540 | −0.040 ± 0.000 |                 yes |" in printed.out
    found = json.loads((tmp_path / "found.json").read_text())["results"][tabular.TITLE]
    records = found[TASKS["gap"].about]
    assert [one["contender"] for one in records] == ["bbb", "bbb mean_field", "A", "B"]
    assert [one["log_score"] for one in records[0]["seeds"]] == [1.0, 0.0]
    assert records[0]["coverage"] == 1.0
    assert records[0]["width"] == records[0]["interval_score"] == 2.0
    assert found["Log scores, nats a row"][0]["close"] is True


def test_bbb_further_off_is_not_counted_nor_is_a_peer_that_failed(monkeypatch, capsys):
    def fails(x, y, seed):
        raise ZeroDivisionError("of what?\nno line of this")

    contenders = {"bbb": known(1.0), "A": known(1.06), "B": Contender(fails, "fails")}
    printed = run(capsys, monkeypatch, contenders, "--seeds", "1").out
    assert "B failed: ZeroDivisionError: of what?\n" in printed
    assert "`bbb` is best or within 0.05 nats of the best on 0 of 2 tasks." in printed


def test_only_what_was_asked_for_is_run(monkeypatch, capsys):
    contenders = {"bbb": known(1.0), "A": known(0.0), "B": known(2.0)}
    printed = run(capsys, monkeypatch, contenders, "--seeds", "1", "--contenders", "A, bbb").out
    assert "| A " in printed
    assert "| B " not in printed
    assert "on 2 of 2 tasks" in printed
    assert "best or within" not in run(capsys, monkeypatch, contenders, "--seeds", "1", "--contenders", "A").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--tasks", "line,lines"],
            "Expected --tasks to be names that are known, got 'lines'. Pass names with a",
        ),
        (["--tasks", ","], "Expected --tasks to be names that are known, got none."),
        (["--contenders", "torch"], "Expected --contenders to be names that are known, got 'torch'."),
        (["--seeds", "0"], "Expected --seeds to be at least 1, got 0. Pass a positive number."),
    ],
)
def test_bad_arguments_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit):
        tabular.main(arguments)
    assert said in capsys.readouterr().err
