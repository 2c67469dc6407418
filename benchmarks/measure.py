"""Measure one contender in this process, which must be new: `python -m benchmarks.measure FOLDER`.

FOLDER holds `job.json` and `data.npz`; `measurement.json` and `answer.npz` are written to it. Then the process waits:
for each line of its input it runs again, and answers with the seconds in a line of its output, to which nothing else
prints. At the end of its input it ends.
"""

import dataclasses
import importlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MEGABYTE = 1e6
SHORT = 0.2
"""The seconds below which a run is repeated within a round."""


@dataclasses.dataclass(frozen=True)
class Job:
    """The job of a new process.

    Attributes:
        program: the module that defines `WORKS`.
        work: the name of the work.
        contender: the name of the contender.
        options: the variant of that contender.
        settings: sizes and rates of the work.
        repeats: the number of warm runs after the cold one.
        budget: the total seconds of warm runs after which no other is started.
    """

    program: str
    work: str
    contender: str
    options: dict[str, Any]
    settings: dict[str, Any]
    repeats: int = 5
    budget: float = float("inf")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Seconds and megabytes (10⁶ bytes) of one contender.

    Attributes:
        import_seconds: the imports of its modules, which are not part of the cold time.
        cold_seconds: from the imports to the first answer: preparing, compiling and running.
        warm_seconds: each run after that; in a race, that of each round.
        memory_imported: resident memory after the imports.
        memory_before: resident memory right before the first run.
        memory_peak: the peak of resident memory.
    """

    import_seconds: float
    cold_seconds: float
    warm_seconds: list[float]
    memory_imported: float
    memory_before: float
    memory_peak: float

    @property
    def warm(self) -> float:
        """The median of the warm runs, or the cold run if there were none, in seconds."""
        return statistics.median(self.warm_seconds) if self.warm_seconds else self.cold_seconds


def resident() -> float:
    """Return the resident memory in MB; its peak so far if the system does not report it."""
    status = _status("VmRSS")
    return peak() if status is None else status


def peak() -> float:
    """Return the peak of resident memory, in MB.

    On Linux this is VmHWM, because ru_maxrss survives `exec`: a child's starts at its parent's.
    """
    status = _status("VmHWM")
    if status is not None:
        return status
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


def _status(field: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith(f"{field}:")), None)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Call a function; return the seconds it took and its result."""
    started = time.perf_counter()
    returned = function()
    return time.perf_counter() - started, returned


def measure(job: Job, arrays: dict[str, np.ndarray]) -> tuple[Measurement, dict[str, np.ndarray], Callable[[], Any]]:
    """Import, prepare, run once cold and then warm; return the numbers, the last answer, and what to run again."""
    contender = importlib.import_module(job.program).WORKS[job.work][job.contender]
    import_seconds, _ = timed(lambda: [importlib.import_module(module) for module in contender.modules])
    memory_imported = resident()
    prepare_seconds, run = timed(lambda: contender.prepare(arrays, job.settings, **job.options))
    memory_before = resident()
    first_seconds, answer = timed(run)
    warm: list[float] = []
    while len(warm) < job.repeats and sum(warm) < job.budget:
        seconds, answer = timed(run)
        warm.append(seconds)
    numbers = import_seconds, prepare_seconds + first_seconds, warm, memory_imported, memory_before, peak()
    return Measurement(*numbers), answer, run


def again(run: Callable[[], Any]) -> float:
    """Return the seconds of one more run; the median of several short ones, whose first finds the caches cold."""
    seconds, started = [timed(run)[0]], time.perf_counter()
    while seconds[0] < SHORT and time.perf_counter() - started < SHORT:
        seconds.append(timed(run)[0])
    return statistics.median(seconds)


def main(folder: Path) -> None:
    """Run the job in `folder`, then again whenever asked."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    job = Job(**json.loads((folder / "job.json").read_text()))
    with np.load(folder / "data.npz") as data:
        arrays = dict(data)
    measurement, answer, run = measure(job, arrays)
    np.savez(folder / "answer.npz", **answer)
    (folder / "measurement.json").write_text(json.dumps(dataclasses.asdict(measurement)))
    print("ready", file=out)
    for _ in sys.stdin:
        print(again(run), file=out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
