"""Draws against a posterior that is known, and what they depend on."""

import jax
import jax.numpy as jnp
import numpy as np

import bbb
from bbb.mcmc.api import _model_of, _starts, _target
from bbb.mcmc.chains import Draws
from tests.mcmc.models import KEY, PRIOR, ensemble, flat, linear

HOW = {"draws": 6, "warmup": 8, "steps": 4, "chains": 4}
"""What most tests ask for, so that they share a program."""


def test_mean_and_covariance_are_those_of_the_exact_posterior(dtype):
    model, x, y, mean, covariance = linear(dtype)
    made = bbb.mcmc.hmc(KEY, model, x, y, draws=400, warmup=200, chains=4, steps=6)
    assert made[0].posterior.members.drawn["w"].dtype == dtype
    assert_exact(made, mean, covariance)


def test_so_are_those_of_nuts():
    model, x, y, mean, covariance = linear()
    assert_exact(bbb.mcmc.nuts(KEY, model, x, y, draws=400, warmup=200, chains=4, doublings=4), mean, covariance)


def assert_exact(made, mean, covariance):
    """Hold draws against a Gaussian, within 4.5 standard errors of so many independent ones as the report says."""
    sampled, report = made
    drawn, ess = flat(sampled), report.weights.ess_bulk
    assert (ess > 300).all()
    errors = np.sqrt(np.diag(covariance) / ess)
    assert (np.abs(drawn.mean(axis=0) - mean) < 4.5 * errors).all()
    products = (drawn - mean)[:, :, None] * (drawn - mean)[:, None, :]
    worst = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / ess.min())
    assert (np.abs(products.mean(axis=0) - covariance) < 4.5 * worst).all()
    assert (report.f.rhat < 1.02).all()
    assert 0.6 < report.acceptance.mean() < 1
    assert not report.divergences.any()
    assert not report.problems


def test_the_key_decides_all():
    model, x, y, *_ = linear()
    drawn = [flat(bbb.mcmc.hmc(jax.random.key(k), model, x, y, **HOW)[0]) for k in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).all()


def test_a_chain_does_not_depend_on_the_others_nor_on_how_many_there_are():
    model, x, y, *_ = linear()
    four, other = (
        flat(bbb.mcmc.hmc(KEY, ensemble(model, 0.0, 0.5, *rest), x, y, **HOW)[0]) for rest in ((-0.5, 1.0), (1.0, 0.2))
    )
    two = flat(bbb.mcmc.hmc(KEY, ensemble(model, 0.0, 0.5, 9.0), x, y, **HOW | {"chains": 2})[0])
    first = four.reshape(6, 4, 3)[:, :2]
    np.testing.assert_allclose(first, two.reshape(6, 2, 3), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(first, other.reshape(6, 4, 3)[:, :2])


def test_every_thin_th_draw_is_kept():
    model, x, y, *_ = linear()
    every, third = (
        flat(bbb.mcmc.hmc(KEY, model, x, y, **HOW | {"draws": 18 // thin, "thin": thin})[0]) for thin in (1, 3)
    )
    np.testing.assert_allclose(every.reshape(18, 4, 3)[2::3], third.reshape(6, 4, 3), rtol=1e-3, atol=1e-4)


def test_neighbouring_draws_are_of_different_chains():
    model, x, y, *_ = linear()
    target = _target(model, *(jnp.asarray(part, jnp.float32) for part in (x, y)), None)
    position = jnp.arange(6.0).reshape(2, 3, 1) + jnp.zeros((1, 1, 3))  # chain c of 3 holds c and 3 + c
    drawn = Draws(position, *[None] * 5)
    made = flat(_model_of(model, target, drawn, {"b": None, "w": None}))
    np.testing.assert_allclose(made, PRIOR * np.arange(6)[:, None] * np.ones(3), rtol=1e-6)


def test_chains_of_one_posterior_start_at_its_mean_and_at_draws_of_it():
    model, *_ = linear(std=2.0)
    random, fixed = _starts(KEY, model, 3)
    assert not jax.tree.leaves(fixed)
    assert not np.asarray(random["w"][0]).any()
    one = model.posterior.weights(model.posterior.noise(jax.random.fold_in(KEY, 2)))
    np.testing.assert_array_equal(random["w"][2], one["w"])


def test_leaves_that_are_point_estimates_stay_what_they_are():
    model, x, y, *_ = linear(where="w")
    sampled, _ = bbb.mcmc.hmc(KEY, ensemble(model, 0.25, 0.5), x, y, **HOW)
    assert sampled.posterior.members.drawn["b"] is None
    np.testing.assert_array_equal(sampled.posterior.members.fixed["b"][:, 0], [0.25, 0.5] * 12)
    assert len(np.unique(np.asarray(sampled.posterior.members.drawn["w"]))) > 24


def test_a_network_whose_rows_meet_is_sampled():
    model, x, y, *_ = linear()
    centred = bbb.bayesianize(
        lambda params, x: (x - x.mean(axis=0, keepdims=True)) @ params["w"],
        {"w": jnp.zeros((2, 1))},
        prior=model.prior,
        likelihood=model.likelihood,
    )
    sampled, report = bbb.mcmc.hmc(KEY, centred, x, y, **HOW)
    assert bbb.predict(KEY, sampled, x, rows="together").draws == 24
    assert report.f.rhat.shape == (9,)
