"""Priors and the KL divergence: exactly 0 where it must be, its digits kept, summed, and in nats."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import bbb
from bbb.core import tree
from bbb.priors.divergence import WithNoise, with_noise
from bbb.priors.empirical import EmpiricalNormal
from bbb.priors.laplace import Laplace
from bbb.priors.normal import Normal, fan_in
from bbb.priors.scale_mixture import ScaleMixture

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
    means = tree.per_leaf("mean", mean, zeros)
    q = bbb.MeanField.around(jax.tree.map(lambda m, z: m + z, means, zeros), std)
    value, grad = jax.value_and_grad(bbb.priors.kl)(q, prior)
    assert value.dtype == dtype
    assert float(value) == 0.0
    assert all((leaf == 0).all() for leaf in leaves(grad))


def test_kl_is_exactly_0_at_the_prior_for_a_thousand_scales(dtype):
    many = jnp.asarray(np.geomspace(1e-6, 1e6, 1000), dtype)
    q = bbb.MeanField.around({"w": 3 * many}, {"w": many})
    assert float(bbb.priors.kl(q, Normal({"w": 3 * many}, {"w": many}))) == 0.0


def test_kl_is_the_closed_form(dtype):
    q = bbb.MeanField.around(spread(0, -2, 2, dtype), spread(1, 0.01, 3, dtype))
    mean, std = spread(2, -2, 2, dtype), spread(3, 0.1, 5, dtype)
    expected = sum(
        (np.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5).sum()
        for m, s, m0, s0 in zip(*map(leaves, (q.mean, jax.tree.map(jnp.exp, q.log_std), mean, std)), strict=True)
    )
    value = bbb.priors.kl(q, Normal(mean, std))
    assert value.shape == ()
    assert value.dtype == dtype
    np.testing.assert_allclose(float(value), expected, rtol=64 * np.finfo(dtype).eps)


def test_kl_is_the_integral_that_defines_it():
    m, s, m0, s0 = 0.7, 0.4, -0.2, 1.3
    q, p = scipy.stats.norm(m, s), scipy.stats.norm(m0, s0)
    integral = scipy.integrate.quad(lambda w: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)), m - 12 * s, m + 12 * s)[0]
    with jax.enable_x64(True):
        value = bbb.priors.kl(bbb.MeanField.around(jnp.asarray([m]), s), Normal(m0, s0))
    assert float(value) == pytest.approx(integral, rel=1e-9)


@pytest.mark.parametrize("r", [sign * 10.0**-k for k in range(1, 8) for sign in (1, -1)])
def test_kl_keeps_its_digits_near_the_prior(r, dtype):
    # With s0 = 1 and r = log s, KL = Σ_k≥2 (2r)^k / (2·k!). Rounding may cost eps·|r|; E[x²]-like forms cost eps.
    log_std = jnp.asarray([r], dtype)
    exact_r = float(log_std[0])
    exact = math.fsum((2 * exact_r) ** k / (2 * math.factorial(k)) for k in range(2, 20))
    value = float(bbb.priors.kl(bbb.MeanField(jnp.zeros(1, dtype), log_std), Normal(0.0, 1.0)))
    assert abs(value - exact) <= 4 * np.finfo(dtype).eps * abs(exact_r)


@pytest.mark.parametrize("std", [1.0, 0.037])
def test_kl_has_all_digits_for_deviations_near_the_prior_and_far_from_it(std, dtype):
    r = np.concatenate([-np.geomspace(1e-3, 8, 400), np.geomspace(1e-3, 4, 400)])
    r = np.asarray(np.concatenate([r, [0.4999, 0.5001, -0.4999, -0.5001]]) + math.log(std), dtype)
    exact = np.asarray(r, "longdouble") - np.log(np.asarray(np.asarray(std, dtype), "longdouble"))
    expected = 0.5 * np.expm1(2 * exact) - exact
    (values,) = leaves(Normal(0.0, std).kl_of_weights(bbb.MeanField(jnp.zeros(r.size, dtype), jnp.asarray(r))))
    # the logarithm of a std of 1 is exact, that of another is rounded
    rounded = np.finfo(dtype).eps * abs(math.log(std)) * np.abs(np.expm1(2 * exact))
    assert (np.abs(values - expected) <= 16 * np.finfo(dtype).eps * expected + rounded).all()


def test_the_derivatives_of_kl_are_those_of_its_formula():
    def formula(log_std, std):
        r = log_std - jnp.log(std)
        return jnp.sum(0.5 * jnp.expm1(2 * r) - r)

    def own(log_std, std):
        return bbb.priors.kl(bbb.MeanField(jnp.zeros(7), log_std), Normal(0.0, std))

    with jax.enable_x64(True):
        at = jnp.linspace(-3, 1.5, 7), jnp.asarray(0.4)
        for derivative in (jax.grad, jax.jacfwd, jax.hessian, lambda f, argnums: jax.jacrev(jax.grad(f, argnums))):
            got, want = derivative(own, argnums=(0, 1))(*at), derivative(formula, argnums=(0, 1))(*at)
            for a, b in zip(leaves(got), leaves(want), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_kl_keeps_its_digits_for_means_that_hardly_differ(dtype):
    delta = 1e-3 if dtype == "float32" else 1e-9
    mean = jnp.asarray([delta], dtype)
    value = float(bbb.priors.kl(bbb.MeanField(mean, jnp.zeros(1, dtype)), Normal(0.0, 1.0)))
    assert value == pytest.approx(0.5 * float(mean[0]) ** 2, rel=8 * float(np.finfo(dtype).eps))


def test_kl_is_never_negative(dtype):
    near = spread(5, -1e-3, 1e-3, dtype)
    q = bbb.MeanField(tree_of(lambda shape: jnp.zeros(shape, dtype)), near)
    assert float(bbb.priors.kl(q, Normal(0.0, 1.0))) > 0


def test_kl_grows_without_bound_as_the_prior_narrows(dtype):
    q = bbb.MeanField.around({"w": jnp.asarray([0.5, -1.0], dtype)}, 0.3)
    stds = 10.0 ** -np.arange(0, 9)
    values = np.array([float(bbb.priors.kl(q, Normal(0.0, s))) for s in stds])
    assert (np.diff(values) > 0).all()
    half_second_moment = 0.5 * (0.5**2 + 1.0**2 + 2 * 0.3**2)  # s0²·KL tends to it
    np.testing.assert_allclose(values[-3:] * stds[-3:] ** 2, half_second_moment, rtol=1e-5)


def test_kl_is_not_symmetric(dtype):
    def between(s, s0):
        return float(bbb.priors.kl(bbb.MeanField.around(jnp.zeros(1, dtype), s), Normal(0.0, s0)))

    assert between(1.0, 2.0) == pytest.approx(math.log(2) - 3 / 8, rel=1e-5)
    assert between(2.0, 1.0) == pytest.approx(3 / 2 - math.log(2), rel=1e-5)


def test_kl_is_summed_and_never_averaged():
    one = jnp.full((4,), 0.7)
    value = bbb.priors.kl(bbb.MeanField.around({"a": one}, 0.2), Normal(0.0, 1.0))
    three = bbb.priors.kl(bbb.MeanField.around({"a": one, "b": one, "c": one}, 0.2), Normal(0.0, 1.0))
    np.testing.assert_allclose(three, 3 * value, rtol=1e-6)


def test_kl_is_the_mean_of_the_log_ratio_over_draws(dtype):
    n, q = 20_000, bbb.MeanField.around(jnp.asarray([0.5, -1.0], dtype), 0.3)
    prior = Normal(0.2, 0.6)

    def log_ratio(key):
        draw = bbb.posteriors.sample(key, q)
        return bbb.posteriors.log_prob(q, draw) - prior.log_prob(draw)

    ratios = np.asarray(jax.jit(jax.vmap(log_ratio))(jax.random.split(KEY, n)), "float64")
    assert abs(ratios.mean() - float(bbb.priors.kl(q, prior))) < 5 * ratios.std() / np.sqrt(n)


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
    both = bbb.priors.kl(bbb.MeanField.around(params, 0.2), Normal((0.0, 1.0), (0.5, 2.0)))
    apart = [
        bbb.priors.kl(bbb.MeanField.around(layer, 0.2), Normal(m, s))
        for layer, m, s in zip(params, (0.0, 1.0), (0.5, 2.0), strict=True)
    ]
    np.testing.assert_allclose(both, sum(apart), rtol=1e-5)


def test_kl_over_leaves_of_several_dtypes_has_the_widest():
    mixed = {"single": jnp.full(4, 0.5), "half": jnp.full(4, 0.5, jnp.bfloat16)}
    value = bbb.priors.kl(bbb.MeanField.around(mixed, 1.0), Normal(0.0, 1.0))
    assert value.dtype == jnp.float32
    assert float(value) == 1.0


@pytest.mark.parametrize("which", ["mean", "std"])
def test_a_prior_that_is_no_prefix_is_refused(which):
    q = bbb.MeanField.around(spread(0, -1, 1, "float32"), 0.1)
    with pytest.raises(bbb.errors.ShapeError) as caught:
        bbb.priors.kl(q, Normal(**{which: (1.0, 2.0, 3.0)}))
    message = str(caught.value)
    assert f"Expected prior {which} to be a number or a tree that is a prefix of the parameters'" in message
    assert f"Pass one prior {which} for all weights, for each layer, or for each leaf." in message


def test_a_prior_array_that_does_not_broadcast_to_its_weights_is_refused():
    q = bbb.MeanField.around(jnp.zeros((3, 2)), 0.1)
    for shape in ((3,), (4, 2), (1, 3, 2), (2, 3, 2)):
        with pytest.raises(
            bbb.errors.ShapeError, match=r"prior std to broadcast to the \(3, 2\) weights below it, got shape"
        ):
            bbb.priors.kl(q, Normal(0.0, jnp.ones(shape)))


# --- other priors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [0.0, 1e-3, 0.7, -3.0, 40.0])
@pytest.mark.parametrize("s", [0.01, 0.4, 3.0])
def test_the_kl_from_a_laplace_is_the_integral_that_defines_it(d, s):
    m0, b = -0.2, 0.6
    q, p = scipy.stats.norm(m0 + d, s), scipy.stats.laplace(m0, b)

    def integrand(w):
        return q.pdf(w) * (q.logpdf(w) - p.logpdf(w))

    ends = (m0 + d - 12 * s, m0 + d + 12 * s)
    integral = scipy.integrate.quad(integrand, *ends, points=[m0] if ends[0] < m0 < ends[1] else None)[0]
    with jax.enable_x64(True):
        value = bbb.priors.kl(bbb.MeanField.around(jnp.asarray([m0 + d]), s), Laplace(m0, b))
    assert float(value) == pytest.approx(integral, rel=1e-8)


def test_the_kl_from_a_laplace_is_summed_in_the_weights_dtype_and_has_finite_gradients(dtype):
    q = bbb.MeanField.around(spread(0, -200, 200, dtype), spread(1, 1e-6, 3, dtype))
    prior = Laplace((0.1, -2.0), (0.7, 3.0))
    value, grad = jax.jit(jax.value_and_grad(bbb.priors.kl))(q, prior)
    assert value.shape == ()
    assert value.dtype == dtype
    assert all(np.isfinite(leaf).all() for leaf in leaves(grad))
    np.testing.assert_allclose(value, sum(leaf.sum() for leaf in leaves(prior.kl_of_weights(q))), rtol=1e-5)


@pytest.mark.parametrize("prior", [Laplace(0.3, 0.7), ScaleMixture(0.25, 2.0, 0.05)])
def test_log_prob_of_other_priors_is_that_of_scipy(prior, dtype):
    params = spread(0, -2, 2, dtype)
    w = np.concatenate([leaf.ravel() for leaf in leaves(params)])
    if isinstance(prior, Laplace):
        expected = scipy.stats.laplace.logpdf(w, 0.3, 0.7)
    else:
        expected = np.log(0.25 * scipy.stats.norm.pdf(w, 0, 2.0) + 0.75 * scipy.stats.norm.pdf(w, 0, 0.05))
    value = prior.log_prob(params)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected.sum(), rtol=64 * np.finfo(dtype).eps)


def test_a_mixture_of_two_equal_gaussians_is_that_gaussian_to_the_estimates_error(dtype):
    q = bbb.MeanField.around(spread(0, -1, 1, dtype), 0.3)

    @jax.jit
    def ask(q):
        mixture = WithNoise(ScaleMixture(0.3, 0.8, 0.8), tree_noise(q, 4000))
        return mixture.kl(q), mixture.kl_std_error(q), bbb.priors.kl(q, Normal(0.0, 0.8))

    estimate, error, exact = map(float, ask(q))
    assert 0 < error < 0.1
    assert abs(estimate - exact) < 5 * error


def tree_noise(posterior, draws):
    keys = jax.random.split(jax.random.key(3), draws)
    return jax.vmap(posterior.noise)(keys)


def test_the_kl_from_a_scale_mixture_is_the_integral_and_its_error_is_what_it_varies_by():
    means, s, prior = np.array([0.0, 0.03, 0.8]), 0.1, ScaleMixture(0.5, 1.0, 0.05)

    def integral(m):
        q = scipy.stats.norm(m, s)

        def log_p(w):
            return np.log(0.5 * scipy.stats.norm.pdf(w) + 0.5 * scipy.stats.norm.pdf(w, 0, 0.05))

        return scipy.integrate.quad(lambda w: q.pdf(w) * (q.logpdf(w) - log_p(w)), m - 12 * s, m + 12 * s, points=[m])[
            0
        ]

    exact = sum(map(integral, means))
    with jax.enable_x64(True):
        q = bbb.MeanField.around(jnp.asarray(means), s)

        def estimate(key):
            noisy = with_noise(key, prior, q, 2)
            return noisy.kl(q), jnp.square(noisy.kl_std_error(q))

        values, squares = map(np.asarray, jax.jit(jax.vmap(estimate))(jax.random.split(KEY, 4000)))
        assert abs(values.mean() - exact) < 5 * values.std() / np.sqrt(4000)
        assert abs(squares.mean() - values.var()) < 5 * np.hypot(squares.std(), np.sqrt(2) * values.var()) / np.sqrt(
            4000
        )
        assert abs(float(bbb.priors.kl(q, prior, key=KEY, draws=20_000)) - exact) < 5 * values.std() * np.sqrt(
            2 / 20_000
        )


def test_the_gradient_of_the_estimate_is_that_of_the_integral_on_average():
    with jax.enable_x64(True):
        q = bbb.MeanField.around(jnp.asarray([0.2]), 0.3)
        prior = ScaleMixture(0.3, 0.8, 0.8)  # a Gaussian, whose gradient is known
        grads = jax.vmap(lambda k: jax.grad(lambda q: bbb.priors.kl(q, prior, key=k, draws=2))(q))(
            jax.random.split(KEY, 4000)
        )
        exact = jax.grad(lambda q: bbb.priors.kl(q, Normal(0.0, 0.8)))(q)
        for got, want in zip(leaves(grads), leaves(exact), strict=True):
            assert abs(got.mean() - want.item()) < 5 * got.std() / np.sqrt(4000)


def test_a_kl_without_a_closed_form_asks_for_a_key():
    q = bbb.MeanField.around(jnp.zeros(3), 0.1)
    do = r"Pass bbb\.priors\.kl\(posterior, prior, key=jax\.random\.key\(0\), draws=1000\)\."
    with pytest.raises(bbb.errors.InputError, match=f"a key, to estimate a KL that has no closed form, got none. {do}"):
        bbb.priors.kl(q, ScaleMixture())
    with pytest.raises(bbb.errors.KeyTypeError):
        bbb.priors.kl(q, ScaleMixture(), key=0)
    assert float(bbb.priors.kl(q, Normal(), key=KEY)) == float(bbb.priors.kl(q, Normal()))


def test_the_std_that_is_learned_is_the_one_of_the_least_kl(dtype):
    q = bbb.MeanField.around(spread(0, -2, 2, dtype), spread(1, 0.01, 1, dtype))
    for per, stds in {"leaf": 4, "layer": 2, "network": 1}.items():
        prior = EmpiricalNormal(0.1, per)
        fitted = prior.fitted(q)
        assert len({float(leaf) for leaf in jax.tree.leaves(fitted.std)}) == stds
        least = float(bbb.priors.kl(q, prior))
        assert least == pytest.approx(float(bbb.priors.kl(q, Normal(0.1, fitted.std))), rel=1e-5)
        for factor in (0.9, 1.1):
            std = jax.tree.map(lambda s, factor=factor: s * factor, fitted.std)
            assert float(bbb.priors.kl(q, Normal(0.1, std))) > least
    log_ratio = [np.log(std) - log_s for std, log_s in zip(leaves(fitted.std), leaves(q.log_std), strict=True)]
    assert least == pytest.approx(sum(leaf.sum() for leaf in log_ratio), rel=1e-4)


def test_learned_stds_are_those_of_the_layers_own_weights():
    q = bbb.MeanField.around(spread(0, -2, 2, "float32"), 0.3)
    std = EmpiricalNormal(per="layer").fitted(q).std
    for layer, of_layer in zip(q.mean, std, strict=True):
        weights = np.concatenate([np.asarray(leaf).ravel() for leaf in layer.values()])
        expected = np.sqrt(np.mean(weights**2) + 0.3**2)
        np.testing.assert_allclose([of_layer["bias"], of_layer["weight"]], expected, rtol=1e-5)


def test_other_priors_leave_point_estimates_out():
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    part = bbb.MeanField.around(params, 0.1, where={"a": True, "b": False})
    whole = bbb.MeanField.around({"a": params["a"]}, 0.1)
    for prior in (Laplace(), EmpiricalNormal(), EmpiricalNormal(per="network")):
        np.testing.assert_allclose(bbb.priors.kl(part, prior), bbb.priors.kl(whole, prior), rtol=1e-6)
    np.testing.assert_allclose(
        bbb.priors.kl(part, ScaleMixture(), key=KEY), bbb.priors.kl(whole, ScaleMixture(), key=KEY), rtol=1e-5
    )


def test_scales_by_fan_in_keep_the_variance_of_a_layer():
    params = {"dense": jnp.zeros((7, 50)), "conv": jnp.zeros((4, 3, 5, 5)), "bias": jnp.zeros(7)}
    std = fan_in(params).std
    np.testing.assert_allclose([std["dense"], std["conv"], std["bias"]], np.sqrt([2 / 50, 2 / 75, 1]))
    flax = fan_in({"kernel": jnp.zeros((5, 5, 3, 4))}, gain=1.0, output_axis=-1).std
    np.testing.assert_allclose(flax["kernel"], np.sqrt(1 / 75))
    with pytest.raises(bbb.errors.InputError, match="gain to be finite and above 0"):
        fan_in(params, gain=0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Laplace(np.nan), "prior mean to be finite"),
        (lambda: Laplace(0.0, 0.0), "prior scale to be finite and above 0, got 0.0. Pass a positive prior scale."),
        (lambda: ScaleMixture(0.0), "prior weight to be finite and above 0"),
        (
            lambda: ScaleMixture((0.5, 1.0)),
            r"prior weight to be inside \(0, 1\), got 1.0. Pass the weight of the first",
        ),
        (lambda: ScaleMixture(0.5, -1.0), "prior std to be finite and above 0"),
        (lambda: EmpiricalNormal(np.inf), "prior mean to be finite"),
        (lambda: EmpiricalNormal(per="row"), 'per to be "leaf", "layer" or "network", got \'row\'. Pass per="layer".'),
    ],
)
def test_numbers_that_make_no_prior_are_refused(make, message):
    with pytest.raises(bbb.errors.InputError, match=message):
        make()


@pytest.mark.parametrize(
    "prior", [Laplace((0.0, 1.0, 2.0)), ScaleMixture((0.1, 0.2, 0.3)), EmpiricalNormal((0.0,) * 3)]
)
def test_other_priors_that_are_no_prefix_are_refused_by_bayesianize(prior):
    with pytest.raises(bbb.errors.ShapeError, match="to be a number or a tree that is a prefix of the parameters'"):
        bbb.bayesianize(lambda w, x: x, spread(0, -1, 1, "float32"), prior=prior, likelihood=bbb.likelihoods.Gaussian())
