"""The growth of time and memory of `bbb` with draws, rows, weights and devices.

Every point runs in a new process. A slope is that of the logarithm of a time, or of the memory that a run takes beyond
what was there before it, against the logarithm of the size, by least squares over the last three decades, and over the
last one: 1 is linear. The program also measures the memory of the moments of 10,000 draws × 10,000 rows, the number of
compilations, and the time of `import bbb`.
"""

import dataclasses
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import networks, program, race
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.measure import Job
from benchmarks.report import Section, table

PROGRAM = "benchmarks.scaling"
TITLE = "How time and memory grow"
BUDGET = 10.0
"""The total seconds of warm runs of a point after which no other is started."""
BASE = {"width": 1000, "rows": 300, "draws": 10_000, "steps": 200, "prior_std": 0.1, "kl_weight": 0.01, "seed": 0}
QUICK_BASE = {"width": 20, "rows": 20, "draws": 50, "steps": 5}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep over one size, with the others fixed.

    Attributes:
        work: "predict" or "fit".
        size: the setting that grows: "rows", "draws", "weights" (those of the 1-width-1 network) or "devices".
        values: its values.
        fixed: the other settings, if they differ from `BASE`.
    """

    work: str
    size: str
    values: tuple[int, ...]
    fixed: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the sweep, and of its plot."""
        return f"{self.work}-{self.size}"


DECADES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
WEIGHTS = tuple(10 * size for size in DECADES)
SWEEPS = (
    Sweep("predict", "rows", DECADES, {"draws": 100}),
    Sweep("predict", "draws", DECADES, {"rows": 100}),
    Sweep("predict", "weights", WEIGHTS, {"rows": 100, "draws": 10, "memory": 2 * 10**9}),
    Sweep("predict", "devices", (1, 2, 4)),
    Sweep("fit", "rows", DECADES, {"width": 100, "steps": 50}),
    Sweep("fit", "weights", WEIGHTS, {"rows": 20, "steps": 10}),
    Sweep("fit", "devices", (1, 2, 4), {"rows": 512}),
)
QUICK_SWEEPS = (
    Sweep("predict", "draws", (10, 100)),
    Sweep("predict", "devices", (1, 2)),
    Sweep("fit", "weights", (31, 61)),
    Sweep("fit", "devices", (1, 2)),
)


# The works, all by bbb: prepare(arrays, settings) -> run


def predict(arrays: Arrays, settings: Settings) -> Run:
    """Summarise draws by moments, and by quantiles if there are `levels`."""
    del arrays
    model, x = _model(settings), _rows(settings["rows"])
    return lambda: _predict(model, x, settings)


def _predict(model: Any, x: np.ndarray, settings: Settings) -> dict[str, np.ndarray]:
    import jax

    import bbb

    key, levels = jax.random.key(settings["seed"]), tuple(settings.get("levels", ()))
    band = bbb.predict(key, model, x, draws=settings["draws"], levels=levels, memory=settings.get("memory", "512MB"))
    return {"mean": band.f.mean, "std": band.f.std}


def fit(arrays: Arrays, settings: Settings) -> Run:
    """Train on all rows at each step, which several devices share."""
    import jax
    import optax

    import bbb

    del arrays
    model, x, optimizer = _model(settings), _rows(settings["rows"]), optax.adam(0.01)
    y, devices = bbb.tasks.clean(x), np.array(jax.devices())
    mesh = jax.sharding.Mesh(devices, ("batch",)) if devices.size > 1 else None

    def run() -> dict[str, np.ndarray]:
        _, history = bbb.fit(
            jax.random.key(settings["seed"]),
            model,
            x,
            y,
            steps=settings["steps"],
            optimizer=optimizer,
            objective=bbb.train.Objective(bbb.torchbnn.mse_cost, kl_weight=settings["kl_weight"]),
            placement=mesh,
            progress=False,
        )
        return {"loss": history.loss}

    return run


def predict_many(arrays: Arrays, settings: Settings) -> Run:
    """Summarise draws of one model at several numbers of rows in turn."""
    del arrays
    model = _model(settings)

    def run() -> dict[str, np.ndarray]:
        for rows in settings["row_counts"]:
            answer = _predict(model, _rows(rows), settings)
        return answer

    return run


def cross_validate(arrays: Arrays, settings: Settings) -> Run:
    """Cross-validate a scikit-learn estimator in five folds, whose numbers of rows differ by one."""
    from sklearn.model_selection import cross_val_score

    from bbb.sklearn import BayesianMLPRegressor

    del arrays
    rng = np.random.default_rng(settings["seed"])
    x = rng.normal(size=(settings["rows"], 3))
    y = np.sin(x[:, 0]) + 0.1 * rng.normal(size=len(x))
    estimator = BayesianMLPRegressor(posterior=settings["posterior"], steps=settings["steps"], random_state=0)
    return lambda: {"scores": cross_val_score(estimator, x, y, cv=5)}


