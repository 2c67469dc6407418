"""Files that are whole or not there: written beside, flushed to the disk, read back, compared, renamed."""

import contextlib
import errno
import os
import re
import secrets
import tempfile
from pathlib import Path

from bbb import _check

try:
    import fcntl
except ImportError:  # not a POSIX system
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

TOKEN_BYTES = 4
"""Random bytes in the name of a file that is being written."""

CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP)
"""What file systems say that have no way to flush a folder, such as some of networks."""


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` at `path`, replacing what was there only once the whole of it is safe on the disk.

    Raises:
        WriteError: if the folder does not exist, cannot be written, or the disk is full. What was there stays. Or if
            the folder could not be flushed: then the whole new file is there, but a power cut may bring the old back.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # /dev/null would become a file
            raise OSError(f"it is {'a folder' if path.is_dir() else 'a device or a pipe'}")
        clean(path)
        while not _written(path, content):  # another writer took it for a killed run's, which is rare
            pass
    except OSError as error:
        raise _check.WriteError(
            f"Expected to be able to write {path}, got: {error.strerror or error}. "
            "Check that the folder exists, may be written, and has room."
        ) from error
    _flush_folder(path)


def _written(path: Path, content: bytes) -> bool:
    """Write beside `path`, and rename; or tell that another process removed the file before it was locked."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(TOKEN_BYTES)}.tmp")
    try:
        with open(beside, "xb") as file:
            _lock(file.fileno())
            if not beside.exists():  # whoever removes one holds its lock, so that from here on nobody does
                return False
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if beside.read_bytes() != content:
                raise OSError("what was read back differs from what was written")
            if os.name == "posix":  # in the lock's hold; elsewhere an open file cannot be renamed
                os.replace(beside, path)
        if os.name != "posix":
            os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):  # there is none, or what went wrong before has more to say
            beside.unlink()
    return True


def clean(path: Path) -> None:
    """Remove what a killed run left beside `path`: half-written files that no living process holds."""
    clean_folder(path.parent, re.compile(re.escape(path.name)))


def clean_folder(path: Path, name: re.Pattern[str]) -> None:
    """Remove what a killed run left of files of such names: half-written ones that no living process holds."""
    half_written = re.compile(rf"\.{name.pattern}\.[0-9a-f]{{{2 * TOKEN_BYTES}}}\.tmp")
    for entry in os.scandir(path):
        if half_written.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            _remove_unless_held(entry.path)


def _lock(handle: int) -> None:
    if HAS_LOCKS:
        fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_unless_held(path: str) -> None:
    """Remove a file that no living process writes, in the hold of its lock; where that cannot be known, leave it."""
    if not HAS_LOCKS:
        return
    with contextlib.suppress(OSError), open(path, "rb") as file:  # held, gone, or another user's
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


def folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and check that files can be written there.

    Raises:
        WriteError: if it cannot be made, is a file, or cannot be written.
    """
    _check.is_a("folder", path, (str, os.PathLike), 'Pass for example "run".')
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # which leaves nothing behind, even if the process is killed here
            pass
    except OSError as error:
        raise _unusable(path, error) from error
    return path


def entries(path: Path) -> list[Path]:
    """List what is in a folder.

    Raises:
        WriteError: if it cannot be listed.
    """
    try:
        return list(path.iterdir())
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> _check.WriteError:
    return _check.WriteError(
        f"Expected a folder that can be written, got {path}: {error.strerror or error}. Pass another folder."
    )


def _flush_folder(path: Path) -> None:
    """Make the renaming of a file itself survive a power cut, on systems that can flush a folder."""
    if os.name != "posix":
        return
    try:
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in CANNOT_FLUSH:
            return
        raise _check.WriteError(
            f"Expected to be able to flush the folder of {path}, got: {error.strerror or error}. "
            "The whole new file is there, but a power cut may bring the old one back. Check the disk."
        ) from error
