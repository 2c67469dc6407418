"""Run contenders one after the other, each in a new process, on the same arrays and settings."""

import dataclasses
import importlib
import json
import os
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

    @property
    def warm(self) -> float:
        """The median of the warm seconds; infinite if it was left out."""
        return float("inf") if self.measurement is None else self.measurement.warm

    @property
    def cold(self) -> float:
        """The cold seconds; infinite if it was left out."""
        return float("inf") if self.measurement is None else self.measurement.cold_seconds

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
    """Measure every contender of a work, or only those named; the fastest of its variants counts."""
    results = []
    for name, contender in importlib.import_module(program).WORKS[work].items():
        if only is not None and name not in only:
            continue
        missing = contender.missing()
        if missing is not None:
            results.append(Result(name, {}, note=f"left out: {missing} is not there"))
            continue
        tries = []
        for options in contender.variants:
            tries.append(run(Job(program, work, name, options, settings, repeats), arrays, limit=limit))
            say(f"{work}: {name} {_options(options)}: {tries[-1].note or f'{tries[-1].warm:.4g} s warm'}")
        results.append(best(tries))
    return results


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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(dataclasses.asdict(job)))
        np.savez(folder / "data.npz", **arrays)
        command = [sys.executable, "-m", "benchmarks.measure", name]
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), **(env or {})}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        try:
            child = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            return Result(job.contender, job.options, note=f"left out: over {limit:g} s")
        if child.returncode != 0:
            why = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
            return Result(job.contender, job.options, note=f"left out: {why[:200]}")
        measurement = Measurement(**json.loads((folder / "measurement.json").read_text()))
        with np.load(folder / "answer.npz") as answer:
            return Result(job.contender, job.options, measurement, dict(answer))


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
