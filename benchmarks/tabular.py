"""The estimator's defaults beside its peers: `python -m benchmarks.tabular [--tasks A,B] [--contenders A,B]`.

Ten tables of 50 to 5,000 rows (`tabular_tasks.py`) and, for each, everybody's log score, CRPS, rmse and 90 % interval
on rows that were not learned from, as means over seeds of data and training. Peers are in their strongest known form,
and choose what they leave to their user within the rows they learn from (`tabular_contenders.py`). The last table
counts where `bbb`, with no argument given, has the best log score or is within 0.05 nats a row of the best peer's.

Seconds are of learning, predicting and scoring, cold: JAX's compiled programs are forgotten before, imports are not
counted. NGBoost and MAPIE are optional: `python -m pip install ngboost mapie`. The Gaussian processes take a random
1,000 rows of the table of 5,000, and are slow there and with 23 columns: minutes, which `--contenders` can leave out.

Where other processes want the same cores, set OPENBLAS_NUM_THREADS=1 and OMP_NUM_THREADS=1.
"""

import argparse
import dataclasses
import importlib
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from bbb.errors import BBBError, InputError, fail
from bbb.storage import files
from benchmarks import program, report
from benchmarks.report import Section, table
from benchmarks.tabular_contenders import CONTENDERS, Contender
from benchmarks.tabular_tasks import TASKS, Rows, Task

TITLE = "The estimator's defaults beside its peers"
OWN = "bbb"
CLOSE = 0.05
"""Nats a row of the best peer's log score within which `bbb` counts as good as it."""

QUICK = (30, 20)
"""Rows to learn from and for testing, in a quick run."""

HEAD = ("contender", "log score, nats", "CRPS", "rmse", "90 % interval", "its width", "its score", "seconds")


def measure(contender: Contender, rows: Rows, seed: int) -> dict[str, Any]:
    """Return the scores of one contender on one table, and the seconds it took; or `failed`, and why."""
    for module, _ in contender.modules:
        importlib.import_module(module)
    jax.clear_caches()
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():  # of an optimiser at a bound, or a network not at its minimum
            warnings.simplefilter("ignore")
            scores = contender.fit(rows.x, rows.y, seed).scores(rows.x_test, rows.y_test)
    except Exception as error:  # a run of hours goes on without it
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {**dataclasses.asdict(scores), "seconds": time.perf_counter() - started}