def compilations(arrays: Arrays, settings: Settings) -> Run:
    """Return the names of the programs that XLA compiles in the first run of another of these works."""
    import jax

    works = {"fit": fit, "predict_many": predict_many, "cross_validate": cross_validate}
    work = works[settings["work"]](arrays, settings)

    def run() -> dict[str, np.ndarray]:
        names: list[str] = []

        def on_event(event: str, duration_secs: float, **details: Any) -> None:
            del duration_secs
            if event == "/jax/core/compile/backend_compile_duration":
                names.append(str(details.get("fun_name", "?")))

        jax.monitoring.register_event_duration_secs_listener(on_event)
        work()
        jax.monitoring.unregister_event_duration_listener(on_event)
        return {"names": np.array(names, dtype=np.str_)}

    return run


def _model(settings: Settings) -> Any:
    start = networks.start((1, settings["width"], 1), settings["prior_std"])
    return networks.bbb_model(start, settings)


def _rows(rows: int) -> np.ndarray:
    return np.linspace(-2, 2, rows, dtype=np.float32)[:, None]


MODULES = ("jax", "jax.numpy", "optax", "bbb")
WORKS = {work.__name__: {"bbb": Contender(work, MODULES)} for work in (predict, fit, compilations)}


# The run


def sections(options: program.Options) -> Iterator[Section]:
    """Measure all sweeps, then the single works."""
    base = BASE | (QUICK_BASE if options.quick else {})
    for sweep in QUICK_SWEEPS if options.quick else SWEEPS:
        if options.contenders is None or sweep.name in options.contenders:
            yield measured(sweep, base, options)
    for name, question in (("memory", memory), ("compilations", compiled), ("import", imports)):
        if options.contenders is None or name in options.contenders:
            yield question(base, options)


def measured(sweep: Sweep, base: dict[str, Any], options: program.Options) -> Section:
    """Measure the points of a sweep, and return their table and plot."""
    results = []
    for value in sweep.values:
        result = point(sweep, value, base, options)
        race.say(f"{sweep.name} {value:,}: {result.note or f'{result.warm:.4g} s warm'}")
        results.append(result)
    rows = [_cells(value, result) for value, result in zip(sweep.values, results, strict=True)]
    sizes = [size for size in ("rows", "draws" if sweep.work == "predict" else "steps") if size != sweep.size]
    numbers = {"hidden units": (base | sweep.fixed)["width"]} if sweep.size != "weights" else {}
    numbers |= {size: (base | sweep.fixed)[size] for size in sizes}
    said = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
    text = table([sweep.size, "cold s", "warm s", "runs", "before MB", "peak MB", "more MB", "note"], rows)
    if sweep.size != "devices":
        slopes = {"time": slopes_said(sweep, results, "warm"), "memory": slopes_said(sweep, results, "more")}
        text += "\n\n" + " ".join(f"Slope of the {what}: {slope}." for what, slope in slopes.items())
    if options.folder is not None:
        picture(options.folder / f"scaling-{sweep.name}.png", sweep, said, results)
        text += f"\n\n![{sweep.name}](scaling-{sweep.name}.png)"
    records = [{sweep.size: v, **result.record()} for v, result in zip(sweep.values, results, strict=True)]
    return Section(f"`{sweep.work}` against {sweep.size}: {said}", text, records)


def point(sweep: Sweep, value: int, base: dict[str, Any], options: program.Options) -> race.Result:
    """Measure one point, in a process with its number of devices."""
    settings, env = base | sweep.fixed, {}
    if sweep.size == "devices":
        env = {"JAX_NUM_CPU_DEVICES": str(value), "JAX_PLATFORMS": "cpu"}
    elif sweep.size == "weights":
        settings = settings | {"width": round((value - 1) / 3)}
    else:
        settings = settings | {sweep.size: value}
    job = Job(PROGRAM, sweep.work, "bbb", {}, settings, options.repeats, BUDGET)
    return race.run(job, {}, limit=min(options.limit, 120.0), env=env)


def _cells(value: int, result: race.Result) -> list[str]:
    m = result.measurement
    if m is None:
        return [f"{value:,}", *[""] * 6, result.note]
    times = [f"{m.cold_seconds:.2f}", f"{m.warm:.3g}", str(len(m.warm_seconds))]
    return [f"{value:,}", *times, f"{m.memory_before:.0f}", f"{m.memory_peak:.0f}", f"{result.more:.0f}", " "]


def slopes_said(sweep: Sweep, results: Sequence[race.Result], what: str) -> str:
    """Return the slopes of "warm" times, or of "more" memory, in words."""
    values = [getattr(result, what) for result in results]
    last, three = (slope(sweep.values, values, decades) for decades in (1, 3))
    return f"{three:.2f} over the last three decades, {last:.2f} over the last one"


def slope(sizes: Sequence[float], values: Sequence[float], decades: int = 3) -> float:
    """Fit log value = slope·log size + constant over the last decades of the sizes that were measured."""
    points = [(size, value) for size, value in zip(sizes, values, strict=True) if math.isfinite(value) and value > 0]
    last = max((size for size, _ in points), default=0)
    kept = np.log([point for point in points if point[0] >= last / 10**decades])
    return float(np.polyfit(kept[:, 0], kept[:, 1], 1)[0]) if len(kept) > 1 else float("nan")


