"""The lock of a base path: one process at a time changes it, whatever its output folder.

Pushing, rolling back, reindexing and clearing away hold the lock of every base path that they
change, from reading its state to the last rename. The lock is a file in the folder, whose name no
server takes for a version; it is released when its process ends, in whatever way.

An object store has no locks: there users must not start two pushes at once.
"""

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from tfx_pipeline.run_log.lock import owner_line
from tfx_pipeline.terminal.refusals import OutputInUse
from trainer.contract.file_lock import take_lock, write_holder
from trainer.contract.file_system import (
    exists,
    is_remote,
    make_folders,
    names_in,
    remove_folder,
)
from trainer.contract.owner_marks import is_abandoned, new_mark

LOCK_FILE = ".lock"
PATIENCE_S = 600.0
# The prefix of names that no server takes for a version.
_STAGING_PREFIX = ".staging-"
# Errors of mounts without locks, such as NFS with `nolock`, or without locks for read-only files.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
_POLL_S = 0.05
_SILENT_S = 2.0

_logger = logging.getLogger("tagtower.base_path")


class _Held(threading.local):
    """The locks of this thread, so that code that holds one may call code that takes it."""

    def __init__(self) -> None:
        self.paths: set[str] = set()


_held = _Held()


@contextlib.contextmanager
def locked(base_paths: Iterable[str], patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Holds the locks of base paths; waits for other processes that have one.

    Args:
      base_paths: Folders of versions, created where missing. Remote ones have no lock.
      patience_s: Longest wait for each lock in seconds.

    Raises:
      OutputInUse: Another push or roll-back did not end in time; the line names its process.
    """
    paths = {os.path.realpath(path) for path in base_paths if not is_remote(path)}
    with contextlib.ExitStack() as stack:
        # All processes take locks in the same order, so that no two wait for each other.
        for path in sorted(paths - _held.paths):
            make_folders(path)
            stack.enter_context(_lock(path, patience_s))
            _held.paths.add(path)
            stack.callback(_held.paths.discard, path)
        yield


def new_staging(base_path: str) -> str:
    """Returns a new path at a base path for a folder in which a version is built."""
    return os.path.join(base_path, f"{_STAGING_PREFIX}{new_mark()}")


def remove_abandoned_staging(base_path: str) -> int:
    """Removes what killed pushes have left; the caller holds the lock.

    Args:
      base_path: Folder of versions.

    Returns:
      Number of removed folders; those of running processes, or of other machines, are kept.
    """
    names = [name for name in names_in(base_path) if name.startswith(_STAGING_PREFIX)]
    abandoned = [path for name in names if is_abandoned(path := os.path.join(base_path, name))]
    for path in abandoned:
        remove_folder(path)
    return len(abandoned)


@contextlib.contextmanager
def _lock(base_path: str, patience_s: float) -> Iterator[None]:
    with _opened(base_path, patience_s) as lock:
        if lock.writable():
            write_holder(lock, owner_line())
        yield


@contextlib.contextmanager
def _opened(base_path: str, patience_s: float) -> Iterator[TextIO]:
    """Opens the lock file and waits until this process holds the lock."""
    path = os.path.join(base_path, LOCK_FILE)
    began = time.monotonic()
    has_said = False
    while True:
        with _open(path) as lock:
            if _is_taken(lock) and _is_still(lock, path):
                yield lock
                return
            lock.seek(0)
            owner = lock.read().strip() or "a process that has just started"
        waited_s = time.monotonic() - began
        if waited_s > patience_s:
            raise OutputInUse(
                "`base_path` must be a folder that no other push or roll-back is using. "
                f"Received: {base_path}, in use by {owner}."
            )
        if waited_s > _SILENT_S and not has_said:
            _logger.warning("waiting for %s, which pushes to or rolls back %s", owner, base_path)
            has_said = True
        time.sleep(_POLL_S)


def _open(path: str) -> TextIO:
    """Opens the lock file; one of another account is opened for reading, enough to lock it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not exists(path):
            raise
        descriptor = os.open(path, os.O_RDONLY)
        return open(descriptor, encoding="utf-8", errors="replace")
    with contextlib.suppress(PermissionError):
        os.fchmod(descriptor, 0o644)  # whatever the umask: other accounts must be able to read it
    return open(descriptor, "r+", encoding="utf-8", errors="replace")


def _is_taken(lock: TextIO) -> bool:
    try:
        return take_lock(lock)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _logger.warning("%s cannot be locked: push to it with one process at a time", lock.name)
        return True


def _is_still(lock: TextIO, path: str) -> bool:
    """Returns whether the file is still at its path: the folder may have been removed."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
    except FileNotFoundError:
        make_folders(os.path.dirname(path))
        return False
