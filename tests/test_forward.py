"""Forwards: a network with random weights, its chance apart from its arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import bbb

KEY = jax.random.key(3)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 5), bbb.nn.tanh, bbb.nn.linear(5, 3))
X = np.random.default_rng(0).normal(size=(7, 2)).astype("float32")


def posterior():
    return bbb.MeanField.around(NETWORK.init(jax.random.key(0)), 0.3)


def test_weight_sampling_is_the_network_at_one_sample_of_the_weights():
    q = posterior()
    outputs = bbb.weight_sampling(NETWORK.apply)(KEY, q, X)
    np.testing.assert_array_equal(outputs, NETWORK.apply(bbb.sample(KEY, q), X))


def test_noise_and_evaluate_together_are_the_forward():
    q, forward = posterior(), bbb.weight_sampling(NETWORK.apply)
    noise = forward.noise(KEY, q, X)
    np.testing.assert_array_equal(forward.evaluate(noise, q, X), forward(KEY, q, X))
    assert jax.tree.map(jnp.shape, noise) == jax.tree.map(jnp.shape, q.mean)


def test_evaluate_without_noise_is_the_network_at_the_mean():
    q = posterior()
    outputs = bbb.weight_sampling(NETWORK.apply).evaluate(jax.tree.map(jnp.zeros_like, q.mean), q, X)
    np.testing.assert_array_equal(outputs, NETWORK.apply(q.mean, X))


def test_one_draw_is_shared_by_all_rows():
    q = posterior()
    outputs = bbb.weight_sampling(NETWORK.apply)(KEY, q, np.tile(X[:1], (4, 1)))
    np.testing.assert_array_equal(outputs, np.tile(outputs[:1], (4, 1)))


def test_forwards_of_one_network_are_equal_so_that_programs_are_reused():
    assert bbb.weight_sampling(NETWORK.apply) == bbb.weight_sampling(NETWORK.apply)
    assert hash(bbb.weight_sampling(NETWORK.apply)) == hash(bbb.weight_sampling(NETWORK.apply))


def test_a_plain_function_serves_as_a_forward():
    def apply(w, x):
        return x @ w

    def forward(key, q, x):
        return apply(bbb.sample(key, q), x)

    model = bbb.bayesianize(
        apply, jnp.ones((2, 1)), prior=bbb.prior.Normal(0.0, 1.0), likelihood=bbb.likelihood.Gaussian(0.5), std=0.3
    )
    y, optimizer = np.zeros((7, 1)), optax.sgd(1e-3)
    _, built_in = bbb.fit(KEY, model, X, y, steps=20, draws=2, optimizer=optimizer)
    _, plain = bbb.fit(KEY, model, X, y, steps=20, draws=2, optimizer=optimizer, forward=forward)
    np.testing.assert_allclose(plain.loss, built_in.loss, rtol=1e-4)  # the same draws, to float rounding
    value, _ = bbb.negative_elbo(KEY, model, X, y, draws=2)
    same, _ = bbb.negative_elbo(KEY, model, X, y, draws=2, forward=forward)
    np.testing.assert_allclose(same, value, rtol=1e-5)
