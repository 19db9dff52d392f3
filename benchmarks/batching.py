"""Compares many callers of one user each with and without batching, over gRPC, in turns.

Two servers of the same version run side by side; only one is asked at a time. All callers are
coroutines of one process, whose requests are made beforehand, so that the callers leave a core to
the server.
"""

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.resident_process import ResidentProcess
from benchmarks.results import OUTPUT_DIR
from benchmarks.retrieve_callers import draw_instances
from benchmarks.serving import DEFAULT_BASE_PATH, latest_version
from tfx_pipeline.runs.local_server import local_server
from tfx_pipeline.terminal.tables import format_table

UNBATCHED, BATCHED = "unbatched", "batched"
NUM_CALLERS = (1, 8, 64)
NUM_ROUNDS = 5
# Those of docs/serving.md.
PARAMETERS = """\
max_batch_size { value: 64 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 1 }
pad_variable_length_inputs: true
"""

_SECONDS = 1.5
_NUM_USERS = 256
_SEED = 0
_PREDICT = "/tensorflow.serving.PredictionService/Predict"

# Seconds of each call, and of all calls together, of each round.
Rounds = list[tuple[list[float], float]]


@dataclasses.dataclass(frozen=True)
class CallersMeasurement:
    """Figures of a number of callers; keys are `batching.<server>.callers_<n>.<attribute>`.

    Attributes:
      requests_per_second: Calls a second of all callers; each waits for its answer.
      latency_ms_p50: Milliseconds of a call, median.
      latency_ms_p99: Milliseconds that one call in a hundred exceeds.
    """

    requests_per_second: float
    latency_ms_p50: float
    latency_ms_p99: float


def run(progress: Progress) -> Figures:
    """Measures both servers; see `benchmarks.registry.Benchmark`."""
    base_path = Path(os.environ.get("MODEL_BASE_PATH") or DEFAULT_BASE_PATH).absolute()
    version = latest_version(base_path)
    requests = call_in_fresh_process(progress, "drawing users", make_requests, str(version))
    logs = OUTPUT_DIR / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    parameters = logs / "batching.conf"
    parameters.write_text(PARAMETERS)
    flags = {
        UNBATCHED: [],
        BATCHED: ["--enable_batching", f"--batching_parameters_file={parameters}"],
    }
    with contextlib.ExitStack() as stack:
        progress("starting both servers ...")
        ports = {
            name: stack.enter_context(
                local_server(base_path, logs / f"batching-{name}.log", *given, has_rest=False)
            ).port
            for name, given in flags.items()
        }
        callers = stack.enter_context(ResidentProcess(Callers, ports, requests))
        callers.wait()
        measured: dict[tuple[str, int], Rounds] = {}
        for number in range(1, NUM_ROUNDS + 1):
            progress(f"round {number} of {NUM_ROUNDS}")
            for num_callers in NUM_CALLERS:
                for name in ports:
                    found = callers.call("calls", name, num_callers, _SECONDS)
                    measured.setdefault((name, num_callers), []).append(found)
    return flatten(measured)


def make_requests(version_dir: str) -> list[bytes]:
    """Returns requests of `retrieve` for one user each, with 1 to 30 values a list."""
    from tensorflow_serving.apis import predict_pb2

    from serving.model_server.session.servable import Servable
    from tagtower_client.feature_tensors import input_slots, to_tensors
    from tagtower_client.tensor_proto import write_compact
    from trainer.contract import signatures as s

    servable = Servable(version_dir)
    slots = input_slots(servable.signature_defs[s.RETRIEVE])
    rng = np.random.default_rng(_SEED)
    requests = []
    for instance in draw_instances(servable, slots, _NUM_USERS):
        size = int(rng.integers(1, 31))
        user = {name: values[:size] for name, values in instance.items()}
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "default", s.RETRIEVE
        for name, array in to_tensors([user], slots).items():
            write_compact(request.inputs[name], array)
        requests.append(request.SerializeToString())
    servable.close()
    return requests


class Callers:
    """Callers of servers, for a process of its own.

    Args:
      ports: Ports of the servers by name.
      requests: Requests in bytes, which the callers send in turns.
    """

    def __init__(self, ports: Mapping[str, int], requests: Sequence[bytes]):
        self._ports = ports
        self._requests = requests

    def calls(self, name: str, num_callers: int, seconds: float) -> tuple[list[float], float]:
        """Lets so many callers call a server for some seconds, each one call after the other.

        Returns:
          Seconds of each call, and the wall-clock seconds of all together.
        """
        return asyncio.run(self._calls(self._ports[name], num_callers, seconds))

    async def _calls(
        self, port: int, num_callers: int, seconds: float
    ) -> tuple[list[float], float]:
        import grpc

        from tagtower_client.tensor_proto import COMPACT_ANSWER

        found: list[float] = []
        async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
            predict: Any = channel.unary_unary(_PREDICT)
            for request in self._requests[:num_callers]:  # these do not count
                await predict(request, metadata=(COMPACT_ANSWER,))
            start = time.perf_counter()

            async def call(number: int) -> None:
                while (before := time.perf_counter()) < start + seconds:
                    request = self._requests[number % len(self._requests)]
                    await predict(request, metadata=(COMPACT_ANSWER,))
                    found.append(time.perf_counter() - before)
                    number += num_callers

            await asyncio.gather(*map(call, range(num_callers)))
            return found, time.perf_counter() - start


def flatten(measured: Mapping[tuple[str, int], Rounds]) -> Figures:
    """Returns the figures of both servers by key.

    Args:
      measured: Calls of each round by server and number of callers.
    """
    figures: Figures = {}
    for (name, num_callers), rounds in measured.items():
        for attribute, value in dataclasses.asdict(summarize(rounds)).items():
            figures[f"batching.{name}.callers_{num_callers}.{attribute}"] = value
    for num_callers in {callers for _, callers in measured}:
        # The median of the rounds' ratios: a busy moment of the machine falls on one round.
        ratios = [
            _rate(batched) / _rate(unbatched)
            for batched, unbatched in zip(
                measured[BATCHED, num_callers], measured[UNBATCHED, num_callers], strict=True
            )
        ]
        figures[f"batching.callers_{num_callers}.speedup"] = float(np.median(ratios))
    return figures


def summarize(rounds: Rounds) -> CallersMeasurement:
    """Computes the figures of several rounds."""
    seconds = [one for calls, _ in rounds for one in calls]
    p50, p99 = np.percentile(seconds, [50, 99])
    return CallersMeasurement(
        requests_per_second=len(seconds) / sum(together for _, together in rounds),
        latency_ms_p50=1000 * float(p50),
        latency_ms_p99=1000 * float(p99),
    )


def _rate(calls: tuple[list[float], float]) -> float:
    return len(calls[0]) / calls[1]


def table(figures: Figures) -> str:
    """Formats a table with a row for each server and number of callers."""
    names = [field.name for field in dataclasses.fields(CallersMeasurement)]
    rows = []
    for num_callers in NUM_CALLERS:
        for name in (UNBATCHED, BATCHED):
            key = f"batching.{name}.callers_{num_callers}"
            speedup = figures[f"batching.callers_{num_callers}.speedup"]
            values = [figures[f"{key}.{attribute}"] for attribute in names]
            title = f"{num_callers} caller{'s' if num_callers > 1 else ''}, {name}"
            rows.append([title, *values, speedup if name == BATCHED else None])
    return format_table(["retrieve", "requests/s", "p50 ms", "p99 ms", "x unbatched"], rows)


def faults(figures: Figures) -> list[str]:
    """Reports no faults: tests check that joined requests are answered as single ones."""
    del figures
    return []
