"""Streams with a state of their own: a training goes on at the very batch, and reads none before it."""

import collections
import functools
import json

import numpy as np
import pytest
import torch

import bbb
from bbb.errors import InputError, ModelFileError, StreamError
from bbb.storage import arrays as arrays_module
from bbb.train.checkpoints.snapshot import KIND, PLACE
from bbb.train.data.states import decoded, encoded
from tests.train.test_stream import HOW, KEY, ROWS, SIZE, STEPS, assert_same, data, in_the_order_of_fit, model_of

PASS = 4  # batches, the last of 2 rows


@functools.cache
def whole():
    return bbb.fit(KEY, model_of(), data=in_the_order_of_fit, num_data=ROWS, **HOW)


class Iterator:
    """The batches of a pass, with a state: grain's way."""

    def __init__(self, epoch, read):
        self.epoch, self.read, self.at = epoch, read, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == PASS:
            raise StopIteration
        self.at += 1
        self.read.append((self.epoch, self.at - 1))
        return list(in_the_order_of_fit(self.epoch))[self.at - 1]

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


class Loader:
    """A loader with a state, whose iterators go on from it: torchdata's way."""

    def __init__(self, read):
        self.read, self.epoch, self.state, self.done = read, -1, None, 0

    def __len__(self):
        return PASS

    def __iter__(self):
        if self.state is None:
            self.epoch += 1
        begin, self.state = (self.state or (0, 0))[1], None
        for number, batch in enumerate(in_the_order_of_fit(self.epoch)):
            if number >= begin:
                self.done = number + 1
                self.read.append((self.epoch, number))
                yield batch

    def state_dict(self):
        return {"epoch": np.int64(self.epoch), "done": (b"batches", self.done)}

    def load_state_dict(self, state):
        self.epoch, self.state = int(state["epoch"]), (state["done"][0], state["done"][1])


class Forever(Iterator):
    """One iterator over all passes."""

    def __next__(self):
        self.at += 1
        self.read.append(divmod(self.at - 1, PASS))
        epoch, number = self.read[-1]
        return list(in_the_order_of_fit(epoch))[number]


MAKERS = {
    "an iterator for each pass": lambda read: lambda epoch: Iterator(epoch, read),
    "a loader": Loader,
    "one iterator": lambda read: Forever(0, read),
}


def run(stream, steps, folder, **options):
    saved = bbb.train.Checkpointing(folder, every=1, resume=True)
    how = {"steps": steps, "progress": False, "checkpoints": saved}
    return bbb.fit(KEY, model_of(), data=stream, num_data=ROWS, **how, **options)


@pytest.mark.parametrize("stop", [3, 4, 6])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_stream_with_a_state_goes_on_at_the_very_batch_bit_for_bit(kind, stop, tmp_path):
    first, second = [], []
    run(MAKERS[kind](first), stop, tmp_path)
    trained, history = run(MAKERS[kind](second), STEPS, tmp_path)
    assert [epoch * PASS + number for epoch, number in first] == list(range(stop))
    assert [epoch * PASS + number for epoch, number in second] == list(range(stop, STEPS))
    assert_same(whole()[0].posterior, trained.posterior)
    np.testing.assert_array_equal(whole()[1].loss, history.loss)


def test_the_state_kept_is_that_of_the_last_step_and_not_of_what_was_read_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr("bbb.train.data.feed.MOST_BATCHES", 2)

    class Broken(Forever):
        def __next__(self):
            if self.at == 5:
                raise OSError("the disk is gone")
            return super().__next__()

    with pytest.raises(StreamError):
        run(Broken(0, []), STEPS, tmp_path)
    for path in tmp_path.glob("step-*"):
        arrays, _ = arrays_module.unpack(path, KIND)
        (stream,) = json.loads(arrays[PLACE].tobytes())["streams"]
        assert decoded(stream["state"]) == {"at": int(path.stem[5:])}
    read = []
    trained, _ = run(Forever(0, read), STEPS, tmp_path)
    assert len(read) == STEPS - 5
    assert_same(whole()[0].posterior, trained.posterior)


