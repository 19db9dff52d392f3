"""One run at a time in an output folder; the lock goes with its process, however that ends."""

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
    """Two runs in one output folder would write each other's files: the second is refused.

    Args:
      output_dir: The folder; it is there.

    Raises:
      OutputInUse: Another run is under way; the message names its process.
    """
    # Not truncated before it is ours: it says whose it is.
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
    """What a lock says of whose it is."""
    since = utc_text(int(time.time()))
    return f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
