"""A synthetic log with planted interests: what a model must find is known.

Every item has a category and some tags, and one of the tags, not visible in the data, drives its
clicks: a user clicks where the driving tag is one of his interests, and hardly elsewhere. The other
tags of what he clicked blur his history. Some interests are told by two profile features together
(a Latin square: neither tells alone), and show too late to be in the history that the protocol
gives a model. The planted truth is written beside the tables, and no table has it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.demo_users import DEVICES, USERS_PER_CHUNK, DemoUsers, draw_users
from tfx_pipeline.datasets.demo_world import AGE_BANDS, DemoWorld, build_world
from tfx_pipeline.datasets.planted import PLANTED_FILE
from tfx_pipeline.datasets.summary import PreparedSummary
from tfx_pipeline.datasets.table_writer import INTERACTIONS_SCHEMA, TableWriter

COMMAND = "tagtower prepare demo"
PLANTED_ITEMS_FILE = "planted_items.jsonl"
OPTIONS_FILE = "demo.json"

_logger = logging.getLogger("tagtower.prepare")


def _numbered_names(prefix: str, first: int, count: int, total: int) -> pa.Array:
    width = len(str(max(total - 1, 0)))
    return pa.array([f"{prefix}{i:0{width}d}" for i in range(first, first + count)], pa.string())


def _named(names: list[str] | tuple[str, ...], codes: np.ndarray) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(codes))


def _items_table(world: DemoWorld, item_ids: pa.Array) -> pa.Table:
    is_there = world.item_tags >= 0
    offsets = np.zeros(len(item_ids) + 1, np.int32)
    np.cumsum(is_there.sum(axis=1), out=offsets[1:])
    tags = _named(world.tags, world.item_tags[is_there])
    return pa.table(
        {
            "item_id": item_ids,
            "tags": pa.ListArray.from_arrays(pa.array(offsets), tags),
            "category": _named(world.categories, world.item_category),
        }
    )


def _users_table(users: DemoUsers, user_ids: pa.Array, config: DemoConfig) -> pa.Table:
    segments = [f"segment {i + 1}" for i in range(config.cross_feature_values)]
    regions = [f"region {i + 1}" for i in range(config.cross_feature_values)]
    return pa.table(
        {
            "user_id": user_ids,
            "segment": _named(segments, users.segment),
            "region": _named(regions, users.region),
            "age_band": _named(AGE_BANDS, users.age_band),
            "device": _named(DEVICES, users.device),
        }
    )


def _planted_rows(
    users: DemoUsers, user_ids: pa.Array, world: DemoWorld
) -> Iterator[dict[str, Any]]:
    names = np.array(world.tags, dtype=object)
    for user_id, interests, cross, is_cold, num_events in zip(
        user_ids.to_pylist(),
        names[users.interests].tolist(),
        names[users.cross_interests].tolist(),
        users.is_cold.tolist(),
        users.num_events.tolist(),
        strict=True,
    ):
        yield {
            "user_id": user_id,
            "interests": interests,
            "cross_interests": cross,
            "is_cold": is_cold,
            "num_events": num_events,
        }


def prepare_demo(output: str, config: DemoConfig) -> PreparedSummary:
    """Writes the tables of a synthetic log, and what is planted in it.

    Beside the tables: `planted.jsonl` (the interests of every user), `planted_items.jsonl` (the
    driving tag of every item) and `demo.json` (the options).

    Args:
      output: folder to write; an earlier output of this command is replaced.
      config: options; the same options give the same files.

    Returns:
      Counts.

    Raises:
      ValueError: the output holds something else.
    """
    num_clicks = 0
    with TableWriter(output, command=COMMAND) as writer:
        world = build_world(config)
        item_ids = _numbered_names("i", 0, config.num_items, config.num_items)
        items = _items_table(world, item_ids)
        writer.write_items(items)
        driving = np.array(world.tags, dtype=object)[world.item_driving].tolist()
        writer.write_json_lines(
            PLANTED_ITEMS_FILE,
            (
                {"item_id": item_id, "driving_tag": tag}
                for item_id, tag in zip(item_ids.to_pylist(), driving, strict=True)
            ),
        )
        num_chunks = -(-config.num_users // USERS_PER_CHUNK)
        for chunk in range(num_chunks):
            users = draw_users(config, world, chunk)
            user_ids = _numbered_names(
                "u", chunk * USERS_PER_CHUNK, len(users.segment), config.num_users
            )
            writer.write_users(_users_table(users, user_ids, config))
            writer.write_json_lines(PLANTED_FILE, _planted_rows(users, user_ids, world))
            writer.write_interactions(
                pa.Table.from_arrays(
                    [
                        user_ids.take(pa.array(users.event_user)),
                        item_ids.take(pa.array(users.event_item)),
                        pa.array(users.event_time),
                        pa.array(users.event_clicked.astype(np.int8)),
                    ],
                    schema=INTERACTIONS_SCHEMA,
                )
            )
            num_clicks += int(users.event_clicked.sum())
            if (chunk + 1) % 100 == 0:
                num_rows = writer.num_rows["interactions"]
                _logger.info("Chunk %d of %d: %s rows.", chunk + 1, num_chunks, f"{num_rows:,}")
        writer.write_json(OPTIONS_FILE, dataclasses.asdict(config))
    num_tags = int((world.item_tags >= 0).sum())
    return PreparedSummary(
        output=output,
        num_interactions=writer.num_rows["interactions"],
        num_clicks=num_clicks,
        num_users=config.num_users,
        num_items=config.num_items,
        num_tags=config.num_tags,
        tags_per_item=num_tags / config.num_items,
    )
