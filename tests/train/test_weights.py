"""Weights of rows: a weight of 2 is the row twice, in the bound, its gradient, training, and what is held out."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.objectives.objective import Integrated, contract_of, elbo_cost, exact_elbo_cost, negative_elbo
from bbb.train.data.rows import Data, hold_out
from bbb.train.steps.anchors import with_row_noise
from tests.devices.test_devices import found_by
from tests.same import assert_same, assert_same_history

KEY = jax.random.key(0)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.relu, bbb.nn.linear(4, 1))
RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(6, 2)), RNG.normal(size=(6, 1))
WEIGHTS = np.array([2, 1, 0, 3, 1, 1])
"""How often each row counts, as a whole number, so that it can be written out that often."""

FRACTIONS = np.array([0.5, 1.5, 0.0, 2.5, 1.0, 0.25])


def model_of(dtype="float64", likelihood=None):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), NETWORK.init(KEY))
    noise = bbb.likelihoods.Gaussian(0.5, learn=True) if likelihood is None else likelihood
    return bbb.bayesianize(NETWORK.apply, params, prior=bbb.priors.Normal(), likelihood=noise, std=0.3)


def written_out(*arrays):
    return tuple(np.repeat(array, WEIGHTS, axis=0) for array in arrays)


def exact(model, x, y, weights=None):
    """Return the bound and its gradient, without draws."""
    x, y = jnp.asarray(x), jnp.asarray(y)

    def bound(model):
        outputs = Integrated(model.apply).evaluate((), model.posterior, x)[None]
        weight = None if weights is None else jnp.asarray(weights, x.dtype)
        return exact_elbo_cost(model, outputs, y, *contract_of(jnp.ones(len(x)), weight, len(x)), 1.0).total

    return jax.value_and_grad(bound)(model)


def assert_close(a, b, tolerance=1e-12):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_a_weight_of_two_is_the_row_twice_in_the_exact_bound():
    with jax.enable_x64(True):
        model = model_of()
        assert_close(exact(model, X, Y, WEIGHTS), exact(model, *written_out(X, Y)))


@pytest.mark.parametrize("forward", [None, bbb.forwards.flipout(NETWORK.apply)])
def test_a_weight_of_two_is_the_row_twice_in_a_drawn_bound_of_one_noise(forward):
    with jax.enable_x64(True):
        model = model_of()

        def bound(model, x, y, **options):
            return negative_elbo(KEY, model, x, y, draws=3, **options)[0]

        if forward is None:  # the draws of the weights do not depend on the rows
            slope = jax.value_and_grad(bound)
            assert_close(slope(model, X, Y, sample_weight=WEIGHTS), slope(model, *written_out(X, Y)))
        # the rows' own signs are those of their places: the data term is a sum of those of each row
        _, cost = negative_elbo(KEY, model, X, Y, draws=3, forward=forward, sample_weight=WEIGHTS)
        each = [
            negative_elbo(KEY, model, X, Y, draws=3, forward=forward, sample_weight=np.eye(6)[i])[1].data_term
            for i in range(6)
        ]
        np.testing.assert_allclose(cost.data_term, np.dot(WEIGHTS, np.array(each)), rtol=1e-12)


@pytest.mark.slow
def test_a_weight_of_two_is_the_row_twice_in_distribution_where_rows_have_draws_of_their_own():
    """The mean over draws of two copies, each with noise of its own, is that of one that counts twice."""
    model, draws = model_of("float32", bbb.likelihoods.Gaussian(0.5)), 4_000
    forward = bbb.forwards.local_reparam(NETWORK.apply)

    @jax.jit
    def data_terms(key, x, y, weights):
        keys = jax.random.split(key, draws)
        return jax.vmap(lambda k: negative_elbo(k, model, x, y, forward=forward, sample_weight=weights)[1].data_term)(
            keys
        )

    one = np.asarray(data_terms(KEY, jnp.float32(X), jnp.float32(Y), jnp.float32(WEIGHTS)))
    other = np.asarray(data_terms(jax.random.key(1), *map(jnp.float32, written_out(X, Y)), jnp.ones(8, "float32")))
    error = np.hypot(one.std(), other.std()) / np.sqrt(draws)
    assert abs(one.mean() - other.mean()) < 5 * error
    assert error < 0.02 * one.mean()


def test_weights_of_one_are_no_weights(dtype):
    model = model_of(dtype)
    one, other = (negative_elbo(KEY, model, X, Y, sample_weight=w)[0] for w in (None, np.ones(6)))
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert one.dtype == other.dtype == dtype


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_mean_over_all_batches_is_the_sum_over_all_rows(size):
    """Enumerated: every subset of so many rows is as likely as any other; some have no weight at all."""
    with jax.enable_x64(True):
        model = model_of()

        @jax.jit
        @jax.grad
        def slope(model, x, y, weights):
            return negative_elbo(KEY, model, x, y, num_data=6, sample_weight=weights)[1].data_term

        def at(rows):
            return slope(model, X[list(rows)], Y[list(rows)], FRACTIONS[list(rows)])

        batches = [at(rows) for rows in itertools.combinations(range(6), size)]
        mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *batches)
        assert_close(mean, at(range(6)), 1e-10)


def test_a_user_s_cost_of_the_contract_has_no_bias_either():
    def cost(model, outputs, y, row_weights, num_data, kl_weight):
        """Return a cost as the head of `objective.py` describes it, of which the padding is seen."""
        return elbo_cost(model, outputs, y, row_weights, num_data, kl_weight)

    with jax.enable_x64(True):
        counts, weights = jnp.ones(3).at[2].set(0), jnp.array([0.5, 2.0, 7.0])
        passed, num_data = contract_of(counts, weights, 6)
        np.testing.assert_array_equal(passed, [0.5, 2.0, 0.0])
        np.testing.assert_allclose(num_data, 6 / 2 * 2.5)
        model, y = model_of(), jnp.asarray(Y[:3])
        outputs = model.apply(model.posterior.mean, jnp.asarray(X[:3]))[None]
        nats = model.likelihood.log_prob(y, outputs[0])
        expected = -3 * (0.5 * nats[0] + 2.0 * nats[1])
        np.testing.assert_allclose(cost(model, outputs, y, passed, num_data, 0.0).total, expected, rtol=1e-12)


def test_a_batch_of_rows_that_do_not_count_costs_nothing(dtype):
    model = model_of(dtype)
    cost = negative_elbo(KEY, model, X, Y, num_data=60, sample_weight=np.zeros(6))[1]
    np.testing.assert_array_equal(cost.data_term, 0)
    mse = bbb.torchbnn.mse_cost(
        model, jnp.ones((1, 6, 1)), jnp.zeros((6, 1)), *contract_of(jnp.ones(6), jnp.zeros(6), 60), 0.0
    )
    np.testing.assert_array_equal(mse.total, 0)


@pytest.mark.parametrize("cost", [None, bbb.torchbnn.mse_cost])
def test_training_with_weights_is_training_on_the_rows_as_often(cost):
    with jax.enable_x64(True):
        model, options = model_of(), {"steps": 20, "optimizer": optax.adam(1e-2), "objective": cost}
        one, history = bbb.fit(KEY, model, X, Y, sample_weight=WEIGHTS, **options)
        other, its_history = bbb.fit(KEY, model, *written_out(X, Y), **options)
        assert_close(one, other, 1e-9)
        np.testing.assert_allclose(history.data_term, its_history.data_term, rtol=1e-9)


@pytest.mark.slow
def test_rows_of_weight_0_change_nothing_of_a_training():
    keep = WEIGHTS > 0
    with jax.enable_x64(True):
        options = {"steps": 20, "optimizer": optax.adam(1e-2)}
        one, _ = bbb.fit(KEY, model_of(), X, np.where(keep[:, None], Y, 1e6), sample_weight=WEIGHTS, **options)
        other, _ = bbb.fit(KEY, model_of(), X[keep], Y[keep], sample_weight=WEIGHTS[keep], **options)
        assert_close(one, other, 1e-9)


def test_the_score_of_what_is_held_out_is_weighted():
    model = model_of("float32", bbb.likelihoods.Gaussian(0.5))
    at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(NETWORK.apply))
    options = {"steps": 1, "optimizer": optax.sgd(0.0), "objective": at_mean, "validation": 0.5}
    weights = np.float32(FRACTIONS)
    _, history = bbb.fit(KEY, model, X, Y, sample_weight=weights, **options)
    _, scored = hold_out(KEY, model, Data(jnp.float32(X), jnp.float32(Y), weights), 0.5)
    nats = model.likelihood.log_prob(scored.y, model.apply(model.posterior.mean, scored.x))
    np.testing.assert_allclose(
        history.validation_log_score, [np.average(nats, weights=scored.sample_weight)], rtol=1e-5
    )


@pytest.mark.slow
def test_each_of_several_trainings_has_weights_of_its_own():
    with jax.enable_x64(True):
        keys, models, options = jax.random.split(KEY), [model_of()] * 2, {"steps": 10, "batch_size": 4}
        weights = [WEIGHTS, FRACTIONS]
        trained, _ = bbb.train.fit_each(keys, models, [X, X], [Y, Y], sample_weight=weights, **options)
        for key, one, w in zip(keys, trained, weights, strict=True):
            assert_close(one, bbb.fit(key, model_of(), X, Y, sample_weight=w, **options)[0], 1e-9)


def test_weights_are_part_of_a_checkpoint_s_run(tmp_path):
    options = {"optimizer": optax.adam(1e-2), "batch_size": 4}
    resuming = bbb.train.Checkpointing(tmp_path, resume=True)
    model = model_of("float32")
    bbb.fit(KEY, model, X, Y, steps=10, checkpoints=tmp_path, sample_weight=WEIGHTS, **options)
    for other in (None, FRACTIONS):
        with pytest.raises(bbb.errors.InputError, match="got another sample_weight"):
            bbb.fit(KEY, model, X, Y, steps=20, checkpoints=resuming, sample_weight=other, **options)
    halves = bbb.fit(KEY, model, X, Y, steps=20, checkpoints=resuming, sample_weight=WEIGHTS, **options)
    whole = bbb.fit(KEY, model, X, Y, steps=20, sample_weight=WEIGHTS, **options)
    assert_same(halves[0], whole[0])
    assert_same_history(halves[1], whole[1])


ON_A_MESH = """
import sys
import jax, numpy as np
import bbb
from tests.train.test_weights import KEY, WEIGHTS, X, Y, model_of
jax.config.update("jax_enable_x64", True)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
found = {}
for size in (None, 4):
    options = {"steps": 10, "batch_size": size, "sample_weight": WEIGHTS}
    for where, placement in (("mesh", mesh), ("one", None)):
        trained, _ = bbb.fit(KEY, model_of(), X, Y, placement=placement, **options)
        for i, leaf in enumerate(jax.tree.leaves(trained)):
            found[f"{where} {size} {i}"] = np.asarray(leaf)
