"""Training reaches the best mean-field posterior of a linear regression to 1 %, and a wrong objective does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from tests.truth import conjugate

RNG = np.random.default_rng(0)
STEPS = 2_000
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(0.02, STEPS))


def correlated():
    """Make columns that depend on each other, so that the best mean-field posterior is not the exact one."""
    x = RNG.normal(size=(60, 4)) @ (np.eye(4) + 0.5 * RNG.normal(size=(4, 4)))
    y = x @ np.array([[1.0], [-2.0], [0.5], [0.0]]) + conjugate.NOISE_STD * RNG.normal(size=(60, 1))
    return conjugate.problem(x, y)


PROBLEM = correlated()


def trained(batch_size=None, **objective):
    options = {"steps": STEPS, "optimizer": OPTIMIZER, "objective": bbb.train.Objective(draws=64, **objective)}
    return bbb.fit(jax.random.key(0), conjugate.model_of(4), PROBLEM.x, PROBLEM.y, batch_size=batch_size, **options)[0]


def assert_at_the_optimum(model):
    """Means to 1 % of their length, and every std to 1 %."""
    mean, std = (np.asarray(leaf, float)[:, 0] for leaf in (model.posterior.mean, model.posterior.std))
    assert np.linalg.norm(mean - PROBLEM.mean) < 0.01 * np.linalg.norm(PROBLEM.mean)
    np.testing.assert_allclose(std, PROBLEM.std, rtol=0.01)


def test_the_best_mean_field_posterior_is_narrower_than_the_exact_one():
    assert np.all(PROBLEM.std < 0.95 * np.sqrt(np.diag(PROBLEM.covariance)))


@pytest.mark.parametrize("forward", [bbb.forwards.weight_sampling, bbb.forwards.local_reparam, bbb.forwards.flipout])
def test_every_forward_reaches_the_optimum(forward):
    assert_at_the_optimum(trained(forward=forward(conjugate.apply)))


def test_batches_reach_the_optimum_of_the_whole_data():
    assert_at_the_optimum(trained(forward=bbb.forwards.local_reparam(conjugate.apply), batch_size=20))


def test_the_bound_at_the_optimum_is_the_known_one():
    model = trained()
    mean, variance = bbb.moments.moments(conjugate.apply)(model.posterior, PROBLEM.x)
    squares = np.sum(np.square(PROBLEM.y - np.asarray(mean)) + np.asarray(variance))
    data = 30 * np.log(2 * np.pi * conjugate.NOISE_STD**2) + squares / (2 * conjugate.NOISE_STD**2)
    bound = data + float(bbb.priors.kl(model.posterior, model.prior))
    least = conjugate.least_negative_elbo(PROBLEM)
    assert least - 1e-4 < bound < least + 0.01


# Sabotage: three mistakes that the checks above must catch


def kl_of_the_wrong_sign(*args):
    cost = bbb.objectives.elbo_cost(*args)
    return cost._replace(total=cost.data_term - cost.kl)


def kl_averaged_over_rows(*args):
    cost = bbb.objectives.elbo_cost(*args)
    return cost._replace(total=cost.data_term + cost.kl / len(PROBLEM.x))


def std_taken_as_variance(key, posterior, x):
    noise = jax.random.normal(key, posterior.mean.shape)
    return x @ (posterior.mean + jnp.sqrt(posterior.std) * noise)


@pytest.mark.parametrize(
    "sabotage",
    [{"cost": kl_of_the_wrong_sign}, {"cost": kl_averaged_over_rows}, {"forward": std_taken_as_variance}],
)
def test_a_sabotaged_objective_is_caught(sabotage):
    model = trained(**sabotage)
    with pytest.raises(AssertionError):
        assert_at_the_optimum(model)
