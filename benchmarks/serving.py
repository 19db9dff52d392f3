"""Compares `retrieve` over gRPC and REST with calls in process and with servers that do less.

All take turns, round by round, so that a busy moment of the machine does not fall on one of them
alone. Server and callers share the machine.
"""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.batch_throughput import measure_batch_throughput
from benchmarks.echo_server import EchoServer
from benchmarks.floor_server import build_floor_server, floor_server
from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.resident_process import ResidentProcess
from benchmarks.results import OUTPUT_DIR
from benchmarks.retrieve_callers import (
    ECHO,
    FLOOR,
    GRPC,
    IN_PROCESS,
    REST,
    TENSORFLOW,
    Calls,
    InProcessCaller,
    RemoteCaller,
    TensorFlowCaller,
    together,
)
from benchmarks.version_memory import measure_version_memory
from serving.inference_environment import prefer_small_batches
from tfx_pipeline.runs.local_server import local_server
from tfx_pipeline.terminal.tables import format_table

DEFAULT_BASE_PATH = OUTPUT_DIR.parent / "demo" / "run" / "serving"
NUM_CALLS = {1: 100, 64: 20}  # calls in a round, by batch size
NUM_ROUNDS = 5
NUM_CLIENTS = 8

Measured = Mapping[tuple[str, int, int], list[list[Calls]]]


@dataclasses.dataclass(frozen=True)
class CallMeasurement:
    """Figures of one way of calling.

    The keys are `serving.<interface>.batch_<n>.<attribute>` for one caller, and
    `serving.<interface>.batch_<n>.clients_8.<attribute>` for eight.

    Attributes:
      latency_ms_p50: Milliseconds of a call, median.
      latency_ms_p99: Milliseconds that one call in a hundred exceeds.
      requests_per_second: Calls a second of all callers; each waits for its answer.
      users_per_second: Users answered a second.
    """

    latency_ms_p50: float
    latency_ms_p99: float
    requests_per_second: float
    users_per_second: float


def run(progress: Progress) -> Figures:
    """Measures all ways of calling; see `benchmarks.registry.Benchmark`."""
    base_path = Path(os.environ.get("MODEL_BASE_PATH") or DEFAULT_BASE_PATH).absolute()
    version = latest_version(base_path)
    logs = OUTPUT_DIR / "logs"
    # The server sets the same; processes inherit it, so calls in process are like the server's.
    prefer_small_batches()
    with contextlib.ExitStack() as stack:
        progress(f"loading version {version.name} in process and in the server ...")
        in_process = stack.enter_context(ResidentProcess(InProcessCaller, str(version)))
        asked = in_process.call("prepare", str(version), list(NUM_CALLS))
        tensorflow = stack.enter_context(ResidentProcess(TensorFlowCaller, str(version)))
        tensorflow.call("prepare", asked)
        reply_bytes = {str(size): count for size, count in asked.reply_bytes.items()}
        echo = stack.enter_context(ResidentProcess(EchoServer, reply_bytes))
        server = stack.enter_context(local_server(base_path, logs / "serving-server.log"))
        binary = build_floor_server(progress, OUTPUT_DIR)
        floor_port = binary and stack.enter_context(
            floor_server(binary, version, f"localhost:{server.port}", logs / "serving-floor.log")
        )
        ports = (server.port, server.rest_api_port, echo.call("get_port"))
        clients = [
            stack.enter_context(ResidentProcess(RemoteCaller, *ports, asked, floor_port))
            for _ in range(NUM_CLIENTS)
        ]
        for client in clients:
            client.wait()
        interfaces = (ECHO, GRPC, REST) + ((FLOOR,) if floor_port else ())
        measured = _take_turns(progress, tensorflow, in_process, clients, interfaces)
        figures: Figures = {
            "serving.num_tags": asked.num_tags,
            "serving.startup_seconds": server.startup_seconds,
            "serving.memory_mb": server.memory_mb,
        }
    progress("memory of several versions ...")
    memory = measure_version_memory(version, logs / "serving-versions.log")
    batch = call_in_fresh_process(
        progress,
        "batch prediction",
        measure_batch_throughput,
        str(version),
        asked.instances,
        str(OUTPUT_DIR),
    )
    figures |= flatten(measured)
    figures["serving.memory_mb_first_version"] = memory.first_mb
    figures["serving.memory_mb_per_version"] = memory.added_mb
    figures["serving.batch_prediction.users_per_second"] = batch.users_per_second
    figures["serving.batch_prediction.overhead_seconds"] = batch.overhead_seconds
    for way in (TENSORFLOW, IN_PROCESS):
        users_per_second = figures[f"serving.{way}.batch_64.users_per_second"]
        assert isinstance(users_per_second, float)
        figures[f"serving.batch_prediction.share_of_{way}"] = (
            batch.users_per_second / users_per_second
        )
    return figures


