"""Files of rows that are too many to be held: read, and written, some at a time."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bbb.storage import files
from bbb.tables import csv, formats, frames

ROWS = 1 << 16
"""Rows that are read, predicted and written at a time."""


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Return whether a file of this name is written as Parquet."""
    return formats.SUFFIXES.get(Path(path).suffix.lower()) == formats.PARQUET


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Callable[[Mapping[str, np.ndarray]], None]]:
    """Yield what appends rows, given as columns by name, to a file: Parquet if its name says so, else CSV.

    The file replaces an old one when the block ends; if that raises, nothing is left of it. The names and the types of
    the first columns are those of all.

    Raises:
        TableError: if pyarrow, which Parquet needs, is not installed.
        WriteError: if the file cannot be written.
    """
    if is_parquet(path):
        frames.extra("pyarrow", "write Parquet files")
    with files.writing(path) as file, (_parquet if is_parquet(path) else _csv)(file) as append:
        yield append


@contextlib.contextmanager
def _csv(file: BinaryIO) -> Iterator[Callable[[Mapping[str, np.ndarray]], None]]:
    begun = False

    def append(columns: Mapping[str, np.ndarray]) -> None:
        nonlocal begun
        file.write(csv.text(columns, header=not begun).encode())
        begun = True

    yield append


@contextlib.contextmanager
def _parquet(file: BinaryIO) -> Iterator[Callable[[Mapping[str, np.ndarray]], None]]:
    import pyarrow  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    writer: Any = None

    def append(columns: Mapping[str, np.ndarray]) -> None:
        nonlocal writer
        table = pyarrow.table({name: np.asarray(values) for name, values in columns.items()})
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield append
    finally:
        if writer is not None:
            writer.close()
