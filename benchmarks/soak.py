"""Pushes new versions under load, to see if a request fails and if memory grows with versions.

The server is a process of its own; callers over gRPC and REST send requests without a pause, and
each knows which answers are right. Versions are copies of one servable, pushed as the Pusher does:
written beside the others and renamed.
"""

import dataclasses
import functools
import http.client
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.retrieve_callers import draw_instances, rest_retrieve
from benchmarks.serving import DEFAULT_BASE_PATH, latest_version
from benchmarks.size_option import one_size
from tfx_pipeline.runs.local_server import LocalServer, local_server
from tfx_pipeline.terminal.tables import format_table

DEFAULT_SECONDS = 180

_PUSH_INTERVAL_S = 3.0
_TIMEOUT_S = 120.0
_NUM_CALLERS = 2  # callers of each interface
_NUM_KEPT = 3  # folders kept: more versions are on disk than the server serves
# First versions whose memory does not count, because allocators and thread pools still grow.
_NUM_WARM_UP_VERSIONS = 5


@dataclasses.dataclass
class Soak:
    """Results of pushing versions under load.

    Attributes:
      num_requests: Number of requests sent.
      failures: Descriptions of the first few requests that failed or had a wrong answer.
      num_failed: Number of requests that failed or had a wrong answer.
      memory_mb: Resident memory of the server, each time a version had taken over and the one
        before was unloaded.
    """

    num_requests: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    num_failed: int = 0
    memory_mb: list[float] = dataclasses.field(default_factory=list)

    @property
    def memory_mb_first(self) -> float:
        """Memory at the end of the warm-up, median of some versions."""
        return float(np.median(self._counted()[: self._num_ends()]))

    @property
    def memory_mb_last(self) -> float:
        """Memory at the end, median of some versions."""
        return float(np.median(self._counted()[-self._num_ends() :]))

    @property
    def memory_mb_per_version(self) -> float:
        """Slope of a line through the memory after the warm-up."""
        counted = self._counted()
        if len(counted) < 2:
            return 0.0
        return float(np.polyfit(np.arange(len(counted)), counted, 1)[0])

    def _counted(self) -> list[float]:
        return self.memory_mb[min(_NUM_WARM_UP_VERSIONS, len(self.memory_mb) - 1) :]

    def _num_ends(self) -> int:
        return max(1, len(self._counted()) // 4)


class _Caller(threading.Thread):
    """Sends requests without a pause until it is stopped."""

    def __init__(self, ask: Callable[[], None]):
        super().__init__(daemon=True)
        self._ask = ask
        self._stopping = threading.Event()
        self.num_requests = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            self.num_requests += 1
            try:
                self._ask()
            except Exception as error:  # any exception is a failure that the benchmark counts
                self.failures.append(f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def push(source: Path, base_path: Path, version: int) -> None:
    """Copies a version beside the others, renames it when it is whole, and removes the oldest.

    Args:
      source: Folder of the version that is copied.
      base_path: Folder of the versions.
      version: Number of the new version.
    """
    staging = base_path / f".staging-{version}"
    shutil.copytree(source, staging)
    staging.rename(base_path / str(version))
    numbers = sorted(int(path.name) for path in base_path.iterdir() if path.name.isdecimal())
    for number in numbers[:-_NUM_KEPT]:
        shutil.rmtree(base_path / str(number))


def soak(
    server: LocalServer,
    asks: Sequence[Callable[[], None]],
    push_version: Callable[[int], None],
    *,
    first_version: int,
    seconds: float,
    push_interval_s: float,
    progress: Progress,
    min_versions: int = 1,
) -> Soak:
    """Pushes versions while callers send requests.

    Args:
      server: The server.
      asks: Functions, one for each caller, that send a request and raise an error if it fails or
        the answer is wrong.
      push_version: Function that pushes the version with a number.
      first_version: Number of the first version that is pushed.
      seconds: Duration in seconds.
      push_interval_s: Seconds between two pushes; longer where loading takes longer.
      progress: Function that shows a line.
      min_versions: Smallest number of versions that are pushed, however long that takes.

    Returns:
      The results.

    Raises:
      ValueError: A version does not load, or the server has ended.
    """
    from serving.client import TagClient

    callers = [_Caller(ask) for ask in asks]
    for caller in callers:
        caller.start()
    found = Soak()
    version, end = first_version, time.monotonic() + seconds
    try:
        with TagClient(f"localhost:{server.port}", timeout_s=_TIMEOUT_S) as client:
            while time.monotonic() < end or len(found.memory_mb) < min_versions:
                pushed = time.monotonic()
                push_version(version)
                server.wait_until(functools.partial(_is_alone, client, version))
                time.sleep(max(0.0, pushed + push_interval_s - time.monotonic()))
                found.memory_mb.append(server.memory_mb)
                progress(
                    f"version {version}: {sum(c.num_requests for c in callers)} requests, "
                    f"{found.memory_mb[-1]:.0f} MB"
                )
                version += 1
    finally:
        for caller in callers:
            caller.stop()
    failures = [failure for caller in callers for failure in caller.failures]
    found.num_requests = sum(caller.num_requests for caller in callers)
    found.failures, found.num_failed = failures[:10], len(failures)
    return found


def run(progress: Progress) -> Figures:
    """Pushes copies of the latest version under load; see `benchmarks.registry.Benchmark`."""
    seconds = one_size(DEFAULT_SECONDS)
    source = latest_version(Path(os.environ.get("MODEL_BASE_PATH") or DEFAULT_BASE_PATH).absolute())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        base_path = Path(folder)
        push(source, base_path, 1)
        progress("starting the server ...")
        with local_server(base_path, OUTPUT_DIR / "logs" / "soak-server.log") as server:
            found = soak(
                server,
                _retrieve_callers(server, source),
                lambda version: push(source, base_path, version),
                first_version=2,
                seconds=seconds,
                push_interval_s=_PUSH_INTERVAL_S,
                progress=progress,
            )
    for failure in found.failures:
        progress(f"failed: {failure}")
    return {
        "soak.seconds": seconds,
        "soak.requests": found.num_requests,
        "soak.failed_requests": found.num_failed,
        "soak.versions": len(found.memory_mb),
        "soak.memory_mb_first": found.memory_mb_first,
        "soak.memory_mb_last": found.memory_mb_last,
        "soak.memory_mb_per_version": found.memory_mb_per_version,
    }


def table(figures: Figures) -> str:
    """Formats a table with a row for each figure."""
    titles = {
        "soak.versions": "versions pushed",
        "soak.requests": "requests",
        "soak.failed_requests": "failed or wrong",
        "soak.memory_mb_first": "memory after warm-up, MB",
        "soak.memory_mb_last": "memory at the end, MB",
        "soak.memory_mb_per_version": "growth a version, MB",
    }
    return format_table(["soak", ""], [[title, figures[name]] for name, title in titles.items()])


def faults(figures: Figures) -> list[str]:
    """Reports requests that failed; growth of memory is no fault, as a short run says little."""
    failed = figures["soak.failed_requests"]
    return [f"{failed} requests failed while versions changed."] if failed else []


def _is_alone(client: Any, version: int) -> bool:
    """Returns whether a version is available and every other one is unloaded."""
    statuses = {status.version: status for status in client.model_status()}
    ours = statuses.pop(version, None)
    if ours is not None and ours.error:
        raise ValueError(f"version {version} does not load: {ours.error}")
    is_available = ours is not None and ours.state == "AVAILABLE"
    return is_available and all(status.state == "END" for status in statuses.values())


def _retrieve_callers(server: LocalServer, source: Path) -> list[Callable[[], None]]:
    """Makes callers of `retrieve` that compare each answer with the servable's first answer."""
    from serving.client import TagClient
    from serving.model_server.session.servable import Servable
    from tagtower_client.feature_tensors import input_slots
    from trainer.contract import signatures as s

    servable = Servable(str(source))
    slots = input_slots(servable.signature_defs[s.RETRIEVE])
    instances = draw_instances(servable, slots, 4)
    servable.close()

    def expecting(call: Callable[[Any], Any], read: Callable[[Any], Any]) -> Callable[[], None]:
        expected = [read(call([instance])) for instance in instances]
        turn = iter(range(10**12))

        def ask() -> None:
            position = next(turn) % len(instances)
            answer = read(call([instances[position]]))
            if answer != expected[position]:
                raise AssertionError(f"got {answer}, expected {expected[position]}")

        return ask

    asks = []
    for _ in range(_NUM_CALLERS):
        client = TagClient(f"localhost:{server.port}", timeout_s=_TIMEOUT_S, max_attempts=1)
        asks.append(
            expecting(client.retrieve, lambda answer: [profile.tags for profile in answer.profiles])
        )
        connection = http.client.HTTPConnection(
            "localhost", server.rest_api_port, timeout=_TIMEOUT_S
        )
        asks.append(expecting(rest_retrieve(connection, slots), lambda answer: answer[0]))
    return asks
