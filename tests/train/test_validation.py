"""Early stopping: the model of the best held-out score comes back, and the rest of training is as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
Y = X @ [[1.0], [-2.0]] + 0.5 * RNG.normal(size=(40, 1))
XV = RNG.normal(size=(15, 2))
YV = XV @ [[1.0], [-2.0]] + 0.5 * RNG.normal(size=(15, 1))
ADAM = optax.adam(3e-2)


def model_of(start=0.0, std=0.3):
    return bbb.bayesianize(
        lambda w, x: x @ w,
        jnp.full((2, 1), start),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5),
        std=std,
    )


APPLY_ONCE = model_of()


def assert_same(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


def test_without_validation_there_is_none_in_the_history():
    _, history = bbb.fit(KEY, APPLY_ONCE, X, Y, steps=5, optimizer=ADAM)
    assert history.validation_log_score is history.validation_steps is history.best_step is None


def test_scores_are_taken_in_time_and_the_best_model_is_that_of_the_plain_training_up_to_it():
    options = {"optimizer": ADAM, "objective": bbb.train.Objective(draws=2)}
    best, history = bbb.fit(
        KEY, APPLY_ONCE, X, Y, steps=95, validation=bbb.train.EarlyStopping((XV, YV), every=10, patience=99), **options
    )
    np.testing.assert_array_equal(history.validation_steps, [*range(10, 91, 10), 95])
    assert history.validation_log_score.shape == (10,)
    assert history.loss.shape == (95,)
    assert history.best_step == history.validation_steps[np.argmax(history.validation_log_score)]
    plain, same = bbb.fit(KEY, APPLY_ONCE, X, Y, steps=int(history.best_step), **options)
    np.testing.assert_allclose(history.loss[: len(same.loss)], same.loss, rtol=1e-4)
    np.testing.assert_allclose(best.posterior.mean, plain.posterior.mean, rtol=1e-4)


def test_training_stops_after_patience_scores_without_a_better_one():
    away = optax.sgd(-1e-4)  # away from the data: the first score is the best
    model, history = bbb.fit(
        KEY,
        APPLY_ONCE,
        X,
        Y,
        steps=500,
        validation=bbb.train.EarlyStopping((XV, YV), every=5, patience=3),
        optimizer=away,
    )
    np.testing.assert_array_equal(history.validation_steps, [5, 10, 15, 20])
    assert (np.diff(history.validation_log_score) < 0).all()
    assert history.best_step == 5
    assert history.loss.shape == (20,)
    plain, _ = bbb.fit(KEY, APPLY_ONCE, X, Y, steps=5, optimizer=away)
    np.testing.assert_allclose(model.posterior.mean, plain.posterior.mean, rtol=1e-5)


def test_the_score_is_the_mean_log_density_of_the_held_out_rows():
    still = optax.sgd(0.0)
    model = model_of(start=0.7, std=1e-30)  # of no spread, so that one draw is as good as a hundred
    _, history = bbb.fit(
        KEY, model, X, Y, steps=3, validation=bbb.train.EarlyStopping((XV, YV), every=2), optimizer=still
    )
    log_prob = model.likelihood.log_prob(jnp.asarray(YV, "float32"), jnp.asarray(XV @ np.full((2, 1), 0.7), "float32"))
    np.testing.assert_allclose(history.validation_log_score, [np.mean(log_prob)] * 2, rtol=1e-4)


def test_training_at_the_mean_scores_the_mean():
    objective = bbb.train.Objective(forward=bbb.forwards.at_mean(APPLY_ONCE.apply))
    options = {"optimizer": optax.sgd(0.0), "validation": bbb.train.EarlyStopping((XV, YV), every=2), "steps": 2}
    model = model_of(start=0.7, std=10.0)  # as wide as training at the mean leaves it with a wide prior
    _, history = bbb.fit(KEY, model, X, Y, objective=objective, **options)
    log_prob = model.likelihood.log_prob(jnp.asarray(YV, "float32"), jnp.asarray(XV @ np.full((2, 1), 0.7), "float32"))
    np.testing.assert_allclose(history.validation_log_score, [np.mean(log_prob)], rtol=1e-4)


def test_a_share_of_the_rows_is_held_out_by_the_key():
    from bbb.train.validation import Data, hold_out

    rows = np.arange(40.0)[:, None]
    data = jnp.asarray(np.hstack([rows, rows]), "float32"), jnp.asarray(rows, "float32")
    kept, scored = hold_out(KEY, APPLY_ONCE, Data(*data), 0.2)
    assert kept.sample_weight is None
    assert scored.sample_weight is None
    parts = [*kept[:2], *scored[:2]]
    assert [part.shape for part in parts] == [(32, 2), (32, 1), (8, 2), (8, 1)]
    np.testing.assert_array_equal(np.sort(np.concatenate([parts[1], parts[3]]), axis=0), rows)
    np.testing.assert_array_equal(parts[0][:, :1], parts[1])
    np.testing.assert_array_equal(parts[2][:, :1], parts[3])
    assert_same((kept, scored), hold_out(KEY, APPLY_ONCE, Data(*data), 0.2))
    assert not np.array_equal(scored.y, hold_out(jax.random.key(1), APPLY_ONCE, Data(*data), 0.2)[1].y)


def test_a_share_trains_as_the_pair_does_and_repeats_itself():
    from bbb.train.validation import Data, hold_out

    options = {"steps": 30, "optimizer": ADAM, "batch_size": 8}
    stopping = bbb.train.EarlyStopping(0.25, every=10)
    one, first = bbb.fit(KEY, APPLY_ONCE, X, Y, validation=stopping, **options)
    again, second = bbb.fit(KEY, APPLY_ONCE, X, Y, validation=stopping, **options)
    assert_same(one, again)
    np.testing.assert_array_equal(first.validation_log_score, second.validation_log_score)
    (x, y, _), (xv, yv, _) = hold_out(KEY, APPLY_ONCE, Data(jnp.asarray(X, "float32"), jnp.asarray(Y, "float32")), 0.25)
    pair, _ = bbb.fit(KEY, APPLY_ONCE, x, y, validation=bbb.train.EarlyStopping((xv, yv), every=10), **options)
    assert_same(one, pair)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (lambda: 1.0, r"validation to be one number inside \(0, 1\), got 1.0"),
        (
            lambda: (XV,),
            r"validation to be a pair of arrays, got 1 of them. Pass validation=\(x, y\), or a share",
        ),
        (
            lambda: 0.99,
            "validation to leave a row to train on, got 40 of 40. Pass a smaller share, or more rows.",
        ),
        (lambda: (XV, YV[:3]), "y to have the 15 rows of x, got 3 rows"),
        (lambda: bbb.train.EarlyStopping((XV, YV), patience=0), "patience to be a whole number of at least 1"),
        (lambda: bbb.train.EarlyStopping((XV, YV), every=0), "every to be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_held_out_is_refused(validation, message):
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.fit(KEY, APPLY_ONCE, X, Y, steps=5, optimizer=ADAM, validation=validation())
