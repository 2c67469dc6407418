"""`python -m benchmarks.hosts`: the time and memory of a training step on n hosts, computed from measured parts.

One layer of W inputs and W outputs, so that nearly all of its P = W² weights are in one matrix, is trained by Adam on
full batches. Each case is one process, or two that communicate over loopback, each pinned to one core. The seconds and
memory of a few sizes give the cost of a weight, of a weight and a row, and of sending a weight; from these the page
HOSTS.md estimates what n hosts would need for 10⁹ weights and 10⁹ rows. Nothing of that size is run.
"""

import argparse
import dataclasses
import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import race, report
from benchmarks.measure import peak, timed

PAGE = Path(__file__).parent / "HOSTS.md"
WIDTHS = (1024, 2048)
ROWS = (2, 514)
TINY = 16
STEPS, REPEATS = (10, 30), 3
WEIGHTS, DATA_ROWS, COLUMNS, BATCH = 10**9, 10**9, 100, 8192
HOSTS = (1, 2, 8, 64, 512)


# One case, in its own process


@dataclasses.dataclass(frozen=True)
class Case:
    """The width of a layer, the rows of a batch, and the number of processes that share them."""

    width: int
    rows: int
    processes: int = 1

    def __str__(self) -> str:
        """Return the case in words."""
        return f"{self.width}² weights, {self.rows} rows, {self.processes} process{'es' * (self.processes > 1)}"


def child(case: Case, me: int, port: int) -> dict[str, float]:
    """Train as process `me` of the case; return seconds per step, without the overhead of the call, and peak bytes."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[me]})
    import jax
    import optax

    import bbb

    if case.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        address = f"127.0.0.1:{port}"
        jax.distributed.initialize(address, case.processes, me, coordinator_bind_address=address)
    network = bbb.nn.linear(case.width, case.width)
    params = network.init(jax.random.key(0))
    likelihood = bbb.likelihoods.Gaussian(0.5)
    model = bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=likelihood)
    del params
    x = np.random.default_rng(0).normal(size=(case.rows, case.width)).astype(np.float32)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    how = {"optimizer": optax.adam(1e-3), "progress": False, "placement": mesh}

    def run(steps: int) -> Any:
        return jax.block_until_ready(bbb.fit(jax.random.key(1), model, x, x, steps=steps, **how)[0])

    run(STEPS[0])
    most = peak()
    run(STEPS[1])
    few, many = (statistics.median(timed(lambda n=n: run(n))[0] for _ in range(REPEATS)) for n in STEPS)
    return {"seconds": max(0.0, many - few) / (STEPS[1] - STEPS[0]), "bytes": most * 1e6}


def measured(case: Case) -> dict[str, float]:
    """Run a case; return the seconds per step, and the largest memory of a process."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = made.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()}
    jobs = [json.dumps([dataclasses.asdict(case), me, port]) for me in range(case.processes)]
    command = [sys.executable, "-m", "benchmarks.hosts", "--child"]
    where = {"cwd": race.ROOT, "env": env | {"JAX_PLATFORMS": "cpu"}}
    running = [subprocess.Popen([*command, job], stdout=subprocess.PIPE, text=True, **where) for job in jobs]
    said = [json.loads(_last_line(process.communicate(timeout=race.LIMIT)[0])) for process in running]
    return {name: max(found[name] for found in said) for name in said[0]}


def _last_line(text: str) -> str:
    """Return the text without gloo's messages about its ranks."""
    return text.strip().rsplit("\n", maxsplit=1)[-1]


# The pieces


@dataclasses.dataclass(frozen=True)
class Pieces:
    """The costs of a step, in seconds, and its memory, in bytes.

    Attributes:
        per_weight: noise, sampling, KL and Adam of one weight.
        per_weight_and_row: the products of one weight with one row, and of their gradients.
        per_sent_weight: gathering one weight and summing its gradient, for two processes over loopback.
        per_step: a step of two processes with hardly any weights.
        bytes_cut: the bytes of each weight that are divided among the processes.
        bytes_whole: the bytes of each weight that every process holds.
    """

    per_weight: float
    per_weight_and_row: float
    per_sent_weight: float
    per_step: float
    bytes_cut: float
    bytes_whole: float

    @classmethod
    def of(cls, found: dict[Case, dict[str, float]]) -> "Pieces":
        """Return the parts that the costs of the cases are made of."""
        (small, large), (few, many) = WIDTHS, ROWS
        weights = large**2 - small**2

        def slope(what: str, processes: int) -> float:
            ends = [found[Case(width, few, processes)][what] for width in WIDTHS]
            return (ends[1] - ends[0]) / weights

        rows = found[Case(large, many)]["seconds"] - found[Case(large, few)]["seconds"]
        one, two = slope("bytes", 1), slope("bytes", 2)
        return cls(
            per_weight=slope("seconds", 1),
            per_weight_and_row=rows / (many - few) / large**2,
            per_sent_weight=max(0.0, slope("seconds", 2) - slope("seconds", 1) / 2),
            per_step=found[Case(TINY, few, 2)]["seconds"],
            bytes_cut=max(0.0, 2 * (one - two)),
            bytes_whole=max(0.0, 2 * two - one),
        )

    def seconds(self, hosts: int) -> tuple[float, float]:
        """Compute the seconds of a step on so many hosts: for computing, and for sending."""
        computing = WEIGHTS / hosts * (self.per_weight + self.per_weight_and_row * BATCH)
        share = 2 * (hosts - 1) / hosts  # what a process sends and receives of all weights; it is 1 for two
        return computing, (WEIGHTS * self.per_sent_weight * share + self.per_step) * (hosts > 1)

    def memory(self, hosts: int) -> float:
        """Compute the bytes that a host holds for the weights."""
        return WEIGHTS * (self.bytes_cut / hosts + self.bytes_whole)


