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
        bbb.networks.standardize(NETWORK.apply, x, y),
        PARAMS,
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5 * float(np.std(y)), learn=True),
    )
    return bbb.fit(jax.random.key(1), model, x, y, steps=100)[0]


def test_the_network_sees_standardised_columns_and_the_outputs_are_in_original_units(dtype):
    x, y = (10 * X + 3).astype(dtype), 100 * Y - 7
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    got = bbb.networks.standardize(NETWORK.apply, x, y)(params, x)
    inside = ((x - x.mean(0)) / x.std(0)).astype(dtype)
    expected = y.mean() + y.std() * np.asarray(NETWORK.apply(params, inside))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", ["int32", "bool"])
def test_whole_numbers_are_standardised_like_others(kind):
    """A mean and a std that were rounded to whole numbers made every prediction the mean of y, in silence."""
    x = (np.arange(60).reshape(30, 2) % 7).astype(kind)
    y = 0.3 * np.sin(x.sum(1, keepdims=True))
    apply = bbb.networks.standardize(NETWORK.apply, x, y)
    want = apply(PARAMS, x.astype("float32"))
    np.testing.assert_array_equal(apply(PARAMS, x), want)
    assert np.std(want) > 1e-3


def test_units_do_not_matter():
    x, y = 10 * X + 3, 100 * Y - 7
    plain, scaled = (bbb.predict(jax.random.key(2), learned(*data), data[0], draws=100) for data in ((X, Y), (x, y)))
    np.testing.assert_allclose(scaled.y.mean, 100 * plain.y.mean - 7, rtol=1e-2, atol=0.5)
    np.testing.assert_allclose(scaled.y.std, 100 * plain.y.std, rtol=1e-2)


def test_noise_of_each_row_is_in_original_units():
    """The second half of the outputs is log stds: that of y = 100·z − 7 is larger by log(100), and not moved by −7."""
    wide, x = bbb.nn.linear(2, 2), X.astype("float32")
    params = wide.init(jax.random.key(0))
    plain, scaled = (bbb.networks.standardize(wide.apply, X, y)(params, x) for y in (Y, 100 * Y - 7))
    np.testing.assert_allclose(scaled[:, :1], 100 * plain[:, :1] - 7, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scaled[:, 1:], plain[:, 1:] + np.log(100), rtol=1e-5)
    inside = (x - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(plain[:, 1:], wide.apply(params, inside)[:, 1:] + np.log(Y.std()), rtol=1e-4, atol=1e-5)


def test_outputs_that_fit_no_column_of_y_are_refused():
    wide = bbb.nn.linear(2, 3)
    expected = (
        r"Expected a network with 1 outputs, one for each column of y, or 2: means, then log stds, got outputs of"
    )
    with pytest.raises(bbb.errors.ShapeError, match=expected):
        bbb.networks.standardize(wide.apply, X, Y)(wide.init(jax.random.key(0)), X.astype("float32"))


def test_equal_ones_compare_equal():
    assert bbb.networks.standardize(NETWORK.apply, X, Y) == bbb.networks.standardize(NETWORK.apply, X, Y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, 0], Y, r"Expected x of shape \(rows, columns\), got shape \(60,\)\. Pass x\.reshape"),
        (
            X,
            np.ones((60, 1)),
            r"Expected y\[:, 0\] to vary, got 1 in every row\. A constant column carries no information: remove it\.",
        ),
        (np.where(X > 2, np.nan, X), Y, "x"),
    ],
)
def test_what_cannot_be_standardised_is_refused(x, y, message):
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.networks.standardize(NETWORK.apply, x, y)


def test_what_is_no_network_is_refused():
    with pytest.raises(bbb.errors.InputError, match=r"a network to standardise, got 3\. Pass a function"):
        bbb.networks.standardize(3, X, Y)


def test_a_training_mode_is_that_of_the_network_on_standardised_columns():
    """Dropout and running statistics train the same within the two maps as on columns standardised by hand."""
    layers = bbb.nn.linear(2, 4), bbb.nn.batch_norm(4), bbb.nn.tanh, bbb.nn.dropout(0.2), bbb.nn.linear(4, 1)
    network = bbb.nn.sequential(*layers)
    params, (x, y) = network.init(jax.random.key(0)), (10 * X + 3, 100 * Y - 7)
    by_hand = (x - x.mean(0)) / x.std(0), (y - y.mean(0)) / y.std(0)
    trained = []
    for apply, data, noise in (
        (network.apply, by_hand, 0.5),
        (bbb.networks.standardize(network.apply, x, y), (x, y), 0.5 * y.std()),
    ):
        likelihood = bbb.likelihoods.Gaussian(noise, learn=True)
        model = bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=likelihood)
        trained.append(bbb.fit(jax.random.key(1), model, *data, steps=20, progress=False)[0])
    hand, wrapped = (model.posterior for model in trained)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), hand.mean, wrapped.mean)
    assert not np.array_equal(wrapped.mean[1]["running_mean"], params[1]["running_mean"])
    assert jax.tree.structure(hand.log_std) == jax.tree.structure(wrapped.log_std)  # statistics have no Gaussian


def test_another_librarys_network_keeps_its_state_and_is_given_back():
    linen = pytest.importorskip("flax.linen")
    module = linen.Sequential([linen.Dense(3), linen.BatchNorm(use_running_average=True), linen.Dense(1)])
    with jax.numpy_rank_promotion("allow"):
        apply, variables = bbb.networks.adapters.linen(module, module.init(jax.random.key(0), X[:1]))
        beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian()}
        model = bbb.bayesianize(bbb.networks.standardize(apply, X, Y), variables, **beliefs)
    assert jax.tree.leaves(model.posterior.log_std["batch_stats"]) == []
    assert bbb.networks.adapters.restore(model, model.posterior.mean).keys() == {"params", "batch_stats"}
    with pytest.raises(
        bbb.errors.InputError, match=r"another library's own object, a Sequential\. Pass the first value that bbb\."
    ):
        bbb.networks.standardize(module, X, Y)


def test_a_network_without_a_training_mode_has_none_within():
    assert not any(
        hasattr(bbb.networks.standardize(NETWORK.apply, X, Y), name) for name in ("train", "state", "restore")
    )
