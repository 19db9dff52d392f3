"""`tagtower serve` as a process of its own, for as long as a block lasts."""

import contextlib
import dataclasses
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

_TIMEOUT_S = 120.0


@dataclasses.dataclass(frozen=True)
class LocalServer:
    """A running server.

    Attributes:
      port: For gRPC.
      rest_api_port: For REST.
      startup_seconds: From its start to the first version that serves.
      process_id: Of the process.
    """

    port: int
    rest_api_port: int
    startup_seconds: float
    process_id: int

    @property
    def memory_mb(self) -> float:
        """Its resident memory now."""
        return psutil.Process(self.process_id).memory_info().rss / 1e6


@contextlib.contextmanager
def local_server(
    base_path: Path, log_path: Path, *flags: str, timeout_s: float = _TIMEOUT_S
) -> Iterator[LocalServer]:
    """Starts a server and stops it at the end.

    Args:
      base_path: Folder of the numbered versions.
      log_path: Where what it prints goes.
      *flags: More flags of the command.
      timeout_s: Until a version has to serve.

    Yields:
      The server, once a version serves.

    Raises:
      ValueError: No version serves.
    """
    port, rest_api_port = _free_ports(2)
    command = [sys.executable, "-m", "tfx_pipeline.cli", "serve", f"--model_base_path={base_path}"]
    command += [f"--port={port}", f"--rest_api_port={rest_api_port}", *flags]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_serving(process, port, base_path, log_path, timeout_s)
        yield LocalServer(port, rest_api_port, time.perf_counter() - started, process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_until_serving(
    process: subprocess.Popen, port: int, base_path: Path, log_path: Path, timeout_s: float
) -> None:
    from serving.client import TagClient, TagClientError

    deadline = time.monotonic() + timeout_s
    with TagClient(f"localhost:{port}", max_attempts=1) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(TagClientError):
                if any(version.state == "AVAILABLE" for version in client.model_status()):
                    return
            time.sleep(0.05)
    raise ValueError(
        f"`MODEL_BASE_PATH` must hold a version that loads; see {log_path}. "
        f"Received: MODEL_BASE_PATH={base_path}."
    )


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on; all are held until all are found, so that they differ."""
    with contextlib.ExitStack() as probes:
        found = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("localhost", 0))
            found.append(probe.getsockname()[1])
        return found