def cases() -> list[Case]:
    """Return all cases to measure."""
    few, many = ROWS
    alone = [Case(width, few) for width in WIDTHS]
    return [*alone, Case(WIDTHS[1], many), *(Case(width, few, 2) for width in (TINY, *WIDTHS))]


# The page


def page(pieces: Pieces, found: dict[Case, dict[str, float]]) -> str:
    """Return the text of the page."""
    cells = [
        [str(case), f"{1e3 * numbers['seconds']:.1f}", f"{numbers['bytes'] / 1e6:.0f}"]
        for case, numbers in found.items()
    ]
    taken = [
        ["noise, sampling, KL, Adam: a weight", f"{1e9 * pieces.per_weight:.2f} ns"],
        ["products and their gradients: a weight and a row", f"{1e9 * pieces.per_weight_and_row:.3f} ns"],
        ["gathered, and its gradient summed: a weight", f"{1e9 * pieces.per_sent_weight:.2f} ns"],
        ["messages: a step", f"{1e3 * pieces.per_step:.2f} ms"],
        ["divided memory: a weight", f"{pieces.bytes_cut:.0f} bytes"],
        ["memory of every process: a weight", f"{pieces.bytes_whole:.0f} bytes"],
    ]
    rows = []
    for n in HOSTS:
        computing, sending = pieces.seconds(n)
        epoch = (computing + sending) * DATA_ROWS / BATCH / 86_400
        numbers = f"{computing:,.1f}", f"{sending:.1f}", f"{epoch:,.0f}", f"{pieces.memory(n) / 1e9:.0f}"
        rows.append([f"{n}", *numbers, f"{DATA_ROWS * COLUMNS * 4 / 1e9:.0f}"])
    head = ["hosts of one core", "computing, s a step", "sending, s a step", "days an epoch", "weights, GB", "data, GB"]
    parts = [
        f"# {WEIGHTS:,} weights and {DATA_ROWS:,} rows, estimated",
        "Written by `python -m benchmarks.hosts`.",
        WHAT,
        report.machine_text(report.machine()),
        "## Measured cases",
        report.table(["case", "ms a step", "peak MB"], cells),
        "## Parts of the cost",
        report.table(["piece", "cost"], taken),
        f"## n hosts: batches of {BATCH:,} rows, {COLUMNS} columns",
        report.table(head, rows),
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


WHAT = """\
`fit(..., placement=)` on an axis "batch" of n devices: each computes the noise, the weights, the KL and Adam's update
of 1/n of every large parameter, gathers the other weights for its rows, and receives the summed part of its gradient.
With P weights and B rows per batch, a step takes P/n · (a + b·B) to compute, and P · c · 2(n − 1)/n + s to send."""

LIMITS = """\
The scope of these figures:

- The time to compute falls as 1/n. The time to send does not: from some n on, more hosts add memory, but save no time.
  Loopback is not a network: replace c by the seconds that a weight takes on yours, with 4 bytes gathered and 4 summed.
- Every device holds all weights of one draw while its rows are computed. If they are too many, divide them with
  the `partition` of a `Placement` along another axis: then activations are sent, and no device ever holds all weights.
- The model and the optimiser's state are made on the first device of each process before they are divided: that device
  needs memory for all of it once.
- Rows are not divided if batches are taken from them: every process reads all rows (from a memory-mapped file, for
  example), and every device holds all of them. For more data, train on as many rows as fit, or on full batches, which
  are divided.
- A checkpoint is gathered and written by the first process, which needs memory for all parameters and Adam's state."""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAGE, help="the page (default: %(default)s)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        case, me, port = json.loads(arguments.child)
        print(json.dumps(child(Case(**case), me, port)))
        return
    found = {case: measured(case) for case in cases()}
    text = page(Pieces.of(found), found)
    print(text)
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
