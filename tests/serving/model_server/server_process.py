"""Runs `tagtower serve` in a process whose crashes, hangs and growth are observed here."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

_START_S = 300.0


class ServerProcess:
    """A running server.

    Attributes:
      process: The process itself.
      port: Port of gRPC.
      rest_api_port: Port of REST.
      log_path: File with its output.
    """

    def __init__(self, process: subprocess.Popen, port: int, rest_api_port: int, log_path: Path):
        self.process = process
        self.port, self.rest_api_port, self.log_path = port, rest_api_port, log_path
        self._ps = psutil.Process(process.pid)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def memory_mb(self) -> float:
        """Returns its current resident memory."""
        return self._ps.memory_info().rss / 1e6

    @property
    def num_threads(self) -> int:
        return self._ps.num_threads()

    @property
    def num_files(self) -> int:
        """Returns the number of its open files and sockets."""
        return self._ps.num_fds()

    def tracebacks(self) -> list[str]:
        """Returns the exceptions in its log that were not handled.

        It leaves out the one with which Tornado ends a connection whose chunks have a wrong end.
        """
        log = self.log_path.read_text(errors="replace")
        found = re.findall(r"^  Traceback .*?^(?=\S)", log + "end", re.MULTILINE | re.DOTALL)
        return [text for text in found if "in _read_chunked_body" not in text]


@contextlib.contextmanager
def server_process(folder: Path, *flags: str) -> Iterator[ServerProcess]:
    """Starts a server, waits until its models serve; at the end it must stop cleanly."""
    log_path = folder / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        rest_api_port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tfx_pipeline.cli", "serve"]
    command += ["--port=0", f"--rest_api_port={rest_api_port}", *flags]
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
    # A server that hangs before its first line is killed, and its line is then empty.
    watchdog = threading.Timer(_START_S, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline().decode()
        watchdog.cancel()
        match = re.search(r"gRPC on (\d+)", line)
        assert match, f"{line}{log_path.read_text(errors='replace')}"
        yield ServerProcess(process, int(match[1]), rest_api_port, log_path)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def wait_until(condition, timeout_s: float) -> bool:
    """Polls every few milliseconds; returns whether the condition came true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
