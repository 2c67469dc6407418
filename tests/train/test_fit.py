"""Training: reaches the known optimum, uses every row, repeats itself, reports, and stops on bad numbers."""

import _thread
import gc
import importlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.objectives.objective import Cost

plan_module = importlib.import_module("bbb.train.plan")
loop_module = importlib.import_module("bbb.train.loop")

KEY = jax.random.key(0)
STILL = optax.sgd(0.0)
ADAM = optax.adam(1e-2)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2))
Y = X @ [[1.0], [-2.0]] + 0.5 * RNG.normal(size=(12, 1))


def line(w, x):
    return x @ w


def model_of(dtype="float32", std=0.3, learn=False, outputs=1):
    return bbb.bayesianize(
        line,
        jnp.zeros((2, outputs), dtype),
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian([0.5] * outputs, learn=learn),
        std=std,
    )


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(a, b):
    for left, right in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(left, right)


# --- the optimum ---------------------------------------------------------------------------------------------------

ORTHOGONAL = np.linalg.qr(RNG.normal(size=(30, 2)))[0] * [4.0, 1.5]
TARGET = ORTHOGONAL @ [[0.8], [-1.5]] + 0.5 * RNG.normal(size=(30, 1))
DECAYING = optax.adam(optax.exponential_decay(0.05, 500, 0.3))
PRECISION = (ORTHOGONAL**2).sum(0) / 0.5**2 + 1.0  # of the exact posterior, which factorises
EXACT_MEAN, EXACT_STD = ORTHOGONAL.T @ TARGET / 0.5**2 / PRECISION[:, None], PRECISION[:, None] ** -0.5


def test_a_conjugate_regression_is_learned_to_2_percent(dtype):
    after, _ = bbb.fit(
        KEY,
        model_of(dtype),
        ORTHOGONAL,
        TARGET,
        steps=3000,
        objective=bbb.train.Objective(draws=16),
        optimizer=DECAYING,
    )
    assert after.posterior.mean.dtype == dtype
    np.testing.assert_allclose(after.posterior.mean, EXACT_MEAN, rtol=0.02)
    np.testing.assert_allclose(after.posterior.std, EXACT_STD, rtol=0.02)


def test_batches_learn_the_same_to_5_percent():
    after, _ = bbb.fit(
        KEY,
        model_of(),
        ORTHOGONAL,
        TARGET,
        steps=3000,
        objective=bbb.train.Objective(draws=16),
        batch_size=8,
        optimizer=DECAYING,
    )
    np.testing.assert_allclose(after.posterior.mean, EXACT_MEAN, rtol=0.05)
    np.testing.assert_allclose(after.posterior.std, EXACT_STD, rtol=0.05)


def test_the_noise_is_learned_when_asked_and_recorded_before_each_update():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2))
    y = x @ [[1.0, 0.0], [0.0, 1.0]] + rng.normal(size=(200, 2)) * [0.1, 1.5]
    trained, history = bbb.fit(
        KEY,
        model_of(learn=True, outputs=2),
        x,
        y,
        steps=1500,
        optimizer=DECAYING,
        objective=bbb.train.Objective(draws=4),
    )
    assert history.noise_std.shape == (1500, 2)
    np.testing.assert_allclose(history.noise_std[0], 0.5, rtol=1e-6)
    residual = (y - x @ np.asarray(trained.posterior.mean)).std(0)
    np.testing.assert_allclose(trained.likelihood.std, residual, rtol=0.05)


# --- which rows ------------------------------------------------------------------------------------------------------


def row_sum(model, outputs, y, row_weights, num_data, kl_weight):
    """Record the sum of y over the batch, and how many rows count; learn nothing."""
    return Cost(0.0 * jnp.sum(outputs), jnp.dot(row_weights, y[:, 0]), jnp.sum(row_weights))


def test_every_row_is_used_once_an_epoch_the_last_short_batch_included():
    with jax.enable_x64(True):
        powers = 2.0 ** np.arange(12)[:, None]  # a sum of some of them says which
        _, history = bbb.fit(
            KEY, model_of("float64"), X, powers, epochs=20, batch_size=5, objective=row_sum, optimizer=STILL
        )
    batches = history.data_term.astype(int).reshape(20, 3)
    np.testing.assert_array_equal(history.kl.reshape(20, 3), [[5, 5, 2]] * 20)
    np.testing.assert_array_equal([[int(b).bit_count() for b in epoch] for epoch in batches], [[5, 5, 2]] * 20)
    np.testing.assert_array_equal(np.bitwise_or.reduce(batches, axis=1), 2**12 - 1)
    assert len({tuple(epoch) for epoch in batches}) == 20  # reshuffled
    short = np.array([[b >> i & 1 for i in range(12)] for b in batches[:, 2]])
    assert (short.sum(0) > 0).all()  # 40 rows in short batches: no row is always, and none never, among the last