def test_a_stream_without_a_state_is_read_past_what_one_with_a_state_left_and_the_other_way_round(tmp_path):
    run(Forever(0, []), 6, tmp_path / "a")
    trained, _ = run(in_the_order_of_fit, STEPS, tmp_path / "a")
    assert_same(whole()[0].posterior, trained.posterior)
    run(in_the_order_of_fit, 6, tmp_path / "b")
    read = []
    trained, _ = run(Forever(0, read), STEPS, tmp_path / "b")
    assert len(read) == STEPS
    assert_same(whole()[0].posterior, trained.posterior)


class Once(Forever):
    """One iterator that ends."""

    def __next__(self):
        if self.at == STEPS:
            raise StopIteration
        return super().__next__()


@pytest.mark.parametrize("kind", [Forever, Once])
def test_a_finished_training_is_returned_again(kind, tmp_path):
    for _ in range(2):
        trained, _ = run(kind(0, []), STEPS, tmp_path)
    assert_same(whole()[0].posterior, trained.posterior)
    with pytest.raises(InputError, match="Expected batches for every step, got an end after 10"):
        run(Once(0, []), STEPS + 1, tmp_path)


def test_a_state_that_cannot_be_written_or_read_is_a_named_error(tmp_path):
    class Odd(Forever):
        state = None

        def get_state(self):
            return self.state()

    odd = Odd(0, [])
    odd.state = lambda: {"seen": {1, 2}}
    said = "Expected the state of data to hold numbers, strings, bytes and arrays, in lists and dicts, got a set. Leave"
    with pytest.raises(InputError, match=said):
        run(odd, STEPS, tmp_path / "a")
    odd.at, odd.state = 0, lambda: {"at": odd.at if odd.at < 3 else {odd.at}}
    with pytest.raises(StreamError, match=said) as caught:
        run(odd, STEPS, tmp_path / "a")
    assert len(caught.value.history.loss) == 2
    odd = Odd(0, [])
    odd.state = lambda: 1 / 0
    said = (
        "Expected data to say where it stands, got ZeroDivisionError: division by zero. Look at the code that returns"
    )
    with pytest.raises(InputError, match=said):
        run(odd, STEPS, tmp_path / "b")
    run(Forever(0, []), 4, tmp_path / "c")
    said = (
        "Expected data to go on from the state in the checkpoint, got KeyError: 'epoch'. Pass the data of that run, or"
    )
    with pytest.raises(InputError, match=said):
        run(Loader([]), STEPS, tmp_path / "c")
    for path in (tmp_path / "c").glob("step-*"):
        arrays, header = arrays_module.unpack(path, KIND)
        arrays[PLACE] = np.frombuffer(b"[]", np.uint8)
        path.write_bytes(arrays_module.pack(KIND, header, arrays))
    said = "to hold the place of a stream, got another text. Go on from an older one."
    with pytest.raises(ModelFileError, match=said):
        run(Forever(0, []), STEPS, tmp_path / "c")


def test_a_checkpoint_whose_place_can_be_read_and_whose_numbers_cannot_is_named(tmp_path):
    run(Forever(0, []), 4, tmp_path)
    *_, newest = sorted(tmp_path.glob("step-*"))
    arrays, header = arrays_module.unpack(newest, KIND)
    name = next(name for name in arrays if "trainable" in name and name.startswith("state"))
    newest.write_bytes(arrays_module.pack(KIND, header, arrays | {name: np.full_like(arrays[name], np.nan)}))
    said = (
        "Expected the newest checkpoint to be whole, from whose state the stream went on, got damage in that of step 4"
    )
    with pytest.raises(ModelFileError, match=said), pytest.warns(RuntimeWarning, match="damaged checkpoint"):
        run(Forever(0, []), STEPS, tmp_path)
    newest.unlink()
    trained, _ = run(Forever(0, []), STEPS, tmp_path)
    assert_same(whole()[0].posterior, trained.posterior)


