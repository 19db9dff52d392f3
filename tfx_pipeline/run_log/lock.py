"""The lock of an output folder: one run at a time; it is released when its process ends."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator

from tfx_pipeline.config.utc_times import utc_text
from tfx_pipeline.terminal.refusals import OutputInUse
from trainer.contract.file_lock import locked_file

LOCK_FILE = ".lock"


@contextlib.contextmanager
def only_run(output_dir: str) -> Iterator[None]:
    """Locks an output folder, as two runs in it would overwrite each other's files.

    Args:
      output_dir: Output folder, which exists.

    Raises:
      OutputInUse: Another run is using the folder; the message names its process.
    """

    def refusal(owner: str) -> OutputInUse:
        return OutputInUse(
            "`output` must be a folder that no other run is using. "
            f"Received: {output_dir}, in use by {owner or 'a process that has just started'}."
        )

    with locked_file(os.path.join(output_dir, LOCK_FILE), refusal, owner_line()):
        yield


def owner_line() -> str:
    """Returns the line of a lock that names its holder."""
    since = utc_text(int(time.time()))
    return f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
