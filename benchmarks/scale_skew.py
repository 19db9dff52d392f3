"""Makes a log uneven: one user with very many events, one tag with half of all clicks."""

import os
import pathlib
import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.contract.arrow import pa

HEAVY_USER = "heavy-user"
HEAVY_TAG = "heavy-tag"
# Largest number of added events; in a small log half of its interactions.
_HEAVY_EVENTS = 5_000_000
_NUM_HEAVY_ITEMS = 20
_ROWS_PER_GROUP = 250_000
_SEED = 0


def write_skewed(folder: str) -> int:
    """Replaces `tables` by an uneven log; returns the number of its interactions.

    Half of the clicks become clicks on items that all carry one tag, and the events of one more
    user are added.
    """
    tables = pathlib.Path(folder, "tables")
    skewed = pathlib.Path(folder, "skewed")
    (skewed / "interactions").mkdir(parents=True)
    shutil.copy(tables / "users.parquet", skewed)
    items = pq.read_table(tables / "items.parquet")
    heavy_items = items.column("item_id").combine_chunks()[:_NUM_HEAVY_ITEMS]
    pq.write_table(_with_heavy_tag(items), skewed / "items.parquet")
    rng = np.random.default_rng(_SEED)
    num_rows = 0
    last, schema = 0, None
    for path in sorted((tables / "interactions").glob("*.parquet")):
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        with pq.ParquetWriter(skewed / "interactions" / path.name, schema) as writer:
            for group in range(file.num_row_groups):
                rows = _with_heavy_clicks(file.read_row_group(group), heavy_items, rng)
                writer.write_table(rows)
                num_rows += len(rows)
                last = max(last, pc.max(rows.column("timestamp")).as_py())
    num_heavy = min(_HEAVY_EVENTS, num_rows // 2)
    with pq.ParquetWriter(skewed / "interactions" / "heavy.parquet", schema) as writer:
        for first in range(0, num_heavy, _ROWS_PER_GROUP):
            count = min(_ROWS_PER_GROUP, num_heavy - first)
            item = rng.integers(0, len(items), count)
            columns = {
                "user_id": pa.array([HEAVY_USER] * count),
                "item_id": items.column("item_id").combine_chunks().take(pa.array(item)),
                "timestamp": pa.array(rng.integers(last // 2, last, count)),
                "clicked": pa.array((rng.random(count) < 0.3).astype(np.int8)),
            }
            writer.write_table(pa.table(columns).cast(schema))
    shutil.rmtree(tables)
    os.rename(skewed, tables)
    return num_rows + num_heavy


def _with_heavy_tag(items: pa.Table) -> pa.Table:
    tags = items.column("tags").to_pylist()
    for row in range(min(_NUM_HEAVY_ITEMS, len(tags))):
        tags[row].append(HEAVY_TAG)
    place = items.schema.get_field_index("tags")
    return items.set_column(place, "tags", pa.array(tags, items.schema.field("tags").type))


def _with_heavy_clicks(rows: pa.Table, heavy: pa.Array, rng: np.random.Generator) -> pa.Table:
    """Replaces the item of every other click by one of `heavy`."""
    is_exchanged = rows.column("clicked").to_numpy() == 1
    is_exchanged &= rng.random(len(rows)) < 0.5
    chosen = heavy.take(pa.array(rng.integers(0, len(heavy), len(rows))))
    item = pc.if_else(pa.array(is_exchanged), chosen, rows.column("item_id").combine_chunks())
    return rows.set_column(rows.schema.get_field_index("item_id"), "item_id", item)
