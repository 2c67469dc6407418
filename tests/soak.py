"""`python -m tests.soak --minutes 60`: fit, save, load and predict over and over; memory has to stay flat.

After the first round nothing may be compiled again. Prints the memory of the process (resident, MB) as it goes, and
exits 1 if it grew by more than `GROWTH_MB` between the first tenth of the rounds and the last, or if a program was
compiled after the first round.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax

import bbb
from tests import compilations

GROWTH_MB = 20.0


def resident_mb() -> float:
    """Return the resident memory of this process, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


class Rounds:
    """The work of a round, on data of its own each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = bbb.nn.sequential(bbb.nn.linear(3, 50), bbb.nn.relu, bbb.nn.linear(50, 1))
        self.optimizer = optax.adam(1e-2)

    def __call__(self, seed: int) -> None:
        """Train with checkpoints, go on from them, save, load and predict."""
        key, rng = jax.random.key(seed), np.random.default_rng(seed)
        x = rng.normal(size=(200, 3))
        y = x[:, :1] * x[:, 1:2] + 0.1 * rng.normal(size=(200, 1))
        model = bbb.bayesianize(
            self.network.apply,
            self.network.init(key),
            prior=bbb.priors.Normal(0.0, 1.0),
            likelihood=bbb.likelihoods.Gaussian(0.5, learn=True),
        )
        options, folder = {"optimizer": self.optimizer, "batch_size": 32, "progress": False}, self.folder / "run"
        bbb.fit(key, model, x, y, steps=100, checkpoints=folder, **options)
        model, _ = bbb.fit(
            key, model, x, y, steps=200, checkpoints=bbb.train.Checkpointing(folder, resume=True), **options
        )
        for path in folder.iterdir():
            path.unlink()
        bbb.save(self.folder / "model.safetensors", model)
        model = bbb.load(self.folder / "model.safetensors")
        band = bbb.predict(key, model, x, draws=1000, levels=(0.95,))
        assert np.isfinite(band.y.interval(0.95)).all()


def soak(minutes: float, folder: Path) -> tuple[list[float], list[int]]:
    """Do rounds for so long; return the memory after each, and how many programs each compiled."""
    rounds, memory, programs = Rounds(folder), [], []
    end, told = time.monotonic() + 60 * minutes, 0.0
    while time.monotonic() < end or len(memory) < 3:
        with compilations.noted() as compiled:
            rounds(len(memory))
        memory.append(resident_mb())
        programs.append(len(compiled))
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"round {len(memory):6}: {memory[-1]:8.1f} MB, {programs[-1]} programs compiled", flush=True)
    return memory, programs


def main() -> int:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory, programs = soak(arguments.minutes, Path(folder))
    tenth = max(1, len(memory) // 10)
    first, last = statistics.median(memory[1 : 1 + tenth]), statistics.median(memory[-tenth:])
    again = sum(programs[1:])
    print(f"{len(memory)} rounds: {first:.1f} MB in the first tenth, {last:.1f} MB in the last; {programs[0]} programs")
    print(f"compiled in the first round, {again} after it")
    return int(last - first > GROWTH_MB or again > 0)


if __name__ == "__main__":
    sys.exit(main())
