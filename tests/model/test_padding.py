"""Padded sequences: a network that takes its mask with x, so that a padded place changes nothing, bit for bit.

x is (rows, places, features + 1), whose last column is 1 at a place of the sequence and 0 at padding. The network
leaves padding out by `where`, before any weight meets it, and gives it a share of 0 after that.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
ROWS, PLACES, FEATURES, UNITS = 8, 5, 2, 4
LENGTHS = RNG.integers(1, PLACES + 1, ROWS)
IS_THERE = np.arange(PLACES) < LENGTHS[:, None]


def pooled(params, x):
    """Return one number a row: attention over the places of a sequence, and a layer on what it finds."""
    values, there = x[..., :-1], x[..., -1:] > 0
    values = jnp.where(there, values, 0)
    keys = jnp.tanh(values @ params["keys"])
    scores = jnp.where(there, keys @ params["query"], -jnp.inf)
    shares = jax.nn.softmax(scores, axis=1)
    return jnp.sum(shares * keys, axis=1) @ params["out"]


def params():
    keys = jax.random.split(KEY, 3)
    shapes = {"keys": (FEATURES, UNITS), "query": (UNITS, 1), "out": (UNITS, 1)}
    return {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}


def model():
    noise = bbb.likelihoods.Gaussian(0.3, learn=True)
    return bbb.bayesianize(pooled, params(), prior=bbb.priors.Normal(), likelihood=noise)


def padded(padding, places=PLACES):
    """Return sequences of fewer places than there are, the rest of which is this padding."""
    values = np.random.default_rng(1).normal(size=(ROWS, PLACES, FEATURES))
    x = np.full((ROWS, places, FEATURES + 1), padding, "float32")
    x[:, :PLACES, :-1] = np.where(IS_THERE[..., None], values, padding)
    x[..., -1] = np.pad(IS_THERE, ((0, 0), (0, places - PLACES)))
    return x


Y = RNG.normal(size=(ROWS, 1)).astype("float32")


@pytest.mark.parametrize("forward", [None, bbb.forwards.flipout])
def test_what_padding_holds_changes_no_training_and_no_prediction_bit_for_bit(forward):
    objective = forward and bbb.train.Objective(forward=forward(pooled))
    options = {"steps": 10, "batch_size": 4, "optimizer": optax.adam(1e-2), "objective": objective}
    found = []
    for padding in (0.0, 1e6):
        trained, history = bbb.fit(KEY, model(), padded(padding), Y, **options)
        found.append((trained, history.loss, bbb.predict(KEY, trained, padded(padding), draws=8).y.mean))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_padding_changes_nothing_beyond_the_rounding_of_longer_sums():
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), params())
        short, long = (pooled(wide, jnp.asarray(padded(0.5, places), "float64")) for places in (PLACES, 12))
        np.testing.assert_allclose(short, long, rtol=1e-14)
