"""Beam graph from the three tables to examples, instances, statistics of the tags and counts.

Flow of the data:

    items ---------> one catalogue, a side input
    interactions --> check rows, pack a batch's events by user --> part by shard of users --+
    users ---------> check rows ---------------------------------> part by shard of users --+
                                                                                  by shard <-'
    by shard --> users in order of their ids, their latest events --> examples --> the shard's files

The one grouping is by shard and not by user, as one worker writes a shard in order of user id:
files and their order are the same on any engine. Record batches of many users travel, with 17 bytes
per event, before the events become snapshots and multiply. The module `readers` reads the tables,
`shuffle` stores the batches, `writer` makes and writes the examples.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.metrics import Metrics

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.log_summary import TAGS_FILE
from tfx_pipeline.examples.notes import COUNTS_FILE, NOTES, WriteNotes, count
from tfx_pipeline.examples.readers import SPAN, ReadInteractions, ReadItems, ReadUsers
from tfx_pipeline.examples.shuffle import IN_BEAM, Parcel, Workplace, parcel_size
from tfx_pipeline.examples.time_split import (
    LogSpan,
    given_time_split,
    merge_spans,
    time_split_of_span,
)
from tfx_pipeline.examples.writer import (
    ALL_SPLITS,
    EXAMPLES_FILE,
    INSTANCES_FILE,
    ExampleOutputs,
    WriteShard,
)
from tfx_pipeline.tables.arrow_files import list_splits
from tfx_pipeline.tables.inputs import limited, users_of
from tfx_pipeline.tables.schema import INTERACTIONS
from trainer.contract import features as f

__all__ = [
    "ALL_SPLITS",
    "COUNTS_FILE",
    "EXAMPLES_FILE",
    "INSTANCES_FILE",
    "TAGS_FILE",
    "ExampleOutputs",
    "write_examples",
]
# Beam metric: bytes that went through the shuffle, or through its files.
SHUFFLED_BYTES = Metrics.counter("examples", "shuffled_bytes")


def write_examples(
    pipeline: beam.Pipeline,
    data: DataConfig,
    spec: f.FeatureSpec,
    config: ExamplesConfig,
    outputs: ExampleOutputs,
    files: dict[str, list[str]],
    workplace: Workplace = IN_BEAM,
    day_end: int | None = None,
) -> None:
    """Adds all steps from the tables to the written examples to a Beam pipeline.

    Args:
      pipeline: Beam pipeline.
      data: Configuration of how rows are read.
      spec: Feature specification.
      config: Settings of snapshot times, splits and limits.
      outputs: Folders to write to.
      files: Files of each table by its name, found and checked before.
      workplace: Resources that workers may use, see `shuffle.workplace_of`; the bytes of the
        examples do not depend on it.
      day_end: End of the log in seconds, UTC: the time of `now` is not before it, and events count
        as future from a day after it. None: the log ends with its last event, and the clock decides
        what is future.
    """
    # One day of tolerance for clocks that run ahead.
    latest = (int(time.time()) if day_end is None else day_end) + 86_400
    read = _read_tables(pipeline, data, spec, config, files, workplace, latest)
    span = (
        read.interactions[SPAN]
        | "SpanOfLog" >> beam.CombineGlobally(merge_spans)
        | "EndOfDay" >> beam.Map(_ending_not_before, (day_end or 0) - 1)
    )
    written = (
        (read.interactions.parcels, read.users.parcels)
        | "AllParcels" >> beam.Flatten()
        | "CountBytes" >> beam.Map(_counted)
        | "GroupShards" >> beam.GroupByKey()
        | "WriteShard"
        >> beam.ParDo(
            WriteShard(outputs, spec, config, workplace), read.catalogue, pvalue.AsSingleton(span)
        ).with_outputs(NOTES)
    )
    split_counts = span | "SplitCounts" >> beam.FlatMap(_split_counts, config).with_outputs(NOTES)
    sources = (read.items, read.interactions, read.users, written, split_counts)
    (
        [source[NOTES] for source in sources]
        | "AllNotes" >> beam.Flatten()
        | "GroupNotes" >> beam.GroupByKey()
        | "WriteNotes" >> beam.ParDo(WriteNotes(outputs.summary, outputs.rejected), read.catalogue)
    )


class _Read(NamedTuple):
    """What is read of the tables; `catalogue` is that of the items, for every worker."""

    items: pvalue.DoOutputsTuple
    catalogue: pvalue.AsSingleton
    interactions: pvalue.DoOutputsTuple
    users: pvalue.DoOutputsTuple


def _read_tables(
    pipeline: beam.Pipeline,
    data: DataConfig,
    spec: f.FeatureSpec,
    config: ExamplesConfig,
    files: dict[str, list[str]],
    workplace: Workplace,
    latest: int,
) -> _Read:
    """Adds the reading of items, interactions and users; an event after `latest` is set aside."""
    counts_times = config.split == "temporal" and given_time_split(config) is None
    parts = {name: list_splits(paths) for name, paths in files.items()}
    # `Create` spreads its elements over the workers.
    items = (
        pipeline
        | "ItemFiles" >> beam.Create([parts["items"]])
        | "ReadItems" >> beam.ParDo(ReadItems(data)).with_outputs(NOTES, main="catalogue")
    )
    catalogue = pvalue.AsSingleton(items.catalogue)
    read_interactions = ReadInteractions(
        limited(INTERACTIONS, data),
        latest,
        counts_times,
        config.max_events_per_user,
        config.num_shards,
        workplace,
    )
    interactions = (
        pipeline
        | "InteractionFiles" >> beam.Create(parts["interactions"])
        | "ReadInteractions"
        >> beam.ParDo(read_interactions, catalogue).with_outputs(NOTES, SPAN, main="parcels")
    )
    users = (
        pipeline
        | "UserFiles" >> beam.Create(parts["users"])
        | "ReadUsers"
        >> beam.ParDo(
            ReadUsers(limited(users_of(spec), data), config.num_shards, workplace)
        ).with_outputs(NOTES, main="parcels")
    )
    return _Read(items, catalogue, interactions, users)


def _ending_not_before(span: LogSpan, earliest: int) -> LogSpan:
    return span._replace(end=max(span.end, earliest))


def _counted(parcel: tuple[int, tuple[str, Parcel]]) -> tuple[int, tuple[str, Parcel]]:
    SHUFFLED_BYTES.inc(parcel_size(parcel[1][1]))
    return parcel


def _split_counts(span: LogSpan, config: ExamplesConfig) -> Iterator[Any]:
    time_split = time_split_of_span(span, config)
    if time_split is not None:
        for name, start in (
            ("split.validation_start", time_split.validation_start),
            ("split.test_start", time_split.test_start),
        ):
            yield from count(name, start, is_zero_noted=True)
