"""Compiled programs are kept in pytest's cache: compiling takes most of the suite's time, and the next run skips it."""

import os
import pathlib
import shutil

import jax
import pytest

from bbb.io import programs

MIN_SECONDS = 0.02
"""What compiles faster is not kept: reading it takes about as long. Single operations, which most are, are kept."""


MAX_BYTES = 2**30
"""From here the folder starts afresh. JAX could leave out what was not used for long, but then it looks at every file
whenever it writes one."""


def keep(config: pytest.Config) -> None:
    """Have this process, and those that it starts, keep compiled programs, unless JAX was told of a folder.

    Each kind of processor has a folder of its own, and JAX tells versions and flags of XLA apart. `--cache-clear`
    removes them, and with `-p no:cacheprovider` there are none.
    """
    # a file that another process is writing is not whole yet: JAX says so, and compiles
    config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache entry")
    if not config.pluginmanager.has_plugin("cacheprovider") or jax.config.jax_compilation_cache_dir is not None:
        return
    folder = pathlib.Path(config.cache.mkdir("programs")) / programs._processor()
    if sum(path.stat().st_size for path in folder.glob("*")) > MAX_BYTES:
        shutil.rmtree(folder)
    settings = {"compilation_cache_dir": str(folder), "persistent_cache_min_compile_time_secs": MIN_SECONDS}
    for name, value in settings.items():
        jax.config.update(f"jax_{name}", value)
        os.environ[f"JAX_{name.upper()}"] = str(value)  # the workers and the processes that tests start read these
