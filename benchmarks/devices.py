"""One device against two: the demo's draws and the training of a classifier, on one core and on two.

Each case runs in its own process, which is pinned to its cores before JAX starts, with simulated CPU devices. One
device on two cores is the baseline of two devices on the same cores; one device on one core is the baseline of more
machines. CPU seconds are those of all threads: their excess over one core's is the cost of parallel work.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import networks, program, race
from benchmarks.report import Section, table

TITLE = "Devices"
FULL: dict[str, Any] = {
    "predict": {"sizes": (1, 1000, 1), "rows": 300, "draws": 10_000},
    "fit": {"sizes": (784, 400, 400, 10), "rows": 6_400, "batch": 128, "steps": 100},
    "fit demo": {"sizes": (1, 1000, 1), "rows": 500, "batch": None, "steps": 500},
    "fit large batch": {"sizes": (784, 400, 400, 10), "rows": 6_400, "batch": 1_024, "steps": 20},
}
QUICK: dict[str, Any] = {
    "predict": {"sizes": (1, 20, 1), "rows": 20, "draws": 50},
    "fit": {"sizes": (20, 16, 16, 10), "rows": 64, "batch": 16, "steps": 6},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """The number of cores and of devices, and whether these form a mesh."""

    cores: int
    devices: int
    mesh: bool = False

    def __str__(self) -> str:
        """Return the case in words."""
        kind = " as a mesh" if self.mesh else ""
        return f"{self.devices} device{'s' * (self.devices > 1)}{kind} on {self.cores} core{'s' * (self.cores > 1)}"


CASES = {
    "predict": (Case(1, 1), Case(2, 1), Case(2, 2), Case(2, 2, mesh=True)),
    "fit": (Case(1, 1), Case(2, 1), Case(2, 2, mesh=True)),
}


# In its own process


def predict(settings: dict[str, Any], mesh: Any) -> Callable[[], Any]:
    """Summarise draws of the demo's network: moments and an interval."""
    import jax

    import bbb

    model = networks.bbb_model(networks.start(settings["sizes"], 0.1), {"prior_std": 0.1})
    x = np.linspace(-2, 2, settings["rows"], dtype=np.float32)[:, None]
    ask = {"draws": settings["draws"], "levels": (0.997,), "mesh": mesh}
    return lambda: bbb.predict(jax.random.key(1), model, x, **ask)


def fit(settings: dict[str, Any], mesh: Any) -> Callable[[], Any]:
    """Train on random rows: a classifier by batches, or the demo's network on all rows."""
    import jax
    import optax

    import bbb

    inputs, *_, classes = settings["sizes"]
    start = networks.bbb_model(networks.start(settings["sizes"], 0.1), {"prior_std": 0.1})
    rng, optimizer, model = np.random.default_rng(0), optax.adam(1e-3), start
    x, y = rng.normal(size=(settings["rows"], inputs)), rng.normal(size=(settings["rows"], classes))
    if classes > 1:
        model = dataclasses.replace(start, likelihood=bbb.likelihoods.Categorical())
        y = rng.integers(classes, size=settings["rows"])
    how = {"steps": settings["steps"], "batch_size": settings["batch"], "optimizer": optimizer, "placement": mesh}
    return lambda: bbb.fit(jax.random.key(1), model, x, y, progress=False, **how)


def child(work: str, settings: dict[str, Any], case: Case, repeats: int) -> dict[str, Any]:
    """Measure one case in this process: seconds cold, seconds and CPU seconds of each run after that."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: case.cores]))
    import jax

    axis = "draws" if work == "predict" else "batch"
    mesh = jax.sharding.Mesh(np.array(jax.devices()), (axis,)) if case.mesh else None
    started = time.perf_counter()
    run = (predict if work == "predict" else fit)(settings, mesh)
    run()
    cold, wall, cpu = time.perf_counter() - started, [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {"cold": cold, "wall": wall, "cpu": cpu}


# The run


def sections(options: program.Options) -> Iterator[Section]:
    """Measure every case of each work in turn, and compare it with the first."""
    for work, settings in (QUICK if options.quick else FULL).items():
        if options.contenders is not None and work not in options.contenders:
            continue
        cases = CASES[work.split()[0]]
        records = [{"case": str(case), **measured(work, settings, case, options)} for case in cases]
        for record in records:
            record["warm"] = statistics.median(record["wall"])
        rows = [
            [
                record["case"],
                f"{record['cold']:.2f}",
                f"{record['warm']:.3f}",
                f"{min(record['wall']):.3f}",
                f"{statistics.median(record['cpu']):.3f}",
                f"{record['warm'] / records[0]['warm']:.2f}",
                f"{record['warm'] / records[1]['warm']:.2f}",
            ]
            for record in records
        ]
        columns = ["devices", "cold s", "warm s", "least s", "CPU s", "÷ one core", "÷ one device on two"]
        said = ", ".join(f"{name} {value}" for name, value in settings.items())
        yield Section(f"`{work.split()[0]}`: {said}", table(columns, rows), records)


def measured(work: str, settings: dict[str, Any], case: Case, options: program.Options) -> dict[str, Any]:
    """Measure one case in a new process."""
    job = json.dumps([work.split(maxsplit=1)[0], settings, dataclasses.asdict(case), options.repeats])
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.devices", "--child", job],
        cwd=race.ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(case.devices), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(ran.stdout))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        work, settings, case, repeats = json.loads(sys.argv[2])
        print(json.dumps(child(work, settings, Case(**case), repeats)))
    else:
        program.main(TITLE, sections, __doc__)
