"""Reading a table from a file of any format: CSV, or Parquet, Arrow and Feather by pyarrow (extra `tables`)."""

import os
import stat
from collections.abc import Mapping, Sequence
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

    To train on the words, the dates and the holes of a file:

        table = bbb.tables.read("houses.parquet", kinds="any", holes=True)
        recipe = bbb.tables.Recipe(missing="indicator")
        model, history = bbb.tables.fit_table(table, "price", recipe=recipe)
        model.predict(model.read("new.parquet"))

    Raises:
        TableError: as `csv.read` does; and if pyarrow cannot read the file, or is not there.
        InputError: if the delimiter or the decimal mark is another character.
    """
    given = Dialect(delimiter, decimal)
    form = format_of(path)
    if form is None:
        options: dict[str, Any] = {"delimiter": delimiter, "decimal": decimal}
        return csv.read(path, drop=drop, only=only, labels=labels, kinds=kinds, holes=holes, **options)
    if given != Dialect():
        option = "--delimiter" if delimiter is not None else "--decimal"
        fail(TableError, f"a CSV file with {option}", f"the {form} file {path}", f"Leave {option} out.")
    return _by_pyarrow(os.fspath(path), form, Wanted(drop, only, kinds, holes), labels)


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


def _by_pyarrow(path: str, form: str, wanted: Wanted, labels: str) -> Table:
    """Return the wanted columns of a file."""
    pyarrow = frames.extra("pyarrow", f"read {form} files")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("it is not a regular file")
        table = _parquet(path, wanted) if form == PARQUET else _arrow(pyarrow, path, wanted)
        table.validate(full=True)  # offsets that point outside would crash the process
        how: dict[str, Any] = {"labels": labels, "kinds": wanted.kinds, "holes": wanted.holes}
        return frames.as_table(table, name=path, only=table.column_names, **how)
    except TableError:
        raise
    except Exception as error:  # a stranger's file may make pyarrow say anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n", 1)[0]
        do = "Check the path and the file."
        raise TableError(f"Expected {_article(form)} file at {path}, got: {reason.rstrip('.')}. {do}") from error


def _article(form: str) -> str:
    return f"an {form}" if form[0] in "AEIOU" else f"a {form}"


def _parquet(path: str, wanted: Wanted) -> Any:
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

    with pq.ParquetFile(path) as file:
        names = wanted.names(path, file.schema_arrow.names)
        return file.read(columns=names)


def _arrow(pyarrow: Any, path: str, wanted: Wanted) -> Any:
    """Return the table of a file, or a stream, of Arrow; Feather is the same as a file of it."""
    with pyarrow.memory_map(path) as source:
        streams = source.read(4) == _ARROW_MAGIC[1]
        source.seek(0)
        reader = pyarrow.ipc.open_stream(source) if streams else pyarrow.ipc.open_file(source)
        names = wanted.names(path, reader.schema.names)
        return reader.read_all().select(names)
