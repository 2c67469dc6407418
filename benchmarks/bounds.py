"""The bound of each variational posterior: `python -m benchmarks.bounds [--steps N] [--seeds N] [--json FILE]`.

The data and the networks are those of `benchmarks.gap`. Every training takes as many steps, of 8 draws each, and begins
at the maximum a posteriori; the tables list the evidence lower bound, in nats, by 4,000 draws of the trained posterior,
averaged over seeds of the data, and the least gain over the mean-field by Adam of any seed.

`FullRank` and `LowRank` begin four ways: with the independent weights of a small std that a mean-field begins with; at
the trained mean-field; or at Laplace's posterior, of the mode or of the trained mean-field's means, whose widths are
divided by 10, because the Gauss-Newton matrix holds close to them alone. What begins at the trained mean-field has had
twice as many steps in all.

Last, IVON and Adam train a mean-field on the demo's regression, at equal steps.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

import bbb
from bbb.posteriors import FullRank, LowRank, as_full_rank, as_low_rank
from benchmarks import gap, program
from benchmarks.report import Section, table

TITLE = "The bound of each variational posterior"
NETWORKS = (("tanh", 1), ("ReLU", 1), ("tanh", 2))
RANK, DRAWS, STD, NARROWED = 8, 8, 0.02, 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    """How large a run is: `score` draws estimate a bound."""

    units: int = 30
    rows: int = 40
    steps: int = 6_000
    score: int = 4_000
    demo_steps: int = 2_000
    demo_units: int = 1_000
    networks: tuple[tuple[str, int], ...] = NETWORKS


QUICK = Settings(units=3, rows=8, steps=20, score=40, demo_steps=20, demo_units=5, networks=NETWORKS[:1])


@functools.cache  # one object for all runs, so that they share a compiled program
def optimizer(kind: str, steps: int) -> optax.GradientTransformation:
    """Return Adam or IVON, with a learning rate that falls to 0 as a cosine."""
    if kind == "ivon":
        return bbb.train.ivon(optax.cosine_decay_schedule(0.3, steps))
    return optax.adam(optax.cosine_decay_schedule(5e-3 if kind == "adam" else 1e-2, steps))


def bound(model: bbb.BNN, x: np.ndarray, y: np.ndarray, draws: int) -> float:
    """Return the evidence lower bound: nats, over the whole data set."""
    keys = jax.random.split(jax.random.key(77), 10)
    return -statistics.mean(
        float(bbb.objectives.negative_elbo(key, model, x, y, draws=draws // len(keys))[0]) for key in keys
    )


def bounds(activation: str, layers: int, seed: int, settings: Settings) -> dict[str, tuple[float, float]]:
    """Return the bound and the seconds of each posterior, for one network and one seed: the mean-field by Adam first.

    The seconds of those that begin at another training include it.
    """
    x, y = gap.data(seed, settings.rows)
    made, key = gap.network(activation, layers, settings.units), jax.random.key(seed)
    params = gap.from_prior(key, made.init(key))
    parts = {"prior": gap.prior(params), "likelihood": bbb.likelihoods.Gaussian(gap.NOISE)}
    mode = gap.trained(
        key, bbb.bayesianize(made.apply, params, **parts), x, y, settings.steps, at_mean=True
    ).posterior.params

    def at(posterior: Any) -> bbb.BNN:
        return dataclasses.replace(bbb.bayesianize(made.apply, mode, **parts), posterior=posterior)

    found: dict[str, tuple[float, float]] = {}

    def record(name: str, start: Callable[[], Any], kind: str = "adam", before: float = 0.0) -> Any:
        started = time.perf_counter()
        options = {"objective": bbb.train.Objective(draws=DRAWS), "optimizer": optimizer(kind, settings.steps)}
        trained, _ = bbb.fit(key, at(start()), x, y, steps=settings.steps, progress=False, **options)
        jax.block_until_ready(trained)
        found[name] = bound(trained, x, y, settings.score), before + time.perf_counter() - started
        return trained.posterior

    def laplace(posterior: Any) -> Any:
        return bbb.laplace(key, at(posterior), x, y).posterior

    point = bbb.MeanField.around(mode, STD)
    field = record("mean-field, Adam", lambda: point)
    took = found["mean-field, Adam"][1]
    record("mean-field, IVON", lambda: point, "ivon")
    low = f"low rank {RANK}"
    record(f"{low}, independent", lambda: LowRank.around(mode, STD, rank=RANK))
    record(f"{low}, from the mean-field", lambda: as_low_rank(field, RANK), before=took)
    record(f"{low}, from Laplace", lambda: as_low_rank(laplace(point), RANK).scaled(NARROWED))
    there = f"{low}, from Laplace at the mean-field"
    record(there, lambda: as_low_rank(laplace(field), RANK).scaled(NARROWED), before=took)
    record("full rank, independent", lambda: FullRank.around(mode, STD))
    record("full rank, from the mean-field", lambda: as_full_rank(field), before=took)
    record("full rank, from Laplace", lambda: as_full_rank(laplace(point)).scaled(NARROWED))
    there = "full rank, from Laplace at the mean-field"
    record(there, lambda: as_full_rank(laplace(field)).scaled(NARROWED), before=took)
    return found


def demo(settings: Settings) -> list[dict[str, Any]]:
    """Train a mean-field on the demo's regression by both optimisers."""
    task, key = bbb.tasks.regression(seed=0), jax.random.key(1)
    n = settings.demo_units
    made = bbb.nn.sequential(bbb.nn.linear(1, n), bbb.nn.relu, bbb.nn.linear(n, 1))
    likelihood = bbb.likelihoods.Gaussian(0.5, learn=True)
    start = bbb.bayesianize(
        made.apply, made.init(jax.random.key(0)), prior=bbb.priors.Normal(0.0, 0.3), likelihood=likelihood
    )
    records = []
    for name, kind in (("Adam", "faster adam"), ("IVON", "ivon")):
        for forward in (bbb.forwards.weight_sampling, bbb.forwards.local_reparam):
            started = time.perf_counter()
            options = {
                "objective": bbb.train.Objective(forward=forward(made.apply)),
                "optimizer": optimizer(kind, settings.demo_steps),
            }
            trained, _ = bbb.fit(key, start, task.x, task.y, steps=settings.demo_steps, progress=False, **options)
            jax.block_until_ready(trained)
            seconds = time.perf_counter() - started
            value = bound(trained, task.x, task.y, settings.score)
            records.append({"method": f"{name}, {forward.__name__}", "bound": value, "seconds": seconds})
    return records


