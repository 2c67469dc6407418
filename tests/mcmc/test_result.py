"""What chains give is a model like any other: predicted with, saved and exported, each draw once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.posteriors import Ensemble, Point
from tests.mcmc.models import KEY, flat, line, linear


@pytest.fixture(scope="module")
def sampled():
    """Return a model of 120 draws that follow each other, and x."""
    model, x, *_ = linear()
    steps = np.cumsum(np.random.default_rng(0).normal(size=(120, 3)), axis=0).astype(np.float32) / 10
    drawn = {"b": jnp.asarray(steps[:, :1]), "w": jnp.asarray(steps[:, 1:, None])}
    return dataclasses.replace(model, posterior=Ensemble(Point(drawn, {"b": None, "w": None}))), x


def functions(model, x):
    drawn = model.posterior.members.drawn
    return np.asarray(jax.vmap(lambda params: line(params, jnp.asarray(x, jnp.float32)))(drawn))


@pytest.mark.parametrize("asked", [1, 120, 10_000])
def test_each_draw_is_evaluated_once_in_its_order_whatever_is_asked_for(sampled, asked):
    model, x = sampled
    found = bbb.draws(KEY, model, x, draws=asked)
    np.testing.assert_allclose(found, functions(model, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found, bbb.draws(jax.random.key(9), model, x))  # there is no chance in it


def test_a_band_is_that_of_the_draws_with_errors_of_batch_means(sampled):
    model, x = sampled
    band, f = bbb.predict(KEY, model, x, levels=(0.9,)), functions(model, x)
    assert band.draws == 120
    np.testing.assert_allclose(band.f.mean, f.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(band.f.std, f.std(axis=0, ddof=1), rtol=1e-4)
    batches = f.reshape(20, 6, *f.shape[1:]).mean(axis=1)
    np.testing.assert_allclose(band.f.mcse(())[0], batches.std(axis=0, ddof=1) / np.sqrt(20), rtol=1e-4)
    assert (band.f.mcse(())[0] > 1.5 * band.f.std / np.sqrt(120)).all()  # as they follow each other
    np.testing.assert_allclose(band.f.interval(0.9)[0], np.quantile(f, 0.05, axis=0), rtol=1e-4, atol=1e-5)


def test_it_is_saved_and_exported(sampled, tmp_path):
    model, x = sampled
    bbb.save(tmp_path / "model", model)
    again = bbb.load(tmp_path / "model", like=model)
    np.testing.assert_array_equal(flat(again), flat(model))
    bbb.serving.export(tmp_path / "exported", model, x, platforms=("cpu",))
    made, band = bbb.serving.load_exported(tmp_path / "exported").predict(KEY, x), bbb.predict(KEY, model, x)
    assert made.draws == 120
    np.testing.assert_allclose(made.f.std, band.f.std, rtol=1e-4)
    np.testing.assert_allclose(made.f.mcse(())[0], band.f.mcse(())[0], rtol=1e-3)


def test_it_is_shown_and_diagnosed(sampled):
    model, x = sampled
    assert "posterior   120 draws of 3 weights in 2 leaves (float32)" in str(model)
    assert isinstance(bbb.diagnose(model, None, x, functions(model, x).mean(axis=0), draws=10), bbb.evaluate.Diagnosis)


def test_one_point_alone_is_no_posterior_of_a_model(sampled):
    model, x = sampled
    assert model.member(3).posterior.is_point
    with pytest.raises(bbb.errors.InputError, match="a posterior with at least one Gaussian"):
        bbb.predict(KEY, model.member(3), x)
    one = model.posterior[3]
    np.testing.assert_array_equal(one.with_params(one.params).params["w"], one.params["w"])
    assert float(one.log_prob(one.params)) == 0
