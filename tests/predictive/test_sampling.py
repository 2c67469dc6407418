"""Enough draws and no more, mirrored draws, and Monte Carlo errors that stay honest for both."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import bbb
from bbb.predictive import api, summary
from bbb.predictive.estimates import function_quantiles

KEYS = jax.random.split(jax.random.key(7), 200)


def linear(params, x):
    return x @ params["w"]


def curved(params, x):
    return jnp.exp(0.5 * (x @ params["w"]))


def model_of(apply, std=0.5):
    params = {"w": jnp.asarray([[1.0], [-0.5]], jnp.float32)}
    return bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.3), std=std)


X = np.array([[1.0, 0.0], [0.5, -1.0], [2.0, 1.0]], np.float32)


def test_every_second_antithetic_draw_mirrors_the_one_before():
    draws = bbb.draws(KEYS[0], model_of(linear), X, draws=6, sampling="antithetic")
    centre = linear(model_of(linear).posterior.mean, X)
    np.testing.assert_allclose(draws[::2] + draws[1::2], jnp.stack([2 * centre] * 3), rtol=1e-5)
    independent = bbb.draws(KEYS[0], model_of(linear), X, draws=6)
    np.testing.assert_array_equal(draws[::2], independent[::2])


def test_the_mean_of_a_linear_network_is_exact_from_one_pair():
    band = bbb.predict(KEYS[0], model_of(linear), X, draws=2, sampling="antithetic")
    np.testing.assert_allclose(band.f.mean, linear(model_of(linear).posterior.mean, X), rtol=1e-5)


def test_antithetic_draws_have_a_smaller_error_in_the_mean_and_say_so():
    one, two = (
        bbb.predict(KEYS[0], model_of(curved), X, draws=2000, sampling=sampling).f.mcse_mean
        for sampling in ("independent", "antithetic")
    )
    assert np.all(two < 0.7 * one)


def test_antithetic_draws_do_not_depend_on_memory():
    one, two = (
        bbb.draws(KEYS[0], model_of(curved), X, draws=1000, sampling="antithetic", memory=memory)
        for memory in ("512MB", "300kB")
    )
    np.testing.assert_array_equal(one, two)


# E f = exp(m/2 + s²/8), for x·w ~ N(m, s²); Var f = (exp(s²/4) − 1)·(E f)².
@pytest.mark.parametrize("sampling", ["independent", "antithetic"])
def test_errors_are_right_by_repetition(sampling):
    model = model_of(curved)
    mean = np.float64(X @ np.asarray(model.posterior.mean["w"]))
    variance = np.float64((X**2).sum(1, keepdims=True) * 0.25)
    exact_mean = np.exp(mean / 2 + variance / 8)
    exact_std = exact_mean * np.sqrt(np.expm1(variance / 4))
    exact_median = np.exp(mean / 2)
    z = {"mean": [], "std": [], "median": []}
    for key in KEYS:
        f = bbb.predict(key, model, X, draws=2000, sampling=sampling, quantiles=(0.5,)).f
        z["mean"].append((f.mean - exact_mean) / f.mcse_mean)
        z["std"].append((f.std - exact_std) / f.mcse_std)
        z["median"].append((f.quantile(0.5) - exact_median) / np.maximum(f.mcse_quantile(0.5), 1e-9))
    for name, values in z.items():
        if sampling == "antithetic" and name == "median":
            continue  # mirrored draws put the median where it is, almost without error: nothing to divide by
        # 200 z-scores at each of 3 rows: their mean square is 1 ± 5·√(2/200), and more where ratios have tails
        square = np.mean(np.square(values), axis=0)
        assert np.all(np.abs(square - 1) < 5 * np.sqrt(2 / len(KEYS))), (name, square)


def test_auto_draws_until_the_tolerance_is_met():
    loose, tight = (bbb.predict(KEYS[0], model_of(curved), X, draws="auto", tolerance=t) for t in (0.3, 0.02))
    assert loose.draws == api.FIRST_DRAWS
    assert tight.draws > loose.draws
    for band, tolerance in ((loose, 0.3), (tight, 0.02)):
        for marginal in (band.f, band.y):
            assert np.all(marginal.mcse_mean <= tolerance)
            assert np.all(marginal.mcse_std <= tolerance)
    half = bbb.predict(KEYS[0], model_of(curved), X, draws=tight.draws // 4)
    assert max(half.f.mcse_mean.max(), half.f.mcse_std.max()) > 0.02  # a quarter would not have been enough


def test_auto_is_that_many_draws():
    auto = bbb.predict(KEYS[0], model_of(curved), X, draws="auto", tolerance=0.02)
    fixed = bbb.predict(KEYS[0], model_of(curved), X, draws=auto.draws)
    np.testing.assert_array_equal(auto.f.mean, fixed.f.mean)


def test_auto_heeds_the_ends_of_the_intervals_asked_for():
    model = model_of(curved)
    plain = bbb.predict(KEYS[0], model, X, draws="auto", tolerance=0.2)
    asked = bbb.predict(KEYS[0], model, X, draws="auto", tolerance=0.2, levels=(0.98,))
    assert asked.draws > plain.draws
    assert np.max(asked.f.mcse_interval(0.98)) <= 0.2


def test_auto_is_not_ended_by_an_error_that_happens_to_be_small():
    # f is N(0, 1): at p = .9985 the error of 16,000 draws is .063, and 25,300 bring it to .05
    ps = summary.tails(0.997)

    def ended(key):
        values = jax.random.normal(key, (128_000, 1))

        def with_draws(draws):
            ends = function_quantiles(values[:draws], ps)
            marginal = SimpleNamespace(mcse=lambda ps: [0.0, 0.0, *(error for _, error in ends)])
            return SimpleNamespace(f=marginal, y=marginal, draws=draws, ends=[float(value[0]) for value, _ in ends])

        return api._until(with_draws, 0.05, ps, even=False)

    found = [ended(key) for key in jax.random.split(jax.random.key(5), 100)]
    assert {band.draws for band in found} <= {32_000, 64_000, 128_000}
    z = (np.array([band.ends for band in found]) - scipy.stats.norm.ppf(ps)) / 0.05
    assert np.sqrt(np.mean(z**2)) < 1.05
    assert np.abs(z).max() < 4


def test_the_three_ways_agree():
    bands = [
        bbb.predict(KEYS[0], model_of(curved), X, draws=20_000),
        bbb.predict(KEYS[1], model_of(curved), X, draws=20_000, sampling="antithetic"),
    ]
    a, b = (band.f for band in bands)
    assert np.all(np.abs(a.mean - b.mean) < 5 * np.hypot(a.mcse_mean, b.mcse_mean))
    assert np.all(np.abs(a.std - b.std) < 5 * np.hypot(a.mcse_std, b.mcse_std))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"draws": "auto"}, "a tolerance with draws=\"auto\", and only then, got draws='auto' and tolerance=None"),
        ({"draws": 10, "tolerance": 0.1}, 'a tolerance with draws="auto", and only then'),
        ({"draws": "auto", "tolerance": 0.0}, "tolerance to be finite and above 0, got 0.0"),
        ({"draws": "auto", "tolerance": 1e-9}, "a tolerance that 1,024,000 draws can reach, got 1e-09"),
        ({"draws": "many"}, "draws to be a whole number or \"auto\", got 'many'"),
        (
            {"sampling": "halton"},
            "sampling to be one of independent, antithetic, sobol, got 'halton'. Pass one of them",
        ),
        ({"draws": 11, "sampling": "antithetic"}, "an even number of antithetic draws, got 11. Pass 12"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(bbb.errors.InputError) as caught:
        bbb.predict(KEYS[0], model_of(linear), X, **arguments)
    assert message in str(caught.value)
