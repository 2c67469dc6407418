"""A training that is stopped and goes on is the training that never stopped, bit for bit."""

import os
import re
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
from bbb.storage import arrays as arrays_module
from bbb.train.checkpoints import policy, snapshot
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
        prior=prior or bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(std, learn=True),
    )


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())


def noisy_sgd():
    return optax.chain(optax.add_noise(0.1, 0.5, 7), optax.sgd(1e-2, momentum=0.9))


CASES = {
    "full batch": {"optimizer": ADAM},
    "minibatch": {"optimizer": ADAM, "batch_size": 5},
    "noise and momentum": {"optimizer": noisy_sgd(), "batch_size": 4, "objective": bbb.train.Objective(draws=2)},
    "plateau": {
        "optimizer": optax.chain(ADAM, optax.clip(1.0)),
        "objective": bbb.train.Objective(forward=bbb.forwards.local_reparam(NETWORK.apply)),
    },
    "skipping": {"optimizer": ADAM, "batch_size": 5, "objective": bbb.train.Objective(on_nonfinite="skip")},
    "validation": {"optimizer": ADAM, "validation": bbb.train.EarlyStopping(0.3, every=3, patience=1000)},
    "restarts": {"optimizer": ADAM, "batch_size": 5, "restarts": bbb.train.Restarts(2, NETWORK.init)},
    "anchored": {"optimizer": ADAM, "batch_size": 5, "restarts": bbb.train.Restarts(2, anchored=True)},
}


def fit(steps, case="minibatch", **options):
    return bbb.fit(KEY, model(), X, Y, steps=steps, **{**CASES[case], **options})


@pytest.mark.parametrize("case", CASES)
def test_two_halves_are_the_whole_bit_for_bit(case, tmp_path):
    whole, history = fit(24, case)
    fit(11, case, checkpoints=tmp_path)
    again, resumed = fit(24, case, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True))
    assert_same(whole, again)
    assert_same_history(history, resumed)


def test_every_split_is_the_whole_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "KEPT", 100)
    whole, history = fit(24, checkpoints=bbb.train.Checkpointing(tmp_path / "all", every=1))
    assert len(files(tmp_path / "all")) == 24
    for k in range(1, 24):
        folder = tmp_path / str(k)
        folder.mkdir()
        shutil.copy(tmp_path / "all" / f"step-{k:012}.safetensors", folder)
        again, resumed = fit(24, checkpoints=bbb.train.Checkpointing(folder, resume=True))
        assert_same(whole, again)
        assert_same_history(history, resumed)


def test_a_training_that_stopped_early_is_read_back(tmp_path):
    options = {"case": "validation", "validation": bbb.train.EarlyStopping(0.3, every=3, patience=2)}
    whole, history = fit(300, checkpoints=tmp_path, **options)
    assert len(history.loss) < 300
    again, resumed = fit(300, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True), **options)
    assert_same(whole, again)
    assert_same_history(history, resumed)


def test_checkpoints_change_nothing(tmp_path, dtype):
    whole, history = fit(24)
    again, resumed = fit(24, checkpoints=bbb.train.Checkpointing(tmp_path, every=5))
    assert_same(whole, again)
    assert_same_history(history, resumed)
    assert jax.tree.leaves(again)[0].dtype == dtype
    assert files(tmp_path) == ["step-000000000020.safetensors", "step-000000000024.safetensors"]


def test_a_finished_training_is_read_back(tmp_path):
    whole, history = fit(24, checkpoints=tmp_path)
    again, resumed = fit(24, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True))
    assert_same(whole, again)
    assert_same_history(history, resumed)


def test_resume_starts_afresh_where_there_is_nothing(tmp_path):
    whole, _ = fit(6)
    again, _ = fit(6, checkpoints=bbb.train.Checkpointing(tmp_path / "new" / "folder", resume=True))
    assert_same(whole, again)


def test_another_optimizer_of_the_same_kind_goes_on(tmp_path):
    fit(6, checkpoints=tmp_path)
    _, history = fit(9, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True), optimizer=optax.adam(1e-4))
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
        ({"model": model(prior=bbb.priors.EmpiricalNormal(per="leaf"))}, "another prior"),
        ({"batch_size": 4}, "another batch_size, draws or on_nonfinite"),
        ({"objective": bbb.train.Objective(kl_weight=0.5)}, "another kl_weight"),
        ({"objective": bbb.torchbnn.mse_cost}, "another objective"),
        ({"objective": bbb.train.Objective(forward=bbb.forwards.local_reparam(NETWORK.apply))}, "another forward"),
        ({"validation": 0.3}, "another (validation|x)"),
        ({"steps": 5}, "no more steps done in .* than asked for, got 6 of 5"),
        ({"resume": False}, r"no checkpoints in .*, got 1, the last step-000000000006.*Pass resume=True, or --resume,"),
        ({"objective": bbb.train.Objective(on_nonfinite="skip")}, "another batch_size, draws or on_nonfinite"),
    ],
)
def test_what_does_not_fit_the_checkpoints_is_refused(tmp_path, other, message):
    given = {"key": KEY, "model": model(), "x": X, "y": Y, "steps": 9, "batch_size": 5, "optimizer": ADAM}
    fit(6, checkpoints=tmp_path)
    before = files(tmp_path)
    asked = {**given, **other}
    asked["checkpoints"] = bbb.train.Checkpointing(tmp_path, resume=asked.pop("resume", True))
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.fit(asked.pop("key"), asked.pop("model"), asked.pop("x"), asked.pop("y"), **asked)
    assert files(tmp_path) == before


