"""Columns of words, dates and holes: how they become numbers, what is kept with the model, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

import bbb
from bbb import likelihoods, tables
from bbb.errors import InputError, ModelFileError, TableError
from bbb.networks import nn
from bbb.tables import csv, encoding
from bbb.tables import model as model_module
from bbb.tables.encoding import Column, Encoding
from tests.bad_input import bayesian

ROWS = """town,when,size,y
Ulm,2026-01-31,1,1
Bern,2026-02-02T12:00,,2
,2026-02-01,4,3
Ulm,,2,4
Bern,2026-02-03,8,6
"""


def table(text=ROWS, folder=None, **options):
    (folder / "data.csv").write_text(text)
    return tables.read(folder / "data.csv", **{"kinds": "any", "holes": True, **options})


@pytest.fixture
def rows(tmp_path):
    return table(folder=tmp_path)


FEATURES = ("town", "when", "size")


def test_words_are_one_hot_and_dates_are_days_since_the_first(tmp_path):
    text = "\n".join(line for line in ROWS.splitlines() if ",," not in line and not line.startswith(","))
    found = table(text, tmp_path, holes=False)
    made = Encoding.learned(found, FEATURES)
    assert made.columns[0].categories == ("Bern", "Ulm")
    assert made.columns[1].origin == "2026-01-31"
    np.testing.assert_array_equal(made.encode(found), [[0, 1, 0, 1], [1, 0, 3, 8]])


def test_a_missing_value_is_the_median_or_the_most_frequent_word(rows):
    made = Encoding.learned(rows, FEATURES, "median")
    days = 1.75  # the median of 0, 1, 2.5 and 3
    expected = [[0, 1, 0, 1], [1, 0, 2.5, 3], [1, 0, 1, 4], [0, 1, days, 2], [1, 0, 3, 8]]
    np.testing.assert_array_equal(made.encode(rows), expected)


def test_an_indicator_tells_what_was_missing(rows):
    made = Encoding.learned(rows, FEATURES, "indicator")
    expected = [
        [0, 1, 0, 0, 0, 1, 0],
        [1, 0, 0, 2.5, 0, 3, 1],
        [0, 0, 1, 1, 0, 4, 0],
        [0, 1, 0, 1.75, 1, 2, 0],
        [1, 0, 0, 3, 0, 8, 0],
    ]
    np.testing.assert_array_equal(made.encode(rows), expected)


def test_only_columns_with_holes_in_training_get_an_indicator_and_the_others_are_filled_later(rows, tmp_path):
    whole = ROWS.replace("T12:00,,", "T12:00,3,").replace("Ulm,,", "Ulm,2026-02-04,").replace("\n,", "\nUlm,")
    filled = table(whole, tmp_path)
    made = Encoding.learned(filled, FEATURES, "indicator")
    assert made.width == 4
    np.testing.assert_array_equal(made.encode(rows)[2, :2], [0, 1])  # the most frequent word
    assert made.encode(rows)[1, 3] == np.median(filled.select(["size"]))


def test_a_word_that_was_not_seen_is_refused_by_name_or_is_all_zeros(rows, tmp_path):
    made = Encoding.learned(rows, FEATURES, "indicator")
    strange = table(ROWS.replace("\nBern,2026-02-03", "\nBasel,2026-02-03"), tmp_path)
    text = (
        r"^Expected one of the categories Bern, Ulm in every row of column 'town' in .*data\.csv, got 'Basel' in "
        r"line 6\. Correct it, remove the row, or predict with --unknown ignore"
    )
    with pytest.raises(TableError, match=text):
        made.encode(strange)
    np.testing.assert_array_equal(made.encode(strange, "ignore")[4, :3], [0, 0, 0])
    np.testing.assert_array_equal(made.encode(strange, "ignore")[:4], made.encode(rows)[:4])
    with pytest.raises(InputError, match="unknown to be one of refuse, ignore, got 'drop'"):
        made.encode(rows, "drop")


def test_a_group_of_columns_of_one_category_varies_as_much_as_a_number():
    rng = np.random.default_rng(0)
    words = np.array(["a", "b", "c"])[rng.choice(3, 1000, p=[0.6, 0.39, 0.01])]
    made = tables.Table("made", ("x",), rng.normal(5, 3, (1000, 1)), {"w": words})
    found = Encoding.learned(made, ("w", "x"))
    x = found.encode(made)
    scales = found.scales(np.var(x, 0))
    scaled = x / scales
    assert np.var(scaled[:, :3], 0).sum() == pytest.approx(1, abs=1e-12)
    assert np.var(scaled[:, 3]) == pytest.approx(1, abs=1e-12)
    assert scales[3] == np.std(x[:, 3])


REFUSED = {
    "hole of numbers": (
        ROWS,
        {},
        ("size",),
        r"a finite number in every row of column 'size' in .*, got an empty cell in line 3",
    ),
    "hole of words": (ROWS, {}, ("town",), r"a word in every row of column 'town' in .*, got an empty cell in line 4"),
    "hole of dates": (ROWS, {}, ("when",), r"a date in every row of column 'when' in .*, got an empty cell in line 5"),
    "holes alone": (
        "a,y\n,1\nNA,2\n",
        {"missing": "median"},
        ("a",),
        "values in column 'a' in .*, got empty cells alone",
    ),
    "one number": (
        "a,y\n1,1\n,2\n1,3\n",
        {"missing": "indicator"},
        ("a",),
        "column 'a' to vary in .*, got 1 in every row",
    ),
    "one word": ("a,y\nx,1\nx,2\n", {}, ("a",), "column 'a' to vary in .*, got 'x' in every row"),
    "one day": ("a,y\n2026-01-01,1\n2026-01-01,2\n", {}, ("a",), "column 'a' to vary in .*, got 2026-01-01T00"),
    "names": (
        "a,y\n" + "".join(f"name {i},1\n" for i in range(50)),
        {},
        ("a",),
        "at most 25 words in column 'a' of 50 rows in .*, got 50, such as 'name 0'",
    ),
    "missing": (ROWS, {"missing": "mean"}, ("size",), "missing to be one of refuse, median, indicator, got 'mean'"),
    "column": (ROWS, {}, ("colour",), "a column 'colour' in .*, got only town, when, size, y"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_column_that_cannot_be_encoded_is_refused(case, tmp_path):
    text, options, features, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        Encoding.learned(table(text, tmp_path), features, **options)


def test_a_column_of_another_kind_is_refused(tmp_path):
    made = Encoding.learned(table(folder=tmp_path), FEATURES, "median")
    for text, message in {
        ROWS.replace("Ulm", "1").replace("Bern", "2"): "words in column 'town' in .*, got numbers",
        ROWS.replace("2026-01-31", "1")
        .replace("2026-02-0", "")
        .replace("T12:00", ""): "dates in column 'when' in .*, got n",
        ROWS.replace(",1,", ",x,")
        .replace(",4,", ",y,")
        .replace(",2,4", ",z,4"): "numbers in column 'size' in .*, got wo",
        "town,size,when\nUlm,1,2026-01-31T00:00Z\nBern,2,2026-01-31T00:00Z\n": "dates with no time zone in",
    }.items():
        other = table(text.replace(",8,", ",z,") if "x" in text else text, tmp_path)
        with pytest.raises(TableError, match=message):
            made.encode(other)


DATES = {
    "31.12.2026": "a date such as 2026-01-31 in every row of column 'd' in .*, got '31.12.2026' in line 2. Write ",
    "12/31/2026": "got '12/31/2026' in line 2",
    "2026/12/31": "got '2026/12/31' in line 2",
    "2026-2-3": "got '2026-2-3' in line 2",
    "2026-02-31": "got '2026-02-31' in line 2",
    "2026-01-31T25:00": "got '2026-01-31T25:00' in line 2",
    "0001-01-01T00:00+05:00": r"got '0001-01-01T00:00\+05:00' in line 2",
    "2026-01-31T01:00+05:00": "dates all with a time zone or all without in every row of column 'd' .* in line 3",
}


@pytest.mark.parametrize("cell", DATES)
def test_a_date_in_another_form_is_refused_and_is_no_word(cell, tmp_path):
    with pytest.raises(TableError, match=DATES[cell]):
        table(f"d,y\n{cell},1\n2026-01-30,2\n", tmp_path)


def test_dates_with_a_zone_are_those_of_utc(tmp_path):
    found = table("d,y\n2026-01-31T01:00+01:00,1\n2026-01-30T12:00:00.5Z,2\n", tmp_path)
    expected = np.array(["2026-01-31T00:00", "2026-01-30T12:00:00.5"], "datetime64[us]")
    np.testing.assert_array_equal(found.dates["d"], expected)
    assert found.zoned == {"d"}


def test_of_words_na_is_a_word_and_of_numbers_it_is_a_hole(tmp_path):
    found = table("w,x,y\nNA,NA,1\nDE,1,2\n,2,3\n", tmp_path)
    assert found.texts["w"].tolist() == ["NA", "DE", ""]
    assert np.isnan(found.select(["x"])[0, 0])


def test_numbers_are_words_where_they_are_asked_for(tmp_path):
    found = table("zip,y\n01069,1\n10115,2\n", tmp_path, kinds={"zip": "words"})
    assert found.texts["zip"].tolist() == ["01069", "10115"]


# In files


def test_a_description_comes_back_as_it_was(rows):
    for missing in ("median", "indicator"):
        made = Encoding.learned(rows, FEATURES, missing)
        assert Encoding.of_description(FEATURES, made.described()) == made
        assert made.kinds == {"town": "words", "when": "date", "size": "number"}
        assert made.holes
    assert Encoding((Column("a"),)).described() == [{}]
    assert Encoding((Column("a"),)).is_plain


def mixed(rows=80, seed=0):
    rng = np.random.default_rng(seed)
    effect = {"red": 0.0, "green": 2.0, "blue": -2.0}
    words = rng.choice(list(effect), rows)
    days = rng.integers(0, 100, rows)
    a = rng.normal(size=rows)
    y = np.array([effect[word] for word in words]) + 0.02 * days + a + 0.1 * rng.normal(size=rows)
    a[rng.random(rows) < 0.1] = np.nan
    dates = np.datetime64("2026-01-01", "us") + days * np.timedelta64(1, "D")
    numbers = np.column_stack([a, y])
    return tables.Table("made", ("a", "y"), numbers, {"w": words}, {"d": dates}, order=("w", "a", "d", "y"))


@pytest.fixture(scope="module")
def learned():
    recipe = tables.Recipe(hidden=8, epochs=200, posterior="mean_field", missing="indicator")
    return tables.fit_table(mixed(), "y", recipe=recipe, progress=False)[0]


def test_a_model_learns_from_all_kinds_of_columns(learned):
    assert learned.features == ("w", "a", "d")
    assert learned.columns.width == 3 + 2 + 1
    scores = learned.evaluate(mixed(seed=1), draws=300)
    assert scores["rmse"] < 0.7  # that of the holes alone is about 0.3; the spread of y is 2


def test_a_saved_model_encodes_as_it_did(learned, tmp_path):
    learned.save(tmp_path / "m")
    loaded = tables.TabularModel.load(tmp_path / "m")
    assert loaded.encoding == learned.encoding
    one, other = (model.predict(mixed(seed=1), draws=50).y.std for model in (loaded, learned))
    np.testing.assert_array_equal(one, other)
    loaded.save(tmp_path / "n")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "n").read_bytes()


def test_a_word_that_was_not_seen_predicts_as_none_of_those(learned):
    strange = dataclasses.replace(mixed(seed=1), texts={"w": np.array(["pink"] * 80)})
    with pytest.raises(TableError, match="got 'pink' in row 1 of 80"):
        learned.predict(strange)
    made = learned.predict(strange, unknown="ignore", draws=50)
    x = learned.inputs(strange, unknown="ignore")
    assert not x[:, :3].any()
    np.testing.assert_array_equal(made.f.mean, bbb.predict(jax.random.key(0), learned.model, x, draws=50).f.mean)
    assert np.isfinite(learned.evaluate(strange, unknown="ignore", draws=50)["log_score"])
    assert learned.pit(strange, unknown="ignore", draws=50).shape == (80,)
    assert learned.diagnose(strange, unknown="ignore") is not None


def test_a_file_of_numbers_alone_says_nothing_of_an_encoding(tmp_path):
    plain = model_module.TabularModel(bayesian(nn.linear(2, 1)), ("a", "b"), "y")
    plain.save(tmp_path / "m")
    assert "encoding" not in bbb.io.read_metadata(tmp_path / "m")
    loaded = tables.TabularModel.load(tmp_path / "m")
    assert loaded.encoding is None
    assert loaded.columns == Encoding((Column("a"), Column("b")))
    np.testing.assert_array_equal(loaded.inputs(tables.Table("t", ("b", "a"), np.eye(2))), [[0, 1], [1, 0]])


WORDS = {"kind": "words", "categories": ["a", "b"]}
HOSTILE = {
    "a word": "one-hot",
    "a number": 3,
    "a dictionary": {},
    "too few": [],
    "too many": [{}, {}, {}],
    "a list of words": ["number", "number"],
    "another key": [{}, {"run": "rm"}],
    "the name": [{}, {"name": "b"}],
    "another kind": [{}, {"kind": "pickle"}],
    "a kind of a list": [{}, {"kind": ["words"]}],
    "words without categories": [{}, {"kind": "words"}],
    "one category": [{}, {**WORDS, "categories": ["a"]}],
    "categories of a word": [{}, {**WORDS, "categories": "ab"}],
    "categories of numbers": [{}, {**WORDS, "categories": [1, 2]}],
    "categories in disorder": [{}, {**WORDS, "categories": ["b", "a"]}],
    "a category twice": [{}, {**WORDS, "categories": ["a", "a", "b"]}],
    "an empty category": [{}, {**WORDS, "categories": ["", "a"]}],
    "categories of a number": [{}, {"categories": ["a", "b"]}],
    "a date without origin": [{}, {"kind": "date"}],
    "an origin that is no day": [{}, {"kind": "date", "origin": "2026-02-31"}],
    "an origin in another form": [{}, {"kind": "date", "origin": "20260131"}],
    "an origin of a number": [{}, {"kind": "date", "origin": 1}],
    "an origin of a number's column": [{}, {"origin": "2026-01-31"}],
    "a flag of a number": [{}, {"indicator": 1, "fill": 1.0}],
    "a zone of a word": [{}, {"kind": "date", "origin": "2026-01-31", "zoned": "UTC"}],
    "a fill of a word": [{}, {"fill": "1"}],
    "a fill of a flag": [{}, {"fill": True}],
    "a fill beyond the categories": [{}, {**WORDS, "fill": 2.0}],
    "a fill between categories": [{}, {**WORDS, "fill": 0.5}],
    "a fill before the categories": [{}, {**WORDS, "fill": -1.0}],
    "an indicator without a fill": [{}, {"indicator": True}],
    "another width": [{}, WORDS],
    "an indicator too many": [{}, {"indicator": True, "fill": 1.0}],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_of_another_encoding_is_refused(case, tmp_path):
    about = {"features": ["a", "b"], "target": "y", "encoding": HOSTILE[case]}
    bbb.save(tmp_path / "m", bayesian(nn.linear(2, 1)), about)
    with pytest.raises(
        ModelFileError, match=r"^Expected .*m to hold (an encoding of its columns, got|a model that fits)"
    ):
        tables.TabularModel.load(tmp_path / "m")


@pytest.mark.parametrize("fill", [float("inf"), float("nan"), 10**400, 1], ids=["infinite", "nan", "giant", "whole"])
def test_a_fill_has_to_be_finite(fill):
    with pytest.raises(InputError, match="a finite number as fill"):
        Encoding.of_description(("a",), [{"fill": fill}])


def test_a_class_is_no_date_and_no_hole(tmp_path):
    for text, message in {
        "a,y\n1,red\n2,\n": "a value in every row of column 'y' in .*, got an empty cell in line 3",
        "a,y\n1,5\n2,\n": "a value in every row of column 'y' in .*, got an empty cell in line 3",
        "a,y\n1,2026-01-31\n2,2026-02-01\n": "numbers in column 'y' in .*, got dates",
    }.items():
        with pytest.raises(TableError, match=message):
            tables.fit_table(table(text, tmp_path), "y")
    model = model_module.TabularModel(
        bayesian(nn.linear(1, 2), likelihood=likelihoods.Categorical()), ("a",), "y", ("blue", "red")
    )
    with pytest.raises(TableError, match="got an empty cell in line 3"):
        model.evaluate(table("a,y\n1,red\n2,\n", tmp_path))


def test_the_limits_are_what_the_messages_say():
    assert (encoding.MOST_CATEGORIES, encoding.FEW_CATEGORIES) == (1000, 20)
    assert csv.MOST_EXPANDED == 200
