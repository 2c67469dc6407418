"""Model files from a stranger: none accepted, none executed, none slow, none that takes memory; and old ones are read.

Every hostile file is opened in one child process that may use little memory, in a folder that has to stay as it is;
what is no file at all, such as a pipe, is among them.
"""

import base64
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import bbb
from bbb.core.tree import SAVED
from bbb.io import models
from bbb.storage import arrays as arrays_module
from bbb.train.checkpoints import snapshot
from tests import ROOT

DATA = ROOT / "tests" / "data"
SECONDS = 20
"""What a single file may take of a processor, by every reader together; a hundredth is usual."""

MEMORY = 2**30
"""What the child may take beyond what it has after its first, harmless file."""


def model(hidden=2):
    network = bbb.nn.sequential(bbb.nn.linear(1, hidden), bbb.nn.tanh, bbb.nn.linear(hidden, 1))
    return bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(0.3, learn=True),
    )


def whole(made=None):
    """Return the content of a file, good in every way."""
    return models._pack(made or model(), {})


def parts(content):
    """Take a file apart: its header, and the bytes of its arrays."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put_together(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entries(header):
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def with_entry(change):
    """Change the header's first array."""
    header, data = parts(whole())
    change(next(iter(entries(header).values())), header)
    return put_together(header, data)


def with_text(old, new):
    """Change the header's text, of which every length stays."""
    header, data = parts(whole())
    return put_together(json.dumps(header).replace(old, new, 1).encode(), data)


def described(change, made=None):
    """Return a file whose checksum is right, but whose description or arrays a stranger made."""
    length = int.from_bytes(whole(made)[:8], "little")
    arrays = {name: np.array(array) for name, array in safetensors.numpy.load(whole(made)).items()}
    header = json.loads(json.loads(whole(made)[8 : 8 + length])["__metadata__"]["header"])
    change(header, arrays)
    return signed(json.dumps(header), arrays)


def signed(text, arrays, kind=models.KIND):
    about = {
        "format": kind.format,
        "version": kind.version,
        "header": text,
        "sha256": arrays_module._digest(text, arrays),
    }
    return safetensors.numpy.save(arrays, metadata=about)


def layers(*kinds):
    return {"kind": "sequential", "layers": list(kinds)}


def linear(inputs, outputs):
    return {"kind": "linear", "in_features": inputs, "out_features": outputs, "bias": True, "init_by": "he"}


def network(description):
    return described(lambda header, arrays: header["model"].update(network=description))


def nested(depth, inner, make):
    for _ in range(depth):
        inner = make(inner)
    return inner


def prior(value):
    return described(lambda header, arrays: header["model"].update(prior=value))


class Creating:
    """What creates a file where it is unpickled."""

    def __reduce__(self):
        return (open, ("executed", "w"))


def zipped(name, content):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return made.getvalue()


def npz():
    made = io.BytesIO()
    np.savez(made, w=np.array([Creating()], dtype=object))
    return made.getvalue()


def npy():
    made = io.BytesIO()
    np.save(made, np.array([Creating()], dtype=object), allow_pickle=True)
    return made.getvalue()


def drop(name):
    return described(lambda header, arrays: arrays.pop(name))


def array(name, value):
    return described(lambda header, arrays: arrays.update({name: value}))


def restarted(change):
    """Return a file of two restarts, changed."""
    one = model()
    members = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), one.posterior)
    made = bbb.BNN(one.apply, bbb.posteriors.Ensemble(members), one.prior, one.likelihood)
    return described(change, made)


WEIGHT = "posterior/mean/0/weight"

