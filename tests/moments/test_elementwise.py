"""Closed forms of activations: held against scipy's quadrature and NumPy, in both precisions, with their gradients."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, special

import bbb
from bbb.moments.api import moments
from bbb.moments.gaussian import _with_a_kink, _with_any_lines, normal_tail
from bbb.moments.piecewise import Pieces
from tests.moments.networks import CURVED, PIECEWISE, X, assert_agrees_with_draws, each, mlp, mlp_posterior

ALIKE = ("relu6", "hard_sigmoid", "clip", "gelu by tanh", "silu", "selu", "mish", "soft_sign", "hard_swish")
"""Activations that take the same path as others."""


def integrals(g, breaks, m, s):
    """E g(z) and Var g(z) by scipy.integrate.quad, the integral cut where g has kinks and where the mass is."""
    cuts = sorted({-12.0, 12.0, -4.0, 0.0, 4.0, *((b - m) / s for b in breaks if abs(b - m) < 12 * s)})
    if s > 1:
        cuts = sorted({*cuts, *(t for b in breaks for t in ((b - m + w) / s for w in (-3, 3)) if abs(t) < 12)})

    def integral(f):
        def density(t):
            return f(m + s * t) * math.exp(-t * t / 2) / math.sqrt(2 * math.pi)

        parts = itertools.pairwise(cuts)
        return sum(integrate.quad(density, a, b, epsabs=1e-10, epsrel=1e-10, limit=200)[0] for a, b in parts)

    mean = integral(g)
    return mean, integral(lambda z: (g(z) - mean) ** 2)


NUMPY = {  # what the activations are, written without JAX
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z >= 0 else 0.01 * z,
    "relu6": lambda z: min(max(z, 0.0), 6.0),
    "hard_tanh": lambda z: min(max(z, -1.0), 1.0),
    "hard_sigmoid": lambda z: min(max(z + 3, 0.0), 6.0) / 6,
    "abs": abs,
    "clip": lambda z: min(max(z, -0.5), 2.0),
    "sign": lambda z: math.copysign(1.0, z),
    "masked": lambda z: z if z > 0.5 else 0.0,
    "two lines": lambda z: max(z, 1 - 0.25 * z),
    "tanh": math.tanh,
    "sigmoid": lambda z: 0.5 * (1 + math.tanh(z / 2)),
    "gelu": lambda z: z * 0.5 * math.erfc(-z / math.sqrt(2)),
    "gelu by tanh": lambda z: 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "softplus": lambda z: max(z, 0.0) + math.log1p(math.exp(-abs(z))),
    "silu": lambda z: z * 0.5 * (1 + math.tanh(z / 2)),
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * math.expm1(z)),
    "mish": lambda z: z * math.tanh(max(z, 0.0) + math.log1p(math.exp(-abs(z)))),
    "soft_sign": lambda z: z / (1 + abs(z)),
    "hard_swish": lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
    "square": lambda z: z * z,
}


@each(*(name for name in PIECEWISE | CURVED if name not in ALIKE), slow=ALIKE)
def test_activations_agree_with_scipy_for_means_to_10_and_stds_to_5(name):
    g, breaks = (PIECEWISE | CURVED)[name]
    grid = [(m, s) for m in (-10.0, -3.0, 0.0, 1.0, 10.0) for s in (0.02, 0.5, 5.0)]
    expected = np.array([integrals(NUMPY[name], breaks, m, s) for m, s in grid])
    with jax.enable_x64():
        m, s = jnp.asarray(grid).T
        found = moments(lambda w, x: g(w[None] + 0.0 * x))(bbb.MeanField(m, jnp.log(s)), jnp.zeros((1, len(grid))))
    scale = np.maximum(1.0, np.abs(expected))
    np.testing.assert_array_less(np.abs(np.stack([found.mean[0], found.variance[0]], axis=1) - expected) / scale, 1e-6)


def oracle(q, x, g, breaks):
    """The moments of one hidden layer, in NumPy and scipy, with any activation."""
    mean = {k: np.asarray(v, "float64") for k, v in q.mean.items()}
    var = {k: np.exp(2 * np.asarray(v, "float64")) for k, v in q.log_std.items()}
    x = np.asarray(x, "float64")
    m, v = x @ mean["W0"] + mean["b0"], x**2 @ var["W0"] + var["b0"]
    found = [integrals(g, breaks, a, b) for a, b in zip(m.ravel(), np.sqrt(v).ravel(), strict=True)]
    h, h_var = np.array(found).T.reshape(2, *m.shape)
    return h @ mean["V"] + mean["c"], h_var @ (mean["V"] ** 2 + var["V"]) + h**2 @ var["V"] + var["c"]


@each("relu", "hard_tanh", "tanh", "gelu", slow=("leaky_relu", "softplus", "elu"))
def test_one_hidden_layer_agrees_with_a_closed_form_in_numpy(name):
    g, breaks = (PIECEWISE | CURVED)[name]
    with jax.enable_x64():
        q = mlp_posterior("float64")
        found = moments(mlp(g))(q, X[:2].astype("float64"))
    for got, expected in zip(found, oracle(q, X[:2], NUMPY[name], breaks), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@each("relu", "tanh", slow=("hard_tanh", "gelu", "softplus"))
def test_float32_is_float64_to_1e_5(name):
    g = (PIECEWISE | CURVED)[name][0]
    narrow = moments(mlp(g))(mlp_posterior(), X)
    with jax.enable_x64():
        wide = moments(mlp(g))(mlp_posterior("float64"), X.astype("float64"))
        assert wide.mean.dtype == wide.variance.dtype == "float64"
    assert narrow.mean.dtype == narrow.variance.dtype == "float32"
    np.testing.assert_allclose(narrow.mean, wide.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(narrow.variance, wide.variance, rtol=1e-5)


@each("relu", slow=("hard_tanh", "sign", "gelu", "elu"))
def test_without_spread_it_is_the_plain_network(name, dtype):
    g = (PIECEWISE | CURVED)[name][0]
    q = mlp_posterior(dtype)
    sharp = bbb.MeanField(q.mean, jax.tree.map(lambda leaf: jnp.full_like(leaf, -200.0), q.log_std))
    found = moments(mlp(g))(sharp, X.astype(dtype))
    plain = mlp(g)(q.mean, X.astype(dtype))
    np.testing.assert_allclose(found.mean, plain, rtol=1e-6, atol=1e-6)
    assert np.all(found.variance >= 0)
    assert np.all(found.variance < 1e-30)


@each("relu", "tanh", slow=("relu6", "elu"))
def test_gradients_are_finite_for_any_spread(name):
    q, closed = mlp_posterior(), moments(mlp((PIECEWISE | CURVED)[name][0]))

    @jax.jit
    @jax.grad
    def gradient(q):
        mean, variance = closed(q, X)
        return mean.sum() + variance.sum()

    for log_std in (-200.0, -40.0, -33.0, -20.0, -3.0, 1.0):
        sharp = bbb.MeanField(q.mean, jax.tree.map(lambda leaf, s=log_std: jnp.full_like(leaf, s), q.log_std))
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient(sharp)))


@each("relu", slow=("tanh", "hard_tanh"))
def test_gradients_agree_with_finite_differences(name):
    g = (PIECEWISE | CURVED)[name][0]
    with jax.enable_x64():
        q, x = mlp_posterior("float64"), X.astype("float64")

        way = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(4).normal(size=leaf.shape)), q)

        def total(t):
            mean, variance = moments(mlp(g))(jax.tree.map(lambda a, d: a + t * d, q, way), x)
            return mean.sum() + jnp.sqrt(variance).sum()

        both = jax.jit(jax.value_and_grad(total))
        (ahead, _), (behind, _), (_, slope) = (map(float, both(t)) for t in (1e-5, -1e-5, 0.0))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6)


@each("relu", "sign", slow=("abs", "hard_tanh"))
def test_gradients_where_the_mean_is_on_a_kink(name):
    """At m = b and s = 0.1, d/dm by central differences in float64: relu, for one, has E' = Φ(0) = ½ there."""
    g, (at, *_) = PIECEWISE[name]
    closed = moments(lambda w, x: g(w[None] + x))
    with jax.enable_x64():

        def at_mean(m):
            found = jnp.stack(closed(bbb.MeanField(m[None], jnp.log(jnp.full(1, 0.1))), np.zeros((1, 1)))).ravel()
            return found, found

        slope_and_value = jax.jit(jax.jacfwd(at_mean, has_aux=True))
        (_, ahead), (_, behind), (slope, _) = (slope_and_value(jnp.asarray(at + h)) for h in (1e-5, -1e-5, 0.0))
        expected = (ahead - behind) / 2e-5
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-6)


