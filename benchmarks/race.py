"""Race contenders on the same arrays and settings, each in a process of its own, in rounds of one run of each."""

import contextlib
import dataclasses
import importlib
import json
import math
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contender import Arrays
from benchmarks.measure import Job, Measurement

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 600.0
"""The seconds after which a contender is stopped and left out."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a contender. If it was left out, `measurement` and `answer` are None and `note` says why."""

    name: str
    options: dict[str, Any]
    measurement: Measurement | None = None
    answer: dict[str, np.ndarray] | None = None
    note: str = ""
    quality: dict[str, float] = dataclasses.field(default_factory=dict)
    why: str = ""

    @property
    def warm(self) -> float:
        """The median of the warm seconds; infinite if it was left out."""
        return float("inf") if self.measurement is None else self.measurement.warm

    @property
    def cold(self) -> float:
        """The cold seconds; infinite if it was left out."""
        return float("inf") if self.measurement is None else self.measurement.cold_seconds

    @property
    def more(self) -> float:
        """The MB that it took at most beyond those before its first run; not a number if it was left out."""
        return math.nan if self.measurement is None else self.measurement.memory_peak - self.measurement.memory_before

    def record(self) -> dict[str, Any]:
        """Return all but the answer, as JSON values."""
        record = {key: value for key, value in vars(self).items() if key != "answer"}
        if self.measurement is not None:
            record["measurement"] = {**dataclasses.asdict(self.measurement), "warm_median": self.warm}
        return record


def race(
    program: str,
    work: str,
    arrays: Arrays,
    settings: dict[str, Any],
    *,
    only: Sequence[str] | None = None,
    repeats: int = 5,
    limit: float = LIMIT,
) -> list[Result]:
    """Measure every contender of a work, or only those named, by `repeats` rounds in each of which every one runs once.

    Each is made ready alone, in a process of its own. The fastest of its variants then waits, and takes part in the
    rounds: so what slows the machine for a while slows all of them.
    """
    results, waiting = [], {}
    with contextlib.ExitStack() as stack:
        for name, contender in importlib.import_module(program).WORKS[work].items():
            if only is not None and name not in only:
                continue
            missing = contender.missing()
            if missing is not None:
                results.append(Result(name, {}, note=f"left out: {missing} is not there", why=contender.why))
                continue
            trials = 1 if repeats > 0 and len(contender.variants) > 1 else 0
            jobs = [Job(program, work, name, options, settings, trials) for options in contender.variants]
            result, child = _tried(jobs, arrays, limit)
            results.append(dataclasses.replace(result, why=contender.why))
            if child is not None:
                waiting[name] = stack.enter_context(child)
        seconds = _rounds(work, waiting, repeats, limit)
    return [_with_rounds(result, seconds.get(result.name)) for result in results]


def _tried(jobs: Sequence[Job], arrays: Arrays, limit: float) -> tuple[Result, "Child | None"]:
    """Return the result of the fastest of several variants and its process, which waits; the others are ended."""
    tries, kept = [], None
    for job in jobs:
        child = Child(job, arrays)
        tries.append(child.result(limit))
        say(f"{job.work}: {job.contender} {_options(job.options)}: {tries[-1].note or f'{tries[-1].warm:.4g} s'}")
        if tries[-1].measurement is not None and tries[-1].warm == min(result.warm for result in tries):
            child, kept = kept, child
        if child is not None:
            child.close()
    return best(tries), kept


def _rounds(work: str, waiting: dict[str, "Child"], repeats: int, limit: float) -> dict[str, list[float] | str]:
    """Return the seconds of each contender in each round; in their place why it was left out, if it was."""
    seconds: dict[str, Any] = {name: [] for name in waiting}
    for i in range(repeats):
        for name, child in waiting.items():
            if isinstance(seconds[name], list):
                took = child.again(limit)
                seconds[name] = [*seconds[name], took] if isinstance(took, float) else took
        said = (f"{name} {took[-1]:.3g}" for name, took in seconds.items() if isinstance(took, list))
        say(f"{work}: round {i + 1}: {', '.join(said)} s")
    return seconds


