"""Acquisition scores: what they are by arithmetic of the draws themselves, and in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import bbb
from bbb import likelihoods
from bbb.decide import acquisition
from bbb.decide.acquisition.scores import _gaussian_improvement
from tests.decide_acquire.models import KEY, NOISE, X, classes, members, model_of

DRAWS = 60


def drawn(model, x=X, **options):
    return np.asarray(bbb.draws(KEY, model, x, draws=DRAWS, **options), np.float64)


def improvement(values, best):
    return np.maximum(values - best, 0).mean(axis=0)


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def linear():
    return dataclasses.replace(model_of(), linearized=True)


def test_the_scores_are_those_of_the_same_draws(dtype):
    model, rtol = model_of(dtype=dtype), 1e-4 if dtype == "float32" else 1e-10
    values = drawn(model)[..., 0]
    spread = values.var(axis=0, ddof=1)
    found = {
        "variance": acquisition.variance(KEY, model, X, draws=DRAWS),
        "information": acquisition.bald(KEY, model, X, draws=DRAWS),
        "improvement": acquisition.expected_improvement(KEY, model, X, 0.2, draws=DRAWS),
        "less": acquisition.expected_improvement(KEY, model, X, 0.2, maximize=False, draws=DRAWS),
        "bound": acquisition.upper_confidence_bound(KEY, model, X, 1.5, draws=DRAWS),
        "lower": acquisition.upper_confidence_bound(KEY, model, X, 1.5, maximize=False, draws=DRAWS),
    }
    expected = {
        "variance": spread,
        "information": 0.5 * np.log1p(spread / NOISE**2),
        "improvement": improvement(values, 0.2),
        "less": improvement(-values, -0.2),
        "bound": values.mean(axis=0) + 1.5 * np.sqrt(spread),
        "lower": -values.mean(axis=0) + 1.5 * np.sqrt(spread),
    }
    for name, scores in found.items():
        assert scores.shape == (len(X),)
        assert scores.dtype == dtype
        np.testing.assert_allclose(scores, expected[name], rtol=rtol, atol=rtol, err_msg=name)


def test_the_variance_is_what_predict_calls_epistemic(model):
    band = bbb.predict(KEY, model, X, draws=DRAWS)
    np.testing.assert_allclose(acquisition.variance(KEY, model, X, draws=DRAWS), band.f.std[:, 0] ** 2, rtol=1e-5)


def test_of_a_count_the_variance_is_that_of_the_rate():
    model = model_of(likelihoods.Poisson())
    y = bbb.predict(KEY, model, X, draws=DRAWS).y
    found = acquisition.variance(KEY, model, X, draws=DRAWS)
    np.testing.assert_allclose(found, (y.std**2 - y.mean)[:, 0], rtol=1e-4)  # Var y = Var m + E m


@pytest.mark.parametrize("outputs", [2, 3])
def test_of_several_outputs_and_of_classes_variances_are_summed(outputs):
    numbers, labels = model_of(outputs=outputs), classes(outputs)
    np.testing.assert_allclose(
        acquisition.variance(KEY, numbers, X, draws=DRAWS), drawn(numbers).var(axis=0, ddof=1).sum(axis=1), rtol=1e-4
    )
    p = np.asarray(jax.nn.softmax(drawn(labels)))
    np.testing.assert_allclose(
        acquisition.variance(KEY, labels, X, draws=DRAWS), p.var(axis=0, ddof=1).sum(axis=1), rtol=1e-4
    )


@pytest.mark.parametrize("model", [classes(), model_of(likelihoods.Bernoulli())], ids=["classes", "0 or 1"])
def test_of_classes_bald_is_the_epistemic_entropy(model):
    entropy = bbb.predict(KEY, model, X, draws=DRAWS).y.entropy.epistemic
    np.testing.assert_array_equal(acquisition.bald(KEY, model, X, draws=DRAWS), np.asarray(entropy).reshape(-1))


def test_of_several_numbers_bald_is_of_their_covariance():
    noise = np.array([0.3, 0.1])
    model = model_of(likelihoods.Gaussian(noise), outputs=2)
    covariances = [np.cov(row, rowvar=False) for row in np.moveaxis(drawn(model), 1, 0)]
    expected = [0.5 * np.linalg.slogdet(np.eye(2) + c / np.outer(noise, noise))[1] for c in covariances]
    np.testing.assert_allclose(acquisition.bald(KEY, model, X, draws=DRAWS), expected, rtol=1e-4)


def mixture_information(means, stds):
    """Return I(y; draw) of a mixture of Gaussians, by quadrature."""
    grid = np.linspace((means - 9 * stds).min(), (means + 9 * stds).max(), 20_001)
    density = norm.pdf(grid[:, None], means, stds).mean(axis=1)
    total = -np.trapezoid(density * np.log(np.maximum(density, 1e-300)), grid)
    return total - np.mean(np.log(stds) + 0.5 * np.log(2 * np.pi * np.e))


def test_with_varying_noise_bald_bounds_the_information_from_above():
    model = model_of(likelihoods.HeteroscedasticGaussian(), outputs=2)
    outputs = drawn(model)
    means, stds = outputs[..., 0], np.exp(outputs[..., 1])
    exact = np.array([mixture_information(*row) for row in zip(means.T, stds.T, strict=True)])
    found = acquisition.bald(KEY, model, X, draws=DRAWS)
    total = means.var(axis=0, ddof=1) + np.mean(stds**2, axis=0)
    np.testing.assert_allclose(found, 0.5 * np.log(total) - np.log(stds).mean(axis=0), rtol=1e-4)
    assert (found > exact).all()


def test_a_linearised_model_needs_no_draws_and_its_scores_are_those_of_a_gaussian(linear):
    f = bbb.predict(KEY, linear, X).f
    mean, std = f.mean[:, 0], f.std[:, 0]
    other = jax.random.key(9)
    np.testing.assert_array_equal(acquisition.variance(other, linear, X), std**2)
    np.testing.assert_allclose(acquisition.bald(other, linear, X), 0.5 * np.log1p((std / NOISE) ** 2), rtol=1e-5)
    np.testing.assert_allclose(acquisition.upper_confidence_bound(other, linear, X), mean + 2 * std, rtol=1e-5)
    z = (mean - 0.4) / std
    expected = std * (norm.pdf(z) + z * norm.cdf(z))
    np.testing.assert_allclose(acquisition.expected_improvement(other, linear, X, 0.4), expected, rtol=1e-4)


def test_the_improvement_by_draws_agrees_with_the_closed_form(linear):
    draws = 4_000
    closed = acquisition.expected_improvement(KEY, linear, X, 0.4)
    found = acquisition.expected_improvement(KEY, linear, X, 0.4, method="draws", draws=draws)
    values = np.asarray(bbb.draws(KEY, linear, X, draws=draws))[..., 0]
    error = np.maximum(values - 0.4, 0).std(axis=0) / np.sqrt(draws)
    assert np.max(np.abs(found - closed) / error) < 4


@pytest.mark.parametrize("z", [-30.0, -12.0, -3.0, 0.0, 2.0, 40.0])
def test_the_improvement_keeps_its_digits_far_below_the_best(z):
    # E max(g, 0) = φ(z)·∫ t·exp(z·t − t²/2) dt over t > 0, which does not cancel below 0
    below, _ = quad(lambda t: t * np.exp(-abs(z) * t - t * t / 2), 0, np.inf, epsabs=0, epsrel=1e-10)
    expected = 0.5 * (norm.pdf(z) * below + max(z, 0))
    found = _gaussian_improvement(np.array([0.5 * z]), np.array([0.5]))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert found > 0


def test_without_spread_the_improvement_is_what_it_is():
    np.testing.assert_array_equal(_gaussian_improvement(np.array([-1.0, 2.0]), np.zeros(2)), [0, 2])


def test_scores_do_not_depend_on_the_memory_or_on_other_rows(model):
    many = np.resize(X, (150, 2))
    ask = {"draws": 20_000}
    for score in (acquisition.variance, acquisition.upper_confidence_bound):
        wide = score(KEY, model, many, **ask)
        np.testing.assert_array_equal(score(KEY, model, many, memory="30MB", **ask), wide)
        np.testing.assert_allclose(score(KEY, model, many[:3], **ask), wide[:3], rtol=2e-4)


def test_of_an_ensemble_the_spread_between_the_members_counts(model):
    several = members(model, (0.0, 0.5, 1.0), std=1e-4)
    band = bbb.predict(KEY, several, X, draws=DRAWS)
    found = acquisition.variance(KEY, several, X, draws=DRAWS)
    np.testing.assert_allclose(found, band.f.std[:, 0] ** 2, rtol=1e-4)
    centres = np.stack(
        [np.asarray(several.member(k).apply(several.posterior[k].mean, jnp.float32(X))) for k in range(3)]
    )
    np.testing.assert_allclose(found, centres[..., 0].var(axis=0) * DRAWS / (DRAWS - 1), rtol=1e-2)


def test_antithetic_draws_and_rows_together_are_those_of_predict(model):
    for options in ({"sampling": "antithetic"}, {"rows": "together"}):
        band = bbb.predict(KEY, model, X, draws=DRAWS, **options)
        found = acquisition.variance(KEY, model, X, draws=DRAWS, **options)
        np.testing.assert_allclose(found, band.f.std[:, 0] ** 2, rtol=1e-5)


def test_one_output_of_several_is_asked_by_its_name():
    both = {"a": likelihoods.Gaussian(NOISE), "b": likelihoods.Gaussian(NOISE)}
    network = model_of(outputs=2)

    def apply(params, x):
        outputs = network.apply(params, x)
        return {"a": outputs[:, :1], "b": outputs[:, 1:]}

    model = bbb.bayesianize(apply, network.posterior.mean, prior=bbb.priors.Normal(), likelihood=both, std=0.5)
    found = acquisition.variance(KEY, model.head("b"), X, draws=DRAWS)
    np.testing.assert_allclose(found, drawn(network)[..., 1].var(axis=0, ddof=1), rtol=1e-4)