def over_seeds(name: str, task: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a contender on a task: means over its seeds, and each of them."""
    record: dict[str, Any] = {"task": task, "contender": name, "seeds": runs}
    if any("failed" in run for run in runs):
        return record | {"failed": next(run["failed"] for run in runs if "failed" in run)}
    means = {of: [run[of] for run in runs] for of in runs[0]}
    return record | {of: None if None in each else statistics.fmean(each) for of, each in means.items()}


def cells(record: dict[str, Any]) -> list[str]:
    """Return a record as a row of the table."""
    if "failed" in record:
        return [record["contender"], *[""] * (len(HEAD) - 2), "failed"]
    return [
        record["contender"],
        *(_number(record[of]) for of in ("log_score", "crps", "rmse")),
        f"{record['coverage']:.1%}",
        *(_number(record[of]) for of in ("width", "interval_score")),
        f"{record['seconds']:.1f}",
    ]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}".replace("-", "−")


def best_peer(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the record of the peer with the best log score, or None if there is none."""
    peers = [one for one in records if one.get("log_score") is not None and not one["contender"].startswith(OWN)]
    return max(peers, key=lambda one: one["log_score"], default=None)


def compared(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare `bbb` with the best peer on one task; None without either.

    The standard error of their difference is over seeds, which both share; 0 of one seed.
    """
    own, peer = next((one for one in records if one["contender"] == OWN), {}), best_peer(records)
    if own.get("log_score") is None or peer is None:
        return None
    apart = [mine["log_score"] - its["log_score"] for mine, its in zip(own["seeds"], peer["seeds"], strict=True)]
    error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
    found = {"task": own["task"], OWN: own["log_score"], "peer": peer["contender"], "best": peer["log_score"]}
    apart_by = statistics.fmean(apart)
    return found | {"difference": apart_by, "standard_error": error, "close": apart_by >= -CLOSE}


def summary(by_task: Mapping[str, Sequence[dict[str, Any]]], left_out: Sequence[str]) -> Section:
    """Return the last table: `bbb` and the best peer on each task, and on how many it is best or close."""
    found = [one for one in map(compared, by_task.values()) if one is not None]
    lines = [
        [
            one["task"],
            _number(one[OWN]),
            one["peer"],
            _number(one["best"]),
            f"{_number(one['difference'])} ± {one['standard_error']:.3f}",
            "yes" if one["close"] else "no",
        ]
        for one in found
    ]
    head = ["task", OWN, "best peer", "its log score", "difference", f"best or within {CLOSE}"]
    count = sum(one["close"] for one in found)
    said = f"`{OWN}` is best or within {CLOSE} nats of the best on {count} of {len(found)} tasks."
    return Section("Log scores, nats a row", "\n\n".join([table(head, lines), said, *left_out]), found)


def sections(
    tasks: Mapping[str, Task], contenders: Mapping[str, Contender], seeds: int, quick: bool = False
) -> Iterator[Section]:
    """Measure every contender that is installed on every task, and compare them at the end."""
    absent = {name: why for name, one in contenders.items() if (why := one.missing()) is not None}
    left_out = [f"{name} is left out: {why}" for name, why in absent.items()]
    for line in left_out:
        print(line, file=sys.stderr, flush=True)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for task, of in tasks.items():
        data = [of.rows(seed).first(*QUICK) if quick else of.rows(seed) for seed in range(seeds)]
        records = []
        for name, contender in contenders.items():
            if name not in absent:
                runs = [measure(contender, rows, seed) for seed, rows in enumerate(data)]
                records.append(over_seeds(name, task, runs))
                print(f"{task}: {cells(records[-1])}", file=sys.stderr, flush=True)
        by_task[task] = records
        failures = [f"{one['contender']} failed: {one['failed']}" for one in records if "failed" in one]
        shown = table(HEAD, [cells(one) for one in records])
        yield Section(of.about, "\n\n".join([shown, *failures]), records)
    if OWN in contenders:
        yield summary(by_task, left_out)


def chosen(option: str, wanted: str | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `known` that an option names, in the order of `known`; all of them without it.

    Raises:
        InputError: for a name that is not known, or none at all.
    """
    names = list(known) if wanted is None else [part.strip() for part in wanted.split(",") if part.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        do = "Pass names with a comma between them: " + ", ".join(known) + "."
        fail(InputError, f"{option} to be names that are known", ", ".join(map(repr, unknown)) or "none", do)
    return {name: one for name, one in known.items() if name in names}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.tabular",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="contenders:\n" + "\n".join(f"  {name}: {one.about}" for name, one in CONTENDERS.items()),
    )
    made.add_argument("--tasks", metavar="A,B", help=f"only these (default: {', '.join(TASKS)})")
    made.add_argument("--contenders", metavar="A,B", help=f"only these (default: {'; '.join(CONTENDERS)})")
    made.add_argument("--seeds", type=int, default=3, metavar="N", help="of data and training (default: 3)")
    made.add_argument("--quick", action="store_true", help="30 rows and 20 to test on, to test that everything works")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tasks, print their tables, and write the numbers as JSON."""
    made = parser()
    arguments = made.parse_args(argv)
    try:
        tasks = chosen("--tasks", arguments.tasks, TASKS)
        contenders = chosen("--contenders", arguments.contenders, CONTENDERS)
        if arguments.seeds < 1:
            fail(InputError, "--seeds to be at least 1", f"{arguments.seeds}", "Pass a positive number.")
        if arguments.json is not None:
            files.folder(arguments.json.parent)
    except BBBError as error:
        made.error(str(error))
    described = report.machine()
    shown = program.show(
        TITLE, lambda _: sections(tasks, contenders, arguments.seeds, arguments.quick), program.Options()
    )
    if arguments.json is not None:
        files.write(arguments.json, report.results_json(described, {TITLE: shown}).encode())


if __name__ == "__main__":
    main()
