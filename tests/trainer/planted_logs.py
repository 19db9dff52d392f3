"""The synthetic log of `tagtower prepare demo` as snapshots in memory, with what it plants.

The tables are written, checked and read back, and examples made of them, by the pipeline's own
code; only Beam and Transform are left out, which move the same rows: ids are given here, by falling
frequency in the training part as Transform gives them.
"""

import collections
import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.tfx_pipeline.examples.user_snapshots import Snapshot, user_snapshots
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.datasets.demo import PLANTED_ITEMS_FILE, prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.planted import PLANTED_FILE, read_planted
from tfx_pipeline.examples.event_order import latest_distinct
from tfx_pipeline.examples.packed_events import EVENT_DTYPE, item_columns, to_user_events
from tfx_pipeline.examples.user_batches import pack_events, unpack_events
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import read_table
from tfx_pipeline.tables.inputs import users_of
from tfx_pipeline.tables.item_catalogue import build_item_catalogue
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots

_TAG_LISTS = (f.LABEL_TAGS, f.IMPRESSION_TAGS, f.HISTORY_TAGS)
_NUMBER_LISTS = (
    f.LABEL_TAG_WEIGHTS,
    f.IMPRESSION_CLICKED,
    f.IMPRESSION_WEIGHTS,
    f.HISTORY_TAG_COUNTS,
)


@dataclasses.dataclass(frozen=True)
class PlantedLog:
    """Snapshots of a log, and its planted truth.

    Attributes:
      spec: Features of the snapshots.
      tags: Vocabulary of tags, in the order of ids.
      vocabulary_sizes: Sizes by vocabulary name, as `InterestModel` takes them.
      parts: Snapshots of `train`, `validation` and `test` users.
      planted: Rows of `planted.jsonl`.
      driving: Driving tag by item id.
      item_tags: All tags of an item, by item id.
    """

    spec: f.FeatureSpec
    tags: tuple[str, ...]
    vocabulary_sizes: dict[str, int]
    parts: dict[str, Snapshots]
    planted: list[dict[str, Any]]
    driving: dict[str, str]
    item_tags: dict[str, tuple[str, ...]]


def make_planted_log(
    folder: Path, config: DemoConfig, spec: f.FeatureSpec, examples: ExamplesConfig
) -> PlantedLog:
    """Generates a log and makes snapshots of it.

    Args:
      folder: Folder for the tables.
      config: Options of the log.
      spec: Features; their vocabularies are unlimited and have one bucket for unknown values.
      examples: Moments, parts and caps, protocol `user_holdout`.

    Returns:
      The log.
    """
    output = folder / "tables"
    prepare_demo(str(output), config)
    catalogue, _ = build_item_catalogue(
        validate_items(batch) for batch in read_table(str(output / "items.parquet"), schema.ITEMS)
    )
    packed = collections.defaultdict(lambda: [np.zeros(0, EVENT_DTYPE)])
    for batch in read_table(str(output / "interactions"), schema.INTERACTIONS):
        checked = validate_interactions(batch, now=config.end_time, item_index=catalogue)
        users = pack_events(checked)
        events, lengths = unpack_events(users)
        parts = np.split(events, np.cumsum(lengths)[:-1]) if len(lengths) else []
        for user, part in zip(users.column("user_id").to_pylist(), parts, strict=True):
            packed[user].append(part)
    columns = item_columns(catalogue)
    snapshots: dict[str, list[Snapshot]] = collections.defaultdict(list)
    for batch in read_table(str(output / "users.parquet"), users_of(spec)):
        for profile in validate_users(batch).rows.to_pylist():
            user = profile.pop("user_id")
            own = np.concatenate(packed[user])
            kept = latest_distinct(own, np.zeros(len(own), np.int64), 1, len(own)).rows
            events = to_user_events(own[kept], columns)
            for snapshot in user_snapshots(user, events, profile, spec, examples, config.end_time):
                snapshots[snapshot.split].append(snapshot)
    vocabularies = _vocabularies(snapshots["train"], spec)
    with open(output / PLANTED_ITEMS_FILE, encoding="utf-8") as lines:
        driving = {row["item_id"]: row["driving_tag"] for row in map(json.loads, lines)}
    codes, items = columns["tags"].select(np.arange(len(catalogue)))
    names = columns["tags"].vocabulary[codes]
    item_ids = columns["item_id"].vocabulary
    return PlantedLog(
        spec=spec,
        tags=tuple(vocabularies[f.TAG_VOCABULARY]),
        vocabulary_sizes=_sizes(vocabularies, spec),
        parts={
            split: Snapshots.from_batches([_columns(snapshots[split], spec, vocabularies)])
            for split in f.SPLITS
        },
        planted=list(read_planted(str(output / PLANTED_FILE))),
        driving=driving,
        item_tags={
            str(item_ids[item]): tuple(names[items == item].tolist())
            for item in range(len(catalogue))
        },
    )


