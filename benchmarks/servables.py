"""Measures a servable in the server's own session: nodes, load, memory of a further version, calls.

A second servable, such as one of an earlier release, is measured beside it, in turns. Each has a
process of its own.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.registry import Figures, Progress
from benchmarks.resident_process import ResidentProcess
from benchmarks.retrieve_callers import draw_instances
from benchmarks.serving import DEFAULT_BASE_PATH, latest_version
from serving.inference_environment import prefer_small_batches
from tfx_pipeline.terminal.tables import format_table

OTHER_VARIABLE = "OTHER_BASE_PATH"
SERVED, OTHER = "served", "other"
SIGNATURES = ("retrieve", "embed_users")
NUM_CALLS = {1: 60, 64: 12}  # calls in a round, by batch size
NUM_ROUNDS = 5
_NUM_FURTHER = 2
_NUM_WARM_UP_CALLS = 5


@dataclasses.dataclass(frozen=True)
class LoadMeasurement:
    """Figures of a servable's loads; the keys are `servable.<which>.<attribute>`.

    Attributes:
      num_nodes: Nodes of the graph and of its functions.
      first_answer_seconds: Seconds from the start of a further load to one user's answer.
      warm_up_seconds: Seconds from that start until the warm-up records are answered as well.
      memory_mb_per_version: Resident megabytes that a further version adds.
    """

    num_nodes: int
    first_answer_seconds: float
    warm_up_seconds: float
    memory_mb_per_version: float


class LoadedServable:
    """A servable that its own process loads several times.

    Args:
      version_dir: The version folder.
    """

    def __init__(self, version_dir: str):
        from serving.index.scann_index import register_scann_ops
        from serving.model_server.session.servable import Servable
        from tagtower_client.feature_tensors import input_slots, to_tensors
        from trainer.contract import signatures as s

        register_scann_ops()
        self._version_dir = version_dir
        servable = Servable(version_dir)
        slots = input_slots(servable.signature_defs[s.RETRIEVE])
        instances = draw_instances(servable, slots, max(NUM_CALLS))
        self._tensors = {size: to_tensors(instances[:size], slots) for size in NUM_CALLS}
        self._kept = [servable]
        self._load()  # the first load also starts what all versions share

    def measure_loads(self) -> LoadMeasurement:
        """Loads further versions, and keeps them."""
        before = _resident_mb()
        seconds = [self._load() for _ in range(_NUM_FURTHER)]
        added_mb = (_resident_mb() - before) / _NUM_FURTHER
        first, all_records = np.median(seconds, axis=0).tolist()
        return LoadMeasurement(num_nodes(self._version_dir), first, all_records, added_mb)

    def calls(self, signature: str, batch_size: int, num_calls: int) -> list[float]:
        """Times calls of a signature in seconds, one after the other."""
        seconds = []
        for _ in range(_NUM_WARM_UP_CALLS + num_calls):
            started = time.perf_counter()
            self._call(signature, batch_size)
            seconds.append(time.perf_counter() - started)
        return seconds[_NUM_WARM_UP_CALLS:]

    def _call(self, signature: str, batch_size: int) -> None:
        servable = self._kept[-1]
        called = servable.signatures[signature]
        servable.run(called, [self._tensors[batch_size][name] for name in called.inputs])

    def _load(self) -> tuple[float, float]:
        """Loads as the server does; returns the seconds to the first answer and to the last."""
        from serving.model_server.models.load_memory import return_free_memory
        from serving.model_server.models.warmup import replay_warmup
        from serving.model_server.session.servable import Servable
        from trainer.contract import signatures as s

        started = time.perf_counter()
        self._kept.append(Servable(self._version_dir))
        self._call(s.RETRIEVE, 1)
        first = time.perf_counter() - started
        replay_warmup(self._kept[-1], 1)
        all_records = time.perf_counter() - started
        return_free_memory()
        return first, all_records


def run(progress: Progress) -> Figures:
    """Measures one servable, or two in turns; see `benchmarks.registry.Benchmark`."""
    paths = {SERVED: os.environ.get("MODEL_BASE_PATH") or str(DEFAULT_BASE_PATH)}
    if os.environ.get(OTHER_VARIABLE):
        paths[OTHER] = os.environ[OTHER_VARIABLE]
    versions = {which: latest_version(Path(path).absolute()) for which, path in paths.items()}
    # The server sets the same; processes inherit it.
    prefer_small_batches()
    with contextlib.ExitStack() as stack:
        processes = {}
        for which, version in versions.items():
            progress(f"loading {version} ...")
            processes[which] = stack.enter_context(ResidentProcess(LoadedServable, str(version)))
            processes[which].wait()
        loads = {which: process.call("measure_loads") for which, process in processes.items()}
        seconds: dict[tuple[str, str, int], list[float]] = {}
        for number in range(1, NUM_ROUNDS + 1):
            progress(f"round {number} of {NUM_ROUNDS}")
            for size, count in NUM_CALLS.items():
                for signature in SIGNATURES:
                    for which, process in processes.items():
                        made = process.call("calls", signature, size, count)
                        seconds.setdefault((which, signature, size), []).extend(made)
    return flatten(loads, seconds)


def flatten(
    loads: Mapping[str, LoadMeasurement], seconds: Mapping[tuple[str, str, int], Sequence[float]]
) -> Figures:
    """Returns the figures by key.

    Args:
      loads: Figures of the loads by servable.
      seconds: Seconds of all calls by servable, signature and batch size.

    Returns:
      The figures by key.
    """
    figures: Figures = {}
    for which, load in loads.items():
        for name, value in dataclasses.asdict(load).items():
            figures[f"servable.{which}.{name}"] = value
    for (which, signature, size), values in seconds.items():
        prefix = f"servable.{which}.{signature}.batch_{size}"
        p10, p50 = np.percentile(values, [10, 50]).tolist()
        figures[f"{prefix}.latency_ms_p10"] = 1000 * p10
        figures[f"{prefix}.latency_ms_p50"] = 1000 * p50
    return figures


def table(figures: Figures) -> str:
    """Formats a row for each figure, with the ratio of two servables."""
    prefix = f"servable.{SERVED}."
    rows = []
    for key, value in figures.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        other: Any = figures.get(f"servable.{OTHER}.{name}")
        ratio = None if other is None else value / other
        rows.append([name, other, value, ratio])
    return format_table(["figure", "other", "served", "served / other"], rows)


def faults(figures: Figures) -> list[str]:
    """Reports no faults: tests check that all answers are equal."""
    del figures
    return []


def num_nodes(version_dir: str) -> int:
    """Counts the nodes of a servable's graph and of its functions."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = (Path(version_dir) / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    graph = meta_graph.graph_def
    return len(graph.node) + sum(len(one.node_def) for one in graph.library.function)


def _resident_mb() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6
