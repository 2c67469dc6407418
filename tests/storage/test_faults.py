"""A disk that is full, a folder that is read-only or gone: a named error, the old file whole, nothing left beside it.

Every file is written by `bbb.storage`, as the first test shows. It meets a fault at each point of writing; then each
writer meets real ones: a full disk (a small one is mounted, where that is allowed), a limit on the size of files, a
folder that may not be written, one that is removed. Where tests run as root, to whom permissions are nothing, they
become a user without rights for as long as they write.
"""

import ast
import contextlib
import errno
import functools
import os
import resource
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import bbb
from bbb import tasks
from bbb.cli import demo, main, output, training
from bbb.cli.reporting import pictures
from bbb.plots import style
from bbb.storage import files
from bbb.tables import csv, recipe
from bbb.tables import fit as fit_module
from bbb.train.checkpoints import snapshot as snapshot_module
from tests.same import assert_same, assert_same_history

KEY = jax.random.key(0)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))
X = np.random.default_rng(0).normal(size=(24, 2))
Y = X[:, :1] - X[:, 1:]
ADAM = optax.adam(1e-2)
CHECK = "Check that the folder exists, is writable, and has room."


def model(seed=0):
    return bbb.bayesianize(
        NETWORK.apply,
        NETWORK.init(jax.random.key(seed)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5, learn=True),
    )


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Who writes


WRITING = {"write_text", "write_bytes", "savefig", "save_file", "savez", "savetxt", "tofile", "dump", "touch"}
REMOVING = {"unlink", "rename", "replace", "rmdir", "rmtree", "mkdir", "makedirs"}


