"""Priors and the KL divergence: exactly 0 where it must be, its digits kept, summed, and in nats."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import bbb
from bbb.prior import Normal

KEY = jax.random.key(0)
SHAPES = ({"bias": (3,), "weight": (3, 2)}, {"bias": (1,), "weight": (1, 3)})


def tree_of(make):
    return jax.tree.map(make, SHAPES, is_leaf=lambda node: isinstance(node, tuple) and isinstance(node[0], int))


def spread(seed, low, high, dtype):
    rng = np.random.default_rng(seed)
    return tree_of(lambda shape: jnp.asarray(rng.uniform(low, high, shape), dtype))


def leaves(tree):
    return [np.asarray(leaf, "float64") for leaf in jax.tree.leaves(tree)]


def scales(shape):
    return np.geomspace(0.01, 5, np.prod(shape)).reshape(shape)


BROADCASTINGS = {
    "scalars": (0.3, 0.1),
    "whole numbers": (1, 2),
    "numpy scalars": (np.float64(0.3), np.float32(0.7)),
    "per layer": ((0.1, -2.0), (0.7, 3.0)),
    "mean scalar, std per layer": (0.0, (0.037, 13.0)),
    "per leaf": (0.3, ({"bias": 0.2, "weight": 0.5}, {"bias": 1.7, "weight": 0.01})),
    "per column of a leaf": (0.3, (0.9, {"bias": 1.0, "weight": np.array([0.2, 0.3, 0.7])})),
    "per weight": (tree_of(lambda shape: np.full(shape, -0.7)), tree_of(scales)),
}


@pytest.mark.parametrize("case", BROADCASTINGS)
def test_kl_and_its_gradient_are_exactly_0_at_the_prior(case, dtype):
    mean, std = BROADCASTINGS[case]
    prior = Normal(mean, std)
    zeros = tree_of(lambda shape: jnp.zeros(shape, dtype))
    means = bbb.posterior.per_leaf("mean", mean, zeros)
    q = bbb.MeanField.around(jax.tree.map(lambda m, z: m + z, means, zeros), std)
    value, grad = jax.value_and_grad(bbb.kl)(q, prior)
    assert value.dtype == dtype
    assert float(value) == 0.0
    assert all((leaf == 0).all() for leaf in leaves(grad))


def test_kl_is_exactly_0_at_the_prior_for_a_thousand_scales(dtype):
    many = jnp.asarray(np.geomspace(1e-6, 1e6, 1000), dtype)
    q = bbb.MeanField.around({"w": 3 * many}, {"w": many})
    assert float(bbb.kl(q, Normal({"w": 3 * many}, {"w": many}))) == 0.0


def test_kl_is_the_closed_form(dtype):
    q = bbb.MeanField.around(spread(0, -2, 2, dtype), spread(1, 0.01, 3, dtype))
    mean, std = spread(2, -2, 2, dtype), spread(3, 0.1, 5, dtype)
    expected = sum(
        (np.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5).sum()
        for m, s, m0, s0 in zip(*map(leaves, (q.mean, jax.tree.map(jnp.exp, q.log_std), mean, std)), strict=True)
    )
    value = bbb.kl(q, Normal(mean, std))
    assert value.shape == ()
    assert value.dtype == dtype
    np.testing.assert_allclose(float(value), expected, rtol=64 * np.finfo(dtype).eps)


def test_kl_is_the_integral_that_defines_it():
    m, s, m0, s0 = 0.7, 0.4, -0.2, 1.3
    q, p = scipy.stats.norm(m, s), scipy.stats.norm(m0, s0)
    integral = scipy.integrate.quad(lambda w: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)), m - 12 * s, m + 12 * s)[0]
    with jax.enable_x64(True):
        value = bbb.kl(bbb.MeanField.around(jnp.asarray([m]), s), Normal(m0, s0))
    assert float(value) == pytest.approx(integral, rel=1e-9)


@pytest.mark.parametrize("r", [sign * 10.0**-k for k in range(1, 8) for sign in (1, -1)])
def test_kl_keeps_its_digits_near_the_prior(r, dtype):
    # With s0 = 1 and r = log s, KL = Σ_k≥2 (2r)^k / (2·k!). Rounding may cost eps·|r|; E[x²]-like forms cost eps.
    log_std = jnp.asarray([r], dtype)
    exact_r = float(log_std[0])
    exact = math.fsum((2 * exact_r) ** k / (2 * math.factorial(k)) for k in range(2, 20))
    value = float(bbb.kl(bbb.MeanField(jnp.zeros(1, dtype), log_std), Normal(0.0, 1.0)))
    assert abs(value - exact) <= 4 * np.finfo(dtype).eps * abs(exact_r)


def test_kl_keeps_its_digits_for_means_that_hardly_differ(dtype):
    delta = 1e-3 if dtype == "float32" else 1e-9
    mean = jnp.asarray([delta], dtype)
    value = float(bbb.kl(bbb.MeanField(mean, jnp.zeros(1, dtype)), Normal(0.0, 1.0)))
    assert value == pytest.approx(0.5 * float(mean[0]) ** 2, rel=8 * float(np.finfo(dtype).eps))


def test_kl_is_never_negative(dtype):
    near = spread(5, -1e-3, 1e-3, dtype)
    q = bbb.MeanField(tree_of(lambda shape: jnp.zeros(shape, dtype)), near)
    assert float(bbb.kl(q, Normal(0.0, 1.0))) > 0


def test_kl_grows_without_bound_as_the_prior_narrows(dtype):
    q = bbb.MeanField.around({"w": jnp.asarray([0.5, -1.0], dtype)}, 0.3)
    stds = 10.0 ** -np.arange(0, 9)
    values = np.array([float(bbb.kl(q, Normal(0.0, s))) for s in stds])
    assert (np.diff(values) > 0).all()
    half_second_moment = 0.5 * (0.5**2 + 1.0**2 + 2 * 0.3**2)  # s0²·KL tends to it
    np.testing.assert_allclose(values[-3:] * stds[-3:] ** 2, half_second_moment, rtol=1e-5)


def test_kl_is_not_symmetric(dtype):
    def between(s, s0):
        return float(bbb.kl(bbb.MeanField.around(jnp.zeros(1, dtype), s), Normal(0.0, s0)))

    assert between(1.0, 2.0) == pytest.approx(math.log(2) - 3 / 8, rel=1e-5)
    assert between(2.0, 1.0) == pytest.approx(3 / 2 - math.log(2), rel=1e-5)


def test_kl_is_summed_and_never_averaged():
    one = jnp.full((4,), 0.7)
    value = bbb.kl(bbb.MeanField.around({"a": one}, 0.2), Normal(0.0, 1.0))
    three = bbb.kl(bbb.MeanField.around({"a": one, "b": one, "c": one}, 0.2), Normal(0.0, 1.0))
    np.testing.assert_allclose(three, 3 * value, rtol=1e-6)


def test_kl_is_the_mean_of_the_log_ratio_over_draws(dtype):
    n, q = 20_000, bbb.MeanField.around(jnp.asarray([0.5, -1.0], dtype), 0.3)
    prior = Normal(0.2, 0.6)

    def log_ratio(key):
        draw = bbb.sample(key, q)
        return bbb.log_prob(q, draw) - prior.log_prob(draw)

    ratios = np.asarray(jax.jit(jax.vmap(log_ratio))(jax.random.split(KEY, n)), "float64")
    assert abs(ratios.mean() - float(bbb.kl(q, prior))) < 5 * ratios.std() / np.sqrt(n)


def test_log_prob_is_that_of_scipy(dtype):
    params = spread(0, -2, 2, dtype)
    value = Normal((0.5, -1.0), (2.0, 0.3)).log_prob(params)
    terms = [
        scipy.stats.norm.logpdf(leaf, m, s)
        for layer, m, s in zip(params, (0.5, -1.0), (2.0, 0.3), strict=True)
        for leaf in leaves(layer)
    ]
    assert value.shape == ()
    assert value.dtype == dtype
    scale = sum(np.abs(t).sum() for t in terms)
    assert abs(float(value) - sum(t.sum() for t in terms)) < 64 * np.finfo(dtype).eps * scale


def test_a_prior_per_layer_is_that_prior_on_each_layer(dtype):
    params = spread(0, -2, 2, dtype)
    both = bbb.kl(bbb.MeanField.around(params, 0.2), Normal((0.0, 1.0), (0.5, 2.0)))
    apart = [
        bbb.kl(bbb.MeanField.around(layer, 0.2), Normal(m, s))
        for layer, m, s in zip(params, (0.0, 1.0), (0.5, 2.0), strict=True)
    ]
    np.testing.assert_allclose(both, sum(apart), rtol=1e-5)


def test_kl_over_leaves_of_several_dtypes_has_the_widest():
    mixed = {"single": jnp.full(4, 0.5), "half": jnp.full(4, 0.5, jnp.bfloat16)}
    value = bbb.kl(bbb.MeanField.around(mixed, 1.0), Normal(0.0, 1.0))
    assert value.dtype == jnp.float32
    assert float(value) == 1.0


@pytest.mark.parametrize("which", ["mean", "std"])
def test_a_prior_that_is_no_prefix_is_refused(which):
    q = bbb.MeanField.around(spread(0, -1, 1, "float32"), 0.1)
    with pytest.raises(bbb.ShapeError) as caught:
        bbb.kl(q, Normal(**{which: (1.0, 2.0, 3.0)}))
    message = str(caught.value)
    assert f"Expected prior {which} to be a number or a tree that is a prefix of the parameters'" in message
    assert f"Pass one prior {which} for all weights, for each layer, or for each leaf." in message


def test_a_prior_array_that_does_not_broadcast_to_its_weights_is_refused():
    q = bbb.MeanField.around(jnp.zeros((3, 2)), 0.1)
    for shape in ((3,), (4, 2), (1, 3, 2), (2, 3, 2)):
        with pytest.raises(bbb.ShapeError, match=r"prior std to broadcast to the \(3, 2\) weights below it, got shape"):
            bbb.kl(q, Normal(0.0, jnp.ones(shape)))
