"""Ctrl-C while the command imports its modules, and processes that were forked too late."""

import os
import signal
import subprocess
import sys

import pytest

from tests import ROOT

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and fork are POSIX's")

INTERRUPTING = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
"""A module `jax` that is interrupted while it is imported."""


def interrupted(tmp_path, *command):
    (tmp_path / "jax").mkdir(exist_ok=True)
    (tmp_path / "jax" / "__init__.py").write_text(INTERRUPTING)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, env=environment)


@POSIX
@pytest.mark.parametrize("how", ["python -m bbb", "python -mbbb", "bbb"])
def test_ctrl_c_while_the_command_is_imported_ends_it_with_130(tmp_path, how):
    (tmp_path / "bbb-script").mkdir()
    script = tmp_path / "bbb-script" / "bbb"
    script.write_text("import sys\nfrom bbb.cli import run\nsys.exit(run())\n")  # as pip writes it
    command = {"python -m bbb": ["-m", "bbb"], "python -mbbb": ["-mbbb"], "bbb": [script]}[how]
    done = interrupted(tmp_path, *command, "fit", "-m", "bbb")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "bbb: interrupted; nothing half-written was left behind.\n"


@POSIX
@pytest.mark.parametrize("how", ["-c", "-m", "script"])
def test_a_program_that_imports_the_library_keeps_its_ctrl_c(tmp_path, how):
    (tmp_path / "mine.py").write_text("import bbb")
    command = {"-c": ["-c", "import bbb"], "-m": ["-m", "mine"], "script": [tmp_path / "mine.py"]}[how]
    done = interrupted(tmp_path, *command, "bbb", "-m", "bbb")
    assert done.returncode == -signal.SIGINT
    assert done.stderr.endswith("KeyboardInterrupt\n")


FORKED = """
import os, signal, sys, warnings
import jax
import numpy as np
import bbb

warnings.simplefilter("ignore")  # JAX's own, at each fork


def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(40)  # where it hangs
        try:
            work()
        finally:
            sys.stdout.flush()
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


print(child(lambda: print(float(jax.numpy.ones(3).sum()), not bbb.core.process.is_forked_after_start())))
network = bbb.nn.linear(2, 1)
key, x, y = jax.random.key(0), np.ones((3, 2)), np.ones((3, 1))
beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian()}
params = network.init(key)
model = bbb.bayesianize(network.apply, params, **beliefs)
posterior = model.posterior
verbs = [
    lambda: bbb.bayesianize(network.apply, params, **beliefs),
    lambda: network.init(key),
    lambda: bbb.fit(key, model, x, y),
    lambda: bbb.predict(key, model, x),
    lambda: bbb.draws(key, model, x, draws=2),
    lambda: bbb.objectives.negative_elbo(key, model, x, y),
    lambda: bbb.posteriors.sample(key, posterior),
    lambda: bbb.posteriors.log_prob(posterior, params),
    lambda: bbb.priors.kl(posterior, model.prior),
    lambda: bbb.diagnose(model, None, x, y),
    lambda: bbb.forwards.explain(network.apply, posterior, x),
    lambda: bbb.moments.moments(network.apply)(posterior, x),
    lambda: bbb.evaluate.prune(posterior, 0.5),
    lambda: bbb.save("model", model),
    lambda: bbb.load("model"),
    lambda: bbb.train.member_keys(key, 2),
    lambda: bbb.mixture.sample_y(key, model.likelihood, y[None]),
]


def refused():
    for k, verb in enumerate(verbs):
        try:
            verb()
        except bbb.errors.ForkError as error:
            text = str(error)
        else:
            print("was not refused:", k)
    print(text)


print(child(refused))
"""


@POSIX
def test_a_process_forked_after_jax_has_started_is_refused_by_every_verb_and_one_before_is_not():
    command = [sys.executable, "-c", FORKED]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.stdout.splitlines() == [
        "3.0 True",
        "0",
        "Expected a process of its own, got one forked from a process in which JAX had started: it lacks JAX's "
        "threads and would hang. Start processes by multiprocessing.get_context('spawn'), or fork before the first "
        "use of JAX.",
        "0",
    ], done.stderr


SPAWNED = """
import multiprocessing

import bbb, jax, numpy as np

network = bbb.nn.linear(2, 1)


def std(seed):
    posterior = bbb.MeanField.around(network.init(jax.random.key(seed)), std=0.5)
    return float(bbb.moments.moments(network.apply)(posterior, np.ones((1, 2))).variance[0, 0])


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print([std(0)] == pool.map(std, [0]))
"""


@pytest.mark.slow
def test_a_spawned_process_computes(tmp_path):
    (tmp_path / "spawned.py").write_text(SPAWNED)
    command = [sys.executable, str(tmp_path / "spawned.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.stdout == "True\n", done.stderr