def test_the_tail_of_a_gaussian_keeps_its_digits_in_float32():
    """Measured: 2.5e-7 of 1 − Φ(t), beside what t², rounded before exp, loses: 6e-8·t²/2."""
    t = np.linspace(0, 12, 5_001).astype("float32")
    expected = special.ndtr(-t.astype("float64"))
    found, slope = jax.jit(jax.vmap(jax.value_and_grad(normal_tail)))(t)
    np.testing.assert_array_less(np.abs(found / expected - 1), 4e-7 + 1e-7 * t**2)
    np.testing.assert_allclose(slope, -np.exp(-(t.astype("float64") ** 2) / 2) / math.sqrt(2 * math.pi), rtol=2e-5)


def test_two_lines_that_meet_have_the_moments_of_any_two_lines():
    """The shorter form for a kink, against the sums over pieces, which also serve jumps."""
    with jax.enable_x64():
        kink = Pieces((0.5,), ((-0.25, 0.5), (1.5, -0.375)))
        assert kink.is_kink
        m, s = map(np.ravel, np.meshgrid(np.linspace(-3, 3, 25), [0.05, 0.5, 2.0]))
        short, long = jax.jit(lambda m, s: (_with_a_kink(kink, m, s), _with_any_lines(kink, m, s)))(m, s)
        for got, expected in zip(short, long, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
    assert not Pieces((0.5,), ((0.0, 0.0), (1.0, 0.0))).is_kink  # a jump


def test_variance_keeps_its_digits_far_from_the_kink():
    with jax.enable_x64(False):
        q = bbb.MeanField(jnp.asarray([1e4, -1e4]), jnp.log(jnp.asarray([1e-2, 1e-2])))
        found = moments(lambda w, x: jax.nn.relu(w[None] + 0 * x))(q, jnp.zeros((1, 2)))
    np.testing.assert_allclose(found.variance, [[1e-4, 0.0]], rtol=1e-5)
    np.testing.assert_allclose(found.mean, [[1e4, 0.0]], rtol=1e-7)


def test_a_swish_with_a_slope_of_each_feature_is_one_function_of_one_value():
    slope = jnp.linspace(-1.0, 2.0, 8).reshape(1, 8)
    apply, q = mlp(lambda z: z * jax.nn.sigmoid(slope * z)), mlp_posterior()
    assert moments(apply).exactness(q, X).exact
    assert_agrees_with_draws(apply, q, X[:2], draws=50_000)


def test_the_branches_of_prelu_may_have_slopes_that_are_arrays():
    slope = jnp.linspace(-0.5, 0.5, 8).reshape(1, 8)
    apply = mlp(lambda z: jnp.where(z > 0, z, slope * z))
    assert moments(apply).exactness(mlp_posterior(), X).exact
    assert_agrees_with_draws(apply, mlp_posterior(), X[:2], draws=50_000)
