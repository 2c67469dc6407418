"""The reference has every public name once, and every command; its packages are those that the library shows."""

import argparse
import contextlib
import inspect
import re

import bbb
import bbb.tables
from bbb.cli import main
from tests import ROOT
from tests.house.public import public

PAGES = ROOT / "docs" / "reference"
DESCRIBED = re.compile(r"^\.\. (?:auto|py:)(?:function|class|exception|data):: (bbb(?:\.\w+)+)$", re.MULTILINE)
PACKAGE = re.compile(r"^\.\. py:module:: (bbb(?:\.\w+)*)$", re.MULTILINE)
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.rst"))}


def packages():
    """Return the public packages by the names under which the reference has them."""
    shown = {f"bbb.{name}": getattr(bbb, name) for name in bbb.__all__ if inspect.ismodule(getattr(bbb, name))}
    adapters, streams = bbb.networks.adapters, bbb.tables.streams
    named = {"bbb.networks.adapters": adapters, "bbb.tables": bbb.tables, "bbb.tables.streams": streams}
    return {"bbb": bbb, **shown, **named, "bbb.sklearn": bbb.sklearn, "bbb.report": bbb.report}


def names_of(package):
    """Return the public names of a package: of `__all__`, or all that it defines itself."""
    own = [key for key, value in vars(package).items() if getattr(value, "__module__", None) == package.__name__]
    names = getattr(package, "__all__", own)
    return [name for name in names if not name.startswith("_") and not inspect.ismodule(getattr(package, name))]


def described():
    """Return every name that a page describes, as often as it does."""
    return [name for text in TEXTS.values() for name in DESCRIBED.findall(text)]


def reached(path):
    """Return the object of a path such as `bbb.nn.linear`."""
    value = bbb
    for name in path.split(".")[1:]:
        value = getattr(value, name)
    return value


def test_every_public_name_is_described_once():
    names = described()
    assert len(names) == len(set(names))
    found = {id(reached(name)) for name in names}
    missing = [
        f"{path}.{name}"
        for path, package in packages().items()
        for name in names_of(package)
        if id(getattr(package, name)) not in found
    ]
    assert not missing
    assert {id(reached(f"bbb.{name}")) for name in public()} <= found


def test_a_name_of_the_front_is_described_there():
    front = [f"bbb.{name}" for name in names_of(bbb)]
    assert sorted(DESCRIBED.findall(TEXTS["bbb"])) == sorted(front)


def test_each_public_package_has_its_page_which_stands_in_the_index():
    modules = {stem: PACKAGE.findall(text) for stem, text in TEXTS.items()}
    assert all(len(found) == 1 for found in modules.values())
    assert {found[0] for found in modules.values()} == set(packages())
    index = (PAGES / "index.md").read_text(encoding="utf-8").splitlines()
    assert set(TEXTS) | {"commands"} <= set(index)


def test_each_command_has_its_help(monkeypatch):
    seen = []
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda parser, argv: seen.append(parser) or stop())
    with contextlib.suppress(StopIteration):
        main.main([])
    (chosen,) = (action for action in seen[0]._actions if isinstance(action, argparse._SubParsersAction))
    page = (PAGES / "commands.md").read_text(encoding="utf-8")
    shown = re.findall(r'^show_help\("(\w+)"\)$', page, re.MULTILINE)
    assert sorted(shown) == sorted(chosen.choices)
    assert [f"## `bbb {name}`" for name in shown] == re.findall(r"^## `bbb \w+`$", page, re.MULTILINE)


def stop():
    """End a command before it does anything."""
    raise StopIteration
