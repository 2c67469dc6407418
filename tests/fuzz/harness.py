"""What the fuzzers share: a file to read from, libFuzzer's limits, and inputs to begin with."""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

LIMITS = ("-timeout=10", "-rss_limit_mb=2048")


def check_refusal(error: Exception) -> None:
    """Fail unless an error says what was expected."""
    if not str(error).startswith("Expected "):
        raise AssertionError(f"a refusal that does not say what was expected: {error}") from error


def functions(module: ModuleType) -> Iterable[Any]:
    """Return the functions of a module, and those of its classes."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            inner = vars(value).values() if isinstance(value, type) else (value,)
            yield from (found for found in inner if isinstance(found, FunctionType))


def run(read: Callable[[Path], None], seeds: Iterable[bytes], modules: Iterable[ModuleType], *, largest: int) -> None:
    """Fuzz `read`, a function of a path, beginning with `seeds`; does not return.

    Args:
        read: what to try.
        modules: whose functions are watched, and no others: JAX, watched, would take minutes to import.
        seeds: inputs that are good, from which others are made; they are put into the first folder of the command.
        largest: bytes of an input, at most.
    """
    import atheris

    for function in itertools.chain.from_iterable(map(functions, modules)):
        atheris.instrument_func(function)
    folder = next((Path(argument) for argument in sys.argv[1:] if Path(argument).is_dir()), None)
    for i, seed in enumerate(seeds if folder else ()):
        (folder / f"seed-{i}").write_bytes(seed)
    path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)) / "input"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    atheris.Setup([*sys.argv[:1], *LIMITS, f"-max_len={largest}", *sys.argv[1:]], one)
    atheris.Fuzz()
