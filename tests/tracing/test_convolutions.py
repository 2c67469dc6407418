"""Convolutions with channels last: the same numbers, and of one layout wherever they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr

import bbb
from bbb.tracing import convolutions
from bbb.tracing.convolutions import ChannelsLast, channels_last, convolves, for_cpu

LAYOUTS = {
    "channels first": ("NCHW", "OIHW", "NCHW"),
    "channels last": ("NHWC", "HWIO", "NHWC"),
    "mixed": ("CHWN", "IHWO", "HWNC"),
}
OPTIONS = {
    "plain": {},
    "strides": {"window_strides": (2, 1)},
    "dilated kernel": {"rhs_dilation": (2, 2)},
    "dilated inputs": {"lhs_dilation": (1, 2)},
    "groups": {"feature_group_count": 2},
    "uneven padding": {"padding": ((1, 0), (0, 2))},
}


def equations(program):
    """Yield all equations of a program and of those within it."""
    for equation in program.jaxpr.eqns if isinstance(program, ClosedJaxpr) else program.eqns:
        yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr | Jaxpr):
                    yield from equations(part)


def layouts(function, *args):
    """Return the layouts of the convolutions of a function."""
    found = (e for e in equations(jax.make_jaxpr(function)(*args)) if e.primitive.name == "conv_general_dilated")
    return {tuple(map(tuple, e.params["dimension_numbers"])) for e in found}


FAST = {((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))}


def convolution(layout, options):
    """Return a convolution, and numbers for it."""
    groups = options.get("feature_group_count", 1)
    sizes = {"N": 3, "C": 4, "H": 6, "W": 5}, {"O": 8, "I": 4 // groups, "H": 3, "W": 2}
    rng = np.random.default_rng(0)
    specs = LAYOUTS[layout]
    x, kernel = (
        jnp.asarray(rng.normal(size=[size[axis] for axis in spec])) for spec, size in zip(specs, sizes, strict=False)
    )
    how = {"window_strides": (1, 1), "padding": "SAME"} | options
    if "lhs_dilation" in options:
        how["padding"] = ((1, 1), (0, 2))
    return lambda x, kernel: lax.conv_general_dilated(x, kernel, dimension_numbers=specs, **how), x, kernel


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_computes_the_same_numbers_and_gradients_in_one_layout(layout, options):
    with jax.enable_x64(True):
        convolve, x, kernel = convolution(layout, OPTIONS[options])

        def both(x, kernel):
            outputs, back = jax.vjp(convolve, x, kernel)
            return outputs, back(outputs)

        expected, got = both(x, kernel), for_cpu(both)(x, kernel)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), expected, got)
        grouped = options == "groups"  # the gradient of a kernel in groups is a convolution in groups of rows
        assert layouts(for_cpu(convolve), x, kernel) == FAST
        assert grouped or layouts(for_cpu(both), x, kernel) == FAST


@pytest.mark.parametrize("dims", [1, 3])
def test_it_computes_the_same_numbers_in_one_and_three_dimensions(dims):
    layer = bbb.nn.conv(2, 4, 3, dims=dims, padding="same")
    params = layer.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 2, *(5,) * dims))
    np.testing.assert_allclose(for_cpu(layer.apply)(params, x), layer.apply(params, x), rtol=1e-5, atol=1e-5)


def test_it_enters_loops_conditions_calls_and_recomputation():
    convolve, x, kernel = convolution("channels first", {"padding": "SAME"})
    kernel = kernel[:4]  # as many channels out as in

    @jax.custom_jvp
    def own(x):
        return jnp.tanh(convolve(x, kernel))

    own.defjvp(lambda at, along: (own(*at), along[0]))

    def function(x):
        def step(carry, scale):
            carry = lax.cond(scale > 0.5, lambda v: convolve(v, kernel), lambda v: -v, carry)
            return jax.checkpoint(lambda v: jax.jit(convolve)(v, scale * kernel))(carry), jnp.sum(carry)

        scanned, sums = lax.scan(step, x, jnp.array([0.1, 0.9], x.dtype))
        looped = lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, convolve(c[1], kernel)), (0, own(scanned)))
        return looped[1], {"sums": sums}

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), for_cpu(function)(x), function(x))
    assert layouts(for_cpu(function), x) == FAST
    assert layouts(function, x) != FAST


def test_keywords_are_static_and_a_program_without_convolution_is_as_it_was():
    def function(x, *, times):
        return {"x": x * times}

    x = jnp.arange(3.0)
    np.testing.assert_array_equal(for_cpu(function)(x, times=2)["x"], 2 * x)
    assert str(jax.make_jaxpr(lambda x: for_cpu(function)(x, times=2))(x)) == str(
        jax.make_jaxpr(lambda x: function(x, times=2))(x)
    )


def test_only_a_cpu_needs_it(monkeypatch):
    convolve, x, kernel = convolution("channels first", {})
    assert layouts(channels_last(convolve), x, kernel) == FAST
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert layouts(channels_last(convolve), x, kernel) == layouts(convolve, x, kernel) != FAST


def test_a_function_with_channels_last_compares_by_that_function():
    convolve, x, kernel = convolution("channels first", {})
    assert ChannelsLast(convolve) == ChannelsLast(convolve)
    assert hash(ChannelsLast(convolve)) == hash(ChannelsLast(convolve))
    np.testing.assert_allclose(ChannelsLast(convolve)(x, kernel), convolve(x, kernel), rtol=1e-5, atol=1e-5)


IMAGES = bbb.nn.sequential(bbb.nn.conv(1, 2, 3, padding="same"), bbb.nn.relu, bbb.nn.flatten, bbb.nn.linear(32, 2))
DENSE = bbb.nn.sequential(bbb.nn.flatten, bbb.nn.linear(16, 2))


@pytest.mark.parametrize(("network", "expected"), [(IMAGES, True), (DENSE, False)])
def test_a_network_convolves_or_not(network, expected):
    x = jnp.ones((3, 1, 4, 4))
    assert convolves(network.apply, network.init(jax.random.key(0)), x) is expected


@pytest.fixture
def moved(monkeypatch):
    """Return a list that gets an entry for each convolution that is put into the layout of a CPU."""
    seen, true = [], convolutions._convolved

    def convolved(equation, x, kernel):
        seen.append(equation)
        return true(equation, x, kernel)

    monkeypatch.setattr(convolutions, "_convolved", convolved)
    jax.clear_caches()  # of programs that other tests compiled
    return seen


@pytest.fixture
def model():
    params = IMAGES.init(jax.random.key(0))
    beliefs = {"prior": bbb.priors.Normal(0.0, 0.5), "likelihood": bbb.likelihoods.Categorical()}
    return bbb.bayesianize(IMAGES.apply, params, std=0.1, **beliefs)


X = np.random.default_rng(0).normal(size=(6, 1, 4, 4)).astype(np.float32)
Y = np.arange(6) % 2


def fit(model):
    bbb.fit(jax.random.key(1), model, X, Y, steps=2, progress=False)


LOOPS = {
    "fit": fit,
    "predict": lambda model: bbb.predict(jax.random.key(2), model, X, draws=4),
    "linearised": lambda model: bbb.forwards.linearized(model.apply).moments(model.posterior, X),
    "laplace": lambda model: bbb.laplace(jax.random.key(3), model, X, Y, structure="diag"),
}


@pytest.mark.parametrize("work", LOOPS)
def test_loops_over_the_network_have_channels_last(work, model, moved):
    LOOPS[work](model)
    assert moved
