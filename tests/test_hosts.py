"""Several hosts: two processes of two CPU devices each, which talk over loopback, do what one process does."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

JOIN = """
import sys
import jax, numpy as np
me, port, folder = sys.argv[1:4]
if me != "alone":
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}", num_processes=2, process_id=int(me), coordinator_bind_address=f"127.0.0.1:{port}",
        initialization_timeout=60, heartbeat_timeout_seconds=10, shutdown_timeout_seconds=60,
    )
    assert jax.process_count() == 2
import optax, bbb
from jax.sharding import Mesh, PartitionSpec as P
devices = np.array(jax.devices())
assert devices.shape == (4,)
network = bbb.nn.sequential(bbb.nn.linear(1, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))
model = bbb.bayesianize(
    network.apply, network.init(jax.random.key(0)), prior=bbb.prior.Normal(),
    likelihood=bbb.likelihood.Gaussian(0.5, learn=True), std=0.1,
)
task = bbb.tasks.regression(seed=0)
x, y = task.x[:96], task.y[:96]
batch = Mesh(devices, ("batch",))
"""
DO = (
    JOIN
    + """
found = {}


def keep(name, tree):
    found.update({f"{name}/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))})


def fit(name, mesh=batch, **options):
    trained, history = bbb.fit(jax.random.key(1), model, x, y, steps=30, progress=False, mesh=mesh, **options)
    keep(name, (trained, history.loss))
    return trained


for name, axes, shape in (("draws", ("draws",), 4), ("rows", ("rows",), 4), ("both", ("draws", "rows"), (2, 2))):
    mesh = Mesh(devices.reshape(shape), axes)
    band = bbb.predict(jax.random.key(2), model, task.x_test, draws=101, levels=(0.9,), mesh=mesh)
    keep(f"exact {name}", (band.f.interval(0.9), band.y.interval(0.9), band.f.quantile(0.3)))
    keep(f"mean {name}", (band.f.mean, band.f.std, band.y.std))
keep("exact raw", bbb.draws(jax.random.key(2), model, task.x_test, draws=101, mesh=mesh))
fit("fit full", checkpoint=f"{folder}/{me}", every=10)
fit("fit minibatch", batch_size=40)
fit("fit validation", validation=0.25, validate_every=10)
fit("fit restarts", Mesh(devices.reshape(2, 2), ("restarts", "batch")), restarts=2, init=network.init)
np.savez(f"{folder}/{me}.npz", **found)
"""
)
TRAIN_LONG = (
    JOIN
    + """
bbb.fit(
    jax.random.key(1), model, x, y, steps=10**8, progress=False, mesh=batch, checkpoint=f"{folder}/{me}", every=50
)
"""
)


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def start(script, me, port, folder, devices):
    flags = f"--xla_force_host_platform_device_count={devices} {os.environ.get('XLA_FLAGS', '')}"
    env = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()}
    env |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, str(me), str(port), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended(process, seconds):
    """Wait for a process; give what it said, and end it if it does not end itself."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return f"it hung for {seconds} s: {process.communicate()[0]}"


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Give what one process with four devices found, what each of two with two found, and their folder."""
    folder, port = tmp_path_factory.mktemp("hosts"), free_port()
    running = [start(DO, me, port, folder, 2) for me in (0, 1)]
    said = [ended(process, 240) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)[-6000:]
    alone = start(DO, "alone", port, folder, 4)
    said = ended(alone, 240)
    assert alone.returncode == 0, said[-3000:]
    found = {}
    for me in ("alone", "0", "1"):
        with np.load(folder / f"{me}.npz") as arrays:
            found[me] = dict(arrays)
    return found, folder


def pairs(found, kind):
    for name, alone in found["alone"].items():
        if name.startswith(kind):
            yield name, alone, found["0"][name], found["1"][name]


def test_two_processes_draw_what_one_draws(answers):
    found, _ = answers
    for name, alone, first, second in pairs(found, "exact"):
        np.testing.assert_array_equal(first, alone, err_msg=name)
        np.testing.assert_array_equal(second, alone, err_msg=name)
    for name, alone, first, second in pairs(found, "mean"):
        np.testing.assert_array_max_ulp(first, alone, 4)
        np.testing.assert_array_equal(second, first, err_msg=name)


def test_two_processes_train_what_one_trains_to_rounding(answers):
    found, _ = answers
    for name, alone, first, second in pairs(found, "fit"):
        np.testing.assert_array_equal(second, first, err_msg=name)
        np.testing.assert_allclose(first, alone, rtol=0, atol=3e-4 * np.abs(alone).max(), err_msg=name)


def test_the_first_process_alone_writes(answers):
    _, folder = answers
    written = {me: sorted(path.name for path in (folder / me).iterdir()) for me in ("alone", "0", "1")}
    assert written["0"] == written["alone"] == ["step-000000000020.safetensors", "step-000000000030.safetensors"]
    assert written["1"] == []


@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_loss_of_a_process_is_an_error_within_a_minute_and_no_hang(lost, tmp_path):
    port = free_port()
    running = [start(TRAIN_LONG, me, port, tmp_path, 2) for me in (0, 1)]
    try:
        wait_for(lambda: any((tmp_path / "0").glob("step-*")), running, 120)
        running[lost].kill()
        said = ended(running[1 - lost], 60)
        assert running[1 - lost].returncode not in (0, None), said[-3000:]
        assert "it hung" not in said, said[-3000:]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def wait_for(condition, running, seconds):
    until = time.monotonic() + seconds
    while not condition():
        gone = [process for process in running if process.poll() is not None]
        assert not gone, gone[0].communicate()[0][-3000:]
        assert time.monotonic() < until, "training did not begin"
        time.sleep(0.1)
