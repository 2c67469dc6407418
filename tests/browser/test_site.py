"""The built site in a real browser: nothing is broken, it fits a telephone, and its search finds what it should.

python -m sphinx -j auto -W --keep-going docs docs/_build/html && python -m pytest tests/browser
"""

import functools
import re
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from urllib.parse import unquote, urldefrag

import pytest

from tests import ROOT

SITE = ROOT / "docs" / "_build" / "html"
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)
WITHOUT_TEXT = ("genindex", "search", "py-modindex")
LOOKED_AT = (
    "index",
    "tutorial/04-kl",
    "tutorial/09-between-the-data",
    "how-to/existing-network",
    "explanation/which-posterior",
    "built_gallery/index",
    "reference/index",
)
"""Pages that are opened at every width and scheme; pictures of them are kept in $BBB_SCREENSHOTS."""

if not PAGES:
    pytest.skip("the site is not built: python -m sphinx docs docs/_build/html", allow_module_level=True)


class Page(HTMLParser):
    """The addresses that a page links to or loads, its anchors, and its pictures without an alternative text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.wordless, self.pictures = [], set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "img":
            self.pictures.append(given.get("src"))
            is_beside_its_title = "_thumb." in (given.get("src") or "")
            if not is_beside_its_title and not (given.get("alt") or "").strip():
                self.wordless.append(given.get("src"))


@functools.cache
def read(path):
    return Page(path)


def name_of(path):
    return path.relative_to(SITE).with_suffix("").as_posix()


def broken(path):
    """Yield the links of a page that lead to no file, or to no place in it."""
    for link in read(path).links:
        target, anchor = urldefrag(link)
        target = target.partition("?")[0]
        if re.match(r"[a-z][a-z+.-]*:", target):
            if not target.startswith(("https:", "data:", "mailto:")):
                yield link
            continue
        other = path if not target else path.parent / unquote(target)
        if not other.is_file() or (anchor and other.suffix == ".html" and unquote(anchor) not in read(other).anchors):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_the_site_leads_somewhere(page):
    assert list(broken(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_picture_says_what_it_shows(page):
    assert read(page).wordless == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_picture_is_shown_twice_in_a_row(page):
    """As a notebook does where a cell both ends in a figure and leaves it open."""
    pictures = read(page).pictures
    assert [first for first, second in pairwise(pictures) if first == second] == []


def test_a_broken_link_and_a_wordless_picture_are_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<h1 id="a">x</h1><a href="#a">y</a><a href="no.html">z</a><a href="#b">w</a><img src="page.html">')
    assert list(broken(page)) == ["no.html", "#b"]
    assert read(page).wordless == ["page.html"]


@pytest.fixture(scope="module")
def served():
    """Serve the site on this machine, as its search needs; return its address."""
    handler = functools.partial(Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize("name", [name_of(page) for page in PAGES if name_of(page) not in WITHOUT_TEXT])
def test_a_page_fits_a_telephone_and_nothing_in_it_is_broken(browser, name):
    browser.open(SITE / f"{name}.html", width=380)
    assert browser.errors() == []
    assert browser.broken_images() == []
    assert browser.overflow() <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_pages_that_are_looked_at(browser, name, scheme):
    for width in (380, 1280):
        browser.open(SITE / f"{name}.html", width=width, scheme=scheme)
        assert browser.errors() == []
        assert browser.overflow() <= 0
        browser.keep(f"{name.replace('/', '-')}-{width}-{scheme}")


def test_the_search_finds_coverage(browser, served):
    browser.open(f"{served}/search.html?q=coverage")
    browser.wait("document.querySelectorAll('ul.search li').length > 3")
    found = browser.run("return [...document.querySelectorAll('ul.search li > a')].map((a) => a.textContent)")
    assert any("coverage" in title.lower() for title in found)
    browser.keep("search-coverage")
