"""The signature `retrieve` over gRPC, over REST and in process: one caller, call after call.

From feature values to lists of strings each time, so that what a caller's side costs is in it, and
what remains between in-process and the others is the server and the wire.
"""

import dataclasses
import http.client
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.local_server import local_server
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from tfx_pipeline.report_tables import format_table

DEFAULT_BASE_PATH = OUTPUT_DIR.parent / "demo" / "run" / "serving"
IN_PROCESS, GRPC, REST = "in_process", "grpc", "rest"
NUM_CALLS = {1: 500, 64: 100}  # by batch size

_NUM_WARM_UP_CALLS = 20
_VALUES_PER_DOMAIN = 30
_SEED = 0

Instance = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class CallMeasurement:
    """What was measured of one way of calling; keys `serving.<interface>.batch_<n>.<attribute>`.

    Attributes:
      latency_ms_p50: Milliseconds of a call, median.
      latency_ms_p99: The same, exceeded by one call in a hundred.
      requests_per_second: Calls a second of one caller who waits for each answer.
      users_per_second: Users answered a second.
    """

    latency_ms_p50: float
    latency_ms_p99: float
    requests_per_second: float
    users_per_second: float


@dataclasses.dataclass(frozen=True)
class InProcessMeasurement:
    """What the process that loaded the version itself hands on.

    Attributes:
      by_batch: The figures by batch size.
      instances: Whom it asked for.
      slots: What `retrieve` takes, by input name.
      num_tags: Tags in the index.
    """

    by_batch: dict[int, CallMeasurement]
    instances: list[Instance]
    slots: dict[str, Any]
    num_tags: int


def run(progress: Progress) -> Figures:
    """Measures all three; see `benchmarks.registry.Benchmark`."""
    base_path = Path(os.environ.get("MODEL_BASE_PATH") or DEFAULT_BASE_PATH).absolute()
    version = latest_version(base_path)
    measured = call_in_fresh_process(
        progress, f"in process, version {version.name}", measure_in_process, str(version)
    )
    instances = measured.instances
    found = {IN_PROCESS: measured.by_batch}
    progress("starting the server ...")
    with local_server(base_path, OUTPUT_DIR / "logs" / "serving-server.log") as server:
        from serving.client import TagClient

        with TagClient(f"localhost:{server.port}", timeout_s=60) as client:
            progress("gRPC ...")
            found[GRPC] = measure_batches(client.retrieve, instances)
        progress("REST ...")
        connection = http.client.HTTPConnection("localhost", server.rest_api_port, timeout=60)
        found[REST] = measure_batches(rest_retrieve(connection, measured.slots), instances)
        connection.close()
        figures: Figures = {
            "serving.num_tags": measured.num_tags,
            "serving.startup_seconds": server.startup_seconds,
            "serving.memory_mb": server.memory_mb,
        }
    return figures | flatten(found)


def flatten(found: Mapping[str, Mapping[int, CallMeasurement]]) -> Figures:
    """The keys of all ways of calling."""
    return {
        f"serving.{interface}.batch_{batch_size}.{name}": value
        for interface, by_batch in found.items()
        for batch_size, measured in by_batch.items()
        for name, value in dataclasses.asdict(measured).items()
    }


def table(figures: Figures) -> str:
    """A row for each way of calling and batch size."""
    columns = (
        ("p50 ms", "latency_ms_p50"),
        ("p99 ms", "latency_ms_p99"),
        ("requests/s", "requests_per_second"),
        ("users/s", "users_per_second"),
    )
    rows = [
        [
            f"{interface.replace('_', ' ')}, batch {batch_size}",
            *(figures[f"serving.{interface}.batch_{batch_size}.{name}"] for _, name in columns),
        ]
        for batch_size in NUM_CALLS
        for interface in (IN_PROCESS, GRPC, REST)
    ]
    return format_table(["retrieve", *(title for title, _ in columns)], rows)


def faults(figures: Figures) -> list[str]:
    """None: that all three answer alike is a matter of tests."""
    del figures
    return []


