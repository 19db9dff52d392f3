"""Measures how cost grows with data: `benchmarks.examples` at several sizes, engines and skews.

The floor is the time that pyarrow alone takes to read the interactions, sort them by user and time
and write them again: a pipeline that groups them by user cannot do less.
"""

import dataclasses
import os
import pathlib
import tempfile
import time
from typing import Any

from benchmarks.examples import Measurement, cpu_seconds, flatten, generate, measure
from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.scale_flink import measure_on_flink, why_not
from benchmarks.scale_skew import write_skewed
from benchmarks.scale_stages import stage_seconds
from benchmarks.size_option import sizes
from tfx_pipeline.terminal.tables import format_table

DEFAULT_SIZES = (1_000_000,)
LOCAL, MULTI_PROCESS, FLINK = "local", "multi_process", "flink"
# The events of a shard are in memory, one shard for each core.
_EVENTS_PER_SHARD = 5_000_000
_MIN_SHARDS = 4
# Stages are measured on logs up to the first size, other engines and skew up to the second.
_MAX_PROFILED = 1_000_000
_MAX_COMPARED = 10_000_000


@dataclasses.dataclass(frozen=True)
class SizeMeasurement:
    """Figures of one size.

    Attributes:
      num_users: Number of users in the log.
      num_interactions: Number of interactions in the log.
      engines: Measurements by engine.
      floor_wall_seconds: Wall-clock seconds of reading, sorting and writing.
      floor_cpu_seconds: Processor time of reading, sorting and writing.
      skewed: Measurement of the local engine on the log with a heavy user and a heavy tag; None:
        not measured.
      stages: Processor time by stage; None: not measured.
    """

    num_users: int
    num_interactions: int
    engines: dict[str, Measurement]
    floor_wall_seconds: float
    floor_cpu_seconds: float
    skewed: Measurement | None = None
    stages: dict[str, float] | None = None


def run(progress: Progress) -> Figures:
    """Measures every size; see `benchmarks.registry.Benchmark`."""
    figures: Figures = {}
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    for size in sizes(DEFAULT_SIZES):
        with tempfile.TemporaryDirectory(prefix="scale-", dir=OUTPUT_DIR) as folder:
            found = _measure_size(progress, folder, size)
        figures |= flatten_size(size, found)
    return figures


def _measure_size(progress: Progress, folder: str, size: int) -> SizeMeasurement:
    num_shards = max(_MIN_SHARDS, size // _EVENTS_PER_SHARD)

    def call(title: str, function: Any, *arguments: Any) -> Any:
        return call_in_fresh_process(progress, f"{size:,}: {title}", function, *arguments)

    num_users, num_interactions = call("generating a log", generate, folder, size)
    engines = {LOCAL: call("examples, local", measure, folder, None, num_shards)}
    floor_wall, floor_cpu = call("floor: pyarrow reads, sorts, writes", measure_floor, folder)
    stages = skewed = None
    if size <= _MAX_PROFILED:
        stages = call("where the time goes", stage_seconds, folder)
    if size <= _MAX_COMPARED:
        engines[MULTI_PROCESS] = call(
            "examples, multi_process", measure, folder, {"runner": MULTI_PROCESS}, num_shards
        )
        reason = why_not(folder)
        if reason is None:
            engines[FLINK] = call("examples, flink", measure_on_flink, folder, num_shards)
        else:
            progress(f"{size:,}: flink is left out: {reason}")
        call("a heavy user and a heavy tag", write_skewed, folder)
        skewed = call("examples of the skewed log", measure, folder, None, num_shards)
    return SizeMeasurement(
        num_users, num_interactions, engines, floor_wall, floor_cpu, skewed, stages
    )


def flatten_size(size: int, found: SizeMeasurement, num_cores: int | None = None) -> Figures:
    """Returns the figures of one size by key, and those without a size, which are the last's."""
    num_cores = num_cores or os.cpu_count() or 1
    figures: Figures = {}
    for engine, measured in found.engines.items():
        plain = flatten(found.num_users, found.num_interactions, measured, num_cores)
        if engine == LOCAL:
            figures |= plain
        for name, value in plain.items():
            figures[f"scale.{engine}.{size}.{name.rpartition('.')[2]}"] = value
    floor = {
        "wall_seconds": found.floor_wall_seconds,
        "cpu_seconds": found.floor_cpu_seconds,
        "interactions_per_second_per_core": found.num_interactions
        / found.floor_wall_seconds
        / num_cores,
        "interactions_per_cpu_second": found.num_interactions / found.floor_cpu_seconds,
    }
    local = found.engines[LOCAL]
    for name, value in floor.items():
        figures[f"floor.{name}"] = figures[f"scale.floor.{size}.{name}"] = value
    figures["floor.share_of_cpu_seconds"] = found.floor_cpu_seconds / local.cpu_seconds
    if found.skewed is not None:
        figures["skew.wall_ratio"] = found.skewed.wall_seconds / local.wall_seconds
        figures["skew.cpu_ratio"] = found.skewed.cpu_seconds / local.cpu_seconds
    if found.stages is not None:
        total = sum(found.stages.values())
        for stage, seconds in found.stages.items():
            figures[f"stage.{stage}.cpu_microseconds"] = 1e6 * seconds / found.num_interactions
            figures[f"stage.{stage}.share"] = seconds / total
    return figures


def table(figures: Figures) -> str:
    """Formats a table with a row for each figure."""
    return format_table(["cost", "value"], [list(row) for row in figures.items()])


def faults(figures: Figures) -> list[str]:
    """Reports no faults: tests check that the examples are right."""
    del figures
    return []


def measure_floor(folder: str) -> tuple[float, float]:
    """Reads the interactions, sorts them and writes them, a file at a time, by pyarrow alone.

    Returns:
      Wall-clock seconds, and seconds of processor time.
    """
    import pyarrow.parquet as pq

    import trainer.contract.arrow  # noqa: F401, the hotfix

    paths = sorted(pathlib.Path(folder, "tables", "interactions").glob("*.parquet"))
    wall, cpu = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        for path in paths:
            rows = pq.read_table(path)
            rows = rows.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
            pq.write_table(rows, os.path.join(out, path.name))
    return time.perf_counter() - wall, cpu_seconds() - cpu
