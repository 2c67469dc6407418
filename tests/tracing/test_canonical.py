"""Functions that do the same are taken for one, and those that may not are kept apart."""

import dataclasses
import functools
import logging
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.tracing import canonical as module
from bbb.tracing.canonical import canonical

SCALE = 2.0
TABLE = {"scale": 2.0}


@pytest.fixture(autouse=True)
def _forgotten():
    module.forget()
    yield
    module.forget()


def same(make):
    """Return whether two that `make` makes are taken for one."""
    return canonical(make(), "It") is canonical(make(), "It")


def network(width, hold=None):
    def apply(params, x):
        return jnp.tanh(x @ params) * width if hold is None else x * hold

    return apply


@dataclasses.dataclass(frozen=True)
class Frozen:
    apply: object
    rate: float = 0.5


@dataclasses.dataclass
class Loose:
    rate: float = 0.5


def reads_a_global(params, x):
    return x * SCALE


def new(function, **options):
    """Return a function anew, as a cell of a notebook does that is run again."""
    return types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


DECIDED = {
    "adam": lambda: optax.adam(1e-2),
    "a chain with a schedule": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100))
    ),
    "L-BFGS": optax.lbfgs,
    "a dictionary of optimisers": lambda: optax.multi_transform({"a": optax.sgd(0.1)}, "a"),
    "a schedule of pieces": lambda: optax.sgd(optax.join_schedules([optax.constant_schedule(0.1)] * 2, [10])),
    "a function that knows a number": lambda: network(3),
    "a function that knows a function": lambda: network(3, network(2)),
    "a partial": lambda: functools.partial(network(3), x=(1, 2.0, "a", None)),
    "a forward": lambda: bbb.forwards.local_reparam(network(3)),
    "a function of a network": lambda: bbb.nn.sequential(bbb.nn.linear(1, 3), bbb.nn.tanh).apply,
    "a global that cannot change": lambda: new(reads_a_global),
    "a library's compiled function": lambda: network(1, jax.nn.relu),
}


@pytest.mark.parametrize("case", DECIDED)
def test_what_is_made_again_is_the_first(case):
    assert same(DECIDED[case])


def reads_a_dictionary(params, x):
    return x * TABLE["scale"]


def reads_a_module(params, x):
    return x * module.MOST


class Settings:
    scale = 2.0


def reads_a_class(params, x):
    return x * Settings.scale


def looks_up_by_name(params, x):
    return x * globals()["SCALE"]


def nested(depth):
    def around(inner):
        return lambda params, x: 2 * inner(params, x)

    inner = reads_a_global
    for _ in range(depth):
        inner = around(inner)
    return inner


def imports(params, x):
    import math

    return x * math.pi


def counts():
    calls = 0

    def apply(params, x):
        nonlocal calls
        calls += 1
        return x * calls

    return apply


UNDECIDED = {
    "an array": lambda: network(1, jnp.ones(2)),
    "an array of NumPy": lambda: network(1, np.ones(2)),
    "a list": lambda: network(1, [1]),
    "an object": lambda: network(1, object()),
    "a dataclass of one's own, whose class may change": lambda: Frozen(network(3)),
    "a class of one's own": lambda: new(reads_a_class),
    "a global by name": lambda: new(looks_up_by_name),
    "more functions than can be followed": lambda: nested(2_000),
    "a dataclass that may change": lambda: network(1, Loose()),
    "a global that may change": lambda: new(reads_a_dictionary),
    "a module of one's own": lambda: network(1, types.ModuleType("mine")),
    "an import": lambda: new(imports),
    "a count": counts,
    "a compiled function of one's own": lambda: jax.jit(network(1)),
    "a learning rate in an array": lambda: optax.sgd(jnp.float32(0.1)),
}


@pytest.mark.parametrize("case", UNDECIDED)
def test_what_holds_something_that_may_change_is_compared_by_identity(case):
    assert not same(UNDECIDED[case])
    one = UNDECIDED[case]()
    assert canonical(one, "It") is one
    assert canonical(one, "It") is one


def test_other_numbers_are_other_programs():
    made = [network(value) for value in (1, 1.0, True, 0.0, -0.0, np.float32(1), np.float64(1), "1", (1,), (1.0,))]
    assert len({id(canonical(function, "It")) for function in made}) == len(made)
    rates = [optax.adam(1e-2), optax.adam(2e-2), optax.adam(1e-2, b1=0.8), optax.adamw(1e-2)]
    assert len({id(canonical(optimizer, "It")) for optimizer in rates}) == len(rates)


def test_a_function_whose_global_changed_is_another(monkeypatch):
    first = canonical(new(reads_a_global), "It")
    assert canonical(new(reads_a_global), "It") is first
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    again = new(reads_a_global)
    assert canonical(again, "It") is again
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert canonical(new(reads_a_global), "It") is first


def test_a_schedule_that_was_called_is_the_one_that_was_not():
    """optax makes a float of a schedule's whole number of steps when it is called, in the schedule's own closure."""
    first = canonical(optax.cosine_decay_schedule(0.1, 30), "It")
    first(3)
    assert canonical(optax.cosine_decay_schedule(0.1, 30), "It") is first
    assert canonical(optax.cosine_decay_schedule(0.1, 31), "It") is not first


def test_a_first_whose_closure_changed_since_is_not_given_for_another():
    def make():
        width = 1

        def apply(params, x):
            return x * width

        def widen():
            nonlocal width
            width = 2

        return apply, widen

    first, widen = make()
    assert canonical(first, "It") is first
    widen()
    other, _ = make()
    assert canonical(other, "It") is other


def test_a_list_that_changed_since_is_another_program():
    pieces = [10]
    first = optax.sgd(optax.join_schedules([optax.constant_schedule(0.1)] * 2, pieces))
    assert canonical(first, "It") is first
    pieces.append(20)
    again = optax.sgd(optax.join_schedules([optax.constant_schedule(0.1)] * 2, [10]))
    assert canonical(again, "It") is again


@functools.wraps(optax.apply_updates)
def wraps_a_librarys(params, x):
    return x * SCALE


def test_a_function_that_bears_a_librarys_name_is_read_as_ones_own(monkeypatch):
    first = canonical(wraps_a_librarys, "It")
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    again = new(wraps_a_librarys)
    again.__module__, again.__dict__ = wraps_a_librarys.__module__, dict(vars(wraps_a_librarys))
    assert canonical(again, "It") is again is not first


def test_functions_that_call_each_other_are_decided():
    def make():
        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)

        return even

    assert same(make)


def test_as_many_are_remembered_as_stated(monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    first = canonical(network(1), "It")
    assert canonical(network(1), "It") is first
    canonical(network(2), "It")
    canonical(network(3), "It")
    assert canonical(network(1), "It") is not first


def test_the_third_of_one_code_is_told_once(caplog, monkeypatch):
    monkeypatch.setattr(module._log, "disabled", False)  # the linter of imports, run by another test, switches logs off
    keep = network(1, np.ones(1))
    with caplog.at_level(logging.WARNING, logger="bbb"):
        for _ in range(5):
            canonical(keep, "The network")  # one object is compiled for once
        assert caplog.messages == []
        others = [canonical(network(1, np.ones(1)), "The network") for _ in range(5)]
    assert len(others) == 5
    assert caplog.messages == [
        "The network came as 3 objects with the code of network.<locals>.apply. JAX compiles for each, as they hold "
        "what may change. If they are the same, make one, and pass it each time."
    ]