def picture(path: Path, sweep: Sweep, said: str, results: Sequence[race.Result]) -> None:
    """Plot time and memory against the size, on logarithmic axes."""
    from matplotlib.figure import Figure

    from bbb.plots.style import DATA, MEAN

    points = [(v, r) for v, r in zip(sweep.values, results, strict=True) if r.measurement is not None]
    sizes = [value for value, _ in points]
    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(sizes, [r.cold for _, r in points], "s--", color=DATA, markersize=4, label="first call")
    left.loglog(sizes, [r.warm for _, r in points], "o-", color=MEAN, markersize=4, label="later calls")
    right.loglog(sizes, [r.more for _, r in points], "o-", color=MEAN, markersize=4)
    for axes, what, ylabel in ((left, "warm", "seconds"), (right, "more", "memory of a call, MB")):
        axes.set(xlabel=sweep.size, ylabel=ylabel)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, high / 100), high * 1.5)
        axes.grid(color="0.92")
        if sweep.size == "devices":
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.xaxis.set_minor_formatter(lambda *_: "")
        else:
            of = "slope of later calls" if what == "warm" else "slope"
            axes.set_title(f"{of} {slopes_said(sweep, results, what)}", fontsize="small")
    left.legend(frameon=False)
    figure.suptitle(f"bbb.{sweep.work}: {said}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def memory(base: dict[str, Any], options: program.Options) -> Section:
    """Measure the memory of the moments and the quantiles of many draws at many rows."""
    rows, results = [], []
    for what, levels in (("moments", ()), ("moments and the 95 % interval", (0.95,))):
        settings = base | {"rows": 100 if options.quick else 10_000, "levels": levels}
        result = race.run(Job(PROGRAM, "predict", "bbb", {}, settings, repeats=0), {}, limit=options.limit)
        race.say(f"memory, {what}: {result.note or f'{result.cold:.4g} s'}")
        m = result.measurement
        numbers = ["", "", ""] if m is None else [m.memory_before, m.memory_peak, m.memory_peak - m.memory_before]
        cells = [f"{number:.0f}" if m is not None else "" for number in numbers]
        rows.append([what, *cells, "" if m is None else f"{m.cold_seconds:.1f}", result.note or " "])
        results.append(result)
    title = "Memory: {draws:,} draws × {rows:,} rows, width {width:,}".format(**settings)
    text = table(["predict", "before MB", "peak MB", "more by MB", "cold s", "note"], rows)
    return Section(title, text, [result.record() for result in results])


def compiled(base: dict[str, Any], options: program.Options) -> Section:
    """Count compilations: of one `fit`, `predict` on 100 different row counts, and a first cross-validation."""
    counts = [int(count) for count in np.unique(np.geomspace(1, 20_000, 140).astype(int))[:100]]
    counts = counts[:5] if options.quick else counts
    small = base | {"width": 20, "draws": 50, "steps": 300}
    folds = small | {"work": "cross_validate", "rows": 102, "steps": 200 if options.quick else 4000}
    rows, records = [], []
    for title, settings in (
        ("one fit of 300 steps", small | {"work": "fit"}),
        (f"predict on {len(counts)} row counts from {counts[0]} to {counts[-1]:,}", small | {"work": "predict_many"}),
        ("a first cross-validation, folds of 81 and 82 rows, mean-field", folds | {"posterior": "mean_field"}),
        ("the same, by the evidence", folds | {"posterior": "laplace"}),
    ):
        job = Job(PROGRAM, "compilations", "bbb", {}, settings | {"row_counts": counts}, repeats=0)
        result = race.run(job, {}, limit=options.limit)
        if result.answer is None:
            rows.append([title, "", result.note])
            continue
        names, each = np.unique(result.answer["names"], return_counts=True)
        by_name = dict(sorted(zip(names.tolist(), each.tolist(), strict=True), key=lambda item: -item[1]))
        rows.append([title, str(sum(each)), ", ".join(f"{n} {name}" for name, n in by_name.items())])
        records.append({"work": title, "compilations": by_name})
    return Section("Compilations", table(["work", "programs", "which"], rows), records)


IMPORTS = {"jax, optax": "import jax, optax", "bbb": "import bbb"}


def imports(base: dict[str, Any], options: program.Options) -> Section:
    """Time `import bbb` and `import jax, optax` alternately, each in new processes, from compiled bytecode."""
    del base
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", "import bbb"], cwd=race.ROOT, env=environment, check=True)
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(2 if options.quick else 9):
        for name, statement in IMPORTS.items():
            code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
            command = [sys.executable, "-c", code]
            ran = subprocess.run(command, cwd=race.ROOT, env=environment, capture_output=True, text=True, check=True)
            seconds[name].append(float(ran.stdout))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [[name, f"{median:.3f}", f"{median / medians['jax, optax']:.2f}"] for name, median in medians.items()]
    return Section("Import", table(["import", "median s", "÷ jax, optax"], rows), [{"seconds": seconds}])


if __name__ == "__main__":
    program.main(TITLE, sections, __doc__)
