"""What this process may do: use its cores, and JAX, unless it was forked after JAX had started, where that can hang."""

import os

from bbb.errors import ForkError, fail

try:
    from jax._src.xla_bridge import backends_are_initialized as _started
except ImportError:  # private in JAX, and may be gone: then JAX counts as started at every fork

    def _started() -> bool:
        return True


class _Process:
    """The state of this process: a parent records at a fork whether JAX has started, and the child inherits it."""

    jax_had_started = False
    is_forked_after_start = False

    def before(self) -> None:
        """Record it in the parent, because the child might wait forever for one of JAX's locks."""
        self.jax_had_started = _started()

    def after_in_child(self) -> None:
        """Inherit it; a child of a crippled process is crippled too."""
        self.is_forked_after_start = self.is_forked_after_start or self.jax_had_started


_process = _Process()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_process.before, after_in_child=_process.after_in_child)


def is_forked_after_start() -> bool:
    """Return whether any computation in this process would hang."""
    return _process.is_forked_after_start


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process() -> None:
    """Check that this process was not forked after JAX had started: it would wait forever for the lost threads.

    Raises:
        ForkError: if it was.
    """
    if is_forked_after_start():
        got = "one forked from a process in which JAX had started: it lacks JAX's threads and would hang"
        do = "Start processes by multiprocessing.get_context('spawn'), or fork before the first use of JAX."
        fail(ForkError, "a process of its own", got, do)