# The tables


def sections(options: program.Options, settings: Settings | None = None, seeds: int = 3) -> Iterator[Section]:
    """Compare all posteriors for each network, and both optimisers on the demo."""
    settings = settings or (QUICK if options.quick else Settings())
    seeds = 1 if options.quick else seeds
    for activation, layers in settings.networks:
        runs = [bounds(activation, layers, seed, settings) for seed in range(seeds)]
        records = [_over_seeds(name, runs) for name in runs[0]]
        title = f"{layers} hidden layer{'s' * (layers > 1)} of {settings.units}, {activation}; {seeds} seeds"
        head = ("posterior, start", "bound, nats", "gain", "least gain", "seconds")
        rows = [[r["method"], *(f"{r[name]:.1f}" for name in ("bound", "gain", "least", "seconds"))] for r in records]
        yield Section(title, table(list(head), rows), records)
    records = demo(settings)
    rows = [[r["method"], f"{r['bound']:.1f}", f"{r['seconds']:.1f}"] for r in records]
    title = f"The demo's regression, 1-{settings.demo_units}-1, {settings.demo_steps:,} steps"
    yield Section(title, table(["mean-field by", "bound, nats", "seconds"], rows), records)


def _over_seeds(name: str, runs: list[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    """Return one posterior's means over seeds, and its gains over the first one."""
    gains = [run[name][0] - next(iter(run.values()))[0] for run in runs]
    value, seconds = (statistics.mean(run[name][i] for run in runs) for i in range(2))
    return {"method": name, "bound": value, "gain": statistics.mean(gains), "least": min(gains), "seconds": seconds}


def main(argv: list[str] | None = None) -> None:
    """Run all trainings, print their tables, and write the numbers as JSON."""
    parser = program.parser(__doc__)
    parser.add_argument("--steps", type=int, default=Settings.steps, metavar="N", help="default: 6,000")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default: 3")
    arguments = parser.parse_args(argv)
    settings = None if arguments.quick else dataclasses.replace(Settings(), steps=arguments.steps)
    program.run(TITLE, lambda options: sections(options, settings, arguments.seeds), arguments)


if __name__ == "__main__":
    main()
