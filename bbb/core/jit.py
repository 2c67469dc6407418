"""`jit` for the hot paths: `jax.jit` with compiler options that were measured to help them."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from bbb.core import process
from bbb.core.tree import Tree

LARGE_OPTIONS: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512, "xla_backend_optimization_level": 1}
"""For large arrays on a CPU: random numbers take a third less time where 512-bit vectors exist. At the first level of
LLVM's optimisation compiling takes a tenth less time than at the third, XLA's own, and a program as long to run
(`python -m benchmarks.compiling`); without any, some take ten times as long to run."""


SMALL_OPTIONS: dict[str, Any] = LARGE_OPTIONS | {"xla_cpu_use_fusion_emitters": False}
"""For small arrays on a CPU: XLA's older code generator compiles the random number generator and the training step in
about half the time, and its programs run faster on small arrays. It does not parallelise over a large array, so that a
program of large arrays would take three times as long (`python -m benchmarks.compiling`). The XLA of JAX 0.12 no longer
has it."""


class Program(Protocol):
    """A function that `jit` made."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute it, compiled: `large` is one more keyword."""

    def executable(self, *args: Any, large: bool = False, **kwargs: Any) -> Callable[..., Any]:
        """Return the program compiled for these arguments; it takes those that are not static."""

    def ahead(self, *args: Any, large: bool = False, **kwargs: Any) -> None:
        """Begin to compile for these arguments; a call with arguments like them waits for that.

        They are traced here, as JAX's settings, such as x64, are those of a thread. XLA compiles in another one, and
        holds no GIL, so that on a machine of several cores this thread goes on meanwhile.
        """


def jit(
    function: Callable[..., Tree], *, static_argnames: Sequence[str] = (), donate_argnames: Sequence[str] = ()
) -> Program:
    """Return a function that is compiled on its first call, so that importing this library touches no device.

    The returned function takes one more keyword, `large`: whether its arrays are many times larger than a cache. Called
    within another compiled program, it becomes part of that program, with that program's options.
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
            return function(*args, **kwargs)  # within another program, which has its own options
        process.process()
        try:
            return compiled(jax.default_backend(), large)(*args, **kwargs)
        except ValueError:
            if isinstance(jax.device_put(0), jax.core.Tracer):  # within another program too, with concrete arguments
                return function(*args, **kwargs)
            raise

    def executable(*args: Any, large: bool = False, **kwargs: Any) -> Any:
        return compiled(jax.default_backend(), large).lower(*args, **kwargs).compile()

    def ahead(*args: Any, large: bool = False, **kwargs: Any) -> None:
        process.process()
        if process.cores() > 1:
            lowered = compiled(jax.default_backend(), large).lower(*args, **kwargs)
            threading.Thread(target=_compile, args=(lowered,), name="bbb-compile").start()

    made: Any = call
    made.executable, made.ahead = executable, ahead
    return made


def _compile(lowered: Any) -> None:
    with contextlib.suppress(Exception):  # the call raises it
        lowered.compile()


@functools.cache
def _options(backend: str, large: bool) -> dict[str, Any] | None:
    """Return the options for a backend that this version of XLA knows, or None if there are none.

    What `XLA_FLAGS` says stays as it is there.
    """
    if backend != "cpu":
        return None
    options, said = LARGE_OPTIONS if large else SMALL_OPTIONS, os.environ.get("XLA_FLAGS", "")
    return {n: value for n, value in options.items() if f"--{n}=" not in said and _known(n, value)} or None


@functools.cache
def _known(name: str, value: Any) -> bool:
    """Return whether the compiler accepts an option: options are private, and any may be gone in the next version."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except (RuntimeError, ValueError):
        return False
    return True
