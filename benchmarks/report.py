"""Tables, ratios, and the files that hold them."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.race import ROOT, Result

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "torch", "torchbnn", "bayesian-torch", "numpyro")


@dataclasses.dataclass(frozen=True)
class Section:
    """One question and its answer: `text` is Markdown, `records` the same numbers as JSON values."""

    title: str
    text: str
    records: list[dict[str, Any]]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return cells as a Markdown table, with the first column aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        aligned = [f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)]
        return f"| {' | '.join(aligned)} |"

    rule = f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|"
    return "\n".join([line(head), rule, *map(line, rows)])


Column = tuple[str, Callable[[Result], str]]
"""A heading, and the cell of a measured contender."""


def race_table(results: Sequence[Result], columns: Sequence[Column]) -> str:
    """Return the table of a race: contenders, columns, qualities and notes."""
    names = list(dict.fromkeys(name for result in results for name in result.quality))
    quality = [(name, partial(_quality, name=name)) for name in names]
    columns = [*columns, *quality]
    rows = [
        [r.name, *("" if r.measurement is None else cell(r) for _, cell in columns), r.note or " "] for r in results
    ]
    return table(["contender", *(head for head, _ in columns), "note"], rows)


def _quality(result: Result, *, name: str) -> str:
    return f"{result.quality[name]:.4g}" if name in result.quality else ""


def times(results: Sequence[Result], own: str) -> list[Column]:
    """Return the columns of the times, and of their ratios to those of `own`."""
    mine = find(results, own)
    cold = None if mine is None else mine.cold
    return [
        ("cold s", lambda r: f"{r.cold:.2f}"),
        ("warm s", lambda r: f"{r.warm:.3f}"),
        (f"÷ {own} cold", lambda r: ratio(r.cold, cold)),
        against(results, own),
    ]


def against(results: Sequence[Result], name: str) -> Column:
    """Return the column of the ratios of warm times to those of one contender."""
    other = find(results, name)
    return f"÷ {name}", lambda r: "" if other is None else str(Spread.of(r, other))


@dataclasses.dataclass(frozen=True)
class Spread:
    """The ratio of the warm times of two contenders in each round: the median, the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, result: Result, other: Result) -> "Spread":
        """Return the ratio of the times of `result` to those of `other`."""
        pairs = zip(_rounds(result), _rounds(other), strict=False)
        ratios = [time / base for time, base in pairs]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        """Return the ratio in words, such as "2.00 (1.90–2.10)"."""
        return f"{self.median:.2f} ({self.lowest:.2f}–{self.highest:.2f})"


def _rounds(result: Result) -> list[float]:
    """Return the seconds of each round, or the cold ones of a single run."""
    return (result.measurement and result.measurement.warm_seconds) or [result.cold]


def records(results: Sequence[Result], *bases: str) -> list[dict[str, Any]]:
    """Return results as JSON values, with their ratios to some of the contenders."""
    made = []
    for result in results:
        others = {base: find(results, base) for base in bases if result.measurement is not None}
        ratios = {base: vars(Spread.of(result, other)) for base, other in others.items() if other is not None}
        made.append({**result.record(), "ratios": ratios})
    return made


def memory_against(results: Sequence[Result], name: str) -> list[Column]:
    """Return the columns of the memory that a run takes beyond what was there, and of its ratio to one contender's."""
    other = find(results, name)
    return [
        ("more MB", lambda r: f"{r.more:.0f}"),
        (f"MB ÷ {name}", lambda r: "" if other is None else f"{r.more / other.more:.2f}"),
    ]


MEMORY: list[Column] = [
    ("import s", lambda r: f"{r.measurement.import_seconds:.1f}"),  # type: ignore[union-attr]
    ("before MB", lambda r: f"{r.measurement.memory_before:.0f}"),  # type: ignore[union-attr]
    ("peak MB", lambda r: f"{r.measurement.memory_peak:.0f}"),  # type: ignore[union-attr]
]


def find(results: Sequence[Result], name: str) -> Result | None:
    """Return the result of a measured contender by name, or None."""
    return next((result for result in results if result.name == name and result.measurement is not None), None)


def fastest(results: Sequence[Result], *, cold: bool = False) -> Result | None:
    """Return the result of the fastest contender, or None."""
    measured = [result for result in results if result.measurement is not None]
    return min(measured, key=lambda r: r.cold if cold else r.warm, default=None)


