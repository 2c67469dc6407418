"""The page: a template filled with sections, and plotly.js, compressed, within it."""

import base64
import functools
import gzip
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bbb.errors import InputError
from bbb.report.blocks import Figure, Section, cut
from bbb.report.evidence import Evidence
from bbb.report.figures import plain
from bbb.report.parts.groups import MOST_GROUPS
from bbb.storage.json_text import finite
from bbb.tables.groups import largest

FOLDER = Path(__file__).parent / "template"
"""The template, its style and its script."""

LIGHT = {
    "--paper": "#ffffff",
    "--ink": "#1b1e26",
    "--muted": "#565c6b",
    "--rule": "#dcdfe6",
    "--soft": "#f5f6f9",
    "--accent": "#24408e",
    "--mean": "#24408e",
    "--band": "rgba(124,143,208,0.28)",
    "--inner": "rgba(76,99,186,0.38)",
    "--stroke": "#b7c2e8",
    "--bar": "#7f93d6",
    "--data": "#c2570c",
    "--wrong": "#9b1c3f",
    "--chance": "#e4e6eb",
}
DARK = {
    "--paper": "#15171c",
    "--ink": "#e6e8ee",
    "--muted": "#a5abba",
    "--rule": "#32363f",
    "--soft": "#1d2027",
    "--accent": "#a9bcff",
    "--mean": "#a9bcff",
    "--band": "rgba(140,161,235,0.22)",
    "--inner": "rgba(140,161,235,0.38)",
    "--stroke": "#46527f",
    "--bar": "#7084cc",
    "--data": "#f2a65e",
    "--wrong": "#ff8fab",
    "--chance": "#2c3038",
}
"""The colours on a light page, also of print, and on a dark one, by the names that style and figures use."""

NEEDED = ("jinja2", "plotly.offline")
"""What the extra `report` brings."""


def check_installed() -> None:
    """Raise if a package that a report needs is missing.

    Raises:
        InputError: naming it.
    """
    for name in NEEDED:
        extra(name)


def extra(name: str) -> Any:
    """Return a module of the extra `report`.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        do = f"Run pip install {package}; or, in a clone of bbb, pip install '.[report]'."
        raise InputError(f"Expected {package} to be installed to write a report, got: {error}. {do}") from error


def rendered(evidence: Evidence, sections: Sequence[Section], date: str) -> str:
    """Return the page as HTML; whatever comes from the rows and the model is escaped."""
    figures = {block.name: block.spec for part in sections for block in part.blocks if isinstance(block, Figure)}
    drawn = {
        "figures": figures,
        "rows": ["<br>".join(map(plain, evidence.described(int(row)))) for row in evidence.drawn()],
        "light": LIGHT,
        "dark": DARK,
    }
    scores = _shown(evidence.scores) | {"diagnosis": [finding._asdict() for finding in evidence.diagnosis]}
    return (
        _environment()
        .get_template("report.html")
        .render(
            target=cut(evidence.model.target, 80),
            name=evidence.name,
            date=date,
            sections=sections,
            drawn=_as_json(drawn),
            scores=_as_json(scores),
            light=LIGHT,
            dark=DARK,
            plotly=compressed_plotly(),
        )
    )


def _shown(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores with the groups alone that the page shows, and the number of the others, if there are some."""
    groups = scores.get("groups", {})
    if len(groups) <= MOST_GROUPS:
        return scores
    names = list(groups)
    kept = largest(np.array([group["rows"] for group in groups.values()]), MOST_GROUPS)
    return scores | {"groups": {names[i]: groups[names[i]] for i in kept}, "other_groups": len(groups) - len(kept)}


def _environment() -> Any:
    """Return jinja2's environment of the folder, in which all is escaped that no one vouches for."""
    jinja2 = extra("jinja2")
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), **options)
    environment.globals["file"] = lambda name: extra("markupsafe").Markup((FOLDER / name).read_text(encoding="utf-8"))
    return environment


def _as_json(value: Any) -> Any:
    """Return JSON that may stand within a script element: no character of it can end that, or begin another."""
    text = json.dumps(finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return extra("markupsafe").Markup(text)


@functools.cache
def compressed_plotly() -> str:
    """Return plotly.js, by gzip and base64: a third of its size, which every browser of 2023 and later unpacks."""
    script = extra("plotly.offline").get_plotlyjs()
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()
