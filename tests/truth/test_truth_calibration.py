"""Simulation-based calibration: where the best mean-field posterior is the exact one, the truth is one of its draws.

Weights are drawn from the prior, data from the weights, and a posterior is learned from the data. If posterior and
prior, likelihood and data agree, the rank of a true weight among draws of the posterior is uniform (Talts et al. 2018,
arXiv 1804.06788, theorem 1).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import chisquare

import bbb
from tests.truth import conjugate

SIMULATIONS, DRAWS, BINS = 200, 99, 10
ROWS, COLUMNS, STEPS = 20, 3, 600
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(0.05, STEPS))


def orthogonal():
    """Make columns at right angles, whose posterior has independent weights; their scale leaves the prior a say."""
    return 0.5 * np.linalg.qr(np.random.default_rng(0).normal(size=(ROWS, COLUMNS)))[0]


def ranks(**objective):
    """Return the rank of every true weight among the draws of its posterior: (simulations · columns,), 0 to DRAWS."""
    x, rng = orthogonal(), np.random.default_rng(1)
    truth = conjugate.PRIOR_STD * rng.normal(size=(SIMULATIONS, COLUMNS, 1))
    y = x @ truth + conjugate.NOISE_STD * rng.normal(size=(SIMULATIONS, ROWS, 1))
    keys = jax.random.split(jax.random.key(2), SIMULATIONS)
    models, _ = bbb.train.fit_each(
        keys,
        [conjugate.model_of(COLUMNS)] * SIMULATIONS,
        np.broadcast_to(x, (SIMULATIONS, *x.shape)),
        y,
        steps=STEPS,
        optimizer=OPTIMIZER,
        objective=bbb.train.Objective(draws=16, **objective),
    )
    posterior = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[model.posterior for model in models])
    draws = jax.vmap(lambda key, q: jax.vmap(lambda k: bbb.posteriors.sample(k, q))(jax.random.split(key, DRAWS)))(
        keys, posterior
    )
    return np.sum(np.asarray(draws) < truth[:, None], axis=1).ravel()


def p_uniform(ranks):
    """Return the p-value of ranks being uniform, by Pearson's test."""
    return chisquare(np.histogram(ranks, BINS, (-0.5, DRAWS + 0.5))[0]).pvalue


def test_the_columns_are_at_right_angles_and_the_prior_has_a_say():
    products = orthogonal().T @ orthogonal()
    np.testing.assert_allclose(products, 0.25 * np.eye(COLUMNS), atol=1e-12)
    shrinkage = conjugate.PRIOR_STD**2 / (conjugate.PRIOR_STD**2 + conjugate.NOISE_STD**2 / 0.25)
    assert 0.3 < shrinkage < 0.7


def test_the_rank_of_the_truth_is_uniform():
    assert p_uniform(ranks()) > 1e-3


def half_the_std(key, posterior, x):
    return x @ (posterior.mean + 2 * posterior.std * jax.random.normal(key, posterior.mean.shape))


def without_the_prior(*args):
    cost = bbb.objectives.elbo_cost(*args)
    return cost._replace(total=cost.data_term + 0.1 * cost.kl)


@pytest.mark.parametrize("sabotage", [{"forward": half_the_std}, {"cost": without_the_prior}])
def test_a_posterior_too_narrow_or_too_wide_is_caught(sabotage):
    assert p_uniform(ranks(**sabotage)) < 1e-6
