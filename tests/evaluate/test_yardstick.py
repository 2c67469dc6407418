"""A band against one that is trusted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import bbb

KEY = jax.random.key(0)
X = np.linspace(-2, 2, 5, dtype=np.float32)[:, None]
STD = np.log(np.float32(0.1))


def slope(params, x):
    return x @ params["w"] + params["b"][None]


def model(shift=0.0, wider=0.0):
    params = {"w": jnp.ones((1, 1)), "b": jnp.full(1, shift)}
    made = bbb.bayesianize(slope, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5))
    posterior = bbb.MeanField(params, jax.tree.map(lambda leaf: jnp.full(leaf.shape, STD + wider), params))
    return dataclasses.replace(made, posterior=posterior, linearized=True)  # so that moments are exact


def test_a_model_agrees_with_itself():
    found = bbb.evaluate.agreement(KEY, model(), model(), X)
    np.testing.assert_array_equal(found.ratio, np.ones((5, 1)))
    np.testing.assert_array_equal(found.off, np.zeros((5, 1)))


def test_it_is_the_ratio_of_stds_and_the_distance_of_means_in_those_of_the_reference():
    found = bbb.evaluate.agreement(KEY, model(shift=0.3, wider=np.float32(np.log(2))), model(), X)
    np.testing.assert_allclose(found.ratio, np.full((5, 1), 2.0), rtol=1e-5)
    np.testing.assert_allclose(found.off, 0.3 / (0.1 * np.sqrt(1 + X**2)), rtol=1e-5)