def _vocabularies(train: Sequence[Snapshot], spec: f.FeatureSpec) -> dict[str, dict[str, int]]:
    """Returns, by vocabulary, the id of each value in the training examples."""
    sources = collections.defaultdict(list, {f.TAG_VOCABULARY: [f.LABEL_TAGS, f.IMPRESSION_TAGS]})
    for domain in spec.domains:
        sources[domain.vocabulary_name].append(domain.name)
    vocabularies = {
        name: _ids(value for s in train for feature in features for value in s.values[feature])
        for name, features in sources.items()
    }
    for feature in spec.profile:
        name = f.profile_vocabulary_name(feature.name)
        vocabularies[name] = _ids(s.values[feature.name] for s in train)
    return vocabularies


def _ids(values: Iterable[str]) -> dict[str, int]:
    counts = collections.Counter(values)
    return {value: i for i, value in enumerate(sorted(counts, key=lambda v: (-counts[v], v)))}


def _sizes(vocabularies: dict[str, dict[str, int]], spec: f.FeatureSpec) -> dict[str, int]:
    sizes = {name: len(ids) + 1 for name, ids in vocabularies.items()}
    for feature in spec.profile:
        # 0 is the unknown value.
        sizes[f.profile_vocabulary_name(feature.name)] += 1
    return sizes


def _columns(
    snapshots: Sequence[Snapshot], spec: f.FeatureSpec, vocabularies: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """Returns one batch of transformed examples, as `Snapshots.from_batches` takes it."""
    rows = [snapshot.values for snapshot in snapshots]
    columns: dict[str, Any] = {
        f.USER_ID: np.array([row[f.USER_ID].encode() for row in rows], object),
        f.SNAPSHOT_TIME: np.array([row[f.SNAPSHOT_TIME] for row in rows], np.int64),
        f.HISTORY_NUM_EVENTS: np.array([row[f.HISTORY_NUM_EVENTS] for row in rows], np.int64),
    }
    for feature in spec.profile:
        ids = vocabularies[f.profile_vocabulary_name(feature.name)]
        values = [1 + ids.get(row[feature.name], len(ids)) for row in rows]
        columns[feature.name] = np.array(values, np.int64)
    tags = vocabularies[f.TAG_VOCABULARY]
    for name in _TAG_LISTS:
        columns[name] = _ragged([[tags.get(t, -1) for t in row[name]] for row in rows], tf.int64)
    for domain in spec.domains:
        ids = vocabularies[domain.vocabulary_name]
        lists = [[ids.get(value, len(ids)) for value in row[domain.name]] for row in rows]
        columns[domain.name] = _ragged(lists, tf.int64)
    for name in (*_NUMBER_LISTS, *(f.weights_name(domain.name) for domain in spec.domains)):
        columns[name] = _ragged([row[name] for row in rows], tf.float32)
    counts = [row[f.IMPRESSION_NUM_TAGS] for row in rows]
    columns[f.IMPRESSION_NUM_TAGS] = _ragged(counts, tf.int64)
    return columns


def _ragged(rows: Sequence[Sequence[float]], dtype: tf.DType) -> tf.RaggedTensor:
    values = np.array([value for row in rows for value in row], dtype.as_numpy_dtype)
    return tf.RaggedTensor.from_row_lengths(values, [len(row) for row in rows])
