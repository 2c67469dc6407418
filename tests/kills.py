"""`python -m tests.kills --kills 1000`: SIGKILL at random moments of saving and of training with checkpoints.

A child saves a model over and over, or trains with checkpoints, and says after each what is safe. It is killed at a
random moment. What it left has to be whole and to be no older than what it last said; and the next child to start has
to clear away what this one left half-written.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SAVE = """
import sys, jax, numpy as np, bbb
folder, begin = sys.argv[1], int(sys.argv[2])
network = bbb.nn.linear(300, 300)
model = bbb.bayesianize(
    network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
)
for count in range(begin, 2**31):
    bbb.save(f"{folder}/model.safetensors", model, {"count": count})
    print(count, flush=True)
    if count == begin:
        sys.stdin.readline()
"""

TRAIN = """
import sys, jax, numpy as np, bbb
from bbb.train.checkpoints import snapshot
folder = sys.argv[1]
network = bbb.nn.linear(3, 1)
model = bbb.bayesianize(
    network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
)
saved, first = snapshot.Checkpoints.save, True
def save(self, taken):
    global first
    saved(self, taken)
    print(int(taken.state.step), flush=True)
    if first:
        first = False
        sys.stdin.readline()
snapshot.Checkpoints.save = save
x = np.ones((8, 3))
checkpoints = bbb.train.Checkpointing(folder, every=20, resume=True)
bbb.fit(jax.random.key(0), model, x, x[:, :1], steps=10**9, checkpoints=checkpoints, progress=False)
"""


class Tally(NamedTuple):
    """What was found: each a number of kills, of which only the first and the second may be more than 0."""

    kills: int = 0
    left_half_written: int = 0
    unreadable: int = 0
    lost: int = 0
    not_cleaned: int = 0

    def __add__(self, other: "Tally") -> "Tally":  # type: ignore[override]
        """Add number by number."""
        return Tally(*(a + b for a, b in zip(self, other, strict=True)))


def half_written(folder: Path) -> list[Path]:
    """List the files that were being written."""
    return list(folder.glob(".*.tmp"))


def kill_once(kind: str, folder: Path, rng: random.Random, said: int) -> tuple[Tally, int]:
    """Start a child, kill it, and look at what it left; `said` is what the one before said last."""
    script = {"save": SAVE, "train": TRAIN}[kind]
    command = [sys.executable, "-c", script, str(folder), str(said + 1)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        first = int(child.stdout.readline())
        not_cleaned = bool(half_written(folder))
        child.stdin.write("\n")
        child.stdin.flush()
        time.sleep(rng.uniform(0.0, 0.2))
        child.kill()
        said = max([first, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
    left = bool(half_written(folder))
    found = newest(kind, folder)
    lost = found is not None and found < said
    return Tally(1, left, found is None, lost, not_cleaned), max(said, found or 0)


def newest(kind: str, folder: Path) -> int | None:
    """Read what a child left: what it counts, or None if it cannot be read."""
    import bbb
    from bbb.storage import arrays
    from bbb.train.checkpoints import snapshot

    try:
        if kind == "save":
            bbb.load(folder / "model.safetensors")
            return int(bbb.io.read_metadata(folder / "model.safetensors")["count"])
        counts = [int(arrays.unpack(path, snapshot.KIND)[0]["state/step"]) for path in folder.glob("step-*")]
        return max(counts)
    except bbb.errors.BBBError:
        return None


def run(kind: str, kills: int, seed: int) -> Tally:
    """Kill so many children, one after the other, of one folder."""
    rng, tally, said = random.Random(seed), Tally(), 0
    with tempfile.TemporaryDirectory() as name:
        for _ in range(kills):
            found, said = kill_once(kind, Path(name), rng, said)
            tally += found
    return tally


def main() -> int:
    """Print what was found; exit 1 if anything was unreadable, lost, or left after the next start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="half while saving, half while training")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    total = Tally()
    for i, kind in enumerate(("save", "train")):
        tally = run(kind, arguments.kills // 2, arguments.seed + i)
        print(kind, tally, flush=True)
        total += tally
    return int(any(total[2:]))


if __name__ == "__main__":
    sys.exit(main())
