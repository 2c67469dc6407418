"""A standardised network learns the same whatever the units, and answers in them."""

import jax
import numpy as np
import pytest

import bbb

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X[:, :1] - np.abs(X[:, 1:]) + 0.1 * RNG.normal(size=(60, 1))
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))
PARAMS = NETWORK.init(jax.random.key(0))


def learned(x, y):
    model = bbb.bayesianize(
        bbb.standardize(NETWORK.apply, x, y),
        PARAMS,
        prior=bbb.prior.Normal(),
        likelihood=bbb.likelihood.Gaussian(0.5 * float(np.std(y)), learn=True),
    )
    return bbb.fit(jax.random.key(1), model, x, y, steps=100)[0]


def test_the_network_sees_standardised_columns_and_the_outputs_are_in_original_units(dtype):
    x, y = (10 * X + 3).astype(dtype), 100 * Y - 7
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    got = bbb.standardize(NETWORK.apply, x, y)(params, x)
    inside = ((x - x.mean(0)) / x.std(0)).astype(dtype)
    expected = y.mean() + y.std() * np.asarray(NETWORK.apply(params, inside))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-3)


def test_units_do_not_matter():
    x, y = 10 * X + 3, 100 * Y - 7
    plain, scaled = (bbb.predict(jax.random.key(2), learned(*data), data[0], draws=100) for data in ((X, Y), (x, y)))
    np.testing.assert_allclose(scaled.y.mean, 100 * plain.y.mean - 7, rtol=1e-2, atol=0.5)
    np.testing.assert_allclose(scaled.y.std, 100 * plain.y.std, rtol=1e-2)


def test_equal_ones_compare_equal():
    assert bbb.standardize(NETWORK.apply, X, Y) == bbb.standardize(NETWORK.apply, X, Y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, 0], Y, r"Expected x of shape \(rows, columns\), got shape \(60,\)\. Pass x\.reshape"),
        (X, np.ones((60, 1)), r"Expected y\[:, 0\] to vary, got 1 in every row\. It says nothing: leave it out\."),
        (np.where(X > 2, np.nan, X), Y, "x"),
    ],
)
def test_what_cannot_be_standardised_is_refused(x, y, message):
    with pytest.raises(bbb.InputError, match=message):
        bbb.standardize(NETWORK.apply, x, y)


def test_what_is_no_network_is_refused():
    with pytest.raises(bbb.InputError, match=r"a network to standardise, got 3\. Pass a function"):
        bbb.standardize(3, X, Y)


def test_a_training_mode_is_not_hidden():
    network = bbb.nn.sequential(bbb.nn.linear(2, 3), bbb.nn.batch_norm(3), bbb.nn.linear(3, 1))
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.prior.Normal(),
        likelihood=bbb.likelihood.Gaussian(),
    )
    with pytest.raises(bbb.InputError, match="a network without a training mode, got one with dropout or statistics"):
        bbb.standardize(model.apply, X, Y)