np.savez(sys.argv[1], **found)
"""


@pytest.mark.slow
def test_two_devices_train_the_same_with_weights(tmp_path):
    found = found_by(ON_A_MESH, 2, tmp_path)
    for name, leaf in found.items():
        np.testing.assert_allclose(leaf, found[name.replace("mesh", "one")], rtol=1e-9, atol=1e-12)
    assert len(found) > 20


def test_the_noise_of_anchored_rows_is_that_of_as_many_together():
    """The noise of two rows sums to a variance of 2: that of a row of weight 2, before it is doubled, is 1/√2."""
    model, rows, outputs = model_of("float32"), jnp.arange(6, dtype=jnp.uint32), jnp.ones((1, 6, 1))
    plain, weighted = (
        with_row_noise(KEY, model, rows, outputs, w).likelihood.unit for w in (None, jnp.float32(WEIGHTS))
    )
    expected = plain / np.sqrt(np.maximum(WEIGHTS, 1))[:, None]
    np.testing.assert_allclose(weighted, expected, rtol=1e-6)


def test_anchored_members_are_trained_with_weights():
    model = dataclasses.replace(model_of("float32"), likelihood=bbb.likelihoods.Gaussian(0.5))
    trained, _ = bbb.fit(
        KEY, model, X, Y, steps=5, restarts=bbb.train.Restarts(2, anchored=True), sample_weight=WEIGHTS
    )
    assert trained.members == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))
