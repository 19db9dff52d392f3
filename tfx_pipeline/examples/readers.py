"""Beam functions that read the three tables and yield batches for the shards of the users."""

import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam import pvalue

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.examples.notes import item_forms, row_counts
from tfx_pipeline.examples.shuffle import ParcelWriter, Workplace
from tfx_pipeline.examples.threaded_fn import ThreadedFn
from tfx_pipeline.examples.time_split import LogSpan, count_times
from tfx_pipeline.examples.user_batches import pack_events, pack_profiles, split_by_shard
from tfx_pipeline.tables import schema as tables
from tfx_pipeline.tables.arrow_files import read_batches
from tfx_pipeline.tables.id_forms import KnownIds
from tfx_pipeline.tables.inputs import limited
from tfx_pipeline.tables.item_catalogue import ItemCatalogue, build_item_catalogue
from tfx_pipeline.tables.parquet_rows import FileSplit
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users
from trainer.contract.arrow import pa

SPAN = "span"
# Kinds of batches that a shard receives.
EVENTS, PROFILES = "events", "profiles"

# More than a reader's default: a batch is divided among all shards, and small parts cost more per
# row.
_BATCH_ROWS = 262_144


class ReadItems(beam.DoFn):
    """Beam function that reads the whole items table into one `ItemCatalogue`."""

    def __init__(self, data: DataConfig):
        """Initializes with the configuration of the tables."""
        self.data = data

    def process(self, splits: list[FileSplit]) -> Iterator[Any]:
        """Reads all files of the table in one call, as every worker needs the whole catalogue."""
        separator = self.data.list_notation
        batches = [
            validate_items(
                batch, normalization=self.data.tag_normalization, list_separator=separator
            )
            for split in splits
            for batch in read_batches(split, limited(tables.ITEMS, self.data))
        ]
        catalogue, rejected = build_item_catalogue(batches)
        yield from row_counts(tables.ITEMS, sum(batch.num_read for batch in batches), rejected)
        yield catalogue


class ReadInteractions(ThreadedFn):
    """Beam function that reads a part of the interactions.

    Yields (shard, (`EVENTS`, parcel of an `EVENT_BATCH`)).
    """

    def __init__(
        self,
        table: tables.TableSchema,
        latest: int,
        counts_times: bool,
        max_events: int,
        num_shards: int,
        workplace: Workplace,
    ):
        """Initializes with how rows are read and to which shards they go.

        Args:
          table: Schema of the interactions, with the limits of what is read.
          latest: Last second that does not count as future.
          counts_times: Whether events are counted by time.
          max_events: Largest number of latest events kept per user.
          num_shards: Number of shards of the users.
          workplace: Resources that the workers may use.
        """
        super().__init__(workplace.num_threads)
        self.table = table
        self.latest = latest
        self.counts_times = counts_times
        self.max_events = max_events
        self.num_shards = num_shards
        self.workplace = workplace

    def setup(self) -> None:
        """Starts the threads, which share the index of known ids."""
        super().setup()
        self._lock = threading.Lock()
        self._known: tuple[ItemCatalogue, KnownIds] | None = None

    def _known_items(self, catalogue: ItemCatalogue) -> KnownIds:
        """Returns the known item ids; built only for unknown items, which few logs have."""
        with self._lock:
            if self._known is None or self._known[0] is not catalogue:
                ids = pa.chunked_array([catalogue.item_ids, catalogue.untagged_ids])
                self._known = catalogue, KnownIds(ids.combine_chunks())
            return self._known[1]

    def work(self, split: FileSplit, catalogue: ItemCatalogue) -> Iterator[Any]:
        """Validates rows, packs them and divides them by shard, a record batch at a time."""
        with ParcelWriter(self.workplace.shuffle_dir) as writer:
            for batch in read_batches(split, self.table, batch_rows=_BATCH_ROWS):
                validated = validate_interactions(batch, now=self.latest, item_index=catalogue)
                yield from row_counts(tables.INTERACTIONS, validated.num_read, validated.rejected)
                if validated.items_aside is not None:
                    matches = self._known_items(catalogue).match(validated.items_aside)
                    if matches is not None:
                        yield item_forms(matches)
                if not validated.rows.num_rows:
                    continue
                times = np.asarray(validated.rows.column("timestamp"))
                histogram = count_times(times) if self.counts_times else None
                yield pvalue.TaggedOutput(SPAN, LogSpan(int(times.max()), histogram))
                packed = pack_events(validated, self.max_events)
                for shard, part in split_by_shard(packed, self.num_shards):
                    yield shard, (EVENTS, writer.write(part))


class ReadUsers(ThreadedFn):
    """Beam function that reads a part of the users.

    Yields (shard, (`PROFILES`, parcel of `pack_profiles`)).
    """

    def __init__(self, table: tables.TableSchema, num_shards: int, workplace: Workplace):
        """Initializes with the table that is read and the shards that rows go to.

        Args:
          table: Schema of the users, with the columns of the profile features.
          num_shards: Number of shards of the users.
          workplace: Resources that the workers may use.
        """
        super().__init__(workplace.num_threads)
        self.table = table
        self.num_shards = num_shards
        self.workplace = workplace

    def work(self, split: FileSplit) -> Iterator[Any]:
        """Validates rows and divides them by shard."""
        with ParcelWriter(self.workplace.shuffle_dir) as writer:
            for batch in read_batches(split, self.table):
                validated = validate_users(batch, self.table)
                yield from row_counts(tables.USERS, validated.num_read, validated.rejected)
                if validated.rows.num_rows:
                    packed = pack_profiles(validated)
                    for shard, part in split_by_shard(packed, self.num_shards):
                        yield shard, (PROFILES, writer.write(part))
