"""The benchmarks: every contender does the work it claims to do, and the numbers are put together right."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from benchmarks import __main__ as everything
from benchmarks import (
    gradients,
    hosts,
    larger,
    measure,
    mlp,
    networks,
    noise,
    program,
    race,
    regression,
    report,
    scaling,
)
from benchmarks.contender import Contender
from benchmarks.measure import Job, Measurement
from benchmarks.race import Result

SLOW = ("torch-compile", "numpyro")
"""Those that compile for long; they run in a process of their own, where they may warn."""


@pytest.fixture(autouse=True)
def _as_users_run_it():
    """Peers are written for JAX's own rules of promotion."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def contenders(program, work):
    """Return the contenders of a work, those that compile for long marked as slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in program.WORKS[work]]


def answer_of(program, work, name, arrays, settings):
    contender = program.WORKS[work][name]
    if contender.missing() is not None:
        pytest.skip(f"{contender.missing()} is not there")
    if name in SLOW:
        result = race.run(Job(program.PROGRAM, work, name, contender.variants[0], settings, repeats=0), arrays)
        assert result.answer is not None, result.note
        return result.answer
    return contender.prepare(arrays, settings, **contender.variants[0])()


def almost_certain(arrays, std=1e-6):
    """Make the weights vary so little that every draw is the network of the means."""
    return {k: np.full_like(v, std) if k.startswith("std_") else v for k, v in arrays.items()}


def training_without_noise(program):
    """Return arrays and settings; those of images have batches of all rows, and hardly any weight on the KL."""
    arrays, settings = program.problem(quick=True)
    whole = {"batch": settings["rows"], "kl_weight": 1e-6} if program is mlp else {}
    return almost_certain(arrays), settings | whole


@functools.cache
def trained_by_bbb(program, name):
    """Return what every contender is held against, trained once."""
    return answer_of(program, "training", name, *training_without_noise(program))


@pytest.mark.parametrize("name", contenders(regression, "training"))
def test_without_noise_every_contender_trains_to_the_same_means(name):
    arrays, settings = training_without_noise(regression)
    expected = trained_by_bbb(regression, "bbb")
    got = answer_of(regression, "training", name, arrays, settings)
    assert got.keys() == expected.keys()
    for key, array in expected.items():
        assert got[key].shape == array.shape
        np.testing.assert_allclose(got[key], array, rtol=1e-3, atol=1e-4 if key.startswith("mean") else 1e-8)
    assert not np.allclose(expected["mean_0_weight"], arrays["mean_0_weight"], atol=0.01)  # it did train


@pytest.mark.parametrize("name", contenders(regression, "predictive"))
def test_every_contender_draws_from_the_posterior_it_was_given(name):
    arrays, settings = regression.problem(quick=True)
    settings["draws"] = draws = 2_000
    mean, std = regression.exact(arrays, arrays["x_test"].astype(np.float64))
    got = answer_of(regression, "predictive", name, arrays, settings)
    assert got["mean"].shape == got["std"].shape == (settings["test_rows"], 1)
    assert np.max(np.abs(got["mean"][:, 0] - mean) / std) < 5 / math.sqrt(draws)
    assert np.max(np.abs(got["std"][:, 0] - std) / std) < 5 * math.sqrt(2 / draws)  # sd √((κ−1)/4S), kurtosis κ < 9


@pytest.mark.parametrize("name", ["bbb", "bbb, last layer integrated out"])
def test_the_error_asked_for_is_reached_without_all_the_draws(name):
    arrays, settings = regression.problem(quick=True)
    settings["draws"] = draws = 2_000
    mean, std = regression.exact(arrays, arrays["x_test"].astype(np.float64))
    got = answer_of(regression, "precision", name, arrays, settings)
    assert np.max(np.abs(got["mean"][:, 0] - mean) / std) < 5 / math.sqrt(draws)
    np.testing.assert_allclose(got["std"][:, 0], std, rtol=1e-4 if name == "bbb" else 0.3)


def test_the_closed_form_is_the_network_itself_without_noise():
    arrays, _ = regression.problem(quick=True)
    (w, b), (v, c) = networks.unpack(arrays, "mean")
    mean, std = regression.exact(almost_certain(arrays, 1e-9), arrays["x_test"])
    np.testing.assert_allclose(mean, (np.maximum(arrays["x_test"] @ w.T + b, 0) @ v.T + c)[:, 0], rtol=1e-5, atol=1e-6)
    assert np.max(std) < 1e-7


@pytest.mark.parametrize("name", contenders(mlp, "training"))
def test_without_noise_every_classifier_trains_alike(name):
    arrays, settings = training_without_noise(mlp)
    expected = trained_by_bbb(mlp, "bbb weight_sampling")
    got = answer_of(mlp, "training", name, arrays, settings)
    if "cost" in got:  # which has the KL, still the same at every step to a part in a thousand of it
        kl = got["cost"] - expected["data_term"]
        assert np.all(kl > 0)
        assert np.ptp(kl) < 1e-2 * np.mean(kl) + 1e-3
        return
    np.testing.assert_allclose(got["data_term"], expected["data_term"], rtol=1e-3)
    assert got["data_term"][-1] < got["data_term"][0]


@pytest.mark.filterwarnings("ignore::bbb.forwards.rowwise.ApproximationWarning")  # as the note of the table says
@pytest.mark.parametrize("network", [pytest.param("resnet", marks=pytest.mark.slow), "transformer"])
@pytest.mark.parametrize("name", contenders(larger, "resnet"))
def test_without_noise_every_larger_network_trains_alike(network, name):
    expected = trained_plainly(network)
    got = answer_of(larger, network, name, *larger_without_noise(network))
    if "cost" in got:
        assert np.all(got["cost"] > expected["data_term"])
        return
    np.testing.assert_allclose(got["data_term"], expected["data_term"], rtol=2e-3)
    assert got["data_term"][-1] < got["data_term"][0]


def larger_without_noise(network):
    """Return arrays and settings: batches of all rows, whose order is then the same in all libraries."""
    arrays, settings = larger.problem(network, quick=True)
    return almost_certain(arrays), settings | {"batch": settings["rows"], "kl_weight": 1e-6}


@functools.cache
def trained_plainly(network):
    return answer_of(larger, network, mlp.PLAIN_TORCH, *larger_without_noise(network))


@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_larger_networks_have_the_weights_they_are_said_to_have(network):
    settings = larger.COMMON | larger.FULL[network] | {"network": network}
    sizes = [math.prod(shape.weight) + shape.fan_out for shape in larger.shapes(settings).values()]
    assert sum(sizes) == {"resnet": 271_690, "transformer": 403_082}[network]


@pytest.mark.parametrize("name", contenders(mlp, "predictive"))
def test_without_noise_every_classifier_predicts_alike(name):
    arrays, settings = mlp.problem(quick=True)
    arrays = almost_certain(arrays)
    expected = np.asarray(networks.jax_apply(networks.jax_layers(arrays, "mean"), arrays["x_test"]))
    got = answer_of(mlp, "predictive", name, arrays, settings)
    np.testing.assert_allclose(got["mean"], expected, rtol=1e-4, atol=1e-4)
    assert np.max(got["std"]) < 1e-4


@pytest.mark.parametrize("name", contenders(mlp, "products"))
def test_products_are_products(name):
    _, settings = mlp.problem(quick=True)
    left = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    got = answer_of(mlp, "products", name, {"left": left, "right": left}, settings)
    np.testing.assert_allclose(got["row"], (left @ left)[0], rtol=1e-4, atol=1e-5)


def test_operations_are_two_for_each_weight_of_a_matrix():
    assert mlp.operations(mlp.FULL) == 200 * 1_000 * 2 * (784 * 400 + 400 * 400 + 400 * 10)


def test_a_missing_peer_is_named_and_left_out(monkeypatch):
    contender = Contender(lambda: None, ("json", "no_such_module"))
    monkeypatch.setattr(mlp, "WORKS", {"work": {"peer": contender, "other": contender}})
    (result,) = race.race(mlp.PROGRAM, "work", {}, {}, only=["peer"])
    assert (result.name, result.measurement) == ("peer", None)
    assert result.note == "left out: no_such_module is not there"
    assert "no_such_module" in report.race_table([result], [*report.times([result], "bbb"), *report.MEMORY])
    assert dataclasses.replace(contender, modules=("bbb",), needs="no_such_name").missing() == "bbb.no_such_name"


def test_a_contender_runs_in_a_process_of_its_own_or_says_why_not():
    settings = scaling.BASE | scaling.QUICK_BASE
    job = Job(scaling.PROGRAM, "predict", "bbb", {}, settings, repeats=2)
    with race.Child(job, {}) as child:
        result = child.result(60.0)
        assert child.again(60.0) > 0
        child._process.kill()
        assert child.again(60.0).startswith("left out")
    m = result.measurement
    assert m is not None, result.note
    assert len(m.warm_seconds) == 2
    assert m.cold_seconds > m.warm > 0
    assert 0 < m.memory_imported <= m.memory_before <= m.memory_peak
    assert result.answer["mean"].shape == (settings["rows"], 1)
    assert race.run(dataclasses.replace(job, contender="nobody"), {}).note == "left out: KeyError: 'nobody'"
    assert race.run(job, {}, limit=0.01).note == "left out: over 0.01 s"


def test_warm_runs_stop_when_their_budget_is_spent(monkeypatch):
    runs = []
    contender = Contender(lambda arrays, settings: lambda: runs.append(1) or {}, ())
    monkeypatch.setattr(mlp, "WORKS", {"work": {"peer": contender}})
    measured, _, _ = measure.measure(Job(mlp.PROGRAM, "work", "peer", {}, {}, repeats=4), {})
    assert (len(runs), len(measured.warm_seconds)) == (5, 4)
    measured, _, run = measure.measure(Job(mlp.PROGRAM, "work", "peer", {}, {}, repeats=4, budget=0.0), {})
    assert measured.warm_seconds == []
    assert measure.again(run) < measure.SHORT  # and is the median of many


def test_contenders_take_turns_and_one_that_fails_is_left_out(monkeypatch):
    order = []

    class Fake:
        def __init__(self, job, _):
            self.name, self.quick = job.contender, job.options.get("quick", True)
            order.append(f"{self.name} starts")

        def result(self, _):
            return Result(
                self.name, {"quick": self.quick}, Measurement(0.1, 1.0, [1.0 if self.quick else 2.0], 1, 2, 3), {}
            )

        def again(self, _):
            order.append(self.name)
            return "left out: it died" if (self.name, order.count("b")) == ("b", 2) else 3.0 + len(order)

        def close(self):
            order.append(f"{self.name} ends")

        def __enter__(self):
            return self

        def __exit__(self, *raised):
            self.close()

    variants = ({"quick": False}, {"quick": True}, {"quick": False})
    works = {"work": {"a": Contender(None, (), variants, why="it is"), "b": Contender(None, ())}}
    monkeypatch.setattr(mlp, "WORKS", works)
    monkeypatch.setattr(race, "Child", Fake)
    a, b = race.race(mlp.PROGRAM, "work", {}, {}, repeats=3)
    tried = ["a starts", "a starts", "a ends", "a starts", "a ends", "b starts"]
    assert order == [*tried, "a", "b", "a", "b", "a", "b ends", "a ends"]
    assert (a.options, len(a.measurement.warm_seconds), a.why) == ({"quick": True}, 3, "it is")
    assert (b.measurement, b.note) == (None, "left out: it died")


def test_the_peak_of_memory_is_what_was_touched_at_most():
    before = measure.peak()
    np.ones(int(200e6) // 8).sum()
    assert measure.peak() >= measure.resident() > 0
    assert measure.peak() >= max(before, 200)


def result(name, cold, warm, **options):
    return Result(name, options, Measurement(0.5, cold, warm, 100.0, 110.0, 120.0), {}, quality={"RMSE": 0.1})


def test_ratios_say_how_many_times_as_long_the_others_took():
    results = [
        result("torchbnn", 10.0, [8.0, 9.0, 30.0]),
        result("peer", 5.0, [3.0, 3.0, 6.0]),
        result("early", 4.0, [6.0, 6.0, 12.0]),
        result("bbb", 2.0, [1.0, 1.5, 3.0]),  # the third round was slow for all
        Result("absent", {}, note="left out"),
    ]
    assert report.comparison(results, "bbb", "torchbnn") == (
        "`bbb` is warm 8.00 × as fast as the torchbnn loop and 2.00 × as fast as the fastest peer (peer); "
        "cold 5.00 × as fast as the torchbnn loop and 2.00 × as fast as the fastest peer (early)."
    )
    lines = report.race_table(results, report.times(results, "bbb")).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["contender", "cold s", "warm s", "÷ bbb cold", "÷ bbb", "RMSE", "note"]
    assert cells[2] == ["torchbnn", "10.00", "9.000", "5.00", "8.00 (6.00–10.00)", "0.1", ""]
    assert cells[-1] == ["absent", "", "", "", "", "", "left out"]
    assert len({len(line) for line in lines}) == 1
    assert report.comparison(results[:1], "bbb", "torchbnn") == "bbb was not measured beside a peer."
    first, *_, absent = report.records(results, "bbb")
    assert first["ratios"] == {"bbb": {"median": 8.0, "lowest": 6.0, "highest": 10.0}}
    assert absent["ratios"] == {}


def test_the_memory_of_a_run_is_what_it_takes_beyond_what_was_there():
    results = [result("plain", 1.0, [1.0]), Result("absent", {})]
    twice = dataclasses.replace(results[0], measurement=dataclasses.replace(results[0].measurement, memory_peak=130.0))
    (_, more), (_, ratio) = report.memory_against(results, "plain")
    assert (more(twice), ratio(twice)) == ("20", "2.00")  # plain takes 120 − 110 MB


def test_the_best_variant_counts_with_the_least_cold_time_of_any():
    tries = [result("p", 5.0, [2.0], threads=1), result("p", 9.0, [1.0], threads=2), Result("p", {"n": 3}, note="died")]
    best = race.best(tries)
    assert (best.warm, best.cold) == (1.0, 5.0)
    assert best.note == "threads=2; threads=1: 2 s, n=3: died"


def test_the_slope_is_that_of_the_last_three_decades():
    sizes = [10, 100, 1_000, 10_000, 100_000]
    assert scaling.slope(sizes, [5.0, 1.0, 10.0, 100.0, 1_000.0]) == pytest.approx(1.0)
    assert scaling.slope(sizes, [5.0, 1.0, 10.0, 100.0, math.inf]) < 1.0  # 10 counts again once 100,000 is left out
    assert scaling.slope(sizes, [1.0, 1.0, 1.0, 1.0, 100.0], decades=1) == pytest.approx(2.0)
    assert math.isnan(scaling.slope([1], [1.0]))


def test_results_hold_the_machine_and_every_section(tmp_path, monkeypatch):
    section = report.Section("A question", report.table(["a", "b"], [["1", "2"]]), [{"a": 1}])
    for part in everything.PROGRAMS:
        monkeypatch.setattr(part, "sections", lambda options: iter([section]))
    everything.main(["--folder", str(tmp_path / "out"), "--json", str(tmp_path / "all.json")])
    text = (tmp_path / "out" / "RESULTS.md").read_text()
    for part in everything.PROGRAMS:
        assert f"### {part.TITLE}\n\n#### A question\n\n{section.text}\n" in text
    described = json.loads((tmp_path / "all.json").read_text())
    assert described["results"][mlp.TITLE] == {"A question": [{"a": 1}]}
    assert len(described["machine"]["load_average_at_end"]) == 3
    for said in (described["machine"]["cpu"], described["machine"]["versions"]["jax"], described["machine"]["date"]):
        assert said in text


def test_a_run_replaces_the_part_of_its_processor_alone():
    section = report.Section("A question", "old", [])
    machine = {**dict.fromkeys(("jax_devices", "python", "date", "commit"), ""), "cores": 2, "memory_gb": 8.0}
    machine |= {"load_average": [0.0] * 3, "versions": {"jax": "0"}}
    here, there = ({**machine, "cpu": cpu} for cpu in ("Here", "There"))
    text = report.results_text(here, {"One": [section], "Two": [section]})
    text = report.results_text(there, {"One": [section]}, text)
    text = report.results_text(here, {"One": [dataclasses.replace(section, text="new")]}, text)
    once = ("# Results", f"## {report.processor(here)}", f"## {report.processor(there)}", "### Two")
    assert [text.splitlines().count(line) for line in once] == [1, 1, 1, 1]
    part, other = text.split("<!-- processor: ")[1:]
    assert "### One\n\n#### A question\n\nnew\n\n### Two\n\n#### A question\n\nold" in part
    assert "### One\n\n#### A question\n\nold" in other
    assert report.results_text(there, {"One": [section]}, text) == text  # which is what it says already


def test_a_quick_run_writes_nothing_unless_asked():
    quick = program.options(program.parser("").parse_args(["--quick", "--contenders", "a,b"]))
    assert (quick.folder, quick.contenders) == (None, ("a", "b"))
    assert program.options(program.parser("").parse_args([])).folder.name == "benchmarks"


def test_a_contender_that_does_not_exist_is_named(capsys):
    with pytest.raises(SystemExit) as left:
        program.main("Title", pytest.fail, None, ["--contenders", "JAX,plain-jax"], works=mlp.WORKS)
    assert left.value.code == 2
    assert "argument --contenders: plain-jax: pass some of JAX, torch, plain torch, " in capsys.readouterr().err


def test_noise_is_measured_beside_what_was_drawn():
    (section,) = noise.sections(program.Options(quick=True, repeats=1))
    found = {record["name"]: record for record in section.records}
    assert {"numpy", "jax.random.normal", "bbb"} <= set(found)
    for record in found.values():
        assert record["warm"] > 0
        assert abs(record["mean"]) < 5 / math.sqrt(record["size"])
        assert abs(record["std"] - 1) < 5 / math.sqrt(2 * record["size"])
    assert "| 1,000   |" in section.text


@pytest.mark.slow
def test_gradients_are_measured_and_drawn(tmp_path):
    chosen = program.Options(quick=True, contenders=("weight_sampling", "local_reparam"), folder=tmp_path)
    variance, training = gradients.sections(chosen)
    assert [record["rows"] for record in variance.records] == list(gradients.QUICK["batches"])
    for record in variance.records:
        assert record["weight_sampling"] > 0
        assert record["local_reparam"] > 0
    assert [record["steps"] for record in training.records] == list(gradients.QUICK["steps"])
    assert all(np.isfinite(record["local_reparam"]).all() for record in training.records)
    assert (tmp_path / "gradients.png").read_bytes().startswith(b"\x89PNG")


def test_a_gradient_without_noise_has_no_variance():
    made, data = gradients.network((64, 8, 10)), gradients.digits()
    q = bbb.MeanField.around(made.init(jax.random.key(0)), 1e-9)
    part = gradients.Digits(data.x[:4], data.y[:4])
    fixed = bbb.MeanField(q.mean, jax.tree.map(lambda s: jnp.full_like(s, -60.0), q.log_std))
    loud = bbb.MeanField(q.mean, jax.tree.map(lambda s: jnp.full_like(s, -2.0), q.log_std))
    quiet, other = (
        float(
            gradients.gradient_variance(
                jax.random.key(0), p, part, forward=gradients.weight_sampling(made.apply), draws=16
            )
        )
        for p in (fixed, loud)
    )
    assert quiet < 1e-10
    assert other > 1e-3


def test_a_sweep_is_measured_and_drawn(tmp_path, monkeypatch):
    points = iter([result("bbb", 2.0, [1.0]), Result("bbb", {}, note="left out: over 1 s")])
    monkeypatch.setattr(scaling, "point", lambda *arguments: next(points))
    sweep = scaling.Sweep("predict", "draws", (10, 100))
    section = scaling.measured(sweep, scaling.BASE, program.Options(folder=tmp_path))
    assert section.title == "`predict` against draws: 1,000 hidden units, 300 rows"
    assert "left out: over 1 s" in section.text
    assert (tmp_path / "scaling-predict-draws.png").read_bytes().startswith(b"\x89PNG")


def test_the_pieces_of_many_hosts_are_taken_apart_as_they_were_put_together():
    made = hosts.Pieces(2e-9, 1e-11, 3e-9, 1e-3, 32.0, 8.0)

    def run(case):
        """Say what such a case would take, and hold beside 300 MB of its own."""
        weights, n = case.width**2, case.processes
        seconds = weights / n * (made.per_weight + made.per_weight_and_row * case.rows)
        seconds += (made.per_step + weights * made.per_sent_weight) * (n > 1)
        return {"seconds": seconds, "bytes": 3e8 + weights * (made.bytes_cut / n + made.bytes_whole)}

    taken = hosts.Pieces.of({case: run(case) for case in hosts.cases()})
    for name, value in dataclasses.asdict(made).items():
        assert getattr(taken, name) == pytest.approx(value, rel=0.05), name
    assert taken.memory(8) == pytest.approx(hosts.WEIGHTS * (32 / 8 + 8), rel=0.01)
    assert taken.seconds(1)[1] == 0
    (computing, sending), (half, less) = taken.seconds(8), taken.seconds(16)
    assert half == pytest.approx(computing / 2)
    assert less == pytest.approx(sending * (15 / 16) / (7 / 8), rel=1e-3)
    page = hosts.page(taken, {case: run(case) for case in hosts.cases()})
    assert "| noise, sampling, KL, Adam: a weight" in page
    assert all(f"| {n} " in page for n in hosts.HOSTS)
