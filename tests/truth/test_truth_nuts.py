"""A small network against NUTS, which assumes nothing about the posterior: where the bands agree, and where not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb

numpyro = pytest.importorskip("numpyro", reason="NUTS is NumPyro's: pip install numpyro")

RNG = np.random.default_rng(1)
NOISE_STD = 0.3
X = np.concatenate([RNG.uniform(-2, -0.5, 20), RNG.uniform(0.5, 2, 20)])[:, None].astype("f4")
Y = (np.sin(2 * X) + NOISE_STD * RNG.normal(size=X.shape)).astype("f4")
GRID = np.linspace(-2, 2, 41, dtype="f4")[:, None]
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))
SHAPES = jax.tree.map(jnp.shape, NETWORK.init(jax.random.key(0)))


def log_density(params):
    """Return the logarithm of the joint density of parameters and data, up to a constant, for a prior N(0, 1)."""
    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    residuals = (jnp.asarray(Y) - NETWORK.apply(params, jnp.asarray(X))) / NOISE_STD
    return -0.5 * squares - 0.5 * jnp.sum(residuals**2)


@pytest.fixture(scope="module")
def nuts():
    """Sample functions on the grid from the exact posterior: (chains, samples, grid)."""
    kernel = numpyro.infer.NUTS(potential_fn=lambda params: -log_density(params))
    starts = jax.vmap(NETWORK.init)(jax.random.split(jax.random.key(5), 4))
    run = numpyro.infer.MCMC(
        kernel, num_warmup=600, num_samples=1_000, num_chains=4, chain_method="vectorized", progress_bar=False
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        run.run(jax.random.key(6), init_params=starts)
    params = run.get_samples(group_by_chain=True)
    functions = jax.jit(jax.vmap(jax.vmap(lambda p: NETWORK.apply(p, jnp.asarray(GRID))[:, 0])))(params)
    return np.asarray(functions, float)


@pytest.fixture(scope="module")
def predictive():
    model = bbb.bayesianize(
        NETWORK.apply,
        NETWORK.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(NOISE_STD),
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 4_000))
    forward = bbb.forwards.local_reparam(NETWORK.apply)
    model, _ = bbb.fit(
        jax.random.key(9),
        model,
        X,
        Y,
        steps=4_000,
        objective=bbb.train.Objective(draws=8, forward=forward),
        optimizer=optimizer,
    )
    return bbb.predict(jax.random.key(3), model, GRID, draws=10_000)


@pytest.mark.slow
def test_the_chains_agree_with_each_other(nuts):
    assert np.max(np.std(nuts.mean(axis=1), axis=0)) < 0.02


@pytest.mark.slow
def test_the_mean_is_that_of_the_exact_posterior_within_a_third_of_its_std(nuts, predictive):
    exact = nuts.reshape(-1, len(GRID))
    assert np.max(np.abs(predictive.f.mean[:, 0] - exact.mean(axis=0)) / exact.std(axis=0)) < 1 / 3


@pytest.mark.slow
def test_the_band_has_the_known_faults_of_independent_weights_and_no_others(nuts, predictive):
    """Too narrow between the data, by about a fifth, and too wide among them: weights cannot trade off.

    Source: Foong et al. 2020, arXiv 1909.00719, who prove the first fault for one hidden layer of rectified units.
    """
    ratio = predictive.f.std[:, 0] / nuts.reshape(-1, len(GRID)).std(axis=0)
    between, among = np.abs(GRID[:, 0]) < 0.15, np.abs(np.abs(GRID[:, 0]) - 1.25) < 0.7
    assert np.all((ratio[between] > 0.7) & (ratio[between] < 1.0))
    assert np.all((ratio[among] > 1.0) & (ratio[among] < 2.5))