def latest_version(base_path: Path) -> Path:
    """The highest version of a base path.

    Raises:
      ValueError: There is none.
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


def measure_in_process(version: str) -> InProcessMeasurement:
    """Calls a version that this process loads itself."""
    from serving.feature_tensors import input_slots
    from serving.model_server.servable import Servable
    from serving.servable_caller import ServableCaller
    from trainer import signatures as s

    servable = Servable(version)
    slots = input_slots(servable.signature_defs[s.RETRIEVE])
    instances = draw_instances(servable, slots, max(NUM_CALLS))
    caller = ServableCaller(version)
    by_batch = measure_batches(caller.retrieve, instances)
    return InProcessMeasurement(by_batch, instances, slots, caller.num_tags)


def draw_instances(servable: Any, slots: Mapping[str, Any], num_instances: int) -> list[Instance]:
    """Made-up users of a servable: some tags in every domain, weighted, and no known profile.

    Domains of other things than tags get tags as well: what a value is changes no latency.
    """
    from serving.model_server.predict import run_signature
    from trainer import signatures as s
    from trainer.features import weights_name

    rng = np.random.default_rng(_SEED)
    candidates = run_signature(servable, servable.signatures[s.CANDIDATES], {})
    tags = [tag.decode() for tag in candidates[s.TAGS].tolist()]
    num_values = min(_VALUES_PER_DOMAIN, len(tags))
    instances: list[Instance] = []
    for _ in range(num_instances):
        instance: Instance = {}
        for name, slot in slots.items():
            if slot.is_list and slot.is_text:
                values = rng.choice(len(tags), num_values, replace=False).tolist()
                instance[name] = [tags[value] for value in values]
                if weights_name(name) in slots:
                    weights = rng.integers(1, 6, num_values).astype(float)
                    instance[weights_name(name)] = weights.tolist()
        instances.append(instance)
    return instances


def rest_retrieve(
    connection: http.client.HTTPConnection, slots: Mapping[str, Any]
) -> Callable[[Sequence[Instance]], tuple[list[list[str]], list[list[float]]]]:
    """The REST counterpart of `TagClient.retrieve`, on one connection that stays open."""
    from serving.feature_tensors import to_tensors
    from trainer import signatures as s

    def call(instances: Sequence[Instance]) -> tuple[list[list[str]], list[list[float]]]:
        tensors = to_tensors(instances, slots)
        document = {
            "signature_name": s.RETRIEVE,
            "inputs": {name: _texts(array.tolist()) for name, array in tensors.items()},
        }
        connection.request("POST", "/v1/models/default:predict", json.dumps(document))
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"REST answered {response.status}: {body[:500]!r}")
        outputs = json.loads(body)["outputs"]
        return outputs[s.TAGS], outputs[s.SCORES]

    return call


def measure_batches(
    call: Callable[[Sequence[Instance]], Any], instances: Sequence[Instance]
) -> dict[int, CallMeasurement]:
    """Calls with every batch size, some calls first that do not count."""
    measured = {}
    for batch_size, num_calls in NUM_CALLS.items():
        batches = [
            [instances[(first + i) % len(instances)] for i in range(batch_size)]
            for first in range(len(instances))
        ]
        for i in range(_NUM_WARM_UP_CALLS):
            call(batches[i % len(batches)])
        seconds = np.empty(num_calls)
        for i in range(num_calls):
            started = time.perf_counter()
            call(batches[i % len(batches)])
            seconds[i] = time.perf_counter() - started
        measured[batch_size] = summarize(seconds, batch_size)
    return measured


def summarize(seconds: np.ndarray, batch_size: int) -> CallMeasurement:
    """The figures of calls that took `seconds` [num_calls]."""
    p50, p99 = np.percentile(seconds, [50, 99])
    requests_per_second = 1 / float(seconds.mean())
    return CallMeasurement(
        latency_ms_p50=1000 * float(p50),
        latency_ms_p99=1000 * float(p99),
        requests_per_second=requests_per_second,
        users_per_second=batch_size * requests_per_second,
    )


def _texts(values: Any) -> Any:
    """Nested lists with bytes as text."""
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values
