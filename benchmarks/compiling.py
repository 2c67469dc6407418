"""`python -m benchmarks.compiling`: the effect of XLA's CPU options on compile time and run time.

Each case runs in its own process: the program that trains, and the one that draws, of a small network (the demo's) and
a large one (784-400-400-10), under each set of compiler options, without those that the installed XLA has removed.
"""

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks import race, report

CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "older code generator": {"xla_cpu_use_fusion_emitters": False},
    "vectors of 512 bits": {"xla_cpu_prefer_vector_width": 512},
    "first level of optimisation": {"xla_backend_optimization_level": 1},
}
CASES["all"] = {name: value for case in CASES.values() for name, value in case.items()}
NETWORKS = {"small": (1, 1000, 1, 500, 2000), "large": (784, 400, 10, 128, 100)}
"""Inputs, hidden units, outputs, rows and training steps of each network."""


def main() -> None:
    """Print the seconds of the first call, and of the fastest of five more, of each case."""
    rows = []
    for network in NETWORKS:
        for name in CASES:
            child = [sys.executable, "-m", "benchmarks.compiling", network, name]
            seconds = json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
            rows.append([network, name, *(f"{value:.2f}" for value in seconds)])
            race.say(" ".join(rows[-1]))
    print(report.table(["network", "options", "fit cold s", "fit warm s", "draw cold s", "draw warm s"], rows))


def measure(network: str, name: str) -> list[float]:
    """Measure one case in this process: the seconds of each column."""
    import jax
    import numpy as np
    import optax

    import bbb
    from bbb.core import jit

    jit.SMALL_OPTIONS = jit.LARGE_OPTIONS = CASES[name]
    inputs, hidden, outputs, rows, steps = NETWORKS[network]
    layers = bbb.nn.sequential(bbb.nn.linear(inputs, hidden), bbb.nn.relu, bbb.nn.linear(hidden, outputs))
    model = bbb.bayesianize(
        layers.apply,
        layers.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 0.1),
        likelihood=bbb.likelihoods.Gaussian(1.0),
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(rows, inputs)), rng.normal(size=(rows, outputs))
    optimizer = optax.adam(1e-3)

    def fit() -> None:
        bbb.fit(jax.random.key(1), model, x, y, steps=steps, optimizer=optimizer, progress=False)

    def draw() -> None:
        jax.block_until_ready(bbb.draws(jax.random.key(2), model, x[:300], draws=10_000 if network == "small" else 200))

    return [*timed(fit), *timed(draw)]


def timed(work: Any) -> tuple[float, float]:
    """Return the seconds of the first call, and of the fastest of five more."""
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds[0], min(seconds[1:])


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
