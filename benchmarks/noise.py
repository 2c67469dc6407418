"""Standard normal numbers in bulk: the cost of noise, by size and by library.

The program runs in one process. JAX's numbers are drawn as in training, compiled under the options that `bbb` sets for
large arrays. The mean and the standard deviation of the draws are listed with the time.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import program
from benchmarks.report import Section, table

TITLE = "Noise"
FULL: dict[str, Any] = {"sizes": (3_000, 100_000, 3_000_000)}
QUICK: dict[str, Any] = {"sizes": (1_000,)}
OWN = "bbb"


def drawers(size: int) -> dict[str, Callable[[int], np.ndarray]]:
    """Return, for each installed contender, a function of a seed that draws `size` normals in float32."""
    import jax

    from bbb.core import jit, noise

    def compiled(draw: Callable[[jax.Array], jax.Array]) -> Callable[[int], Any]:
        options = jit.LARGE_OPTIONS if jax.default_backend() == "cpu" else None
        jitted = jax.jit(lambda seed: draw(jax.random.key(seed)), compiler_options=options)
        return lambda seed: jax.block_until_ready(jitted(seed))

    made: dict[str, Any] = {
        "numpy": lambda seed: np.random.default_rng(seed).standard_normal(size, np.float32),
        "jax.random.normal": compiled(lambda key: jax.random.normal(key, (size,), np.float32)),
        OWN: compiled(lambda key: noise.normals(key, size, np.float32)),
    }
    try:
        import torch
    except ImportError:
        return made
    return {"torch": lambda seed: torch.randn(size, generator=torch.Generator().manual_seed(seed)).numpy()} | made


def sections(options: program.Options) -> Iterator[Section]:
    """Measure each contender at each size."""
    settings = QUICK if options.quick else FULL
    records: list[dict[str, Any]] = []
    for size in settings["sizes"]:
        for name, draw in drawers(size).items():
            cold, warm, drawn = timed(draw, options.repeats, size)
            records.append({"size": size, "name": name, "cold": cold, "warm": warm, **described(drawn)})
    own = {record["size"]: record["warm"] for record in records if record["name"] == OWN}
    rows = [
        [
            f"{record['size']:,}",
            record["name"],
            f"{record['cold']:.2f}",
            f"{record['warm'] / record['size'] * 1e9:.2f}",
            f"{record['warm'] / own[record['size']]:.2f}",
            f"{record['mean']:+.4f}",
            f"{record['std']:.4f}",
        ]
        for record in records
    ]
    columns = ["numbers", "drawn by", "cold s", "ns a number", f"× {OWN}", "mean", "std"]
    yield Section("Standard normals in float32", table(columns, rows), records)


def described(drawn: Any) -> dict[str, float]:
    """Compute the mean and the standard deviation."""
    array = np.asarray(drawn, np.float64)
    return {"mean": float(array.mean()), "std": float(array.std())}


def timed(draw: Callable[[int], Any], repeats: int, size: int) -> tuple[float, float, Any]:
    """Return the seconds of the first draw, the median of `repeats` more of about 10⁷ numbers each, and a draw."""
    started = time.perf_counter()
    drawn = draw(0)
    cold, calls, seconds = time.perf_counter() - started, max(1, 10**7 // size), []
    for i in range(repeats):
        started = time.perf_counter()
        for j in range(calls):
            draw(i * calls + j)
        seconds.append((time.perf_counter() - started) / calls)
    return cold, float(np.median(seconds)), drawn


if __name__ == "__main__":
    program.main(TITLE, sections, __doc__)
