"""Compares `retrieve` over gRPC with every request logged and with none, in turns.

One server has one version under two names, of which one has a request log with the rate 1. Blocks
of calls of both take turns. Server, log and callers share the machine and its disk.
"""

import contextlib
import dataclasses
import os
import re
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.registry import Figures, Progress
from benchmarks.resident_process import ResidentProcess
from benchmarks.results import OUTPUT_DIR
from benchmarks.retrieve_callers import Asked, Calls, InProcessCaller, time_calls, together
from benchmarks.serving import DEFAULT_BASE_PATH, latest_version
from serving.inference_environment import prefer_small_batches
from tfx_pipeline.runs.local_server import local_server
from tfx_pipeline.terminal.tables import format_table

WITHOUT, WITH = "default", "logged"  # names of the models
# Calls of a caller in a block, by batch size and number of callers.
CASES = {(1, 1): 600, (1, 8): 150, (64, 1): 60}
NUM_ROUNDS = 6
_RECORDS = ":tagtower:request_log:record_count"
_TIMEOUT_S = 120.0
_ROUND_S = 1.5  # the log's thread has written what a block left

Measured = Mapping[tuple[str, int, int], list[list[Calls]]]


@dataclasses.dataclass(frozen=True)
class LogMeasurement:
    """Figures of one case; keys as in `benchmarks.serving`, below `request_log`.

    Attributes:
      without_requests_per_second: Answers a second of all callers, nothing logged.
      with_requests_per_second: Answers a second of all callers, every request logged.
      requests_ratio: Ratio of the second to the first.
      without_latency_ms_p99: Milliseconds that one call in a hundred exceeds, nothing logged.
      with_latency_ms_p99: The same, every request logged.
      latency_ratio: Ratio of the second to the first.
    """

    without_requests_per_second: float
    with_requests_per_second: float
    requests_ratio: float
    without_latency_ms_p99: float
    with_latency_ms_p99: float
    latency_ratio: float


class NamedCaller:
    """Calls the models of a server by name.

    Args:
      port: Port of the server.
      asked: Users of the calls.
    """

    def __init__(self, port: int, asked: Asked):
        from serving.client import TagClient

        self._instances = asked.instances
        self._clients = {
            name: TagClient(f"localhost:{port}", model_name=name, timeout_s=_TIMEOUT_S)
            for name in (WITHOUT, WITH)
        }

    def serves(self, name: str) -> bool:
        """Returns whether a model has a version that can be asked."""
        return any(status.state == "AVAILABLE" for status in self._clients[name].model_status())

    def calls(self, name: str, batch_size: int, num_calls: int) -> Calls:
        """Times calls of one model, one after the other."""
        return time_calls(self._clients[name].retrieve, self._instances, batch_size, num_calls)


def run(progress: Progress) -> Figures:
    """Measures all cases; see `benchmarks.registry.Benchmark`."""
    base_path = Path(os.environ.get("MODEL_BASE_PATH") or DEFAULT_BASE_PATH).absolute()
    version = latest_version(base_path)
    prefer_small_batches()
    log_path = OUTPUT_DIR / "logs" / "request-log-server.log"
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=OUTPUT_DIR))
        progress(f"loading version {version.name} twice ...")
        in_process = stack.enter_context(ResidentProcess(InProcessCaller, str(version)))
        asked = in_process.call("prepare", str(version), [1, 64])
        config = Path(folder) / "models.config"
        config.write_text(models_config(base_path, f"{folder}/log/logged"), encoding="utf-8")
        flag = f"--model_config_file={config}"
        server = stack.enter_context(local_server(base_path, log_path, flag))
        num_clients = max(clients for _, clients in CASES)
        callers = [
            stack.enter_context(ResidentProcess(NamedCaller, server.port, asked))
            for _ in range(num_clients)
        ]
        for caller in callers:
            caller.wait()
        server.wait_until(lambda: callers[0].call("serves", WITH), 0.5)
        measured = _take_turns(progress, callers)
        counts = _counts(server.rest_api_port)
    return flatten(measured) | {
        "request_log.num_written": counts.get("written", 0),
        "request_log.num_dropped": counts.get("dropped", 0),
    }


