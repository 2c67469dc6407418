"""Formulas as MathML, which browsers show by themselves: the site needs no script for them, and no network."""

import re
from typing import Any, Never

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

NAMED = re.compile(r"(<mi>(?:exp|ln|log|max|min)</mi>)(?!<mo[^>]*>(?:\(|\[|&#x0*(?:28|5B);))", re.IGNORECASE)
THIN_SPACE = '<mspace width="0.17em"/>'
"""What TeX sets between the name of a function and an argument without brackets, and the converter does not."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer "mathml" to Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(source: str, display: str = "inline") -> str:
    """Return a formula as MathML.

    Raises:
        ValueError: if something in it was taken for text, as a command or an environment that the converter lacks.
    """
    made = NAMED.sub(r"\1" + THIN_SPACE, convert(source, display=display))
    left = re.search(r"<m(?:i|o|text)[^>]*>(?:(?:&amp;|&)[A-Za-z]*|[^<]*\\[^<]*)</m", made)
    if left:
        raise ValueError(f"Expected LaTeX that latex2mathml knows, got {left[0]!r} left in {source!r}.")
    return made


def inline(translator: Any, node: nodes.math) -> Never:
    """Write a formula within a line."""
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def displayed(translator: Any, node: nodes.math_block) -> Never:
    """Write a formula of its own line."""
    translator.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode
