"""Flags of XLA that save the suite time, as far as the installed XLA knows them."""

import os
import subprocess
import sys
from collections.abc import Sequence

FASTER = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
"""Most of the suite's time is compiling. It takes half without optimisation, with the older code generator that the
library itself asks for where arrays are small, and with each program compiled in one piece rather than in several at
once, as the workers keep the cores busy. What runs takes longer at level 0 than at 1, but the
suite's files took a fifth to a third less of the processor's time."""


def known(flags: Sequence[str]) -> list[str]:
    """Return those of `flags` that the installed XLA knows.

    They are private, may be gone in any version, and an unknown one aborts the process, which names all that it does
    not know: a child tries them.
    """
    env = os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    child = [sys.executable, "-c", "import jax; jax.devices()"]
    tried = subprocess.run(child, env=env, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return list(flags)
    refused = {flag for flag in flags if flag in tried.stderr.split()}
    return known([flag for flag in flags if flag not in refused]) if refused else []