def test_row_weights_are_of_the_outputs_dtype_whatever_that_of_y():
    dtypes = []

    def cost(model, outputs, y, row_weights, num_data, kl_weight):
        dtypes.append(tuple(str(part.dtype) for part in (outputs, y, row_weights)))
        return Cost(0.0 * jnp.sum(outputs), jnp.sum(row_weights), jnp.sum(row_weights))

    model = bbb.bayesianize(
        lambda w, x: x @ w,
        jnp.ones((2, 3)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Categorical(),
    )
    _, history = bbb.fit(
        jax.random.key(0), model, np.ones((5, 2)), np.arange(5) % 3, epochs=1, batch_size=3, objective=cost
    )
    assert set(dtypes) == {("float32", "int32", "float32")}
    np.testing.assert_array_equal(history.data_term, [3, 2])


def test_the_block_of_noise_is_sized_by_the_forwards_own(monkeypatch):
    blocks = []
    run_chunk = loop_module.run_chunk

    def spy(*args, recipe, large):
        blocks.append(recipe.block)
        return run_chunk(*args, recipe=recipe, large=large)

    monkeypatch.setattr(loop_module, "run_chunk", spy)
    monkeypatch.setattr(plan_module, "NOISE_ELEMENTS", 60)
    model = model_of()
    for forward in (bbb.forwards.weight_sampling, bbb.forwards.local_reparam):  # 2 weights; 20 rows of 1 pre-activation
        bbb.fit(
            jax.random.key(0),
            model,
            np.ones((20, 2)),
            np.ones((20, 1)),
            steps=70,
            objective=bbb.train.Objective(forward=forward(model.apply)),
        )
    assert (blocks[0], blocks[-1]) == (30, 3)


def test_x_and_y_of_a_row_stay_together():
    rows = np.arange(12.0)[:, None]

    def mismatch(model, outputs, y, row_weights, num_data, kl_weight):
        return Cost(0.0 * jnp.sum(outputs), jnp.sum(jnp.square(outputs[0] - y)), jnp.sum(row_weights))

    model = bbb.BNN(
        line, bbb.MeanField.around(jnp.ones((1, 1)), 1e-30), bbb.priors.Normal(), bbb.likelihoods.Gaussian(1.0)
    )
    _, history = bbb.fit(KEY, model, rows, rows, epochs=3, batch_size=5, objective=mismatch, optimizer=STILL)
    np.testing.assert_array_equal(history.data_term, 0.0)


def test_the_batches_of_an_epoch_average_to_the_full_batch():
    model = model_of(std=1e-30)
    _, history = bbb.fit(KEY, model, X, Y, epochs=1, batch_size=5, optimizer=STILL)
    _, whole = bbb.objectives.negative_elbo(KEY, model, X, Y)
    assert history.loss.shape == (3,)
    weighted = (history.data_term * [5, 5, 2]).sum() / 12
    np.testing.assert_allclose(weighted, whole.data_term, rtol=1e-5)


def test_a_batch_of_all_rows_or_more_is_the_full_batch():
    results = [bbb.fit(KEY, model_of(), X, Y, epochs=8, batch_size=size, optimizer=ADAM) for size in (None, 12, 99)]
    assert results[0][1].loss.shape == (8,)
    assert_same(results[0][0], results[1][0])
    assert_same(results[0][0], results[2][0])


# --- the history -----------------------------------------------------------------------------------------------------


def test_loss_is_data_term_plus_the_scheduled_weight_times_kl():
    schedule = optax.linear_schedule(0.0, 2.0, 40)
    _, history = bbb.fit(
        KEY, model_of(), X, Y, steps=64, objective=bbb.train.Objective(kl_weight=schedule), optimizer=ADAM
    )
    weights = np.minimum(np.arange(64) / 40, 1.0) * 2.0
    expected = history.data_term + weights * history.kl
    np.testing.assert_allclose(history.loss, expected, rtol=8 * np.finfo("float32").eps)  # optax counts in float32
    np.testing.assert_allclose(history.negative_elbo, history.data_term + history.kl)
    assert history.cost == "elbo_cost"
    for record in (history.loss, history.data_term, history.kl):
        assert record.shape == (64,)
        assert record.dtype == np.float32
    assert history.noise_std.shape == (64, 1)


def test_the_history_starts_with_the_model_as_it_was():
    model = model_of(std=1e-30)
    _, history = bbb.fit(KEY, model, X, Y, steps=8, optimizer=ADAM)
    _, cost = bbb.objectives.negative_elbo(KEY, model, X, Y)
    np.testing.assert_allclose(history.loss[0], cost.total, rtol=1e-5)
    np.testing.assert_allclose(history.kl[0], cost.kl, rtol=1e-5)


def test_the_bound_is_refused_of_a_cost_that_is_none():
    _, history = bbb.fit(KEY, model_of(), X, Y, steps=4, objective=bbb.torchbnn.mse_cost, optimizer=ADAM)
    with pytest.raises(
        bbb.errors.InputError, match=r"one of mse_cost, whose data term is not in nats\. Read history.loss"
    ):
        _ = history.negative_elbo


def test_draws_and_steps_have_independent_noise():
    def two_draws(model, outputs, y, row_weights, num_data, kl_weight):
        return Cost(0.0 * jnp.sum(outputs), outputs[0, 0, 0], outputs[1, 0, 0])

    n, model = 2000, model_of(std=1.0)
    _, history = bbb.fit(
        KEY,
        model,
        np.array([[1.0, 0.0]]),
        np.zeros((1, 1)),
        steps=n,
        objective=bbb.train.Objective(two_draws, draws=2),
        optimizer=STILL,
    )
    first, second = history.data_term.astype("float64"), history.kl.astype("float64")
    for a, b in ((first, second), (first[1:], first[:-1]), (first[1:], second[:-1])):
        assert abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(n) < 5
    for sample in (first, second):
        assert abs(sample.mean()) * np.sqrt(n) < 5
        assert abs(sample.std() - 1) * np.sqrt(2 * n) < 5


# --- repeatable ------------------------------------------------------------------------------------------------------


def trained(steps=50, **options):
    return bbb.fit(
        KEY,
        model_of(),
        X,
        Y,
        steps=steps,
        batch_size=5,
        objective=bbb.train.Objective(draws=2),
        optimizer=ADAM,
        **options,
    )


def test_the_same_key_gives_the_same_training_and_another_key_another():
    model, history = trained()
    again, same = trained()
    assert_same(model, again)
    np.testing.assert_array_equal(history.loss, same.loss)
    _, other = bbb.fit(
        jax.random.key(1),
        model_of(),
        X,
        Y,
        steps=50,
        batch_size=5,
        objective=bbb.train.Objective(draws=2),
        optimizer=ADAM,
    )
    assert (other.loss != history.loss).all()


@pytest.mark.parametrize("constants", [{"MAX_CHUNK": 7}, {"NOISE_ELEMENTS": 12}, {"CHUNK_SECONDS": 1e-9}])
def test_training_does_not_depend_on_how_it_is_cut(constants, monkeypatch):
    model, history = trained()
    for name, value in constants.items():
        monkeypatch.setattr(plan_module if hasattr(plan_module, name) else loop_module, name, value)
    cut, same = trained()
    np.testing.assert_allclose(same.loss, history.loss, rtol=1e-4)  # other programs round otherwise
    for got, want in zip(arrays(cut), arrays(model), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_shorter_training_is_the_start_of_a_longer_one():
    _, longer = trained()
    _, shorter = trained(steps=20)
    np.testing.assert_allclose(shorter.loss, longer.loss[:20], rtol=1e-4)


def test_the_users_model_is_neither_changed_nor_deleted():
    model = model_of(learn=True)
    before = [leaf.copy() for leaf in arrays(model)]
    after, _ = bbb.fit(KEY, model, X, Y, steps=8, optimizer=ADAM)
    assert_same(model, before)
    bbb.fit(KEY, after, X, Y, steps=8, optimizer=ADAM)
    assert all(np.isfinite(leaf).all() for leaf in arrays(after))
    assert not np.array_equal(after.posterior.mean, model.posterior.mean)


def test_what_is_not_learned_stays_as_it_was():
    after, _ = bbb.fit(KEY, model_of(), X, Y, steps=8, optimizer=ADAM)
    assert_same((after.prior, after.likelihood), (model_of().prior, model_of().likelihood))
    assert after.apply is line


# --- the bar, bad numbers, Ctrl-C ------------------------------------------------------------------------------------


def test_the_bar_is_shown_if_asked_for(capsys):
    trained(progress=True)
    shown = capsys.readouterr()
    assert "fit" in shown.err
    assert "50/50" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("progress", [None, False])
def test_no_bar_where_stderr_is_no_terminal_or_it_is_refused(progress, capsys):
    trained(progress=progress)
    assert capsys.readouterr() == ("", "")


def climb(model, outputs, y, row_weights, num_data, kl_weight):
    """Push the one output up by the learning rate at every step."""
    return Cost(-jnp.mean(outputs), -jnp.mean(outputs), jnp.zeros((), outputs.dtype))


def breaks_above_2(w, x):
    return jnp.where(w > 2, jnp.nan, w) * x


def climbing(start):
    return bbb.bayesianize(
        breaks_above_2,
        jnp.full((1, 1), start),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(1.0),
        std=1e-30,
    )


ONE = np.ones((1, 1))
ONE_UP = optax.sgd(1.0)


def test_a_loss_that_turns_nan_stops_training_and_keeps_the_last_good_model():
    with pytest.raises(bbb.errors.NonFiniteLossError) as caught:
        bbb.fit(KEY, climbing(0.5), ONE, ONE, steps=40, objective=climb, optimizer=ONE_UP)  # 0.5, 1.5, 2.5: NaN
    error = caught.value
    assert error.step == 2
    assert "at step 2 (from 0)" in str(error)
    assert "Lower the learning rate" in str(error)
    assert error.history.loss.shape == error.history.kl.shape == (2,)
    np.testing.assert_allclose(error.history.loss, [-0.5, -1.5])
    np.testing.assert_allclose(error.model.posterior.mean, 1.5)  # the last model whose loss was finite


def test_a_loss_that_is_nan_at_once_is_step_0():
    with pytest.raises(bbb.errors.NonFiniteLossError) as caught:
        bbb.fit(KEY, climbing(3.0), ONE, ONE, steps=40, objective=climb, optimizer=ONE_UP)
    assert caught.value.step == 0
    assert caught.value.history.loss.shape == (0,)
    np.testing.assert_array_equal(caught.value.model.posterior.mean, 3.0)


def test_a_learning_rate_that_is_far_too_large_is_told_with_a_finite_model():
    with pytest.raises(bbb.errors.NonFiniteLossError) as caught:
        bbb.fit(KEY, model_of(), X, Y, steps=200, optimizer=optax.sgd(1e6))
    error = caught.value
    assert len(error.history.loss) == error.step < 200
    assert np.isfinite(error.history.loss).all()
    assert all(np.isfinite(leaf).all() for leaf in arrays(error.model))


def test_ctrl_c_stops_a_training_soon():
    options = {"batch_size": 5, "optimizer": ADAM}
    # The same program is compiled first: JAX may lose a Ctrl+C that comes meanwhile, and training would go on and on.
    bbb.fit(KEY, model_of(), X, Y, steps=plan_module.MAX_CHUNK, **options)
    gc.collect()
    gc.disable()  # Python drops one that comes while it deletes an object, such as a bar of another test
    timer = threading.Timer(1.0, _thread.interrupt_main)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            bbb.fit(KEY, model_of(), X, Y, steps=100_000_000, **options)
    finally:
        timer.cancel()
        gc.enable()


def test_one_key_for_training_and_for_predicting_shares_no_noise():
    """Once it did: the posterior met the noise it had been fitted to, and its band came out 18 % narrow."""
    task = bbb.tasks.regression(0)
    layers = bbb.nn.linear(1, 300, init="torchbnn"), bbb.nn.relu, bbb.nn.linear(300, 1, init="torchbnn")
    network = bbb.nn.sequential(*layers)
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 0.1),
        likelihood=bbb.likelihoods.Gaussian(),
        std=0.1,
    )
    key, other = jax.random.key(5), jax.random.key(9)
    cost = bbb.train.Objective(bbb.torchbnn.mse_cost, kl_weight=0.01)
    model, _ = bbb.fit(key, model, task.x, task.y, steps=1000, objective=cost)
    same, fresh = (bbb.predict(k, model, task.x_test[::30], draws=1000).f for k in (key, other))
    assert np.all(np.abs(same.std - fresh.std) < 4 * np.hypot(same.mcse_std, fresh.mcse_std))
