"""The lock of an output folder: one run at a time; it is released when its process ends."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator

from tfx_pipeline.config.utc_times import utc_text
from tfx_pipeline.terminal.refusals import OutputInUse

LOCK_FILE = ".lock"


@contextlib.contextmanager
def only_run(output_dir: str) -> Iterator[None]:
    """Locks an output folder, as two runs in it would overwrite each other's files.

    Args:
      output_dir: Output folder, which exists.

    Raises:
      OutputInUse: Another run is using the folder; the message names its process.
    """
    # Truncated only once the lock is held, as the content names its holder.
    with open(
        os.path.join(output_dir, LOCK_FILE), "a+", encoding="utf-8", errors="replace"
    ) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "a process that has just started"
            raise OutputInUse(
                "`output` must be a folder that no other run is using. "
                f"Received: {output_dir}, in use by {owner}."
            ) from error
        lock.truncate(0)
        lock.write(owner_line())
        lock.flush()
        yield


def owner_line() -> str:
    """Returns the line of a lock that names its holder."""
    since = utc_text(int(time.time()))
    return f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
