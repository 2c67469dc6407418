"""Schedules of the KL's weight: warm-up, and the weights of an epoch's batches."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import objectives
from bbb.objectives import kl_weight as kl_weight_module


def weights(of, steps):
    return np.asarray(jax.vmap(of)(jnp.arange(steps, dtype=jnp.int32)), "float64")


def test_a_warm_up_rises_from_0_to_1_and_stays(dtype):
    np.testing.assert_allclose(weights(objectives.warm_up(4), 7), [0, 0.25, 0.5, 0.75, 1, 1, 1])
    assert objectives.warm_up(4)(jnp.int32(1)).dtype == dtype


@pytest.mark.parametrize("batches", [1, 2, 7, 30])
def test_the_weights_of_an_epochs_batches_are_those_of_the_paper(batches, dtype):
    i = np.arange(1, batches + 1)
    paper = 2.0 ** (batches - i) / (2.0**batches - 1)  # sums to 1; a step counts the data `batches` times
    got = weights(objectives.minibatch_weights(batches), 2 * batches)
    np.testing.assert_allclose(got, np.tile(batches * paper, 2), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("batches", [1000, 5000])
def test_thousands_of_batches_neither_overflow_nor_lose_the_sum(batches, dtype):
    got = weights(objectives.minibatch_weights(batches), batches)
    assert np.isfinite(got).all()
    assert got.mean() == pytest.approx(1, rel=1e-5)


def test_an_epoch_of_fit_weighs_the_kl_once():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 1))
    model = bbb.bayesianize(
        lambda w, x: x @ w, jnp.zeros((2, 1)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
    )
    _, history = bbb.fit(
        jax.random.key(0),
        model,
        x,
        y,
        epochs=3,
        batch_size=5,
        objective=bbb.train.Objective(kl_weight=objectives.minibatch_weights(4)),
    )
    used = ((history.loss - history.data_term) / history.kl).reshape(3, 4)
    np.testing.assert_allclose(used.mean(1), 1, rtol=1e-4)
    assert (np.diff(used, axis=1) < 0).all()


def test_equal_schedules_are_one_to_jax():
    assert objectives.warm_up(5) == objectives.warm_up(5) != objectives.warm_up(6)
    assert hash(objectives.minibatch_weights(5)) == hash(objectives.minibatch_weights(5))


@pytest.mark.parametrize(("make", "name"), [(objectives.warm_up, "steps"), (objectives.minibatch_weights, "batches")])
def test_no_steps_and_no_batches_are_refused(make, name):
    with pytest.raises(bbb.errors.InputError, match=f"{name} to be a whole number of at least 1, got 0. Pass {name}=1"):
        make(0)


# --- what is refused before the first step ----------------------------------------------------------------------------


def fit_with(kl_weight, steps=50):
    model = bbb.bayesianize(
        lambda w, x: x @ w, jnp.zeros((2, 1)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
    )
    return bbb.fit(
        jax.random.key(0),
        model,
        np.ones((3, 2)),
        np.ones((3, 1)),
        steps=steps,
        objective=bbb.train.Objective(kl_weight=kl_weight),
    )


@pytest.mark.parametrize(
    ("kl_weight", "got"),
    [
        (lambda step: -1.0, "got -1.0 at step 0. Make it return 0 or more at every step."),
        (lambda step: 1.0 - step / 40, "got -0.02.* at step 41. Make it"),
        (lambda step: jnp.where(step == 49, jnp.nan, 1.0), "got nan at step 49. Make it"),
        (lambda step: 1.0 / step, "got inf at step 0. Make it"),
        (
            lambda step: jnp.ones(2),
            r"got one that returns an array of shape \(2,\) and dtype float32. Make it return a",
        ),
        (lambda step: step > 2, r"got one that returns an array of shape \(\) and dtype bool. Make it return a scalar"),
        (lambda step: 1j * step, r"got one that returns an array of shape \(\) and dtype complex64. Make it"),
        (
            lambda step: 0.0 if step < 10 else 1.0,
            "got one that decides by the value of the step, which is traced. Use jnp.where or jax.lax.cond instead of",
        ),
        (float, "got one that decides by the value of the step"),
        (lambda: 1.0, "got TypeError: .*positional argument.* Pass a number, or a function of the step alone"),
        (lambda step: None, "got .*Error: .* Pass a number, or a function of the step alone"),
    ],
)
def test_a_schedule_that_is_no_weight_is_refused_before_the_first_step(kl_weight, got, monkeypatch):
    monkeypatch.setattr(importlib.import_module("bbb.train.api"), "train", lambda *args: pytest.fail("trained"))
    expected = "Expected kl_weight to be a schedule from the step to one finite number of at least 0, "
    with pytest.raises(bbb.errors.InputError, match=expected + got):
        fit_with(kl_weight)


def test_a_schedule_that_falls_to_0_may_round_below_it():
    fit_with(lambda step: 1.0 - step / 40, steps=41)


def test_a_schedule_of_very_many_steps_is_asked_at_both_ends_and_between():
    asked = []

    def spy(step):
        asked.append(step)
        return jnp.where(step >= 999_999_999, -1.0, 1.0)

    with pytest.raises(bbb.errors.InputError, match=r"got -1\.0 at step 999999999"):
        kl_weight_module.check_schedule(spy, 1_000_000_000)
    assert len(asked) < 5  # traced, and not called step by step
