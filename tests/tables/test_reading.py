"""Files as people have them: compressed, European, Parquet and Arrow, all read as the same table."""

import datetime
import gzip
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbb import tables
from bbb.errors import InputError, TableError
from bbb.tables import csv

PLAIN = "a,b,y\n1.5,2,3\n-0.25,1e3,4\n"


def written(folder, content, name="data.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def same(one, other):
    assert (one.columns, one.names, one.zoned) == (other.columns, other.names, other.zoned)
    np.testing.assert_array_equal(one.values, other.values)
    for mine, its in ((one.texts, other.texts), (one.dates, other.dates)):
        assert list(mine) == list(its)
        for name in mine:
            np.testing.assert_array_equal(mine[name], its[name])


# CSV


EUROPEAN = {
    "semicolons and commas": "a;b;y\n1,5;2;3\n-0,25;1e3;4\n",
    "semicolons and points": "a;b;y\n1.5;2;3\n-0.25;1e3;4\n",
    "tabs and commas": "a\tb\ty\n1,5\t2\t3\n-0,25\t1e3\t4\n",
    "tabs and points": "a\tb\ty\n1.5\t2\t3\n-0.25\t1e3\t4\n",
    "commas in quotes": 'a,b,y\n"1,5",2,3\n"-0,25",1e3,4\n',
    "windows": "\ufeffa;b;y\r\n1,5;2;3\r\n-0,25;1e3;4\r\n",
}


@pytest.mark.parametrize("name", EUROPEAN)
def test_marks_between_cells_and_in_numbers_are_recognised(name, tmp_path):
    same(tables.read(written(tmp_path, EUROPEAN[name])), tables.read(written(tmp_path, PLAIN)))


def test_a_name_may_hold_the_other_mark(tmp_path):
    read = tables.read(written(tmp_path, "price, in euro;y\n1,5;2\n3;4\n"))
    assert read.columns == ("price, in euro", "y")
    assert tables.read(written(tmp_path, "a;x,y\n1,2\n")).columns == ("a;x", "y")


@pytest.mark.parametrize(
    ("text", "message", "options", "first"),
    [
        (
            "a;b,c\n1;2,3\n",
            r"one way to divide the rows of .*data\.csv into cells, got a comma or a semicolon in each\. Pass --del",
            {"delimiter": ","},
            None,
        ),
        (
            "a;y\n1,234;2\n5,678;3\n",
            r"a decimal mark that is not one of thousands in .*, got '1,234' in line 2 of column 'a'\. Pass --dec",
            {"decimal": ","},
            1.234,
        ),
        ("a;y\n1.234;2\n", r"got '1\.234' in line 2 of column 'a'\. Pass --decimal \.", {"decimal": "."}, 1.234),
        (
            "a;y\n1,5;2.5\n",
            r"one decimal mark in the numbers of .*, got '1,5' in line 2 of column 'a' and '2\.5' in line 2 of",
            {},
            None,
        ),
        ('a,y\n"1,234",2\n', "Pass --decimal ,", {"decimal": ","}, 1.234),
    ],
)
def test_a_file_that_can_be_read_in_two_ways_is_refused_and_an_option_decides(tmp_path, text, message, options, first):
    path = written(tmp_path, text)
    with pytest.raises(TableError, match=message):
        tables.read(path)
    if first is not None:
        assert tables.read(path, **options).values[0, 0] == first


def test_one_number_that_is_beyond_doubt_settles_the_others(tmp_path):
    read = tables.read(written(tmp_path, "a;y\n1,234;0,5\n5,678;3\n"))
    np.testing.assert_array_equal(read.values, [[1.234, 0.5], [5.678, 3]])
    assert tables.read(written(tmp_path, PLAIN.replace("1.5", "1.234"))).values[0, 0] == 1.234  # between commas


@pytest.mark.parametrize(
    "cell", ["1.234,5", "1_000,5", "1 000,5", "1'000", "0x10", "12 %", "$5", "5,5,5", "inf", "1e999"]
)
@pytest.mark.parametrize("kinds", ["number", "any"])
def test_other_ways_to_write_a_number_are_refused_by_line_and_are_no_words(tmp_path, cell, kinds):
    path = written(tmp_path, f"a;y\n{cell};0,5\n2;3\n")
    with pytest.raises(TableError, match=r"a finite number in every row of column 'a' in .*, got .* in line 2\."):
        tables.read(path, kinds=kinds)


def test_a_row_that_is_short_says_the_mark_between_cells(tmp_path):
    with pytest.raises(TableError, match=r"got 1 in line 3\. Complete that line, or quote cells that hold a semicolon"):
        tables.read(written(tmp_path, "a;b\n1;2\n3\n"))


def test_other_marks_are_refused(tmp_path):
    path = written(tmp_path, PLAIN)
    with pytest.raises(InputError, match=r"delimiter to be a comma, a semicolon or a tab, got '\|'"):
        tables.read(path, delimiter="|")
    with pytest.raises(InputError, match=r"decimal to be '\.' or ',', got '·'"):
        tables.read(path, decimal="·")


numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_a_european_file_is_the_same_numbers_as_an_english_one(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("european")
    english = csv.text({"a": np.array([a for a, _ in rows]), "b": np.array([b for _, b in rows])})
    european = english.replace(",", ";").replace(".", ",")
    read = tables.read(written(folder, european), delimiter=";", decimal=",")
    same(read, tables.read(written(folder, english)))
    assert read.lines.tolist() == list(range(2, 2 + len(rows)))


# gzip


def test_gzip_is_recognised_whatever_the_name(tmp_path):
    plain = tables.read(written(tmp_path, PLAIN))
    packed = gzip.compress(PLAIN[:9].encode()) + gzip.compress(PLAIN[9:].encode())  # of two parts
    for name in ("data.csv.gz", "data"):
        same(tables.read(written(tmp_path, packed, name)), plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [  # of no time, as the names of the tests hold the bytes
        (gzip.compress(PLAIN.encode(), mtime=0)[:-9], "Compressed file ended"),
        (gzip.compress(PLAIN.encode(), mtime=0) + b"more", "Not a gzipped file"),
        (b"\x1f\x8b" + b"x" * 40, "got: "),
        (gzip.compress(b"\xff\xfe\xff", mtime=0), "got: 'utf-8' codec"),
        (gzip.compress(b"", mtime=0), "got an empty file"),
    ],
)
def test_what_gzip_cannot_expand_is_refused(tmp_path, content, message):
    with pytest.raises(TableError, match=message):
        tables.read(written(tmp_path, content, "data.csv.gz"))


def test_a_small_file_that_expands_to_very_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "ALWAYS_EXPANDED", 1000)
    path = written(tmp_path, gzip.compress(b"a\n" + b"1\n" * 100_000), "data.csv.gz")
    with pytest.raises(TableError, match="it expands to more than 200 times its size; expand it first"):
        tables.read(path)


# Parquet and Arrow


MIXED = "when,town,a,y\n2026-01-31T12:00Z,Ulm,1.5,3\n2026-02-01T00:00Z,Bern,-0.25,4\n"


def arrow():
    pyarrow = pytest.importorskip("pyarrow")
    noon = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
    columns = {
        "when": [noon, noon + datetime.timedelta(hours=12)],
        "town": pyarrow.array(["Ulm", "Bern"]).dictionary_encode(),
        "a": [1.5, -0.25],
        "y": [3, 4],
    }
    return pyarrow.table(columns)


def write_parquet(table, path):
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path)


