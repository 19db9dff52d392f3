"""Whether a process that is waited for gets further, however slowly.

A wait of a fixed number of seconds is too short on a busy machine and too long for a process that
hangs. So a wait ends when the process has ended, or when it has done no work for a while: work is
time on a processor and what it has read and written, and both go on on a busy machine.
"""

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PATIENCE_S = 120.0

_MIN_SHARE = 1 / 60
# So much read or written is as good as a second on a processor.
_BYTES_PER_SECOND = 4e6
# Longer between two looks is the watcher's own sleep: it was stopped, and so was what it watches.
_MAX_STEP_S = 5.0
_NUM_LAST_LINES = 3
_MAX_LINE = 300


class ProcessProgress:
    """The work of processes, their children's as well.

    Args:
      process_ids: Names the processes, at every look anew.
      patience_s: Seconds without work after which they count as standing still.
      min_share: Part of a processor that a process gets at least while it works; one that only
        looks again and again whether there is something to do gets less.
      clock: Seconds.
    """

    def __init__(
        self,
        process_ids: Callable[[], list[int]],
        patience_s: float = PATIENCE_S,
        *,
        min_share: float = _MIN_SHARE,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.patience_s = patience_s
        self._min_work = min_share * patience_s
        self._process_ids = process_ids
        self._clock = clock
        self._last_look = clock()
        self._idle_s = 0.0
        self._work = 0.0

    def is_standing_still(self) -> bool:
        """Looks; whether nothing was done for as long as the patience lasts."""
        now = self._clock()
        self._idle_s += min(now - self._last_look, _MAX_STEP_S)
        self._last_look = now
        work = sum(map(_work, self._process_ids()))
        if work - self._work >= self._min_work:
            self._work, self._idle_s = work, 0.0
        else:
            # Of a child that is gone nobody knows any more what it did.
            self._work = min(self._work, work)
        return self._idle_s > self.patience_s


def stop_process(process: subprocess.Popen, patience_s: float = PATIENCE_S) -> None:
    """Tells a process to stop and waits until it has; kills one that stands still."""
    process.terminate()
    progress = ProcessProgress(lambda: [process.pid], patience_s)
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        if process.poll() is None and progress.is_standing_still():
            process.kill()
            process.wait()


def how_it_ended(status: int) -> str:
    """An exit status in words, as `it ended with status 1`."""
    if status >= 0:
        return f"it ended with status {status}"
    return f"it was ended by {signal.Signals(-status).name}"


def last_words(log_path: str | Path, offset: int = 0) -> str:
    """The last lines of a log in one line, without the stacks of tracebacks.

    Args:
      log_path: The log.
      offset: Where in the file what it says begins.

    Returns:
      The lines, and where to read on.
    """
    text = ""
    with contextlib.suppress(OSError), open(log_path, "rb") as file:
        file.seek(offset)
        text = file.read().decode(errors="replace")
    # What is indented is a stack.
    said = [line for line in re.findall(r"^\S.*$", text, re.MULTILINE) if _says_something(line)]
    words = " | ".join(line.strip()[:_MAX_LINE] for line in said[-_NUM_LAST_LINES:])
    return f"{words or 'it said nothing'} (see {log_path})"


def _says_something(line: str) -> bool:
    return not line.startswith("Traceback (most recent call last)")


def _work(process_id: int) -> float:
    """What a process and its children have done since they began, in seconds."""
    try:
        process = psutil.Process(process_id)
        processes = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    return sum(map(_own_work, processes))


def _own_work(process: psutil.Process) -> float:
    try:
        seconds = sum(process.cpu_times()[:4])  # its own, and its children's that have ended
        moved = process.io_counters()
        return seconds + (moved.read_chars + moved.write_chars) / _BYTES_PER_SECOND
    except (psutil.Error, OSError):
        return 0.0
