"""A training that is stopped and goes on is the training that never stopped, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import optax
import pytest

import bbb
from bbb import _arrays, _loop, _resume
from tests import kills
from tests.same import assert_same, assert_same_history

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(13, 2))
Y = (X[:, :1] - X[:, 1:]) ** 2
ADAM = optax.adam(1e-2)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))


RELU = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.relu, bbb.nn.linear(4, 1))  # of the same class and shapes


def model(seed=0, std=0.3, network=NETWORK, prior=None):
    return bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(seed)),
        prior=prior or bbb.prior.Normal(0.0, 1.0),
        likelihood=bbb.likelihood.Gaussian(std, learn=True),
    )


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())


def noisy_sgd():
    return optax.chain(optax.add_noise(0.1, 0.5, 7), optax.sgd(1e-2, momentum=0.9))


CASES = {
    "full batch": {"optimizer": ADAM},
    "minibatch": {"optimizer": ADAM, "batch_size": 5},
    "noise and momentum": {"optimizer": noisy_sgd(), "batch_size": 4, "draws": 2},
    "plateau": {"optimizer": optax.chain(ADAM, optax.clip(1.0)), "forward": "local_reparam"},
    "skipping": {"optimizer": ADAM, "batch_size": 5, "on_nonfinite": "skip"},
    "validation": {"optimizer": ADAM, "validation": 0.3, "validate_every": 3, "patience": 1000},
    "restarts": {"optimizer": ADAM, "batch_size": 5, "restarts": 2, "init": NETWORK.init},
}


def fit(steps, case="minibatch", **options):
    asked = dict(CASES[case])
    if asked.get("forward"):
        asked["forward"] = bbb.local_reparam(NETWORK.apply)
    return bbb.fit(KEY, model(), X, Y, steps=steps, **{**asked, **options})


@pytest.mark.parametrize("case", CASES)
def test_two_halves_are_the_whole_bit_for_bit(case, tmp_path):
    whole, history = fit(24, case)
    fit(11, case, checkpoint=tmp_path)
    again, resumed = fit(24, case, checkpoint=tmp_path, resume=True)
    assert_same(whole, again)
    assert_same_history(history, resumed)


def test_every_split_is_the_whole_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(_resume, "KEPT", 100)
    whole, history = fit(24, checkpoint=tmp_path / "all", every=1)
    assert len(files(tmp_path / "all")) == 24
    for k in range(1, 24):
        folder = tmp_path / str(k)
        folder.mkdir()
        shutil.copy(tmp_path / "all" / f"step-{k:012}.safetensors", folder)
        again, resumed = fit(24, checkpoint=folder, resume=True)
        assert_same(whole, again)
        assert_same_history(history, resumed)


def test_a_training_that_stopped_early_is_read_back(tmp_path):
    options = {"case": "validation", "patience": 2, "checkpoint": tmp_path}
    whole, history = fit(300, **options)
    assert len(history.loss) < 300
    again, resumed = fit(300, resume=True, **options)
    assert_same(whole, again)
    assert_same_history(history, resumed)


def test_checkpoints_change_nothing(tmp_path, dtype):
    whole, history = fit(24)
    again, resumed = fit(24, checkpoint=tmp_path, every=5)
    assert_same(whole, again)
    assert_same_history(history, resumed)
    assert jax.tree.leaves(again)[0].dtype == dtype
    assert files(tmp_path) == ["step-000000000020.safetensors", "step-000000000024.safetensors"]


def test_a_finished_training_is_read_back(tmp_path):
    whole, history = fit(24, checkpoint=tmp_path)
    again, resumed = fit(24, checkpoint=tmp_path, resume=True)
    assert_same(whole, again)
    assert_same_history(history, resumed)


def test_resume_starts_afresh_where_there_is_nothing(tmp_path):
    whole, _ = fit(6)
    again, _ = fit(6, checkpoint=tmp_path / "new" / "folder", resume=True)
    assert_same(whole, again)


def test_another_optimizer_of_the_same_kind_goes_on(tmp_path):
    fit(6, checkpoint=tmp_path)
    _, history = fit(9, checkpoint=tmp_path, resume=True, optimizer=optax.adam(1e-4))
    assert history.loss.shape == (9,)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"key": jax.random.key(4)}, "another key"),
        ({"x": X + 1}, "another x"),
        ({"y": Y + 1}, "another y"),
        ({"model": model(seed=1)}, "another posterior to begin with"),
        ({"model": model(std=0.4)}, "another likelihood"),
        ({"model": model(network=RELU)}, "another network"),
        ({"model": model(prior=bbb.prior.EmpiricalNormal(per="leaf"))}, "another prior"),
        ({"batch_size": 4}, "another batch_size, draws or on_nonfinite"),
        ({"kl_weight": 0.5}, "another kl_weight"),
        ({"objective": bbb.torchbnn.mse_cost}, "another objective"),
        ({"forward": bbb.local_reparam(NETWORK.apply)}, "another forward"),
        ({"validation": 0.3}, "another (validation|x)"),
        ({"steps": 5}, "no more steps done in .* than asked for, got 6 of 5"),
        ({"resume": False}, r"no checkpoints in .*, got 1, the last step-000000000006.*Pass resume=True, or --resume,"),
        ({"every": 0}, "every to be a whole number of at least 1"),
        ({"on_nonfinite": "ignore"}, 'on_nonfinite to be "raise" or "skip", got \'ignore\''),
    ],
)
def test_what_does_not_fit_the_checkpoints_is_refused(tmp_path, other, message):
    given = {"key": KEY, "model": model(), "x": X, "y": Y, "steps": 9, "batch_size": 5, "optimizer": ADAM}
    fit(6, checkpoint=tmp_path)
    before = files(tmp_path)
    asked = {**given, "resume": True, "checkpoint": tmp_path, **other}
    with pytest.raises(bbb.InputError, match=message):
        bbb.fit(asked.pop("key"), asked.pop("model"), asked.pop("x"), asked.pop("y"), **asked)
    assert files(tmp_path) == before


def made(by):
    """Make an objective and a forward of one name each, which compute something else for each number."""

    def objective(model, outputs, y, weights, num_data, kl_weight):
        cost = bbb.objective.elbo_cost(model, outputs, y, weights, num_data, kl_weight)
        return cost._replace(total=cost.total * by)

    def forward(key, posterior, x):
        return by * bbb.weight_sampling(NETWORK.apply)(key, posterior, x)

    return {"objective": objective, "forward": forward}


@pytest.mark.parametrize("part", ["objective", "forward"])
@pytest.mark.parametrize("case", ["minibatch", "restarts"])
def test_a_users_function_is_known_by_what_it_computes(part, case, tmp_path):
    fit(4, case, checkpoint=tmp_path, **{part: made(1.0)[part]})
    fit(6, case, checkpoint=tmp_path, resume=True, **{part: made(1.0)[part]})
    with pytest.raises(bbb.InputError, match=f"another {part}"):
        fit(8, case, checkpoint=tmp_path, resume=True, **{part: made(2.0)[part]})


def test_an_optimizer_of_another_structure_is_refused(tmp_path):
    fit(6, checkpoint=tmp_path)
    with pytest.raises(bbb.ModelFileError, match=r"to hold the state of this run, got a file .*Pass what that run"):
        fit(9, checkpoint=tmp_path, resume=True, optimizer=optax.sgd(0.1))


@pytest.mark.parametrize("option", [{"every": 3}, {"resume": True}])
def test_options_of_checkpoints_need_a_folder(option):
    with pytest.raises(bbb.InputError, match="a folder of checkpoints with every or resume, got none"):
        fit(3, **option)


def test_the_newest_whole_checkpoint_is_used(tmp_path):
    whole, _ = fit(24)
    fit(10, checkpoint=tmp_path, every=5)
    newest = tmp_path / "step-000000000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.warns(RuntimeWarning, match=r"A damaged checkpoint was passed over: Expected .*000010"):
        again, _ = fit(24, checkpoint=tmp_path, resume=True, every=2)
    assert_same(whole, again)
    assert files(tmp_path) == ["step-000000000022.safetensors", "step-000000000024.safetensors"]


def test_a_damaged_checkpoint_takes_no_place_of_a_whole_one(tmp_path):
    fit(10, checkpoint=tmp_path, every=5)
    newest = tmp_path / "step-000000000010.safetensors"
    newest.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="passed over"):
        fit(8, checkpoint=tmp_path, resume=True, every=2)
    assert files(tmp_path) == ["step-000000000006.safetensors", "step-000000000008.safetensors"]


def test_a_damaged_file_at_an_older_step_does_not_drive_out_a_whole_one(tmp_path):
    fit(10, checkpoint=tmp_path, every=5)
    (tmp_path / "step-000000000010.safetensors").write_bytes(b"")
    (tmp_path / "step-000000000009.safetensors").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="passed over"):
        fit(12, checkpoint=tmp_path, resume=True, every=12)
    assert "step-000000000005.safetensors" in files(tmp_path)
    assert "step-000000000012.safetensors" in files(tmp_path)


def rewritten(path, **changed):
    """Write a checkpoint again, whole, with other numbers."""
    arrays, header = _arrays.unpack(path, _resume.KIND)
    assert set(changed) <= set(arrays)
    path.write_bytes(_arrays.pack(_resume.KIND, header, {**arrays, **changed}))


BAD_ORDER = np.array([0] * 13, np.int32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"state/healthy": np.array(False)}, "to hold a healthy training, got healthy=False"),
        ({"state/step": np.array(9, np.int32)}, "to hold the 9 steps that it is of, got a history of 10"),
        ({"state/member/order": BAD_ORDER}, "to hold an order of 13 rows, got one that is no permutation of them"),
        (
            {"state/member/trainable/0/mean/0/bias": np.full(4, np.nan, np.float32)},
            "to hold finite parameters, got NaN or infinity in state/trainable/0/mean/0/bias",
        ),
    ],
)
def test_a_checkpoint_that_no_training_saves_is_passed_over(tmp_path, changed, message):
    whole, _ = fit(14)
    fit(10, checkpoint=tmp_path, every=5)
    rewritten(tmp_path / "step-000000000010.safetensors", **changed)
    with pytest.warns(RuntimeWarning, match=f"A damaged checkpoint was passed over: Expected .*000010.* {message}"):
        again, _ = fit(14, checkpoint=tmp_path, resume=True, every=7)
    assert_same(whole, again)
    (tmp_path / "step-000000000007.safetensors").unlink()
    rewritten(tmp_path / "step-000000000014.safetensors", **{"state/healthy": np.array(False)})
    with pytest.raises(bbb.ModelFileError, match="healthy=False"):
        fit(20, checkpoint=tmp_path, resume=True)


def test_an_unhealthy_checkpoint_takes_no_place_of_a_whole_one(tmp_path):
    fit(10, checkpoint=tmp_path, every=5)
    shutil.copy(tmp_path / "step-000000000010.safetensors", tmp_path / "step-000000000009.safetensors")
    rewritten(tmp_path / "step-000000000009.safetensors", **{"state/healthy": np.array(False)})
    (tmp_path / "step-000000000010.safetensors").unlink()
    with pytest.warns(RuntimeWarning, match="healthy=False"):
        fit(12, checkpoint=tmp_path, resume=True, every=12)
    assert files(tmp_path) == ["step-000000000005.safetensors", "step-000000000012.safetensors"]


def test_no_whole_checkpoint_is_an_error(tmp_path):
    fit(10, checkpoint=tmp_path, every=5)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(bbb.ModelFileError, match="to be a whole checkpoint, got one that cannot be read"):
        fit(24, checkpoint=tmp_path, resume=True)


def test_a_model_is_no_checkpoint(tmp_path):
    bbb.save(tmp_path / "step-000000000010.safetensors", model())
    with pytest.raises(bbb.ModelFileError, match=r"Pass a file written by bbb\.fit\(checkpoint=\.\.\.\)"):
        fit(24, checkpoint=tmp_path, resume=True)


def test_what_a_killed_run_left_is_cleaned_and_what_is_not_ours_stays(tmp_path):
    left = tmp_path / ".step-000000000010.safetensors.0123abcd.tmp"
    other = tmp_path / ".step-of-mine.tmp"
    left.write_bytes(b"half")
    other.write_bytes(b"mine")
    fit(3, checkpoint=tmp_path)
    assert not left.exists()
    assert other.read_bytes() == b"mine"


def test_a_read_only_folder_is_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(bbb.WriteError, match="a folder that can be written"):
        fit(3, checkpoint=tmp_path / "file")


SCRIPT = """
    import sys, jax, numpy as np, optax, bbb

    network = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
    model = bbb.bayesianize(
        network.apply, network.init(jax.random.key(0)),
        prior=bbb.prior.Normal(), likelihood=bbb.likelihood.Gaussian(0.3, learn=True),
    )
    x = np.random.default_rng(0).normal(size=(13, 2))
    options = {"batch_size": 5, "checkpoint": sys.argv[1], "every": 5000, "resume": True}
    bbb.fit(jax.random.key(1), model, x, x[:, :1], steps=int(sys.argv[2]), **options)
"""


def run(folder, steps):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(tmp_path, number):
    with run(tmp_path, 1_000_000_000) as process:
        try:
            while not files(tmp_path):  # before the first checkpoint, a signal may meet Python where it raises nothing
                assert process.poll() is None
                time.sleep(0.1)
            process.send_signal(number)
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode in (-number, 130) or b"KeyboardInterrupt" in errors
    names = files(tmp_path)
    assert names
    assert all(name.startswith("step-") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["save", "train"])
def test_kills_lose_nothing(kind):
    """A few of what `python -m tests.kills --kills 1000` does."""
    tally = kills.run(kind, 8, seed=0)
    assert tally.kills == 8
    assert tally[2:] == (0, 0, 0)


def test_a_small_model_is_saved_often_and_a_slow_save_seldom():
    assert _loop._next_save(100.0, 100.001) == pytest.approx(105.001)  # a job killed every minute gets on
    assert _loop._next_save(100.0, 100.5) == pytest.approx(125.5)
    assert _loop._next_save(100.0, 110.0) == pytest.approx(170.0)
