"""torchbnn's cost in bbb's terms: what it is, and which noise it assumes."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.objective import elbo_cost
from bbb.torchbnn import implied_noise_std, mse_cost

RNG = np.random.default_rng(0)
ROWS, OUTPUTS, DRAWS = 6, 2, 3
X, Y = RNG.normal(size=(ROWS, 4)), RNG.normal(size=(ROWS, OUTPUTS))
EPS = RNG.normal(size=(DRAWS, 4, OUTPUTS))
WEIGHTS = 4 * OUTPUTS


def model_of(dtype, noise=1.0):
    return bbb.bayesianize(
        lambda w, x: x @ w,
        jnp.asarray(RNG.normal(size=(4, OUTPUTS)), dtype),
        prior=bbb.prior.Normal(0.0, 0.5),
        likelihood=bbb.likelihood.Gaussian(noise),
        std=0.2,
    )


def cost_of(cost, model, kl_weight, dtype):
    forward = bbb.weight_sampling(model.apply)
    x, y = jnp.asarray(X, dtype), jnp.asarray(Y, dtype)
    outputs = jnp.stack([forward.evaluate(jnp.asarray(e, dtype), model.posterior, x) for e in EPS])
    return cost(model, outputs, y, jnp.ones(ROWS, dtype), ROWS, kl_weight)


def test_the_cost_is_mse_plus_weighted_kl_per_weight(dtype):
    model = model_of(dtype)
    got = cost_of(mse_cost, model, 0.3, dtype)
    weights = np.float64(model.posterior.mean) + np.float64(model.posterior.std) * EPS
    mse = np.mean((X @ weights - Y) ** 2)
    kl = float(bbb.kl(model.posterior, model.prior))
    np.testing.assert_allclose(got.data_term, mse, rtol=1e-5)
    np.testing.assert_allclose(got.total, mse + 0.3 * kl / WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(got.kl, kl, rtol=1e-6)


def test_its_gradient_is_that_of_the_elbo_with_the_implied_noise(dtype):
    kl_weight = 0.3
    noise = implied_noise_std(kl_weight, ROWS, OUTPUTS, WEIGHTS)
    model = model_of(dtype, noise)

    def slope(cost, weight):
        def total(posterior):
            return cost_of(cost, bbb.BNN(model.apply, posterior, model.prior, model.likelihood), weight, dtype).total

        return jax.grad(total)(model.posterior)

    ours = slope(elbo_cost, 1.0)
    theirs = slope(mse_cost, kl_weight)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b * WEIGHTS / kl_weight, rtol=1e4 * np.finfo(dtype).eps, atol=1e-4)


def test_padding_rows_do_not_count(dtype):
    model = model_of(dtype)
    outputs, y = jnp.asarray(RNG.normal(size=(2, ROWS, OUTPUTS)), dtype), jnp.asarray(Y, dtype)
    weights = jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0, 0.0], dtype)
    padded = mse_cost(model, outputs, y, weights, ROWS, 0.1)
    cut = mse_cost(model, outputs[:, :4], y[:4], weights[:4], ROWS, 0.1)
    np.testing.assert_allclose(padded.total, cut.total, rtol=100 * np.finfo(dtype).eps)


def test_the_demo_assumes_a_noise_of_0_029_where_the_data_has_0_577():
    task = bbb.tasks.Settings()
    weights = 3 * task.hidden + 1
    assert implied_noise_std(task.kl_weight, 500, 1, weights) == pytest.approx(math.sqrt(0.01 * 500 / 6002))
    assert round(implied_noise_std(task.kl_weight, 500, 1, weights), 3) == 0.029
    assert round(bbb.tasks.NOISE_STD, 3) == 0.577


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.0, 1, 1, 1), "kl_weight to be finite and above 0"),
        ((math.nan, 1, 1, 1), "kl_weight to be finite and above 0"),
        ((1.0, 0, 1, 1), "num_data to be a whole number of at least 1"),
        ((1.0, 1, 1.5, 1), "outputs to be a whole number of at least 1"),
        ((1.0, 1, 1, True), "weights to be a whole number of at least 1"),
    ],
)
def test_numbers_without_meaning_are_refused(arguments, text):
    with pytest.raises(bbb.InputError, match=text):
        implied_noise_std(*arguments)


def test_torch_is_not_imported():
    assert "torch" not in sys.modules[bbb.torchbnn.__name__].__dict__
