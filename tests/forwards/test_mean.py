"""The network at the posterior's mean: without noise, and the way to the maximum a posteriori."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.errors import InputError

KEY = jax.random.key(0)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
X = np.random.default_rng(0).normal(size=(20, 2))
Y = X[:, :1] - 0.5 * X[:, 1:]


def model_of(apply=NETWORK.apply, params=None, dtype="float32", **options):
    params = NETWORK.init(KEY) if params is None else params
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    prior, likelihood = bbb.priors.Normal(0.2, 0.7), bbb.likelihoods.Gaussian(0.3)
    return bbb.bayesianize(apply, params, prior=prior, likelihood=likelihood, **options)


@pytest.mark.parametrize("make", [bbb.MeanField.around, bbb.posteriors.FullRank.around])
def test_it_is_the_network_with_the_mean_whatever_the_key(make, dtype):
    model = model_of(dtype=dtype, posterior=make, std=0.5)
    x = X.astype(dtype)
    expected = model.apply(model.posterior.params, x)
    for seed in range(2):
        found = bbb.forwards.at_mean(model.apply)(jax.random.key(seed), model.posterior, x)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_it_is_one_of_its_network():
    assert bbb.forwards.at_mean(NETWORK.apply) == bbb.forwards.at_mean(NETWORK.apply)
    assert hash(bbb.forwards.at_mean(NETWORK.apply)) == hash(bbb.forwards.at_mean(NETWORK.apply))
    with pytest.raises(InputError, match=r"got bbb\.forwards\.at_mean itself\. Pass bbb\.forwards\.at_mean\(model"):
        bbb.fit(KEY, model_of(), X, Y, steps=1, objective=bbb.train.Objective(forward=bbb.forwards.at_mean))


def test_training_ends_at_the_mode_and_at_the_standard_deviations_of_the_prior():
    """For a linear network the mode is that of Bayesian linear regression, in closed form."""
    linear = bbb.nn.linear(2, 1)
    with jax.enable_x64(True):
        model = model_of(linear.apply, linear.init(KEY), "float64")
        forward = bbb.forwards.at_mean(model.apply)
        optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 4_000))
        trained, _ = bbb.fit(
            KEY, model, X, Y, steps=4_000, optimizer=optimizer, objective=bbb.train.Objective(forward=forward)
        )
        features = np.hstack([X, np.ones((len(X), 1))])
        precision = features.T @ features / 0.3**2 + np.eye(3) / 0.7**2
        mode = np.linalg.solve(precision, features.T @ Y / 0.3**2 + 0.2 / 0.7**2)[:, 0]
        params = trained.posterior.params
        found = np.concatenate([np.ravel(params["weight"]), np.ravel(params["bias"])])
        np.testing.assert_allclose(found, mode, atol=1e-6)
        for std in jax.tree.leaves(trained.posterior.std):
            np.testing.assert_allclose(std, 0.7, rtol=1e-4)


def test_the_gradient_has_no_noise():
    model = model_of()
    forward = bbb.forwards.at_mean(model.apply)

    def gradient(key):
        cost = lambda posterior: jnp.sum(forward(key, posterior, X.astype("float32")))  # noqa: E731
        return jax.grad(cost)(model.posterior)

    jax.tree.map(np.testing.assert_array_equal, gradient(jax.random.key(1)), gradient(jax.random.key(2)))