def test_one_module_writes_all_files():
    """Else what the others write would need every test below too."""
    found = set()
    for path in Path(bbb.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = getattr(getattr(node.func, "value", None), "id", "")
            writes = name == "open" and any("w" in str(getattr(a, "value", "")) for a in node.args[1:])
            if name in WRITING or writes or (name in REMOVING and owner in ("os", "shutil", "path", "other", "file")):
                found.add(f"{path.name}: {ast.unparse(node)}")
    assert {entry for entry in found if not entry.startswith("files.py")} == {
        "snapshot.py: other.unlink()",  # an old checkpoint
        "style.py: figure.savefig(content, format='png')",  # into memory
    }


# Each point of writing


NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing(*args, **kwargs):
    raise NO_ROOM


class HalfWritten:
    """A file on a disk that has room for half of what is written."""

    def __init__(self, *args):
        self.file = open(*args)  # noqa: SIM115 - closed as it would be

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        failing()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def opened(wrapper):
    """Open files for writing as `wrapper` does, others as ever."""
    return lambda path, mode="r": wrapper(path, mode) if "x" in mode else open(path, mode)


def second_time(function):
    """Fail at the second call: the folder is flushed after the file."""
    calls = []

    def call(*args):
        calls.append(args)
        return function(*args) if len(calls) == 1 else failing()

    return call


POINTS = {
    "list": lambda patch: patch.setattr(files.os, "scandir", failing),
    "open": lambda patch: patch.setattr(files, "open", opened(failing), raising=False),
    "lock": lambda patch: patch.setattr(files, "_lock", failing),
    "write": lambda patch: patch.setattr(files, "open", opened(HalfWritten), raising=False),
    "fsync": lambda patch: patch.setattr(files.os, "fsync", failing),
    "read back": lambda patch: patch.setattr(files.Path, "read_bytes", failing),
    "replace": lambda patch: patch.setattr(files.os, "replace", failing),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("old", [True, False], ids=["over an old file", "a new file"])
def test_a_fault_at_any_point_is_named_and_leaves_the_old_file(tmp_path, point, old):
    if old:
        bbb.save(tmp_path / "m", model(0))
    before = contents(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        POINTS[point](patch)
        with pytest.raises(bbb.errors.WriteError) as caught:
            bbb.save(tmp_path / "m", model(1))
    said = f"Expected to be able to write {tmp_path / 'm'}, got: No space left on device. {CHECK}"
    assert str(caught.value) == said
    assert isinstance(caught.value, OSError)
    assert caught.value.__cause__ is NO_ROOM
    assert caught.value.model is caught.value.history is None
    assert contents(tmp_path) == before


def test_what_reads_back_otherwise_is_not_put_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr(files.Path, "read_bytes", lambda path: b"another")
    with pytest.raises(bbb.errors.WriteError, match="got: what was read back differs from what was written"):
        bbb.save(tmp_path / "m", model())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_flushed_is_named_and_the_new_file_is_whole(tmp_path, monkeypatch):
    bbb.save(tmp_path / "m", model(0))
    monkeypatch.setattr(files.os, "fsync", second_time(os.fsync))
    with pytest.raises(
        bbb.errors.WriteError, match=r"to flush the folder of .*m, got: No space left.* Check the disk\."
    ):
        bbb.save(tmp_path / "m", model(1))
    assert_same(bbb.load(tmp_path / "m"), model(1))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", files.CANNOT_FLUSH)
def test_a_file_system_that_knows_no_flush_of_folders_is_written_all_the_same(tmp_path, monkeypatch, number):
    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fsync)
    bbb.save(tmp_path / "m", model())
    bbb.load(tmp_path / "m")


def test_another_users_half_written_file_stops_nobody(tmp_path, monkeypatch):
    (tmp_path / ".m.0123abcd.tmp").write_bytes(b"half")
    monkeypatch.setattr(files.os, "unlink", failing)  # as in a folder where each may remove only what is its own
    bbb.save(tmp_path / "m", model())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.0123abcd.tmp", "m"]


def test_a_device_is_not_made_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/dev/null", tmp_path / "null")
    for name in ("pipe", "null"):
        with pytest.raises(bbb.errors.WriteError, match=f"write .*{name}, got: it is a device or a pipe. Check"):
            bbb.save(tmp_path / name, model())
        with pytest.raises(
            bbb.errors.WriteError, match=f"--out to be a file, got the device or pipe .*{name}. Pass a file's"
        ):
            output.output_file(str(tmp_path / name))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe"]


# Real faults


@contextlib.contextmanager
def small_files(folder):
    """Let this process write no file longer than 100 bytes; Python has SIGXFSZ ignored, so that it is an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def no_rights(folder, mode=0o555):
    """Make a folder read-only, and be one to whom that means something."""
    folder.chmod(mode)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@contextlib.contextmanager
def full(folder):
    """Fill the disk, but for less than a file."""
    ballast = folder.parent / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)
    yield
    ballast.unlink()


@contextlib.contextmanager
def read_only_disk(folder):
    """Mount the disk read-only."""
    mount("remount,ro", folder.parent)
    yield
    mount("remount,rw", folder.parent)


def mount(options, path):
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"needs a disk of its own, and may not mount one here: {made.stderr.decode().strip()}")


@contextlib.contextmanager
def disk():
    """Return a folder on a small disk of its own."""
    with tempfile.TemporaryDirectory() as name:
        mount("size=1m", name)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@contextlib.contextmanager
def any_folder():
    """Return a folder that other users may enter; pytest's are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


FAULTS = {
    "no file beyond 100 bytes": (any_folder, small_files, "File too large"),
    "a folder without rights": (any_folder, no_rights, "Permission denied"),
    "a full disk": (disk, full, "No space left on device"),
    "a read-only disk": (disk, read_only_disk, "Read-only file system"),
}


@pytest.fixture(scope="module")
def tabular_work(tmp_path_factory):
    """A table, a model of it, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("tabular")
    (folder / "data.csv").write_text(csv.text(dict(zip("aby", np.hstack([X, Y]).T, strict=True))))
    data = csv.read(folder / "data.csv")
    made, _ = fit_module.fit_table(data, "y", recipe=recipe.Recipe(hidden=3, epochs=2))
    made.save(folder / "model")
    return folder, made, data


@pytest.fixture(scope="module")
def writers(tabular_work):
    """What writes files into a folder, of other content for another seed; what it takes to make them is left out."""
    pytest.importorskip("flatbuffers")
    work, made, data = tabular_work

    def command(*arguments):
        def run(folder, seed):
            """Raise what the command would print."""
            parsed = main._parser().parse_args([*map(str, arguments), "--out", f"{folder}/out", "--seed", str(seed)])
            parsed.run(parsed)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "png", lambda page, panels=1: b"picture" * 100)
        patch.setattr(training, "fit_table", lambda *args, **options: (made, SimpleNamespace(negative_elbo=np.ones(1))))
        yield {
            "save": lambda folder, seed: bbb.save(folder / "m", model(seed)),
            "export": lambda folder, seed: bbb.serving.export(
                folder / "e", model(seed), X, draws=2, platforms=("cpu",)
            ),
            "bbb fit --out": command("fit", work / "data.csv", "--target", "y"),
            "bbb predict --out": command("predict", work / "model", work / "data.csv", "--draws", 20),
            "pictures": lambda folder, seed: pictures.write(made, data, folder, seed=seed, draws=20, level=0.9),
            "bbb demo --out": lambda folder, seed: demo.write(shown(), folder),
        }


@functools.cache
def shown():
    return demo.run(tasks.Settings(hidden=3, steps=2, draws=20), seed=0)


def cases():
    """Return every fault with the first writer, the first fault with nearly all, and for the slow run all with all."""
    names = ("save", "export", "bbb fit --out", "bbb predict --out", "pictures", "bbb demo --out")
    for i, fault in enumerate(FAULTS):
        for j, name in enumerate(names):
            quick = j == 0 or (i == 0 and name != "bbb demo --out")
            yield pytest.param(fault, name, id=f"{name}, {fault}", marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("fault", "name"), [*cases()])
def test_every_writer_names_a_real_fault_and_leaves_the_old_files(writers, fault, name):
    place, breaking, reason = FAULTS[fault]
    with place() as around:
        folder = around / "folder"
        folder.mkdir()
        writers[name](folder, 0)
        before = contents(folder)
        with breaking(folder), pytest.raises(bbb.errors.WriteError, match=f"^Expected .*{reason}.*") as caught:
            writers[name](folder, 1)
        assert str(caught.value).endswith((CHECK, "Pass another folder."))
        assert before
        assert contents(folder) == before


@pytest.mark.parametrize("path", ["/proc/m", "/sys/m", "/nowhere/m", f"/tmp/{'n' * 250}"])
def test_places_that_no_file_can_have(path):
    with pytest.raises(bbb.errors.WriteError, match=rf"^Expected to be able to write .*got: .*\. {CHECK}$"):
        bbb.save(path, model())


def test_a_full_stdout_is_refused_in_one_sentence(tabular_work, monkeypatch, capfd):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    work, *_ = tabular_work
    with open("/dev/full", "w") as full_disk, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full_disk)
        assert main.main(["predict", f"{work}/model", f"{work}/data.csv", "--draws", "20"]) == 1
    assert capfd.readouterr().err == (
        "bbb: Expected to be able to write to stdout, got: No space left on device. "
        "Check its permissions, and the space that is left.\n"
    )


# While training


STEPS = 12


def fit(folder, steps=STEPS, resume=False, **options):
    checkpoints = None if folder is None else bbb.train.Checkpointing(folder, every=3, resume=resume)
    asked = {"batch_size": 5, "optimizer": ADAM, "checkpoints": checkpoints, **options}
    return bbb.fit(KEY, asked.pop("model", model()), X, Y, steps=steps, **asked)


@contextlib.contextmanager
def gone(folder):
    shutil.rmtree(folder)
    yield
    folder.mkdir(exist_ok=True)


def break_after(saves, breaking, folder, patch, held):
    """Let a fault come once so many checkpoints have been written."""
    save, count = snapshot_module.Checkpoints.save, [0]

    def counted(self, snapshot):
        save(self, snapshot)
        count[0] += 1
        if count[0] == saves:
            held.enter_context(breaking(folder))

    patch.setattr(snapshot_module.Checkpoints, "save", counted)


TRAINING_FAULTS = FAULTS | {"a folder that is removed": (any_folder, gone, "No such file or directory")}


@pytest.mark.parametrize("fault", TRAINING_FAULTS)
def test_a_fault_in_training_hands_over_what_was_trained(fault):
    place, breaking, reason = TRAINING_FAULTS[fault]
    whole, history = fit(None)
    with place() as around:
        folder = around / "run"
        so_far, its_history = fit(folder, steps=9)
        shutil.rmtree(folder)
        with contextlib.ExitStack() as held, pytest.MonkeyPatch.context() as patch:
            folder.mkdir()
            folder.chmod(0o755)
            break_after(2, breaking, folder, patch, held)
            with pytest.raises(bbb.errors.WriteError) as caught:
                fit(folder)
        error = caught.value
        assert str(error) == (
            f"Expected to be able to write {folder}/step-000000000009.safetensors, got: {reason}. {CHECK} "
            "What was trained so far is this error's .model and .history; "
            "resume=True, or --resume, goes on from the checkpoint before, if that is still there."
        )
        assert_same(error.model, so_far)
        assert_same_history(error.history, its_history)
        left = [] if breaking is gone else ["step-000000000003.safetensors", "step-000000000006.safetensors"]
        assert sorted(path.name for path in folder.iterdir()) == left
        again, resumed = fit(folder, resume=True)  # once there is room
        assert_same(again, whole)
        assert_same_history(resumed, history)


CASES = {
    "restarts and validation": {
        "restarts": bbb.train.Restarts(2, NETWORK.init),
        "validation": bbb.train.EarlyStopping(0.25, every=2),
    },
    "restarts": {"restarts": bbb.train.Restarts(2, NETWORK.init)},
    "validation": {"validation": bbb.train.EarlyStopping(0.25, every=2, patience=100)},
    "validation not yet scored": {"validation": bbb.train.EarlyStopping(0.25, every=100)},
    "a mesh": {"placement": True},
}


@pytest.mark.parametrize("case", [next(iter(CASES)), *(pytest.param(c, marks=pytest.mark.slow) for c in [*CASES][1:])])
def test_what_is_handed_over_is_what_fit_would_have_returned(case, tmp_path, monkeypatch):
    options = dict(CASES[case])
    if "placement" in options:
        options["placement"] = Mesh(np.array(jax.devices()[:1]), ("batch",))
    so_far, its_history = fit(None, steps=6, **options)
    with contextlib.ExitStack() as held:
        break_after(1, gone, tmp_path / "run", monkeypatch, held)
        with pytest.raises(bbb.errors.WriteError, match=r"is this error's \.model and \.history") as caught:
            fit(tmp_path / "run", **options)
    found, history = caught.value.model, caught.value.history
    if case == "validation not yet scored":  # fit scores the last step, and so has a best one
        its_history = bbb.fit(KEY, model(), *held_in(), steps=6, optimizer=ADAM, batch_size=5)[1]
    assert_same(found, so_far)
    assert_same_history(history, its_history)
    assert bbb.predict(KEY, found, X, draws=4).f.mean.shape == Y.shape


def held_in():
    """Return the rows that are trained on where a quarter is held out."""
    from bbb.train import validation

    return validation.hold_out(KEY, model(), validation.Data(*map(jax.numpy.float32, (X, Y))), 0.25)[0][:2]


def test_a_folder_that_cannot_be_listed_is_refused_before_training():
    message = r"a writable folder, got .*: Permission denied\. Pass"
    with any_folder() as folder, no_rights(folder, 0o333), pytest.raises(bbb.errors.WriteError, match=message):
        fit(folder)


def test_an_old_checkpoint_that_cannot_be_removed_stops_nothing(tmp_path):
    fit(tmp_path, steps=3)
    (tmp_path / "step-000000000001.safetensors").mkdir()
    fit(tmp_path, resume=True)
    assert sorted(path.name[-14:] for path in tmp_path.iterdir()) == [
        "01.safetensors",
        "09.safetensors",
        "12.safetensors",
    ]


def test_a_file_that_another_removes_before_it_is_locked_is_begun_again(tmp_path, monkeypatch):
    lock, calls = files._lock, []

    def late(handle):
        calls.append(handle)
        if len(calls) == 1:
            files.clean(tmp_path / "m")
        lock(handle)

    monkeypatch.setattr(files, "_lock", late)
    files.write(tmp_path / "m", b"whole")
    assert len(calls) == 2
    assert contents(tmp_path) == {"m": b"whole"}
