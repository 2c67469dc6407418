"""What a model with a Laplace posterior predicts: the exact predictive of a linear network, and wider between data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.posteriors import FullRank, LowRankPrecision

KEY = jax.random.key(0)


def regression_on(rows, noise=0.3, prior_std=0.7):
    """Return a linear model, its data, and the exact mean and std of f at other rows."""
    rng = np.random.default_rng(1)
    x, new = rng.normal(size=(rows, 5)), rng.normal(size=(40, 5))
    y = x @ rng.normal(size=(5, 1)) + noise * rng.normal(size=(rows, 1))
    layer = bbb.nn.linear(5, 1)
    a, b = (np.hstack([array, np.ones((len(array), 1))]) for array in (x, new))
    covariance = np.linalg.inv(a.T @ a / noise**2 + np.eye(6) / prior_std**2)
    weights = covariance @ a.T @ y / noise**2
    params = {"weight": weights[:5].T, "bias": weights[5]}
    model = bbb.bayesianize(
        layer.apply,
        jax.tree.map(jnp.asarray, params),
        prior=bbb.priors.Normal(0.0, prior_std),
        likelihood=bbb.likelihoods.Gaussian(noise),
    )
    return model, x, y, new, b @ weights, np.sqrt(np.einsum("ni,ij,nj->n", b, covariance, b))[:, None]


@pytest.mark.parametrize(("rows", "kind"), [(30, FullRank), (4, LowRankPrecision)])
def test_the_predictive_of_a_linear_network_is_exact_without_draws(rows, kind):
    with jax.enable_x64(True):
        model, x, y, new, mean, std = regression_on(rows)
        made = bbb.laplace(KEY, model, x, y)
        assert type(made.posterior) is kind
        band = bbb.predict(KEY, made, new)
        assert (band.method, band.draws, band.assumptions) == ("moments", 0, ())
        np.testing.assert_allclose(band.f.mean, mean, rtol=1e-8)
        np.testing.assert_allclose(band.f.std, std, rtol=1e-8)
        np.testing.assert_allclose(band.y.std, np.sqrt(std**2 + 0.3**2), rtol=1e-8)


def test_draws_agree_with_it_within_their_errors():
    with jax.enable_x64(True):
        model, x, y, new, mean, std = regression_on(4)
        band = bbb.predict(KEY, bbb.laplace(KEY, model, x, y), new, method="draws", draws=4_000)
        assert (np.abs(band.f.mean - mean) < 4 * band.f.mcse_mean).all()
        assert (np.abs(band.f.std - std) < 4 * band.f.mcse_std).all()


def test_a_file_holds_it(tmp_path):
    model, x, y, new, *_ = regression_on(4)
    made = bbb.laplace(KEY, model, x, y)
    bbb.save(tmp_path / "model", made)
    read = bbb.load(tmp_path / "model", like=made)
    assert read.linearized
    for part in ("mean", "std"):
        np.testing.assert_array_equal(
            getattr(bbb.predict(KEY, read, new).f, part), getattr(bbb.predict(KEY, made, new).f, part)
        )


def test_the_band_widens_between_clusters_where_independent_weights_do_not():
    """The case of Foong et al. 2020, arXiv 1909.00719; `python -m benchmarks.gap` compares with NUTS."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-1.6, -0.7, 40), rng.uniform(0.7, 1.6, 40)])[:, None]
    y = 0.7 * np.sin(4 * x) + 0.4 * x + 0.1 * rng.normal(size=x.shape)
    network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
    model = bbb.bayesianize(
        network.apply, network.init(KEY), prior=bbb.priors.Normal(0.0, 1.0), likelihood=bbb.likelihoods.Gaussian(0.1)
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 3_000))
    at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
    independent, _ = bbb.fit(KEY, model, x, y, steps=3_000, optimizer=optimizer)
    mode, _ = bbb.fit(KEY, model, x, y, steps=3_000, optimizer=optimizer, objective=at_mean)
    gap, clusters = np.linspace(-0.3, 0.3, 13)[:, None], x[::8]

    def ratio(model):
        return np.mean(bbb.predict(KEY, model, gap).f.std) / np.mean(bbb.predict(KEY, model, clusters).f.std)

    assert ratio(bbb.laplace(KEY, mode, x, y)) > 2 * ratio(independent)
