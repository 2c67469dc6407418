"""The interpreter: it carries out what was traced, and asks its rules about lazy values alone."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bbb.tracing import interpreter

X = np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3)


class Known(interpreter.Lazy):
    """A lazy value that is an array after all."""

    def __init__(self, array, log):
        self.array, self.log = array, log


class Log:
    """Rules that say nothing, and write down what they are asked."""

    def __init__(self):
        self.applied, self.shared, self.settled = [], 0, []

    def apply(self, equation, inputs):  # noqa: ARG002
        self.applied.append(equation.primitive.name)

    def share(self, value):
        self.shared += 1
        return value.array

    def settle(self, value, equation):
        self.settled.append(equation.primitive.name)
        return value.array


@jax.custom_jvp
def tripled(x):
    return 3 * x


tripled.defjvp(lambda primals, tangents: (3 * primals[0], 3 * tangents[0]))


@jax.custom_vjp
def halved(x):
    return x / 2


halved.defvjp(lambda x: (x / 2, None), lambda _, g: (g / 2,))

FUNCTIONS = {
    "arithmetic": lambda x: jnp.sin(x) * x + 1,
    "jit": jax.jit(lambda x: x @ x.T),
    "custom_jvp": tripled,
    "custom_vjp": halved,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "remat": jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))),
    "vmap": jax.vmap(lambda row: jnp.outer(row, row)),
    "scan": lambda x: jax.lax.scan(lambda c, row: (c + row, c * row), x[0], x),
    "while": lambda x: jax.lax.while_loop(lambda c: jnp.sum(c) < 9, lambda c: 2 * c, jnp.abs(x)),
    "cond": lambda x: jax.lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, x),
    "gather": lambda x: x[jnp.array([1, 0, 1])],
    "grad": jax.grad(lambda x: jnp.sum(jax.nn.relu(x) ** 2)),
    "random": lambda x: x * jax.random.normal(jax.random.key(0), x.shape),
    "tree": lambda x: {"a": x, "b": (x, 2 * x), "c": None},
    "constants": lambda x: (x + X, 7, np.ones(2, "float32")),
    "several results": jnp.linalg.qr,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("lazy", [False, True])
def test_running_a_traced_function_is_calling_it(name, lazy):
    function, log = FUNCTIONS[name], Log()
    traced = interpreter.trace(function, X)

    def again(x):
        outputs = interpreter.run(traced, [Known(x, log) if lazy else x], log)
        return jax.tree.map(lambda v: v.array if isinstance(v, Known) else v, outputs)

    expected = jax.jit(function)(X)
    got = jax.jit(again)(X)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), got, expected)
    assert lazy or not (log.applied or log.shared or log.settled)


@pytest.mark.parametrize("name", ["arithmetic", "jit", "custom_jvp", "custom_vjp", "silu", "remat", "scan", "cond"])
def test_it_can_be_differentiated(name):
    function = FUNCTIONS[name]
    traced = interpreter.trace(function, X)

    def total(run):
        return jax.jit(jax.grad(lambda x: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(run(x)))))(X)

    got = total(lambda x: interpreter.run(traced, [x], Log()))
    np.testing.assert_allclose(got, total(function), rtol=1e-5, atol=1e-6)


def test_a_lazy_value_that_is_read_once_is_settled_where_it_is_needed():
    log = Log()
    interpreter.run(interpreter.trace(jax.jit(jnp.sin), X), [Known(X, log)], log)
    assert (log.applied, log.shared, log.settled) == (["jit", "sin"], 0, ["sin"])


def test_a_lazy_value_that_is_read_twice_is_shared_before():
    log = Log()
    interpreter.run(interpreter.trace(lambda x: x @ x.T, X), [Known(X, log)], log)
    assert (log.applied, log.shared, log.settled) == ([], 1, [])


def test_outputs_may_be_lazy():
    value = Known(X, None)
    assert interpreter.run(interpreter.trace(lambda x: (x, 1), X), [value], Log())[0] is value


def test_rules_may_claim_an_equation():
    class Doubled(Log):
        def apply(self, equation, inputs):
            return [2 * inputs[0].array] if equation.primitive.name == "sin" else None

    outputs = interpreter.run(interpreter.trace(jax.jit(jnp.sin), X), [Known(X, None)], Doubled())
    np.testing.assert_array_equal(outputs, 2 * X)


def test_rules_are_told_the_line_of_the_call_for_what_jax_does_inside_it():
    class Lines(Log):
        def apply(self, equation, inputs):
            del inputs
            self.applied.append((equation.primitive.name, interpreter.source_line(equation)))

        def share(self, value):
            return value

    log = Lines()
    interpreter.run(interpreter.trace(lambda x: 2 * jnp.var(x), X), [Known(X, log)], log)  # two calls deep
    assert len(log.applied) > 1
    (line,) = {line for _, line in log.applied}
    assert "test_trace.py:" in line


def test_it_names_the_line_of_the_users_code():
    traced = interpreter.trace(lambda x: 2 * jnp.sin(x), X)
    assert "test_trace.py:" in interpreter.source_line(traced.jaxpr.eqns[0])


def test_tracing_again_and_again_keeps_nothing():
    """JAX keeps notes of a trace for as long as the traced function lives: training with checkpoints grew by them."""

    def function(x):
        return jnp.sin(x) * 2

    def objects():
        interpreter.trace(function, jnp.ones(3))
        gc.collect()
        return len(gc.get_objects())

    gc.freeze()  # what is there already is not looked through again and again
    try:
        before = [objects() for _ in range(3)][-1]
        after = [objects() for _ in range(30)][-1]
    finally:
        gc.unfreeze()
    assert after - before < 30
