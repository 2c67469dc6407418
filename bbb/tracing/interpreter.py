"""An interpreter of traced functions, in which some values may be other things than arrays.

`trace` turns a function into a jaxpr, the list of primitive operations that JAX would compile. `run` evaluates that
list. Most values are arrays, and most equations are evaluated as they are. But a value may also be *lazy*: a stand-in
for an array that is not known yet, such as a Gaussian weight that has not been drawn. Rules decide what happens at an
equation with a lazy input; `forward` and `moments` are two sets of rules.

    rules.apply(equation, inputs) -> outputs     the outputs of the equation, or None if there is no rule for it
    rules.share(value) -> value                  what replaces a lazy value that several equations read
    rules.settle(value, equation) -> array       the array of a lazy value, for an equation without a rule

A call (`jit`, `custom_jvp`, `remat`) without a rule is entered. Equations inside JAX's own functions have no line of
the user's code: rules see them with the line of the call.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var  # type: ignore[attr-defined,unused-ignore]
from jax.extend.source_info_util import SourceInfo, summarize

from bbb.core.tree import Tree


class Lazy:
    """Base class of the stand-ins for arrays that are not known yet."""


class Rules(Protocol):
    """What to do at equations with lazy inputs."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Return the outputs of an equation of which some inputs are lazy, or None without a rule for it."""

    def share(self, value: Lazy) -> Any:
        """Return what replaces a lazy value that is read more than once."""

    def settle(self, value: Lazy, equation: JaxprEqn | None) -> Any:
        """Return the array of a lazy value, which `equation` needs; None is the end of the function."""


class Traced(NamedTuple):
    """A function of trees of arrays as a list of primitive operations."""

    jaxpr: ClosedJaxpr
    outputs: Tree  # a tree of ShapeDtypeStructs


def trace(function: Callable[..., Tree], *args: Tree) -> Traced:
    """Trace a function for arguments, trees of arrays of which only shapes and dtypes matter.

    JAX caches each trace for as long as the traced function lives. The function traced here is local to this call, so
    that the memory of a process that trains many times does not grow.
    """
    jaxpr, outputs = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*args)  # noqa: PLW0108
    return Traced(jaxpr, outputs)


def run(traced: Traced, values: Sequence[Any], rules: Rules, within: SourceInfo | None = None) -> Tree:
    """Run a traced function on `values`, one for each leaf of its arguments in order; the outputs may be lazy.

    If the function is called within another traced function, `within` is the source line of the call.
    """
    outputs = _run(traced.jaxpr, values, rules, within)
    return jax.tree.unflatten(jax.tree.structure(traced.outputs), outputs)


def _run(closed: ClosedJaxpr, values: Sequence[Any], rules: Rules, within: SourceInfo | None) -> list[Any]:
    jaxpr = closed.jaxpr
    reads = (place for places in (*(e.invars for e in jaxpr.eqns), jaxpr.outvars) for place in places)
    readers = Counter(place for place in reads if isinstance(place, Var))

    def held(variable: Var, value: Any) -> Any:
        return rules.share(value) if isinstance(value, Lazy) and readers[variable] > 1 else value

    return walk(closed, values, lambda equation, inputs: _outputs(equation, inputs, rules, within), held)


def walk(
    closed: ClosedJaxpr,
    values: Sequence[Any],
    outputs: Callable[[JaxprEqn, list[Any]], Sequence[Any]],
    held: Callable[[Var, Any], Any] = lambda _, value: value,
) -> list[Any]:
    """Run a program equation by equation, each as `outputs` says; `held` is what becomes of a value that is read."""
    jaxpr = closed.jaxpr
    known: dict[Var, Any] = {}

    def write(variables: Sequence[Var], found: Sequence[Any]) -> None:
        known.update((variable, held(variable, value)) for variable, value in zip(variables, found, strict=True))

    def read(place: Var | Literal) -> Any:
        return known[place] if isinstance(place, Var) else place.val

    write((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *values))
    for equation in jaxpr.eqns:
        write(equation.outvars, outputs(equation, list(map(read, equation.invars))))
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
    """Evaluate an equation on arrays, and return the list of its outputs."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # JAX versions return either
    outputs = equation.primitive.bind(*functions, *inputs, **params)
    return outputs if equation.primitive.multiple_results else [outputs]


_CALLS = {
    **dict.fromkeys(("jit", "pjit", "checkpoint", "remat2"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call"), "call_jaxpr"),
}
"""The parameter in which each call primitive holds its function. `custom_vjp_call` is not among them: entering it would
lose the user's own gradient."""


REMAT = ("checkpoint", "remat2")
"""Calls whose function is computed again in the backward pass."""


OWN_DERIVATIVE = ("custom_jvp_call",)
"""Calls with the user's own derivative, which entering them would lose."""


def enter(equation: JaxprEqn, inputs: list[Any], rules: Rules) -> Sequence[Any]:
    """Return the outputs of a call, run with rules; a `jax.checkpoint` is still recomputed in the backward pass."""
    inner: Any = called(equation)
    traced = as_traced(inner)

    def go(values: list[Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = run(traced, values, rules, equation.source_info)
        return outputs

    if equation.primitive.name not in REMAT:
        return go(inputs)
    return jax.checkpoint(go, **{name: equation.params[name] for name in ("prevent_cse", "policy")})(inputs)


def as_traced(program: ClosedJaxpr) -> Traced:
    """Return a function that is part of a trace, with a list of outputs."""
    return Traced(program, [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.out_avals])


def called(equation: JaxprEqn) -> ClosedJaxpr | None:
    """Return the function of an equation that is a call, or None for another equation."""
    jaxpr = equation.params.get(_CALLS.get(equation.primitive.name, ""))
    return None if jaxpr is None else closed(jaxpr)


def closed(jaxpr: Any) -> ClosedJaxpr:
    """Return a function that an equation holds as a ClosedJaxpr; JAX 0.12 has plain Jaxprs in some places."""
    return ClosedJaxpr(jaxpr, ()) if isinstance(jaxpr, Jaxpr) else jaxpr


def is_program(value: object) -> bool:
    """Return whether a parameter of an equation is a function that it holds."""
    return isinstance(value, ClosedJaxpr | Jaxpr)


def inner_programs(equation: JaxprEqn) -> Iterator[ClosedJaxpr]:
    """Yield the functions inside an equation, such as the body of a loop or the branches of a conditional."""
    for value in equation.params.values():
        yield from map(closed, filter(is_program, value if isinstance(value, tuple | list) else (value,)))


def scanned(params: dict[str, Any]) -> tuple[ClosedJaxpr, int, int]:
    """Return the step of a scan, its number of constants and its number of carried values; other inputs are scanned.

    JAX 0.12 has trees of them in place of the numbers.
    """
    if "num_consts" in params:
        return closed(params["jaxpr"]), params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return closed(params["jaxpr"]), len(consts), len(carry)


def source_line(equation: JaxprEqn) -> str:
    """Return where the user's code made an equation, as `file:line (function)`."""
    return summarize(equation.source_info)
