"""Runs `tagtower serve` under a memory limit: memory exhaustion ends one process only."""

import contextlib
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.serving.model_server.server_process import ServerProcess, server_process


class LimitedServer:
    """A running server with a limit on its memory.

    Attributes:
      server: The server's process with its log, threads and files.
      process: The process itself; `poll()` is None while it lives.
      port: Port of gRPC.
      rest_api_port: Port of REST.
    """

    def __init__(self, server: ServerProcess):
        self.server = server
        self.process: subprocess.Popen = server.process
        self.port, self.rest_api_port = server.port, server.rest_api_port

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        """Returns what it has written to standard error so far."""
        return self.server.log_path.read_text(errors="replace")

    def rss_mb(self) -> float:
        """Returns its current resident memory."""
        return self.server.memory_mb

    def peak_mb(self) -> float:
        """Returns its largest resident memory so far."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1e3
        raise AssertionError("The system does not say how much memory a process has had.")


@contextlib.contextmanager
def limited_server(
    base_path: str | Path, *flags: str, memory_mb: int = 3000
) -> Iterator[LimitedServer]:
    """Starts a server of one model, waits until it serves; at the end it must exit with 0.

    Args:
      base_path: Folder with the numbered versions; the model's name is `default`, if no flag says
        another.
      *flags: More of `tagtower serve`; both ports are chosen here.
      memory_mb: Limit of its private writable memory (RLIMIT_DATA: heap, mapped
        and stacks, untouched as well; not the code of its libraries).
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        server_process(Path(folder), f"--model_base_path={base_path}", *flags) as server,
    ):
        limit = memory_mb * 1_000_000
        resource.prlimit(server.process.pid, resource.RLIMIT_DATA, (limit, limit))
        yield LimitedServer(server)
