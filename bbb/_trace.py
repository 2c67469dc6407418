"""Run a traced function again, with other things than arrays in place of some of its values.

`trace` turns a function into a jaxpr, the list of primitive operations JAX would compile. `run` goes through that list
again. Most values are arrays, and most equations are simply carried out. But a value may also be *lazy*: a stand-in
for an array that is not known yet, such as a Gaussian weight that has not been drawn. What becomes of an equation
that meets one is decided by rules; `forward` and `moments` are two sets of them.

    rules.apply(equation, inputs) -> outputs     what the equation gives, or None if the rules have nothing to say
    rules.share(value) -> value                  a lazy value that several equations will read
    rules.settle(value, equation) -> array       a lazy value that must become an array, for an equation without a rule

A call (`jit`, `custom_jvp`, `remat`) that no rule has claimed is looked into. What is inside one of JAX's own functions
has no line of the user's code: the equations that rules are given there have the line of the call.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var  # type: ignore[attr-defined,unused-ignore]
from jax.extend.source_info_util import SourceInfo, summarize

from bbb._tree import Tree


class Lazy:
    """What stands for an array that is not known yet; rules derive their own kinds from it."""


class Rules(Protocol):
    """What becomes of equations that meet lazy values."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Give the outputs of an equation of which some inputs are lazy, or None."""

    def share(self, value: Lazy) -> Any:
        """Give what stands for a lazy value that is read more than once."""

    def settle(self, value: Lazy, equation: JaxprEqn | None) -> Any:
        """Give the array; `equation` needs it, or is None at the end of the function."""


class Traced(NamedTuple):
    """A function of trees of arrays, as a list of primitive operations."""

    jaxpr: ClosedJaxpr
    outputs: Tree  # of ShapeDtypeStruct


def trace(function: Callable[..., Tree], *args: Tree) -> Traced:
    """Trace a function for arguments, trees of arrays, of which only shapes and dtypes matter.

    JAX keeps what it notes of a trace for as long as the function lives, anew for each trace: so one of this call's own
    is traced, or a process that trains again and again would grow.
    """
    jaxpr, outputs = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*args)  # noqa: PLW0108
    return Traced(jaxpr, outputs)


def run(traced: Traced, values: Sequence[Any], rules: Rules, within: SourceInfo | None = None) -> Tree:
    """Run a traced function on `values`, one for each leaf of its arguments in order; the outputs may be lazy.

    `within` is the place of the call, if the function is that of a call in another.
    """
    outputs = _run(traced.jaxpr, values, rules, within)
    return jax.tree.unflatten(jax.tree.structure(traced.outputs), outputs)


def _run(closed: ClosedJaxpr, values: Sequence[Any], rules: Rules, within: SourceInfo | None) -> list[Any]:
    jaxpr = closed.jaxpr
    reads = (place for places in (*(e.invars for e in jaxpr.eqns), jaxpr.outvars) for place in places)
    readers = Counter(place for place in reads if isinstance(place, Var))
    known: dict[Var, Any] = {}

    def write(variable: Var, value: Any) -> None:
        shared = isinstance(value, Lazy) and readers[variable] > 1
        known[variable] = rules.share(value) if shared else value

    def read(place: Var | Literal) -> Any:
        return known[place] if isinstance(place, Var) else place.val

    for variable, value in zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *values), strict=True):
        write(variable, value)
    for equation in jaxpr.eqns:
        outputs = _outputs(equation, list(map(read, equation.invars)), rules, within)
        for variable, value in zip(equation.outvars, outputs, strict=True):
            write(variable, value)
    return list(map(read, jaxpr.outvars))


def _outputs(equation: JaxprEqn, inputs: list[Any], rules: Rules, within: SourceInfo | None) -> Sequence[Any]:
    if any(isinstance(value, Lazy) for value in inputs):
        if within is not None and not source_line(equation):
            equation = equation.replace(source_info=within)
        outputs = rules.apply(equation, inputs)
        if outputs is not None:
            return outputs
        inner = called(equation)
        if inner is not None:
            return _run(inner, inputs, rules, equation.source_info)
        inputs = [rules.settle(value, equation) if isinstance(value, Lazy) else value for value in inputs]
    return carry_out(equation, inputs)


def carry_out(equation: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
    """Do what an equation says, to arrays."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # JAX changed what it gives
    outputs = equation.primitive.bind(*functions, *inputs, **params)
    return outputs if equation.primitive.multiple_results else [outputs]


_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr"}
_CALLS |= {"core_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
"""Calls, by the names of their primitives, and where each keeps its function. `custom_vjp_call` is not among them: its
gradient is the user's own, and looking inside would lose it."""


def called(equation: JaxprEqn) -> ClosedJaxpr | None:
    """Give the function that a call calls, or None for another equation."""
    jaxpr = equation.params.get(_CALLS.get(equation.primitive.name, ""))
    return None if jaxpr is None else closed(jaxpr)


def closed(jaxpr: Any) -> ClosedJaxpr:
    """Give a function that an equation holds with its constants, which JAX 0.12 no longer keeps apart."""
    return ClosedJaxpr(jaxpr, ()) if isinstance(jaxpr, Jaxpr) else jaxpr


def scanned(params: dict[str, Any]) -> tuple[ClosedJaxpr, int, int]:
    """Give the step of a scan, and how many of its inputs are constants, and how many carried; it runs over the rest.

    JAX 0.12 keeps trees of them in place of the numbers.
    """
    if "num_consts" in params:
        return closed(params["jaxpr"]), params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return closed(params["jaxpr"]), len(consts), len(carry)


def source_line(equation: JaxprEqn) -> str:
    """Say where the user's code asked for an equation, as `file:line (function)`."""
    return summarize(equation.source_info)
