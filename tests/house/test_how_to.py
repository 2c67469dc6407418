"""Each how-to page runs as it stands, in a fresh interpreter, prints what it says, and writes the picture it shows."""

import os
import re
import subprocess
import sys

import pytest

from tests import ROOT

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
FENCE = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)
PICTURE = re.compile(r"!\[([^]]+)\]\(([\w-]+\.png)\)")


def run(page, folder):
    """Run all Python blocks of a page as one program, in a folder, and return what it printed."""
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    (folder / "page.py").write_text("\n".join(code for kind, code in blocks if kind == "python"), encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "XLA_FLAGS": "",
    }  # compiled as users have it
    command = [sys.executable, "page.py"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_page_prints_what_it_says_and_writes_its_pictures(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    printed = run(page, tmp_path)
    promised = "".join(block for kind, block in FENCE.findall(text) if kind == "text")
    assert printed.split() == promised.split()
    pictures = PICTURE.findall(text)
    assert pictures
    for alt, name in pictures:
        assert len(alt) > 20  # of a reader who cannot see it
        assert (page.parent / name).exists()
        assert (tmp_path / name).exists()


def test_every_picture_is_shown():
    shown = {name for page in PAGES for _, name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    assert {path.name for path in (ROOT / "docs" / "how-to").glob("*.png")} == shown
