"""Streams on many devices, and one rank of several: the training of one device to rounding, and no rank that waits."""

import numpy as np
import pytest

from tests.devices.test_devices import FIT, check_training, found_by
from tests.devices.test_hosts import JOIN, found_by_two_and_by_one

BATCHES = """

def batches(epoch, part=slice(None)):
    order = np.random.default_rng(epoch).permutation(96)
    for some in (order[:40], order[40:80], order[80:]):
        some = np.split(some, 2)[part] if isinstance(part, int) else some
        yield x[some], y[some], weights[some]


weights = np.arange(96) % 3 + 0.5
"""
MESH = (
    FIT
    + BATCHES
    + """

def fit(name, placement, check, **options):
    for which, over in (("without", {}), ("with", {"placement": placement})):
        trained, history = bbb.fit(
            jax.random.key(1), model, data=batches, num_data=96, steps=30, optimizer=adam, progress=False,
            **over, **options,
        )
        found[f"{name}/{which}/loss"] = history.loss
        for i, leaf in enumerate(jax.tree.leaves(trained)):
            found[f"{name}/{which}/{i}"] = np.asarray(leaf)
    check(trained)


batch, both = Mesh(devices, ("batch",)), Mesh(devices.reshape(2, 2), ("batch", "restarts"))
fit("plain", batch, at_home, validation=bbb.train.EarlyStopping((x[:9], y[:9]), every=10))
fit("rows' own noise", batch, at_home, objective=bbb.train.Objective(forward=bbb.forwards.flipout(network.apply)))
fit("restarts and rows", both, at_home, restarts=bbb.train.Restarts(4, init))
specs = jax.tree.map(lambda leaf: P("model") if len(leaf) == 8 else P(), model.posterior.mean)
fit("cut parameters", bbb.train.Placement(Mesh(devices.reshape(2, 2), ("model", "batch")), specs), cut)
shared = lambda params, x: network.apply(params, x["x"] + x["shift"].value)
model, plain = bbb.BNN(shared, model.posterior, model.prior, model.likelihood), batches
shift = bbb.networks.Shared(np.ones((1, 1)))
batches = lambda epoch: (({"x": x, "shift": shift}, *rest) for x, *rest in plain(epoch))
fit("what rows share", batch, at_home)


def broken(epoch):
    yield from list(batches(epoch))[:2]
    raise OSError("the disk is gone")


how = {"num_data": 96, "optimizer": adam, "progress": False, "placement": batch}
try:
    bbb.fit(jax.random.key(1), model, data=broken, steps=30, **how)
except bbb.errors.StreamError as error:
    at_home(error.model)
    kept = error.model, error.history.loss
trained, history = bbb.fit(jax.random.key(1), model, data=batches, steps=2, **how)
for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves((trained, history.loss)), strict=True):
    np.testing.assert_array_equal(a, b)
try:
    bbb.fit(jax.random.key(1), model, data=[({"x": x[:6], "shift": shift}, y[:6])], steps=2, **how)
except bbb.errors.InputError as error:
    found["said"] = str(error)
np.savez(path, **found)
"""
)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_a_stream_on_a_mesh_gives_what_it_gives_without_to_rounding(dtype, tmp_path):
    found = found_by(MESH, 4, tmp_path, dtype, "all")
    said = str(found.pop("said"))
    assert said.startswith(
        'Expected the rows of the first batch to be a multiple of the 4 devices of axis "batch", got 6'
    )
    check_training(found, dtype, 25)


