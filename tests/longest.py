"""Tests that take long stand in `longest.json`, and are left out of a run of the whole suite, which is then short.

They are marked `long`: `python -m pytest` leaves them out, `python -m pytest -m long` runs them alone, and any path or
expression, such as `python -m pytest tests`, runs them with the others. What the library promises first is always run.
The list is made from how long each test took, with the fixtures that it was the first to ask for, and which others pay
for once it is left out: from a report of all tests, and from some of those that are left.

    python -m pytest tests --cache-clear --junitxml=all.xml && python -m tests.longest all.xml
    python -m pytest --cache-clear --junitxml=rest.xml && python -m tests.longest all.xml rest.xml
"""

import json
import os
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("longest.json")

SECONDS = 1.2
"""From here a test is long, without kept programs, on one core of an AMD EPYC."""


ALWAYS = ("parity/", "house/test_readme.py")
"""Paths that begin so are always run."""


LEFT_OUT = "BBB_TESTS_LEAVE_OUT_LONG"
"""The environment variable by which the first process tells the workers."""


def configure(config: pytest.Config) -> None:
    """Note for this process, and the workers that it starts, whether the run is of the whole suite, as it stands."""
    if hasattr(config, "workerinput"):
        return
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_plain = config.option.markexpr == "not slow" and not config.option.keyword
    os.environ[LEFT_OUT] = str(int(is_whole and is_plain))


def mark(items: list[pytest.Item]) -> None:
    """Mark the tests of the list."""
    known = {f"{path}::{name}" for path, names in json.loads(FILE.read_text()).items() for name in names}
    for item in items:
        if item.nodeid.removeprefix("tests/") in known:
            item.add_marker("long")


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the marked tests out of a run of the whole suite."""
    if os.environ.get(LEFT_OUT) != "1":
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
    items[:] = [item for item in items if not item.get_closest_marker("long")]


def longest(*reports: str | Path) -> dict[str, list[str]]:
    """Return the names of the tests that are long in any of the JUnit reports, by their file."""
    found = defaultdict(set)
    for case in (case for report in reports for case in ET.parse(report).getroot().iter("testcase")):
        path, name = _place(case.get("classname", ""), case.get("name", ""))
        if float(case.get("time", 0)) >= SECONDS and not path.startswith(ALWAYS):
            found[path].add(name)
    return {path: sorted(names) for path, names in sorted(found.items())}


def _place(classname: str, name: str) -> tuple[str, str]:
    """Return the path and the name of a test, which may be of a class, as pytest calls it."""
    parts = classname.split(".")
    end = next((i for i, part in enumerate(parts, 1) if part.startswith("test_")), len(parts))
    return "/".join(parts[1:end]) + ".py", "::".join([*parts[end:], name])


if __name__ == "__main__":
    FILE.write_text(json.dumps(longest(*sys.argv[1:]), indent=1, ensure_ascii=False) + "\n")
