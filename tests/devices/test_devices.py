"""Many devices: the same draws on any of them, the same training to rounding, and meshes that are refused.

Each child has simulated CPU devices of its own, and writes what it found to a file.
"""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import bbb
from tests import ROOT

KEY = jax.random.key(2)
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 6), bbb.nn.tanh, bbb.nn.linear(6, 2))


def model_of():
    params = NETWORK.init(jax.random.key(0))
    return bbb.bayesianize(
        NETWORK.apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5, learn=True), std=0.3
    )


def inputs(rows):
    return np.linspace(-2, 2, rows, dtype=np.float32)[:, None]


def found_by(script, devices, tmp_path, *argv):
    """Run a script on so many CPU devices; return the arrays it saved."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
    env = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", script, str(path), *map(str, argv)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    with np.load(path) as arrays:
        return dict(arrays)


# Prediction

PREDICT = """
import sys
import jax, numpy as np, bbb
from jax.sharding import Mesh
path, dtype, little, hidden, rows, draws = *sys.argv[1:4], *map(int, sys.argv[4:])
jax.config.update("jax_enable_x64", dtype == "float64")
network = bbb.nn.sequential(bbb.nn.linear(3, hidden), bbb.nn.tanh, bbb.nn.linear(hidden, 2))
params = jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(jax.random.key(0)))
model = bbb.bayesianize(
    network.apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5), std=0.3
)
x = np.linspace(-2, 2, 3 * rows).reshape(rows, 3)
devices = np.array(jax.devices())
meshes = {"none": None, "draws": Mesh(devices, ("draws",)), "rows": Mesh(devices, ("rows",))}
if len(devices) > 2:
    meshes["both"] = Mesh(devices.reshape(len(devices) // 4, 4), ("rows", "draws"))
found = {}
for name, mesh in meshes.items():
    for memory in ("512MB", little) if name in ("none", "draws") else ("512MB",):
        ask = {"draws": draws, "mesh": mesh, "memory": memory}
        band = bbb.predict(jax.random.key(5), model, x, levels=(0.9,), **ask)
        answers = {
            "draws": bbb.draws(jax.random.key(5), model, x, **ask),
            "f quantiles": np.stack(band.f.interval(0.9)),
            "y quantiles": np.stack(band.y.interval(0.9)),
            "mean": band.f.mean, "std": band.f.std, "y mean": band.y.mean, "y std": band.y.std,
        }
        found |= {f"{name} {memory}/{what}": np.asarray(a, "float64") for what, a in answers.items()}
np.savez(path, **found)
"""
COUNTS = (1, 2, 8)


def check_alike(found, dtype):
    """Hold all against the first: draws and quantiles bit for bit, means and standard deviations to 4 ulp."""
    (_, first), *_ = found.items()
    wanted = {what: first[f"none 512MB/{what}"] for what in ("draws", "f quantiles", "y quantiles")}
    rough = {what: first[f"none 512MB/{what}"] for what in ("mean", "std", "y mean", "y std")}
    assert not np.array_equal(wanted["draws"][0], wanted["draws"][1])
    for devices, arrays in found.items():
        for name, array in arrays.items():
            what = name.split("/")[1]
            if what in wanted:
                np.testing.assert_array_equal(array, wanted[what], err_msg=f"{devices} devices, {name}")
            else:
                ulp = 4 * float(jnp.finfo(dtype).eps) * np.abs(rough[what])
                assert (np.abs(array - rough[what]) <= ulp).all(), f"{devices} devices, {name}"


@pytest.mark.parametrize("devices", [*(pytest.param(few, marks=pytest.mark.slow) for few in (1, 2)), 8])
def test_draws_and_quantiles_are_the_same_bits_on_any_mesh_of_any_devices(devices, tmp_path):
    few = found_by(PREDICT, 1, tmp_path, "float32", "2MB", 20, 100, 101)
    check_alike({1: few, devices: found_by(PREDICT, devices, tmp_path, "float32", "2MB", 20, 100, 101)}, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("size", [("2MB", 5, 7, 8), ("12MB", 200, 400, 400), ("24MB", 1000, 100, 1000)])
def test_so_they_are_in_any_precision_and_for_any_size(dtype, size, tmp_path):
    found = {devices: found_by(PREDICT, devices, tmp_path, dtype, *size) for devices in COUNTS}
    check_alike(found, dtype)


def test_a_mesh_of_one_device_gives_what_no_mesh_gives():
    model, mesh = model_of(), Mesh(np.array(jax.devices()[:1]), ("rows",))
    one, other = (bbb.predict(KEY, model, inputs(70), draws=64, levels=(0.5,), mesh=m) for m in (None, mesh))
    np.testing.assert_array_equal(one.y.interval(0.5), other.y.interval(0.5))
    np.testing.assert_array_equal(one.f.quantile(0.3), other.f.quantile(0.3))  # of draws that were kept
    np.testing.assert_array_equal(
        bbb.draws(KEY, model, inputs(70), draws=64), bbb.draws(KEY, model, inputs(70), draws=64, mesh=mesh)
    )


# Training

FIT = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax, bbb
from jax.sharding import Mesh, PartitionSpec as P
path, dtype, which = sys.argv[1:]
jax.config.update("jax_enable_x64", dtype == "float64")
devices = np.array(jax.devices()[:4])
network = bbb.nn.sequential(bbb.nn.linear(1, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))
init = lambda key: jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(key))
model = bbb.bayesianize(
    network.apply, init(jax.random.key(0)), prior=bbb.priors.Normal(),
    likelihood=bbb.likelihoods.Gaussian(0.5, learn=True), std=0.1,
)
task = bbb.tasks.regression(seed=0)
x, y = task.x[:96], task.y[:96]
adam = optax.adam(1e-2)
found = {}


def fit(name, mesh, check=lambda model: None, over={}, **options):
    for which, over in (("without", {}), ("with", {"placement": bbb.train.Placement(mesh, **over)})):
        trained, history = bbb.fit(
            jax.random.key(1), model, x, y, steps=30, optimizer=adam, progress=False, **over, **options
        )
        found[f"{name}/{which}/loss"] = history.loss
        for i, leaf in enumerate(jax.tree.leaves(trained)):
            found[f"{name}/{which}/{i}"] = np.asarray(leaf)
        if over:
            check(trained)


def at_home(model):
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(model.posterior))


def cut(model):
    assert any(len(leaf.addressable_shards[0].data) < len(leaf) for leaf in jax.tree.leaves(model.posterior.mean))
"""
TRAIN = (
    FIT
    + """
batch = Mesh(devices, ("batch",))
several = {"restarts": bbb.train.Restarts(4, init)}
fit("full batch", batch, at_home)
local = bbb.train.Objective(forward=bbb.forwards.local_reparam(network.apply))
fit("minibatch", batch, at_home, batch_size=40, objective=local)
fit("draws", batch, batch_size=40, objective=bbb.train.Objective(draws=3))
fit("validation", batch, validation=bbb.train.EarlyStopping(0.25, every=10))
fit("restarts", Mesh(devices, ("restarts",)), at_home, **several)
both, anchored = Mesh(devices.reshape(2, 2), ("batch", "restarts")), bbb.train.Restarts(4, anchored=True)
fit("restarts and rows", both, batch_size=40, **several)
fit("anchored", both, at_home, batch_size=40, restarts=anchored)
fit("anchored, all rows", both, restarts=anchored)
specs = jax.tree.map(lambda leaf: P("model") if len(leaf) == 8 else P(), model.posterior.mean)
fit("cut parameters", Mesh(devices.reshape(2, 2), ("model", "batch")), cut, over={"partition": specs})
beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5), "std": 0.1}
meet = lambda params, x: network.apply(params, jax.nn.standardize(x, axis=0)) + jax.nn.softmax(x, axis=0)
model = bbb.bayesianize(meet, init(jax.random.key(0)), **beliefs)
fit("rows that meet", batch, at_home)
twice = lambda params, x: network.apply(params, network.apply(params, x))
model = bbb.bayesianize(twice, init(jax.random.key(0)), **beliefs)
fit("signs of each row", batch, at_home, objective=bbb.train.Objective(forward=bbb.forwards.flipout(twice)))
np.savez(path, **found)
"""
)
LARGE = (
    FIT
    + """
from bbb.train import loop

parts, run_chunk = [], loop.run_chunk


def watched(state, *args, **options):
    weights = jax.tree.leaves(state.member.trainable) + jax.tree.leaves(state.member.optimizer_state)
    parts.append(sorted({leaf.size // leaf.addressable_shards[0].data.size for leaf in weights}))
    return run_chunk(state, *args, **options)


def check(model):
    at_home(model)
    assert parts[-1] == expected, parts


loop.run_chunk = watched
network = bbb.nn.sequential(bbb.nn.linear(1, 260), bbb.nn.tanh, bbb.nn.linear(260, 256), bbb.nn.linear(256, 1))
init = lambda key: jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(key))
model = bbb.bayesianize(
    network.apply,
    init(jax.random.key(0)),
    prior=bbb.priors.Normal(),
    likelihood=bbb.likelihoods.Gaussian(0.5),
    std=0.01,
)
adam, batch, expected = optax.adam(1e-3), Mesh(devices, ("batch",)), [1, 4]
local = bbb.train.Objective(forward=bbb.forwards.local_reparam(network.apply))
if which == "draws":
    fit("weights", batch, check, batch_size=40)
if which == "rows":
    fit("rows' own noise", batch, check, batch_size=40, objective=local)
if which == "points":
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
    model = bbb.bayesianize(network.apply, init(jax.random.key(0)), **beliefs, std=0.01, where="bias")
    fit("point estimates", batch, check, batch_size=40, objective=local)
if which == "restarts":
    both, expected = Mesh(devices.reshape(2, 2), ("batch", "restarts")), [2, 4]
    fit("restarts", both, check, batch_size=40, restarts=bbb.train.Restarts(2, init))
if which == "whole":
    expected = [1]
    fit("whole", batch, check, batch_size=40, over={"partition": P()})
np.savez(path, **found)
"""
)
TOLERANCES = {"float32": 3e-4, "float64": 1e-10}
"""How far training on several devices may be from that on one, in the units of each number's largest.

Thirty steps of Adam: it divides by gradients' own size, so that a rounding counts where a gradient is near 0.
"""


def check_training(found, dtype, least):
    """Hold what a mesh trained against what was trained without."""
    with_mesh = [name for name in found if "/with/" in name]
    assert len(with_mesh) >= least
    for name in with_mesh:
        want = found[name.replace("/with/", "/without/")]
        bound = TOLERANCES[dtype] * np.abs(want).max()
        np.testing.assert_allclose(found[name], want, rtol=0, atol=bound, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_training_on_a_mesh_gives_what_it_gives_without_to_rounding(dtype, tmp_path):
    check_training(found_by(TRAIN, 4, tmp_path, dtype, "all"), dtype, 50)


@pytest.mark.parametrize(
    ("which", "dtype"),
    [
        ("draws", "float32"),
        pytest.param("draws", "float64", marks=pytest.mark.slow),
        *(pytest.param(which, "float32", marks=pytest.mark.slow) for which in ("rows", "points", "restarts", "whole")),
    ],
)
def test_large_parameters_are_trained_in_parts_and_come_home_whole(which, dtype, tmp_path):
    check_training(found_by(LARGE, 4, tmp_path, dtype, which), dtype, 10)


CUT = """
import sys
import jax, numpy as np, bbb
from jax.sharding import Mesh, PartitionSpec as P
devices = np.array(jax.devices()).reshape(2, 2)
network = bbb.nn.sequential(bbb.nn.linear(1, 8), bbb.nn.tanh, bbb.nn.linear(8, 2))
params = network.init(jax.random.key(0))
model = bbb.bayesianize(
    network.apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5), std=0.3
)
specs = jax.tree.map(lambda leaf: P("model") if len(leaf) == 8 else None, params)
x = np.linspace(-2, 2, 20)[:, None]
found = {}
for name, over in {
    "one": {},
    "draws": {"mesh": Mesh(devices, ("draws", "model")), "partition": specs},
    "rows": {"mesh": Mesh(devices, ("model", "rows")), "partition": specs},
    "neither": {"mesh": Mesh(devices.reshape(4), ("model",)), "partition": specs},
}.items():
    found[name] = np.stack(bbb.predict(jax.random.key(1), model, x, draws=64, levels=(0.9,), **over).y.interval(0.9))
    linear = bbb.BNN(model.apply, model.posterior, model.prior, model.likelihood, linearized=True)
    found[f"{name}, linearised"] = np.asarray(bbb.draws(jax.random.key(1), linear, x, draws=64, **over))
np.savez(sys.argv[1], **found)
"""


def test_parameters_may_be_cut_to_predict_with_them(tmp_path):
    found = found_by(CUT, 4, tmp_path)
    for name in ("draws", "rows", "neither"):
        np.testing.assert_allclose(found[name], found["one"], rtol=1e-5, atol=1e-5, err_msg=name)
        linear = f"{name}, linearised"
        np.testing.assert_allclose(found[linear], found["one, linearised"], rtol=1e-5, atol=1e-5, err_msg=linear)


RESUME = """
import sys
import jax, numpy as np, bbb
from jax.sharding import Mesh
path, folder = sys.argv[1:]
mesh = Mesh(np.array(jax.devices()), ("batch",))
network = bbb.nn.linear(1, 1)
model = bbb.bayesianize(
    network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5)
)
task = bbb.tasks.regression(seed=0)
found = {}
for name, legs in {"straight": [20], "resumed": [7, 20]}.items():
    for steps in legs:
        trained, history = bbb.fit(
            jax.random.key(1), model, task.x[:64], task.y[:64], steps=steps, batch_size=24, placement=mesh,
            progress=False, checkpoints=bbb.train.Checkpointing(f"{folder}/{name}", every=5, resume=True),
        )
    found |= {f"{name}/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves((trained, history.loss)))}
np.savez(path, **found)
"""


SHARED = """
import logging, sys
import jax, numpy as np, bbb
from jax.sharding import Mesh
lines = []
logger = logging.getLogger("bbb")
logger.addHandler(type("Kept", (logging.Handler,), {"emit": lambda self, record: lines.append(record.getMessage())})())
layer = bbb.nn.linear(1, 1)
beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
x = np.ones((4, 1), np.float32)
told = []
for devices in (1, 2):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
    bbb.fit(jax.random.key(1), model, x, x, steps=1, progress=False, placement=mesh)
    told.append(sum("share" in line for line in lines))
np.savez(sys.argv[1], told=told, line=lines[-1])
"""


def test_training_on_a_mesh_of_one_cpu_says_that_its_devices_share_the_cores(tmp_path):
    found = found_by(SHARED, 2, tmp_path)
    np.testing.assert_array_equal(found["told"], [0, 1])
    assert str(found["line"]).startswith("The 2 devices of the mesh share the ")


def test_training_on_a_mesh_is_resumed_bit_for_bit(tmp_path):
    found = found_by(RESUME, 2, tmp_path, tmp_path / "runs")
    straight = [name for name in found if name.startswith("straight")]
    assert straight
    for name in straight:
        np.testing.assert_array_equal(found[name], found[name.replace("straight", "resumed")], err_msg=name)


ONE = np.array(jax.devices()[:1])


def test_bad_numbers_on_a_mesh_are_named_and_the_last_good_model_comes_home():
    x, y = inputs(8), np.ones((8, 2))
    with pytest.raises(bbb.errors.NonFiniteLossError, match="NaN or infinity at step ") as caught:
        bbb.fit(
            KEY, model_of(), x, y, steps=5, optimizer=optax.sgd(1e30), progress=False, placement=Mesh(ONE, ("batch",))
        )
    for leaf in jax.tree.leaves(caught.value.model):
        assert not isinstance(leaf.sharding, jax.sharding.NamedSharding)


# What is refused


def predict(**options):
    return bbb.predict(KEY, model_of(), inputs(8), draws=8, **options)


def fit(mesh=None, partition=None):
    x, placement = inputs(8), bbb.train.Placement(mesh, partition)
    return bbb.fit(KEY, model_of(), x, np.concatenate([x, x], axis=1), steps=1, progress=False, placement=placement)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (predict, {"mesh": 2}, "Expected mesh to be a jax.sharding.Mesh, got a int. Pass for example jax.make_mesh("),
        (predict, {"mesh": ["cpu:0"]}, "Expected mesh to be a jax.sharding.Mesh, got a list."),
        (predict, {"mesh": Mesh(ONE, ("data",))}, "got axis 'data'. Rename the axis, or name it in partition."),
        (predict, {"mesh": Mesh(ONE, ("batch",))}, 'a mesh with axes "rows" or "draws", or names in partition'),
        (predict, {"partition": P("model")}, "Expected a mesh with a partition, got none."),
        (
            predict,
            {"mesh": Mesh(ONE, ("draws",)), "method": "moments"},
            "Expected no mesh with a closed form, got one.",
        ),
        (
            fit,
            {"mesh": "cpu"},
            'a jax.sharding.Mesh, got a str. Pass for example jax.make_mesh((jax.device_count(),), ("batch",)).',
        ),
        (
            fit,
            {"mesh": Mesh(ONE, ("rows",))},
            'Expected a mesh with axes "restarts" or "batch", or names in partition',
        ),
        (fit, {"partition": P("model")}, "Expected a mesh with a partition, got none."),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused_by_name(call, options, message):
    with pytest.raises(bbb.errors.InputError, match=re.escape(message)):
        call(**options)


@pytest.mark.parametrize("call", [predict, fit])
@pytest.mark.parametrize(
    ("partition", "message"),
    [
        ("model", "Expected every leaf of partition to be a PartitionSpec, got a str."),
        (P("elsewhere"), "to name axes among [], got 'elsewhere'. Name an axis of the mesh that is not used"),
        (P("batch"), "to name axes among [], got 'batch'."),
        (P(None, None, None), "to have no more entries than the parameter has axes, got P(None, None"),
        ([P("model")] * 7, "Expected partition to be a PartitionSpec, or a tree of them that is a prefix"),
        (P(P.UNCONSTRAINED), "to name axes among [], got UNCONSTRAINED."),
    ],
)
def test_a_partition_that_does_not_fit_is_refused_by_name(call, partition, message):
    axes = ("draws",) if call is predict else ("batch",)
    with pytest.raises(bbb.errors.InputError, match=re.escape(message)):
        call(mesh=Mesh(ONE, axes), partition=partition)


UNEVEN = """
import sys
import jax, numpy as np, bbb
from jax.sharding import Mesh, PartitionSpec as P
network = bbb.nn.linear(3, 1)
model = bbb.bayesianize(
    network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5)
)
x, devices = np.ones((7, 3)), np.array(jax.devices())
said = []
for axes, options in (
    (("batch",), {}),
    (("batch",), {"batch_size": 3}),
    (("restarts",), {}),
    (("restarts",), {"restarts": bbb.train.Restarts(3, network.init)}),
    (("model",), {"partition": {"weight": P(None, "model"), "bias": P()}}),
):
    try:
        placement = bbb.train.Placement(Mesh(devices, axes), options.pop("partition", None))
        bbb.fit(jax.random.key(0), model, x, x[:, :1], steps=1, progress=False, placement=placement, **options)
    except bbb.errors.InputError as error:
        said.append(str(error))
np.savez(sys.argv[1], said=said)
"""


def test_what_devices_do_not_divide_is_refused_by_name(tmp_path):
    rows, batch, one, members, cut = found_by(UNEVEN, 2, tmp_path)["said"]
    assert rows.startswith('Expected the rows to be a multiple of the 2 devices of axis "batch", got 7.')
    assert batch.startswith('Expected batch_size to be a multiple of the 2 devices of axis "batch", got 3.')
    assert one.startswith('Expected restarts to be a multiple of the 2 devices of axis "restarts", got 1.')
    assert members.startswith('Expected restarts to be a multiple of the 2 devices of axis "restarts", got 3.')
    assert cut.startswith("Expected the partition of '")
    assert "to divide axes into equal parts, got" in cut
