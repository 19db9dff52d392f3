"""The processes of a cluster: starting, finding and stopping them.

A process belongs to the cluster whose folder is in its environment, and so do the workers that it
starts. No file of process ids is needed, which could be missing or name a foreign process: the
processes are found even if the command that started them has ended.
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
# Flink itself takes a second or two to stop.
_GRACE_S = 10.0
_POLL_S = 0.005


def start_process(
    name: str,
    command: Sequence[str],
    folder: Path,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Starts a process of a cluster, in its own session, with marks by which it is found.

    Args:
      name: Name by which the process is found.
      command: Command line of the process.
      folder: Folder of the cluster.
      log_path: File to which the output of the process is appended.
      environment: Variables in addition to those of this process.
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
    # A process has no environment while its program is loaded, and would look like one that ended.
    while process.poll() is None and _FOLDER not in _marks(psutil.Process(process.pid)):
        time.sleep(_POLL_S)


def find_processes(folder: Path) -> dict[str, list[psutil.Process]]:
    """Returns the running processes of a cluster by name: the started one, then its children.

    Args:
      folder: Folder of the cluster.

    Returns:
      The processes by name, oldest first.
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
    """Stops every process of a cluster, and waits until all have ended.

    Args:
      folder: Folder of the cluster.

    Returns:
      The number of processes.
    """
    stopped: set[int] = set()
    # Repeated, as a process may have started another one before it stopped.
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
    """Returns the environment of a running process; empty if it is another account's or ended."""
    try:
        environment = process.environ()
        is_running = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return {}
    return environment if is_running else {}
