"""Draws some of the users of prepared tables by a seed, and writes their tables.

This shows how a log with fewer users behaves: the items do not change, as a small shop's catalogue
is not smaller because few people have visited it yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfx_pipeline.datasets.interactions_schema import INTERACTIONS_FOLDER
from tfx_pipeline.datasets.table_writer import TableWriter
from trainer.contract.arrow import pa
from trainer.contract.config_loader import require
from trainer.contract.file_system import names_in

COMMAND = "tagtower study"


def draw_users(user_ids: list[str], num_users: int, seed: int) -> list[str]:
    """Draws users, each with the same probability.

    Args:
      user_ids: Ids of all users, in any order.
      num_users: Number of users to draw.
      seed: Seed of the draw; together with the users it determines the drawn ones.

    Returns:
      Ids of the drawn users, sorted.

    Raises:
      ValueError: There are fewer users.
    """
    require(
        num_users <= len(user_ids),
        "num_users",
        f"be at most {len(user_ids)}, the users to draw from",
        num_users,
    )
    drawn = np.random.default_rng(seed).permutation(len(user_ids))[:num_users]
    ordered = sorted(user_ids)
    return sorted(ordered[i] for i in drawn)


def cut_users(
    tables: str,
    output: str,
    num_users: int,
    seed: int,
    choose: Callable[[list[str]], list[str]] | None = None,
    prefix: str = "",
) -> None:
    """Writes the tables of some users, with all of their events.

    Args:
      tables: Folder that a command of `tagtower prepare` wrote.
      output: Folder to write to; an earlier output of this function is replaced.
      num_users: Number of users to draw.
      seed: Seed of the draw.
      choose: Function that selects the ids that may be drawn; None: all.
      prefix: Prefix of the written ids, so that a hash of them differs.

    Raises:
      ValueError: There are fewer users, or the output folder holds something else.
    """
    users = pq.read_table(os.path.join(tables, "users.parquet"))
    ids = users["user_id"].to_pylist()
    drawn = pa.array(draw_users(choose(ids) if choose else ids, num_users, seed), pa.string())
    folder = os.path.join(tables, INTERACTIONS_FOLDER)
    with TableWriter(output, command=COMMAND) as writer:
        writer.write_items(pq.read_table(os.path.join(tables, "items.parquet")))
        writer.write_users(_of_users(users, drawn, prefix))
        for name in names_in(folder):
            file = pq.ParquetFile(os.path.join(folder, name))
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                writer.write_interactions(_of_users(rows, drawn, prefix))


def _of_users(rows: pa.Table, user_ids: pa.Array, prefix: str) -> pa.Table:
    found = rows.filter(pc.is_in(rows["user_id"], value_set=user_ids))
    column = found.schema.get_field_index("user_id")
    renamed = pc.binary_join_element_wise(prefix, found["user_id"], "")
    return found.set_column(column, found.schema.field(column), renamed)
