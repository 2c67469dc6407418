"""Writing the output of commands: text, tables and JSON."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bbb.errors import WriteError
from bbb.storage import files


def say(text: str) -> None:
    """Write data to stdout, and flush it.

    Raises:
        BrokenPipeError: if the reader has closed the pipe.
        WriteError: if it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python flushes again when it ends
        if isinstance(error, BrokenPipeError):
            raise
        do = "Check its permissions, and the space that is left."
        raise WriteError(f"Expected to be able to write to stdout, got: {error.strerror}. {do}") from error


def output_file(name: str) -> Path:
    """Return the path of a file to write, and make its folder, so that errors come before the computation.

    Raises:
        WriteError: if there is something other than a file, or the folder cannot be made.
    """
    out = Path(name)
    if out.exists() and not out.is_file():
        kind = "folder" if out.is_dir() else "device or pipe"
        raise WriteError(f"Expected --out to be a file, got the {kind} {out}. Pass a file's name.")
    files.folder(out.parent)
    return out


def as_json(columns: dict[str, Any]) -> str:
    """Return columns as a JSON list of one object per row."""
    lists = [np.asarray(values).tolist() for values in columns.values()]
    return json.dumps([dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)], indent=1) + "\n"


def aligned(texts: Mapping[str, str]) -> list[str]:
    """Return one line for each name and its text, with all texts in one column."""
    width = max(map(len, texts))
    return [f"{name:<{width}}  {text}" for name, text in texts.items()]