def ratio(time: float, other: float | None) -> str:
    """Return time / other as text; empty if there is no other."""
    return "" if other is None else f"{time / other:.2f}"


def comparison(results: Sequence[Result], own: str, loop: str) -> str:
    """Return a sentence that compares `own` with the loop and with the fastest peer, warm and cold."""
    mine = find(results, own)
    peers = [result for result in results if not result.name.startswith("bbb")]
    if mine is None or fastest(peers) is None:
        return f"{own} was not measured beside a peer."
    said = []
    for cold in (False, True):
        parts = []
        for what, peer in ((f"the {loop} loop", find(peers, loop)), ("the fastest peer", fastest(peers, cold=cold))):
            if peer is not None:
                times = ratio(peer.cold, mine.cold) if cold else f"{Spread.of(peer, mine).median:.2f}"
                name = f" ({peer.name})" if peer.name != loop else ""
                parts.append(f"{times} × as fast as {what}{name}")
        said.append(f"{'cold' if cold else 'warm'} {' and '.join(parts)}")
    return f"`{own}` is {'; '.join(said)}."


def machine() -> dict[str, Any]:
    """Return a description of the machine, the installed versions, the date and the commit."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "jax_devices": _command(sys.executable, "-c", "import jax; print(jax.devices())"),
        "load_average": load(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": _commit(),
    }


def load() -> list[float]:
    """Return how many processes wanted to run, on average over the last 1, 5 and 15 minutes."""
    return [round(average, 2) for average in os.getloadavg()]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    changed = _command("git", "status", "--porcelain", "--untracked-files=no")
    return _command("git", "rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _command(*command: str) -> str:
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip()


def machine_text(described: dict[str, Any]) -> str:
    """Return the result of `machine` as Markdown; with the load at the end once it is there."""
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    end = f", at the end {described['load_average_at_end']}" if "load_average_at_end" in described else ""
    lines = [
        f"- {described['cpu']}, {described['cores']} cores, {described['memory_gb']} GB; "
        f"JAX devices {described['jax_devices']}; load average at the start {described['load_average']}{end}",
        f"- Python {described['python']}, {versions}",
        f"- {described['date']}, commit {described['commit']}",
    ]
    return "\n".join(lines)


HEAD = """\
# Results

Written by `python -m benchmarks`, which replaces the part of the processor that it runs on.

Each contender runs in a process of its own, on the same data. Cold is the time from the end of the imports to the first
answer, including compilation, measured one process at a time. Then all contenders run once in each of several rounds,
in turn. Warm is the median over the rounds, each run until its answer is a NumPy array. A ratio, such as `÷ bbb`, is
that of two times in one round: the median over the rounds, with the lowest and the highest in brackets. Memory is the
resident memory right before the first run, and its peak. Of several variants of a contender, the one with the best warm
time takes part in the rounds, with the least cold time of any; the note names the others."""


def results_text(described: dict[str, Any], parts: dict[str, list[Section]], old: str = "") -> str:
    """Return `old` Markdown with the programs of a run in the part of this processor; the rest stays as it was."""
    name, processors = processor(described), _split(old, MARKER)
    made = {
        title: "\n\n".join([f"### {title}", *(f"#### {section.title}\n\n{section.text}" for section in sections)])
        for title, sections in parts.items()
    }
    kept = {title: part for title, part in _split(processors.get(name, ""), r"^### (.*)$").items() if title not in made}
    blocks = [f"<!-- processor: {name} -->", f"## {name}", machine_text(described), *made.values(), *kept.values()]
    return "\n\n".join([HEAD, *(processors | {name: "\n\n".join(blocks)}).values()]) + "\n"


MARKER = r"^<!-- processor: (.*) -->$"
"""The line above the part of a processor."""


def _split(text: str, heading: str) -> dict[str, str]:
    """Return the parts of a text by what their headings say; what stands above the first is left out."""
    starts = list(re.finditer(heading, text, re.MULTILINE))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {match[1]: text[match.start() : end].strip() for match, end in zip(starts, ends, strict=False)}


def processor(described: dict[str, Any]) -> str:
    """Return the name of a processor with its number of cores, under which its results stand."""
    return f"{described['cpu']}, {described['cores']} cores"


def results_json(described: dict[str, Any], parts: dict[str, list[Section]]) -> str:
    """Return a whole run as JSON."""
    tables = {title: {section.title: section.records for section in sections} for title, sections in parts.items()}
    return json.dumps({"machine": described, "results": tables}, indent=2) + "\n"