def write_arrow(table, path, stream=False):
    import pyarrow

    make = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with pyarrow.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table)


def write_feather(table, path):
    import pyarrow.feather

    pyarrow.feather.write_feather(table, str(path))


WRITERS = {
    "data.parquet": write_parquet,
    "parquet": write_parquet,  # by its first and last bytes
    "data.arrow": write_arrow,
    "arrow": write_arrow,
    "stream": lambda table, path: write_arrow(table, path, stream=True),
    "data.feather": write_feather,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_arrow_is_the_same_table_as_a_csv_file(name, tmp_path):
    WRITERS[name](arrow(), tmp_path / name)
    plain = written(tmp_path, MIXED)
    same(tables.read(tmp_path / name, kinds="any"), tables.read(plain, kinds="any"))
    for options in ({"only": ["y", "a"]}, {"drop": ["when", "town"]}, {"drop": ["when"], "labels": "town"}):
        same(tables.read(tmp_path / name, **options), tables.read(plain, **options))


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"a": [1.0, None]},
            {},
            r"a finite number in every row of column 'a' in .*, got an empty cell in row 2 of 2\.",
        ),
        ({"a": [1.0, float("nan")]}, {}, "got an empty cell in row 2 of 2"),
        (
            {"a": [1.0, float("inf")]},
            {"holes": True},
            "a finite number in every row of column 'a' in .*, got inf in row",
        ),
        ({"a": ["red", "blue"]}, {}, "numbers in column 'a' in .*, got words"),
        ({"a": [1.0]}, {"kinds": "date"}, "dates in column 'a' in .*, got numbers"),
        ({"a": [[1.0]]}, {"kinds": "any"}, r"numbers, words or dates in column 'a' in .*, got the type List"),
        ({"a": [b"x"]}, {}, "numbers in column 'a' in .*, got the type Binary"),
        ({"a": [datetime.timedelta(1)]}, {}, "got the type Duration"),
        ({"a": ["x" * 201]}, {"kinds": "words"}, "words of at most 200 characters in every row of column 'a'"),
        ({"a": [1.0]}, {"only": ["b"]}, r"a column 'b' in .*data\.parquet, got only a\."),
        ({"a": [1.0]}, {"drop": ["a"]}, "at least one column to be left"),
        ({"a": [1.0]}, {"delimiter": ";"}, "a CSV file with --delimiter, got the Parquet file"),
        ({"a": [1.0]}, {"decimal": ","}, "a CSV file with --decimal, got the Parquet file"),
        ({"a": []}, {"kinds": "any"}, "at least one row in .*, got none"),
    ],
)
def test_a_parquet_file_that_is_no_table_of_numbers_is_refused(columns, options, message, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    write_parquet(pyarrow.table(columns), tmp_path / "data.parquet")
    with pytest.raises(TableError, match=message):
        tables.read(tmp_path / "data.parquet", **options)


@pytest.mark.parametrize("name", ["data.parquet", "data.arrow", "data.feather"])
@pytest.mark.parametrize("change", ["missing", "empty", "text", "cut", "folder", "bits"])
def test_a_damaged_file_is_refused(name, change, tmp_path):
    path = tmp_path / name
    WRITERS[name](arrow(), path)
    whole = path.read_bytes()
    path.unlink()
    content = {"empty": b"", "text": PLAIN.encode(), "cut": whole[: len(whole) // 2]}.get(change)
    if change == "folder":
        path.mkdir()
    elif change != "missing":
        path.write_bytes(bytes(255 - byte for byte in whole) if content is None else content)
    with pytest.raises(
        TableError, match=rf"^Expected an? \w+ file at .*{name}, got: .+\. Check the path and the file\.$"
    ):
        tables.read(path)


def test_without_pyarrow_the_error_says_how_to_install_it(tmp_path):
    write = pytest.importorskip("pyarrow") and write_parquet
    write(arrow(), tmp_path / "data.parquet")
    written(tmp_path, MIXED)
    code = (
        "import sys, bbb.tables\n"
        "assert not {'pyarrow', 'narwhals', 'pandas', 'polars', 'sklearn'} & set(sys.modules)\n"
        "bbb.tables.read('data.csv', kinds='any')\n"
        "sys.modules['pyarrow'] = None\n"
        "from bbb.cli.main import main\n"
        "sys.exit(main(['fit', 'data.parquet', '--target', 'y']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bbb: Expected pyarrow to be installed to read Parquet files, got: " in done.stderr
    assert done.stderr.endswith("Run pip install pyarrow; or, in a clone of bbb, pip install '.[tables]'.\n")
    assert done.stderr.count("\n") == 1


def test_a_device_and_a_pipe_are_what_they_were(tmp_path):
    with pytest.raises(TableError, match="it is not a regular file"):
        tables.read("/dev/zero")
    with pytest.raises(TableError, match="it is not a regular file"):
        tables.read("/dev")
    done = subprocess.run(
        [sys.executable, "-c", "import bbb.tables; print(bbb.tables.read('/dev/stdin').columns)"],
        input=PLAIN.encode(),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"('a', 'b', 'y')\n"


def test_an_empty_cell_among_numbers_leads_to_the_option_that_fills_it(tmp_path):
    with pytest.raises(TableError, match=r"line 2\. Pass `bbb fit --missing median` or `indicator`; or fill"):
        tables.read(written(tmp_path, "a,y\n,1\n2,3\n"))
    with pytest.raises(TableError, match=r"got 'x' in line 3\. Fill it in, remove the row"):
        tables.read(written(tmp_path, "a,y\n1,1\nx,3\n"))
