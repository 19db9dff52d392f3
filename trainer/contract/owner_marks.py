"""Marks in the names of unfinished files and folders that say which process writes them.

The mark tells what a killed process left from what a running one is writing. It holds the machine,
the process id and when the process began (ids are used again). Standard library alone.
"""

import hashlib
import os
import re
import socket
import time
import uuid

# Whether a process of another machine still runs cannot be known: its files count as abandoned
# after a day without a change. Files without a mark, which older releases wrote, after an hour.
_FOREIGN_AGE_S = 24 * 3600.0
_UNMARKED_AGE_S = 3600.0
_MARK = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<process>\d+)-(?P<start>\d+)-[0-9a-f]{12}")


def new_mark() -> str:
    """Returns a unique mark for the name of one file or folder that this process writes."""
    process = os.getpid()
    return f"{_host()}-{process}-{_start_of(process)}-{uuid.uuid4().hex[:12]}"


def has_mark(path: str) -> bool:
    """Returns whether a name has a mark, as only names that tagtower gives have."""
    return _MARK.search(os.path.basename(path)) is not None


def is_abandoned(path: str) -> bool:
    """Returns whether no process writes an unfinished file or folder, so that it can be removed.

    Args:
      path: Local path, whose name holds a mark, or none if an older release wrote it.

    Returns:
      Whether the process has ended or, where that cannot be known, nothing has changed for long.
    """
    mark = _MARK.search(os.path.basename(path))
    if mark is None:
        return _age_s(path) > _UNMARKED_AGE_S
    if mark["host"] != _host():
        return _age_s(path) > _FOREIGN_AGE_S
    return _start_of(int(mark["process"])) != mark["start"]


def _host() -> str:
    """Returns a hash of this machine and its namespace of process ids: a container has its own."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.blake2b(
        f"{socket.gethostname()} {namespace}".encode(), digest_size=4
    ).hexdigest()


def _start_of(process: int) -> str:
    """Returns when a process began, in ticks since the machine's start; "": there is no process."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _age_s(path: str) -> float:
    """Returns the seconds since anything in a file or folder changed; 0: it cannot be read."""
    newest = 0.0
    try:
        newest = os.lstat(path).st_mtime
        if os.path.islink(path):  # its target belongs to others
            return time.time() - newest
        for parent, _, names in os.walk(path):
            times = (os.lstat(os.path.join(parent, name)).st_mtime for name in names)
            newest = max(newest, os.lstat(parent).st_mtime, *times)
    except OSError:
        return 0.0
    return time.time() - newest
