"""A training that is not done is named, and one that is done is not, whatever the noise of its loss."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import bbb
from bbb.evaluate.diagnosis import of_training
from bbb.evaluate.diagnosis.convergence import drift, movement

MEMBERS, ROWS, STEPS, MORE = 25, 100, 500, 6_000
CUTS = (40, 100, 200, 400)
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 10), bbb.nn.relu, bbb.nn.linear(10, 1))
FUNCTIONS = (
    lambda x: np.sin(2 * x) + x,
    lambda x: x**2 - 1,
    lambda x: np.tanh(4 * x),
    lambda x: 2 * np.abs(x) - 1 + x,
    lambda x: 0.8 * x + 0.1,
)


def first(history, steps, start=0):
    """What the history of a run that had stopped there would be."""
    arrays = {name: value[start:steps] for name, value in vars(history).items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(history, **arrays)


@pytest.fixture(scope="module")
def runs():
    """Runs of the default optimiser; the same, trained on at a rate that falls; and on from there."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (MEMBERS, ROWS, 1))
    noise = rng.choice([0.1, 0.3, 0.6], (MEMBERS, 1, 1)) * rng.normal(size=x.shape)
    y = np.stack([FUNCTIONS[k % len(FUNCTIONS)](x[k]) for k in range(MEMBERS)]) + noise
    params = [NETWORK.init(jax.random.key(k)) for k in range(MEMBERS)]
    likelihood = bbb.likelihoods.Gaussian(0.5, learn=True)
    models = [
        bbb.bayesianize(NETWORK.apply, p, prior=bbb.priors.Normal(0.0, 1.0), likelihood=likelihood) for p in params
    ]
    found = []
    for optimizer, steps in (
        (optax.adam(1e-2), STEPS),
        (optax.adam(optax.cosine_decay_schedule(1e-2, MORE)), MORE),
        (optax.adam(1e-3), 4 * STEPS),
    ):
        keys = jax.random.split(jax.random.key(len(found)), MEMBERS)
        models, histories = bbb.train.fit_each(keys, models, x, y, steps=steps, optimizer=optimizer, progress=False)
        found.append(histories)
    return found


def names(history):
    return [finding.name for finding in of_training(history)]


def test_of_100_runs_that_stopped_early_all_are_named(runs):
    early, later, _ = runs
    for history, on in zip(early, later, strict=True):
        least = on.negative_elbo[-500:].mean()
        for steps in CUTS:
            to_go = first(history, steps).negative_elbo[-20:].mean() - least
            assert to_go > 15
            assert names(first(history, steps)) == ["not converged"]


def test_of_100_runs_that_were_done_at_most_5_are_named(runs):
    _, later, on = runs
    for history, after in zip(later, on, strict=True):
        assert history.negative_elbo[-500:].mean() - after.negative_elbo.mean() < 5
    at_a_falling_rate = [movement(history).goes_on for history in later]
    at_a_constant_one = [movement(first(h, s + STEPS, s)).goes_on for h in on for s in range(0, 3 * STEPS, STEPS)]
    assert len(at_a_falling_rate + at_a_constant_one) == 100
    assert sum(at_a_falling_rate + at_a_constant_one) <= 5


@pytest.mark.parametrize("batch_size", [32, 100])
def test_minibatches_and_a_learned_noise_hide_nothing(batch_size):
    """y = −0.5·x + 0.1 without noise: the default optimiser stops far away, and the noise it learned explains that."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1_000, 1))
    y = -0.5 * x + 0.1
    line = bbb.nn.linear(1, 1)
    params = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 2.0 * (leaf.ndim - 1), np.float32), line.init(jax.random.key(0))
    )
    likelihood = bbb.likelihoods.Gaussian(0.5, learn=True)
    model = bbb.bayesianize(line.apply, params, prior=bbb.priors.Normal(0.0, 1.0), likelihood=likelihood)
    model, history = bbb.fit(jax.random.key(1), model, x, y, steps=320, batch_size=batch_size)
    report = bbb.diagnose(model, history, x, y)
    assert [finding.name for finding in report[:2]] == ["not converged", "worse than the mean of y"]
    assert "R² -" in report[1].seen
    assert "Train for more steps" in report[1].advice


def made(loss, kl, weight=1.0, cost="elbo_cost"):
    return bbb.train.History(loss + weight * kl, loss, kl, None, cost)


def test_a_warm_up_is_left_out():
    """While the weight of the KL rises, so does the loss; the steps after it are those of a run that rests."""
    rng = np.random.default_rng(0)
    kl = np.concatenate([np.linspace(200, 100, 600), np.full(400, 100.0)]) + 0.01 * rng.normal(size=1_000)
    weight = np.minimum(np.arange(1_000) / 600, 1.0)
    data = 50 + rng.normal(size=1_000)
    assert not movement(made(data, kl, weight)).goes_on
    assert 400 <= movement(made(data, kl, weight)).steps <= 420


def test_another_cost_is_read_in_nats_of_the_bound_it_implies():
    """MSE + w·KL is a bound over 1/w: the same run in other units, and the same verdict."""
    rng = np.random.default_rng(1)
    data, kl = np.linspace(90, 60, 400) + rng.normal(size=400), np.linspace(80, 70, 400)
    nats, scaled = movement(made(data, kl)), movement(made(data / 50, kl, 1 / 50, cost="mse_cost"))
    assert nats.goes_on
    assert nats.bound.fall == pytest.approx(scaled.bound.fall)
    assert nats.bound.error == pytest.approx(scaled.bound.error)


def test_a_bad_start_hides_no_drift():
    data = np.concatenate([np.geomspace(1e6, 100, 200), np.linspace(100, 60, 800)])
    data = data + np.random.default_rng(0).normal(size=1_000)
    assert movement(made(data, np.linspace(60, 50, 1_000))).goes_on


def test_a_bend_is_no_noise_and_noise_is_no_bend():
    rng = np.random.default_rng(2)
    t = np.linspace(0, 1, 500)
    fell = drift(100 * np.exp(-3 * t) + 0.1 * rng.normal(size=500))
    assert fell.fall > 50
    assert fell.errors > 100
    rests = [drift(rng.normal(size=500)) for _ in range(200)]
    assert np.mean([d.errors > 3 for d in rests]) < 0.1
    walk = np.zeros((200, 500))  # noise that hangs together over 20 steps
    for k in range(1, 500):
        walk[:, k] = 0.95 * walk[:, k - 1] + rng.normal(size=200)
    assert np.mean([drift(w).errors > 3 for w in walk]) < 0.2


def test_of_few_steps_nothing_is_said():
    assert movement(made(np.arange(10.0), np.arange(10.0))) is None


def test_nor_of_a_run_whose_validation_took_an_earlier_model():
    history = made(np.linspace(500, 0, 200), np.linspace(200, 100, 200))
    assert movement(history).goes_on
    assert movement(dataclasses.replace(history, best_step=np.array(100))) is None
    assert movement(dataclasses.replace(history, best_step=np.array(200))).goes_on
