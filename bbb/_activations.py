"""The working memory of a network: the most bytes that what it computes takes at once, counted from its trace."""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var  # type: ignore[attr-defined,unused-ignore]

from bbb import _check
from bbb._rowpaths import ELEMENTWISE
from bbb._shapes import from_shapes
from bbb._trace import called
from bbb._tree import Tree


def activation_bytes(network: Callable[..., Any], *args: Tree) -> int:
    """Count the bytes of all arrays that are alive at once at the worst place of `network(*args)`.

    Nothing is computed: of the arguments, which are not counted themselves, only shapes and dtypes matter. An array
    lives from the operation that makes it to the last that reads it. A compiler may need less, and a convolution more.
    """
    return int(from_shapes(_counted, network, *args))


def check_step(network: Callable[..., Any], params: Tree, x: Any, runs: int) -> None:
    """Refuse a training step whose arrays cannot fit into the memory of the device, before any is made.

    Args:
        network: `network(params, x)`.
        params: its parameters.
        x: the rows of a step; of it, only the shape and dtype matter.
        runs: how often the network is run at once: draws times members.

    Raises:
        InputError: if one run forward for each takes more than all there is.
    """
    most = _memory()
    needed = activation_bytes(network, params, x) * runs
    if most is not None and needed > most:
        got = f"at least {needed:,} bytes for the network's own arrays of {x.shape[0]:,} rows"
        do = "Pass a smaller batch_size or fewer draws, or a network of smaller arrays: look at its padding."
        _check.fail(_check.InputError, f"a step that fits into {most:,} bytes of memory", got, do)


def _memory() -> int | None:
    """Return how many bytes of memory all devices have, over which a mesh may spread; None where nothing says so."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else int(limit) * jax.device_count()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * jax.process_count()
    except (AttributeError, ValueError, OSError):  # of another system
        return None


def _counted(network: Any, *args: Tree) -> int:
    return _peak(jax.make_jaxpr(lambda *args: network(*args))(*args).jaxpr)  # noqa: PLW0108 - see `_trace.trace`


def _peak(jaxpr: Jaxpr) -> int:
    """Count the bytes alive at the worst equation, of what the equations make.

    As compilers do, an elementwise operation works in the place of an operand that nothing else reads, and what is
    only spread out for such operations is not made.
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
        inner = max(map(_peak, _inner(equation)), default=0)
        call = called(equation) is not None  # whose outputs are counted within it
        peak = max(peak, alive + (max(own, inner) if call else own + inner) - (min(own, freed) if in_place else 0))
        alive += own - freed
    return peak


IN_PLACE = ELEMENTWISE | {"reshape", "squeeze", "expand_dims"}
"""Operations that need no memory besides that of an operand."""


def _readers(jaxpr: Jaxpr) -> tuple[dict[Var, list[int]], dict[Var, int]]:
    """Return which equations read each array, by their index, and the last that does; that of an output is the end."""
    readers: dict[Var, list[int]] = {}
    for i, equation in enumerate(jaxpr.eqns):
        for place in equation.invars:
            if isinstance(place, Var):
                readers.setdefault(place, []).append(i)
    last = {place: max(reading) for place, reading in readers.items()}
    return readers, last | {place: len(jaxpr.eqns) for place in jaxpr.outvars if isinstance(place, Var)}


def _bytes(place: Var) -> int:
    aval: Any = place.aval
    if not hasattr(aval, "shape"):  # a token, which takes nothing
        return 0
    return math.prod(aval.shape) * int(getattr(aval.dtype, "itemsize", 4))


def _inner(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """Yield the functions within an equation, such as a loop's body or the branches of a choice."""
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, Jaxpr | ClosedJaxpr):
                yield part.jaxpr if isinstance(part, ClosedJaxpr) else part
