"""A full disk, in one line: which folder, how much is free there, and what to do.

Python says `OSError`, TensorFlow, Beam and SQLite put the system's words into errors of their own,
and what clears up after an error may fail by the same. So the whole chain of an error is looked at.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator

_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORDS = re.compile(
    "No space left on device|Disk quota exceeded|File too large|database or disk is full"
    # Python's own words, which looks for one by writing a file.
    "|No usable temporary directory found",
    re.I,
)
# A path that such a text names, as in `RESOURCE_EXHAUSTED: /a/b; No space left on device`.
_PATH = re.compile(r"(?<![\w/])/[^\s;:,'\"\[\]]+")
_MB = 1e6


class FullDiskError(ValueError):
    """A disk is full, in one line."""


@contextlib.contextmanager
def in_one_line(*folders: str) -> Iterator[None]:
    """Turns whatever a full disk makes libraries say into one line.

    Args:
      *folders: Where is written, for errors that name no file.

    Raises:
      FullDiskError: A disk is full. Any other error stays as it is.
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
    """What to say of an error.

    Args:
      error: Any.
      folders: Where was written; the working folder, that of temporary files and those into which
        the output is redirected are looked at as well.

    Returns:
      The line; None: the error is of something else.
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
    return _sentence(folder, reason, free, "by TMPDIR another" if is_temporary else "another")


def _sentence(folder: str, reason: str, free: str, other: str) -> str:
    return (
        f"{folder} must have room to write: {reason}, {free} are free there. Make room or name "
        f"{other} folder; the same command then goes on where it was."
    )


def _place(named: str | None, folders: Iterable[str]) -> str:
    """The folder of the file that an error names, or else that with the least room."""
    if named is not None:
        return _nearest(named)
    places = [_nearest(folder) for folder in folders]
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if os.path.isfile(target):
                places.append(os.path.dirname(target))
    places += [os.getcwd(), _temporary()]
    return min(places, key=_free)


def _temporary() -> str:
    """Where temporary files go; `tempfile` would look for another place where that is full."""
    return _nearest(os.environ.get("TMPDIR") or "/tmp")


def _free(folder: str) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 1 << 62


def _nearest(path: str) -> str:
    """A folder that is there: of a file, or of what could not be made, the next one above."""
    path = os.path.abspath(path)
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with its causes, and those that it came in the way of."""
    pending, seen = [error], set()
    while pending:
        one = pending.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        pending += [other for other in (one.__cause__, one.__context__) if other is not None]
