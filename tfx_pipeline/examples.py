"""Beam: the three tables -> point-in-time examples, instances, statistics of the tags, counts.

The way of the data:

    items ---------> one catalogue, a side input
    interactions --> check rows, pack a batch's events by user --> part by shard of users --+
    users ---------> check rows ---------------------------------> part by shard of users --+
                                                                                  by shard <-'
    by shard --> users in order of their ids, their latest events --> examples --> the shard's files

The one grouping is by shard and not by user because a shard is written by one worker in order of
user id: files and their order are the same on any engine. What travels are record batches of many
users, 17 bytes an event, before snapshots multiply it. The reading is in `example_readers`, the
shuffle in `shuffle`, the making and writing in `example_writer`.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.metrics import Metrics

from tfx_pipeline.config import DataConfig, ExamplesConfig
from tfx_pipeline.example_readers import END, TIMES, ReadInteractions, ReadItems, ReadUsers
from tfx_pipeline.example_writer import (
    ALL_SPLITS,
    CLICKS,
    EXAMPLES_FILE,
    INSTANCES_FILE,
    ExampleOutputs,
    WriteShard,
)
from tfx_pipeline.log_summary import (
    ITEMS_FILE,
    TAGS_FILE,
    TrainingCounts,
    item_lines,
    sum_counts,
    tag_lines,
)
from tfx_pipeline.renamed_file import write_text
from tfx_pipeline.row_counts import COUNTS, REJECTED
from tfx_pipeline.shuffle import Parcel, Workplace, parcel_size
from tfx_pipeline.tables.arrow_files import list_splits
from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from tfx_pipeline.time_split import (
    TimeSplit,
    given_time_split,
    sum_histograms,
    time_split_of,
)
from trainer import features as f

__all__ = [
    "ALL_SPLITS",
    "COUNTS_FILE",
    "EXAMPLES_FILE",
    "INSTANCES_FILE",
    "TAGS_FILE",
    "ExampleOutputs",
    "write_examples",
]
COUNTS_FILE = "counts.json"
# Of Beam: bytes that went through the shuffle, or through its files.
SHUFFLED_BYTES = Metrics.counter("examples", "shuffled_bytes")


def write_examples(
    pipeline: beam.Pipeline,
    data: DataConfig,
    spec: f.FeatureSpec,
    config: ExamplesConfig,
    outputs: ExampleOutputs,
    files: dict[str, list[str]],
    workplace: Workplace = Workplace(),
) -> None:
    """Adds everything from the tables to the written examples to a Beam pipeline.

    Args:
      pipeline: The pipeline.
      data: How rows are read.
      spec: The features.
      config: Moments, parts and caps.
      outputs: Where to write.
      files: By table name, its files, found and checked before.
      workplace: What workers may use of their machine, see `shuffle.workplace_of`; the examples are
        the same bytes whatever it is.
    """
    latest = int(time.time()) + 86_400  # a day of grace for clocks that run ahead
    given = given_time_split(config)
    has_shares = config.split == "temporal" and given is None
    side_files = {name: list_splits(paths) for name, paths in files.items()}
    items = (
        pipeline
        | "ItemFiles" >> beam.Create([side_files["items"]])
        | "ReadItems"
        >> beam.ParDo(ReadItems(data)).with_outputs(REJECTED, COUNTS, main="catalogue")
    )
    catalogue = pvalue.AsSingleton(items.catalogue)
    read_interactions = ReadInteractions(
        latest, has_shares, config.max_events_per_user, config.num_shards, workplace
    )
    interactions = (
        pipeline
        | "InteractionFiles" >> beam.Create(side_files["interactions"])
        | "SpreadInteractionFiles" >> beam.Reshuffle()
        | "ReadInteractions"
        >> beam.ParDo(read_interactions, catalogue).with_outputs(
            REJECTED, COUNTS, END, TIMES, main="parcels"
        )
    )
    users = (
        pipeline
        | "UserFiles" >> beam.Create(side_files["users"])
        | "SpreadUserFiles" >> beam.Reshuffle()
        | "ReadUsers"
        >> beam.ParDo(ReadUsers(config.num_shards, workplace)).with_outputs(
            REJECTED, COUNTS, main="parcels"
        )
    )
    end = pvalue.AsSingleton(interactions[END] | "EndOfLog" >> beam.CombineGlobally(_latest))
    if has_shares:
        time_split = (
            interactions[TIMES]
            | "CountTimes" >> beam.CombineGlobally(sum_histograms)
            | "SplitTime" >> beam.Map(time_split_of, config)
        )
    else:
        time_split = pipeline | "GivenTimes" >> beam.Create([given])
    written = (
        (interactions.parcels, users.parcels)
        | "AllParcels" >> beam.Flatten()
        | "CountBytes" >> beam.Map(_counted)
        | "GroupShards" >> beam.GroupByKey()
        | "WriteShard"
        >> beam.ParDo(
            WriteShard(outputs, spec, config, workplace),
            catalogue,
            end,
            pvalue.AsSingleton(time_split),
        ).with_outputs(REJECTED, COUNTS, CLICKS)
    )
    sources = (items, interactions, users, written)
    (
        [source[COUNTS] for source in sources]
        + [time_split | "SplitCounts" >> beam.FlatMap(_split_counts)]
        | "AllCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombinePerKey(sum)
        | "ListCounts" >> beam.combiners.ToDict()
        | "WriteCounts" >> beam.Map(_write_counts, os.path.join(outputs.summary, COUNTS_FILE))
    )
    (
        written[CLICKS]
        | "SumClicks" >> beam.CombineGlobally(sum_counts).without_defaults()
        | "WriteClicks" >> beam.Map(_write_clicks, catalogue, outputs.summary)
    )
    (
        [source[REJECTED] for source in sources]
        | "AllRejected" >> beam.Flatten()
        | "WriteRejected"
        >> beam.io.WriteToText(
            os.path.join(outputs.rejected, "rows"),
            file_name_suffix=".jsonl",
            num_shards=1,
            skip_if_empty=True,
        )
    )


def _counted(parcel: tuple[int, tuple[str, Parcel]]) -> tuple[int, tuple[str, Parcel]]:
    SHUFFLED_BYTES.inc(parcel_size(parcel[1][1]))
    return parcel


def _split_counts(time_split: TimeSplit | None) -> Iterator[tuple[str, int]]:
    if time_split is not None:
        yield "split.validation_start", time_split.validation_start
        yield "split.test_start", time_split.test_start


def _latest(times: Iterable[int]) -> int:
    return max(times, default=0)


def _write_counts(counts: dict[str, int], path: str) -> None:
    write_text(path, [json.dumps(dict(sorted(counts.items())), indent=1) + "\n"])


def _write_clicks(clicks: TrainingCounts, catalogue: ItemCatalogue, folder: str) -> None:
    write_text(os.path.join(folder, TAGS_FILE), tag_lines(clicks, catalogue))
    write_text(os.path.join(folder, ITEMS_FILE), item_lines(clicks, catalogue))
