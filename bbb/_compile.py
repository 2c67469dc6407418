"""`jit` for the hot paths: as `jax.jit`, with the compiler options that were measured to serve them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

CPU_OPTIONS = {"xla_cpu_use_fusion_emitters": False}
"""On CPUs XLA's older code generator compiles the random number generator and the training step in about half the
time, and what it makes runs somewhat faster (`python -m benchmarks.compiling`)."""


def jit(
    function: Callable[..., Any], *, static_argnames: Sequence[str] = (), donate_argnames: Sequence[str] = ()
) -> Callable[..., Any]:
    """Compile a function on its first call, so that importing this library touches no device."""

    @functools.cache
    def compiled(backend: str) -> Any:
        return jax.jit(
            function,
            static_argnames=static_argnames,
            donate_argnames=donate_argnames,
            compiler_options=_options(backend),
        )

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            return function(*args, **kwargs)  # within another program, which has options of its own
        return compiled(jax.default_backend())(*args, **kwargs)

    def executable(*args: Any, **kwargs: Any) -> Callable[..., Any]:
        """Give the compiled program for such arguments; it takes the ones that are not static."""
        return compiled(jax.default_backend()).lower(*args, **kwargs).compile()

    call.executable = executable  # type: ignore[attr-defined]
    return call


@functools.cache
def _options(backend: str) -> dict[str, Any] | None:
    """Give the options for a backend, if this version of XLA knows them."""
    if backend != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=CPU_OPTIONS).lower().compile()
    except (RuntimeError, ValueError):  # an XLA that has retired the option needs none of it
        return None
    return dict(CPU_OPTIONS)
