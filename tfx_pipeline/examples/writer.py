"""Beam function that makes and writes the examples of one shard of the users."""

import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.columns import Texts
from tfx_pipeline.examples.instance_lines import instance_lines
from tfx_pipeline.examples.log_summary import CountsOfShard
from tfx_pipeline.examples.moments import num_events_before
from tfx_pipeline.examples.notes import clicks, count, row_counts, user_forms
from tfx_pipeline.examples.readers import EVENTS, PROFILES
from tfx_pipeline.examples.record_file import RecordFile
from tfx_pipeline.examples.shard_users import ShardUsers, gather_users
from tfx_pipeline.examples.shuffle import Parcel, Workplace, open_parcel
from tfx_pipeline.examples.snapshots import SnapshotMaker
from tfx_pipeline.examples.tf_examples import serialize_columns
from tfx_pipeline.examples.threaded_fn import ThreadedFn
from tfx_pipeline.examples.time_split import LogSpan, TimeSplit, time_split_of_span
from tfx_pipeline.examples.user_block import UserBlock
from tfx_pipeline.tables import schema as tables
from tfx_pipeline.tables.id_forms import sample_ids, size_of_shard
from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from trainer.contract import features as f
from trainer.contract.arrow import pa
from trainer.contract.history import ATTRIBUTES, UserEvents
from trainer.contract.list_column import ListColumn, concatenated_ranges
from trainer.contract.whole_files import WholeFile

ALL_SPLITS = (*f.SPLITS, f.NOW_SPLIT)
EXAMPLES_FILE = "data_tfrecord"
INSTANCES_FILE = "instances"


@dataclasses.dataclass(frozen=True)
class ExampleOutputs:
    """Folders that `write_examples` writes to.

    Attributes:
      examples: Folder of the splits, `Split-<name>/data_tfrecord-*.gz`.
      instances: Folder of the instances of the split `now` as JSON lines, the input of batch
        prediction.
      summary: Folder of `counts.json`, `tags.jsonl` and `items.jsonl`.
      rejected: Folder of the rejected rows, JSON lines.
    """

    examples: str
    instances: str
    summary: str
    rejected: str

    def split(self, name: str) -> str:
        """Returns the folder of one split."""
        return os.path.join(self.examples, f"Split-{name}")


# By name of an attribute of the items: its values for each item, and the strings of its vocabulary.
_Attributes = tuple[dict[str, ListColumn], dict[str, Texts]]


