"""Beam: the three tables -> point-in-time examples, instances, statistics of the tags, counts.

The way of the data:

    items ---------> one catalogue, a side input
    interactions --> check rows, pack a batch's events by user --> latest events by user --+
    users ---------> check rows -----------------------------------------------------------+
                                                                                 by user <-'
    by user --> by shard of users (GroupByKey of packed events) --> write the shard's files

The second grouping is by shard and not by user because a shard is written by one worker in order of
user id: files and their order are the same on any engine. What travels there is 17 bytes an event,
before snapshots multiply it.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
from apache_beam import pvalue

from tfx_pipeline.config import DataConfig, ExamplesConfig
from tfx_pipeline.event_chunks import UserChunk, item_columns, pack_by_user, to_user_events
from tfx_pipeline.latest_events import LatestEvents
from tfx_pipeline.log_summary import (
    ITEMS_FILE,
    TAGS_FILE,
    CountsOfShard,
    TrainingCounts,
    item_lines,
    sum_counts,
    tag_lines,
)
from tfx_pipeline.snapshots import training_events, user_hash, user_snapshots
from tfx_pipeline.table_inputs import tag_normalization
from tfx_pipeline.tables import schema as tables
from tfx_pipeline.tables.arrow_files import FileSplit, list_splits, read_batches
from tfx_pipeline.tables.item_catalogue import ItemCatalogue, build_item_catalogue
from tfx_pipeline.tables.row_batches import count_reasons, rejected_rows
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users
from tfx_pipeline.tf_examples import serialize_snapshot
from tfx_pipeline.time_split import (
    TimeSplit,
    count_times,
    given_time_split,
    sum_histograms,
    time_split_of,
)
from trainer import features as f
from trainer.history import UserEvents

ALL_SPLITS = (*f.SPLITS, f.NOW_SPLIT)
EXAMPLES_FILE = "data_tfrecord"
INSTANCES_FILE = "instances"
COUNTS_FILE = "counts.json"
UNFINISHED_SUFFIX = ".tmp"

_REJECTED, _COUNTS, _END, _TIMES, _CLICKS = "rejected", "counts", "end", "times", "clicks"


@dataclasses.dataclass(frozen=True)
class ExampleOutputs:
    """Where `write_examples` writes.

    Attributes:
      examples: Folder of the splits, `Split-<name>/data_tfrecord-*.gz`.
      instances: Folder of the instances of *now* as JSON lines, the input of batch prediction.
      summary: Folder of `counts.json`, `tags.jsonl` and `items.jsonl`.
      rejected: Folder of the rows set aside, JSON lines.
    """

    examples: str
    instances: str
    summary: str
    rejected: str

    def split(self, name: str) -> str:
        """Folder of one split."""
        return os.path.join(self.examples, f"Split-{name}")


class ReadItems(beam.DoFn):
    """The whole items table -> one `ItemCatalogue`."""

    def __init__(self, data: DataConfig):
        """Initializes with the description of the tables."""
        self.data = data

    def process(self, splits: list[FileSplit]) -> Iterator[Any]:
        """Reads all files of the table in one place, as every worker needs the whole catalogue."""
        separator = self.data.list_separator
        batches = [
            validate_items(
                batch, normalization=tag_normalization(self.data), list_separator=separator
            )
            for split in splits
            for batch in read_batches(split, tables.ITEMS, list_separator=separator)
        ]
        catalogue, rejected = build_item_catalogue(batches)
        yield from _row_counts(tables.ITEMS, sum(batch.num_read for batch in batches), rejected)
        yield catalogue


class ReadInteractions(beam.DoFn):
    """A part of the interactions -> (user id, packed events), one a user and record batch."""

    def __init__(self, data: DataConfig, latest: int, counts_times: bool):
        """Initializes with the tables and how they are read.

        Args:
          data: The description of the tables.
          latest: The last second that is not in the future.
          counts_times: Whether events are counted by time.
        """
        self.data = data
        self.latest = latest
        self.counts_times = counts_times

    def process(self, split: FileSplit, catalogue: ItemCatalogue) -> Iterator[Any]:
        """Checks, packs and groups the rows, a record batch at a time."""
        for batch in read_batches(split, tables.INTERACTIONS):
            validated = validate_interactions(batch, now=self.latest, item_index=catalogue)
            yield from _row_counts(tables.INTERACTIONS, validated.num_read, validated.rejected)
            if validated.rows.num_rows:
                times = np.asarray(validated.rows.column("timestamp"))
                yield pvalue.TaggedOutput(_END, int(times.max()))
                if self.counts_times:
                    yield pvalue.TaggedOutput(_TIMES, count_times(times))
                yield from pack_by_user(validated)


class ReadUsers(beam.DoFn):
    """A part of the users -> (user id, (profile as JSON, file, row number))."""

    def process(self, split: FileSplit) -> Iterator[Any]:
        """Checks the rows."""
        for batch in read_batches(split, tables.USERS):
            validated = validate_users(batch)
            yield from _row_counts(tables.USERS, validated.num_read, validated.rejected)
            for row, number in zip(
                validated.rows.to_pylist(), validated.row_numbers.tolist(), strict=True
            ):
                user_id = row.pop("user_id")
                yield user_id, (json.dumps(row, sort_keys=True), validated.file, number)


class JoinUser(beam.DoFn):
    """(user id, events and profiles) -> (shard, (user id, `UserChunk`, profile or None))."""

    def __init__(self, num_shards: int):
        """Initializes with the number of shards."""
        self.num_shards = num_shards

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        """Chooses one profile where the table has several, and counts what is missing."""
        user_id, groups = element
        chunks = list(groups["events"])
        profiles = sorted(groups["profiles"])
        chunk = chunks[0] if chunks else UserChunk()
        if profiles:
            # Of different rows for one user the smallest is kept: the order of files must not
            # decide.
            for profile, file, row in profiles[1:]:
                values = json.dumps({"user_id": user_id, **json.loads(profile)})
                reasons = [tables.DUPLICATE_USER]
                yield from _row_counts(
                    tables.USERS, 0, rejected_rows("users", file, [row], reasons, [values])
                )
        else:
            yield pvalue.TaggedOutput(_COUNTS, ("users.without_profile", 1))
        for name, count in (
            ("users.total", 1),
            ("rows.duplicates", chunk.num_duplicates),
            ("rows.beyond_user_cap", chunk.num_dropped),
        ):
            if count:
                yield pvalue.TaggedOutput(_COUNTS, (name, count))
        profile = json.loads(profiles[0][0]) if profiles else None
        yield user_hash(user_id, "shard") % self.num_shards, (user_id, chunk, profile)


class WriteShard(beam.DoFn):
    """Writes all files of one shard of the users, in order of user id.

    Files are written beside their place and renamed, so that a bundle that is tried again leaves no
    half file, and writes the same bytes.
    """

    def __init__(self, outputs: ExampleOutputs, spec: f.FeatureSpec, config: ExamplesConfig):
        """Initializes with where and what to write."""
        self.outputs = outputs
        self.spec = spec
        self.config = config

    def process(
        self,
        element: tuple[int, Iterable[Any]],
        catalogue: ItemCatalogue,
        end: int,
        time_split: TimeSplit | None,
    ) -> Iterator[Any]:
        """Writes the shard; yields counts, and the clicks of the training part."""
        shard, users = element
        columns = item_columns(catalogue)
        clicks = CountsOfShard(len(columns["tags"].vocabulary), len(catalogue))
        counts: dict[str, int] = {}
        suffix = f"{shard:05d}-of-{self.config.num_shards:05d}"
        records = {
            split: _RenamedFile(
                os.path.join(self.outputs.split(split), f"{EXAMPLES_FILE}-{suffix}.gz"),
                lambda path: tf.io.TFRecordWriter(path, "GZIP"),
            )
            for split in ALL_SPLITS
        }
        instances = _RenamedFile(
            os.path.join(self.outputs.instances, f"{INSTANCES_FILE}-{suffix}.jsonl"),
            lambda path: tf.io.gfile.GFile(path, "w"),
        )
        for user_id, chunk, profile in sorted(users, key=lambda user: user[0]):
            events = to_user_events(chunk, columns)
            clicks.add(training_events(user_id, events, self.config, time_split))
            if time_split is not None:
                _count_inactive(counts, events, time_split)
            for snapshot in user_snapshots(
                user_id,
                events,
                profile,
                self.spec,
                self.config,
                end + 1,
                time_split,
                has_older_events=chunk.num_dropped > 0,
            ):
                _count(counts, f"examples.{snapshot.split}")
                _count(counts, "examples.impressions_beyond_cap", snapshot.num_impressions_dropped)
                records[snapshot.split].write(serialize_snapshot(snapshot.values, self.spec))
                if snapshot.split == f.NOW_SPLIT:
                    instances.write(
                        json.dumps(_instance(snapshot.values), ensure_ascii=False) + "\n"
                    )
        for file in (*records.values(), instances):
            file.close()
        for name, count in counts.items():
            yield pvalue.TaggedOutput(_COUNTS, (name, count))
        yield pvalue.TaggedOutput(_CLICKS, clicks.total())


def write_examples(
    pipeline: beam.Pipeline,
    data: DataConfig,
    spec: f.FeatureSpec,
    config: ExamplesConfig,
    outputs: ExampleOutputs,
    files: dict[str, list[str]],
) -> None:
    """Adds everything from the tables to the written examples to a Beam pipeline.

    Args:
      pipeline: The pipeline.
      data: How rows are read.
      spec: The features.
      config: Moments, parts and caps.
      outputs: Where to write.
      files: By table name, its files, found and checked before.
    """
    latest = int(time.time()) + 86_400  # a day of grace for clocks that run ahead
    given = given_time_split(config)
    has_shares = config.split == "temporal" and given is None
    side_files = {name: list_splits(paths) for name, paths in files.items()}
    items = (
        pipeline
        | "ItemFiles" >> beam.Create([side_files["items"]])
        | "ReadItems"
        >> beam.ParDo(ReadItems(data)).with_outputs(_REJECTED, _COUNTS, main="catalogue")
    )
    catalogue = pvalue.AsSingleton(items.catalogue)
    interactions = (
        pipeline
        | "InteractionFiles" >> beam.Create(side_files["interactions"])
        | "SpreadInteractionFiles" >> beam.Reshuffle()
        | "ReadInteractions"
        >> beam.ParDo(ReadInteractions(data, latest, has_shares), catalogue).with_outputs(
            _REJECTED, _COUNTS, _END, _TIMES, main="events"
        )
    )
    users = (
        pipeline
        | "UserFiles" >> beam.Create(side_files["users"])
        | "SpreadUserFiles" >> beam.Reshuffle()
        | "ReadUsers" >> beam.ParDo(ReadUsers()).with_outputs(_REJECTED, _COUNTS, main="profiles")
    )
    end = pvalue.AsSingleton(interactions[_END] | "EndOfLog" >> beam.CombineGlobally(_latest))
    if has_shares:
        time_split = (
            interactions[_TIMES]
            | "CountTimes" >> beam.CombineGlobally(sum_histograms)
            | "SplitTime" >> beam.Map(time_split_of, config)
        )
    else:
        time_split = pipeline | "GivenTimes" >> beam.Create([given])
    joined = (
        {
            "events": interactions.events
            | "LatestEvents" >> beam.CombinePerKey(LatestEvents(config.max_events_per_user)),
            "profiles": users.profiles,
        }
        | "JoinUsers" >> beam.CoGroupByKey()
        | "JoinUser"
        >> beam.ParDo(JoinUser(config.num_shards)).with_outputs(_REJECTED, _COUNTS, main="users")
    )
    written = (
        joined.users
        | "GroupShards" >> beam.GroupByKey()
        | "WriteShard"
        >> beam.ParDo(
            WriteShard(outputs, spec, config), catalogue, end, pvalue.AsSingleton(time_split)
        ).with_outputs(_COUNTS, _CLICKS)
    )
    sources = (items, interactions, users, joined)
    (
        [source[_COUNTS] for source in (*sources, written)]
        + [time_split | "SplitCounts" >> beam.FlatMap(_split_counts)]
        | "AllCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombinePerKey(sum)
        | "ListCounts" >> beam.combiners.ToDict()
        | "WriteCounts" >> beam.Map(_write_counts, os.path.join(outputs.summary, COUNTS_FILE))
    )
    (
        written[_CLICKS]
        | "SumClicks" >> beam.CombineGlobally(sum_counts).without_defaults()
        | "WriteClicks" >> beam.Map(_write_clicks, catalogue, outputs.summary)
    )
    (
        [source[_REJECTED] for source in sources]
        | "AllRejected" >> beam.Flatten()
        | "WriteRejected"
        >> beam.io.WriteToText(
            os.path.join(outputs.rejected, "rows"),
            file_name_suffix=".jsonl",
            num_shards=1,
            skip_if_empty=True,
        )
    )


def _row_counts(
    table: tables.TableSchema, num_read: int, rejected: pa.RecordBatch
) -> Iterator[Any]:
    if num_read:
        yield pvalue.TaggedOutput(_COUNTS, (f"rows.read.{table.name}", num_read))
    if rejected.num_rows:
        for reason, count in count_reasons(rejected).items():
            yield pvalue.TaggedOutput(_COUNTS, (f"rows.rejected.{reason}", count))
        yield pvalue.TaggedOutput(_COUNTS, (f"rows.rejected_of.{table.name}", rejected.num_rows))
        for row in rejected.to_pylist():
            yield pvalue.TaggedOutput(_REJECTED, json.dumps(row, ensure_ascii=False))


def _count(counts: dict[str, int], name: str, number: int = 1) -> None:
    """Adds to a count; a count of 0 has no key."""
    if number:
        counts[name] = counts.get(name, 0) + number


def _count_inactive(counts: dict[str, int], events: UserEvents, time_split: TimeSplit) -> None:
    """Counts a user who is on record, but of whom a part has no event to judge a model by."""
    known, tested = (
        events.num_before(time) for time in (time_split.validation_start, time_split.test_start)
    )
    _count(counts, "split.inactive_in_validation", int(known > 0 and known == tested))
    _count(counts, "split.inactive_in_test", int(tested > 0 and tested == len(events)))


def _split_counts(time_split: TimeSplit | None) -> Iterator[tuple[str, int]]:
    if time_split is not None:
        yield "split.validation_start", time_split.validation_start
        yield "split.test_start", time_split.test_start


def _instance(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != f.SNAPSHOT_TIME}


def _latest(times: Iterable[int]) -> int:
    return max(times, default=0)


def _write_counts(counts: dict[str, int], path: str) -> None:
    _write_text(path, [json.dumps(dict(sorted(counts.items())), indent=1) + "\n"])


def _write_clicks(clicks: TrainingCounts, catalogue: ItemCatalogue, folder: str) -> None:
    _write_text(os.path.join(folder, TAGS_FILE), tag_lines(clicks, catalogue))
    _write_text(os.path.join(folder, ITEMS_FILE), item_lines(clicks, catalogue))


def _write_text(path: str, pieces: Iterable[str]) -> None:
    file = _RenamedFile(path, lambda temporary: tf.io.gfile.GFile(temporary, "w"))
    for piece in pieces:
        file.write(piece)
    file.close()


class _RenamedFile:
    """A file that has its name only once it is whole."""

    def __init__(self, path: str, open_writer: Callable[[str], Any]):
        tf.io.gfile.makedirs(os.path.dirname(path))
        self._path = path
        self._temporary = f"{path}.{os.getpid()}{UNFINISHED_SUFFIX}"
        self._writer = open_writer(self._temporary)

    def write(self, data: Any) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()
        tf.io.gfile.rename(self._temporary, self._path, overwrite=True)
