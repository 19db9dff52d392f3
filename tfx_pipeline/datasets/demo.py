"""A synthetic log with planted interests, so that it is known what a model must find.

Every item has a category and some tags, and one of the tags, hidden in the data, drives its clicks:
users click where the driving tag is one of their interests, and hardly elsewhere. The other tags of
the clicked items blur their history. Some interests are determined by two profile features together
(a Latin square: neither determines them alone), and show too late to be in the history that the
protocol gives a model. The planted truth is written beside the tables, and no table contains it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.demo_users import DEVICES, USERS_PER_CHUNK, DemoUsers, draw_users
from tfx_pipeline.datasets.demo_world import AGE_BANDS, DemoWorld, build_world
from tfx_pipeline.datasets.interactions_schema import INTERACTIONS_SCHEMA
from tfx_pipeline.datasets.part_engine import write_parts
from tfx_pipeline.datasets.part_files import PartFiles
from tfx_pipeline.datasets.planted import PLANTED_FILE
from tfx_pipeline.datasets.summary import PreparedSummary
from tfx_pipeline.datasets.table_writer import TableWriter
from trainer.contract.arrow import pa

COMMAND = "tagtower prepare demo"
PLANTED_ITEMS_FILE = "planted_items.jsonl"
OPTIONS_FILE = "demo.json"
# Mean number of interactions in a part, which is one file and one worker's work.
ROWS_PER_PART = 1_000_000


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


class Chunks(NamedTuple):
    """A part of the log: a range of chunks of users.

    Attributes:
      first: Number of the first chunk.
      end: Number of the chunk after the last.
    """

    first: int
    end: int


def _parts(config: DemoConfig, rows_per_part: int) -> list[Chunks]:
    num_chunks = -(-config.num_users // USERS_PER_CHUNK)
    size = max(1, rows_per_part // (USERS_PER_CHUNK * config.events_per_user))
    return [Chunks(i, min(i + size, num_chunks)) for i in range(0, num_chunks, size)]


class DemoParts:
    """Draws the users of a part and their events.

    Attributes:
      config: Options of the synthetic log.
    """

    def __init__(self, config: DemoConfig):
        """Initializes with the options of the synthetic log."""
        self.config = config

    def __reduce__(self) -> tuple[type[DemoParts], tuple[DemoConfig]]:
        """Pickles only the options, from which workers build the world again."""
        return DemoParts, (self.config,)

    @functools.cached_property
    def world(self) -> DemoWorld:
        """The part of the log that all users share."""
        return build_world(self.config)

    @functools.cached_property
    def item_ids(self) -> pa.Array:
        """Ids of the items, as a string array."""
        return _numbered_names("i", 0, self.config.num_items, self.config.num_items)

    def write(self, part: Chunks, files: PartFiles) -> None:
        """Writes users, their planted interests and their interactions."""
        for chunk in range(part.first, part.end):
            users = draw_users(self.config, self.world, chunk)
            user_ids = _numbered_names(
                "u", chunk * USERS_PER_CHUNK, len(users.segment), self.config.num_users
            )
            files.write_users(_users_table(users, user_ids, self.config))
            files.write_json_lines(PLANTED_FILE, _planted_rows(users, user_ids, self.world))
            files.write_interactions(
                pa.Table.from_arrays(
                    [
                        user_ids.take(pa.array(users.event_user)),
                        self.item_ids.take(pa.array(users.event_item)),
                        pa.array(users.event_time),
                        pa.array(users.event_clicked.astype(np.int8)),
                    ],
                    schema=INTERACTIONS_SCHEMA,
                )
            )
            files.counts["clicks"] += int(users.event_clicked.sum())


def prepare_demo(
    output: str,
    config: DemoConfig,
    pipeline_args: Sequence[str] | None = None,
    *,
    rows_per_part: int = ROWS_PER_PART,
) -> PreparedSummary:
    """Writes the tables of a synthetic log, and its planted interests.

    Beside the tables: `planted.jsonl` (the interests of every user), `planted_items.jsonl` (the
    driving tag of every item) and `demo.json` (the options).

    Args:
      output: Folder to write to; an earlier output of this command is replaced.
      config: Options of the log; the same options give the same files on every engine.
      pipeline_args: Arguments of Beam's command line; None: this process writes, without Beam.
      rows_per_part: Approximate number of interactions in a file.

    Returns:
      Counts of the written tables.

    Raises:
      ValueError: The output folder holds something else.
    """
    made = DemoParts(config)
    parts = _parts(config, rows_per_part)
    with TableWriter(output, command=COMMAND) as writer:
        world, item_ids = made.world, made.item_ids
        writer.write_items(_items_table(world, item_ids))
        driving = np.array(world.tags, dtype=object)[world.item_driving].tolist()
        writer.write_json_lines(
            PLANTED_ITEMS_FILE,
            (
                {"item_id": item_id, "driving_tag": tag}
                for item_id, tag in zip(item_ids.to_pylist(), driving, strict=True)
            ),
        )
        write_parts(made, parts, writer.staging, pipeline_args)
        counts = writer.take_parts(len(parts))
        writer.write_json(OPTIONS_FILE, dataclasses.asdict(config))
    num_tags = int((world.item_tags >= 0).sum())
    return PreparedSummary(
        output=output,
        num_interactions=writer.num_rows["interactions"],
        num_clicks=counts["clicks"],
        num_users=config.num_users,
        num_items=config.num_items,
        num_tags=config.num_tags,
        tags_per_item=num_tags / config.num_items,
    )
