"""What the suite does to take less time changes no test."""

import os
from types import SimpleNamespace

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import ROOT, conftest, kept_programs

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Return pytest's settings with a cache in `tmp_path`, as if JAX were told of no folder; then put JAX's back."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    for name in NAMES:
        monkeypatch.setenv(name.upper(), "")  # so that it is put back
    jax.config.update(NAMES[0], None)
    plugins = SimpleNamespace(has_plugin=lambda name: True)
    cache = SimpleNamespace(mkdir=lambda name: tmp_path)
    yield SimpleNamespace(pluginmanager=plugins, cache=cache, addinivalue_line=lambda *line: None)
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_in_a_folder_of_this_processor_for_children_too(config, tmp_path):
    kept_programs.keep(config)
    folder = jax.config.jax_compilation_cache_dir
    assert os.path.dirname(folder) == str(tmp_path)
    assert [os.environ[name.upper()] for name in NAMES] == [folder, str(kept_programs.MIN_SECONDS)]


def test_a_folder_that_jax_was_told_of_is_left_alone_and_so_is_a_suite_without_a_cache(config):
    jax.config.update(NAMES[0], "told")
    kept_programs.keep(config)
    assert jax.config.jax_compilation_cache_dir == "told"
    jax.config.update(NAMES[0], None)
    config.pluginmanager.has_plugin = lambda name: False
    kept_programs.keep(config)
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(("most", "left"), [(3, False), (4, True)])
def test_a_folder_that_has_grown_too_large_starts_afresh(most, left, config, monkeypatch):
    kept_programs.keep(config)
    (folder := kept_programs.pathlib.Path(jax.config.jax_compilation_cache_dir)).mkdir()
    (folder / "program").write_text("1234")
    jax.config.update(NAMES[0], None)
    monkeypatch.setattr(kept_programs, "MAX_BYTES", most)
    kept_programs.keep(config)
    assert (folder / "program").exists() == left


def test_files_that_take_long_come_first_then_those_of_many_tests_and_none_is_lost():
    assert all((ROOT / "tests" / name).is_file() for name in conftest.LONGEST)
    files = ["tuning/test_tune.py", "core/test_tree.py", "core/test_tree.py", conftest.LONGEST[1], conftest.LONGEST[0]]
    items = [SimpleNamespace(path=ROOT / "tests" / name, at=at) for at, name in enumerate(files)]
    conftest.pytest_collection_modifyitems(items)
    assert [item.at for item in items] == [4, 3, 1, 2, 0]