class WriteShard(ThreadedFn):
    """Writes all files of one shard of the users, in order of user id.

    Files are written under a temporary name and renamed, so that a bundle that is retried leaves no
    partial file and writes the same bytes.
    """

    def __init__(
        self,
        outputs: ExampleOutputs,
        spec: f.FeatureSpec,
        config: ExamplesConfig,
        workplace: Workplace,
    ):
        """Initializes with the folders and the settings of the examples.

        Args:
          outputs: Folders to write to.
          spec: Feature specification.
          config: Settings of snapshot times, splits and limits.
          workplace: Resources that the workers may use.
        """
        super().__init__(workplace.num_threads)
        self.outputs = outputs
        self.spec = spec
        self.config = config

    def setup(self) -> None:
        """Starts the threads, which share the attributes of the items."""
        super().setup()
        self._lock = threading.Lock()
        self._attributes: tuple[ItemCatalogue, _Attributes] | None = None

    def work(
        self,
        element: tuple[int, Iterable[tuple[str, Parcel]]],
        catalogue: ItemCatalogue,
        span: LogSpan,
    ) -> Iterator[Any]:
        """Writes the shard's files and yields its notes."""
        shard, parcels = element
        time_split = time_split_of_span(span, self.config)
        batches: dict[str, list[Any]] = {EVENTS: [], PROFILES: []}
        for kind, parcel in parcels:
            batches[kind].append(open_parcel(parcel))
        columns, texts = self._attributes_of(catalogue)
        found = gather_users(
            batches[EVENTS],
            batches[PROFILES],
            columns,
            self.spec.profile,
            self.config.max_events_per_user,
        )
        yield from self._notes_of_users(found)
        maker = SnapshotMaker(texts, self.spec, self.config, span.end + 1, time_split)
        training = CountsOfShard(len(columns["tags"].vocabulary), len(catalogue))
        files = _ShardFiles(self.outputs, f"{shard:05d}-of-{self.config.num_shards:05d}")
        totals = dict.fromkeys(f.SPLITS, 0)
        inactive = np.zeros(2, np.int64)
        beyond_cap = 0
        for users in found.users.split():
            snapshots = maker.snapshots(users)
            training.add(_first_events(users, snapshots.num_training))
            if time_split is not None:
                inactive += _num_inactive(users, time_split)
            beyond_cap += int(snapshots.num_impressions_dropped.sum())
            records = serialize_columns(snapshots.labelled)
            for part, split in enumerate(f.SPLITS):
                places = np.flatnonzero(snapshots.part == part)
                totals[split] += len(places)
                files.records[split].write(records.take(places))
            files.records[f.NOW_SPLIT].write(serialize_columns(snapshots.now))
            instances = {n: c for n, c in snapshots.now.items() if n != f.SNAPSHOT_TIME}
            files.instances.write(instance_lines(instances))
        files.close()
        for split, total in totals.items():
            yield from count(f"examples.{split}", total)
        yield from count(f"examples.{f.NOW_SPLIT}", len(found.users))
        yield from count("examples.impressions_beyond_cap", beyond_cap)
        for name, number in zip(("validation", "test"), inactive.tolist(), strict=True):
            yield from count(f"split.inactive_in_{name}", number)
        yield from clicks(training.total())

    def _notes_of_users(self, found: ShardUsers) -> Iterator[Any]:
        """What was found of the shard's users, whatever examples they make."""
        yield from row_counts(tables.USERS, 0, found.rejected)
        yield from count("users.total", len(found.users))
        yield from count("users.without_profile", found.num_without_profile)
        yield from count("users.without_events", found.num_without_events)
        for feature in self.spec.profile:
            if feature.is_number:
                num_missing = found.users.profile[feature.name].null_count
                yield from count(f"users.missing.{feature.name}", num_missing)
        yield from count("users.at_one_time", found.num_at_one_time)
        yield from count("rows.clicks", int(np.count_nonzero(found.users.events.clicked)))
        yield from count("rows.skips", int(np.count_nonzero(~found.users.events.clicked)))
        size = size_of_shard(self.config.num_shards)
        yield user_forms(
            *(
                sample_ids(found.users.user_ids.filter(pa.array(is_wanted)), size)
                for is_wanted in (~found.has_profile, found.has_profile)
            )
        )
        yield from count("rows.duplicates", found.num_duplicates)
        yield from count("rows.beyond_user_cap", found.num_dropped)

    def _attributes_of(self, catalogue: ItemCatalogue) -> _Attributes:
        with self._lock:
            if self._attributes is None or self._attributes[0] is not catalogue:
                self._attributes = catalogue, _attributes(catalogue)
            return self._attributes[1]


class _ShardFiles:
    """The open files of a shard: records by split, and instances."""

    def __init__(self, outputs: ExampleOutputs, suffix: str):
        self.records = {
            split: RecordFile(
                os.path.join(outputs.split(split), f"{EXAMPLES_FILE}-{suffix}.gz"),
            )
            for split in ALL_SPLITS
        }
        self.instances = WholeFile(
            os.path.join(outputs.instances, f"{INSTANCES_FILE}-{suffix}.jsonl"), "wb"
        )

    def close(self) -> None:
        for records in self.records.values():
            records.close()
        self.instances.close()


def _attributes(catalogue: ItemCatalogue) -> _Attributes:
    """Returns attributes as codes, without an object per string: items may be millions."""
    found = {name: catalogue.attribute(name) for name in ATTRIBUTES}
    columns = {
        name: ListColumn(one.codes, one.offsets, one.vocabulary) for name, one in found.items()
    }
    return columns, {name: Texts(one.vocabulary) for name, one in found.items()}


def _first_events(users: UserBlock, lengths: np.ndarray) -> UserEvents:
    """Returns the first `lengths` events of each user."""
    _, rows = concatenated_ranges(users.offsets[:-1], lengths)
    events = users.events
    return dataclasses.replace(
        events,
        timestamp=events.timestamp[rows],
        clicked=events.clicked[rows],
        weight=events.weight[rows],
        item=events.item[rows],
    )


def _num_inactive(users: UserBlock, time_split: TimeSplit) -> np.ndarray:
    """Counts users who have earlier events but none in a part, so that it cannot judge a model.

    Returns:
      int64 [2], numbers of users for validation and for test.
    """
    known = num_events_before(users, time_split.validation_start)
    tested = num_events_before(users, time_split.test_start)
    everything = np.diff(users.offsets)
    return np.array(
        [
            np.count_nonzero((known > 0) & (known == tested)),
            np.count_nonzero((tested > 0) & (tested == everything)),
        ]
    )
