"""The log of a reader of docs/your-own-log.md: the tables, users and tags that the pages name."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from tests.e2e.small_log import SMALL_LOG
from tfx_pipeline.datasets.demo import prepare_demo

# Names of the pages in place of the demo's: `query --user 4711`, the changes of docs/refresh.md.
_TAGS = ("jazz", "blues", "myspace")
_CATEGORY = "music"


def make_shown_log(folder: Path) -> None:
    """Writes `data/`, the tables of the guide, and the requests that a client has logged.

    Args:
      folder: The reader's working directory.
    """
    made, data = folder / "made", folder / "data"
    data.mkdir()
    prepare_demo(str(made), dataclasses.replace(SMALL_LOG, events_per_user=30))
    interactions = _with_user_4711(pq.read_table(made / "interactions"))
    (data / "interactions").mkdir()
    pq.write_table(interactions, data / "interactions" / "part-0.parquet")
    pq.write_table(_renamed(pq.read_table(made / "items.parquet")), data / "items.parquet")
    users = _with_user_4711(pq.read_table(made / "users.parquet"))
    rows = range(users.num_rows)
    columns = {
        "user_id": users["user_id"],
        "country": pa.array([("at", "de", "fr")[row % 3] for row in rows]),
        "device": pa.array([("phone", "tablet", "desktop")[row % 3] for row in rows]),
        "age": pa.array([20 + row % 50 for row in rows]),
        "interests": pc.binary_join_element_wise(users["segment"], users["region"], "|"),
    }
    pa.csv.write_csv(pa.table(columns), data / "users.csv")


def _with_user_4711(table: pa.Table) -> pa.Table:
    # u000 to u099 are 4700 to 4799.
    ids = pc.replace_substring(table["user_id"], "u0", "47")
    return table.set_column(table.column_names.index("user_id"), "user_id", ids)


def _renamed(items: pa.Table) -> pa.Table:
    """Items with the first tags and the first category under the names of the pages."""
    rows = items.to_pylist()
    names = sorted({tag for row in rows for tag in row["tags"]})
    new_names = dict(zip(names, _TAGS, strict=False))
    category = rows[0]["category"]
    for row in rows:
        row["tags"] = [new_names.get(tag, tag) for tag in row["tags"]]
        row["category"] = _CATEGORY if row["category"] == category else row["category"]
    return pa.Table.from_pylist(rows, items.schema)