CONTENTS = {
    # cut short, or too long
    "empty": lambda: b"",
    "seven bytes": lambda: whole()[:7],
    "the length alone": lambda: whole()[:8],
    "half the header": lambda: whole()[:500],
    "the header alone": lambda: whole()[: 8 + int.from_bytes(whole()[:8], "little")],
    "all but the last byte": lambda: whole()[:-1],
    "one byte too many": lambda: whole() + b"\0",
    "twice": lambda: whole() * 2,
    # headers
    "a header of 2**63 bytes": lambda: struct.pack("<Q", 2**63) + whole()[8:],
    "a header of -1 bytes": lambda: b"\xff" * 8 + whole()[8:],
    "a header of no JSON": lambda: put_together(b"{'a': 1}", b""),
    "a header of NUL": lambda: put_together(bytes(10_000), b""),
    "a header of a list": lambda: put_together([1, 2, 3], b""),
    "a header of brackets": lambda: put_together(b"[" * 5_000_000, b""),
    "a header of braces": lambda: put_together(b'{"a":' * 1_000_000, b""),
    "a header of a giant number": lambda: put_together(b'{"a":{"data_offsets":[0,' + b"9" * 1_000_000 + b"]}}", b""),
    "a header of NaN": lambda: put_together(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,NaN]}}', b""),
    "a header of UTF-16": lambda: put_together(json.dumps(parts(whole())[0]).encode("utf-16"), parts(whole())[1]),
    "50,000 empty arrays": lambda: put_together(
        {f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}, b""
    ),
    "the same array twice": lambda: put_together(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "the metadata twice": lambda: put_together(
        json.dumps(parts(whole())[0]).encode()[:-1] + b',"__metadata__":{"format":"bbb model"}}', parts(whole())[1]
    ),
    "metadata of lists": lambda: with_text('"version": "1"', '"version": [1]'),
    "no metadata": lambda: put_together(entries(parts(whole())[0]), parts(whole())[1]),
    "another format": lambda: with_text('"bbb model"', '"bbb muddle"'),
    "a later version": lambda: with_text('"version": "1"', '"version": "2"'),
    "a checksum of another": lambda: with_text('"sha256": "', '"sha256": "0'),
    "an altered description": lambda: with_text("tanh", "relu"),
    "an altered number": lambda: whole()[:-1] + bytes([whole()[-1] ^ 1]),
    # arrays
    "a shape of 2**62": lambda: with_entry(lambda entry, _: entry.update(shape=[2**62, 4])),
    "a shape of 2**32 squared": lambda: with_entry(lambda entry, _: entry.update(shape=[2**32, 2**32])),
    "a shape of -1": lambda: with_entry(lambda entry, _: entry.update(shape=[-1])),
    "a shape of a million axes": lambda: with_entry(lambda entry, _: entry.update(shape=[1] * 1_000_000)),
    "a shape of words": lambda: with_entry(lambda entry, _: entry.update(shape=[10**9, "ab"])),
    "a shape of a word": lambda: with_entry(lambda entry, _: entry.update(shape="ab")),
    "a shape of another size": lambda: with_entry(lambda entry, _: entry.update(shape=[*entry["shape"], 2])),
    "offsets below 0": lambda: with_entry(lambda entry, _: entry.update(data_offsets=[-4, 4])),
    "offsets the wrong way round": lambda: with_entry(
        lambda entry, _: entry.update(data_offsets=entry["data_offsets"][::-1])
    ),
    "offsets of halves": lambda: with_entry(lambda entry, _: entry.update(data_offsets=[0.0, 4.0])),
    "offsets beyond": lambda: with_entry(lambda entry, _: entry.update(data_offsets=[2**40, 2**40 + 8])),
    "three offsets": lambda: with_entry(lambda entry, _: entry.update(data_offsets=[0, 4, 8])),
    "arrays that overlap": lambda: with_entry(
        lambda entry, header: [other.update(data_offsets=[0, 8], shape=[2]) for other in entries(header).values()]
    ),
    "a gap between arrays": lambda: put_together(
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            "__metadata__": parts(whole())[0]["__metadata__"],
        },
        bytes(8),
    ),
    "a dtype that is none": lambda: with_entry(lambda entry, _: entry.update(dtype="O")),
    "a dtype of eight bits": lambda: with_entry(lambda entry, _: entry.update(dtype="F8_E4M3")),
    "a dtype of half the size": lambda: with_entry(lambda entry, _: entry.update(dtype="F16")),
    "arrays of int64": lambda: array(WEIGHT, np.ones((2, 1), np.int64)),
    "arrays of int32": lambda: array(WEIGHT, np.ones((2, 1), np.int32)),
    "arrays of bools": lambda: array(WEIGHT, np.ones((2, 1), bool)),
    "arrays of float64": lambda: array(WEIGHT, np.ones((2, 1))),
    "NaN": lambda: array(WEIGHT, np.full((2, 1), np.nan, "f4")),
    "infinity": lambda: array(WEIGHT, np.full((2, 1), np.inf, "f4")),
    "another shape": lambda: array(WEIGHT, np.ones((1, 2), "f4")),
    "an array too many": lambda: array("extra", np.ones(1, "f4")),
    "an array too few": lambda: drop(WEIGHT),
    "a path for a name": lambda: array("../../executed", np.ones(1, "f4")),
    "an absolute path for a name": lambda: array("/tmp/executed", np.ones(1, "f4")),
    "a zero byte in a name": lambda: array("posterior\0", np.ones(1, "f4")),
    # descriptions, with a checksum that is right
    "a layer of another kind": lambda: network({"kind": "os.system", "command": "touch executed"}),
    "a layer of a dunder": lambda: network({"kind": "__class__"}),
    "a layer that is a number": lambda: network(7),
    "no network": lambda: network(None),
    "a layer with an option too many": lambda: network(linear(1, 1) | {"call": "touch executed"}),
    "a layer of 10**18 units": lambda: network(layers(linear(1, 10**18), linear(10**18, 1))),
    "a layer of 10**400 units": lambda: network(layers(linear(1, 10**400), linear(10**400, 1))),
    "a layer of -1 units": lambda: network(layers(linear(1, -1), linear(-1, 1))),
    "a layer of half a unit": lambda: network(layers(linear(1, 0.5), linear(0.5, 1))),
    "a bias of a list": lambda: network(linear(1, 2) | {"bias": [True]}),
    "a kernel of 10**6 axes": lambda: network(
        {
            "kind": "conv",
            "in_channels": 1,
            "out_channels": 1,
            "kernel_size": [1] * 10**6,
            "stride": [1] * 10**6,
            "padding": [[0, 0]] * 10**6,
            "dilation": [1] * 10**6,
        }
    ),
    "layers 100 deep": lambda: network(nested(100, linear(1, 1), layers)),
    "layers 10,000 deep": lambda: signed(
        '{"metadata":{},"model":{"network":' + '{"kind":"sequential","layers":[' * 10_000 + "]}" * 10_000 + "}}",
        {"w": np.ones(1, "f4")},
    ),
    "100,000 layers": lambda: network(layers(*[{"kind": "elementwise", "function": "relu"}] * 100_000)),
    "a prior of another class": lambda: prior({"noun": "Popen", "data": {}, "static": {}}),
    "a prior that is a likelihood": lambda: described(
        lambda header, arrays: header["model"].update(prior={"noun": "Poisson", "data": {}, "static": {}})
    ),
    "a likelihood that is a prior": lambda: described(
        lambda header, arrays: header["model"].update(
            likelihood={"noun": "EmpiricalNormal", "data": {"mean": {"tuple": []}}, "static": {"per": "leaf"}}
        )
    ),
    "a posterior that is a prior": lambda: described(
        lambda header, arrays: header["model"].update(posterior=header["model"]["prior"])
    ),
    "a prior of negative std": lambda: array("prior/std", np.asarray(-1.0, "f4")),
    "a prior that does not fit": lambda: array("prior/std", np.ones(7, "f4")),
    "a prior of pickled bytes": lambda: prior({"pickle": base64.b64encode(pickle.dumps(Creating())).decode()}),
    "a part of two kinds": lambda: prior({"tuple": [], "list": []}),
    "a part of none": lambda: prior({}),
    "a noun without its data": lambda: prior({"noun": "Normal", "static": {}}),
    "an array of another place": lambda: prior({"array": WEIGHT}),
    "an array that is not there": lambda: prior({"array": "prior"}),
    "a plain value that is none": lambda: described(
        lambda header, arrays: header["model"]["likelihood"]["static"].update(learn="yes")
    ),
    "a plain value of another type": lambda: described(
        lambda header, arrays: header["model"]["likelihood"]["static"].update(learn=1)
    ),
    "containers 10,000 deep": lambda: signed(
        '{"metadata":{},"model":{"network":{},"posterior":' + '{"tuple":[' * 10_000 + "]}" * 10_000 + "}}",
        {"w": np.ones(1, "f4")},
    ),
    "no posterior": lambda: described(lambda header, arrays: header["model"].pop("posterior")),
    "no model": lambda: described(lambda header, arrays: header.pop("model")),
    "linearised in words": lambda: described(lambda header, arrays: header.update(linearized="yes")),
    "linearised as no file says it": lambda: described(lambda header, arrays: header.update(linearized=False)),
    "metadata that is a number": lambda: described(lambda header, arrays: header.update(metadata=3)),
    "members of several numbers": lambda: restarted(
        lambda header, arrays: arrays.update({"posterior/members/log_std/0/bias": np.ones((3, 2), "f4")})
    ),
    "no members": lambda: restarted(
        lambda header, arrays: arrays.update(
            {name: array[:0] for name, array in arrays.items() if name.startswith("posterior")}
        )
    ),
    "members of one number": lambda: restarted(
        lambda header, arrays: arrays.update({"posterior/members/mean/0/bias": np.asarray(1.0, "f4")})
    ),
    # other files
    "a pickle": lambda: pickle.dumps(Creating()),
    "a pickle behind a length": lambda: put_together(pickle.dumps(Creating()), b""),
    "a pickle among the arrays": lambda: put_together(
        {"a": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}, pickle.dumps(Creating())
    ),
    "a zip file": lambda: zipped("../executed", b"x"),
    "a zip bomb": lambda: zipped("data", bytes(100_000_000)),
    "an npz of objects": npz,
    "an npy of objects": npy,
    "Python code": lambda: b"open('executed', 'w')\n",
    "another library's safetensors": lambda: safetensors.numpy.save({"w": np.ones(3, "f4")}),
    "a checkpoint": lambda: signed(json.dumps({"run": {}}), {"state/step": np.zeros((), np.int64)}, snapshot.KIND),
}