def made(by):
    """Make an objective and a forward of one name each, which compute something else for each number."""

    def objective(model, outputs, y, weights, num_data, kl_weight):
        cost = bbb.objectives.elbo_cost(model, outputs, y, weights, num_data, kl_weight)
        return cost._replace(total=cost.total * by)

    def forward(key, posterior, x):
        return by * bbb.forwards.weight_sampling(NETWORK.apply)(key, posterior, x)

    return {"objective": bbb.train.Objective(objective), "forward": bbb.train.Objective(forward=forward)}


def test_the_names_in_a_checkpoint_stay_as_they_were(tmp_path):
    """Those of the first version: a folder that was written then is resumed."""
    fit(4, "validation", checkpoints=tmp_path)
    arrays, header = arrays_module.unpack(next(tmp_path.iterdir()), snapshot.KIND)
    leaf = r"[01]/(mean/|log_std/)?(([02]/)?(weight|bias)|log_std)"
    state = rf"member/(trainable/{leaf}|order|skipped|optimizer_state/0/(count|(mu|nu)/{leaf}))|step|healthy"
    expected = (
        rf"state/({state})|best/(score|scores|stale|step|steps|trainable/{leaf})|record/(0/(total|data_term|kl)|1)"
    )
    assert [name for name in arrays if not re.fullmatch(expected, name)] == []
    assert {"state/step", "state/healthy", "state/member/order", "best/stale", "record/0/data_term"} <= set(arrays)
    assert set(header["run"]) == {
        *("key", "x", "y", "network", "posterior to begin with", "prior", "likelihood", "forward", "objective"),
        *("kl_weight", "batch_size, draws or on_nonfinite", "validation"),
    }


@pytest.mark.parametrize("part", ["objective", "forward"])
@pytest.mark.parametrize("case", ["minibatch", "restarts"])
def test_a_users_function_is_known_by_what_it_computes(part, case, tmp_path):
    fit(4, case, checkpoints=tmp_path, objective=made(1.0)[part])
    fit(6, case, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True), objective=made(1.0)[part])
    with pytest.raises(bbb.errors.InputError, match=f"another {part}"):
        fit(8, case, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True), objective=made(2.0)[part])


def test_an_optimizer_of_another_structure_is_refused(tmp_path):
    fit(6, checkpoints=tmp_path)
    with pytest.raises(
        bbb.errors.ModelFileError, match=r"to hold the state of this run, got a file .*Pass what that run"
    ):
        fit(9, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True), optimizer=optax.sgd(0.1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"folder": None, "every": 3},
            r"a folder of checkpoints with every or resume, got none\. Pass bbb\.train\.",
        ),
        ({"folder": None, "resume": True}, "a folder of checkpoints with every or resume, got none"),
        ({"folder": 3}, r"the folder of checkpoints to be a str, got int 3\. Pass for example"),
        ({"folder": "run", "every": 0}, "every to be a whole number of at least 1, got 0"),
        ({"folder": "run", "resume": 1}, "resume to be a bool, got 1"),
    ],
)
def test_checkpoints_that_cannot_be_kept_are_refused(given, message):
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.train.Checkpointing(**given)


def test_the_newest_whole_checkpoint_is_used(tmp_path):
    whole, _ = fit(24)
    fit(10, checkpoints=bbb.train.Checkpointing(tmp_path, every=5))
    newest = tmp_path / "step-000000000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.warns(RuntimeWarning, match=r"A damaged checkpoint was passed over: Expected .*000010"):
        again, _ = fit(24, checkpoints=bbb.train.Checkpointing(tmp_path, every=2, resume=True))
    assert_same(whole, again)
    assert files(tmp_path) == ["step-000000000022.safetensors", "step-000000000024.safetensors"]


def test_a_damaged_checkpoint_takes_no_place_of_a_whole_one(tmp_path):
    fit(10, checkpoints=bbb.train.Checkpointing(tmp_path, every=5))
    newest = tmp_path / "step-000000000010.safetensors"
    newest.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="passed over"):
        fit(8, checkpoints=bbb.train.Checkpointing(tmp_path, every=2, resume=True))
    assert files(tmp_path) == ["step-000000000006.safetensors", "step-000000000008.safetensors"]


