"""What the suite does to take less time changes no test."""

import json
import os
from types import SimpleNamespace

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import ROOT, conftest, kept_programs, longest

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


def test_files_that_take_long_come_first_then_those_of_many_tests_and_none_is_lost(monkeypatch):
    monkeypatch.setenv(longest.LEFT_OUT, "0")
    assert all((ROOT / "tests" / name).is_file() for name in conftest.LONGEST)
    files = ["tuning/test_tune.py", "core/test_tree.py", "core/test_tree.py", conftest.LONGEST[1], conftest.LONGEST[0]]
    items = [Item(f"tests/{name}::test_{at}") for at, name in enumerate(files)]
    conftest.pytest_collection_modifyitems(None, items)
    assert [item.nodeid[-1] for item in items] == ["4", "3", "1", "2", "0"]


class Item:
    """What pytest collects, as far as it is asked here."""

    def __init__(self, nodeid):
        self.nodeid, self.path, self.marks = nodeid, ROOT / nodeid.split("::")[0], []
        self.add_marker = self.marks.append

    def get_closest_marker(self, name):
        return name if name in self.marks else None


@pytest.mark.parametrize(
    ("source", "expression", "keyword", "left_out"),
    [
        ("TESTPATHS", "not slow", "", True),
        ("ARGS", "not slow", "", False),
        ("TESTPATHS", "long", "", False),
        ("TESTPATHS", "not slow", "a", False),
    ],
)
def test_long_tests_are_left_out_of_the_whole_suite_alone(source, expression, keyword, left_out, monkeypatch, tmp_path):
    monkeypatch.setenv(longest.LEFT_OUT, "")  # so that it is put back
    monkeypatch.setattr(longest, "FILE", tmp_path / "longest.json")
    longest.FILE.write_text(json.dumps({"a/test_b.py": ["test_c[1]"]}))
    option = SimpleNamespace(markexpr=expression, keyword=keyword)
    gone = []

    def deselected(items):
        gone.extend(items)

    hook = SimpleNamespace(pytest_deselected=deselected)
    longest.configure(SimpleNamespace(args_source=pytest.Config.ArgsSource[source], option=option))
    items = [Item(f"tests/a/test_b.py::test_c[{i}]") for i in range(3)]
    longest.mark(items)
    longest.leave_out(SimpleNamespace(workerinput={}, hook=hook), items)
    assert [item.nodeid[-2] for item in gone] == ["1"] * left_out
    assert [item.nodeid[-2] for item in items] == (["0", "2"] if left_out else ["0", "1", "2"])


def test_the_list_of_long_tests_is_of_tests_that_there_are():
    for path, names in json.loads(longest.FILE.read_text()).items():
        text = (ROOT / "tests" / path).read_text()
        assert not path.startswith(longest.ALWAYS)
        for name in names:
            assert f"def {name.split('[')[0].split('::')[-1]}(" in text, (path, name)


def test_the_list_is_made_from_a_report(tmp_path):
    cases = [
        ("tests.a.test_b", "test_c[1.5]", 1.3),
        ("tests.a.test_b", "test_d", 1.1),
        ("tests.a.test_b.TestE", "test_f", 9.0),
        ("tests.parity.test_g", "test_h", 9.0),
    ]
    lines = (f'<testcase classname="{of}" name="{name}" time="{time}"/>' for of, name, time in cases)
    (report := tmp_path / "report.xml").write_text(f"<testsuites>{''.join(lines)}</testsuites>")
    assert longest.longest(report) == {"a/test_b.py": ["TestE::test_f", "test_c[1.5]"]}
