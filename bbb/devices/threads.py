"""One program over several ranges of draws in parallel: on all devices of the process, or on the cores of its CPU."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from bbb.core import process
from bbb.core.jit import Program
from bbb.core.tree import Tree


def workers() -> int:
    """Return the number of parallel workers: devices if there are several, else the cores of a CPU, else 1."""
    devices = jax.local_devices()
    return len(devices) if len(devices) > 1 or devices[0].platform != "cpu" else process.cores()


def run(program: Program, firsts: Sequence[Any], *args: Any, **static: Any) -> list[Tree]:
    """Return `program(first, *args, **static)` for each of `firsts`, in order, on the first device.

    `program` was made by `_compile.jit`. The results do not depend on where they were computed.
    """
    devices = jax.local_devices()
    if len(devices) > 1:  # dispatch is asynchronous, so that the next device starts at once
        placed = [jax.device_put((first, *args), devices[i % len(devices)]) for i, first in enumerate(firsts)]
        return [jax.device_put(program(*inputs, **static), devices[0]) for inputs in placed]
    return over_threads(program, firsts, *args, **static)


def over_threads(program: Program, firsts: Sequence[Any], *args: Any, **static: Any) -> list[Tree]:
    """Return `program(first, *args, **static)` for each of `firsts`, in order, computed on all cores of a CPU.

    XLA runs a program of small steps on one core. Threads use the others, because compiled code does not hold the GIL.
    The program is compiled in this thread, because JAX's settings, such as x64, are those of a thread.
    """
    threads = min(process.cores(), len(firsts))
    if threads == 1 or jax.default_backend() != "cpu":
        return [program(first, *args, **static) for first in firsts]
    firsts, args = jax.device_put((list(firsts), args))
    executable = program.executable(firsts[0], *args, **static)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda first: jax.block_until_ready(executable(first, *args)), firsts))
