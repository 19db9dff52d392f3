"""Measures batch prediction for many users: users a second, and memory over time.

The input is JSON lines, the output shards. The version is the one that `make run` pushed, or the
one in `MODEL_BASE_PATH`. The users are made up.
"""

import dataclasses
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.serving import DEFAULT_BASE_PATH, latest_version
from benchmarks.size_option import one_size
from tfx_pipeline.terminal.tables import format_table

DEFAULT_USERS = 1_000_000
# Allowed growth of memory from the second tenth of the run to the last. A leak in each batch,
# however small, is far larger after a million users.
MAX_GROWTH = 1.1

_DIFFERENT_USERS = 2_048
_SAMPLE_S = 0.25
_LINES_AT_ONCE = 10_000


@dataclasses.dataclass(frozen=True)
class BatchMeasurement:
    """Figures of one run; the keys are `batch_users.<attribute>`.

    Attributes:
      num_users: Number of users in the input.
      num_predicted: Number of lines in the output.
      num_shards: Number of files of the output.
      seconds: Seconds of the whole run, with the loading of the version.
      users_per_second: Users a second over the whole run.
      memory_begin_mb: Resident memory, median over the second tenth of the run.
      memory_end_mb: Resident memory, median over the last tenth of the run.
      peak_mb: Highest resident memory.
      input_mb: Size of the input.
      output_mb: Size of the output.
    """

    num_users: int
    num_predicted: int
    num_shards: int
    seconds: float
    users_per_second: float
    memory_begin_mb: float
    memory_end_mb: float
    peak_mb: float
    input_mb: float
    output_mb: float


def run(progress: Progress) -> Figures:
    """Predicts for the number of users in `SIZE`; see `benchmarks.registry.Benchmark`."""
    num_users = one_size(DEFAULT_USERS)
    version = latest_version(Path(os.environ.get("MODEL_BASE_PATH") or DEFAULT_BASE_PATH))
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="batch-users-", dir=OUTPUT_DIR) as folder:
        path = Path(folder) / "instances.jsonl"
        call_in_fresh_process(
            progress, f"{num_users:,} users drawn", write_users, str(version), path, num_users
        )
        measured = call_in_fresh_process(
            progress, f"{num_users:,} users predicted", measure, str(version), path, num_users
        )
    return flatten(measured)


def flatten(measured: BatchMeasurement) -> Figures:
    """Returns the figures by key."""
    figures: Figures = {
        f"batch_users.{name}": value for name, value in dataclasses.asdict(measured).items()
    }
    growth = measured.memory_end_mb / measured.memory_begin_mb
    return figures | {"batch_users.memory_growth": growth}


def table(figures: Figures) -> str:
    """Formats a table with a row for each figure."""
    return format_table(
        ["batch prediction", ""],
        [[key.removeprefix("batch_users.").replace("_", " "), v] for key, v in figures.items()],
    )


def faults(figures: Figures) -> list[str]:
    """Reports users that were lost, and memory that grew."""
    found = []
    if figures["batch_users.num_predicted"] != figures["batch_users.num_users"]:
        found.append(
            f"{figures['batch_users.num_predicted']} of {figures['batch_users.num_users']} users "
            "are in the output"
        )
    growth = float(figures["batch_users.memory_growth"] or 0)
    if growth > MAX_GROWTH:
        found.append(f"memory grew {growth:.2f} times; at most {MAX_GROWTH} counts as constant")
    return found


def write_users(version: str, path: Path, num_users: int) -> None:
    """Writes instances: some made-up users repeatedly, each time with another id."""
    from benchmarks.retrieve_callers import draw_instances
    from serving.model_server.session.servable import Servable
    from tagtower_client.feature_tensors import input_slots
    from trainer.contract import signatures as s

    servable = Servable(version)
    slots = input_slots(servable.signature_defs[s.RETRIEVE])
    drawn = draw_instances(servable, slots, min(num_users, _DIFFERENT_USERS))
    servable.close()
    texts = [json.dumps(instance)[1:] for instance in drawn]
    with open(path, "w", encoding="utf-8") as file:
        for first in range(0, num_users, _LINES_AT_ONCE):
            users = range(first, min(first + _LINES_AT_ONCE, num_users))
            file.writelines(f'{{"user_id": "u{i}", {texts[i % len(texts)]}\n' for i in users)


def measure(version: str, path: Path, num_users: int) -> BatchMeasurement:
    """Predicts for all users of a file, in this process."""
    from serving.batch.batch_predict import BatchPredictConfig, batch_predict
    from serving.batch.output import RESULTS_PREFIX
    from tfx_pipeline.config.beam import BeamConfig

    output = path.parent / "predictions"
    config = BatchPredictConfig(version, str(path), str(output))
    started = time.perf_counter()
    with MemoryOverTime() as memory:
        batch_predict(config, BeamConfig().pipeline_args())
    seconds = time.perf_counter() - started
    results = sorted(output.glob(f"{RESULTS_PREFIX}*"))
    return BatchMeasurement(
        num_users=num_users,
        num_predicted=sum(_num_lines(file) for file in results),
        num_shards=len(results),
        seconds=seconds,
        users_per_second=num_users / seconds,
        memory_begin_mb=memory.median_mb(0.1, 0.2),
        memory_end_mb=memory.median_mb(0.9, 1.0),
        peak_mb=memory.median_mb(0.0, 1.0, highest=True),
        input_mb=path.stat().st_size / 1e6,
        output_mb=sum(file.stat().st_size for file in results) / 1e6,
    )


class MemoryOverTime:
    """A context manager that samples the resident memory of this process."""

    def __init__(self, interval_s: float = _SAMPLE_S):
        """Initializes with the time between two samples."""
        self._samples: list[float] = []
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryOverTime":
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            self._samples.append(process.memory_info().rss / 1e6)
            if self._stopping.wait(self._interval_s):
                return

    def median_mb(self, begin: float, end: float, highest: bool = False) -> float:
        """Returns the median, or the highest, of the samples between two shares of the time."""
        first, last = (int(share * len(self._samples)) for share in (begin, end))
        samples = self._samples[first : max(last, first + 1)]
        return float(np.max(samples) if highest else np.median(samples))


def _num_lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(1 for _ in file)
