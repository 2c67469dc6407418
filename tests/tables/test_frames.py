"""Frames of pandas, polars and pyarrow: the same table, whatever the library and its types."""

import datetime
import subprocess
import sys

import numpy as np
import pytest

from bbb import tables
from bbb.errors import InputError, TableError

pytest.importorskip("narwhals")
pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))

NOON = datetime.datetime(2026, 1, 31, 12)
COLUMNS = {
    "town": ["Ulm", None, "Bern"],
    "when": [NOON, None, NOON + datetime.timedelta(days=1)],
    "day": [datetime.date(2026, 1, 31), datetime.date(2026, 2, 1), None],
    "count": [1, None, 3],
    "size": [1.5, float("nan"), -2.0],
    "flag": [True, None, False],
}
NUMBERS = np.array([[1, 1.5, 1], [np.nan, np.nan, np.nan], [3, -2, 0]])


def arrow(columns=COLUMNS):
    return pyarrow.table(columns)


FRAMES = {
    "pyarrow": arrow,
    "polars": polars.DataFrame,
    "pandas": pandas.DataFrame,
    "pandas of its own types": lambda columns: pandas.DataFrame(columns).convert_dtypes(),
    "pandas of arrow": lambda columns: pyarrow.table(columns).to_pandas(types_mapper=pandas.ArrowDtype),
    "pandas with another index": lambda columns: pandas.DataFrame(columns, index=[7, 7, 8]),
    "pandas categories": lambda columns: pandas.DataFrame(columns).astype({"town": "category"}),
    "polars categories": lambda columns: polars.DataFrame(columns).cast({"town": polars.Categorical}),
    "pyarrow dictionary": lambda columns: arrow(columns).set_column(
        0, "town", arrow(columns)["town"].dictionary_encode()
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_the_table_of_its_types(name):
    found = tables.as_table(FRAMES[name](COLUMNS))
    assert found.names == tuple(COLUMNS)
    assert found.columns == ("count", "size", "flag")
    np.testing.assert_array_equal(found.values, NUMBERS)
    np.testing.assert_array_equal(found.texts["town"], ["Ulm", "", "Bern"])
    when = np.array(["2026-01-31T12", "NaT", "2026-02-01T12"], "datetime64[us]")
    np.testing.assert_array_equal(found.dates["when"], when)
    np.testing.assert_array_equal(found.dates["day"], np.array(["2026-01-31", "2026-02-01", "NaT"], "datetime64[us]"))
    assert found.zoned == frozenset()
    assert tables.as_table(found) is found


ZONE = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize("name", ["pyarrow", "polars", "pandas", "pandas objects"])
def test_dates_with_a_zone_are_in_utc(name):
    columns = {"when": [NOON.replace(tzinfo=ZONE), None]}
    objects = lambda given: pandas.DataFrame({"when": pandas.Series(given["when"], dtype=object)})  # noqa: E731
    found = tables.as_table({**FRAMES, "pandas objects": objects}[name](columns))
    np.testing.assert_array_equal(found.dates["when"], np.array(["2026-01-31T10", "NaT"], "datetime64[us]"))
    assert found.zoned == {"when"}


def test_numbers_are_words_where_these_are_wanted():
    frame = polars.DataFrame({"zip": [10115, None, 1069], "code": [1.0, 2.5, None]})
    found = tables.as_table(frame, kinds="words")
    assert found.texts["zip"].tolist() == ["10115", "", "1069"]
    assert found.texts["code"].tolist() == ["1", "2.5", ""]


REFUSED = {
    "a dictionary": (
        lambda: {"a": [1]},
        {},
        InputError,
        "a Table, or a frame of pandas, polars or pyarrow, got a dict",
    ),
    "an array": (lambda: np.eye(2), {}, InputError, r"got a ndarray\. Read a file by bbb\.tables\.read"),
    "a path": (lambda: "data.csv", {}, InputError, "got a str"),
    "nothing": (lambda: None, {}, InputError, "got a NoneType"),
    "a lazy frame": (
        lambda: polars.LazyFrame({"a": [1]}),
        {},
        InputError,
        r"got a LazyFrame\. .* or call \.collect\(\)",
    ),
    "a series": (lambda: polars.Series([1]), {}, InputError, "got a Series"),
    "no rows": (lambda: polars.DataFrame({"a": []}), {}, TableError, "at least one row in the frame, got none"),
    "numbers as names": (
        lambda: pandas.DataFrame(np.eye(2)),
        {},
        TableError,
        "unique words as the names of the columns of the frame, got 0",
    ),
    "an empty name": (
        lambda: polars.DataFrame({"": [1]}),
        {},
        TableError,
        "the names of the columns of the frame, got ''",
    ),
    "a name twice, of Arrow": (
        lambda: pyarrow.table([[1], [2]], ["a", "a"]),
        {},
        TableError,
        "unique words as the names of the columns of the frame, got one twice",
    ),
    "a name twice": (
        lambda: pandas.DataFrame(np.eye(2), columns=["a", "a"]),
        {},
        TableError,
        "unique words as the names of the columns of the frame, got one twice",
    ),
    "a list in a cell": (
        lambda: polars.DataFrame({"a": [[1], [2]]}),
        {},
        TableError,
        r"numbers, words or dates in column 'a' in the frame, got the type List\(Int64\)\. Convert it",
    ),
    "words and numbers": (
        lambda: pandas.DataFrame({"a": [1, "x"]}),
        {},
        TableError,
        "column 'a' .* got the type Object",
    ),
    "a time": (lambda: polars.DataFrame({"a": [datetime.time(1)]}), {}, TableError, "column 'a' .* got the type Time"),
    "an infinite number": (
        lambda: polars.DataFrame({"a": [1.0, float("-inf")]}),
        {},
        TableError,
        r"a finite number in every row of column 'a' in the frame, got -inf in row 2 of 2\. Replace it",
    ),
    "a hole": (
        lambda: polars.DataFrame({"a": [1, None]}),
        {"holes": False},
        TableError,
        r"a finite number in every row of column 'a' in the frame, got an empty cell in row 2 of 2",
    ),
    "zones and none": (
        lambda: pandas.DataFrame({"a": pandas.Series([NOON, NOON.replace(tzinfo=ZONE)], dtype=object)}),
        {},
        TableError,
        "dates all with a time zone or all without in column 'a' in the frame, got both",
    ),
    "another column": (
        lambda: polars.DataFrame({"a": [1]}),
        {"only": ["b"]},
        TableError,
        "a column 'b' in the frame, got",
    ),
    "another kind": (
        lambda: polars.DataFrame({"a": [1]}),
        {"kinds": {"a": "date"}},
        TableError,
        "dates in column 'a' in the frame, got numbers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_frame_of_columns_is_refused(case):
    make, options, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        tables.as_table(make(), **options)


def made(seed=0):
    rng = np.random.default_rng(seed)
    x, town = rng.normal(size=50), rng.choice(["Ulm", "Bern"], 50)
    y = x + 2 * (town == "Ulm") + 0.1 * rng.normal(size=50)
    return {"x": x, "town": town.tolist(), "y": y}


@pytest.fixture(scope="module")
def learned():
    recipe = tables.Recipe(hidden=4, epochs=30, posterior="mean_field")
    return tables.fit_table(pandas.DataFrame(made()), "y", recipe=recipe, progress=False)[0]


def test_a_model_takes_the_frame_of_any_library(learned, tmp_path):
    assert learned.features == ("x", "town")
    (tmp_path / "new.csv").write_text(
        "y,town,x\n" + "".join(f"{y},{t},{x}\n" for x, t, y in zip(*map(list, made(1).values()), strict=True))
    )
    given = learned.read(tmp_path / "new.csv", target=True)
    for frame in (pandas.DataFrame(made(1)), polars.DataFrame(made(1)), arrow(made(1))):
        np.testing.assert_array_equal(learned.inputs(frame), learned.inputs(given))
        np.testing.assert_array_equal(learned.observed(frame), learned.observed(given))
    without = polars.DataFrame(made(1)).drop("y")
    one, other = (learned.predict(frame, draws=50).y.mean for frame in (without, given))
    np.testing.assert_array_equal(one, other)
    assert learned.evaluate(polars.DataFrame(made(1)), draws=50) == learned.evaluate(given, draws=50)
    assert learned.pit(polars.DataFrame(made(1)), draws=50).shape == (50,)
    assert learned.diagnose(polars.DataFrame(made(1))) is not None


def test_messages_have_the_names_of_columns(learned):
    frame = pandas.DataFrame(made(1))
    for given, message in {
        "column": (frame.drop(columns="town"), "a column 'town' in the frame, got only x, y"),
        "category": (
            frame.assign(town="Genf"),
            r"Bern, Ulm in every row of column 'town' in the frame, got 'Genf' in row 1 of 50",
        ),
        "hole": (
            frame.assign(x=np.nan),
            "a finite number in every row of column 'x' in the frame, got an empty cell in row 1",
        ),
        "kind": (frame.assign(x="one"), "numbers in column 'x' in the frame, got words"),
        "target": (frame.drop(columns="y"), "a column 'y' in the frame, got only x, town"),
    }.values():
        with pytest.raises(TableError, match=message):
            learned.evaluate(given)
    with pytest.raises(
        TableError, match="a value in every row of column 'y' in the frame, got an empty cell in row 1 of 50"
    ):
        learned.evaluate(frame.assign(y=np.nan))
    with pytest.raises(TableError, match="a column 'z' in the frame, got only x, town, y"):
        tables.fit_table(frame, "z")


def test_without_narwhals_the_error_says_how_to_install_it():
    code = (
        "import sys; sys.modules['narwhals'] = None\n"
        "import bbb.tables\n"
        "try:\n"
        "    bbb.tables.as_table({'a': [1]})\n"
        "except bbb.errors.TableError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Expected narwhals to be installed to take a frame, got: ")
    assert done.stdout.endswith("Run pip install narwhals; or, in a clone of bbb, pip install '.[tables]'.\n")
