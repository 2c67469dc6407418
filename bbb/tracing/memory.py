"""The working memory of a network: the peak number of bytes of the arrays it computes, counted from its trace."""

import math
import os
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Jaxpr, Var  # type: ignore[attr-defined,unused-ignore]

from bbb.core.rows import count_rows
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.tracing.interpreter import called, inner_programs
from bbb.tracing.row_paths import ELEMENTWISE


def activation_bytes(network: Callable[..., Tree], *args: Tree) -> int:
    """Return the peak number of bytes of the arrays that are alive at the same time in `network(*args)`.

    Nothing is computed: only the shapes and dtypes of the arguments matter, and the arguments themselves are not
    counted. An array is alive from the operation that makes it to the last one that reads it. A compiled program may
    need less, and a convolution more.
    """
    return int(from_shapes(_counted, network, *args))


def check_step(network: Callable[..., Tree], params: Tree, x: Tree, runs: int) -> None:
    """Check that the arrays of a training step can fit into the memory of the device, before any is allocated.

    Args:
        network: `network(params, x)`.
        params: its parameters.
        x: the rows of a step; only the shape and dtype matter.
        runs: the number of simultaneous evaluations of the network: draws times members.

    Raises:
        InputError: if one forward pass of each takes more than all of the memory.
    """
    most = _memory()
    needed = activation_bytes(network, params, x) * runs
    if most is not None and needed > most:
        got = f"at least {needed:,} bytes for the network's own arrays of {count_rows(x):,} rows"
        do = "Pass a smaller batch_size, fewer draws, or a network with smaller arrays, such as less padding."
        fail(InputError, f"a step that fits into {most:,} bytes of memory", got, do)


def _memory() -> int | None:
    """Return the bytes of memory of all devices, over which a mesh may be spread; None if it is not known."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else int(limit) * jax.device_count()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * jax.process_count()
    except (AttributeError, ValueError, OSError):  # not available on this system
        return None


def _counted(network: Any, *args: Tree) -> int:
    return _peak(jax.make_jaxpr(lambda *args: network(*args))(*args).jaxpr)  # noqa: PLW0108 - see `_trace.trace`


def _peak(jaxpr: Jaxpr) -> int:
    """Return the peak number of bytes of the outputs of equations that are alive at the same time.

    As compiled programs do, an elementwise operation overwrites an operand that nothing else reads, and a broadcast
    that only such operations read takes no memory.
    """
    readers, last = _readers(jaxpr)
    dying: dict[int, list[Var]] = {}
    alive = peak = 0
    for i, equation in enumerate(jaxpr.eqns):
        made = [place for place in equation.outvars if isinstance(place, Var)]
        spread = equation.primitive.name == "broadcast_in_dim" and all(
            jaxpr.eqns[reader].primitive.name in ELEMENTWISE for place in made for reader in readers.get(place, ())
        )
        for place in [] if spread else made:
            dying.setdefault(last.get(place, i), []).append(place)
        own = 0 if spread else sum(map(_bytes, made))
        in_place = equation.primitive.name in IN_PLACE
        freed = sum(map(_bytes, dying.pop(i, [])))
        inner = max((_peak(program.jaxpr) for program in inner_programs(equation)), default=0)
        call = called(equation) is not None  # the outputs of a call are counted inside it
        peak = max(peak, alive + (max(own, inner) if call else own + inner) - (min(own, freed) if in_place else 0))
        alive += own - freed
    return peak


IN_PLACE = ELEMENTWISE | {"reshape", "squeeze", "expand_dims"}
"""Operations that need no memory other than that of an operand."""


def _readers(jaxpr: Jaxpr) -> tuple[dict[Var, list[int]], dict[Var, int]]:
    """Return the indices of the equations that read each array, and the last of them; outputs are read at the end."""
    readers: dict[Var, list[int]] = {}
    for i, equation in enumerate(jaxpr.eqns):
        for place in equation.invars:
            if isinstance(place, Var):
                readers.setdefault(place, []).append(i)
    last = {place: max(reading) for place, reading in readers.items()}
    return readers, last | {place: len(jaxpr.eqns) for place in jaxpr.outvars if isinstance(place, Var)}


def _bytes(place: Var) -> int:
    aval: Any = place.aval
    if not hasattr(aval, "shape"):  # a token, which takes no memory
        return 0
    return math.prod(aval.shape) * int(getattr(aval.dtype, "itemsize", 4))
