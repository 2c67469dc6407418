"""Reading a table from a file of any format: CSV, or Parquet, Arrow and Feather by pyarrow (extra `tables`)."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bbb.errors import TableError, fail
from bbb.tables import csv, frames
from bbb.tables.cells.dialect import Dialect
from bbb.tables.table import NUMBER, Table, Wanted

PARQUET, ARROW = "Parquet", "Arrow"
"""The formats that pyarrow reads."""

SUFFIXES = {".parquet": PARQUET, ".pq": PARQUET, ".arrow": ARROW, ".feather": ARROW, ".ipc": ARROW}
"""Names of files by format; others are recognised by their first bytes, or are CSV."""

BUFFER = 1 << 20
"""Bytes of a column of a Parquet file that are read at once; what pyarrow buffers before, it keeps to the end."""

_ARROW_MAGIC = (b"ARROW1\0\0", b"\xff\xff\xff\xff")


def read(
    path: str | os.PathLike[str],
    *,
    drop: Sequence[str] = (),
    only: Sequence[str] | None = None,
    labels: str = "",
    kinds: Mapping[str, str] | str = NUMBER,
    holes: bool = False,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> Table:
    """Read a table from a file: CSV, plain or compressed by gzip, Parquet, Arrow or Feather.

    For the arguments, see `bbb.tables.csv.read`: `delimiter` and `decimal` are of CSV alone. Parquet, Arrow and Feather
    need pyarrow and narwhals: `pip install '.[tables]'` in a clone. There, the type of a column is its kind, and NULL
    and NaN are what is missing.

    To train on the words, the dates and the holes of a file, and to predict another::

        table = bbb.tables.read("houses.parquet", kinds="any", holes=True)
        recipe = bbb.tables.Recipe(missing="indicator")
        model, history = bbb.tables.fit_table(table, "price", recipe=recipe)
        band = model.predict(model.read("new.csv.gz", decimal=","), unknown="ignore").y

    Raises:
        TableError: as `csv.read` does; and if pyarrow cannot read the file, or is not there.
        InputError: if the delimiter or the decimal mark is another character.

    Example:
        >>> import os, tempfile
        >>> import bbb.tables
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "houses.csv")
        ...     with open(path, "w", encoding="utf-8") as file:
        ...         print("size,price", "50,1.5", "80,2.5", sep=chr(10), file=file)
        ...     table = bbb.tables.read(path)
        >>> table.columns
        ('size', 'price')
    """
    given = Dialect(delimiter, decimal)
    form = format_of(path)
    if form is None:
        options: dict[str, Any] = {"delimiter": delimiter, "decimal": decimal}
        return csv.read(path, drop=drop, only=only, labels=labels, kinds=kinds, holes=holes, **options)
    _check_marks(path, form, given)
    (table,) = _by_pyarrow(os.fspath(path), form, Wanted(drop, only, kinds, holes), labels)
    return table


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Return the format of a file that pyarrow reads, by its name or else its first bytes; None for CSV."""
    by_name = SUFFIXES.get(Path(os.fspath(path)).suffix.lower()) if isinstance(path, (str, os.PathLike)) else None
    if by_name is not None:
        return by_name
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(-min(4, os.fstat(file.fileno()).st_size), os.SEEK_END)
            tail = file.read(4)
    except (OSError, ValueError):
        return None  # the reader of CSV says what is wrong
    if head[:4] == tail == b"PAR1":
        return PARQUET
    return ARROW if head.startswith(_ARROW_MAGIC) else None


def pieces(path: str | os.PathLike[str], wanted: Wanted, given: Dialect, size: int) -> Iterator[Table]:
    """Yield the rows of a file in tables of at most so many; only these are in memory.

    Raises:
        TableError: as `read` does, once it comes to what is wrong.
    """
    form = format_of(path)
    if form is None:
        return csv.pieces(path, wanted, given, size)
    _check_marks(path, form, given)
    return _by_pyarrow(os.fspath(path), form, wanted, "", size)


def count_rows(path: str | os.PathLike[str]) -> int | None:
    """Return the number of rows of a Parquet file, which says it; None of other files, and of what cannot be read."""
    if format_of(path) != PARQUET:
        return None
    try:
        return int(frames.extra("pyarrow.parquet", "read Parquet files").read_metadata(path).num_rows)
    except Exception:  # whoever reads the rows says what is wrong
        return None


def _check_marks(path: str | os.PathLike[str], form: str, given: Dialect) -> None:
    """Raise a TableError for marks of CSV with a file of another format."""
    if given != Dialect():
        option = "--delimiter" if given.delimiter is not None else "--decimal"
        fail(TableError, f"a CSV file with {option}", f"the {form} file {path}", f"Leave {option} out.")


def _by_pyarrow(path: str, form: str, wanted: Wanted, labels: str, size: int | None = None) -> Iterator[Table]:
    """Yield the wanted columns of a file in tables of so many rows, or of all."""
    pyarrow = frames.extra("pyarrow", f"read {form} files")
    how: dict[str, Any] = {"labels": labels, "kinds": wanted.kinds, "holes": wanted.holes}
    first = 0
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("it is not a regular file")
        for table in _parquet(pyarrow, path, wanted, size) if form == PARQUET else _arrow(pyarrow, path, wanted, size):
            table.validate(full=True)  # offsets that point outside would crash the process
            how["first"] = None if size is None else first
            yield frames.as_table(table, name=path, only=table.column_names, **how)
            first += table.num_rows
    except TableError:
        raise
    except Exception as error:  # a stranger's file may make pyarrow say anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n", 1)[0]
        do = "Check the path and the file."
        raise TableError(f"Expected {_article(form)} file at {path}, got: {reason.rstrip('.')}. {do}") from error
    if size is not None and not first:
        fail(TableError, f"at least one row in {path}", "none", "Check the data.")


def _article(form: str) -> str:
    return f"an {form}" if form[0] in "AEIOU" else f"a {form}"


def _parquet(pyarrow: Any, path: str, wanted: Wanted, size: int | None) -> Iterator[Any]:
    """Yield tables of so many rows of a Parquet file, or of all."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
        names = wanted.names(path, file.schema_arrow.names)
        if size is None:
            yield file.read(columns=names)
            return
        for batch in file.iter_batches(size, columns=names):
            yield pyarrow.Table.from_batches([batch])


def _arrow(pyarrow: Any, path: str, wanted: Wanted, size: int | None) -> Iterator[Any]:
    """Yield tables of so many rows of a file, or a stream, of Arrow; Feather is the same as a file of it."""
    with pyarrow.memory_map(path) as source:
        streams = source.read(4) == _ARROW_MAGIC[1]
        source.seek(0)
        reader = pyarrow.ipc.open_stream(source) if streams else pyarrow.ipc.open_file(source)
        names = wanted.names(path, reader.schema.names)
        if size is None:
            yield reader.read_all().select(names)
            return
        batches = reader if streams else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, size):
                yield pyarrow.Table.from_batches([batch.slice(start, size)]).select(names)
