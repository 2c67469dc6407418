"""Streams of batches: the same model as arrays in that order, any iterable, and errors that keep what was trained."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import bbb
from bbb.errors import InputError, NonFiniteInputError, ShapeError, StreamError
from bbb.train.steps.state import ORDER_KEYS

ROWS, SIZE, STEPS = 50, 16, 10
KEY = jax.random.key(1)
NETWORK = bbb.nn.sequential(bbb.nn.linear(3, 6), bbb.nn.tanh, bbb.nn.linear(6, 1))
HOW = {"steps": STEPS, "progress": False}


@functools.cache
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    return x, (np.sin(x[:, :1]) + 0.1 * rng.normal(size=(ROWS, 1))).astype(np.float32)


def model_of(apply=NETWORK.apply):
    start, likelihood = NETWORK.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.3, learn=True)
    return bbb.bayesianize(apply, start, prior=bbb.priors.Normal(), likelihood=likelihood)


def in_the_order_of_fit(epoch):
    """Yield the batches that `fit` makes of arrays, with the last of a pass a short one."""
    x, y = data()
    order = np.asarray(jax.random.permutation(jax.random.fold_in(KEY, np.uint32(ORDER_KEYS + epoch)), ROWS))
    for start in range(0, ROWS, SIZE):
        some = order[start : start + SIZE]
        yield x[some], y[some]


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


OPTIONS = {
    "plain": {},
    "local_reparam": {"objective": bbb.train.Objective(forward=bbb.forwards.local_reparam(NETWORK.apply), draws=2)},
    "validation": {"validation": bbb.train.EarlyStopping(tuple(part[:9] for part in data()), every=3)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_stream_gives_bit_for_bit_the_model_of_arrays_in_the_same_order(name):
    of_arrays, history = bbb.fit(KEY, model_of(), *data(), batch_size=SIZE, **HOW, **OPTIONS[name])
    of_stream, other = bbb.fit(KEY, model_of(), data=in_the_order_of_fit, num_data=ROWS, **HOW, **OPTIONS[name])
    assert_same(of_arrays.posterior, of_stream.posterior)
    assert_same(of_arrays.likelihood, of_stream.likelihood)
    np.testing.assert_array_equal(history.loss, other.loss)


def test_a_stream_is_read_in_the_dtype_of_the_caller(dtype):
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), NETWORK.init(jax.random.key(0)))
    model = bbb.bayesianize(NETWORK.apply, start, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.3))
    of_arrays, _ = bbb.fit(KEY, model, *data(), batch_size=SIZE, **HOW)
    of_stream, _ = bbb.fit(KEY, model, data=in_the_order_of_fit, num_data=ROWS, **HOW)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(of_stream.posterior)} == {dtype}
    assert_same(of_arrays.posterior, of_stream.posterior)


def test_members_see_the_same_batches_from_starts_of_their_own():
    restarts = {"restarts": bbb.train.Restarts(2, init=NETWORK.init)}
    of_arrays, _ = bbb.fit(KEY, model_of(), *data(), **HOW, **restarts)
    of_stream, _ = bbb.fit(KEY, model_of(), data=[data()], num_data=ROWS, **HOW, **restarts)
    assert_same(of_arrays.posterior, of_stream.posterior)


def test_one_batch_of_all_rows_is_a_full_batch():
    of_arrays, _ = bbb.fit(KEY, model_of(), *data(), **HOW)
    of_stream, _ = bbb.fit(KEY, model_of(), data=[data()], num_data=ROWS, **HOW)
    assert_same(of_arrays.posterior, of_stream.posterior)


def test_buffers_and_their_size_change_nothing(monkeypatch):
    whole, _ = bbb.fit(KEY, model_of(), data=in_the_order_of_fit, num_data=ROWS, **HOW)
    monkeypatch.setattr("bbb.train.data.feed.MOST_BATCHES", 3)
    threes, _ = bbb.fit(KEY, model_of(), data=in_the_order_of_fit, num_data=ROWS, **HOW)
    assert_same(whole.posterior, threes.posterior)


def test_a_short_batch_compiles_nothing_again():
    from bbb.train.steps.step import run_chunk

    before = run_chunk._cache_size() if hasattr(run_chunk, "_cache_size") else None
    traces = []

    def counted(params, x):
        traces.append(x.shape)
        return NETWORK.apply(params, x)

    bbb.fit(KEY, model_of(counted), data=in_the_order_of_fit, num_data=ROWS, steps=4, progress=False)
    assert before is None or run_chunk._cache_size() <= before + 1
    short = ROWS % SIZE
    assert (short, 3) in traces  # its shapes were checked
    assert traces.count((SIZE, 3)) > 1


def test_a_pass_is_as_many_steps_as_the_stream_says_or_as_hold_all_rows():
    x, y = data()
    batches = [(x[:SIZE], y[:SIZE])] * 3
    of_list = bbb.fit(KEY, model_of(), data=batches, num_data=ROWS, epochs=2, progress=False)[1]
    of_function = bbb.fit(KEY, model_of(), data=in_the_order_of_fit, num_data=ROWS, epochs=2, progress=False)[1]
    assert len(of_list.loss) == 6
    assert len(of_function.loss) == 8


def test_a_loader_of_torch_is_a_stream():
    x, y = (torch.tensor(part) for part in data())
    plain = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=SIZE)
    in_order = [tuple(part[i : i + SIZE] for part in data()) for i in range(0, ROWS, SIZE)]
    one, _ = bbb.fit(KEY, model_of(), data=plain, num_data=ROWS, **HOW)
    other, _ = bbb.fit(KEY, model_of(), data=in_order, num_data=ROWS, **HOW)
    assert_same(one.posterior, other.posterior)


def test_a_loader_of_trees_gives_trees():
    """What a loader makes of pairs of inputs is a list, and of dictionaries a dictionary."""
    x, y = (torch.tensor(part) for part in data())

    def of_pair(params, x):
        return NETWORK.apply(params, jnp.concatenate([x[0], x[1]], axis=1))

    def of_dict(params, x):
        return NETWORK.apply(params, jnp.concatenate([x["left"], x["right"]], axis=1))

    pairs = [((x[i, :2], x[i, 2:]), y[i]) for i in range(ROWS)]
    dicts = [({"left": x[i, :2], "right": x[i, 2:]}, y[i]) for i in range(ROWS)]
    trained = [
        bbb.fit(KEY, model_of(apply), data=torch.utils.data.DataLoader(rows, batch_size=SIZE), num_data=ROWS, **HOW)[0]
        for apply, rows in ((of_pair, pairs), (of_dict, dicts))
    ]
    assert_same(*(model.posterior for model in trained))


def test_weights_come_with_their_rows():
    x, y = data()
    weights = np.arange(ROWS) % 3.0
    batches = [(x, y, weights)]
    of_arrays, _ = bbb.fit(KEY, model_of(), x, y, sample_weight=weights, **HOW)
    of_stream, _ = bbb.fit(KEY, model_of(), data=batches, num_data=ROWS, **HOW)
    assert_same(of_arrays.posterior, of_stream.posterior)


def test_what_rows_share_is_the_same_in_every_batch():
    x, y = data()

    def shifted(params, x):
        return NETWORK.apply(params, x["columns"] + x["shift"].value)

    shift = bbb.networks.Shared(np.ones((1, 3), np.float32))
    of_tree = [({"columns": part, "shift": shift}, target) for part, target in in_the_order_of_fit(0)]
    one, _ = bbb.fit(KEY, model_of(shifted), data=of_tree, num_data=ROWS, **HOW)
    moved = [(part + 1, target) for part, target in in_the_order_of_fit(0)]
    other, _ = bbb.fit(KEY, model_of(), data=moved, num_data=ROWS, **HOW)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), one.posterior, other.posterior)
    assert x.shape == (ROWS, 3)
    assert y.shape == (ROWS, 1)


def test_two_halves_of_a_run_are_the_whole(tmp_path):
    whole, _ = bbb.fit(KEY, model_of(), data=in_the_order_of_fit, num_data=ROWS, **HOW)
    options = bbb.train.Checkpointing(tmp_path / "run", resume=True)
    how = {"data": in_the_order_of_fit, "num_data": ROWS, "checkpoints": options, "progress": False}
    bbb.fit(KEY, model_of(), steps=6, **how)
    halves, history = bbb.fit(KEY, model_of(), steps=STEPS, **how)
    assert_same(whole.posterior, halves.posterior)
    assert len(history.loss) == STEPS
    with pytest.raises(InputError, match="checkpoints of this run, got another x"):
        bbb.fit(KEY, model_of(), steps=STEPS, **{**how, "num_data": ROWS + 1})


def test_the_thread_that_reads_ends_with_the_training():
    bbb.fit(KEY, model_of(), data=in_the_order_of_fit, num_data=ROWS, **HOW)
    for thread in threading.enumerate():
        if thread.name == "bbb batches":
            thread.join(10)
            assert not thread.is_alive()


# Batches of predictions


def test_predictions_of_batches_are_those_of_all_rows():
    x, _ = data()
    model, key = model_of(), jax.random.key(2)
    whole = bbb.predict(key, model, x, draws=20, levels=(0.9,))
    parts = bbb.predictive.predict_batches(key, model, (x[i : i + SIZE] for i in range(0, ROWS, SIZE)), draws=20)
    found = list(parts)
    assert [len(part.f.mean) for part in found] == [16, 16, 16, 2]
    joined = np.concatenate([part.y.std for part in found])
    np.testing.assert_allclose(joined, whole.y.std, rtol=1e-5)


def test_a_bad_batch_of_predictions_is_named():
    x, _ = data()
    parts = bbb.predictive.predict_batches(jax.random.key(2), model_of(), [x, np.full((2, 3), np.nan)], draws=5)
    assert next(parts).f.mean.shape == (ROWS, 1)
    with pytest.raises(NonFiniteInputError, match="Expected x of batch 1 to hold finite numbers only, got 6"):
        next(parts)


# Errors, which keep what was trained


def broken(kind):
    """Return a stream whose batch 3 is bad."""

    def batches(epoch):
        x, y = (part[:SIZE] for part in data())
        yield from [(x, y)] * 3
        if kind == "raises":
            raise OSError("the disk is gone.")
        yield {
            "NaN": (np.where(x > 9, x, np.nan), y),
            "columns": (x[:, :2], y),
            "target": (x, y[:, 0]),
            "rows": tuple(part[: SIZE + 1] for part in data()),
            "fewer targets": (x, y[:-1]),
            "dtype": (np.ones(x.shape, int), y),
            "tree": ({"a": x}, y),
            "no pair": {"x": x, "y": y},
            "weights": (x, y, np.ones(SIZE)),
        }[kind]

    return batches


ERRORS = {
    "raises": "Expected batch 3 of data, got OSError from where it comes: the disk is gone. Look at the code",
    "NaN": "Expected x of batch 3 to hold finite numbers only, got 48 that are NaN or infinite",
    "columns": "Expected 'x' of batch 3 to have rows of the shape (3,) of the first, got (2,). Make all batches alike",
    "target": "Expected 'y' of batch 3 to have rows of the shape (1,) of the first, got (). Make all batches alike",
    "rows": "Expected batch 3 to have at most the 16 rows of the first, got 17. Make all batches alike; the first has",
    "fewer targets": "Expected y to have the 16 rows of x, got 15 rows",
    "dtype": "Expected 'x' of batch 3 to have the dtype float32 of the first, got int32",
    "tree": "Expected 'x' of batch 3 to have the structure of the first, PyTreeDef(*), got PyTreeDef({'a': *})",
    "no pair": "Expected batch 3 of data to be (x, y) or (x, y, sample_weight), got a dict. Make pairs of them",
    "weights": "Expected 'sample_weight' of batch 3 to have the structure of the first, PyTreeDef(None), got",
}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_bad_batch_is_named_and_what_was_trained_is_kept(kind):
    with pytest.raises(StreamError) as caught:
        bbb.fit(KEY, model_of(), data=broken(kind), num_data=ROWS, **HOW)
    assert str(caught.value).startswith(ERRORS[kind])
    assert str(caught.value).endswith(
        "What was trained before it is this error's .model, and its .history is that of those steps."
    )
    x, y = (part[:SIZE] for part in data())
    kept, _ = bbb.fit(KEY, model_of(), data=[(x, y)], num_data=ROWS, steps=3, progress=False)
    assert_same(caught.value.model.posterior, kept.posterior)
    assert len(caught.value.history.loss) == 3


def test_an_iterator_that_ends_early_says_after_how_many():
    batches = iter([tuple(part[:SIZE] for part in data())] * 3)
    with pytest.raises(StreamError, match="Expected batches for every step, got an end after 3"):
        bbb.fit(KEY, model_of(), data=batches, num_data=ROWS, **HOW)


def test_members_are_kept_as_an_ensemble():
    with pytest.raises(StreamError) as caught:
        bbb.fit(
            KEY, model_of(), data=broken("NaN"), num_data=ROWS, **HOW, restarts=bbb.train.Restarts(2, init=NETWORK.init)
        )
    assert caught.value.model.members == 2


def test_a_network_whose_rows_meet_is_refused():
    def mixing(params, x):
        return NETWORK.apply(params, x - jnp.mean(x, axis=0, keepdims=True))

    with pytest.raises(InputError, match="processes each row of x by itself, for batches hold some rows only"):
        bbb.fit(KEY, model_of(mixing), data=in_the_order_of_fit, num_data=ROWS, **HOW)


PAIR = tuple(part[:SIZE] for part in data())
REFUSED = {
    "nothing": ({}, InputError, "Expected x and y, or data, got none. Pass arrays of all rows; or data=[(x, y)]"),
    "both": ({"x": PAIR[0], "data": [PAIR], "num_data": 3}, InputError, "Expected x and y, or data, got both."),
    "y alone": ({"y": PAIR[1]}, InputError, "Expected x to be real numbers in an array, got None"),
    "no num_data": ({"data": [PAIR]}, InputError, "Expected num_data with data, got none. Pass num_data=, the rows"),
    "num_data": ({"data": [PAIR], "num_data": 0}, InputError, "Expected num_data to be"),
    "num_data of arrays": ({"x": PAIR[0], "y": PAIR[1], "num_data": 3}, InputError, "Expected num_data with data"),
    "a word": ({"data": "abc", "num_data": 3}, InputError, "Expected data to be an iterable of batches (x, y), got a"),
    "a number": ({"data": 3, "num_data": 3}, InputError, "Expected data to be an iterable of batches (x, y), got a i"),
    "empty": ({"data": [], "num_data": 3}, InputError, "Expected data to hold at least one batch (x, y), got none."),
    "batch_size": (
        {"data": [PAIR], "num_data": 3, "batch_size": 4}, InputError, "Expected no batch_size with data, got 4. Leave",
    ),
    "sample_weight": (
        {"data": [PAIR], "num_data": 3, "sample_weight": np.ones(SIZE)},
        InputError, "Expected no sample_weight with data, got",
    ),
    "share": (
        {"data": [PAIR], "num_data": 3, "validation": 0.1}, InputError, "Expected no validation with data, got 0.1.",
    ),
    "anchored": (
        {"data": [PAIR], "num_data": 3, "restarts": bbb.train.Restarts(2, anchored=True)},
        InputError, "Expected no anchored with data, got True. Pass x and y",
    ),
    "steps and epochs": (
        {"data": [PAIR], "num_data": 3, "steps": 1, "epochs": 1}, InputError, "Expected steps or epochs, got both.",
    ),
    "columns": ({"data": [(PAIR[0][:, :2], PAIR[1])], "num_data": 3}, ShapeError, "Expected parameters and an x that"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_training(case):
    given, error, text = REFUSED[case]
    with pytest.raises(error) as caught:
        bbb.fit(KEY, model_of(), **given, progress=False)
    assert str(caught.value).startswith(text)
