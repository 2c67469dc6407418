"""CSV files: what is read is what was written, and everything else is refused by name and line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bbb
from bbb.tables import csv


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_columns_are_read_by_name(tmp_path):
    read = csv.read(written(tmp_path, 'a,"b, c",d\n1,2,3\n\n4,5e-1,-6\n'))
    assert read.columns == ("a", "b, c", "d")
    np.testing.assert_array_equal(read.values, [[1, 2, 3], [4, 0.5, -6]])
    np.testing.assert_array_equal(read.select(["d", "a"]), [[3, 1], [-6, 4]])


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path):
    assert csv.read(written(tmp_path, "\ufeffa,b\r\n1,2\r\n")).columns == ("a", "b")


def test_columns_that_are_dropped_or_not_asked_for_need_not_be_numbers(tmp_path):
    path = written(tmp_path, "name,a\nfoo,1\nbar,2\n")
    assert csv.read(path, drop=["name"]).columns == ("a",)
    assert csv.read(path, only=["a"]).columns == ("a",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one row in .*data.csv, got an empty file"),
        ("a,b\n", "got a header alone"),
        ("a,b\n1,2\n3\n", "2 cells in every row .* got 1 in line 3"),
        ("a,b\n1,2,3\n", "got 3 in line 2"),
        ("a,b\n1,x\n", "column 'b' in .*, got 'x' in line 2"),
        ("a,b\n1,\n", "column 'b' in .*, got an empty cell in line 2"),
        ("a,b\n1,nan\n", "a finite number in every row of column 'b'"),
        ("a,b\n1,inf\n", "got 'inf' in line 2"),
        ("a,b\n1,1e999\n", "got '1e999' in line 2"),
        ("a,a\n1,2\n", "got 'a' twice"),
        ("a,\n1,2\n", "a column without a name"),
        ('a,b\n1,"2\n', "unexpected end of data"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(bbb.errors.TableError, match=message):
        csv.read(written(tmp_path, text))


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    with pytest.raises(bbb.errors.TableError, match=r"a CSV file in UTF-8 at .*data.csv, got"):
        csv.read(written(tmp_path, "ä,b\n1,2\n", "latin-1"))


def test_a_missing_file_and_a_missing_column_are_named(tmp_path):
    with pytest.raises(bbb.errors.TableError, match=r"nowhere.csv, got: No such file"):
        csv.read(tmp_path / "nowhere.csv")
    path = written(tmp_path, "a,b\n1,2\n")
    for call in (lambda: csv.read(path, drop=["z"]), lambda: csv.read(path, only=["z"])):
        with pytest.raises(bbb.errors.TableError, match=r"a column 'z' in .*data.csv, got only a, b"):
            call()
    with pytest.raises(bbb.errors.TableError, match=r"at least one column"):
        csv.read(path, drop=["a", "b"])


def test_a_constant_column_is_refused_only_where_it_must_vary(tmp_path):
    read = csv.read(written(tmp_path, "a,b\n1,2\n1,3\n"))
    assert read.select(["a"]).shape == (2, 1)
    with pytest.raises(bbb.errors.TableError, match=r"column 'a' to vary in .*, got 1 in every row"):
        read.varying(["a", "b"])


floats = hnp.from_dtype(np.dtype("float32"), allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(floats, floats), min_size=1))
def test_numbers_written_come_back_bit_for_bit(tmp_path_factory, rows):
    values = np.asarray(rows, np.float32)
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_text(csv.text({"a": values[:, 0], "b": values[:, 1]}))
    np.testing.assert_array_equal(csv.read(path).values.astype(np.float32), values)
