"""Tables, ratios, and the files that hold them."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.race import ROOT, Result

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "torch", "torchbnn", "numpyro")


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
    cold, warm = (None, None) if mine is None else (mine.cold, mine.warm)
    return [
        ("cold s", lambda r: f"{r.cold:.2f}"),
        ("warm s", lambda r: f"{r.warm:.3f}"),
        (f"÷ {own} cold", lambda r: ratio(r.cold, cold)),
        (f"÷ {own} warm", lambda r: ratio(r.warm, warm)),
    ]


def against(results: Sequence[Result], name: str) -> Column:
    """Return the column of the ratios of warm times to that of one contender."""
    other = find(results, name)
    warm = None if other is None else other.warm
    return f"÷ {name}", lambda r: ratio(r.warm, warm)


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
                pair = (peer.cold, mine.cold) if cold else (peer.warm, mine.warm)
                name = f" ({peer.name})" if peer.name != loop else ""
                parts.append(f"{ratio(*pair)} × as fast as {what}{name}")
        said.append(f"{'cold' if cold else 'warm'} {' and '.join(parts)}")
    return f"`{own}` is {'; '.join(said)}."


def machine() -> dict[str, Any]:
    """Return a description of the machine, the installed versions, the date and the commit."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "jax_devices": _command(sys.executable, "-c", "import jax; print(jax.devices())"),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": _commit(),
    }


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
    """Return the result of `machine` as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    lines = [
        f"- {described['cpu']}, {described['cores']} cores, {described['memory_gb']} GB; "
        f"JAX devices {described['jax_devices']}; load average at the start {described['load_average']}",
        f"- Python {described['python']}, {versions}",
        f"- {described['date']}, commit {described['commit']}",
    ]
    return "\n".join(lines)


HOW = """\
Each contender runs in a new process, one after the other, on the same data. Cold is the time from the end of the
imports to the first answer, including compilation; warm is the median of the runs after it, each until its answer is a
NumPy array. Memory is the resident memory right before the first run, and its peak. `÷ bbb` is the ratio to the time
of `bbb`. Of several variants of a contender, the one with the best warm time counts, with the least cold time of any;
the note names the others."""


def results_text(described: dict[str, Any], parts: dict[str, list[Section]]) -> str:
    """Return a whole run as Markdown."""
    blocks = ["# Results", "Written by `python -m benchmarks`.", machine_text(described), HOW]
    for title, sections in parts.items():
        blocks += [f"## {title}", *(f"### {section.title}\n\n{section.text}" for section in sections)]
    return "\n\n".join(blocks) + "\n"


def results_json(described: dict[str, Any], parts: dict[str, list[Section]]) -> str:
    """Return a whole run as JSON."""
    tables = {title: {section.title: section.records for section in sections} for title, sections in parts.items()}
    return json.dumps({"machine": described, "results": tables}, indent=2) + "\n"