def no_files(folder):
    """Make what is no regular file, and one that is too large; return their paths."""
    folder = Path(folder)
    (folder / "a folder").mkdir()
    os.mkfifo(folder / "a pipe")
    (folder / "a loop").symlink_to(folder / "a loop")
    (folder / "two that loop").symlink_to(folder / "back")
    (folder / "back").symlink_to(folder / "two that loop")
    (folder / "to nowhere").symlink_to(folder / "nowhere")
    (folder / "to zeros").symlink_to("/dev/zero")
    (folder / "to chance").symlink_to("/dev/urandom")
    (folder / "to nothing").symlink_to("/dev/null")
    (folder / "to memory").symlink_to("/proc/self/mem")
    with open(folder / "a giant of zeros", "wb") as file:
        file.truncate(2**40)
    arrays = {"a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}
    with open(folder / "a giant that is whole", "wb") as file:
        content = put_together(arrays, b"")
        file.write(content)
        file.truncate(len(content) + 2**40)
    return sorted(folder.iterdir())


CHILD = """
import json, resource, sys, time, warnings
import bbb
READERS = {readers}
harmless, names = sys.argv[1], json.loads(sys.stdin.read())
bbb.load(harmless)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {memory}, used + {memory}))
for name in names:
    start = time.process_time()
    said = []
    for read in READERS:
        try:
            read(name)
            said.append("accepted")
        except (bbb.errors.ModelFileError, bbb.errors.InputError) as error:  # the second of a state dict alone
            named = isinstance(error, bbb.errors.ModelFileError) or read is READERS[-1]
            said.append(str(error)[:300] if named else f"RAW {{error!r:.300}}")
        except BaseException as error:
            said.append(f"RAW {{type(error).__name__}}: {{str(error)[:300]}}")
    print(json.dumps([name, said, time.process_time() - start]), flush=True)
"""

NETWORK = "bbb.nn.sequential(bbb.nn.linear(1, 2), bbb.nn.tanh, bbb.nn.linear(2, 1))"
STATE = f"lambda path: bbb.torchbnn.frozen_noise({NETWORK}, path)"
READERS = f"(bbb.load, bbb.tables.TabularModel.load, {STATE})"


def opened(paths, harmless, folder):
    """Open the files in a child process; return what each reader says of each, and the seconds."""
    code = "import bbb.tables\n" + CHILD.format(memory=MEMORY, readers=READERS)
    done = subprocess.run(
        [sys.executable, "-c", code, str(harmless)],
        input=json.dumps(list(map(str, paths))),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {Path(name).name: (said, seconds) for name, said, seconds in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What is said of every hostile file."""
    folder, here = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("here")
    bbb.save(here / "harmless", model())
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content())
    (folder / "others").mkdir()
    paths = [*(folder / name for name in CONTENTS), *no_files(folder / "others"), folder / "nowhere" / "file"]
    said = opened(paths, here / "harmless", here)
    assert [path.name for path in here.iterdir()] == ["harmless"], "something was executed, or written"
    return said


OTHERS = (
    *("a folder", "a pipe", "a loop", "two that loop", "back", "to nowhere", "to zeros", "to chance", "to nothing"),
    *("to memory", "a giant of zeros", "a giant that is whole", "file"),
)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux, whose processes can be limited")
@pytest.mark.parametrize("name", [*CONTENTS, *OTHERS])
def test_a_hostile_file_is_refused_by_name_without_running_waiting_or_growing(answers, name):
    said, seconds = answers[name]
    for answer in said:
        assert answer.startswith("Expected "), answer
    assert seconds < SECONDS


def test_there_are_enough_hostile_files():
    assert len(CONTENTS) + len(OTHERS) >= 100


def test_the_files_that_are_changed_here_are_read_before_they_are_changed(tmp_path):
    for name, content in {"whole": whole(), "same": described(lambda header, arrays: None)}.items():
        (tmp_path / name).write_bytes(content)
        assert bbb.load(tmp_path / name).apply == model().apply
    (tmp_path / "restarts").write_bytes(restarted(lambda header, arrays: None))
    assert bbb.load(tmp_path / "restarts").members == 2


# Files of released versions


STORED = json.loads((DATA / "models.json").read_text()) if (DATA / "models.json").exists() else {}


def numbers(predictive):
    """Return what a stored file has to predict again."""
    if isinstance(predictive.y, bbb.predictive.ClassMarginal):
        return {"f": predictive.f.mean, "probabilities": predictive.y.probabilities}
    return {"mean": predictive.y.mean, "std": predictive.y.std, "upper": predictive.y.quantile(0.9)}


@pytest.mark.parametrize("name", STORED)
def test_a_file_of_every_released_version_is_read_and_predicts_as_it_did(name):
    """They were written by `python -m tests.data`, when version 0.1.0 was."""
    stored = STORED[name]
    loaded = bbb.load(DATA / name)
    x = np.asarray(stored["x"], np.float32)
    made = numbers(bbb.predict(jax.random.key(7), loaded, x, draws=200))
    for part, value in stored["numbers"].items():
        np.testing.assert_allclose(made[part], np.asarray(value), rtol=1e-5, atol=1e-5)
    assert bbb.io.read_metadata(DATA / name) == stored["metadata"]


def test_there_are_files_of_the_released_version_of_every_saved_class():
    stored = "".join((DATA / name).read_bytes().decode("latin-1") for name in STORED)
    for name in SAVED:
        assert f'"{name}' in stored.replace("\\", ""), name
