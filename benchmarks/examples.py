"""Measures making examples from the tables of the demo log (`tfx_pipeline.examples`)."""

import dataclasses
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psutil

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import one_size
from tfx_pipeline.runs.memory import PeakMemory
from tfx_pipeline.terminal.tables import format_table

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
    return flatten(num_users, num_interactions, measured)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Figures of one run.

    Attributes:
      num_examples: Number of examples written.
      wall_seconds: Wall-clock seconds of building and running the Beam pipeline.
      cpu_seconds: Processor time of building and running it, all threads and processes.
      peak_mb: Greatest sum of the resident sizes of all processes, in megabytes.
      shuffled_bytes: Bytes of the record batches that went through the shuffle, or its files.
      written_bytes: Bytes of the files of examples and instances.
    """

    num_examples: int
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    shuffled_bytes: int
    written_bytes: int


def flatten(
    num_users: int, num_interactions: int, measured: Measurement, num_cores: int | None = None
) -> Figures:
    """Returns the figures by key; `num_cores` is by default the number of the machine's cores."""
    rate = num_interactions / measured.wall_seconds
    return {
        "examples.num_users": num_users,
        "examples.num_interactions": num_interactions,
        "examples.num_examples": measured.num_examples,
        "examples.wall_seconds": measured.wall_seconds,
        "examples.cpu_seconds": measured.cpu_seconds,
        "examples.interactions_per_second": rate,
        "examples.interactions_per_second_per_core": rate / (num_cores or os.cpu_count() or 1),
        "examples.interactions_per_cpu_second": num_interactions / measured.cpu_seconds,
        "examples.shuffled_bytes_per_interaction": measured.shuffled_bytes / num_interactions,
        "examples.written_bytes_per_interaction": measured.written_bytes / num_interactions,
        "memory.peak_mb": measured.peak_mb,
    }


def table(figures: Figures) -> str:
    """Formats a table with a row for each figure."""
    return format_table(["tables to examples", "value"], [list(row) for row in figures.items()])


def faults(figures: Figures) -> list[str]:
    """Reports no faults: tests check that the examples are right."""
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


def measure(
    folder: str,
    beam: Mapping[str, Any] | None = None,
    num_shards: int | None = None,
    num_threads: int | None = None,
    others: Callable[[], Iterable[psutil.Process]] = tuple,
) -> Measurement:
    """Makes the examples, in this process and those that it starts.

    Imports, also those of Beam's runner, are not timed: a log of one event is processed before.

    Args:
      folder: Folder with `tables`; a folder of the outputs is written there and removed again.
      beam: Section `beam` of the configuration; None: the default, the `local` engine.
      num_shards: Number of output files of a split; None: as configured.
      num_threads: Number of threads of a worker; None: the engine's default.
      others: Function that returns processes that work for the engine and were not started here.

    Returns:
      The measurement.
    """
    from tfx_pipeline.config.beam import BeamConfig
    from tfx_pipeline.config.pipeline import load_config
    from trainer.contract.config_loader import from_mapping

    config = load_config("demo")
    beam_config = from_mapping(BeamConfig, beam or {}, "beam")
    tables = os.path.join(folder, "tables")
    data = dataclasses.replace(
        config.data,
        interactions=os.path.join(tables, "interactions"),
        items=os.path.join(tables, "items.parquet"),
        users=os.path.join(tables, "users.parquet"),
    )
    examples_config = config.examples
    if num_shards is not None:
        examples_config = dataclasses.replace(examples_config, num_shards=num_shards)
    config = dataclasses.replace(config, data=data, beam=beam_config, examples=examples_config)
    with tempfile.TemporaryDirectory(dir=folder) as first:
        generate(first, 1)
        paths = {
            name: getattr(data, name).replace(tables, os.path.join(first, "tables"))
            for name in ("interactions", "items", "users")
        }
        small = dataclasses.replace(config, data=dataclasses.replace(data, **paths))
        _make_examples(small, first, num_threads)
    with tempfile.TemporaryDirectory(dir=folder) as out, PeakMemory(others) as memory:
        cpu_before, wall_before = cpu_seconds(others()), time.perf_counter()
        num_examples, shuffled_bytes = _make_examples(config, out, num_threads)
        cpu, wall = cpu_seconds(others()) - cpu_before, time.perf_counter() - wall_before
        written = sum(
            path.stat().st_size
            for name in ("examples", "instances")
            for path in pathlib.Path(out, name).rglob("*")
            if path.is_file()
        )
    return Measurement(num_examples, wall, cpu, memory.peak_mb, shuffled_bytes, written)


def _make_examples(config: Any, out: str, num_threads: int | None) -> tuple[int, int]:
    """Runs the pipeline; returns the number of examples and the bytes shuffled."""
    import apache_beam as beam
    from apache_beam.metrics import MetricsFilter

    from tfx_pipeline.examples import write_examples as examples
    from tfx_pipeline.examples.shuffle import workplace_of
    from tfx_pipeline.tables.inputs import find_tables

    outputs = examples.ExampleOutputs(
        **{
            field.name: os.path.join(out, field.name)
            for field in dataclasses.fields(examples.ExampleOutputs)
        }
    )
    files = find_tables(config.data, config.features)
    options = beam.options.pipeline_options.PipelineOptions(config.beam.pipeline_args())
    pipeline = beam.Pipeline(options=options)
    with workplace_of(options, outputs.examples) as workplace:
        if num_threads is not None:
            workplace = dataclasses.replace(workplace, num_threads=num_threads)
        with pipeline:
            examples.write_examples(
                pipeline, config.data, config.features, config.examples, outputs, files, workplace
            )
    with open(os.path.join(outputs.summary, examples.COUNTS_FILE), encoding="utf-8") as file:
        counts = json.load(file)
    wanted = MetricsFilter().with_name(examples.SHUFFLED_BYTES.metric_name.name)
    found = pipeline.result.metrics().query(wanted)["counters"]
    return (
        sum(counts.get(f"examples.{split}", 0) for split in examples.ALL_SPLITS),
        sum(counter.result for counter in found),
    )


def cpu_seconds(others: Iterable[psutil.Process] = ()) -> float:
    """Sums the processor time of this process, of others, and of their finished children."""
    return sum(sum(process.cpu_times()[:4]) for process in (psutil.Process(), *others))
