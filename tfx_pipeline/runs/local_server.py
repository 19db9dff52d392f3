"""Runs `tagtower serve` as a separate process for the duration of a block."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from tfx_pipeline.engines.child_processes import tied_to_this_process
from tfx_pipeline.engines.process_progress import (
    PATIENCE_S,
    ProcessProgress,
    how_it_ended,
    last_words,
    stop_process,
)
from trainer.contract.file_system import make_folders

if TYPE_CHECKING:
    from serving.client import ModelVersion

Answer = TypeVar("Answer")

# Polling itself must not make an idle server do anything that counts as work.
_PAUSE_S = 0.1
_FIRST_TIMEOUT_S = 5.0
_COMING_UP = ("START", "LOADING", "AVAILABLE")


class ServerNotUp(ValueError):
    """The error that a server did not start, or has ended, with the reason in one line."""


class LocalServer:
    """A running server; waits for it as long as its process makes progress.

    Attributes:
      port: Port of gRPC.
      rest_api_port: Port of REST; 0: there is none.
      startup_seconds: Time from the start to the first serving version in seconds; 0 until then.
      process_id: Id of the process.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        ports: tuple[int, int],
        log_path: str | Path,
        log_offset: int,
        patience_s: float,
    ):
        """Initializes with a process that has just been started.

        Args:
          process: Process of the server.
          ports: Ports of gRPC and REST.
          log_path: Path of its log.
          log_offset: Position in the log at which its output begins.
          patience_s: Longest time without progress in seconds, see `ProcessProgress`.
        """
        self.port, self.rest_api_port = ports
        self.startup_seconds = 0.0
        self.process_id = process.pid
        self._process = process
        self._log_path = log_path
        self._log_offset = log_offset
        self._progress = ProcessProgress(lambda: [process.pid], patience_s)

    @property
    def memory_mb(self) -> float:
        """Resident memory of the process now, in MB."""
        return psutil.Process(self.process_id).memory_info().rss / 1e6

    @property
    def exit_status(self) -> int | None:
        """Exit status of the process; None: it runs."""
        return self._process.poll()

    @property
    def target(self) -> str:
        """Address for a gRPC client."""
        return f"localhost:{self.port}"

    def wait_until(self, condition: Callable[[], bool], pause_s: float = 0.02) -> None:
        """Polls a condition until it holds.

        Raises:
          ServerNotUp: The process ended, or makes no progress.
        """
        while not condition():
            self._require_progress()
            time.sleep(pause_s)

    def wait_until_serving(self) -> None:
        """Waits for the first version that serves.

        Raises:
          ServerNotUp: The process ended, makes no progress, or no version loads.
        """
        from serving.client import TagClient

        # A channel that finds no server retries less and less often: after a slow start it would
        # notice the server only minutes later.
        self.wait_until(self._listens, _PAUSE_S)
        with TagClient(self.target, max_attempts=1) as client:
            self.wait_until(lambda: self._serves(client.model_status), _PAUSE_S)

    def ask(self, call: Callable[[float], Answer]) -> Answer:
        """Calls a function with a deadline, each time a longer one, until it answers.

        So a slow answer is waited for as long as the server works on it.

        Args:
          call: Function that asks the server with a deadline in seconds; may be called again.

        Returns:
          The result of the function.

        Raises:
          ServerNotUp: The process ended, or makes no progress.
          TagClientError: The call failed for another reason than a deadline that was too short.
        """
        import grpc

        from serving.client import TagClientError

        timeout_s = _FIRST_TIMEOUT_S
        while True:
            try:
                return call(timeout_s)
            except TagClientError as error:
                self._require_progress()
                if error.code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
            timeout_s *= 2

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("localhost", self.port), _FIRST_TIMEOUT_S):
                return True
        except OSError:
            return False

    def _serves(self, model_status: "Callable[..., tuple[ModelVersion, ...]]") -> bool:
        from serving.client import TagClientError

        try:
            versions = model_status(timeout_s=_FIRST_TIMEOUT_S)
        except TagClientError:  # not listening yet, or it has not looked for versions yet
            return False
        states = {version.state for version in versions}
        errors = [version for version in versions if version.error]
        if errors and not states.intersection(_COMING_UP):
            raise self._not_up(f"version {errors[0].version} does not load")
        return "AVAILABLE" in states

    def _require_progress(self) -> None:
        status = self.exit_status
        if status is not None:
            raise self._not_up(how_it_ended(status))
        if self._progress.is_standing_still():
            raise self._not_up(f"it has done nothing for {self._progress.patience_s:g} s")

    def _not_up(self, reason: str) -> ServerNotUp:
        what = "is gone" if self.startup_seconds else "did not come up"
        words = last_words(self._log_path, self._log_offset)
        return ServerNotUp(f"the model server {what}: {reason}: {words}")


@contextlib.contextmanager
def local_server(
    base_path: str | Path,
    log_path: str | Path,
    *flags: str,
    has_rest: bool = True,
    patience_s: float = PATIENCE_S,
) -> Iterator[LocalServer]:
    """Starts a server, waits until it serves, and stops it at the end.

    It is waited for as long as it makes progress.

    Args:
      base_path: Folder of the numbered versions.
      log_path: File to which its output is appended.
      *flags: Further flags of the command.
      has_rest: Whether the server has a REST port as well.
      patience_s: Longest time without progress in seconds, see `ProcessProgress`.

    Yields:
      The server, once a version serves.

    Raises:
      ServerNotUp: Its process ended, makes no progress, or no version loads.
    """
    port, rest_api_port = _free_ports(2)
    if not has_rest:
        rest_api_port = 0
    command = [sys.executable, "-m", "tfx_pipeline.cli", "serve", f"--model_base_path={base_path}"]
    command += [f"--port={port}", f"--rest_api_port={rest_api_port}", *flags]
    make_folders(os.path.dirname(os.path.abspath(log_path)))
    started = time.perf_counter()
    with open(log_path, "ab") as log:
        offset = log.tell()
        tied = tied_to_this_process(command, signal.SIGTERM)
        process = subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        server = LocalServer(process, (port, rest_api_port), log_path, offset, patience_s)
        server.wait_until_serving()
        server.startup_seconds = time.perf_counter() - started
        yield server
    finally:
        stop_process(process, patience_s)


def _free_ports(count: int) -> list[int]:
    """Returns unused ports; all are held until all are found, so that they differ."""
    with contextlib.ExitStack() as probes:
        found = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("localhost", 0))
            found.append(probe.getsockname()[1])
        return found
