"""Names of unfinished files and folders that say which process makes them.

What a killed process leaves is told by its name from what another one is writing: a mark holds the
machine, the process and when that began (ids are used again). Standard library alone.
"""

import hashlib
import os
import re
import socket
import time
import uuid

# Of another machine nobody knows whether its processes run: what it left counts as left after a day
# without a change. So does what has no mark, as older releases wrote it, after an hour.
_FOREIGN_AGE_S = 24 * 3600.0
_UNMARKED_AGE_S = 3600.0
_MARK = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<process>\d+)-(?P<start>\d+)-[0-9a-f]{12}")


def new_mark() -> str:
    """A text for the name of one file or folder that this process makes; no two are the same."""
    process = os.getpid()
    return f"{_host()}-{process}-{_start_of(process)}-{uuid.uuid4().hex[:12]}"


def has_mark(path: str) -> bool:
    """Whether a name says whose it is, as only names of ours do."""
    return _MARK.search(os.path.basename(path)) is not None


def is_abandoned(path: str) -> bool:
    """Whether nobody makes an unfinished file or folder any more, so that it can be removed.

    Args:
      path: Local; its name holds a mark, or none where an older release made it.

    Returns:
      True: its process is no more; where that cannot be known, it has not changed for long.
    """
    mark = _MARK.search(os.path.basename(path))
    if mark is None:
        return _age_s(path) > _UNMARKED_AGE_S
    if mark["host"] != _host():
        return _age_s(path) > _FOREIGN_AGE_S
    return _start_of(int(mark["process"])) != mark["start"]


def _host() -> str:
    """This machine, as far as process ids mean the same: a container has ids of its own."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.blake2b(
        f"{socket.gethostname()} {namespace}".encode(), digest_size=4
    ).hexdigest()


def _start_of(process: int) -> str:
    """When a process began, in ticks since the machine did; "": there is none."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _age_s(path: str) -> float:
    """Seconds since anything in a file or folder changed; 0: it is gone or cannot be looked at."""
    newest = 0.0
    try:
        newest = os.lstat(path).st_mtime
        if os.path.islink(path):  # what it points at is another's
            return time.time() - newest
        for parent, _, names in os.walk(path):
            times = (os.lstat(os.path.join(parent, name)).st_mtime for name in names)
            newest = max(newest, os.lstat(parent).st_mtime, *times)
    except OSError:
        return 0.0
    return time.time() - newest
