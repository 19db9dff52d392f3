"""Tables to point-in-time examples: the demo log through `tfx_pipeline.examples`, on one core."""

import dataclasses
import json
import os
import tempfile
import time
from typing import Any

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import one_size
from tfx_pipeline.memory import PeakMemory
from tfx_pipeline.report_tables import format_table

DEFAULT_SIZE = 1_000_000


def run(progress: Progress) -> Figures:
    """Generates a log and makes examples of it; see `benchmarks.registry.Benchmark`."""
    size = one_size(DEFAULT_SIZE)
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="examples-", dir=OUTPUT_DIR) as folder:
        num_users, num_interactions = call_in_fresh_process(
            progress, f"a log of about {size:,} interactions", generate, folder, size
        )
        measured = call_in_fresh_process(
            progress, f"{num_interactions:,} interactions to examples", measure, folder
        )
    return flatten(num_users, num_interactions, **measured)


def flatten(
    num_users: int,
    num_interactions: int,
    num_examples: int,
    wall_seconds: float,
    cpu_seconds: float,
    peak_mb: float,
) -> Figures:
    """The keys."""
    return {
        "examples.num_users": num_users,
        "examples.num_interactions": num_interactions,
        "examples.num_examples": num_examples,
        "examples.wall_seconds": wall_seconds,
        "examples.cpu_seconds": cpu_seconds,
        "examples.interactions_per_second": num_interactions / wall_seconds,
        "examples.interactions_per_second_per_core": num_interactions / cpu_seconds,
        "memory.peak_mb": peak_mb,
    }


def table(figures: Figures) -> str:
    """A row for each figure."""
    return format_table(["tables to examples", "value"], [list(row) for row in figures.items()])


def faults(figures: Figures) -> list[str]:
    """None: that the examples are right is a matter of tests."""
    del figures
    return []


def generate(folder: str, size: int) -> tuple[int, int]:
    """Writes a demo log of about `size` interactions; returns the number of users and of rows."""
    from tfx_pipeline.datasets.demo import prepare_demo
    from tfx_pipeline.datasets.demo_config import DemoConfig

    default = DemoConfig()
    per_user = default.events_per_user * (1 - default.cold_user_fraction)
    config = dataclasses.replace(default, num_users=max(1, round(size / per_user)))
    summary = prepare_demo(os.path.join(folder, "tables"), config)
    return summary.num_users, summary.num_interactions


def measure(folder: str) -> dict[str, Any]:
    """Makes the examples on the configured default engine, in this process.

    Imports are not timed; building and running the Beam pipeline are. "Per core" divides by the
    seconds of processor time, which others on the machine hardly change.
    """
    import apache_beam as beam

    from tfx_pipeline import examples
    from tfx_pipeline.config import load_config
    from tfx_pipeline.shuffle import workplace_of
    from tfx_pipeline.table_inputs import find_tables

    config = load_config("demo")
    tables = os.path.join(folder, "tables")
    data = dataclasses.replace(
        config.data,
        interactions=os.path.join(tables, "interactions"),
        items=os.path.join(tables, "items.parquet"),
        users=os.path.join(tables, "users.parquet"),
    )
    outputs = examples.ExampleOutputs(
        **{
            field.name: os.path.join(folder, field.name)
            for field in dataclasses.fields(examples.ExampleOutputs)
        }
    )
    files = find_tables(data, config.features)
    with PeakMemory() as memory:
        cpu_before, wall_before = _cpu_seconds(), time.perf_counter()
        options = beam.options.pipeline_options.PipelineOptions(config.beam.pipeline_args())
        with (
            workplace_of(options, outputs.examples) as workplace,
            beam.Pipeline(options=options) as pipeline,
        ):
            examples.write_examples(
                pipeline, data, config.features, config.examples, outputs, files, workplace
            )
        cpu, wall = _cpu_seconds() - cpu_before, time.perf_counter() - wall_before
    with open(os.path.join(outputs.summary, examples.COUNTS_FILE), encoding="utf-8") as file:
        counts = json.load(file)
    return {
        "num_examples": sum(counts.get(f"examples.{split}", 0) for split in examples.ALL_SPLITS),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "peak_mb": memory.peak_mb,
    }


def _cpu_seconds() -> float:
    """Processor time of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
