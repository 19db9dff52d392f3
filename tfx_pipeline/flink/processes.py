"""The processes of a cluster: started, found again, stopped.

A process belongs to the cluster whose folder its environment names, and so do the workers that it
starts in its turn. There is no file of process ids that could be missing or name a stranger:
whatever became of the command that started them, they are found.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_FOLDER = "TAGTOWER_FLINK_FOLDER"
_NAME = "TAGTOWER_FLINK_PROCESS"
# Flink's own way down takes a second or two.
_GRACE_S = 10.0
_POLL_S = 0.005


def start_process(
    name: str,
    command: Sequence[str],
    folder: Path,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Starts a process of a cluster, in a session of its own; it can be found afterwards.

    Args:
      name: What it is found by.
      command: Its command line.
      folder: The cluster's folder.
      log_path: File that takes all it prints; appended to.
      environment: Variables beside those of this process.
    """
    marks = {_FOLDER: str(folder), _NAME: name}
    with open(log_path, "ab") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {}), **marks},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # A program that is being loaded has no environment yet, and would pass for one that ended.
    while process.poll() is None and _FOLDER not in _marks(psutil.Process(process.pid)):
        time.sleep(_POLL_S)


def find_processes(folder: Path) -> dict[str, list[psutil.Process]]:
    """By name, the running processes of a cluster: the one started, then its children.

    Args:
      folder: The cluster's folder.

    Returns:
      The processes, oldest first.
    """
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        marks = _marks(process)
        if marks.get(_FOLDER) == str(folder):
            found.setdefault(marks.get(_NAME, ""), []).append(process)
    for processes in found.values():
        processes.sort(key=lambda process: (process.create_time(), process.pid))
    return found


def stop_processes(folder: Path) -> int:
    """Stops every process of a cluster, and waits until all are gone.

    Args:
      folder: The cluster's folder.

    Returns:
      How many there were.
    """
    stopped: set[int] = set()
    # A process that was about to start another may have done so meanwhile.
    while running := [process for group in find_processes(folder).values() for process in group]:
        stopped.update(process.pid for process in running)
        _signal(running, signal.SIGTERM)
        _, alive = psutil.wait_procs(running, timeout=_GRACE_S)
        _signal(alive, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=_GRACE_S)
    return len(stopped)


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _marks(process: psutil.Process) -> dict[str, str]:
    """The environment of a process that runs; empty for others' and for one that has ended."""
    try:
        environment = process.environ()
        is_running = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return {}
    return environment if is_running else {}
