"""One user's events and profile features, read from the tables, to ask a server about them."""

import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.examples.event_order import latest_distinct
from tfx_pipeline.examples.packed_events import (
    EVENT_DTYPE,
    item_columns,
    pack_rows,
    to_user_events,
)
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import read_batches, read_table
from tfx_pipeline.tables.daily_window import SECONDS_PER_DAY, find_window
from tfx_pipeline.tables.inputs import (
    find_tables,
    limited,
    table_files,
    users_of,
)
from tfx_pipeline.tables.item_catalogue import ItemCatalogue, build_item_catalogue
from tfx_pipeline.tables.row_batches import FileBatch
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users
from tfx_pipeline.versions.pushed_versions import serving_version, tag_normalization_of
from trainer.contract.arrow import pa
from trainer.contract.history import UserEvents
from trainer.contract.tag_normalization import TagNormalization

_logger = logging.getLogger("tagtower.events")


class FoundUser(NamedTuple):
    """A user's data in the tables.

    Attributes:
      events: The events of the user.
      profile: The user's profile features, with None for a missing number; None: the user has no
        row.
      now: Time in seconds, UTC: one second after the last event of the log, as in the pipeline's
        split `now`, and not before the end of the window's last day.
    """

    events: UserEvents
    profile: dict[str, Any] | None
    now: int


def served_tag_normalization(config: PipelineConfig) -> TagNormalization:
    """Returns the normalisation of tags in the served version, or else the configured one.

    A server compares tags with the vocabulary of its version, which may be older than the
    configuration.
    """
    version = serving_version(config.base_path)
    found = None if version is None else tag_normalization_of(version)
    return found or config.data.tag_normalization


def read_catalogue(config: PipelineConfig) -> ItemCatalogue:
    """Reads the items table, with tags normalised as in the served version."""
    separator = config.data.list_notation
    normalization = served_tag_normalization(config)
    return build_item_catalogue(
        validate_items(batch, normalization=normalization, list_separator=separator)
        for batch in _read_all(config, schema.ITEMS)
    )[0]


def _read_all(config: PipelineConfig, table: schema.TableSchema) -> Iterator[FileBatch]:
    """Reads a table; with a window, only its days."""
    for path in table_files(config.data, table):
        yield from read_batches(path, limited(table, config.data))


def find_user(config: PipelineConfig, user_id: str) -> FoundUser:
    """Looks up a user in the tables, with the rules of the example pipeline.

    Args:
      config: Configuration that names the tables.
      user_id: Id of the user.

    Returns:
      The user's events and profile features, and the time of the request.

    Raises:
      ValueError: Neither `interactions` nor `users` contains the user.
    """
    find_tables(config.data, config.features)
    catalogue = read_catalogue(config)
    window = find_window(config.data)
    packed, now = [np.zeros(0, EVENT_DTYPE)], 0 if window is None else window.end
    latest = (int(time.time()) if window is None else window.end) + SECONDS_PER_DAY
    for batch in _read_all(config, schema.INTERACTIONS):
        rows = validate_interactions(batch, now=latest, item_index=catalogue).rows
        if rows.num_rows:
            now = max(now, int(rows.column("timestamp").to_numpy().max()) + 1)
            packed.append(pack_rows(pc.filter(rows, pc.equal(rows.column("user_id"), user_id))))
    users = users_of(config.features)
    profiles = [
        {name: value for name, value in row.items() if name != "user_id"}
        for batch in _read_all(config, users)
        for row in validate_users(batch, users).rows.to_pylist()
        if row["user_id"] == user_id
    ]
    events = np.concatenate(packed)
    if not len(events) and not profiles:
        raise ValueError(
            f"`user` must be in {config.data.interactions} or {config.data.users}. "
            f"Received: user={user_id!r}."
        )
    only = np.zeros(len(events), np.int64)
    kept = latest_distinct(events, only, 1, config.examples.max_events_per_user).rows
    # Of several rows for one user, take the one that `tfx_pipeline.examples.shard_users` keeps.
    profile = min(profiles, key=lambda row: json.dumps(row, sort_keys=True), default=None)
    return FoundUser(to_user_events(events[kept], item_columns(catalogue)), profile, now)


def read_events(path: str, config: PipelineConfig) -> list[dict[str, Any]]:
    """Reads a file with fresh events of one user.

    Args:
      path: CSV, JSON lines or Parquet file with `item_id`, `timestamp`, `clicked` and optionally
        `weight`.
      config: Configuration that names the items table, which holds the items' tags.

    Returns:
      Records for `UserEvents.from_records`. Events of items without tags are left out, as in the
      examples; a warning states how many.

    Raises:
      ValueError: The file cannot be read, or a row is bad; the message names the first bad row.
    """
    catalogue = read_catalogue(config)
    num_untagged = 0
    columns = schema.INTERACTIONS.columns[1:]
    table = limited(schema.TableSchema("events", columns), config.data)
    records = []
    for batch in read_table(path, table):
        validated = validate_interactions(
            _with_user(batch), now=int(time.time()) + 86_400, item_index=catalogue
        )
        for bad in validated.rejected.to_pylist():
            if bad["reason"] in schema.ORDINARY_REASONS:
                num_untagged += 1
                continue
            raise ValueError(
                f"`events` must have only valid rows. Received: {path}, "
                f"row {bad['row']}: {bad['reason']}."
            )
        records += [event_record(row, catalogue) for row in validated.rows.to_pylist()]
    if num_untagged:
        _logger.warning(
            "%d of the events are of items without tags: they have no effect", num_untagged
        )
    return records


def event_record(row: Mapping[str, Any], catalogue: ItemCatalogue) -> dict[str, Any]:
    """Returns a validated interaction as a record with its item's tags and category."""
    item = row["item_index"]
    category = catalogue.category.values_of(item)
    return {
        "item_id": row["item_id"],
        "timestamp": row["timestamp"],
        "clicked": row["clicked"],
        "weight": row["weight"],
        "tags": catalogue.tags.values_of(item),
        "category": category[0] if category else "",
    }


def to_records(events: UserEvents) -> Iterable[dict[str, Any]]:
    """Yields a user's events as records, so that fresh ones can be added."""

    def values(attribute: str, row: int) -> list[str]:
        column = events.attributes[attribute]
        codes, _ = column.select(events.item[row : row + 1])
        return column.vocabulary[codes].tolist()

    for row in range(len(events)):
        category = values("category", row)
        yield {
            "item_id": values("item_id", row)[0],
            "timestamp": int(events.timestamp[row]),
            "clicked": int(events.clicked[row]),
            "weight": float(events.weight[row]),
            "tags": values("tags", row),
            "category": category[0] if category else "",
        }


def _with_user(batch: FileBatch) -> FileBatch:
    rows = batch.rows
    users = pa.array(["events"] * rows.num_rows)
    columns = [
        users,
        *(c for n, c in zip(rows.schema.names, rows.columns, strict=True) if n != "user_id"),
    ]
    names = ["user_id", *(n for n in rows.schema.names if n != "user_id")]
    return dataclasses.replace(batch, rows=pa.RecordBatch.from_arrays(columns, names=names))
