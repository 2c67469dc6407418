"""`python -m benchmarks.big`: the memory of a large prediction, and of training on a large file.

The network is 13-50-1. `predict`: 10,000 draws × 10⁶ rows, with the mean, the standard deviation and the 99.7 %
interval of y, within the requested memory. `fit`: minibatches of 10⁷ rows of a memory-mapped file. Each runs in its own
process, which reports the peak of resident memory, in MB of 10⁶ bytes, and the time it took.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import race, report
from benchmarks.measure import peak, resident, timed

COLUMNS, HIDDEN = 13, 50
ASKED = "512MB"


def model() -> Any:
    """Return the untrained network."""
    import jax

    import bbb

    network = bbb.nn.sequential(bbb.nn.linear(COLUMNS, HIDDEN), bbb.nn.relu, bbb.nn.linear(HIDDEN, 1))
    params = network.init(jax.random.key(0))
    return bbb.bayesianize(
        network.apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5, learn=True)
    )


def predict(rows: int, draws: int) -> dict[str, float]:
    """Predict the interval at so many rows."""
    import jax

    import bbb

    made = model()
    x = np.random.default_rng(0).normal(size=(rows, COLUMNS)).astype(np.float32)
    before = resident()
    seconds, band = timed(
        lambda: bbb.predict(jax.random.key(1), made, x, draws=draws, levels=(0.997,), memory=ASKED).y.interval(0.997)
    )
    assert all(np.isfinite(end).all() for end in band)
    return {"before": before, "peak": peak(), "seconds": seconds}


def fit(rows: int, steps: int) -> dict[str, float]:
    """Train on a memory-mapped file."""
    import jax

    import bbb

    made, rng = model(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        x = np.lib.format.open_memmap(Path(folder) / "x.npy", "w+", np.float32, (rows, COLUMNS))
        for start in range(0, rows, 100_000):
            x[start : start + 100_000] = rng.normal(size=x[start : start + 100_000].shape)
        x.flush()
        x = np.load(Path(folder) / "x.npy", mmap_mode="r")
        y = x[:, :1] - x[:, 1:2]
        before = resident()
        options: dict[str, Any] = {"steps": steps, "batch_size": 1024, "progress": False}
        seconds, (_, history) = timed(lambda: bbb.fit(jax.random.key(1), made, x, y, **options))
    assert np.isfinite(history.loss).all()
    return {"before": before, "peak": peak(), "seconds": seconds}


WORKS = {"predict": (predict, (10**6, 10_000)), "fit": (fit, (10**7, 2_000))}


def main() -> None:
    """Print the memory and the time of each work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="?", choices=WORKS, help="run only this work, in this process, and print JSON")
    parser.add_argument("--share", type=float, default=1.0, help="share of the rows (default: 1)")
    arguments = parser.parse_args()
    if arguments.work:
        function, (rows, other) = WORKS[arguments.work]
        print(json.dumps(function(max(1, int(rows * arguments.share)), other)))
        return
    lines = []
    for work, (_, (rows, _)) in WORKS.items():
        child = [sys.executable, "-m", "benchmarks.big", work, "--share", str(arguments.share)]
        found = json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
        numbers = f"{found['before']:.0f}", f"{found['peak']:.0f}", f"{found['seconds']:.1f}"
        lines.append([work, f"{int(rows * arguments.share):,}", *numbers])
        race.say(" ".join(lines[-1]))
    print(report.table(["work", "rows", "before MB", "peak MB", "seconds"], lines))


if __name__ == "__main__":
    main()