def _take_turns(
    progress: Progress,
    tensorflow: ResidentProcess,
    in_process: ResidentProcess,
    clients: Sequence[ResidentProcess],
    interfaces: Sequence[str],
) -> Measured:
    """The calls of all ways, batch sizes and numbers of callers, round by round."""
    measured: dict[tuple[str, int, int], list[list[Calls]]] = {}
    for number in range(1, NUM_ROUNDS + 1):
        for size, count in NUM_CALLS.items():
            progress(f"round {number} of {NUM_ROUNDS}, batch {size}")
            for way, caller in ((TENSORFLOW, tensorflow), (IN_PROCESS, in_process)):
                calls = [caller.call("calls", size, count)]
                measured.setdefault((way, size, 1), []).append(calls)
            for interface in interfaces:
                for num_clients in (1, NUM_CLIENTS):
                    futures = [
                        client.submit("calls", interface, size, count)
                        for client in clients[:num_clients]
                    ]
                    calls = [future.result() for future in futures]
                    measured.setdefault((interface, size, num_clients), []).append(calls)
    return measured


def flatten(measured: Measured) -> Figures:
    """Returns the figures of all ways of calling by key.

    Args:
      measured: Calls of each round by interface, batch size and number of callers.

    Returns:
      The figures by key.
    """
    summaries = {case: summarize(rounds, case[1]) for case, rounds in measured.items()}
    figures: Figures = {}
    for (interface, size, num_clients), summary in summaries.items():
        case = f"serving.{interface}.batch_{size}"
        prefix = case if num_clients == 1 else f"{case}.clients_{num_clients}"
        for name, value in dataclasses.asdict(summary).items():
            figures[f"{prefix}.{name}"] = value
        if interface not in (FLOOR, GRPC, REST):
            continue
        for way in (TENSORFLOW, IN_PROCESS):
            floor = summaries[way, size, 1]
            figures[f"{prefix}.share_of_{way}"] = summary.users_per_second / floor.users_per_second
            if num_clients == 1:
                figures[f"{case}.added_to_{way}_ms_p50"] = (
                    summary.latency_ms_p50 - floor.latency_ms_p50
                )
    return figures


def summarize(rounds: list[list[Calls]], batch_size: int) -> CallMeasurement:
    """Computes the figures of several callers' calls over several rounds."""
    seconds = np.concatenate([calls.seconds for callers in rounds for calls in callers])
    p50, p99 = np.percentile(seconds, [50, 99])
    requests_per_second = len(seconds) / sum(together(callers) for callers in rounds)
    return CallMeasurement(
        latency_ms_p50=1000 * float(p50),
        latency_ms_p99=1000 * float(p99),
        requests_per_second=requests_per_second,
        users_per_second=batch_size * requests_per_second,
    )


def table(figures: Figures) -> str:
    """Formats a table with a row for each way of calling, batch size and number of callers."""
    columns = (
        ("p50 ms", "latency_ms_p50"),
        ("p99 ms", "latency_ms_p99"),
        ("requests/s", "requests_per_second"),
        ("users/s", "users_per_second"),
        ("share of TensorFlow's", f"share_of_{TENSORFLOW}"),
        ("p50 above TensorFlow's, ms", f"added_to_{TENSORFLOW}_ms_p50"),
        ("share of in process", f"share_of_{IN_PROCESS}"),
        ("p50 above in process, ms", f"added_to_{IN_PROCESS}_ms_p50"),
    )
    rows = []
    for size in NUM_CALLS:
        for clients in ("", f".clients_{NUM_CLIENTS}"):
            for interface, title in (
                (TENSORFLOW, "TensorFlow's call in process"),
                (IN_PROCESS, "in process as served"),
                (ECHO, "gRPC that does nothing"),
                (FLOOR, "gRPC in C++, minimal"),
                (GRPC, "gRPC"),
                (REST, "REST"),
            ):
                case = f"serving.{interface}.batch_{size}{clients}"
                if f"{case}.users_per_second" in figures:
                    callers = f"{NUM_CLIENTS} callers" if clients else "1 caller"
                    values = [figures.get(f"{case}.{name}") for _, name in columns]
                    rows.append([f"batch {size}, {callers}: {title}", *values])
    batch = [
        figures.get(f"serving.batch_prediction.{name}")
        for name in ("users_per_second", f"share_of_{TENSORFLOW}", f"share_of_{IN_PROCESS}")
    ]
    rows.append(["batch prediction", None, None, None, *batch[:2], None, batch[2], None])
    return format_table(["retrieve", *(title for title, _ in columns)], rows)


def faults(figures: Figures) -> list[str]:
    """Reports no faults: tests check that all answers are equal."""
    del figures
    return []


def latest_version(base_path: Path) -> Path:
    """Returns the folder of the highest version of a base path.

    Raises:
      ValueError: There is no version.
    """
    versions = (
        [path for path in base_path.iterdir() if path.name.isdecimal()]
        if base_path.is_dir()
        else []
    )
    if not versions:
        raise ValueError(
            "`MODEL_BASE_PATH` must be a folder with a pushed version; `make run` makes one. "
            f"Received: MODEL_BASE_PATH={base_path}."
        )
    return max(versions, key=lambda path: int(path.name))
