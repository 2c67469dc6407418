"""`jit` for the hot paths: as `jax.jit`, with the compiler options that were measured to serve them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from bbb import _check

LARGE_OPTIONS: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}
"""For a CPU and programs of large arrays: a third off the random numbers where vectors of 512 bits exist."""

SMALL_OPTIONS: dict[str, Any] = LARGE_OPTIONS | {"xla_cpu_use_fusion_emitters": False}
"""For a CPU and programs of small arrays: XLA's older code generator compiles the random number generator and the
training step in about half the time, and what it makes of small arrays runs faster. It does not spread a large array
over cores, so that a program of large ones would take three times as long (`python -m benchmarks.compiling`). The XLA
of JAX 0.12 has retired it."""


def jit(
    function: Callable[..., Any], *, static_argnames: Sequence[str] = (), donate_argnames: Sequence[str] = ()
) -> Callable[..., Any]:
    """Compile a function on its first call, so that importing this library touches no device.

    The function made takes one more keyword, `large`: whether its arrays are many times what a cache holds.
    """

    @functools.cache
    def compiled(backend: str, large: bool) -> Any:
        return jax.jit(
            function,
            static_argnames=static_argnames,
            donate_argnames=donate_argnames,
            compiler_options=_options(backend, large),
        )

    @functools.wraps(function)
    def call(*args: Any, large: bool = False, **kwargs: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            return function(*args, **kwargs)  # within another program, which has options of its own
        _check.process()
        try:
            return compiled(jax.default_backend(), large)(*args, **kwargs)
        except ValueError:
            if isinstance(jax.device_put(0), jax.core.Tracer):  # within another program too, though of numbers alone
                return function(*args, **kwargs)
            raise

    def executable(*args: Any, large: bool = False, **kwargs: Any) -> Callable[..., Any]:
        """Give the compiled program for such arguments; it takes the ones that are not static."""
        return compiled(jax.default_backend(), large).lower(*args, **kwargs).compile()

    call.executable = executable  # type: ignore[attr-defined]
    return call


@functools.cache
def _options(backend: str, large: bool) -> dict[str, Any] | None:
    """Return those options for a backend that this version of XLA knows; None if there are none."""
    if backend != "cpu":
        return None
    options = LARGE_OPTIONS if large else SMALL_OPTIONS
    return {name: value for name, value in options.items() if _known(name, value)} or None


@functools.cache
def _known(name: str, value: Any) -> bool:
    """Return whether the compiler takes an option: they are private, and any may be gone in the next version."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except (RuntimeError, ValueError):
        return False
    return True
