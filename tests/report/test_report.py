"""The page holds what it says: the numbers of `evaluate`, for each kind of target, and nothing of the world outside."""

import dataclasses
import datetime
import gzip
import re
from base64 import b64decode

import numpy as np
import pytest

import bbb
from bbb.report import page as page_module
from bbb.report.blocks import number, percent
from bbb.report.parts import groups
from bbb.tables.table import Table
from tests.report.models import KINDS, model, table
from tests.report.pages import read

pytest.importorskip("jinja2", reason="needs jinja2, of the extra report")
go = pytest.importorskip("plotly.graph_objects", reason="needs plotly, of the extra report")

DAY = datetime.date(2026, 1, 31)
QUICK = {"draws": 20, "date": DAY}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return a function that gives the model, the rows and the page of a kind, made once."""
    folder, made = tmp_path_factory.mktemp("reports"), {}

    def get(kind):
        if kind not in made:
            of, rows = model(kind), table(kind=kind)
            path = bbb.report.write(folder / f"{kind}.html", of, rows, group="town", **QUICK)
            made[kind] = of, rows, read(path)
        return made[kind]

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_its_numbers_are_those_of_evaluate(kind, pages):
    of, rows, page = pages(kind)
    scores = of.evaluate(rows, draws=20, group="town")
    found = [finding._asdict() for finding in of.diagnose(rows)]
    assert page.scores == scores | {"diagnosis": found}
    shown = [f"{scores['rows']}", number(scores["log_score"])]
    if kind == "classes":
        shown += [percent(scores["accuracy"]), number(scores["brier"])]
    else:
        shown += [number(scores["rmse"]), number(scores["crps"]), number(scores["mean_width"])]
        shown += [percent(scores["coverage"])]
    for text in shown:
        assert " ".join(text.split()) in page.text, text
    for finding in found:
        assert " ".join(finding["seen"].split()) in page.text


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_there_and_every_figure_has_words_and_a_table(kind, pages):
    page = pages(kind)[2]
    titles = [attrs["id"] for attrs in page.of("section")]
    first = ["summary", "predictions", "calibration", "groups", "errors", "unsure", "diagnosis", "training"]
    assert titles == [*first, "data", "card"]
    assert [attrs["href"] for attrs in page.of("a")] == ["#summary", *(f"#{title}" for title in titles)]
    plots = [attrs for attrs in page.of("div") if attrs.get("class") == "plot"]
    assert {attrs["id"] for attrs in plots} == set(page.drawn["figures"])
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 40 for attrs in plots)
    assert len(page.of("figcaption")) == len(page.of("details")) == len(plots) == len(page.of("figure"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_what_plotly_takes_in_both_palettes(kind, pages):
    drawn = pages(kind)[2].drawn
    for palette in (page_module.LIGHT, page_module.DARK):
        for spec in drawn["figures"].values():
            made = go.Figure(coloured(spec, palette))  # which raises for an option or a colour that there is not
            assert len(made.data) >= 2
    for spec in drawn["figures"].values():
        assert all(0 <= row < len(drawn["rows"]) for trace in spec["data"] for row in trace.get("rows", ()))


def coloured(value, palette):
    if isinstance(value, dict):
        return {key: coloured(part, palette) for key, part in value.items() if key != "rows"}
    if isinstance(value, list):
        return [coloured(part, palette) for part in value]
    return palette.get(value, value) if isinstance(value, str) else value


def test_what_depends_on_the_kind_is_said(pages):
    assert "which more rows lower; the rest is noise" in pages("measurement")[2].text
    assert "Of counts the transform is randomised" in pages("count")[2].text
    assert "figure-reliability" in pages("classes")[2].drawn["figures"]
    assert "Which classes are taken for which" in pages("classes")[2].text
    assert "2, which predict as one mixture" in pages("restarts")[2].text
    assert "The intervals are the calibrated ones." in pages("calibrated")[2].text
    assert "The inner band is of the function alone" in pages("one column")[2].text
    assert "The model's file holds no findings of its training" in pages("old file")[2].text
    assert "keeps no curve of its training" in pages("old file")[2].text


def test_the_rows_it_is_least_sure_of_are_listed_with_their_values(pages):
    of, rows, page = pages("measurement")
    std = np.asarray(of.predict(rows, draws=20).y.std)[:, 0]
    worst = int(np.argmax(std))
    town, a = rows.texts["town"][worst], number(rows.values[worst, 0], 6)
    listed = page.text.partition("The rows it is least sure of row")[2]
    assert re.search(rf"^.*? {worst + 1} ", listed)
    assert town in listed
    assert a in listed


def test_groups_are_those_of_evaluate(pages):
    of, rows, page = pages("measurement")
    for name, found in of.evaluate(rows, draws=20, group="town")["groups"].items():
        assert f"{name} {found['rows']} {' '.join(percent(found['share']).split())}" in page.text


def test_of_many_groups_those_of_the_most_rows_are_shown_and_the_others_counted(tmp_path):
    rows = table(190)
    names = np.array([f"g{i:02}" for i in [*range(70)] + [*range(10, 50)] * 3])
    rows = dataclasses.replace(rows, texts={**rows.texts, "id": names}, order=(*rows.order, "id"))
    of = model()
    page = read(bbb.report.write(tmp_path / "page.html", of, rows, group="id", **QUICK))
    found = of.evaluate(rows, draws=20, group="id")["groups"]
    assert page.scores["groups"] == {name: found[name] for name in sorted(found)[:50]}
    assert page.scores["other_groups"] == 20
    share = np.mean([found[f"g{i}"]["share"] for i in range(50, 70)])
    said = f"These are the 50 groups of the most rows; of the 20 others, {percent(share)} of their 20 rows are inside."
    assert " ".join(said.split()) in page.text
    assert "By “id”, the lowest 10 of 50" in page.text
    assert all(f"{name} {found[name]['rows']} " in page.text for name in page.scores["groups"])


@pytest.mark.parametrize(("kind", "count"), [("measurement", 1), ("count", 1), ("classes", 3), ("one column", 3)])
def test_few_rows_are_enough(kind, count, tmp_path):
    page = read(bbb.report.write(tmp_path / "few.html", model(kind), table(count, kind=kind), **QUICK))
    assert page.scores["rows"] == count
    assert len(page.of("section")) == 10
    assert count > 1 or "There are too few rows, or values, to divide them into groups." in page.text


def test_of_many_rows_some_are_drawn_and_all_are_counted(tmp_path):
    rows = table(4_000)
    path = bbb.report.write(tmp_path / "many.html", model(), rows, draws=2, date=DAY)
    page = read(path)
    assert page.scores["rows"] == 4_000
    assert len(page.drawn["rows"]) == 2_000
    assert "Drawn are 2,000 of the 4,000 rows, chosen at random; every number is of all rows." in page.text
    assert path.stat().st_size < 3_500_000


def test_it_is_small_and_plotly_is_whole_within_it(pages, tmp_path):
    page = pages("measurement")[2]
    from plotly.offline import get_plotlyjs

    assert gzip.decompress(b64decode(page.scripts["plotly"])).decode() == get_plotlyjs()
    path = bbb.report.write(tmp_path / "small.html", *pages("measurement")[:2], **QUICK)
    assert path.stat().st_size < 2_500_000


def test_two_are_the_same_bytes_except_for_the_day(pages, tmp_path):
    of, rows, _ = pages("measurement")
    first, second, other = (
        bbb.report.write(tmp_path / f"{i}.html", of, rows, draws=20, date=day).read_text(encoding="utf-8")
        for i, day in enumerate((DAY, DAY, datetime.date(2027, 2, 1)))
    )
    assert first == second
    assert first != other
    assert first == other.replace("2027-02-01", "2026-01-31")


def test_a_row_that_is_impossible_is_a_gap_in_its_json(tmp_path):
    rows = table()
    values = rows.values.copy()
    values[0, -1] = 1e30  # beyond the exponent of float32, squared
    page = read(bbb.report.write(tmp_path / "p.html", model(), dataclasses.replace(rows, values=values), **QUICK))
    assert page.scores["log_score"] is None
    assert "-inf" in page.text


def test_what_is_close_is_told_apart():
    assert groups._ends([(1.0, 2.0), (2.0, 3.0)]) == ["1 to 2", "2 to 3"]
    assert groups._ends([(1.0001, 1.0002), (1.0003, 1.0004)]) == ["1.0001 to 1.0002", "1.0003 to 1.0004"]


HOSTILE = {
    "a script": "</script><script>alert(1)</script>",
    "an image": '<img src="https://example.org/x" onerror="alert(1)">',
    "an attribute": '"onmouseover="alert(1)" x="',
    "a comment": "<!--<script>",
    "an entity": "&lt;b&gt;",
    "a template": "{{ 7 * 7 }}{% raw %}%{x}",
    "a line": "a\u2028b\nc\r<br>",
}


@pytest.mark.parametrize("word", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", ["measurement", "classes"])
def test_names_and_values_do_not_become_html(word, kind, tmp_path):
    word = word.strip()
    plain = table(kind=kind)
    names = {"a": f"a{word}", "b": f"b{word}", "town": f"town{word}", "y": f"y{word}"}
    towns = np.array([f"{word}{town}" for town in plain.texts["town"]])
    texts = {names[name]: values for name, values in plain.texts.items()} | {names["town"]: towns}
    rows = Table(f"{word}.csv".replace("/", ""), tuple(names[name] for name in plain.columns), plain.values, texts)
    of = model(kind, names["y"], (names["a"], names["b"], names["town"]))
    page = read(bbb.report.write(tmp_path / "page.html", of, rows, group=names["town"], unknown="ignore", **QUICK))
    assert len(page.of("script")) == 4
    assert not page.of("img", "b", "br", "iframe", "object")
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert " ".join(word.split()) in page.text
    for text in (
        *page.drawn["rows"],
        *(spec["layout"]["yaxis"]["title"]["text"] for spec in page.drawn["figures"].values()),
    ):
        assert not re.search(r"<(?!br>)", text)  # plotly.js reads some of HTML


@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_nothing(kind, pages):
    page = pages(kind)[2]
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action", "background"):
            assert attrs.get(name, "#").startswith("#"), (tag, attrs)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    for name in ("report.css", "report.js", "report.html"):
        text = (page_module.FOLDER / name).read_text(encoding="utf-8")
        assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttpRequest", text)
    (policy,) = [attrs["content"] for attrs in page.of("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy


def test_headings_are_in_order_and_a_language_is_told(pages):
    page = pages("measurement")[2]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels == [1, *[2] * (len(levels) - 1)]
    assert page.of("html") == [{"lang": "en"}]
    links = page.of("a")
    assert links[0] == {"class": "skip", "href": "#summary"}
    scrolled = [attrs for attrs in page.of("div") if attrs.get("class", "").startswith("scroll")]
    assert scrolled
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" and attrs["aria-label"] for attrs in scrolled)


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [page_module.LIGHT, page_module.DARK], ids=["light", "dark"])
def test_colours_can_be_told_from_what_is_behind_them(palette):
    for text in ("--ink", "--muted", "--accent"):
        for behind in ("--paper", "--soft"):
            assert contrast(palette[text], palette[behind]) >= 4.5
    for mark in ("--mean", "--data", "--wrong"):
        assert contrast(palette[mark], palette["--paper"]) >= 3
    assert palette.keys() == page_module.LIGHT.keys()
