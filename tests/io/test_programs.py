"""Compiled programs in a folder: the next process reads them, gives the same numbers, and says what is wrong."""

import json
import os
import subprocess
import sys
import textwrap

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import bbb
from bbb.cli import main as main_module
from bbb.errors import InputError, WriteError
from bbb.io import programs
from tests import ROOT

FIT = """
    import json, sys
    import jax, numpy as np
    from jax import monitoring
    import bbb

    events = []
    monitoring.register_event_listener(lambda name, **more: events.append(name))
    home = bbb.io.programs.cache_by_default() if sys.argv[1] == "default" else bbb.io.cache_programs(sys.argv[1])
    x = np.linspace(-1, 1, 20)[:, None]
    network = bbb.nn.sequential(bbb.nn.linear(1, 5), bbb.nn.tanh, bbb.nn.linear(5, 1))
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    model = bbb.bayesianize(network.apply, network.init(jax.random.key(0)), **beliefs)
    model, _ = bbb.fit(jax.random.key(1), model, x, x, steps=20, progress=False)
    means = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(model.posterior)]
    hits = events.count("/jax/compilation_cache/cache_hits")
    print(json.dumps([str(home), hits, means]))
"""


def environment(**changes):
    known = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return known | {"PYTHONPATH": str(ROOT)} | changes


def ran(folder, **changes):
    """Return the folder of a processor, how many programs were read from it, and the means that were learned."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(FIT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(**changes))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_the_next_process_reads_them_and_gives_the_same_numbers(tmp_path):
    (home, hits, means), (again, read, others) = (ran(tmp_path / "programs") for _ in range(2))
    assert home == again
    assert home.startswith(str(tmp_path / "programs"))
    assert (hits, read > 0) == (0, True)
    assert means == others


def test_a_command_compiles_what_is_damaged_and_says_nothing(tmp_path):
    _, hits, means = ran("default", XDG_CACHE_HOME=str(tmp_path))
    kept = [path for path in tmp_path.rglob("*-cache") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"damaged")
    _, _, others = ran("default", XDG_CACHE_HOME=str(tmp_path))
    assert hits == 0
    assert means == others


@pytest.fixture
def restored():
    """Put JAX's settings of the cache back after a test."""
    names = (
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_it_sets_what_jax_has(tmp_path, restored):
    home = bbb.io.cache_programs(tmp_path / "a", max_bytes=10**6)
    assert home.parent == tmp_path / "a"
    assert jax.config.jax_compilation_cache_dir == str(home)
    assert jax.config.jax_compilation_cache_max_size == 10**6
    assert (home / "about.txt").read_text().strip()
    assert bbb.io.cache_programs(tmp_path / "a") == home


def test_by_default_it_is_the_users_cache_folder(tmp_path, restored, monkeypatch):
    monkeypatch.setattr(programs.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    assert bbb.io.cache_programs().parent == tmp_path / "bbb" / "programs"


def test_the_command_keeps_to_the_folder_that_jax_was_told_of(tmp_path, restored, monkeypatch):
    monkeypatch.setattr(programs.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    jax.config.update("jax_compilation_cache_dir", "told")
    programs.cache_by_default()
    assert jax.config.jax_compilation_cache_dir == "told"
    jax.config.update("jax_compilation_cache_dir", None)
    programs.cache_by_default()
    assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path))


def test_a_command_goes_on_where_it_cannot_write(tmp_path, restored, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(programs.platformdirs, "user_cache_path", lambda name: tmp_path / "file")
    jax.config.update("jax_compilation_cache_dir", None)
    programs.cache_by_default()
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(("words", "asked"), [([], True), (["--no-cache"], False)])
def test_the_command_asks_for_it_unless_told_not_to(monkeypatch, capsys, words, asked):
    calls = []
    monkeypatch.setattr(main_module, "cache_by_default", lambda: calls.append(True))
    monkeypatch.setattr(sys, "argv", ["bbb", "predict", "none", "none.csv", *words])
    with pytest.raises(SystemExit):  # no table of that name
        main_module.run()
    assert bool(calls) == asked
    assert main_module.main(["predict", "none", "none.csv", *words]) == 1  # from Python, nothing is set
    assert len(calls) == asked


def test_a_folder_that_cannot_be_is_named(tmp_path, restored):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        WriteError, match=r"Expected a folder for compiled programs, got .*file.*Choose another folder\."
    ):
        bbb.io.cache_programs(tmp_path / "file")
    with pytest.raises(InputError, match="Expected a path, got int 3"):
        bbb.io.cache_programs(3)
    with pytest.raises(InputError, match="max_bytes to be a whole number of at least 1, got 0"):
        bbb.io.cache_programs(tmp_path / "b", max_bytes=0)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
