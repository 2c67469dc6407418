"""What every test runs under: strict promotion, warnings as errors, and JAX that is told how to count."""

import collections
import gc
import os
import pathlib
import signal
import sys

import jax
import numpy as np
import pytest

from tests import UCI, kept_programs, longest, xla_flags

# `XLA_FLAGS= python -m pytest` runs the suite as users do. The first process tries the flags; its workers inherit them.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = " ".join(xla_flags.known(xla_flags.FASTER))  # read when a device is first touched

# The workers share the cores: threads of LAPACK in each would wait for one another, spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell that starts the suite in the background has it ignore Ctrl+C: the tests of that would then wait for long.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


LONGEST = (
    *("devices/test_hosts.py", "devices/test_devices.py", "devices/test_streams.py"),
    *("benchmarks/test_benchmarks.py", "benchmarks/test_benchmarks_tabular.py", "serving/test_export.py"),
    *("sklearn/test_encoding.py", "tables/test_frames.py", "io/test_programs.py", "cli/test_demo.py"),
)
"""Files of few tests that take long."""


def pytest_configure(config):
    """Keep compiled programs for the workers, the processes that tests start, and the next run."""
    kept_programs.keep(config)
    longest.configure(config)
    config.option.loadscopereorder = False  # the order of files is ours


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by `-m`
def pytest_collection_modifyitems(config, items):
    """Begin with the files that take long, then those of many tests: a long one at the end leaves other cores idle."""
    longest.mark(items)
    longest.leave_out(config, items)
    tests_of = collections.Counter(item.path for item in items)
    place = {pathlib.Path(__file__).parent / name: i - len(LONGEST) for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(item.path, 0), -tests_of[item.path], item.path))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Run a test in float32, then in float64 under x64."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


MAX_MAPPINGS = 30_000
"""Memory mappings of a worker from which it lets go of compiled programs: Linux gives a process 65,530, of which each
program takes some, and XLA crashes at the limit."""


@pytest.fixture(scope="module", autouse=True)
def _few_mappings():
    """Let go of compiled programs after a file that left very many."""
    yield
    mappings = pathlib.Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MAX_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _no_open_figures():
    """Close the figures that a test left open: Matplotlib keeps them all, and warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Return a folder of files that bad inputs name, which no refusal may change."""
    from tests.bad_input import fill

    return fill(tmp_path_factory.mktemp("bad_input"))


@pytest.fixture
def uci_csv(tmp_path):
    """Return a function that makes one split of a UCI set into a training and a test CSV file."""

    def make(name, split):
        folder = UCI / name
        if not folder.is_dir():
            pytest.skip(f"needs the UCI set in {folder}, which only its own workplace has")
        features = np.loadtxt(folder / "index_features.txt", dtype=int, ndmin=1)
        columns = [*features, int(np.loadtxt(folder / "index_target.txt"))]
        data = np.loadtxt(folder / "data.txt")[:, columns]
        header = ",".join([*(f"feature_{i}" for i in features), "target"])
        paths = []
        for part in ("train", "test"):
            rows = np.loadtxt(folder / f"index_{part}_{split}.txt", dtype=int)
            paths.append(tmp_path / f"{name}_{part}.csv")
            np.savetxt(paths[-1], data[rows], fmt="%.10g", delimiter=",", header=header, comments="")
        return paths

    return make