@pytest.mark.parametrize("steps", [0, "5", 2.5])
def test_steps_that_are_none_are_named_beside_a_checkpoint(steps, tmp_path):
    run(Forever(0, []), 4, tmp_path)
    with pytest.raises(InputError, match="Expected steps to be a whole number of at least 1"):
        run(Forever(0, []), steps, tmp_path)


def test_without_checkpoints_no_state_is_asked_for():
    class Silent(Forever):
        def get_state(self):
            raise AssertionError

    bbb.fit(KEY, model_of(), data=Silent(0, []), num_data=ROWS, **HOW)


STATES = [
    None, True, -3, 2**70, 1.5, "words", [1, [2]], (1, "two"), {}, {"a": {"b": [None]}}, {1: 2, (3, 4): 5}, b"\x00\xff",
    {"dict": 1}, {"tuple": [1]},
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_states_are_read_as_they_were_written(state):
    again = decoded(json.loads(json.dumps(encoded(state))))
    assert again == state
    assert type(again) is type(state)


def test_arrays_and_tensors_of_a_state_are_read_as_they_were_written():
    for array in (np.arange(6, dtype=np.uint8).reshape(2, 3), np.float32(1.5), np.zeros((0, 2)), np.array(True)):
        again = decoded(json.loads(json.dumps(encoded(array))))
        np.testing.assert_array_equal(again, array, strict=isinstance(array, np.ndarray))
        assert again.dtype == array.dtype
    state = torch.random.get_rng_state()
    assert torch.equal(decoded(json.loads(json.dumps(encoded(state)))), state)


@pytest.mark.parametrize("state", [{1}, object(), float("nan"), np.array(["a"]), collections.namedtuple("P", "x")(1)])
def test_a_state_of_other_things_is_refused(state):
    with pytest.raises(InputError, match="Expected the state of data to hold numbers, strings, bytes and arrays"):
        encoded({"state": [state]})


# Real loaders


def pairs():
    x, y = data()
    return [(x[i], y[i]) for i in range(ROWS)]


def resumed_equals_whole(make, tmp_path):
    straight, history = bbb.fit(KEY, model_of(), data=make(), num_data=ROWS, **HOW)
    run(make(), 6, tmp_path)
    trained, other = run(make(), STEPS, tmp_path)
    assert_same(straight.posterior, trained.posterior)
    np.testing.assert_array_equal(history.loss, other.loss)
    assert any(arrays_module.unpack(path, KIND)[0][PLACE].size for path in tmp_path.glob("step-*"))


@pytest.mark.parametrize("kind", ["iterator", "data set", "loader"])
def test_grain_goes_on_at_the_very_batch(kind, tmp_path):
    grain = pytest.importorskip("grain")

    def make():
        shuffled = grain.MapDataset.source(pairs()).seed(1).shuffle()
        if kind == "iterator":
            return iter(shuffled.repeat().batch(SIZE).to_iter_dataset())
        if kind == "data set":
            return shuffled.batch(SIZE)
        sampler = grain.samplers.IndexSampler(
            ROWS, num_epochs=None, shuffle=True, seed=0, shard_options=grain.sharding.NoSharding()
        )
        batch = grain.transforms.Batch(SIZE)
        return grain.DataLoader(data_source=pairs(), sampler=sampler, worker_count=0, operations=[batch])

    resumed_equals_whole(make, tmp_path)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_stateful_loader_of_torchdata_goes_on_at_the_very_batch(tmp_path):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    sampler = pytest.importorskip("torchdata.stateful_dataloader.sampler")

    def make():
        rows = torch.utils.data.TensorDataset(*map(torch.tensor, data()))
        generator = torch.Generator().manual_seed(0)
        order = sampler.RandomSampler(rows, generator=generator)  # shuffle=True draws another order of the next pass
        return stateful.StatefulDataLoader(rows, batch_size=SIZE, sampler=order)

    resumed_equals_whole(make, tmp_path)
