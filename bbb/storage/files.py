"""Files written atomically: to a temporary file beside, flushed to the disk, read back, compared, then renamed."""

import contextlib
import errno
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bbb import checks
from bbb.errors import WriteError

try:
    import fcntl
except ImportError:  # not a POSIX system
    HAS_LOCKS = False
else:
    HAS_LOCKS = True


TOKEN_BYTES = 4
"""Number of random bytes in the name of a file that is being written."""


CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems that cannot flush a folder, such as some network file systems."""


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, replacing an existing file only once all of the content is safely on the disk.

    Raises:
        WriteError: if the folder does not exist or cannot be written, or the disk is full: an existing file is kept.
            Also if the folder could not be flushed: the new file is complete, but a power cut may restore the old one.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # renaming would replace /dev/null by a file
            raise OSError(f"it is {'a folder' if path.is_dir() else 'a device or a pipe'}")
        clean(path)
        while not _written(path, content):  # rare: another writer took the file for that of a killed run
            pass
    except OSError as error:
        raise _unwritable(path, error) from error
    _flush_folder(path)


def _written(path: Path, content: bytes) -> bool:
    """Write a file beside `path` and rename it; return False if another process removed it before it was locked."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(TOKEN_BYTES)}.tmp")
    try:
        with open(beside, "xb") as file:
            _lock(file.fileno())
            if not beside.exists():  # a process removes a file only while holding its lock, so from here on it is safe
                return False
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if beside.read_bytes() != content:
                raise OSError("what was read back differs from what was written")
            if os.name == "posix":  # while holding the lock; elsewhere an open file cannot be renamed
                os.replace(beside, path)
        if os.name != "posix":
            os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or an earlier error says more
            beside.unlink()
    return True


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces `path` when the block ends; if that raises, nothing is left of it.

    It is for what is too large to be held, and to be read back and compared, as `write` does.

    Raises:
        WriteError: if the folder does not exist or cannot be written, or the disk is full: an existing file is kept.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(TOKEN_BYTES)}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise OSError(f"it is {'a folder' if path.is_dir() else 'a device or a pipe'}")
        clean(path)
        with open(beside, "xb") as file:
            _lock(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or an earlier error says more
            beside.unlink()
    _flush_folder(path)


def _unwritable(path: Path, error: OSError) -> WriteError:
    do = "Check that the folder exists, is writable, and has room."
    return WriteError(f"Expected to be able to write {path}, got: {error.strerror or error}. {do}")


def clean(path: Path) -> None:
    """Remove the half-written files that a killed run left beside `path` and no living process has locked."""
    clean_folder(path.parent, re.compile(re.escape(path.name)))


def clean_folder(path: Path, name: re.Pattern[str]) -> None:
    """Remove half-written files from a folder, whose final names match `name` and that no living process has locked."""
    half_written = re.compile(rf"\.{name.pattern}\.[0-9a-f]{{{2 * TOKEN_BYTES}}}\.tmp")
    for entry in os.scandir(path):
        if half_written.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            _remove_unless_held(entry.path)


def _lock(handle: int) -> None:
    if HAS_LOCKS:
        fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_unless_held(path: str) -> None:
    """Remove a file while holding its lock, unless a living process writes it; without locks, keep it."""
    if not HAS_LOCKS:
        return
    with contextlib.suppress(OSError), open(path, "rb") as file:  # locked, gone, or another user's
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


def folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder if it does not exist, check that files can be written there, and return its path.

    Raises:
        InputError: if `path` is not a path.
        WriteError: if it cannot be created, is a file, or is not writable.
    """
    checks.is_a("folder", path, (str, os.PathLike), 'Pass for example "run".')
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # leaves nothing behind, even if the process is killed here
            pass
    except OSError as error:
        raise _unusable(path, error) from error
    return path


def entries(path: Path) -> list[Path]:
    """Return the paths of all entries of a folder.

    Raises:
        WriteError: if it cannot be listed.
    """
    try:
        return list(path.iterdir())
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> WriteError:
    return WriteError(f"Expected a writable folder, got {path}: {error.strerror or error}. Pass another folder.")


def _flush_folder(path: Path) -> None:
    """Make the renaming of a file survive a power cut, on systems that can flush a folder."""
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
        raise WriteError(
            f"Expected to be able to flush the folder of {path}, got: {error.strerror or error}. "
            "The new file is complete, but a power cut may restore the old one. Check the disk."
        ) from error
