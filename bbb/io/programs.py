"""Compiled programs in files, so that the next process does not compile them again."""

import functools
import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

from bbb import checks
from bbb.core.process import process
from bbb.errors import WriteError
from bbb.storage import files

MAX_BYTES = 2**30
"""Most bytes of all programs; those that were not used for the longest time are deleted first."""

MIN_SECONDS = 0.05
"""Programs that compile faster are not kept: reading them would take as long."""


def cache_programs(folder: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES) -> Path:
    """Have JAX keep the programs that it compiles in a folder, and read from it those that are there.

    Call it once, at the start of a program; the command `bbb` does. It sets JAX's persistent compilation cache, for all
    that this process compiles. Where a file is damaged, or cannot be written, JAX warns, and compiles. The results of a
    program do not depend on where it came from.

    Args:
        folder: by default `programs` in the user's cache folder for `bbb`, such as `~/.cache/bbb/programs`. In it each
            kind of processor has a folder of its own, as a program may use instructions that another one lacks. It
            holds code: let nobody write there whose code you would not run.
        max_bytes: most bytes of all programs of this kind of processor.

    Returns:
        The folder of this kind of processor.

    Raises:
        InputError: if `folder` is no path, or `max_bytes` no whole number of at least 1.
        WriteError: if the folder cannot be made or written to.

    Source: JAX's documentation, "Persistent compilation cache".
    """
    process()
    chosen = platformdirs.user_cache_path("bbb") / "programs" if folder is None else checks.file_path(folder)
    max_bytes = checks.positive_integer("max_bytes", max_bytes)
    home = Path(os.path.abspath(chosen)) / _processor()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WriteError(
            f"Expected a folder for compiled programs, got {home}: {reason}. Choose another folder."
        ) from error
    files.write(home / "about.txt", f"{platform.platform()}\n".encode())  # or raise, before JAX would at each program
    jax.config.update("jax_compilation_cache_dir", str(home))
    jax.config.update("jax_compilation_cache_max_size", max_bytes)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # else JAX keeps to what it found at its first compilation
    return home


def cache_by_default() -> None:
    """Do as `cache_programs`, unless JAX was told of a folder; be silent where it cannot be read or written."""
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined,unused-ignore]
        try:
            cache_programs()
        except WriteError:
            return


@functools.cache
def _processor() -> str:
    """Return a name of the kind of this machine's processor: of its architecture and its instructions."""
    told = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except OSError:
        pass  # not on Linux, or not told
    return f"{platform.machine() or 'processor'}-{hashlib.sha256(os.linesep.join(told).encode()).hexdigest()[:12]}"
