"""What the package says of itself and of what it needs is true: bounds, pins, extras, and the workflow's actions."""

import importlib.metadata
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import bbb
from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = canonicalize_name(PROJECT["name"])
EXACT = {"torch", "torchbnn", "ruff", "mypy", "import-linter"}
"""What is asked for in one version: the reference, which is held against that one, and the tools of style."""


def requirements(*groups):
    """Return what groups of dependencies ask for besides ourselves, by name."""
    found = [Requirement(line) for group in groups for line in group]
    return {canonicalize_name(one.name): one for one in found if canonicalize_name(one.name) != OURS}


NEEDED = requirements(PROJECT["dependencies"], *EXTRAS.values())
TESTED = requirements(PROJECT["dependencies"], *(group for name, group in EXTRAS.items() if name != "docs"))
"""What is tested on its oldest version: the site is built by the newest alone."""


def oldest():
    lines = [line.partition("#")[0].strip() for line in (ROOT / ".ci" / "oldest.txt").read_text().splitlines()]
    return requirements(filter(None, lines))


def lower(requirement):
    """Return the one version that a bound such as >=1.2 or a pin such as ==1.2 names."""
    (bound,) = requirement.specifier
    assert bound.operator in (">=", "=="), f"{requirement} has no lower bound"
    return Version(bound.version)


@pytest.mark.parametrize("name", NEEDED)
def test_every_dependency_has_a_lower_bound_or_is_exact(name):
    (bound,) = NEEDED[name].specifier
    assert bound.operator == ("==" if name in EXACT else ">=")


def test_two_places_ask_for_the_same_version():
    groups = [requirements(group) for group in (PROJECT["dependencies"], *EXTRAS.values())]
    for group in groups:
        for name, one in group.items():
            assert one.specifier == NEEDED[name].specifier, name


def test_the_oldest_versions_that_are_tested_are_the_bounds():
    pins = oldest()
    for name, one in TESTED.items():
        if name not in EXACT:
            assert name in pins, f"{name} has no version in .ci/oldest.txt"
            assert lower(pins[name]) == lower(one), name
    assert all(str(one.specifier).startswith("==") for one in pins.values())


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_installed_is_within_the_bounds(name):
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert NEEDED[name].specifier.contains(version.partition("+")[0], prereleases=True)


def test_the_tests_bring_every_extra_they_need():
    assert {"flatbuffers", "scikit-learn", "xarray"} <= requirements(EXTRAS["test"]).keys()
    assert requirements(EXTRAS["export"]).keys() == {"flatbuffers"}


def test_the_readme_lists_every_extra():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| extra \| for \|.*?\n\n", text, re.M | re.S)
    assert table
    listed = {name for row in re.findall(r"^\| (`.*?) \|", table[0], re.M) for name in re.findall(r"`(\w+)`", row)}
    assert listed == EXTRAS.keys()


def test_every_link_into_the_readme_leads_to_a_section():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    titles = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= titles
    for path in re.findall(r"\]\((?!http|#)([^)]*)\)", text):
        assert (ROOT / path).exists(), path


def test_classifiers_and_readme_name_the_same_pythons():
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert named == ["3.11", "3.12", "3.13"]
    assert f"Python {named[0]} to {named[-1]}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_docstrings_cite_what_a_reader_has():
    for path in (ROOT / "bbb").rglob("*.py"):
        assert "DESIGN.md" not in path.read_text(encoding="utf-8"), path


def test_the_version_is_one():
    assert str(Version(bbb.__version__)) == bbb.__version__


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))


def test_there_is_a_workflow_that_runs_what_ci_runs():
    assert any("bash .ci/run" in path.read_text() for path in WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_may_only_read(path):
    text = path.read_text()
    used = re.findall(r"^\s*(?:- )?uses:\s*(.*)$", text, re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
    assert "pull_request_target" not in text
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


def test_the_commands_that_security_names_are_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for named in re.findall(r"\.ci/[\w.]+", text):
        assert (ROOT / named).is_file(), named
    assert {".ci/audit", ".ci/oldest.txt"} <= set(re.findall(r"\.ci/[\w.]+", text))
