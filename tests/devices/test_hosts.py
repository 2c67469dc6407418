"""Several hosts: two processes of two CPU devices each, which talk over loopback, do what one process does."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import bbb
from bbb.devices import hosts
from tests import ROOT

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
    network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(),
    likelihood=bbb.likelihoods.Gaussian(0.5, learn=True), std=0.1,
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
    trained, history = bbb.fit(jax.random.key(1), model, x, y, steps=30, progress=False, placement=mesh, **options)
    keep(name, (trained, history.loss))
    return trained


for name, axes, shape in (("draws", ("draws",), 4), ("rows", ("rows",), 4), ("both", ("draws", "rows"), (2, 2))):
    mesh = Mesh(devices.reshape(shape), axes)
    band = bbb.predict(jax.random.key(2), model, task.x_test, draws=101, levels=(0.9,), mesh=mesh)
    keep(f"exact {name}", (band.f.interval(0.9), band.y.interval(0.9), band.f.quantile(0.3)))
    keep(f"mean {name}", (band.f.mean, band.f.std, band.y.std))
keep("exact raw", bbb.draws(jax.random.key(2), model, task.x_test, draws=101, mesh=mesh))
fit("fit full", checkpoints=bbb.train.Checkpointing(f"{folder}/{me}", every=10))
fit("fit minibatch", batch_size=40)
fit("fit validation", validation=bbb.train.EarlyStopping(0.25, every=10))
fit("fit restarts", Mesh(devices.reshape(2, 2), ("restarts", "batch")), restarts=bbb.train.Restarts(2, network.init))
np.savez(f"{folder}/{me}.npz", **found)
"""
)
TRAIN_LONG = (
    JOIN
    + """
import signal, time
try:
    bbb.fit(
        jax.random.key(1), model, x, y, steps=10**8, progress=False, placement=batch,
        checkpoints=bbb.train.Checkpointing(f"{folder}/0", every=50),
    )
except bbb.errors.HostError as error:
    print(error, flush=True)
    raise
except KeyboardInterrupt:
    time.sleep(5)  # as a program does that has more to do: the others must not wait for it
    raise
"""
)
RESUME = (
    JOIN
    + """
how = {"progress": False, "placement": batch, "batch_size": 40}


def kept(where, resume=False):
    return bbb.train.Checkpointing(f"{folder}/{where}", every=5, resume=resume)


whole, _ = bbb.fit(jax.random.key(1), model, x, y, steps=20, **how, checkpoints=kept("whole"))
bbb.fit(jax.random.key(1), model, x, y, steps=11, **how, checkpoints=kept("halves"))
halves, _ = bbb.fit(jax.random.key(1), model, x, y, steps=20, **how, checkpoints=kept("halves", resume=True))
for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(halves), strict=True):
    np.testing.assert_array_equal(a, b)


def refused(**options):
    try:
        bbb.fit(jax.random.key(1), model, x, y, **{**how, "steps": 25, **options})
    except bbb.errors.BBBError as error:
        print(f"refused: {type(error).__name__}: {error}", flush=True)


mine = int(me)
refused(checkpoints=kept("halves" if mine == 0 else "elsewhere", resume=True))
refused(checkpoints=kept("halves" if mine == 0 else "elsewhere-too"))
if mine == 0:
    from bbb.storage import files

    def full(path, content):
        raise bbb.errors.WriteError("Expected to be able to write, got: No space left on device.")

    files.write = full
refused(checkpoints=kept("full"), steps=20)
"""
)


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def start(script, *argv, devices=2):
    env = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()}
    env |= {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    bound = [argument for argument in map(str, argv) if argument.startswith("127.0.0.1:")]
    env |= {"JAX_COORDINATOR_BIND_ADDRESS": bound[0]} if bound else {}  # and not to every address of this machine
    command = [sys.executable, "-c", script, *map(str, argv)]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended(process, seconds):
    """Wait for a process; return what it said, and end it if it does not end itself."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return f"it hung for {seconds} s: {process.communicate()[0]}"


def found_by_two_and_by_one(script, folder, seconds=240):
    """Return what one process with four devices found, and each of two with two, by name; and what the two said."""
    port = free_port()
    running = [start(script, me, port, folder) for me in (0, 1)]
    said = [ended(process, seconds) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)[-6000:]
    alone = start(script, "alone", port, folder, devices=4)
    said_alone = ended(alone, seconds)
    assert alone.returncode == 0, said_alone[-3000:]
    found = {}
    for me in ("alone", "0", "1"):
        with np.load(folder / f"{me}.npz") as arrays:
            found[me] = dict(arrays)
    return found, said


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return what the processes found, and their folder."""
    folder = tmp_path_factory.mktemp("hosts")
    return found_by_two_and_by_one(DO, folder)[0], folder


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


def test_two_processes_go_on_from_a_checkpoint_and_neither_waits_for_one_that_is_refused(tmp_path):
    port = free_port()
    running = [start(RESUME, me, port, tmp_path) for me in (0, 1)]
    said = [ended(process, 240) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)[-6000:]
    first, second = ([line for line in text.split("\n") if line.startswith("refused: ")] for text in said)
    for line in (first[0], second[0]):
        assert line.startswith("refused: InputError: Expected every process to find the same newest checkpoint in ")
        assert line.endswith("got step 20 and step 0. Name a folder of a file system that all hosts share.")
    assert "InputError: Expected no checkpoints in" in first[1]
    assert "WriteError: Expected to be able to write, got: No space left" in first[2]
    elsewhere = (
        "refused: HostError: Expected every process to continue, got an error in process 0. See the error message"
    )
    assert second[1].startswith(elsewhere)
    assert second[2].startswith(elsewhere)


def test_the_program_of_the_how_to_page_trains_goes_on_and_predicts(tmp_path):
    program = (ROOT / "docs" / "how-to" / "hosts" / "train.py").read_text(encoding="utf-8")
    widths = []
    for steps in (("--steps", 300), ()):  # the second time it goes on
        address = f"127.0.0.1:{free_port()}"
        running = [start(program, address, 2, me, tmp_path, *steps, devices=1) for me in (0, 1)]
        said = [ended(process, 240) for process in running]
        assert [process.returncode for process in running] == [0, 0], "\n".join(said)[-6000:]
        widths += re.findall(r"mean width of the band: (\d+\.\d+)", said[0])
        assert "mean width" not in said[1]
    assert len(widths) == 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model.safetensors", "step-000000000400.safetensors", "step-000000000500.safetensors"]


def test_the_jobs_of_the_how_to_page_are_whole():
    """What can be seen of them without a scheduler."""
    folder = ROOT / "docs" / "how-to" / "hosts"
    done = subprocess.run(["bash", "-n", folder / "job.slurm"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all((folder / "job.yaml").read_text(encoding="utf-8"))
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    assert (service["kind"], service["spec"]["clusterIP"], service["spec"]["selector"]) == (
        "Service",
        "None",
        {"job-name": name},
    )
    assert pod["subdomain"] == service["metadata"]["name"]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert spec["completions"] == spec["parallelism"]
    assert pod["restartPolicy"] == "Never"  # which podFailurePolicy wants
    (container,) = pod["containers"]
    address, hosts_, me, _ = container["args"][0].removeprefix("exec python train.py ").split()
    port = service["spec"]["ports"][0]["port"]
    assert address == f"{name}-0.{service['metadata']['name']}:{port}"
    assert (int(hosts_), me) == (spec["completions"], '"$JOB_COMPLETION_INDEX"')
    assert container["ports"] == [{"containerPort": port}]


LOST = "Expected all 2 processes to run to the end, got from JAX: "


@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_loss_of_a_process_is_an_error_within_a_minute_and_no_hang(lost, tmp_path):
    said, code = left_by(signal.SIGKILL, lost, tmp_path)
    assert code not in (0, None), said[-3000:]
    assert "it hung" not in said, said[-3000:]
    assert LOST in said or "JAX distributed service detected fatal errors" in said, said[-3000:]  # what comes first


def test_what_jax_says_of_a_lost_process_is_named():
    def of(*processes):
        return SimpleNamespace(devices=np.array([SimpleNamespace(process_index=i) for i in processes]))

    error = jax.errors.JaxRuntimeError("INTERNAL: Connection closed by peer\nand more")
    said = re.escape(f"{LOST}INTERNAL: Connection closed by peer. If one was lost, start all of them again")
    with pytest.raises(bbb.errors.HostError, match=said), hosts.joined(of(0, 0, 1, 1)):
        raise error
    for mesh in (None, of(0, 0)):
        with pytest.raises(jax.errors.JaxRuntimeError), hosts.joined(mesh):
            raise error


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("told", [0, 1])
def test_a_process_that_is_told_to_leave_takes_the_others_with_it_once_all_is_saved(told, number, tmp_path):
    """And none is aborted by JAX, or waits until a heartbeat is missed, because another left without a word."""
    said, code = left_by(number, told, tmp_path)
    assert code == 1, said[-3000:]
    (at,) = re.findall(r"HostError: Expected every process to train on, got .* saved at step (\d+)\. Start all", said)
    assert (tmp_path / "0" / f"step-{int(at):012}.safetensors").exists()


def left_by(number, which, folder):
    """Send a signal to one of two processes in training; return what the other said and how it ended."""
    port = free_port()
    running = [start(TRAIN_LONG, me, port, folder) for me in (0, 1)]
    try:
        wait_for(lambda: any((folder / "0").glob("step-*")), running, 120)
        running[which].send_signal(number)
        said = ended(running[1 - which], 60)
        return said, running[1 - which].returncode
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
