"""The pool beside a task manager that starts Python workers, for Beam's environment `EXTERNAL`.

Beam has its own pool (`apache_beam.runners.worker.worker_pool_main`). This one starts workers with
the Python it runs in instead of the `python` on PATH, listens on the given address instead of all,
and does not keep the output of a worker in a pipe that nothing reads. It also holds one worker
ready that has imported TensorFlow, which takes longer than many jobs.
"""

import argparse
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

_logger = logging.getLogger("worker_pool")

_WORKER = [sys.executable, "-m", "tfx_pipeline.flink.worker"]
_GRACE_S = 10.0


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops workers for a task manager."""

    def __init__(self) -> None:
        """Initializes the pool and starts loading the first worker."""
        self._lock = threading.Lock()
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._spare = _load_worker()

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 (Beam's name)
        """Assigns the loaded worker to a task manager, and starts loading another one."""
        del context
        assignment = {
            "worker_id": request.worker_id,
            "control_address": request.control_endpoint.url,
        }
        with self._lock:
            worker, self._spare = self._spare, _load_worker()
            if worker.poll() is not None:
                worker, self._spare = self._spare, _load_worker()
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(assignment) + "\n")
            worker.stdin.close()
            self._workers[request.worker_id] = worker
        _logger.info("worker %s is process %d", request.worker_id, worker.pid)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 (Beam's name)
        """Stops the worker of a request."""
        del context
        with self._lock:
            worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            _logger.info("worker %s stops, process %d", request.worker_id, worker.pid)
            _stop(worker)
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> None:
        """Stops all workers of the pool."""
        with self._lock:
            for worker in (self._spare, *self._workers.values()):
                _stop(worker)


def _load_worker() -> subprocess.Popen[str]:
    return subprocess.Popen(_WORKER, stdin=subprocess.PIPE, text=True)


def _stop(worker: subprocess.Popen[str]) -> None:
    worker.terminate()
    try:
        worker.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves requests until the process is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    server = grpc.server(futures.ThreadPoolExecutor(16))
    pool = WorkerPool()
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    if server.add_insecure_port(f"{parsed.host}:{parsed.port}") == 0:
        raise OSError(f"port {parsed.port} of {parsed.host} is taken")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    server.start()
    _logger.info("listening on %s:%d", parsed.host, parsed.port)
    try:
        server.wait_for_termination()
    finally:
        pool.close()


if __name__ == "__main__":
    main()
