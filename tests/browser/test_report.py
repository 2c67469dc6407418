"""A report in a browser: drawn without an error or a request, readable in both schemes, on a phone and on paper."""

import datetime
import re

import pytest

import bbb
from tests.report.models import model, table

pytest.importorskip("jinja2", reason="needs jinja2, of the extra report")
pytest.importorskip("plotly", reason="needs plotly, of the extra report")

KINDS = ("measurement", "count", "classes", "one column")
DRAWN = "document.documentElement.dataset.drawn === 'yes'"


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Return the paths of reports, one for each kind of target."""
    folder = tmp_path_factory.mktemp("reports")
    how = {"group": "town", "draws": 20, "date": datetime.date(2026, 1, 31)}
    return {kind: bbb.report.write(folder / f"{kind}.html", model(kind), table(kind=kind), **how) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_drawn_without_an_error_or_a_request(kind, reports, browser):
    browser.open(reports[kind], ready=DRAWN)
    assert browser.errors() == []
    assert browser.loaded() == []
    assert browser.broken_images() == []
    plots = browser.run(
        "return [...document.querySelectorAll('.plot')].map((p) => p.querySelectorAll('.trace').length)"
    )
    assert len(plots) >= 4
    assert all(plots)
    assert "has not run" not in browser.run("return document.body.innerText")
    browser.keep(f"report-{kind}-light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_shows_it_whole(kind, scheme, reports, browser):
    browser.open(reports[kind], width=380, scheme=scheme, ready=DRAWN)
    assert browser.overflow() == 0
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert browser.overflow() == 0
    widths = browser.run(
        "return [...document.querySelectorAll('.main-svg')].map((p) => p.getBoundingClientRect().right)"
    )
    assert max(widths) <= 380
    browser.keep(f"report-{kind}-380-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["measurement", "classes"])
def test_every_text_can_be_told_from_what_is_behind_it(kind, scheme, reports, browser):
    browser.open(reports[kind], scheme=scheme, ready=DRAWN)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    contrasts = browser.contrasts()
    assert len(contrasts) > 150
    assert any(text == "rows" for _, text in contrasts)
    assert contrasts[0][0] >= 4.5, contrasts[:5]
    browser.keep(f"report-{kind}-{scheme}")


INK = "getComputedStyle(document.querySelector('#figure-coverage .xtitle')).fill"
"""The colour of a text within a figure."""


def colors(browser):
    return browser.run(f"return [{INK}, getComputedStyle(document.body).backgroundColor]")


def test_figures_follow_the_scheme_while_it_is_open_and_paper_is_light(reports, browser):
    browser.open(reports["measurement"], ready=DRAWN)
    light = colors(browser)
    browser.emulate(scheme="dark")
    browser.wait(f"{INK} !== '{light[0]}'")
    dark = colors(browser)
    assert dark[1] != light[1]
    browser.emulate(scheme="dark", media="print")
    browser.wait(f"{INK} === '{light[0]}'")
    assert colors(browser) == light
    hidden = browser.run("return ['nav', '.skip', 'summary'].map((s) => document.querySelector(s).checkVisibility())")
    assert hidden == [False, False, False]


def test_it_prints(reports, browser):
    browser.open(reports["measurement"], scheme="dark", ready=DRAWN)
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    browser.keep("report-print", pdf, "pdf")
    assert browser.errors() == []


@pytest.mark.parametrize("kind", KINDS)
def test_hover_tells_the_row(kind, reports, browser):
    browser.open(reports[kind], ready=DRAWN)
    browser.run("document.querySelector('#figure-predictions').scrollIntoView({block: 'center', behavior: 'instant'})")
    place = browser.run(
        "const b = [...document.querySelectorAll('#figure-predictions .points path')].at(-1).getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]"
    )
    browser.hover(*place)
    browser.wait("document.querySelector('#figure-predictions .hoverlayer text')")
    told = browser.run("return document.querySelector('#figure-predictions .hoverlayer').textContent")
    found = re.match(r"row (\d+)observed (\S+?)predicted ", told)
    assert found, told
    row = int(found[1]) - 1
    rows, of = table(kind=kind), model(kind)
    observed = rows.observed("y")[row]
    assert found[2] == (observed if kind == "classes" else f"{float(f'{observed:.6g}'):,.12g}".replace("-", "−"))
    assert f"{of.features[0]}: " in told


def test_the_keyboard_reaches_the_report_and_is_seen(reports, browser):
    browser.open(reports["measurement"], ready=DRAWN)
    browser.press("Tab", 9)
    first = browser.run(
        "const e = document.activeElement; const s = getComputedStyle(e); const b = e.getBoundingClientRect();"
        "return [e.className, s.outlineStyle, parseFloat(s.outlineWidth), b.x]"
    )
    assert first[:2] == ["skip", "solid"]
    assert first[2] >= 2
    assert first[3] >= 0
    order = []
    for _ in range(40):
        browser.press("Tab", 9)
        order.append(browser.run("return document.activeElement.tagName"))
    assert order[:10] == ["A"] * 10
    assert {"SUMMARY", "DIV"} <= set(order)  # what is folded, and tables that scroll


def test_without_scripts_the_words_and_the_tables_are_there(reports, browser):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get(f"file://{reports['measurement']}")
        text = browser.driver.find_element("tag name", "body").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "The figure is drawn by a script, which has not run. The table below has its numbers." in text
