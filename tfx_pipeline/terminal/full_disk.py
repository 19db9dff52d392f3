"""A full disk, reported in one line: the folder, the free space there, and the remedy.

Python raises `OSError`; TensorFlow, Beam and SQLite put the system's message into their own errors,
and cleaning up after an error may fail in the same way. So the whole chain of an error is examined.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator

from trainer.contract.file_system import is_file, is_folder

_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORDS = re.compile(
    "No space left on device|Disk quota exceeded|File too large|database or disk is full"
    # Python's message when it finds no folder in which it can write a test file.
    "|No usable temporary directory found",
    re.I,
)
# A path in such a message, e.g. `RESOURCE_EXHAUSTED: /a/b; No space left on device`.
_PATH = re.compile(r"(?<![\w/])/[^\s;:,'\"\[\]]+")
_MB = 1e6


class FullDiskError(ValueError):
    """The error that a disk is full, in one line."""


@contextlib.contextmanager
def in_one_line(*folders: str) -> Iterator[None]:
    """Turns the errors that a full disk causes in libraries into one line.

    Args:
      *folders: Folders that are written to, for errors that name no file.

    Raises:
      FullDiskError: A disk is full. Other errors are not changed.
    """
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:
        line = full_disk(error, folders)
        if line is None:
            raise
        raise FullDiskError(line) from error


def full_disk(error: BaseException, folders: Iterable[str] = ()) -> str | None:
    """Returns the line that reports a full disk, if an error comes from one.

    Args:
      error: Any error.
      folders: Folders that were written to; the working folder, that of temporary files and those
        of redirected output are examined as well.

    Returns:
      The line; None: the error has another cause.
    """
    if isinstance(error, FullDiskError):
        return str(error)
    for one in _chain(error):
        words = _WORDS.search(str(one))
        if isinstance(one, OSError) and one.errno in _ERRNOS:
            reason = os.strerror(one.errno)
            named = one.filename if isinstance(one.filename, str) else None
        elif words is not None:
            reason = words[0]
            before, after = str(one)[: words.start()], str(one)[words.end() :]
            paths = [*reversed(_PATH.findall(before)), *_PATH.findall(after)]
            named = next(iter(paths), None)
        else:
            continue
        return _line(_place(named, folders), reason)
    return None


def _line(folder: str, reason: str) -> str:
    try:
        free = f"{shutil.disk_usage(folder).free / _MB:.1f} MB"
    except OSError:
        free = "an unknown number of MB"
    is_temporary = os.path.realpath(folder) == os.path.realpath(_temporary())
    other = "another folder by TMPDIR" if is_temporary else "another folder"
    return _sentence(folder, reason, free, other)


def _sentence(folder: str, reason: str, free: str, other: str) -> str:
    return (
        f"{folder} must have room to write: {reason}, {free} are free there. Make room, or name "
        f"{other}; the same command then goes on where it was."
    )


def _place(named: str | None, folders: Iterable[str]) -> str:
    """Returns the folder of the file that an error names, or else the one with the least room."""
    if named is not None:
        return _nearest(named)
    places = [_nearest(folder) for folder in folders]
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if is_file(target):
                places.append(os.path.dirname(target))
    places += [os.getcwd(), _temporary()]
    return min(places, key=_free)


def _temporary() -> str:
    """Returns the folder of temporary files; `tempfile` would choose another if it is full."""
    return _nearest(os.environ.get("TMPDIR") or "/tmp")


def _free(folder: str) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 1 << 62


def _nearest(path: str) -> str:
    """Returns the path if it is an existing folder, otherwise the nearest existing one above."""
    path = os.path.abspath(path)
    while not is_folder(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error with its causes and the errors during whose handling it was raised."""
    pending, seen = [error], set()
    while pending:
        one = pending.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        pending += [other for other in (one.__cause__, one.__context__) if other is not None]
