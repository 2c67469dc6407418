"""The bulk normals: the very words of JAX's generator, and the inverse of the normal distribution function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import bbb
from bbb.core import noise as noise_module

KEY = jax.random.key(7)


@pytest.mark.parametrize("size", [1, 2, 17, 1001, 2**17])
def test_words_are_those_of_jax(size):
    np.testing.assert_array_equal(noise_module.random_words(KEY, size), jax.random.bits(KEY, (size,)))


def test_words_of_many_keys_at_once_are_those_of_each():
    keys = jax.random.split(KEY, 5)
    together = jax.vmap(lambda k: noise_module.random_words(k, 33))(keys)
    np.testing.assert_array_equal(together, jnp.stack([noise_module.random_words(k, 33) for k in keys]))


def test_a_word_becomes_the_quantile_of_its_place():
    """Over all the places that matter: the two ends, and a million between."""
    places = np.unique(np.concatenate([np.arange(5000), np.linspace(0, 2**23 - 1, 1_000_000).astype(np.int64)]))
    places = np.concatenate([-1 - places[::-1], places])  # of 2²⁴, from −2²³ to 2²³ − 1
    words = (places << 8).astype(np.int32).view(np.uint32)
    x = (2 * places + 1) / 2**24
    tail = np.sign(x) * scipy.special.erfcinv(1 - np.abs(x))
    exact = np.sqrt(2) * np.where(np.abs(x) < 0.9, scipy.special.erfinv(x), tail)
    found = np.asarray(jax.jit(noise_module.normal_of_word)(words), np.float64)
    np.testing.assert_allclose(found, exact, rtol=2e-6)
    assert np.all(np.diff(found) > -1e-6)
    np.testing.assert_allclose(found, -found[::-1], rtol=1e-6)  # symmetric: their mean is 0


def test_the_lowest_bits_of_a_word_do_not_count():
    words = jax.random.bits(KEY, (1000,))
    np.testing.assert_array_equal(
        noise_module.normal_of_word(words), noise_module.normal_of_word(words | np.uint32(255))
    )


def test_normals_are_normal():
    noise = np.asarray(noise_module.normals(KEY, 2_000_000, np.float32), np.float64)
    n = noise.size
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(noise**power) - moment) < 4 * np.sqrt(variance / n)
    assert scipy.stats.kstest(noise[:200_000], "norm").pvalue > 1e-3
    assert abs(np.mean(noise[1:] * noise[:-1])) < 4 / np.sqrt(n)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("key", [KEY, jax.random.key(7, impl="rbg")], ids=["threefry", "rbg"])
def test_normals_of_16_bits_are_float32s_rounded(dtype, key):
    """JAX's own of bfloat16 take 128 values, none beyond 2.9, and their mean is −0.012: in a sum of 1,000, −0.4 sd."""
    noise = noise_module.normals(key, 100_000, dtype)
    np.testing.assert_array_equal(noise, noise_module.normals(key, 100_000, np.float32).astype(dtype))
    wide = np.asarray(noise, np.float64)
    assert abs(wide.mean()) < 4 / np.sqrt(len(wide))
    assert np.abs(wide).max() > 4


def test_other_generators_are_those_of_jax():
    key = jax.random.key(7, impl="rbg")
    np.testing.assert_array_equal(noise_module.normals(key, 9, np.float32), jax.random.normal(key, (9,)))


def test_observations_of_16_bits_are_drawn_in_float32():
    outputs = jnp.zeros((100_000, 1), jnp.bfloat16)
    likelihoods = bbb.likelihoods.Gaussian(1.0), bbb.likelihoods.StudentT(1.0, 5.0)
    for likelihood in (jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), noise) for noise in likelihoods):
        y = likelihood.sample(KEY, outputs)
        assert y.dtype == jnp.bfloat16
        assert len(np.unique(np.asarray(y, np.float32))) > 1000
        assert abs(np.asarray(y, np.float64).mean()) < 4 * np.sqrt(5 / 3 / len(y))


def test_a_posterior_is_sampled_by_them():
    posterior = bbb.MeanField.around({"w": jnp.zeros((300, 300))}, std=1.0)
    noise = bbb.posteriors.sample(KEY, posterior)["w"].reshape(-1)
    np.testing.assert_array_equal(noise, noise_module.normals(KEY, 90_000, np.float32))
