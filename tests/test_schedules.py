"""Schedules of the KL's weight: warm-up, and the weights of an epoch's batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import schedule


def weights(of, steps):
    return np.asarray(jax.vmap(of)(jnp.arange(steps, dtype=jnp.int32)), "float64")


def test_a_warm_up_rises_from_0_to_1_and_stays(dtype):
    np.testing.assert_allclose(weights(schedule.warm_up(4), 7), [0, 0.25, 0.5, 0.75, 1, 1, 1])
    assert schedule.warm_up(4)(jnp.int32(1)).dtype == dtype


@pytest.mark.parametrize("batches", [1, 2, 7, 30])
def test_the_weights_of_an_epochs_batches_are_those_of_the_paper(batches, dtype):
    i = np.arange(1, batches + 1)
    paper = 2.0 ** (batches - i) / (2.0**batches - 1)  # sums to 1; a step counts the data `batches` times
    got = weights(schedule.minibatch_weights(batches), 2 * batches)
    np.testing.assert_allclose(got, np.tile(batches * paper, 2), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("batches", [1000, 5000])
def test_thousands_of_batches_neither_overflow_nor_lose_the_sum(batches, dtype):
    got = weights(schedule.minibatch_weights(batches), batches)
    assert np.isfinite(got).all()
    assert got.mean() == pytest.approx(1, rel=1e-5)


def test_an_epoch_of_fit_weighs_the_kl_once():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 1))
    model = bbb.bayesianize(
        lambda w, x: x @ w, jnp.zeros((2, 1)), prior=bbb.prior.Normal(), likelihood=bbb.likelihood.Gaussian()
    )
    _, history = bbb.fit(
        jax.random.key(0), model, x, y, epochs=3, batch_size=5, kl_weight=schedule.minibatch_weights(4)
    )
    used = ((history.loss - history.data_term) / history.kl).reshape(3, 4)
    np.testing.assert_allclose(used.mean(1), 1, rtol=1e-4)
    assert (np.diff(used, axis=1) < 0).all()


def test_equal_schedules_are_one_to_jax():
    assert schedule.warm_up(5) == schedule.warm_up(5) != schedule.warm_up(6)
    assert hash(schedule.minibatch_weights(5)) == hash(schedule.minibatch_weights(5))


@pytest.mark.parametrize(("make", "name"), [(schedule.warm_up, "steps"), (schedule.minibatch_weights, "batches")])
def test_no_steps_and_no_batches_are_refused(make, name):
    with pytest.raises(bbb.InputError, match=f"{name} to be a whole number of at least 1, got 0. Pass {name}=1"):
        make(0)
