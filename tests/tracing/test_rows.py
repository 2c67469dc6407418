"""Networks whose rows meet: found, refused by name where rows are cut apart, and answered all rows at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.tables import csv
from bbb.tables import model as model_module
from bbb.tracing import rows

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(11, 2)).astype("float32")
W = {"w": jnp.ones((2, 1))}

MEET = {
    "mean": lambda p, x: (x - x.mean(0, keepdims=True)) @ p["w"],
    "softmax": lambda p, x: jax.nn.softmax(x, axis=0) @ p["w"],
    "batch statistics": lambda p, x: jax.nn.standardize(x, axis=0) @ p["w"],
    "attention over rows": lambda p, x: jax.nn.softmax(x @ x.T) @ x @ p["w"],
    "cumulated": lambda p, x: jnp.cumsum(x, axis=0) @ p["w"],
    "counted": lambda p, x: x @ p["w"] * x.shape[0],
    "counted within": lambda p, x: jax.jit(lambda x: x @ p["w"] + 1.0 / len(x))(x),
    "placed": lambda p, x: x @ p["w"] + jnp.arange(x.shape[0], dtype=x.dtype)[:, None],
    "noisy": lambda p, x: x @ p["w"] + jax.random.normal(jax.random.key(0), (x.shape[0], 1)),
    "counted by a loop": lambda p, x: jax.lax.fori_loop(0, x.shape[0], lambda _, s: s + 1.0, 0.0) * (x @ p["w"]),
    "turned": lambda p, x: x[::-1] @ p["w"] + x @ p["w"],
}
APART = {
    "dense": lambda p, x: jnp.tanh(x @ p["w"]),
    "places": lambda p, x: (x.reshape(-1, 1) * p["w"][:1]).reshape(x.shape[0], 2).sum(1, keepdims=True),
    "vmapped": lambda p, x: jax.vmap(lambda row: jax.nn.softmax(row) @ p["w"])(x),
    "not a number": lambda p, x: jnp.where(jnp.isnan(x), jnp.nan, x) @ p["w"],
    "stacked": lambda p, x: sum(jnp.unstack(jnp.stack([x, 2 * x], 1), axis=1)) @ p["w"],
    "tiled": lambda p, x: jnp.tile(x, (1, 2)) @ jnp.tile(p["w"], (2, 1)),
    "features": lambda p, x: jnp.cumsum(jax.nn.standardize(x, axis=1), axis=1) @ p["w"],
}
TRIED = {
    "picked": lambda p, x: x[jnp.arange(-x.shape[0], 0)] @ p["w"],
    "mapped": lambda p, x: jax.lax.map(lambda row: row @ p["w"], x),
    "time": lambda p, x: jax.lax.scan(lambda c, t: (jnp.tanh(c + t), None), 0 * x[:, 0], x.T)[0][:, None] * p["w"][:1],
}


NOISE = bbb.likelihoods.Gaussian(0.5)


def model_of(apply):
    return bbb.bayesianize(apply, W, prior=bbb.priors.Normal(), likelihood=NOISE, std=0.3)


@pytest.mark.parametrize("name", MEET)
def test_rows_that_meet_are_refused_and_answered_together(name):
    model = model_of(MEET[name])
    for call in (bbb.predict, bbb.draws):
        with pytest.raises(bbb.errors.InputError, match=r"processes each row of x by itself.*Pass rows=.together"):
            call(KEY, model, X, draws=4)
    drawn = bbb.draws(KEY, model, X, draws=4, rows="together")
    for i in range(4):
        want = bbb.forwards.weight_sampling(model.apply)(jax.random.fold_in(KEY, i), model.posterior, X)
        np.testing.assert_allclose(drawn[i], want, rtol=1e-4, atol=1e-5)
    band = bbb.predict(KEY, model, X, draws=4, rows="together", levels=(0.5,))
    np.testing.assert_allclose(band.f.mean, np.mean(drawn, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", APART)
def test_rows_that_the_trace_knows_to_be_apart_are_not_tried(name):
    shape = jax.ShapeDtypeStruct((rows.TRIED, 2), np.float32)
    assert rows._answers_alike(APART[name], W, shape)


@pytest.mark.parametrize("name", TRIED)
def test_what_the_trace_cannot_tell_is_tried(name):
    assert bbb.draws(KEY, model_of(TRIED[name]), X, draws=4).shape == (4, 11, 1)


def test_a_last_layer_of_zeros_hides_no_rows_that_meet():
    model = bbb.bayesianize(
        MEET["mean"], {"w": jnp.zeros((2, 1))}, prior=bbb.priors.Normal(), likelihood=NOISE, std=0.3
    )
    with pytest.raises(bbb.errors.InputError, match="processes each row of x by itself"):
        bbb.draws(KEY, model, X, draws=4)


def test_counts_of_rows_that_meet_are_diagnosed_together():
    """Counts and a fixed number of rows: every look takes all rows at once, where it would fail on some of them."""
    mix = np.random.default_rng(1).normal(size=(24, 24)).astype("float32") / 24
    x, y = np.resize(X, (24, 2)), np.arange(24).reshape(24, 1) % 5
    model = bbb.bayesianize(
        lambda p, x: jnp.asarray(mix) @ jnp.tanh(x @ p["w"]),
        W,
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Poisson(),
        std=0.3,
    )
    bbb.diagnose(model, None, x, y, draws=50, rows="together")


def test_minibatches_refuse_rows_that_meet_and_full_batches_take_them():
    model, y = model_of(MEET["mean"]), X[:, :1]
    with pytest.raises(bbb.errors.InputError, match="minibatches hold some rows only"):
        bbb.fit(KEY, model, X, y, steps=2, batch_size=4)
    bbb.fit(KEY, model, X, y, steps=2, optimizer=optax.sgd(1e-3))


def test_tables_diagnoses_and_ensembles_take_rows_together():
    model = model_of(MEET["mean"])
    made = model_module.TabularModel(model, ("a", "b"), "y")
    y = np.random.default_rng(1).normal(size=(11, 1)).astype("float32")
    lines = csv.Table("made.csv", ("a", "b", "y"), np.hstack([X, y]))
    for verb in (made.predict, made.evaluate, made.pit, made.diagnose):
        with pytest.raises(bbb.errors.InputError, match=r"processes each row of x by itself.*Pass rows=.together"):
            verb(lines)
        with pytest.raises(bbb.errors.InputError, match='rows to be "apart" or "together"'):
            verb(lines, rows="both")
    members = dataclasses.replace(model, posterior=bbb.posteriors.Ensemble(jax.tree.map(stacked, model.posterior)))
    with pytest.raises(bbb.errors.InputError, match='rows to be "apart" or "together"'):
        bbb.evaluate.spread(KEY, members, X, rows="both")
    scores = made.evaluate(lines, draws=50, rows="together")
    outputs = bbb.draws(jax.random.key(0), model, X, draws=50, rows="together")
    log_scores = bbb.mixture.log_score(model.likelihood, outputs, y)
    np.testing.assert_allclose(scores["log_score"], np.mean(log_scores), rtol=1e-4)
    np.testing.assert_allclose(scores["rmse"], np.sqrt(np.mean(np.square(np.mean(outputs, 0) - y))), rtol=1e-4)
    assert isinstance(bbb.diagnose(model, None, X, y, draws=50, rows="together"), bbb.evaluate.Diagnosis)


def stacked(leaf):
    return jnp.stack([leaf, leaf])


def test_together_takes_draws_alone():
    model = model_of(APART["dense"])
    with pytest.raises(bbb.errors.InputError, match=r"without a mesh, with rows=.together., got method='last_layer'"):
        bbb.predict(KEY, model, X, method="last_layer", rows="together")
    with pytest.raises(bbb.errors.InputError, match='rows to be "apart" or "together"'):
        bbb.draws(KEY, model, X, rows="both")
