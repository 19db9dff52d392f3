"""Starts a cluster on this machine, reports its state, and stops it."""

import contextlib
import dataclasses
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfx_pipeline.engines.process_progress import ProcessProgress, log_text
from tfx_pipeline.flink import launch
from tfx_pipeline.flink.java_class_path import find_java, jars_folder, resolve_class_path
from tfx_pipeline.flink.launch import LocalCluster, load_cluster
from tfx_pipeline.flink.processes import find_processes, start_process, stop_processes
from trainer.contract.file_lock import locked_file

_POLL_S = 0.1
# A Java process that only waits for another, and logs so, uses a few hundredths of a processor.
_MIN_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class ProcessState:
    """The state of a process of the cluster.

    Attributes:
      name: Name of the process.
      pid: Id of the process; None: it does not run.
      is_ready: Whether the process answers.
    """

    name: str
    pid: int | None
    is_ready: bool


def bring_up(
    folder: Path,
    options: Mapping[str, Any],
    patience_s: float,
    on_progress: Callable[[str], None],
) -> LocalCluster:
    """Starts the processes that are not running yet, and waits until all answer.

    A running cluster is left as it is; if it has lost a process, that process is started again.

    Args:
      folder: Folder for settings, logs and Flink's temporary files.
      options: Requested options of the cluster, by the names of `LocalCluster`'s attributes; others
        are those of a running cluster, or of `launch.DEFAULTS`. A port of 0 is any free one.
      patience_s: Longest time without work of a process that does not answer yet, in seconds.
      on_progress: Function called with a line on each step.

    Returns:
      The running cluster.

    Raises:
      ValueError: Java or Maven is missing, a port is taken, the folder's cluster runs with other
        options, or a process did not start. A cluster that was not running before is then stopped
        again.
    """
    folder = folder.resolve()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with _only_command(folder):
        running = load_cluster(folder) if find_processes(folder) else None
        if running is not None:
            _check_options(running, options)
        java = find_java()
        if not jars_folder().is_dir():
            on_progress("fetching Flink's jars with Maven, 150 MB ...")
        class_paths = {
            is_sent_along: resolve_class_path(folder / "logs" / "maven.log", is_sent_along)
            for is_sent_along in (False, True)
        }
        try:
            if running is None:
                # Processes in the folder that belong to no recorded cluster.
                stop_processes(folder)
            cluster = running or _new_cluster(folder, {**launch.DEFAULTS, **options})
            found = find_processes(folder)
            for name in cluster.processes:
                if name not in found:
                    on_progress(f"starting {name} ...")
                    command = cluster.command(name, java, class_paths[cluster.is_elsewhere])
                    start_process(name, command, folder, cluster.log_path(name))
            _wait(cluster, patience_s)
        except BaseException:
            if running is None:
                stop_processes(folder)
            raise
    return cluster


def _check_options(running: LocalCluster, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        is_any_port = name.endswith("_port") and value == 0
        if not is_any_port and getattr(running, name) != value:
            raise ValueError(
                f"`{name}` must be that of the running cluster, {getattr(running, name)}, or "
                f"`tagtower flink down` must stop it first. Received: {value}."
            )


def take_down(folder: Path) -> int:
    """Stops all processes of a folder's cluster; returns their number."""
    folder = folder.resolve()
    return stop_processes(folder)


def process_states(cluster: LocalCluster) -> list[ProcessState]:
    """Returns the state of each process of a cluster."""
    found = find_processes(cluster.folder)
    states = []
    for name in cluster.processes:
        pid = found[name][0].pid if name in found else None
        states.append(ProcessState(name, pid, pid is not None and _is_ready(cluster, name)))
    return states


def get_json(cluster: LocalCluster, path: str) -> Any:
    """Returns an answer of the job manager's REST interface; None if there is none."""
    if cluster.rest_address is None:
        return None
    try:
        with urllib.request.urlopen(f"http://{cluster.rest_address}{path}", timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return None


def running_jobs(cluster: LocalCluster) -> list[str]:
    """Returns the ids of the jobs that have not ended."""
    answer = get_json(cluster, "/jobs") or {"jobs": []}
    ended = ("FINISHED", "FAILED", "CANCELED")
    return [job["id"] for job in answer["jobs"] if job["status"] not in ended]


def _new_cluster(folder: Path, options: Mapping[str, Any]) -> LocalCluster:
    names = [name for name in options if name.endswith("_port")]
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        # All ports are held until the end, or the system could give one port twice.
        for name in names if options["flink_master"] is None else ["job_port"]:
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", options[name]))
            except OSError as error:
                raise ValueError(
                    f"`{name}` must be a free port. Received: {options[name]}, which is taken."
                ) from error
            chosen[name] = probe.getsockname()[1]
    cluster = LocalCluster(folder, **{**options, **chosen})
    cluster.save()
    return cluster


def _wait(cluster: LocalCluster, patience_s: float) -> None:
    waiting: list[ProcessState] = []

    def process_ids() -> list[int]:
        return [state.pid for state in waiting if state.pid is not None]

    progress = ProcessProgress(process_ids, patience_s, min_share=_MIN_SHARE)
    while True:
        waiting[:] = [state for state in process_states(cluster) if not state.is_ready]
        if not waiting:
            return
        for state in waiting:
            if state.pid is None:
                raise ValueError(f"{state.name} ended: {_reason(cluster, state.name)}")
        if progress.is_standing_still():
            name = waiting[0].name
            raise ValueError(
                f"{name} does not answer, and has done nothing for {patience_s:g} s: "
                f"{_reason(cluster, name)}"
            )
        time.sleep(_POLL_S)


def _is_ready(cluster: LocalCluster, name: str) -> bool:
    if name == launch.JOB_MANAGER:
        return get_json(cluster, "/overview") is not None
    if name == launch.TASK_MANAGER:
        overview = get_json(cluster, "/overview")
        return overview is not None and overview["slots-total"] == cluster.slots
    port = cluster.pool_port if name == launch.WORKER_POOL else cluster.job_port
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _reason(cluster: LocalCluster, name: str) -> str:
    path = cluster.log_path(name)
    # Indented lines belong to a stack.
    said = re.findall(r"^\S.*$", log_text(path), flags=re.MULTILINE) or ["it printed nothing"]
    causes = [line.partition(": ")[2] for line in said if line.startswith("Caused by: ")]
    return f"{(causes or said)[-1][:300]} (see {path})"


@contextlib.contextmanager
def _only_command(folder: Path) -> Iterator[None]:
    refusal = ValueError(
        f"`folder` must be one that no other `tagtower flink up` is starting. Received: {folder}."
    )
    with locked_file(str(folder / ".lock"), lambda _: refusal):
        yield
