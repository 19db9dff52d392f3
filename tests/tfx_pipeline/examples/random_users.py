"""Random users for tests of the example pipeline: packed events over one catalogue."""

import json

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa

from tests.trainer.random_logs import DAY, ITEMS, START
from tfx_pipeline.examples.packed_events import EVENT_DTYPE, item_columns, to_user_events
from tfx_pipeline.examples.user_block import UserBlock
from tfx_pipeline.tables.item_catalogue import build_item_catalogue
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows
from tfx_pipeline.tables.validate import validate_items


def file_batch(table, rows, first_row=1):
    """Returns rows of one file, as the readers give them."""
    numbers = np.arange(first_row, first_row + len(rows))
    nothing = rejected_rows(table, "f", [], [], [])
    return FileBatch(table, "f", pa.RecordBatch.from_pylist(rows), numbers, nothing)


def interaction_row(user, item, timestamp, clicked=1, weight=1.0):
    """Returns a row of the interactions table."""
    return {
        "user_id": user,
        "item_id": item,
        "timestamp": timestamp,
        "clicked": clicked,
        "weight": weight,
    }


def item_rows(items=None):
    """Returns rows of the items table."""
    return [
        {"item_id": item, "tags": list(tags), "category": category}
        for item, (tags, category) in (ITEMS if items is None else items).items()
    ]


def catalogue(items=None):
    """Returns the catalogue of items; `ITEMS` by default."""
    return build_item_catalogue([validate_items(file_batch("items", item_rows(items)))])[0]


CATALOGUE = catalogue()
COLUMNS = item_columns(CATALOGUE)
IDS = CATALOGUE.item_ids.to_pylist()


def pack(events):
    """Returns (timestamp, item, clicked, weight) tuples as `EVENT_DTYPE`."""
    return np.array([tuple(event) for event in events], EVENT_DTYPE)


def canonical(records):
    """Returns raw records of one user, packed: by time, item, click and weight, each once."""
    events = [
        (
            row["timestamp"],
            IDS.index(row["item_id"]),
            row["clicked"],
            1.0 if row.get("weight") is None else row["weight"],
        )
        for row in records
    ]
    return np.unique(pack(events))


def user_block(rows_by_user, profiles=None, profile_names=(), with_older=()):
    """Returns raw records by user as the block that the pipeline makes of them."""
    users = sorted(rows_by_user)
    events = [canonical(rows_by_user[user]) for user in users]
    profiles = profiles or {}
    return UserBlock(
        user_ids=pa.array(users, pa.string()),
        profile={
            name: pa.array([profiles.get(user, {}).get(name, "") for user in users], pa.string())
            for name in profile_names
        },
        events=to_user_events(np.concatenate([pack([]), *events]), COLUMNS),
        offsets=np.cumsum([0, *map(len, events)]),
        has_older_events=np.array([user in with_older for user in users], bool),
    )


def event_tuples(max_size=30):
    """Strategy: packed events with many repetitions and ties."""
    return st.lists(
        st.tuples(
            st.integers(0, 9),
            st.integers(0, 3),
            st.integers(0, 1),
            st.sampled_from([1.0, 1.0, 0.5]),
        ),
        max_size=max_size,
    )


def random_log(seed, num_users=30, num_events=400, days=12):
    """Returns interactions of many users, with ties, duplicates and odd weights.

    Returns:
      Rows of the interactions table. The last user has most of the events.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num_events):
        user = min(rng.integers(0, int(num_users * 1.2)), num_users - 1)
        rows.append(
            {
                "user_id": f"u{user}" if user % 7 else f"ü{user}",
                "item_id": IDS[rng.integers(len(IDS))],
                "timestamp": int(START + rng.integers(0, days * 4) * DAY // 4),
                "clicked": int(rng.random() < 0.5),
                "weight": float(rng.choice([1.0, 1.0, 2.0, 0.1, 0.0])),
            }
        )
    rows += [dict(rows[i]) for i in rng.integers(0, len(rows), 10)]
    return rows


def with_attributes(row):
    """Returns an interaction as a record for `UserEvents.from_records`, with its item's tags."""
    tags, category = ITEMS[row["item_id"]]
    return {**row, "tags": list(tags), "category": category}


def write_jsonl(path, rows):
    """Writes JSON lines; returns the path as a string."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)
