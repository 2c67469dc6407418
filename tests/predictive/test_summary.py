"""What is said of the draws: their own means, spreads and quantiles, and errors that are the size they claim."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

import bbb
from bbb.predictive.estimates import function_quantiles, observation_quantiles

NOISE = 0.3
STD = 0.5
DRAWS = 801
KEY = jax.random.key(1)
X = np.array([[0.5], [1.0], [-1.5]])


def straight_and_bent(w, x):
    """Two outputs whose distributions are known: w·x is Gaussian, exp(w·x) log-normal."""
    return jnp.concatenate([w * x, jnp.exp(w * x)], axis=1)


def model_of(dtype, mean=0.4, std=STD):
    return bbb.bayesianize(
        straight_and_bent,
        jnp.asarray(mean, dtype),
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian([NOISE, 2 * NOISE]),
        std=std,
    )


def draws_and_band(dtype, **options):
    model = model_of(dtype)
    draws = np.asarray(bbb.draws(KEY, model, X, draws=DRAWS), "float64")
    return draws, bbb.predict(KEY, model, X, draws=DRAWS, **options)


def rounding(dtype):
    return 1e3 * np.finfo(dtype).eps


# --- the numbers are those of the draws ------------------------------------------------------------------------------


def test_mean_and_std_are_numpys_of_the_draws(dtype):
    draws, band = draws_and_band(dtype)
    assert band.draws == band.f.draws == band.y.draws == DRAWS
    for marginal in (band.f, band.y):
        assert marginal.mean.shape == marginal.std.shape == (3, 2)
        assert marginal.mean.dtype == marginal.std.dtype == dtype
        np.testing.assert_allclose(marginal.mean, draws.mean(0), rtol=rounding(dtype), atol=rounding(dtype))
    np.testing.assert_allclose(band.f.std, draws.std(0, ddof=1), rtol=rounding(dtype))


def test_the_variance_of_y_is_that_of_f_and_of_the_noise(dtype):
    _, band = draws_and_band(dtype)
    expected = band.f.std**2 + np.array([NOISE, 2 * NOISE]) ** 2
    np.testing.assert_allclose(band.y.std**2, expected, rtol=rounding(dtype))


@pytest.mark.parametrize("centre", [1e3, 1e4])
def test_a_spread_far_from_0_keeps_its_digits(centre):
    # E[x²] − E[x]² in float32 would lose all of it; at 1e4 the rounding of the mean is a twentieth of the std.
    model = bbb.bayesianize(
        lambda w, x: centre + w * x,
        jnp.zeros(()),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(1.0),
        std=0.01,
    )
    x = np.ones((1, 1))
    draws = np.asarray(bbb.draws(KEY, model, x, draws=DRAWS), "float64")
    np.testing.assert_allclose(bbb.predict(KEY, model, x, draws=DRAWS).f.std, draws.std(0, ddof=1), rtol=1e-4)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.997])
def test_an_interval_of_f_lies_between_numpys_quantiles_of_the_draws(level, dtype):
    draws, band = draws_and_band(dtype)
    lower, upper = band.f.interval(level)
    assert lower.dtype == dtype
    np.testing.assert_allclose(lower, np.quantile(draws, (1 - level) / 2, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(upper, np.quantile(draws, (1 + level) / 2, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [0.001, 0.025, 0.5, 0.9, 0.9985])
def test_a_quantile_of_y_solves_the_equation_of_the_mixture(p, dtype):
    draws, band = draws_and_band(dtype)
    root = np.float64(band.y.quantile(p))
    noise = np.array([NOISE, 2 * NOISE])
    cdf = scipy.stats.norm.cdf(root, draws, noise).mean(0)
    # rounding: of a mean of probabilities, and of the root itself, whose slope is the density
    size = 1 + scipy.stats.norm.pdf(root, draws, noise).mean(0) * np.abs(root)
    assert (np.abs(cdf - p) < 64 * np.finfo(dtype).eps * size).all()


def test_sigma_intervals_are_mean_plus_and_minus_stds():
    _, band = draws_and_band("float32")
    for marginal in (band.f, band.y):
        lower, upper = marginal.sigma_interval(3.0)
        np.testing.assert_allclose(lower, marginal.mean - 3 * marginal.std, rtol=1e-6)
        np.testing.assert_allclose(upper, marginal.mean + 3 * marginal.std, rtol=1e-6)


def test_quantiles_rise_with_p_and_intervals_are_nested():
    _, band = draws_and_band("float32")
    for marginal in (band.f, band.y):
        values = np.stack([marginal.quantile(p) for p in (0.001, 0.025, 0.5, 0.9, 0.9985)])
        assert (np.diff(values, axis=0) > 0).all()
        assert (marginal.interval(0.997).lower < marginal.interval(0.5).lower).all()


def test_without_weight_noise_f_is_a_point_and_y_is_the_noise(dtype):
    band = bbb.predict(KEY, model_of(dtype, std=1e-30), X, draws=50)
    exact = np.concatenate([0.4 * X, np.exp(0.4 * X)], axis=1)
    noise = np.array([NOISE, 2 * NOISE])
    np.testing.assert_allclose(band.f.mean, exact, rtol=1e-5)
    np.testing.assert_allclose(band.f.std, 0.0, atol=1e-6)
    np.testing.assert_allclose(band.y.std, np.broadcast_to(noise, (3, 2)), rtol=1e-5)
    for level in (0.5, 0.997):
        half = scipy.stats.norm.ppf((1 + level) / 2) * noise
        np.testing.assert_allclose(band.y.interval(level).upper, exact + half, rtol=1e-4)
        np.testing.assert_allclose(band.y.interval(level).lower, exact - half, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [1 - 1e-8, 1 - 1e-10])
def test_intervals_of_many_sigmas_are_right_or_refused(level, dtype):
    # 1 − 5e-9 is 1 in float32: an upper end taken from it would be infinite.
    band = bbb.predict(KEY, model_of(dtype, mean=0.0, std=1e-30), X, draws=50)
    try:
        lower, upper = band.y.interval(level)
    except bbb.errors.InputError:
        return
    half = scipy.stats.norm.isf((1 - level) / 2) * NOISE
    np.testing.assert_allclose(lower[:, 0], -half, rtol=1e-3)
    np.testing.assert_allclose(upper[:, 0], half, rtol=1e-3)


def test_one_draw_has_no_spread_and_an_unknown_error():
    band = bbb.predict(KEY, model_of("float32"), X, draws=1)
    np.testing.assert_array_equal(band.f.std, 0.0)
    np.testing.assert_allclose(band.y.std[:, 0], NOISE, rtol=1e-5)
    np.testing.assert_array_equal(band.f.quantile(0.9), band.f.mean)
    for marginal in (band.f, band.y):
        for error in (marginal.mcse_mean, marginal.mcse_std, marginal.mcse_quantile(0.9)):
            assert np.isinf(error).all()


# --- levels ----------------------------------------------------------------------------------------------------------


def test_levels_known_up_front_and_asked_for_later_give_the_same_numbers(dtype):
    _, later = draws_and_band(dtype)
    _, before = draws_and_band(dtype, levels=(0.95,), quantiles=(0.1,))
    for a, b in ((before.f, later.f), (before.y, later.y)):
        for left, right in zip(a.interval(0.95), b.interval(0.95), strict=True):
            np.testing.assert_allclose(left, right, rtol=64 * np.finfo(dtype).eps)
        np.testing.assert_allclose(a.quantile(0.1), b.quantile(0.1), rtol=64 * np.finfo(dtype).eps)
        np.testing.assert_allclose(a.mcse_quantile(0.1), b.mcse_quantile(0.1), rtol=1e-3)


def test_draws_that_are_not_kept_answer_what_was_asked_and_refuse_the_rest():
    model, x = model_of("float32"), np.linspace(-1, 1, 1500)[:, None]
    with pytest.raises(bbb.errors.InputError, match="memory of at least") as caught:
        bbb.predict(KEY, model, x, draws=20, memory=1)
    least = int(re.search(r"at least ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    band = bbb.predict(KEY, model, x, draws=20, levels=(0.95,), memory=least)
    kept = bbb.predict(KEY, model, x, draws=20, levels=(0.95,))
    np.testing.assert_array_equal(band.f.interval(0.95), kept.f.interval(0.95))
    np.testing.assert_allclose(band.y.quantile(0.975), kept.y.quantile(0.975), rtol=1e-6)  # by another program
    with pytest.raises(bbb.errors.QuantileError) as caught:
        band.y.interval(0.5)
    message = str(caught.value)
    assert "Expected a quantile that was asked for when predicting (0.025, 0.975)" in message
    assert "got 0.25, and the draws were too many to keep" in message
    assert "Pass predict(..., levels=(0.95,)) for intervals or quantiles=(0.1,) for quantiles" in message
    assert "a larger memory" in message


# --- Monte Carlo errors ----------------------------------------------------------------------------------------------

REPEATS = 200
ONE_ROW = np.array([[1.0]])
ESTIMATES = {
    "mean": (lambda m: m.mean, lambda m: m.mcse_mean),
    "std": (lambda m: m.std, lambda m: m.mcse_std),
    "quantile 0.1": (lambda m: m.quantile(0.1), lambda m: m.mcse_quantile(0.1)),
    "quantile 0.8": (lambda m: m.quantile(0.8), lambda m: m.mcse_quantile(0.8)),
    "lower of 3 sigma": (lambda m: m.sigma_interval(3.0).lower, lambda m: m.mcse_sigma_interval(3.0).lower),
    "upper of 3 sigma": (lambda m: m.sigma_interval(3.0).upper, lambda m: m.mcse_sigma_interval(3.0).upper),
}


@pytest.fixture(scope="module")
def repeated():
    model = model_of("float32", mean=0.2, std=0.3)
    return [bbb.predict(jax.random.key(i), model, ONE_ROW, draws=DRAWS, quantiles=(0.1, 0.8)) for i in range(REPEATS)]


def exact(which, output, name):
    """Return the true value, from closed forms and from quadrature."""
    mean, std, noise = 0.2, 0.3, (NOISE, 2 * NOISE)[output] if which == "y" else 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    values = mean + std * nodes if output == 0 else np.exp(mean + std * nodes)
    weights = weights / weights.sum()
    centre = weights @ values
    spread = np.sqrt(weights @ (values - centre) ** 2 + noise**2)
    if name.startswith("quantile"):
        p = float(name.split()[1])
        if noise:
            mixture = lambda y: weights @ scipy.special.ndtr((y - values) / noise) - p  # noqa: E731
            return scipy.optimize.brentq(mixture, -10, 10)
        value = mean + std * scipy.stats.norm.ppf(p)
        return value if output == 0 else np.exp(value)
    return {"mean": centre, "std": spread, "lower of 3 sigma": centre - 3 * spread}.get(name, centre + 3 * spread)


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("output", [0, 1], ids=["gaussian", "lognormal"])
@pytest.mark.parametrize("which", ["f", "y"])
def test_errors_are_as_large_as_they_claim(which, output, name, repeated):
    (value, error), truth = ESTIMATES[name], exact(which, output, name)
    marginals = [getattr(band, which) for band in repeated]
    z = np.array([(value(m)[0, output] - truth) / error(m)[0, output] for m in marginals])
    low, high = scipy.stats.chi2.ppf(scipy.stats.norm.cdf([-5, 5]), REPEATS) / REPEATS
    assert low < np.mean(z**2) < high


def test_errors_fall_with_the_root_of_the_number_of_draws(repeated):
    few = repeated[0]
    many = bbb.predict(KEY, model_of("float32", mean=0.2, std=0.3), ONE_ROW, draws=16 * DRAWS)
    for a, b in ((few.f, many.f), (few.y, many.y)):
        np.testing.assert_allclose(a.mcse_mean / b.mcse_mean, 4.0, rtol=0.25)
        np.testing.assert_allclose(a.mcse_std / b.mcse_std, 4.0, rtol=0.4)


def test_the_errors_of_an_interval_are_those_of_its_two_quantiles():
    _, band = draws_and_band("float32")
    for marginal in (band.f, band.y):
        errors = marginal.mcse_interval(0.95)
        np.testing.assert_array_equal(errors.lower, marginal.mcse_quantile(0.025))
        np.testing.assert_array_equal(errors.upper, marginal.mcse_quantile(0.975))
        assert (np.stack(errors) > 0).all()


FAR_OUT = (0.9, 0.95, 0.99, 0.997, 0.999)


@pytest.mark.parametrize("draws", [100, 200, 1000, 10_000])
def test_the_truth_lies_within_two_errors_of_quantiles_far_out(draws):
    # also where fewer than one draw lies beyond: of 100 draws, 0.05 above the upper end of a level of .999
    values = jax.random.normal(jax.random.key(0), (draws, 400))
    for level in FAR_OUT:
        ps = (1 - level) / 2, (1 + level) / 2
        z = [
            (np.float64(value) - scipy.stats.norm.ppf(p)) / error
            for p, (value, error) in zip(ps, function_quantiles(values, ps), strict=True)
        ]
        assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98, level


@pytest.mark.parametrize("draws", [2, 3, 7, 20])
def test_few_draws_know_how_little_they_say(draws):
    values = jax.random.normal(jax.random.key(0), (draws, 4000))
    for p in (0.5, 0.9, 0.9985):
        ((value, error),) = function_quantiles(values, (p,))
        assert 0.93 < np.mean(np.abs(np.float64(value) - scipy.stats.norm.ppf(p)) < 1.96 * error) < 0.97, p


NORMAL = bbb.likelihoods.Gaussian(0.3)
BOTH_ENDS = tuple(p for level in FAR_OUT for p in ((1 - level) / 2, (1 + level) / 2))


def held(values, noise, truth, group=1):
    """Return the share of 1.96 errors that hold the true quantile of y, for each p of `BOTH_ENDS`."""
    found = observation_quantiles(bbb.likelihoods.Gaussian(noise), values, BOTH_ENDS, group=group)
    pairs = zip(BOTH_ENDS, found, strict=True)
    return [np.mean(np.abs(np.float64(value) - truth(p)) < 1.96 * np.float64(error)) for p, (value, error) in pairs]


def of_gaussian(noise):
    return lambda p: np.hypot(1, noise) * scipy.stats.norm.ppf(p)


@pytest.mark.parametrize(
    ("draws", "keys", "noises"),
    [(100, 1200, (0.1, 0.5, 1.5)), (300, 1200, (1.5,)), (1000, 600, (0.5,)), (10_000, 300, (0.3,))],
)
def test_the_truth_lies_within_two_errors_of_quantiles_of_y_far_out(draws, keys, noises):
    # of 100 draws, 0.05 lie above the upper end of a level of .999: their own spread held the truth in 10 % of cases
    # noises, keys and (but for 100 and 1,000) numbers of draws are others than those that the constants were chosen by
    values = jax.random.normal(jax.random.key(987_000 + draws), (draws, keys))
    for noise in noises:
        shares = held(values, noise, of_gaussian(noise))
        for level, low, high in zip(FAR_OUT, shares[::2], shares[1::2], strict=True):
            assert 0.92 < 0.5 * (low + high) < 0.98, (noise, level)


@pytest.mark.parametrize("draws", [5, 20])
def test_few_draws_know_how_little_they_say_of_y(draws):
    values = jax.random.normal(jax.random.key(0), (draws, 1000))
    for noise in (0.1, 0.7):
        shares = held(values, noise, of_gaussian(noise))
        assert 0.84 < min(shares) <= max(shares) < 0.998


def test_errors_of_y_of_skewed_draws_hold_where_draws_lie_beyond():
    # 50, 25, 5, 1.5 and 0.5 of 1,000 draws: a tail that no draw has seen is taken to be Gaussian, and one is longer
    noise, nodes = 0.15, np.exp(0.3 * scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000))
    values = jnp.exp(0.3 * jax.random.normal(jax.random.key(0), (1000, 300)))

    def truth(p):
        return scipy.optimize.brentq(lambda y: scipy.special.ndtr((y - nodes) / noise).mean() - p, -2, 9)

    shares = held(values, noise, truth)
    assert min(shares[::2]) > 0.92  # of the shorter tail
    assert min(shares[1:4:2]) > 0.92
    assert min(shares[1::2]) > 0.8


def test_errors_of_y_know_which_draws_depend_on_each_other():
    half = jax.random.normal(jax.random.key(0), (100, 300))
    mirrored = jnp.stack([half, -half], axis=1).reshape(200, 300)
    for noise in (0.2, 1.0):
        shares = held(mirrored, noise, of_gaussian(noise), group=2)
        assert 0.89 < min(shares) <= max(shares) < 0.99


def test_errors_of_y_of_an_ensemble_are_cautious():
    # three members apart: few draws of the outer ones lie beyond, and between the members there are none
    at, own, noise = np.array([-1.0, 0.0, 1.5]), 0.5, 0.5
    values = jnp.tile(jnp.asarray(at, "float32"), 100)[:, None] + own * jax.random.normal(jax.random.key(0), (300, 300))

    def truth(p):
        return scipy.optimize.brentq(lambda y: scipy.special.ndtr((y - at) / np.hypot(own, noise)).mean() - p, -9, 9)

    assert min(held(values, noise, truth, group=3)) > 0.92


def test_one_group_of_draws_has_an_unknown_error():
    values = jax.random.normal(jax.random.key(0), (2, 5))
    for found in (function_quantiles(values, (0.9,), group=2), observation_quantiles(NORMAL, values, (0.9,), group=2)):
        assert np.isinf(found[0][1]).all()
    band = bbb.predict(KEY, model_of("float32"), X, draws=2, sampling="antithetic", quantiles=(0.9,))
    for marginal in (band.f, band.y):
        for error in (marginal.mcse_mean, marginal.mcse_std, marginal.mcse_quantile(0.9)):
            assert np.isinf(error).all()
        assert np.isinf(np.stack(marginal.mcse_sigma_interval(2.0))).all()
