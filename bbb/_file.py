"""Files that are whole or not there: written beside, flushed to the disk, read back, compared, renamed."""

import contextlib
import os
import secrets
from pathlib import Path

from bbb import _check


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` at `path`, replacing what was there only once the whole of it is safe on the disk.

    Raises:
        WriteError: if the folder does not exist, cannot be written, or the disk is full. What was there stays.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(beside, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if beside.read_bytes() != content:
                raise OSError("what was read back differs from what was written")
            os.replace(beside, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
        _flush_folder(path.parent)
    except OSError as error:
        raise _check.WriteError(
            f"Expected to be able to write {path}, got: {error.strerror or error}. "
            "Check that the folder exists, may be written, and has room."
        ) from error


def folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and check that files can be written there.

    Raises:
        WriteError: if it cannot be made, is a file, or cannot be written.
    """
    path = Path(path)
    probe = path / f".{secrets.token_hex(4)}.tmp"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _check.WriteError(
            f"Expected a folder that can be written, got {path}: {error.strerror or error}. Pass another folder."
        ) from error
    return path


def _flush_folder(path: Path) -> None:
    """Make the renaming itself survive a power cut, on systems that can flush a folder."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
