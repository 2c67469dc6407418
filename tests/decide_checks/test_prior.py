"""The prior predictive: of a linear model known in closed form, and of every prior of the library."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import likelihoods, priors
from bbb.decide.model_checks import at_prior, prior_predict
from bbb.posteriors import Ensemble
from tests.decide_checks.models import KEY, X_TRAIN
from tests.truth.conjugate import NOISE_STD, model_of

NETWORK = bbb.nn.linear(2, 1)
PRIORS = {
    "normal": (priors.Normal(0.5, 2.0), 0.5, 2.0),
    "laplace": (priors.Laplace(0.5, 2.0), 0.5, 2.0 * np.sqrt(2)),
    "mixture": (priors.ScaleMixture(0.3, 2.0, 0.5), 0.0, np.sqrt(0.3 * 4 + 0.7 * 0.25)),
}


def of(prior, **options):
    return bbb.bayesianize(
        NETWORK.apply, NETWORK.init(KEY), prior=prior, likelihood=likelihoods.Gaussian(NOISE_STD), **options
    )


def test_a_gaussian_prior_has_a_kl_of_exactly_0_and_the_closed_form_of_the_linear_model(dtype):
    model = at_prior(model_of(2))
    assert float(bbb.priors.kl(model.posterior, model.prior)) == 0
    band = prior_predict(KEY, model, X_TRAIN, draws=4_000)
    std = np.sqrt(np.sum(np.square(X_TRAIN), axis=1, keepdims=True))
    np.testing.assert_array_less(np.abs(band.f.mean), 4.5 * band.f.mcse_mean)
    np.testing.assert_array_less(np.abs(band.f.std - std), 4.5 * band.f.mcse_std)
    np.testing.assert_allclose(band.y.std, np.sqrt(np.square(band.f.std) + NOISE_STD**2), rtol=1e-4)
    assert band.f.mean.dtype == dtype


@pytest.mark.parametrize("name", PRIORS)
def test_draws_have_the_mean_and_the_std_of_the_prior(name):
    prior, mean, std = PRIORS[name]
    f = prior_predict(KEY, of(prior, where="weight"), np.array([[1.0, 0.0]]), draws=4_000).f
    bias = float(NETWORK.init(KEY)["bias"][0])  # a point estimate stays what it is
    assert abs(f.mean[0, 0] - bias - mean) < 4.5 * f.mcse_mean[0, 0]
    assert abs(f.std[0, 0] - std) < 4.5 * f.mcse_std[0, 0]


def test_a_mixture_has_the_kurtosis_of_its_two_parts():
    draws = priors.ScaleMixture(0.3, 2.0, 0.5).sample_params(KEY, jnp.zeros(40_000))
    fourth = 3 * (0.3 * 2**4 + 0.7 * 0.5**4)
    assert abs(float(jnp.mean(draws**4)) - fourth) < 4.5 * float(jnp.std(draws**4)) / 200


def test_antithetic_draws_of_a_prior_off_0_are_its_draws_too():
    model = at_prior(of(priors.Laplace(3.0, 0.5)))
    f = bbb.predict(KEY, model, np.array([[1.0, 0.0]]), draws=2_000, sampling="antithetic").f
    assert abs(f.mean[0, 0] - 6.0) < 4.5 * f.mcse_mean[0, 0]


def test_scales_that_follow_from_the_posterior_are_held():
    model = of(priors.EmpiricalNormal())
    held = model.prior.fitted(model.posterior)
    found = at_prior(model)
    np.testing.assert_allclose(found.posterior.std["weight"], np.full((1, 2), held.std["weight"]), rtol=1e-6)


def test_of_an_ensemble_it_is_that_of_the_first_member_and_never_linearised():
    model = of(priors.Normal())
    posterior = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), model.posterior)
    found = at_prior(dataclasses.replace(model, posterior=Ensemble(posterior), linearized=True))
    assert found.members == 1
    assert not found.linearized


def test_several_outputs_give_a_tree():
    def apply(params, x):
        return {"a": x @ params, "b": -x @ params}

    parts = {"a": likelihoods.Gaussian(1.0), "b": likelihoods.Gaussian(2.0)}
    model = bbb.bayesianize(apply, jnp.ones((2, 1)), prior=priors.Laplace(), likelihood=parts)
    found = prior_predict(KEY, model, X_TRAIN, draws=50)
    np.testing.assert_allclose(found["a"].f.mean, -found["b"].f.mean, atol=1e-6)


def test_what_it_shows_names_the_prior():
    assert "Laplace(mean=0.0, scale=1.0)" in repr(at_prior(of(priors.Laplace())).posterior)
