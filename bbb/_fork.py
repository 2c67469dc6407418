"""Whether this process was forked from one in which JAX had started, whose threads it lacks: it would wait for ever."""

import os

try:
    from jax._src.xla_bridge import backends_are_initialized as _started
except ImportError:  # private in JAX, and may be gone: then every fork counts as one too late

    def _started() -> bool:
        return True


class _Process:
    """What this process knows of itself: a parent notes at a fork whether JAX has started, the child takes it over."""

    jax_had_started = False
    is_crippled = False

    def before(self) -> None:
        """Note it in the parent, where JAX's own locks can be waited for."""
        self.jax_had_started = _started()

    def after_in_child(self) -> None:
        """Take it over; a child of a crippled process is one too."""
        self.is_crippled = self.is_crippled or self.jax_had_started


_process = _Process()

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_process.before, after_in_child=_process.after_in_child)


def is_crippled() -> bool:
    """Return whether any computation in this process would hang."""
    return _process.is_crippled
