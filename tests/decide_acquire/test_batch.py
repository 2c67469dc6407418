"""Batches: the joint information of their rows by brute force, and rows that say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import likelihoods
from bbb.decide import acquisition
from bbb.decide.acquisition.criteria import JointClasses
from bbb.metrics import predictive_entropy
from tests.decide_acquire.models import KEY, NOISE, X, classes, joint_information, model_of

DRAWS = 7
POOL = X[:5]


def probabilities(model, pool=POOL, draws=DRAWS):
    return np.asarray(model.likelihood.probabilities(bbb.draws(KEY, model, pool, draws=draws)), np.float64)


def choose(model, pool, count, **options):
    return acquisition.choose_batch(KEY, model, pool, count, **{"draws": DRAWS, **options})


def test_of_classes_each_row_adds_what_all_values_of_the_labels_say(dtype):
    model = classes(dtype=dtype)
    p = probabilities(model)
    batch = choose(model, POOL, 4)
    together = [joint_information(p[:, batch.rows[: n + 1]]) for n in range(4)]
    np.testing.assert_allclose(np.cumsum(batch.scores), together, rtol=1e-4 if dtype == "float32" else 1e-10)
    for n in range(1, 4):  # and none of the others would have added more
        rest = [row for row in range(len(POOL)) if row not in batch.rows[:n]]
        best = max(joint_information(p[:, [*batch.rows[:n], row]]) for row in rest)
        assert together[n] > best - 1e-6


def test_a_batch_of_one_is_bald():
    model = classes()
    alone = predictive_entropy(jnp.asarray(probabilities(model), jnp.float32)).epistemic
    batch = choose(model, POOL, 1)
    assert batch.rows[0] == alone.argmax()
    np.testing.assert_allclose(batch.scores[0], alone.max(), rtol=1e-5)


def certain(params, x):
    """A network whose class is known where its weight is: the sign of the weight of a row's group, times 30."""
    f = 30 * jnp.sign(x @ params["w"])
    return jnp.concatenate([f, -f], axis=1)


def groups():
    """Return a model whose rows are of two groups, and a pool with the first row of the first group four times."""
    params = {"w": jnp.array([[0.0], [0.4]])}
    model = bbb.bayesianize(certain, params, prior=bbb.priors.Normal(), likelihood=likelihoods.Categorical(), std=1.0)
    return model, np.array([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 1]])


def test_a_row_that_is_there_twice_is_chosen_once_where_bald_takes_it_twice():
    model, pool = groups()
    scores = acquisition.bald(KEY, model, pool, draws=400)
    assert set(np.argsort(-scores, kind="stable")[:2]) < {0, 1, 2, 3}
    batch = choose(model, pool, 2, draws=400)
    assert set(batch.rows) == {0, 4}
    assert batch.scores[1] > 0.5
    assert choose(model, pool, 3, draws=400).scores[2] < 1e-3  # nothing is left to learn


def test_0_or_1_is_a_class_too():
    model = model_of(likelihoods.Bernoulli())
    p = np.asarray(jax.nn.sigmoid(np.asarray(bbb.draws(KEY, model, POOL, draws=DRAWS), np.float64)))
    batch = choose(model, POOL, 3)
    expected = joint_information(np.concatenate([1 - p, p], axis=-1)[:, batch.rows])
    np.testing.assert_allclose(batch.scores.sum(), expected, rtol=1e-4)


def test_a_sample_of_configurations_estimates_all_of_them_without_bias():
    model = classes()
    likelihood, outputs = model.likelihood, bbb.draws(KEY, model, POOL, draws=DRAWS)
    score = jax.jit(JointClasses.score)

    def after(most, key):
        criterion = JointClasses.start(key, DRAWS, np.float32, most)
        for row in (0, 1, 2):
            criterion = criterion.chosen(likelihood, outputs[:, row : row + 1])
        return np.asarray(score((likelihood, *criterion.state), outputs))

    exact = after(27, KEY)
    sampled = np.stack([after(4, jax.random.key(seed)) for seed in range(60)])
    error = sampled.std(axis=0) / np.sqrt(len(sampled))
    assert np.max(np.abs(sampled.mean(axis=0) - exact) / error) < 4
    np.testing.assert_allclose(after(64, KEY), exact, rtol=1e-4)  # padding changes nothing


def test_no_configuration_that_is_impossible_is_drawn(monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key: 0.0)  # as one key of eight million has it
    joint = np.array([0.0, 0.25, 0.25, 0.0, 0.25, 0.25])
    where, _ = JointClasses.start(KEY, 2, np.float32, 2)._kept(joint)
    assert (joint[where] > 0).all()


def test_a_batch_of_many_labels_has_falling_gains_and_stays_below_the_draws():
    model = classes()
    batch = choose(model, X, 8, configurations=32)
    assert len(set(batch.rows)) == 8
    assert batch.scores.sum() <= np.log(DRAWS) + 0.1


def test_of_gaussian_noise_it_is_the_determinant(dtype):
    model = model_of(dtype=dtype)
    f = np.asarray(bbb.draws(KEY, model, X, draws=30), np.float64)[..., 0]
    covariance = np.cov(f, rowvar=False) / NOISE**2

    def information(rows):
        return 0.5 * np.linalg.slogdet(np.eye(len(rows)) + covariance[np.ix_(rows, rows)])[1]

    batch = choose(model, X, 5, draws=30)
    together = [information(batch.rows[: n + 1]) for n in range(5)]
    np.testing.assert_allclose(np.cumsum(batch.scores), together, rtol=1e-3 if dtype == "float32" else 1e-9)
    for n in range(5):
        rest = [row for row in range(len(X)) if row not in batch.rows[:n]]
        assert together[n] > max(information([*batch.rows[:n], row]) for row in rest) - 1e-4
    np.testing.assert_allclose(batch.scores[0], acquisition.bald(KEY, model, X, draws=30).max(), rtol=1e-4)


def test_centres_are_the_farthest_first():
    model = model_of(outputs=2)
    f = np.asarray(bbb.draws(KEY, model, X, draws=30), np.float64)
    f -= f.mean(axis=0)
    batch = choose(model, X, 5, draws=30, method="k-center")
    centres = [np.zeros_like(f[:, 0])]
    for row, score in zip(*batch, strict=True):
        distances = [[np.sqrt(np.sum((f[:, i] - c) ** 2) / 29) for c in centres] for i in range(len(X))]
        nearest = np.min(distances, axis=1)
        assert row == nearest.argmax()
        np.testing.assert_allclose(score, nearest.max(), rtol=1e-4)
        centres.append(f[:, row])


def test_centres_do_not_repeat_a_row_that_is_there_twice():
    model, pool = groups()
    assert set(choose(model, pool, 2, draws=50, method="k-center").rows) == {0, 4}


def test_a_pool_too_large_to_keep_is_drawn_again_and_gives_the_same_batch():
    model, pool = classes(), np.random.default_rng(3).normal(size=(3_000, 2))
    kept = choose(model, pool, 3, draws=200)
    again = choose(model, pool, 3, draws=200, memory="16MB")
    np.testing.assert_array_equal(kept.rows, again.rows)
    np.testing.assert_array_equal(kept.scores, again.scores)


@pytest.mark.parametrize("method", ["batchbald", "k-center"])
def test_all_rows_can_be_chosen(method):
    assert sorted(choose(model_of(), POOL, 5, method=method).rows) == list(range(5))
