"""Detects whether a process that is waited for makes progress, however slowly.

A wait of a fixed number of seconds is too short on a busy machine and too long for a process that
hangs. So a wait ends when the process has ended, or when it has done no work for a while: work is
processor time and bytes read and written, which both increase even on a busy machine.
"""

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from trainer.contract.file_system import open_file

PATIENCE_S = 120.0

_MIN_SHARE = 1 / 60
# Number of bytes read or written that counts as much as a second of processor time.
_BYTES_PER_SECOND = 4e6
# A longer time between two looks means that the watcher, and so the watched process, was suspended.
_MAX_STEP_S = 5.0
_NUM_LAST_LINES = 3
_MAX_LINE = 300


class ProcessProgress:
    """Measures the work of processes and their children.

    Args:
      process_ids: Function that returns the ids of the processes, called at every look.
      patience_s: Number of seconds without work after which processes count as standing still.
      min_share: Smallest share of a processor that counts as work; a process that only polls uses
        less.
      clock: Function that returns the time in seconds.
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
        """Measures the work; returns whether there was none for as long as the patience lasts."""
        now = self._clock()
        self._idle_s += min(now - self._last_look, _MAX_STEP_S)
        self._last_look = now
        work = sum(map(_work, self._process_ids()))
        if work - self._work >= self._min_work:
            self._work, self._idle_s = work, 0.0
        else:
            # The work of a child that has ended is no longer known.
            self._work = min(self._work, work)
        return self._idle_s > self.patience_s


def stop_process(process: subprocess.Popen[Any], patience_s: float = PATIENCE_S) -> None:
    """Asks a process to stop and waits until it has; kills one that stands still."""
    process.terminate()
    progress = ProcessProgress(lambda: [process.pid], patience_s)
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        if process.poll() is None and progress.is_standing_still():
            process.kill()
            process.wait()


def how_it_ended(status: int) -> str:
    """Returns an exit status in words, e.g. `it ended with status 1`."""
    if status >= 0:
        return f"it ended with status {status}"
    return f"it was ended by {signal.Signals(-status).name}"


def last_words(log_path: str | Path, offset: int = 0) -> str:
    """Returns the last lines of a log in one line, without the stacks of tracebacks.

    Args:
      log_path: Path of the log.
      offset: Position in the file at which the process's output begins.

    Returns:
      The lines, and the path of the log.
    """
    # Indented lines belong to a stack.
    lines = re.findall(r"^\S.*$", log_text(log_path, offset), re.MULTILINE)
    said = [line for line in lines if _says_something(line)]
    words = " | ".join(line.strip()[:_MAX_LINE] for line in said[-_NUM_LAST_LINES:])
    return f"{words or 'it printed nothing'} (see {log_path})"


def log_text(log_path: str | Path, offset: int = 0) -> str:
    """Returns a log from a position in the file on; "" where it cannot be read."""
    with contextlib.suppress(OSError), open_file(str(log_path), "rb") as file:
        file.seek(offset)
        text: str = file.read().decode(errors="replace")
        return text
    return ""


def _says_something(line: str) -> bool:
    return not line.startswith("Traceback (most recent call last)")


def _work(process_id: int) -> float:
    """Returns the work of a process and its children since their start, in seconds."""
    try:
        process = psutil.Process(process_id)
        processes = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    return sum(map(_own_work, processes))


def _own_work(process: psutil.Process) -> float:
    try:
        seconds = sum(process.cpu_times()[:4])  # its own, and those of its ended children
        moved = process.io_counters()
        return seconds + (moved.read_chars + moved.write_chars) / _BYTES_PER_SECOND
    except (psutil.Error, OSError):
        return 0.0