RANKS = (
    JOIN
    + BATCHES
    + """
found = {}
rank = None if me == "alone" else int(me)
how = {"num_data": 96, "progress": False, "placement": batch}


class Loader:
    \"\"\"This rank's share of each batch, from where its state says.\"\"\"

    def __init__(self):
        self.at, self.read = 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        epoch, number = divmod(self.at, 3)
        self.at, self.read = self.at + 1, self.read + 1
        return list(batches(epoch, slice(None) if rank is None else rank))[number]

    def state_dict(self):
        return {"at": self.at, "rank": me}

    def load_state_dict(self, state):
        assert state["rank"] == me
        self.at = state["at"]


def keep(name, trained, history):
    found.update({f"{name}/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves((trained, history.loss)))})


keep("whole", *bbb.fit(jax.random.key(1), model, data=Loader(), steps=30, **how))
members = {"restarts": bbb.train.Restarts(2, network.init), "epochs": 4}
share = lambda epoch: batches(epoch, slice(None) if rank is None else rank)
keep("members", *bbb.fit(jax.random.key(1), model, data=share, **how, **members))
if rank is not None:
    saved, read = bbb.train.Checkpointing(f"{folder}/run", every=5, resume=True), []
    for steps in (11, 30):
        loader = Loader()
        trained, history = bbb.fit(jax.random.key(1), model, data=loader, steps=steps, checkpoints=saved, **how)
        read.append(loader.read)
    assert read == [11, 19], read
    keep("resumed", trained, history)

    def refused(name, data, **options):
        try:
            bbb.fit(jax.random.key(1), model, data=data, **{**how, "steps": 30, **options})
        except bbb.errors.BBBError as error:
            kept = [0 if error.history is None else len(error.history.loss)] if hasattr(error, "history") else []
            print(f"refused {name}: {type(error).__name__} {kept}: {error}", flush=True)
            return error

    def bad(number):
        def of_pass(epoch):
            for i, one in enumerate(share(epoch)):
                if epoch * 3 + i == number:
                    raise OSError("the disk is gone")
                yield one

        return of_pass

    error = refused("late", bad(7) if rank == 1 else share)
    keep("late", error.model, error.history)
    refused("early", iter([*share(0)] * 2) if rank == 0 else share)
    refused("first", bad(0) if rank == 1 else share)
    refused("rows", ((x[:4], y[:4]) for _ in range(9)) if rank == 1 else share)
    refused("columns", [(x[:20], np.ones((20, 1)))] if rank == 1 else share)
    shift = bbb.networks.Shared(np.full((1, 1), 1.0 + rank))
    shifted = lambda params, x: network.apply(params, x["x"] + x["shift"].value)
    plain, model = model, bbb.BNN(shifted, model.posterior, model.prior, model.likelihood)
    refused("shared", [({"x": x[:20], "shift": shift}, y[:20])])
    model = plain
    refused("num_data", share, num_data=96 + rank)
    refused("steps", [*share(0)] * (1 + rank), steps=None, epochs=2)
    refused("mesh", share, placement=Mesh(devices.reshape(2, 2), ("restarts", "batch")))
    refused("processes", Loader(), steps=40, checkpoints=saved, placement=Mesh(jax.local_devices(), ("batch",)))
np.savez(f"{folder}/{me}.npz", **found)
"""
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return what one process found in whole batches, what each of two found in its halves, and what they said."""
    found, said = found_by_two_and_by_one(RANKS, tmp_path_factory.mktemp("ranks"), seconds=400)
    refused = [
        dict(line.removeprefix("refused ").split(": ", 1) for line in text.split("\n") if line.startswith("refused "))
        for text in said
    ]
    return found, refused


@pytest.mark.parametrize("what", ["whole", "members"])
def test_two_ranks_with_half_of_each_batch_train_what_one_process_trains_on_the_whole(ranks, what):
    found, _ = ranks
    names = [name for name in found["alone"] if name.startswith(what)]
    assert len(names) > 5
    for name in names:
        alone = found["alone"][name]
        np.testing.assert_array_equal(found["1"][name], found["0"][name], err_msg=name)
        np.testing.assert_allclose(found["0"][name], alone, rtol=0, atol=3e-4 * np.abs(alone).max(), err_msg=name)


def test_each_rank_goes_on_from_the_state_of_its_own_stream_bit_for_bit(ranks):
    found, _ = ranks
    names = [name for name in found["0"] if name.startswith("resumed")]
    assert names
    for name in names:
        for me in ("0", "1"):
            np.testing.assert_array_equal(found[me][name], found[me][name.replace("resumed", "whole")], err_msg=name)


KEPT = "What was trained before it is this error's .model, and its .history is that of those steps."
ELSEWHERE = "got an error in process {}. See the error message of that process."
NOT_ALIKE = "InputError []: Expected the same {} in every process, for data, got others in process 1 than in process 0"
READ = "got OSError from where it comes: the disk is gone. Look at the code that makes the batches."
SAID = {
    "late": (
        f"StreamError [7]: Expected batch 7 of data in every process, {ELSEWHERE.format(1)} {KEPT}",
        f"StreamError [7]: Expected batch 7 of data, {READ} {KEPT}",
    ),
    "early": (
        "StreamError [6]: Expected batches for every step, got an end after 6. Pass a list, a loader, or a function",
        f"StreamError [6]: Expected batch 6 of data in every process, {ELSEWHERE.format(0)} {KEPT}",
    ),
    "first": (
        f"HostError []: Expected every process to continue, {ELSEWHERE.format(1)}",
        f"InputError []: Expected batch 0 of data, {READ}",
    ),
    "rows": tuple(f"{NOT_ALIKE.format('rows of the first batch')}, here {rows}. Give each" for rows in (20, 4)),
    "columns": 2 * (f"{NOT_ALIKE.format('structure, shapes and dtypes of batches')}, here PyTreeDef(",),
    "shared": 2
    * (f"{NOT_ALIKE.format('arrays that rows share')}. Give each process its share of every batch, of as many rows",),
    "num_data": tuple(f"{NOT_ALIKE.format('num_data')}, here {rows}. Give each" for rows in (96, 97)),
    "steps": tuple(f"{NOT_ALIKE.format('steps')}, here {steps}. Give each" for steps in (6, 12)),
    "mesh": 2
    * (
        'InputError []: Expected each process to hold a part of axis "batch" to itself, for data, all of one size, got '
        "processes 0+1, 0+1 along it. Pass for example jax.sharding.Mesh(jax.devices(),",
    ),
    "processes": 2
    * (
        "InputError []: Expected checkpoints of the streams of 1 processes, got those of 2. Start as many processes as",
    ),
}


@pytest.mark.parametrize("what", SAID)
def test_what_goes_wrong_in_one_rank_is_a_named_error_in_all(ranks, what):
    _, refused = ranks
    for said, text in zip(refused, SAID[what], strict=True):
        assert said[what].startswith(text), said[what]


def test_what_was_trained_before_a_rank_failed_is_the_same_in_both(ranks):
    found, _ = ranks
    names = [name for name in found["0"] if name.startswith("late")]
    assert names
    for name in names:
        np.testing.assert_array_equal(found["0"][name], found["1"][name], err_msg=name)