def _with_rounds(result: Result, seconds: list[float] | str | None) -> Result:
    """Return a result with the seconds of its rounds in the place of those of its trials."""
    if not seconds or result.measurement is None:
        return result
    if isinstance(seconds, str):
        return dataclasses.replace(result, measurement=None, answer=None, note=seconds)
    return dataclasses.replace(result, measurement=dataclasses.replace(result.measurement, warm_seconds=seconds))


def best(tries: Sequence[Result]) -> Result:
    """Return the variant with the least warm time, with the least cold time of any; its note lists the others."""
    fastest = min(tries, key=lambda result: result.warm)
    if len(tries) == 1 or fastest.measurement is None:
        return fastest
    others = [
        f"{_options(t.options)}: {t.note if t.measurement is None else f'{t.warm:.4g} s'}"
        for t in tries
        if t is not fastest
    ]
    measurement = dataclasses.replace(fastest.measurement, cold_seconds=min(result.cold for result in tries))
    return dataclasses.replace(
        fastest, measurement=measurement, note="; ".join([_options(fastest.options), ", ".join(others)])
    )


def run(job: Job, arrays: Arrays, *, limit: float = LIMIT, env: dict[str, str] | None = None) -> Result:
    """Measure one contender in a new process, which shares no compiled programs with others."""
    with Child(job, arrays, env) as child:
        return child.result(limit)


class Child:
    """One contender in a process of its own, which is measured, and then waits to be asked for another run.

    It sleeps while it waits: OpenMP's threads spin for less than 0.2 s after a run, and are left at that, because peers
    with threads that never spin would be slower.
    """

    def __init__(self, job: Job, arrays: Arrays, env: dict[str, str] | None = None) -> None:
        """Start the process."""
        self.job, self._made = job, tempfile.TemporaryDirectory()
        self._folder = folder = Path(self._made.name)
        (folder / "job.json").write_text(json.dumps(dataclasses.asdict(job)))
        np.savez(folder / "data.npz", **arrays)
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), **(env or {})}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command, pipe = [sys.executable, "-m", "benchmarks.measure", str(folder)], subprocess.PIPE
        with (folder / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=errors, text=True, bufsize=1
            )

    def result(self, limit: float) -> Result:
        """Wait for the measurement, for `limit` seconds at most."""
        said = self._line(limit)
        if said != "ready":
            return Result(self.job.contender, self.job.options, note=said)
        measurement = Measurement(**json.loads((self._folder / "measurement.json").read_text()))
        with np.load(self._folder / "answer.npz") as answer:
            return Result(self.job.contender, self.job.options, measurement, dict(answer))

    def again(self, limit: float) -> float | str:
        """Return the seconds of one more run, or why there are none."""
        with contextlib.suppress(BrokenPipeError):  # a process that died says so in what follows
            print("again", file=self._process.stdin)
        said = self._line(limit)
        return said if said.startswith("left out") else float(said)

    def _line(self, limit: float) -> str:
        """Return the next line of the process, or why there is none."""
        if not select.select([self._process.stdout], [], [], limit)[0]:
            return f"left out: over {limit:g} s"
        line = self._process.stdout.readline().strip()  # type: ignore[union-attr]
        if line:
            return line
        code = self._process.wait()
        lines = (self._folder / "stderr").read_text(errors="replace").strip().splitlines()
        return f"left out: {(lines or [f'exit code {code}'])[-1][:200]}"

    def close(self) -> None:
        """End the process, and remove its folder; one that is still busy after 5 s is killed."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._made.cleanup()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def judged(result: Result, quality: Any, arrays: Arrays, settings: dict[str, Any]) -> Result:
    """Return the result with the quality of its answer, `quality(answer, arrays, settings)`, if it has one."""
    if result.answer is None:
        return result
    return dataclasses.replace(result, quality=quality(result.answer, arrays, settings))


def say(line: str) -> None:
    """Print progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def _options(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())
