"""The scripts of the gallery: short, whole, and described. What they say of their pictures: `test_gallery_claims`."""

import ast
import io
import re
import tokenize

import pytest

from tests import ROOT

FOLDER = ROOT / "docs" / "gallery"
SCRIPTS = sorted(FOLDER.glob("plot_*.py"))
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
LIBRARIES = {"bbb", "jax", "matplotlib", "numpy", "optax", "sklearn"}

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])


def parsed(script):
    return ast.parse(script.read_text(encoding="utf-8"))


def code_lines(source):
    """Return the numbers of the lines that hold code: no docstring of the module, comment or blank line."""
    docstring = ast.parse(source).body[0]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for t in tokens if t.type not in NO_CODE for line in range(t.start[0], t.end[0] + 1)}
    return lines - set(range(docstring.lineno, docstring.end_lineno + 1))


def test_lines_of_code_are_counted():
    assert code_lines('"""Title\n\nText."""\n\n# why\nx = (\n    1,  # one\n)\n\ny = """a\n\nb"""\n') == {
        6,
        7,
        8,
        10,
        11,
        12,
    }


def test_there_are_twelve_pictures_and_a_front_text():
    assert len(SCRIPTS) >= 12
    assert len((FOLDER / "README.rst").read_text(encoding="utf-8").split()) > 20


@each_script
def test_a_script_has_a_title_and_a_text_of_two_to_six_sentences(script):
    title, underline, blank, *text = ast.get_docstring(parsed(script), clean=True).split("\n")
    assert underline == "=" * len(title)
    assert not title.endswith(".")
    assert blank == ""
    assert 2 <= len(re.findall(r"[.?](?=\s|$)", "\n".join(text))) <= 6


@each_script
def test_a_script_is_ten_to_thirty_lines_of_code_as_narrow_as_a_page(script):
    source = script.read_text(encoding="utf-8")
    compile(source, script.name, "exec")
    assert 10 <= len(code_lines(source)) <= 30
    assert max(map(len, source.splitlines())) <= 88


@each_script
def test_a_script_is_whole(script):
    tree = parsed(script)
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in imported} <= LIBRARIES
    assert ast.unparse(tree.body[-1]) == "plt.show()"


@each_script
def test_a_picture_has_a_title_which_is_its_alt_text(script):
    """Sphinx-Gallery joins the figure's title and those of its axes."""
    assert re.search(r"\btitle=|\.set_title\(|\.suptitle\(", script.read_text(encoding="utf-8"))


@each_script
def test_training_shows_no_bar(script):
    source = script.read_text(encoding="utf-8")
    assert '"progress": False' in source or "progress=False" in source