def test_a_damaged_file_at_an_older_step_does_not_drive_out_a_whole_one(tmp_path):
    fit(10, checkpoints=bbb.train.Checkpointing(tmp_path, every=5))
    (tmp_path / "step-000000000010.safetensors").write_bytes(b"")
    (tmp_path / "step-000000000009.safetensors").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="passed over"):
        fit(12, checkpoints=bbb.train.Checkpointing(tmp_path, every=12, resume=True))
    assert "step-000000000005.safetensors" in files(tmp_path)
    assert "step-000000000012.safetensors" in files(tmp_path)


def rewritten(path, **changed):
    """Write a checkpoint again, whole, with other numbers."""
    arrays, header = arrays_module.unpack(path, snapshot.KIND)
    assert set(changed) <= set(arrays)
    path.write_bytes(arrays_module.pack(snapshot.KIND, header, {**arrays, **changed}))


BAD_ORDER = np.array([0] * 13, np.int32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"state/healthy": np.array(False)}, "to hold a healthy training, got healthy=False"),
        ({"state/step": np.array(9, np.int32)}, "to hold the 9 steps that it is of, got a history of 10"),
        ({"state/member/order": BAD_ORDER}, "to hold an order of 13 rows, got one that is not a permutation of them"),
        (
            {"state/member/trainable/0/mean/0/bias": np.full(4, np.nan, np.float32)},
            "to hold finite parameters, got NaN or infinity in state/trainable/0/mean/0/bias",
        ),
    ],
)
def test_a_checkpoint_that_no_training_saves_is_passed_over(tmp_path, changed, message):
    whole, _ = fit(14)
    fit(10, checkpoints=bbb.train.Checkpointing(tmp_path, every=5))
    rewritten(tmp_path / "step-000000000010.safetensors", **changed)
    with pytest.warns(RuntimeWarning, match=f"A damaged checkpoint was passed over: Expected .*000010.* {message}"):
        again, _ = fit(14, checkpoints=bbb.train.Checkpointing(tmp_path, every=7, resume=True))
    assert_same(whole, again)
    (tmp_path / "step-000000000007.safetensors").unlink()
    rewritten(tmp_path / "step-000000000014.safetensors", **{"state/healthy": np.array(False)})
    with pytest.raises(bbb.errors.ModelFileError, match="healthy=False"):
        fit(20, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True))


def test_an_unhealthy_checkpoint_takes_no_place_of_a_whole_one(tmp_path):
    fit(10, checkpoints=bbb.train.Checkpointing(tmp_path, every=5))
    shutil.copy(tmp_path / "step-000000000010.safetensors", tmp_path / "step-000000000009.safetensors")
    rewritten(tmp_path / "step-000000000009.safetensors", **{"state/healthy": np.array(False)})
    (tmp_path / "step-000000000010.safetensors").unlink()
    with pytest.warns(RuntimeWarning, match="healthy=False"):
        fit(12, checkpoints=bbb.train.Checkpointing(tmp_path, every=12, resume=True))
    assert files(tmp_path) == ["step-000000000005.safetensors", "step-000000000012.safetensors"]


def test_no_whole_checkpoint_is_an_error(tmp_path):
    fit(10, checkpoints=bbb.train.Checkpointing(tmp_path, every=5))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(bbb.errors.ModelFileError, match="to be a complete checkpoint, got one that cannot be read"):
        fit(24, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True))


def test_a_model_is_no_checkpoint(tmp_path):
    bbb.save(tmp_path / "step-000000000010.safetensors", model())
    with pytest.raises(bbb.errors.ModelFileError, match=r"Pass a file written by bbb\.fit\(checkpoints=\.\.\.\)"):
        fit(24, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True))


def test_what_a_killed_run_left_is_cleaned_and_what_is_not_ours_stays(tmp_path):
    left = tmp_path / ".step-000000000010.safetensors.0123abcd.tmp"
    other = tmp_path / ".step-of-mine.tmp"
    left.write_bytes(b"half")
    other.write_bytes(b"mine")
    fit(3, checkpoints=tmp_path)
    assert not left.exists()
    assert other.read_bytes() == b"mine"


def test_a_read_only_folder_is_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(bbb.errors.WriteError, match="a writable folder"):
        fit(3, checkpoints=tmp_path / "file")


SCRIPT = """
    import sys, jax, numpy as np, optax, bbb

    network = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
    model = bbb.bayesianize(
        network.apply, network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.3, learn=True),
    )
    x = np.random.default_rng(0).normal(size=(13, 2))
    options = {"batch_size": 5, "checkpoints": bbb.train.Checkpointing(sys.argv[1], every=5000, resume=True)}
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
    assert policy.next_save(100.0, 100.001) == pytest.approx(105.001)  # a job killed every minute gets on
    assert policy.next_save(100.0, 100.5) == pytest.approx(125.5)
    assert policy.next_save(100.0, 110.0) == pytest.approx(170.0)
