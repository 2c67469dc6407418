"""Rows that do not fit in memory: `python -m benchmarks.streams [--rows N] [--columns N] [--limit-mb N] [--json FILE]`.

A file of float32 rows, `numpy.memmap`'s, is written batch by batch; a network of 50 units learns one pass of it from
`fit(..., data=..., num_data=...)`, and `predict_batches` predicts all of it, from draws. The resident memory of the
process is noted ten times a second. The tables are of the seconds and rows a second of each part with its least and
most memory, and of the memory over the course of the run; it ends with exit code 1 if the memory was ever above
`--limit-mb`.

Each batch maps its part of the file and lets go of it: pages of one map of the whole file would count as resident for
as long as the map lives.
"""

import argparse
import dataclasses
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import bbb
from benchmarks import program
from benchmarks.report import Section, table

TITLE = "Rows that do not fit in memory"
POINTS = 20
"""Of the curve of memory."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned: y = Σ sin(x_j)/√columns + noise of standard deviation .1.

    Attributes:
        rows: of the file.
        columns: of x.
        batch: rows of a step, and of a prediction.
        draws: of a prediction.
    """

    rows: int = 10_000_000
    columns: int = 50
    batch: int = 8_192
    draws: int = 30

    def batches(self) -> Iterator[slice]:
        """Yield the rows of each batch."""
        for start in range(0, self.rows, self.batch):
            yield slice(start, min(start + self.batch, self.rows))


class File:
    """A file of rows, x and then y in its last column."""

    def __init__(self, path: Path, task: Task) -> None:
        self.path, self.task = path, task

    def write(self) -> None:
        """Write all rows."""
        rng = np.random.default_rng(0)
        with self.path.open("wb") as file:
            for rows in self.task.batches():
                x = rng.standard_normal((rows.stop - rows.start, self.task.columns), np.float32)
                mean = np.sin(x).sum(axis=1, keepdims=True) / np.sqrt(self.task.columns)
                noise = 0.1 * rng.standard_normal(mean.shape)
                file.write(np.hstack([x, mean + noise]).astype(np.float32).tobytes())

    def part(self, rows: slice) -> np.ndarray:
        """Read some rows: (rows, columns + 1)."""
        width = self.task.columns + 1
        shape, offset = (rows.stop - rows.start, width), rows.start * width * 4
        return np.array(np.memmap(self.path, np.float32, "r", offset, shape))

    def of_pass(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the batches (x, y) of a pass."""
        del epoch
        for rows in self.task.batches():
            part = self.part(rows)
            yield part[:, :-1], part[:, -1:]


class Memory:
    """The resident memory of this process, noted ten times a second, in MB."""

    def __init__(self) -> None:
        self.noted: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._began = time.perf_counter()
        threading.Thread(target=self._note, daemon=True).start()

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._began

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Return the least and the most of a time."""
        inside = [mb for at, mb in self.noted if start <= at <= end] or [_resident()]
        return min(inside), max(inside)

    def close(self) -> None:
        """Note no more."""
        self._ended.set()

    def _note(self) -> None:
        while not self._ended.wait(0.1):
            self.noted.append((self.now(), _resident()))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def learned(file: File) -> Any:
    """Return a model after one pass over a file."""
    task, nn = file.task, bbb.nn
    network = nn.sequential(nn.linear(task.columns, 50), nn.tanh, nn.linear(50, 1))
    start, noise = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.5, learn=True)
    model = bbb.bayesianize(network.apply, start, prior=bbb.priors.fan_in(start), likelihood=noise)
    return bbb.fit(jax.random.key(1), model, data=file.of_pass, num_data=task.rows, epochs=1, progress=False)[0]


def predicted(file: File, model: Any) -> float:
    """Predict all rows; return the root mean square of what is left of y."""
    rows = (file.part(rows)[:, :-1] for rows in file.task.batches())
    found, squares = bbb.predictive.predict_batches(jax.random.key(2), model, rows, draws=file.task.draws), 0.0
    for part, of_batch in zip(file.task.batches(), found, strict=True):
        squares += float(np.square(file.part(part)[:, -1:] - of_batch.y.mean).sum())
    return float(np.sqrt(squares / file.task.rows))


def sections(task: Task, folder: Path) -> Iterator[Section]:
    """Write, learn and predict, with the memory of each."""
    memory, records, model = Memory(), [], None
    file = File(folder / "rows.f32", task)
    parts = {"write": file.write, "fit": lambda: learned(file), "predict": lambda: predicted(file, model)}
    for name, part in parts.items():
        started = memory.now()
        made: Any = part()
        ended = memory.now()
        model = made if name == "fit" else model
        least, most = memory.between(started, ended)
        records.append({"part": name, "seconds": ended - started, "least_mb": least, "most_mb": most})
        if name == "predict":
            records[-1]["rmse"] = made
    memory.close()
    cells = [_cells(record, task.rows) for record in records]
    size = file.path.stat().st_size / 1e6
    title = f"{task.rows:,} rows × {task.columns} columns, {size:,.0f} MB, in batches of {task.batch:,}"
    text = table(["part", "seconds", "rows a second", "least MB", "most MB"], cells)
    yield Section(title, f"{text}\n\nRMSE {records[-1]['rmse']:.4f}, where the noise is 0.1", records)
    each = max(1, len(memory.noted) // POINTS)
    curve = [{"seconds": at, "resident_mb": mb} for at, mb in memory.noted[::each]]
    rows = [[f"{point['seconds']:.1f}", f"{point['resident_mb']:.0f}"] for point in curve]
    yield Section("Resident memory over the run", table(["second", "MB"], rows), curve)


def _cells(record: dict[str, Any], rows: int) -> list[str]:
    seconds, memory = record["seconds"], [f"{record[name]:.0f}" for name in ("least_mb", "most_mb")]
    return [record["part"], f"{seconds:.1f}", f"{rows / seconds:,.0f}", *memory]


def main(argv: list[str] | None = None) -> None:
    """Run all of it in a folder that is removed after it."""
    parser: argparse.ArgumentParser = program.parser(__doc__)
    parser.add_argument("--rows", type=int, metavar="N", help=f"default: {Task.rows:,}")
    parser.add_argument("--columns", type=int, default=Task.columns, metavar="N", help=f"default: {Task.columns}")
    parser.add_argument("--limit-mb", type=float, default=1500.0, metavar="N", help="most memory (default: 1500)")
    arguments = parser.parse_args(argv)
    rows = arguments.rows or (20_000 if arguments.quick else Task.rows)
    task, worst = Task(rows, arguments.columns), 0.0

    def of_options(options: program.Options) -> Iterator[Section]:
        del options
        nonlocal worst
        with tempfile.TemporaryDirectory() as folder:
            for section in sections(task, Path(folder)):
                worst = max([worst, *(record.get("most_mb", 0.0) for record in section.records)])
                yield section

    program.run(TITLE, of_options, arguments)
    if worst > arguments.limit_mb:
        sys.exit(f"{worst:.0f} MB, more than {arguments.limit_mb:.0f}")


if __name__ == "__main__":
    main()