def models_config(base_path: Path, prefix: str) -> str:
    """Returns a server's configuration of one version under two names, one with a log."""
    model = f'base_path: "{base_path}" model_platform: "tensorflow"'
    log = (
        f'log_collector_config {{ type: "tfrecord" filename_prefix: "{prefix}" }} '
        "sampling_config { sampling_rate: 1 }"
    )
    return (
        f'model_config_list {{ config {{ name: "{WITHOUT}" {model} }} '
        f'config {{ name: "{WITH}" {model} logging_config {{ {log} }} }} }}'
    )


def flatten(measured: Measured) -> Figures:
    """Returns the figures of all cases by key.

    Args:
      measured: Calls of each round by name of the model, batch size and number of callers.

    Returns:
      The figures by key.
    """
    figures: Figures = {}
    for batch_size, clients in CASES:
        rounds = [measured[name, batch_size, clients] for name in (WITHOUT, WITH)]
        (rate, tail), (logged_rate, logged_tail) = map(_rate_and_tail, rounds)
        case = LogMeasurement(
            rate, logged_rate, logged_rate / rate, tail, logged_tail, logged_tail / tail
        )
        for name, value in dataclasses.asdict(case).items():
            figures[f"{_prefix(batch_size, clients)}.{name}"] = value
    return figures


def table(figures: Figures) -> str:
    """Formats a table with a row for each case."""
    names = [field.name for field in dataclasses.fields(LogMeasurement)]
    rows = [
        [
            f"batch {batch_size}, {clients} callers",
            *(figures[f"{_prefix(batch_size, clients)}.{name}"] for name in names),
        ]
        for batch_size, clients in CASES
    ]
    header = ["", "requests/s", "logged", "ratio", "p99 ms", "logged", "ratio"]
    return format_table(header, rows)


def faults(figures: Figures) -> list[str]:
    """Reports dropped records."""
    num_dropped = figures["request_log.num_dropped"]
    return [f"{num_dropped} records of the request log were dropped"] if num_dropped else []


def _prefix(batch_size: int, clients: int) -> str:
    case = f"request_log.batch_{batch_size}"
    return case if clients == 1 else f"{case}.clients_{clients}"


def _take_turns(progress: Progress, callers: Sequence[ResidentProcess]) -> Measured:
    measured: dict[tuple[str, int, int], list[list[Calls]]] = {}
    for number in range(NUM_ROUNDS):
        progress(f"round {number + 1} of {NUM_ROUNDS}")
        for (batch_size, clients), count in CASES.items():
            names = (WITHOUT, WITH) if number % 2 else (WITH, WITHOUT)
            for name in names:
                futures = [
                    caller.submit("calls", name, batch_size, count) for caller in callers[:clients]
                ]
                calls = [future.result() for future in futures]
                measured.setdefault((name, batch_size, clients), []).append(calls)
                time.sleep(_ROUND_S)
    return measured


def _rate_and_tail(rounds: list[list[Calls]]) -> tuple[float, float]:
    """Returns the calls a second of all callers, and the milliseconds of the slowest hundredth."""
    seconds = np.concatenate([calls.seconds for callers in rounds for calls in callers])
    rate = len(seconds) / sum(together(callers) for callers in rounds)
    return rate, 1000 * float(np.percentile(seconds, 99))


def _counts(rest_api_port: int) -> dict[str, int]:
    """Returns the numbers of records by status, from the server's metrics."""
    page = f"http://localhost:{rest_api_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(page, timeout=60) as answer:
        text = answer.read().decode()
    counts: dict[str, int] = {}
    pattern = rf'^{_RECORDS}{{[^}}]*status="(\w+)"[^}}]*}} (\d+)$'
    for status, number in re.findall(pattern, text, re.MULTILINE):
        counts[status] = counts.get(status, 0) + int(number)
    return counts
